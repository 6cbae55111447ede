//! Where the protocol does not change, HTTP goes on, and what follows is framed and judged as always.

use std::sync::{Arc, Mutex};

use super::*;

/// Answers every request with its own head, and records the heads.
async fn recording_echo() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    let address = upstream(move |mut stream, _| {
        let heads = heads.clone();
        async move {
            loop {
                let head = read_until(&mut stream, "\r\n\r\n").await;
                if head.is_empty() {
                    return;
                }
                let small = head.to_lowercase();
                heads.lock().unwrap().push(small.clone());
                let length = small
                    .split_once("content-length: ")
                    .map(|(_, rest)| rest.split("\r\n").next().unwrap());
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut body).await.unwrap();
                if small.contains("transfer-encoding: chunked") {
                    read_until(&mut stream, "\r\n0\r\n\r\n").await;
                }
                let refusal = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{head}", head.len());
                let answer = if head.starts_with("GET /ws ") {
                    refusal
                } else {
                    reply(&head)
                };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (address, kept)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_goes_through_and_the_connection_serves_on() {
    let (upstream, heads) = recording_echo().await;
    let world = World::start(setup(upstream)).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    // Twice: what is held back may ask again. All of it in one write.
    let next = "GET /next HTTP/1.1\r\nHost: a.test\r\nX:  1\r\n\r\n";
    let last = "GET /last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    stream
        .write_all(format!("{ASK}{next}{ASK}{last}").as_bytes())
        .await
        .unwrap();
    let all = read_all(&mut stream).await;
    let statuses: Vec<&str> = all.matches("HTTP/1.1 200").chain(all.matches("HTTP/1.1 403")).collect();
    assert_eq!(
        statuses,
        ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 403", "HTTP/1.1 403"],
        "{all}"
    );
    let heads = heads.lock().unwrap();
    let lines: Vec<&str> = heads.iter().filter_map(|head| head.lines().next()).collect();
    assert_eq!(
        lines,
        [
            "get /ws http/1.1",
            "get /next http/1.1",
            "get /ws http/1.1",
            "get /last http/1.1"
        ]
    );
    assert!(
        heads[1].contains("\r\nx: 1\r\n") && !heads[1].contains("upgrade"),
        "{}",
        heads[1]
    );
    assert_eq!(world.metric("proxy_tunnels"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_refusal_passes_the_guard() {
    let (upstream, heads) = recording_echo().await;
    let world = World::start(setup(upstream)).await;
    for (behind, status) in [
        ("\x01\x02 frames", "400"),
        (
            "GET /evil HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("GET /evil HTTP/1.1\r\nHost: a.test\n\n", "400"),
    ] {
        heads.lock().unwrap().clear();
        let all = world.ask(&format!("{ASK}{behind}")).await;
        assert!(all.starts_with("HTTP/1.1 403"), "{behind:?}: {all}");
        assert!(all.contains(&format!("HTTP/1.1 {status}")), "{behind:?}: {all}");
        assert_eq!(heads.lock().unwrap().len(), 1, "{behind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_asks_in_any_other_way_is_an_ordinary_request() {
    let (upstream, heads) = recording_echo().await;
    let world = World::start(setup(upstream)).await;
    let evil = "GET /evil HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let check = async |line: &str, fields: &str, body: &str, refused: Option<&str>| {
        heads.lock().unwrap().clear();
        let end = "GET /end HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let all = world
            .ask(&format!("{line}\r\nHost: a.test\r\n{fields}\r\n{body}{end}"))
            .await;
        let seen = heads.lock().unwrap().join("\n");
        match refused {
            Some(status) => {
                assert!(
                    all.starts_with(&format!("HTTP/1.1 {status}")),
                    "{line} {fields:?}: {all}"
                );
                assert_eq!(seen, "", "{line} {fields:?}");
            }
            None => assert!(all.starts_with("HTTP/1."), "{line} {fields:?}: {all}"),
        }
        assert!(
            !seen.contains("upgrade") && !seen.contains("/evil"),
            "{line} {fields:?}: {seen}"
        );
        assert!(!all.contains(" 101 "), "{line} {fields:?}: {all}");
    };
    let get = "GET /x HTTP/1.1";
    let asks = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let length = format!("{asks}Content-Length: {}\r\n", evil.len());
    check(get, &length, evil, None).await;
    check(get, &format!("{asks}Content-Length: 0\r\n"), "", None).await;
    let chunked = format!("{asks}Transfer-Encoding: chunked\r\n");
    let chunks = format!("{:x}\r\n{evil}\r\n0\r\n\r\n", evil.len());
    check(get, &chunked, &chunks, None).await;
    let both = format!("{asks}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    check(get, &both, &chunks, Some("400")).await;
    let twice = format!("{asks}Content-Length: 0\r\nContent-Length: {}\r\n", evil.len());
    check(get, &twice, evil, Some("400")).await;
    check(get, "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", "", None).await;
    check(
        get,
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "",
        None,
    )
    .await;
    check(
        get,
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "",
        None,
    )
    .await;
    check(
        get,
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "",
        None,
    )
    .await;
    check(get, "Connection: Upgrade\r\nUpgrade: x-other\r\n", "", None).await;
    check(get, "Upgrade: websocket\r\n", "", None).await;
    check(get, "Connection: Upgrade\r\n", "", None).await;
    check(get, "Connection: Upgrade, close\r\nUpgrade: websocket\r\n", "", None).await;
    check("POST /x HTTP/1.1", asks, "", None).await;
    check(
        "GET /x HTTP/1.0",
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
        "",
        None,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_goes_over_to_what_nobody_asked_for_has_failed() {
    let other = says("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nhello").await;
    let none = says("HTTP/1.1 101 X\r\nConnection: upgrade\r\n\r\nhello").await;
    let two = says("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\nhello").await;
    let granted = says("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello").await;
    let plain = Setup::default().pool("ws", &[granted]).route("/", "ws", None);
    let ordinary = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    for (setup, request) in [
        (setup(other), ASK),
        (setup(none), ASK),
        (setup(two), ASK),
        (setup(granted), ordinary),
        (plain.clone(), ASK),
        (plain, ordinary),
    ] {
        let world = World::start(setup).await;
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "}\n").await;
        assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        assert!(
            head.contains("upstream_protocol_error") && !head.contains("hello"),
            "{head}"
        );
        assert_eq!(world.metric("proxy_tunnels"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_not_allowed_the_fields_go_no_further() {
    let (upstream, heads) = recording_echo().await;
    let setup = Setup::default().pool("ws", &[upstream]).route("/", "ws", None);
    let world = World::start(setup).await;
    let (mut stream, head) = asked(&world).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    read_until(&mut stream, "\r\n\r\n").await;
    stream
        .write_all(b"GET /b HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 200"));
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 2);
    assert!(
        !heads[0].contains("upgrade") && !heads[0].contains("connection"),
        "{}",
        heads[0]
    );
}
