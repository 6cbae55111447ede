//! What becomes of tunnels when their instance ends.

use std::time::Instant;

use sluice_dataplane::shutdown::{End, Plan, Skip};

use super::*;

const TUNNELS: usize = 10;
/// 80 % of it are 8 s.
const GRACE: Duration = Duration::from_secs(10);

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    answer
        .split_once("\r\n\r\n")
        .map_or(String::new(), |(_, body)| body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_end_one_after_the_other_and_what_is_left_can_be_seen() {
    let world = World::start(setup(granting(echoes).await)).await;
    let mut ends = Vec::new();
    for _ in 0..TUNNELS {
        let (mut stream, head) = asked(&world).await;
        assert!(head.starts_with("HTTP/1.1 101"));
        ends.push(tokio::spawn(async move {
            let mut byte = [0];
            let _ = stream.read(&mut byte).await;
            Instant::now()
        }));
    }
    world.metric_is("proxy_tunnels", TUNNELS as u64).await;
    let admin = world.handle.admin_address().unwrap();
    let before: serde_json::Value = serde_json::from_str(&get(admin, "/api/v2/config/current").await).unwrap();
    assert!(before["drain"].is_null() && get(admin, "/ready").await == "ready\n");

    let World {
        handle,
        log,
        folder_kept,
        ..
    } = world;
    let began = Instant::now();
    let plan = Plan {
        converge: Duration::ZERO,
        grace: GRACE,
    };
    let ending = tokio::spawn(async move { handle.shutdown(plan, &Skip::default()).await });
    let mut first = ends.remove(0);
    let finishing = async {
        loop {
            let now: serde_json::Value = serde_json::from_str(&get(admin, "/api/v2/config/current").await).unwrap();
            if now["drain"]["stage"] == "finishing" {
                return now["drain"].clone();
            }
        }
    };
    let drain = within(finishing).await;
    assert!(
        drain["since"].as_str().unwrap().ends_with('Z') && drain["seconds"].is_u64(),
        "{drain}"
    );
    assert!(
        drain["tunnels"].as_u64().unwrap() >= TUNNELS as u64 - 2,
        "not all at once: {drain}"
    );
    let ready = get(admin, "/ready").await;
    assert!(
        ready.starts_with("draining: ") && ready.contains("tunnels are left"),
        "{ready}"
    );
    let page = get(admin, "/metrics").await;
    assert!(page.contains("\nproxy_draining 1\n"), "{page}");

    let mut times = vec![(&mut first).await.unwrap().duration_since(began)];
    for end in ends {
        times.push(end.await.unwrap().duration_since(began));
    }
    times.sort();
    println!("{times:?}");
    assert!(*times.last().unwrap() < GRACE, "{times:?}");
    let in_the_same_second = |at: &Duration| {
        times
            .iter()
            .filter(|other| **other >= *at && **other < *at + Duration::from_secs(1))
            .count()
    };
    // Each worker ends its own every so often; two do so at most at the same time.
    let most = times.iter().map(in_the_same_second).max().unwrap();
    assert!(most <= TUNNELS / 2, "{most} within a second: {times:?}");
    assert_eq!(within(ending).await.unwrap(), End::Complete);
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches("\"tunnel_end\":\"cut\"").count(), TUNNELS, "{text}");
    drop(folder_kept);
}
