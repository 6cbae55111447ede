//! How large requests may be and how long things may take, by their rules; and whose fault it is when they are or do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluice_model::client_limits::{BodyBytes, ClientLimits};
use sluice_model::unit::{Forward, TimeoutMillis, Timeouts};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::world::*;

/// A route of `/` to these endpoints, whose requests go as `change` says.
fn to(endpoints: &[SocketAddr], change: impl Fn(&mut Forward)) -> Setup {
    let setup = Setup::default().pool("all", endpoints).route("/", "all", None);
    setup.forward("all", change)
}

fn largest(bytes: u64) -> impl Fn(&mut Forward) {
    move |forward| forward.max_body = BodyBytes::new(bytes)
}

/// The times that a rule gives, in milliseconds; 0: none.
fn times(request: u64, per_try: u64, idle: u64) -> impl Fn(&mut Forward) {
    move |forward| {
        forward.timeouts = Arc::new(Timeouts {
            request: TimeoutMillis::new(request),
            per_try: TimeoutMillis::new(per_try),
            idle: TimeoutMillis::new(idle),
        });
    }
}

/// Hears a head and then says this, and no more; does not end its connection.
async fn stays(says: &'static str) -> SocketAddr {
    upstream(move |mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let _ = stream.write_all(says.as_bytes()).await;
        read_all(&mut stream).await;
    })
    .await
}

