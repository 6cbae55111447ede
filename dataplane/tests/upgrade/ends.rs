//! How tunnels end: one direction after the other, by a break, with the instance; and what does not end them.

use sluice_dataplane::shutdown::{End, Plan, Skip};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_direction_ends_by_itself() {
    let answers = granting(|mut stream| async move {
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        stream
            .write_all(format!("{all}, heard to the end").as_bytes())
            .await
            .unwrap();
    });
    let world = World::start(setup(answers.await)).await;
    let (mut stream, _) = asked(&world).await;
    stream.write_all(b"words").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "words, heard to the end");

    let (heard, hears) = tokio::sync::mpsc::unbounded_channel();
    let speaks_first = granting(move |mut stream| {
        let heard = heard.clone();
        async move {
            stream.write_all(b"all that there is").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut all = String::new();
            stream.read_to_string(&mut all).await.unwrap();
            heard.send(all).unwrap();
        }
    });
    let mut hears = hears;
    let world = World::start(setup(speaks_first.await)).await;
    let (mut stream, _) = asked(&world).await;
    assert_eq!(read_all(&mut stream).await, "all that there is");
    assert_eq!(world.metric("proxy_tunnels"), 1, "the other direction is open");
    stream.write_all(b"answer").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(within(hears.recv()).await.unwrap(), "answer");
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(line["tunnel_end"], "complete", "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_breaks_is_no_end_in_order() {
    let dies = granting(|mut stream| async move {
        stream.write_all(b"half a ").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        stream.set_zero_linger().unwrap();
    });
    let world = World::start(setup(dies.await)).await;
    let (mut stream, _) = asked(&world).await;
    let mut half = [0; 7];
    within(stream.read_exact(&mut half)).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let end = within(stream.read(&mut half)).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(
        (&line["tunnel_end"], &line["status"]),
        (&"upstream_broke".into(), &101.into()),
        "{line}"
    );
    assert!(
        line.get("error_category").is_none(),
        "a tunnel's end is no failed request: {line}"
    );
    world.metric_is("proxy_connections", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_breaks_ends_the_upstreams_connection() {
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let waits = granting(move |mut stream| {
        let ended = ended.clone();
        async move {
            let mut some = [0; 8];
            let end = loop {
                match stream.read(&mut some).await {
                    Ok(0) => break "in order",
                    Ok(_) => {}
                    Err(_) => break "by a reset",
                }
            };
            ended.send(end).unwrap();
        }
    });
    let world = World::start(setup(waits.await)).await;
    let (mut stream, _) = asked(&world).await;
    stream.write_all(b"half").await.unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(within(ends.recv()).await, Some("by a reset"));
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(line["tunnel_end"], "client_broke", "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_revisions_are_for_other_requests() {
    let upstream = granting(echoes).await;
    let world = World::start(setup(upstream)).await;
    let (mut stream, _) = asked(&world).await;
    for number in 2..50 {
        let allows = number % 2 == 0;
        let setup = Setup::default().pool("ws", &[upstream]).route("/", "ws", None);
        world.serve(
            number,
            if allows {
                setup.upgrades("ws", &["websocket"])
            } else {
                setup
            },
        );
        stream.write_all(b"ping").await.unwrap();
        let mut pong = [0; 4];
        within(stream.read_exact(&mut pong)).await.unwrap();
        assert_eq!(&pong, b"ping");
    }
    world.serve(50, Setup::default().pool("ws", &[upstream]).route("/", "ws", None));
    let (_, head) = asked(&world).await;
    assert!(
        head.starts_with("HTTP/1.1 502"),
        "the upstream grants what was not asked: {head}"
    );
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(line["revision"], "1-01010101", "a tunnel is its request's: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_ends_gives_tunnels_their_time_and_then_ends_them() {
    let world = World::start(setup(granting(echoes).await)).await;
    let (mut stays, _) = asked(&world).await;
    let (mut leaves, _) = asked(&world).await;
    let plan = Plan {
        converge: Duration::ZERO,
        grace: Duration::from_secs(5),
    };
    let (log, folder) = (world.log.clone(), world.folder_kept);
    let skip = Skip::default();
    let began = std::time::Instant::now();
    let down = tokio::spawn(async move { world.handle.shutdown(plan, &skip).await });
    let mut pong = [0; 4];
    for stream in [&mut stays, &mut leaves] {
        stream.write_all(b"ping").await.unwrap();
        within(stream.read_exact(&mut pong)).await.unwrap();
    }
    leaves.shutdown().await.unwrap();
    assert_eq!(read_all(&mut leaves).await, "");
    assert_eq!(within(down).await.unwrap(), End::Complete);
    assert!(began.elapsed() >= plan.grace / 10 && began.elapsed() < plan.grace);
    assert_eq!(read_all(&mut stays).await, "");
    let lines = std::fs::read_to_string(log).unwrap();
    for (end, count) in [("\"tunnel_end\":\"complete\"", 1), ("\"tunnel_end\":\"cut\"", 1)] {
        assert_eq!(lines.matches(end).count(), count, "{lines}");
    }
    drop(folder);
}
