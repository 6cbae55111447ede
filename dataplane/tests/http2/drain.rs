//! How connections end when an instance does: told first, then waited for.

use std::time::Duration;

use sluice_dataplane::shutdown::{Plan, Skip};
use tokio::io::AsyncWriteExt;

use super::client::*;
use super::world::*;

/// Answers after a while.
async fn slow() -> std::net::SocketAddr {
    upstream(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let _ = stream.write_all(reply("late").as_bytes()).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goaway_comes_twice_and_no_request_is_lost() {
    let World {
        handle,
        address,
        folder_kept,
        ..
    } = world(slow().await).await;
    let mut raw = Raw::connect(address, &[]).await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/"))).await;
    let mut idle = Raw::connect(address, &[]).await;
    idle.next_of(SETTINGS).await.unwrap();
    raw.next_of(SETTINGS).await.unwrap();
    let plan = Plan {
        converge: Duration::from_millis(300),
        grace: Duration::from_secs(20),
    };
    let ending = tokio::spawn(async move { handle.shutdown(plan, &Skip::default()).await });
    let first = raw.next_of(GOAWAY).await.unwrap();
    assert_eq!((first.last(), first.code()), (0x7fff_ffff, 0));
    // This one was on its way when the client heard.
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &get("/"))).await;
    let ping = raw.next_of(PING).await.unwrap();
    raw.send(&frame(PING, ACK, 0, &ping.payload)).await;
    let second = raw.next_of(GOAWAY).await.unwrap();
    assert_eq!((second.last(), second.code()), (3, 0));
    let (mut ended, mut bytes) = (0, Vec::new());
    while let Some(came) = raw.next().await {
        if came.kind == DATA {
            bytes.extend(came.payload);
            ended += u32::from(came.flags & END_STREAM);
        }
    }
    assert_eq!((ended, bytes.as_slice()), (2, &b"latelate"[..]));
    // It had no request, so it was let be until nothing new is accepted; and it does not answer.
    let told = idle.next_of(GOAWAY).await.unwrap();
    assert_eq!(told.last(), 0x7fff_ffff);
    while idle.next().await.is_some() {}
    assert_eq!(within(ending).await.unwrap(), sluice_dataplane::shutdown::End::Complete);
    drop(folder_kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_clients_are_sent_away_is_served_once() {
    let World {
        handle,
        address,
        folder_kept,
        ..
    } = world(echo().await).await;
    let plan = Plan {
        converge: Duration::from_secs(2),
        grace: Duration::from_secs(20),
    };
    let resting = Good::connect(address).await;
    within(resting.get("/")).await.unwrap();
    let ending = tokio::spawn(async move { handle.shutdown(plan, &Skip::default()).await });
    let gone = async { while resting.get("/").await.is_ok() {} };
    within(gone).await;
    let mut raw = Raw::connect(address, &[]).await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/"))).await;
    let mut kinds = Vec::new();
    while let Some(came) = raw.next().await {
        if came.kind == PING && came.flags & ACK == 0 {
            raw.send(&frame(PING, ACK, 0, &came.payload)).await;
        }
        kinds.push(came.kind);
    }
    let count = |kind| kinds.iter().filter(|it| **it == kind).count();
    assert_eq!((count(HEADERS), count(GOAWAY)), (1, 2), "{kinds:?}");
    within(ending).await.unwrap();
    drop(folder_kept);
}