/// What was counted for gates since this was asked last: answers and failures, and requests that were their clients' failure.
fn judged(world: &World) -> (u64, u64, u64) {
    let counted = world.store.stats().drain();
    let fleets = counted.roles.iter().map(|role| &role.scopes[0]);
    fleets.fold((0, 0, 0), |(requests, failures, of_clients), fleet| {
        (
            requests + fleet.requests,
            failures + fleet.failures,
            of_clients + fleet.client_failures,
        )
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_as_large_as_its_rule_allows() {
    let came = Arc::new(AtomicUsize::new(0));
    let count = came.clone();
    let counting = upstream(move |mut stream, _| {
        let count = count.clone();
        async move {
            while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
                count.fetch_add(1, Ordering::SeqCst);
                read_until(&mut stream, "0123456789").await;
                stream.write_all(reply("ok").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let world = World::start(to(&[counting], largest(10))).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let post =
        |length: u64, body: &str| format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}");
    // One that is too large and small enough to be read to its end costs nobody the connection.
    for (request, status, end) in [
        (post(10, "0123456789"), "200", "ok"),
        (post(11, "0123456789x"), "413", "}\n"),
        (post(10, "0123456789"), "200", "ok"),
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, end).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let line = world.logged(|line| line["status"] == 413).await;
    assert_eq!(
        (&line["error_category"], &line["refused_by"], &line["endpoint"]),
        (
            &"request_too_large".into(),
            &"body_size".into(),
            &serde_json::Value::Null
        )
    );
    // Who asks first is not told to go on.
    let asks = post(11, "").replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let answer = world.ask(&asks).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(came.load(Ordering::SeqCst), 2, "those two came and no other");
    assert_eq!(judged(&world), (2, 0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_turns_out_too_large_is_cut_and_its_upstream_never_has_all_of_it() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let hears = upstream(move |mut stream, _| {
        let tell = tell.clone();
        async move { tell.send(read_all(&mut stream).await).unwrap() }
    })
    .await;
    let world = World::start(to(&[hears], largest(10))).await;
    let chunks =
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n5\r\nghijk\r\n0\r\n\r\n";
    let answer = world.ask(chunks).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"),
        "{answer}"
    );
    // If it was sent at all: what is broken before anything went out has no upstream.
    if let Ok(Some(heard)) = tokio::time::timeout(Duration::from_secs(1), told.recv()).await {
        assert!(!heard.contains("ghijk") && !heard.ends_with("0\r\n\r\n"), "{heard:?}");
    }
    world
        .metric_is("proxy_refused_requests_total{rule=\"body_size\"}", 1)
        .await;
    assert_eq!(judged(&world), (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_may_allow_less_than_a_rule() {
    let setup = |rule: u64, fleet: u64| {
        let mut setup = to(&["127.0.0.1:9".parse().unwrap()], largest(rule));
        setup.limits = ClientLimits {
            body_bytes: BodyBytes::new(fleet),
            ..ClientLimits::default()
        };
        setup
    };
    let world = World::start(setup(20, 10)).await;
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 11\r\n\r\n0123456789x";
    assert!(world.ask(post).await.starts_with("HTTP/1.1 413 "));
    world.serve(2, setup(10, 20));
    assert!(world.ask(post).await.starts_with("HTTP/1.1 413 "));
    world.serve(3, setup(20, 20));
    let answer = world.ask(post).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "nobody is there: {answer}");
}

/// Answers are cut for it, and no revision is blamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_breaks_under_its_answer_is_its_own_fault() {
    let early = stays("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    let world = World::start(to(&[early], largest(10))).await;
    for (more, category, rule) in [
        ("what\r\n", "bad_request", "chunk_size"),
        ("b\r\n0123456789x\r\n", "request_too_large", "body_size"),
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut stream, "half\r\n").await;
        stream.write_all(more.as_bytes()).await.unwrap();
        assert_eq!(read_all(&mut stream).await, "", "no end that could be taken for one");
        let line = world.logged(|line| line["refused_by"] == rule).await;
        assert_eq!(
            (&line["status"], &line["error_category"]),
            (&200.into(), &category.into())
        );
    }
    assert_eq!(judged(&world), (2, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_try_that_takes_too_long_is_made_once_more_elsewhere() {
    let silent = stays("").await;
    let world = World::start(to(&[silent, echo().await], times(0, 1_000, 0))).await;
    for _ in 0..4 {
        let answer = world.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // Half of the turns were the silent one's; it was not unreachable.
    let tries = format!("proxy_upstream_requests_total{{pool=\"t/all\",endpoint=\"{silent}\"}}");
    assert!((1..=3).contains(&world.metric(&tries)), "{}", world.metric(&tries));
    assert_eq!(judged(&world), (4, 0, 0));
    // Where nobody answers each is asked once.
    let both = [stays("").await, stays("").await, stays("").await];
    world.serve(2, to(&both, times(0, 100, 0)));
    let answer = world.get("/").await;
    assert!(
        answer.starts_with("HTTP/1.1 504 ") && answer.contains("upstream_timeout"),
        "{answer}"
    );
    let line = world.logged(|line| line["status"] == 504).await;
    assert_eq!(line["retries"], 1, "{line}");
    // What cannot be sent twice is sent once.
    let post =
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 1\r\nX-Request-Id: post\r\n\r\nx";
    assert!(world.ask(post).await.starts_with("HTTP/1.1 504 "));
    let line = world.logged(|line| line["request_id"] == "post").await;
    assert_eq!((&line["status"], &line["retries"]), (&504.into(), &0.into()), "{line}");
    assert_eq!(judged(&world), (2, 2, 0));
}

/// Before its head an answer that is too slow is a 504, and after it a cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_upstream_takes_too_long_for_is_its_fault() {
    let (silent, half) = (
        stays("").await,
        stays("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await,
    );
    let world = World::start_empty().await;
    for (number, (times, category)) in (1..).zip([
        (times(1_000, 0, 0), "request_timeout"),
        (times(0, 0, 1_000), "upstream_timeout"),
    ]) {
        world.serve(2 * number, to(&[silent], &times));
        let answer = world.get("/").await;
        assert!(
            answer.starts_with("HTTP/1.1 504 ") && answer.contains(category),
            "{answer}"
        );
        assert_eq!(judged(&world), (1, 1, 0), "{category}");
        world.serve(2 * number + 1, to(&[half], &times));
        let answer = world.get("/").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("half"),
            "{answer}"
        );
        let cut = |line: &serde_json::Value| line["status"] == 200 && line["error_category"] == category;
        world.logged(cut).await;
        assert_eq!(judged(&world), (1, 1, 0), "{category}");
    }
}

/// A request of which the client keeps the rest is not the upstream's delay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_takes_too_long_for_is_its_own_fault() {
    let (silent, early) = (
        stays("").await,
        stays("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await,
    );
    let part = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\npart";
    let world = World::start_empty().await;
    for (number, times) in (1..).zip([times(200, 0, 0), times(0, 200, 0), times(0, 0, 200)]) {
        world.serve(2 * number, to(&[silent], &times));
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(part.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "}\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_slow"),
            "{number}: {answer}"
        );
        assert_eq!(judged(&world), (0, 0, 1), "{number}");
    }
    world.serve(100, to(&[early], times(1_000, 0, 0)));
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(part.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.ends_with("half"), "{answer}");
    world
        .logged(|line| line["status"] == 200 && line["error_category"] == "client_timeout")
        .await;
    assert_eq!(judged(&world), (1, 0, 0));
}
