//! The request path with real sockets: what goes in, what the upstream sees, what comes back, what is recorded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "proxy/world.rs"]
mod world;

#[path = "proxy/bounds.rs"]
mod bounds;
#[path = "proxy/connections.rs"]
mod connections;
#[path = "proxy/filters.rs"]
mod filters;
#[path = "proxy/quota.rs"]
mod quota;
#[path = "proxy/retry.rs"]
mod retry;
#[path = "proxy/services.rs"]
mod services;
#[path = "proxy/tls.rs"]
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice_dataplane::live::{Live, Role};
use sluice_dataplane::shutdown::{End, Plan, Skip};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_through_clean() {
    let world = World::start(Setup::default().pool("echo", &[echo().await]).route("/", "echo", None)).await;
    let response = world
        .ask(
            "GET /a/../b%41?q=/../ HTTP/1.1\r\nHost: A.test:80\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nTE: gzip\r\n\
             Upgrade: h2c\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 6.6.6.6\r\nX-Request-Id: my-id\r\nAccept: */*\r\n\r\n",
        )
        .await;
    let (head, seen) = response.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("x-request-id: my-id"),
        "{head}"
    );
    assert!(seen.starts_with("GET /bA?q=/../ HTTP/1.1\r\n"), "{seen}");
    for there in [
        "host: A.test:80",
        "x-forwarded-for: 1.2.3.4, 127.0.0.1",
        "x-forwarded-proto: http",
        "x-request-id: my-id",
    ] {
        assert!(seen.contains(there), "{there} is not in {seen}");
    }
    for gone in ["connection", "x-secret", "te:", "upgrade", "6.6.6.6"] {
        assert!(!seen.to_lowercase().contains(gone), "{gone} is in {seen}");
    }
    let line = world.logged(|line| line["request_id"] == "my-id").await;
    for (field, value) in [
        ("method", "GET"),
        ("path", "/bA"),
        ("host", "a.test"),
        ("route", "t/echo"),
        ("rule", "0"),
        ("pool", "t/echo"),
        ("revision", "1-01010101"),
        ("role", "stable"),
        ("instance", "i-1"),
        ("client", "127.0.0.1"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!((&line["status"], &line["retries"]), (&200.into(), &0.into()));
    assert!(
        line["endpoint"].is_string() && line["duration_ms"].is_f64() && line["error_category"].is_null(),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_has_its_answer() {
    let protocol = says("nonsense\r\n\r\n").await;
    let both = says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    let reset = says("").await;
    let slow = upstream(|mut stream, _| async move { drop(read_all(&mut stream).await) }).await;
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .route("/echo", "echo", None)
        .pool("empty", &[])
        .route("/empty", "empty", None)
        .pool("nobody", &[nobody()])
        .route("/nobody", "nobody", None)
        .pool("protocol", &[protocol])
        .route("/protocol", "protocol", None)
        .pool("both", &[both])
        .route("/both", "both", None)
        .pool("reset", &[reset])
        .route("/reset", "reset", None)
        .pool("slow", &[slow])
        .route("/slow", "slow", Some(50));
    let world = World::start(setup).await;
    let large = format!(
        "GET /echo HTTP/1.1\r\nHost: a.test\r\nX-A: {}\r\n\r\n",
        "a".repeat(17_000)
    );
    let long = format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "a".repeat(9_000));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    let with = |line: &str| format!("POST /echo HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{line}\r\n\r\n");
    let cases = [
        (get("/none"), 404, "no_route"),
        (get("/empty"), 503, "no_endpoint"),
        (get("/nobody"), 502, "upstream_connect_failed"),
        (get("/protocol"), 502, "upstream_protocol_error"),
        (get("/both"), 502, "upstream_protocol_error"),
        (get("/reset"), 502, "upstream_reset"),
        (get("/slow"), 504, "request_timeout"),
        (get("/a%00b"), 400, "bad_request"),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n".into(), 400, "bad_request"),
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n".into(),
            400,
            "bad_request",
        ),
        ("GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n".into(), 400, "bad_request"),
        (
            "GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
            400,
            "bad_request",
        ),
        (
            "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
            400,
            "bad_request",
        ),
        (
            with("Expect: 100-continue, x\r\nContent-Length: 0"),
            417,
            "expectation_failed",
        ),
        (with("Transfer-Encoding: gzip, chunked"), 501, "not_implemented"),
        (
            "TRACE / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n".into(),
            405,
            "method_not_allowed",
        ),
        (
            "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n".into(),
            405,
            "method_not_allowed",
        ),
        (large, 431, "headers_too_large"),
        (long, 414, "uri_too_long"),
    ];
    for (request, status, category) in cases {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = read_until(&mut stream, "}\n").await;
        let shown: String = request.chars().take(80).collect();
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{shown:?}: {response}"
        );
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["status"], &body["error_category"]),
            (&status.into(), &category.into()),
            "{shown:?}"
        );
        let id = body["request_id"].as_str().unwrap();
        assert!(
            head.contains(&format!("x-request-id: {id}")) && id.len() == 32,
            "{head}"
        );
        let line = world.logged(|line| line["request_id"] == id).await;
        assert_eq!(
            (&line["status"], &line["error_category"]),
            (&status.into(), &category.into())
        );
        assert_eq!(body["rule"], line["refused_by"], "{shown:?}");
    }
    let raw = world.ask("GET / HTTP/1.1\r\nBad Header: x\r\n\r\n").await;
    assert!(raw.starts_with("HTTP/1.1 400"), "{raw}");
    let delta = world.store.stats().drain();
    let fleet = &delta.roles[0].scopes[0];
    // On the server's side: no endpoint, nobody, twice nonsense, reset, slow.
    assert_eq!((fleet.requests, fleet.failures, fleet.no_route), (7, 6, 1), "{fleet:?}");
    assert_eq!(fleet.client_failures, 13, "{fleet:?}");
    let metrics = world.admin("/metrics").await;
    assert!(
        metrics.contains("proxy_errors_total{route=\"t/slow\",category=\"request_timeout\"} 1"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_before_there_is_a_revision() {
    let world = World::start_empty().await;
    assert!(world.get("/").await.contains("\"not_ready\""));
    assert!(world.admin("/ready").await.starts_with("HTTP/1.1 503"));
    assert!(world.admin("/healthz").await.starts_with("HTTP/1.1 200"));
    world.serve(
        1,
        Setup::default().pool("echo", &[echo().await]).route("/", "echo", None),
    );
    assert!(world.admin("/ready").await.starts_with("HTTP/1.1 200"));
    assert!(world.get("/").await.starts_with("HTTP/1.1 200"));
    for view in ["config/current", "routes", "pools"] {
        let page = world.admin(&format!("/api/v2/{view}")).await;
        let body: serde_json::Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert!(body.to_string().contains("1-01010101"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absolute_form_wins_over_host_and_options_of_this_hop_are_answered_here() {
    let world = World::start(Setup::default().pool("echo", &[echo().await]).route("/", "echo", None)).await;
    let seen = world
        .ask("GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n")
        .await;
    assert!(
        seen.contains("GET /x HTTP/1.1\r\n") && seen.contains("host: a.test\r\n"),
        "{seen}"
    );
    for here in ["OPTIONS * HTTP/1.1\r\n", "OPTIONS / HTTP/1.1\r\nMax-Forwards: 0\r\n"] {
        let response = world
            .ask(&format!("{here}Host: a.test\r\nConnection: close\r\n\r\n"))
            .await;
        assert!(response.starts_with("HTTP/1.1 204"), "{response}");
    }
    let seen = world
        .ask("OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 9\r\nConnection: close\r\n\r\n")
        .await;
    assert!(seen.contains("max-forwards: 8\r\n"), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_both_ways_with_trailers() {
    // Answers each line of the request body as it comes: deadlocks if either side is gathered up.
    let lines = upstream(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        loop {
            let chunk = read_until(&mut stream, "\r\n").await;
            if chunk.starts_with('0') || chunk.is_empty() {
                break;
            }
            let data = read_until(&mut stream, "\r\n").await;
            stream.write_all(format!("{chunk}{data}").as_bytes()).await.unwrap();
        }
        stream.write_all(b"0\r\nX-Sum: 7\r\n\r\n").await.unwrap();
        drop(read_all(&mut stream).await);
    })
    .await;
    let world = World::start(Setup::default().pool("lines", &[lines]).route("/", "lines", None)).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    for word in ["one", "two", "six"] {
        stream.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
        assert_eq!(
            read_until(&mut stream, &format!("{word}\r\n")).await,
            format!("3\r\n{word}\r\n")
        );
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let end = read_until(&mut stream, "\r\n\r\n").await;
    assert!(end.to_lowercase().contains("x-sum: 7"), "{end}");
    let line = world.logged(|line| line["method"] == "POST").await;
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&9.into(), &9.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_closes_idle_connections_is_nobodys_problem() {
    // Answers one request per connection and closes it a moment later without having said so.
    let hasty = upstream(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(reply("ok").as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_micros(300)).await;
    })
    .await;
    let world = World::start(Setup::default().pool("hasty", &[hasty]).route("/", "hasty", None)).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    for round in 0..400 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .unwrap();
        let response = read_until(&mut stream, "\r\n\r\nok").await;
        assert!(response.starts_with("HTTP/1.1 200"), "round {round}: {response}");
        if round % 3 == 0 {
            tokio::time::sleep(Duration::from_micros(250)).await;
        }
    }
    let metrics = world.admin("/metrics").await;
    let reconnects = metrics
        .lines()
        .find(|line| line.starts_with("proxy_reconnects_total"))
        .unwrap();
    let count: u64 = reconnects.rsplit(' ').next().unwrap().parse().unwrap();
    println!("{count} of 400 met a connection that was closing");
    assert!(
        count > 0,
        "the race did not happen, so this test shows nothing: change its pauses"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_an_upstream_are_reused() {
    let count = Arc::new(AtomicU64::new(0));
    let seen = count.clone();
    let counting = upstream(move |mut stream, number| {
        seen.store(number + 1, Ordering::Relaxed);
        async move {
            while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
                stream.write_all(reply("ok").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let world = World::start(
        Setup::default()
            .pool("counting", &[counting])
            .route("/", "counting", None),
    )
    .await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    for _ in 0..100 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .unwrap();
        read_until(&mut stream, "\r\n\r\nok").await;
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_dies_in_a_body_breaks_the_clients_stream_visibly() {
    let sized = says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    let chunked = says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    let nothing = says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n").await;
    let nonsense = says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n").await;
    let setup = Setup::default()
        .pool("sized", &[sized])
        .route("/sized", "sized", None)
        .pool("chunked", &[chunked])
        .route("/chunked", "chunked", None)
        .pool("nothing", &[nothing])
        .route("/nothing", "nothing", None)
        .pool("nonsense", &[nonsense])
        .route("/nonsense", "nonsense", None);
    let world = World::start(setup).await;
    // What came before the break is handed on, however closely that follows.
    let response = world.get("/nothing").await;
    let head = response
        .strip_suffix("\r\n\r\n")
        .unwrap_or_else(|| panic!("{response:?}"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    let response = world.get("/nonsense").await;
    assert!(response.ends_with("\r\n\r\n4\r\nhalf\r\n"), "{response:?}");
    let response = world.get("/sized").await;
    assert!(
        response.contains("content-length: 10") && response.ends_with("half"),
        "{response}"
    );
    let response = world.get("/chunked").await;
    assert!(
        response.contains("half") && !response.contains("0\r\n\r\n"),
        "{response}"
    );
    // Where only the end of the connection ends the body, the end must be an error.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(b"GET /chunked HTTP/1.0\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let ended = within(stream.read_to_end(&mut rest)).await;
    assert!(
        ended.is_err(),
        "ended in order after {:?}",
        String::from_utf8_lossy(&rest)
    );
    let line = world.logged(|line| line["path"] == "/sized").await;
    assert_eq!(
        (&line["status"], &line["error_category"]),
        (&200.into(), &"upstream_reset".into())
    );
    let fleet = world.store.stats().drain().roles[0].scopes[0].clone();
    assert_eq!((fleet.requests, fleet.failures), (5, 5), "{fleet:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_upstream_is_answered_for_in_our_own_version() {
    let old = says("HTTP/1.0 200 OK\r\n\r\nall of it").await;
    let world = World::start(Setup::default().pool("old", &[old]).route("/old", "old", None)).await;
    let response = world.get("/old").await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(
        response.contains("chunked") && response.ends_with("all of it\r\n0\r\n\r\n"),
        "its end can be told from a break: {response}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_without_a_name_gets_none() {
    let upstream = says("HTTP/1.1 299 Odd But Fine\r\nContent-Length: 0\r\n\r\n").await;
    let world = World::start(Setup::default().pool("odd", &[upstream]).route("/odd", "odd", None)).await;
    let response = world.get("/odd").await;
    assert!(response.starts_with("HTTP/1.1 299 \r\n"), "{response}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_is_nobodys_failure_and_its_upstream_hears_of_it() {
    let (left, heard) = tokio::sync::oneshot::channel();
    let left = std::sync::Mutex::new(Some(left));
    let patient = upstream(move |mut stream, _| {
        let left = left.lock().unwrap().take();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            read_all(&mut stream).await;
            let _ = left.unwrap().send(());
        }
    })
    .await;
    let world = World::start(Setup::default().pool("patient", &[patient]).route("/", "patient", None)).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(stream);
    within(heard).await.unwrap();
    let line = world.logged(|line| line["path"] == "/").await;
    assert_eq!(
        (&line["status"], &line["error_category"]),
        (&499.into(), &"client_closed".into())
    );
    let fleet = world.store.stats().drain().roles[0].scopes[0].clone();
    assert_eq!(
        (fleet.requests, fleet.failures, fleet.client_failures),
        (0, 0, 1),
        "{fleet:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::start(Setup::default().pool("echo", &[echo().await]).route("/", "echo", None)).await;
    let one = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{more}\r\n");
    let both = one("/1", "") + &one("/2", "Connection: close\r\n");
    let response = world.ask(&both).await;
    let (first, second) = (response.find("GET /1 ").unwrap(), response.find("GET /2 ").unwrap());
    assert!(first < second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_gets_its_share_and_its_own_figures() {
    let [good, bad] = [says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await, nobody()];
    let setup = |address| Setup::default().pool("p", &[address]).route("/", "p", None);
    let world = World::start(setup(good)).await;
    let both = |share| {
        Arc::new(Live {
            epoch: 2,
            stable: generation(1, Role::Stable, setup(good), world.store.values()),
            candidate: Some((generation(2, Role::Candidate, setup(bad), world.store.values()), share)),
        })
    };
    world.store.store(both(1_000_000));
    let response = world.get("/").await;
    assert!(response.starts_with("HTTP/1.1 502"), "{response}");
    let line = world.logged(|line| line["status"] == 502).await;
    assert_eq!(
        (&line["role"], &line["revision"]),
        (&"candidate".into(), &"2-02020202".into())
    );
    world.store.store(both(0));
    assert!(world.get("/").await.starts_with("HTTP/1.1 200"));
    let delta = world.store.stats().drain();
    let failures: Vec<_> = delta
        .roles
        .iter()
        .map(|role| {
            (
                role.role,
                role.revision.number,
                role.scopes[0].requests,
                role.scopes[0].failures,
            )
        })
        .filter(|(_, _, requests, _)| *requests > 0)
        .collect();
    assert_eq!(failures, [(Role::Stable, 1, 1, 0), (Role::Candidate, 2, 1, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_fail_nothing_and_mix_nothing() {
    let (one, other) = (echo().await, echo().await);
    let setup = |number: u64| {
        let pools = [("a", one), ("b", other)];
        let (first, second) = if number.is_multiple_of(2) { (0, 1) } else { (1, 0) };
        let setup = Setup::default()
            .pool(pools[first].0, &[pools[first].1])
            .route("/", pools[first].0, Some(5_000));
        setup
            .pool(pools[second].0, &[pools[second].1])
            .route("/other", pools[second].0, None)
    };
    let world = World::start(setup(1)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for keep in [true, true, true, false] {
        let (stop, address) = (stop.clone(), world.address);
        clients.push(tokio::spawn(async move {
            let mut count = 0_u64;
            let mut stream = TcpStream::connect(address).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                if !keep {
                    stream = TcpStream::connect(address).await.unwrap();
                }
                stream
                    .write_all(b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n")
                    .await
                    .unwrap();
                let head = read_until(&mut stream, "\r\n\r\n").await;
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                read_until(&mut stream, "\r\n\r\n").await;
                count += 1;
            }
            count
        }));
    }
    let until = Instant::now() + Duration::from_secs(2);
    let mut number = 2;
    while Instant::now() < until {
        world.serve(number, setup(number));
        number += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for client in clients {
        sent += client.await.unwrap();
    }
    let delta = world.store.stats().drain();
    let sum = |of: fn(&sluice_dataplane::stats::ScopeDelta) -> u64| -> u64 {
        delta.roles.iter().map(|role| of(&role.scopes[0])).sum()
    };
    assert_eq!((sum(|fleet| fleet.requests), sum(|fleet| fleet.failures)), (sent, 0));
    assert_eq!(world.handle.metrics().mixed(), 0);
    println!("{sent} requests over {number} swaps");
    assert!(sent > 100 && number > 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_come_and_go_without_touching_others() {
    let world = World::start(Setup::default().pool("echo", &[echo().await]).route("/", "echo", None)).await;
    let listeners = world.handle.listeners();
    let mut kept = TcpStream::connect(world.address).await.unwrap();
    listeners
        .commit(
            listeners
                .prepare(&[listener("http", 80), listener("more", 81)])
                .unwrap(),
        )
        .await
        .unwrap();
    let addresses = listeners.addresses();
    let more = addresses.iter().find(|(name, _)| name.as_str() == "more").unwrap().1;
    assert_eq!(addresses.len(), 2);
    let mut there = TcpStream::connect(more).await.unwrap();
    // Connections that wait in the queue of a listener that goes are served, not reset.
    let mut queued = Vec::new();
    for _ in 0..20 {
        queued.push(TcpStream::connect(more).await.unwrap());
    }
    listeners
        .commit(listeners.prepare(&[listener("http", 80)]).unwrap())
        .await
        .unwrap();
    assert!(TcpStream::connect(more).await.is_err());
    for stream in queued.iter_mut().chain([&mut kept, &mut there]) {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .unwrap();
        let head = read_until(stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_loses_no_request() {
    let slow = upstream(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.write_all(reply("done").as_bytes()).await.unwrap();
    })
    .await;
    let world = World::start(Setup::default().pool("slow", &[slow]).route("/", "slow", None)).await;
    let mut busy = TcpStream::connect(world.address).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let idle = TcpStream::connect(world.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (address, log, folder) = (world.address, world.log.clone(), world.folder_kept);
    let plan = Plan {
        converge: Duration::from_millis(100),
        grace: Duration::from_secs(5),
    };
    let skip = Skip::default();
    let down = tokio::spawn(async move { world.handle.shutdown(plan, &skip).await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let mut late = TcpStream::connect(address).await.unwrap();
    late.write_all(b"GET /late HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    for stream in [&mut busy, &mut late] {
        let response = read_all(stream).await;
        assert!(
            response.starts_with("HTTP/1.1 200") && response.ends_with("done"),
            "{response}"
        );
        assert!(response.contains("connection: close"), "{response}");
    }
    assert_eq!(within(down).await.unwrap(), End::Complete);
    assert!(TcpStream::connect(address).await.is_err());
    drop(idle);
    let lines = std::fs::read_to_string(log).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    drop(folder);
}
