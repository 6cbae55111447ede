//! HTTP/2 to upstreams: requests of both versions as they see them, and what goodbyes, refusals, breaks and slow sides do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use sluice_model::unit::UpstreamProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::server::*;
use super::world::*;

async fn client(world: &World) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.test{path}")).body(()).unwrap()
}

/// All of a body, and its trailers.
async fn whole(mut body: RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = within(body.data()).await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    Ok((all, within(body.trailers()).await?.unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_http_1_is_one_of_http_2_and_comes_back() {
    let (endpoint, seen) = serve(None, usual, echo_http2).await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    let answer = world
        .ask(
            "POST /a/../b?c=d HTTP/1.1\r\nHost: A.test\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nTE: trailers\r\n\
             Upgrade: h2c\r\nTransfer-Encoding: chunked\r\nX-Request-Id: id-1\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\nHost: b\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("POST http://A.test/b?c=d\n"), "{answer}");
    for there in [
        "te: trailers\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-request-id: id-1\n",
        "abc",
    ] {
        assert!(answer.contains(there), "{there:?} is not in {answer}");
    }
    for gone in ["\nhost: ", "secret", "upgrade", "transfer-encoding: chunked\n"] {
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        assert!(!body.contains(gone), "{gone} is in {body}");
    }
    for round in 0..20 {
        assert!(world.get(&format!("/{round}")).await.contains("GET http://a.test/"));
    }
    assert_eq!(seen.requests.load(Ordering::Relaxed), 21);
    assert!(seen.connections.load(Ordering::Relaxed) <= 2, "one for each worker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_go_both_ways() {
    let (endpoint, _) = serve(None, usual, echo_http2).await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    let mut sender = client(&world).await.ready().await.unwrap();
    let request = Request::post("http://a.test/t")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
    send.send_data("some".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    trailers.insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
    send.send_trailers(trailers).unwrap();
    let (body, trailers) = whole(within(response).await.unwrap().into_body()).await.unwrap();
    assert!(body.ends_with(b"some"));
    assert_eq!(trailers.get("x-sum").unwrap(), "7");
    assert!(trailers.get("x-forwarded-for").is_none(), "cleaned as in HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_or_came_after_a_goodbye_goes_elsewhere() {
    // Every third request is refused, and every tenth is the last of its connection.
    let (endpoint, seen) = serve(None, usual, |request, mut respond, number| async move {
        if number % 3 == 0 {
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        echo_http2(request, respond, number).await;
    })
    .await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    for round in 0..60 {
        let path = if round % 10 == 9 { "/leave" } else { "/stay" };
        let post =
            format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody");
        let answer = world.ask(&post).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{round}: {answer}");
        assert!(answer.contains("body"), "{round}: {answer}");
    }
    let requests = seen.requests.load(Ordering::Relaxed);
    assert!(requests >= 80, "{requests}: without refusals this shows nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_share_few_connections_and_no_limit_is_broken() {
    fn few(builder: &mut h2::server::Builder) {
        builder.max_concurrent_streams(100);
    }
    let all_here = Arc::new(tokio::sync::Barrier::new(1000));
    let (endpoint, seen) = serve(None, few, move |_, mut respond, _| {
        let all_here = all_here.clone();
        async move {
            all_here.wait().await;
            drop(respond.send_response(Response::new(()), true));
        }
    })
    .await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    let mut tasks = tokio::task::JoinSet::new();
    // Each connection of a client may have 100.
    for _ in 0..10 {
        let sender = client(&world).await;
        for _ in 0..100 {
            let sender = sender.clone();
            tasks.spawn(async move {
                let (response, _) = sender.ready().await.unwrap().send_request(get("/"), true).unwrap();
                response.await.unwrap().status()
            });
        }
    }
    let statuses = within(tasks.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 200));
    let connections = seen.connections.load(Ordering::Relaxed);
    assert!((10..=12).contains(&connections), "{connections}");
    assert_eq!(world.metric("proxy_reconnects_total"), 0, "nothing was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_is_told_to_the_upstream_at_once() {
    let (told, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, go) = (told.clone(), gone.clone());
    let (endpoint, _) = serve(None, usual, move |_, mut respond, _| {
        let (tell, go) = (tell.clone(), go.clone());
        async move {
            tell.notify_one();
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), Reason::CANCEL);
            go.notify_one();
        }
    })
    .await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    // Of HTTP/2, by a reset; with a body that goes on, too.
    for ends in [true, false] {
        let mut sender = client(&world).await.ready().await.unwrap();
        let (response, send) = sender.send_request(get("/"), ends).unwrap();
        within(told.notified()).await;
        let left = Instant::now();
        drop((response, send));
        within(gone.notified()).await;
        assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
        println!("cancelled upstream after {:?}", left.elapsed());
    }
    // Of HTTP/1.1, by closing.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    within(told.notified()).await;
    drop(stream);
    within(gone.notified()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_breaks_off_is_seen_to() {
    let breaks = Arc::new(Notify::new());
    let told = breaks.clone();
    let (endpoint, _) = serve(None, usual, move |request, mut respond, _| {
        let breaks = breaks.clone();
        async move {
            let mut response = Response::new(());
            if request.uri().path() == "/length" {
                response.headers_mut().insert("content-length", 100.into());
            }
            let kind = match request.uri().path() {
                "/text" => "text/plain",
                _ => "application/grpc+proto",
            };
            response.headers_mut().insert("content-type", kind.parse().unwrap());
            let mut send = respond.send_response(response, false).unwrap();
            send.send_data("part".into(), false).unwrap();
            breaks.notified().await;
            send.send_reset(Reason::INTERNAL_ERROR);
        }
    })
    .await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    for path in ["/chunks", "/length"] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut stream, "part").await;
        told.notify_one();
        let rest = read_all(&mut stream).await;
        assert!(!rest.ends_with("0\r\n\r\n"), "{rest}");

        let error = broken_off(&world, get(path), &told).await.unwrap_err();
        assert!(error.is_reset(), "{error:?}");
        let line = world
            .logged(|line| line["path"] == path && line["protocol"] == "h2")
            .await;
        assert_eq!(line["error_category"], "upstream_reset", "{line}");
    }
    // The caller of gRPC hears it in its trailers, as from a service that it has lost itself; what is cut, is cut, and what is no
    // answer of gRPC is not ended as one.
    for (path, status) in [("/chunks", Some(14)), ("/length", None), ("/text", None)] {
        let mut request = get(path);
        *request.method_mut() = http::Method::POST;
        let kind = "application/grpc".parse().unwrap();
        request.headers_mut().insert("content-type", kind);
        let trailers = broken_off(&world, request, &told).await;
        let said = trailers.map(|trailers| trailers["grpc-status"].to_str().unwrap().parse().unwrap());
        assert_eq!(said.ok(), status);
        let line = world
            .logged(|line| line["path"] == path && line["method"] == "POST")
            .await;
        assert_eq!(line["grpc_status"].as_u64(), status, "{line}");
        assert_eq!(line["error_category"], "upstream_reset", "{line}");
    }
}

/// The trailers of an answer whose upstream breaks off once the first of it has come.
async fn broken_off(world: &World, request: Request<()>, breaks: &Notify) -> Result<HeaderMap, h2::Error> {
    let mut sender = client(world).await.ready().await.unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let mut body = within(response).await.unwrap().into_body();
    assert_eq!(within(body.data()).await.unwrap()?, "part");
    breaks.notify_one();
    let (rest, trailers) = whole(body).await?;
    assert_eq!(rest, b"");
    Ok(trailers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_2_is_not_spoken_to_and_has_seen_nothing_of_the_request() {
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let old = upstream(move |mut stream, _| {
        let count = count.clone();
        async move {
            let came = read_until(&mut stream, "\r\n\r\n").await;
            count.fetch_add(u64::from(came.contains("a.test")), Ordering::Relaxed);
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let (endpoint, _) = serve(None, usual, echo_http2).await;
    let world = world(&[old, endpoint], UpstreamProtocol::Http2, None).await;
    for _ in 0..4 {
        let answer = world.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_side_stops_the_other_and_nobody_else() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let (endpoint, _) = serve(None, usual, move |request, mut respond, number| {
        let count = count.clone();
        async move {
            if request.uri().path() != "/much" {
                return echo_http2(request, respond, number).await;
            }
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            let piece = Bytes::from(vec![7; 16 << 10]);
            while send_all(&mut send, piece.clone()).await.is_ok() {
                count.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        }
    })
    .await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    let sender = client(&world).await;
    // Enough of them, if they took the connection's window, to stop it.
    let mut slow = Vec::new();
    for _ in 0..40 {
        let (response, _) = sender
            .clone()
            .ready()
            .await
            .unwrap()
            .send_request(get("/much"), true)
            .unwrap();
        slow.push(within(response).await.unwrap());
    }
    let steady = async {
        let mut before = u64::MAX;
        while before != sent.load(Ordering::Relaxed) {
            before = sent.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        before
    };
    let held = within(steady).await / 40;
    assert!(held < 512 << 10, "{held} bytes for each that takes nothing");
    for _ in 0..4 {
        let answer = world.get("/other").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // The client's own window for the connection is full of what the others were sent.
    let mut one = slow.pop().unwrap().into_body();
    drop(slow);
    let data = within(one.data()).await.unwrap().unwrap();
    assert!(data.iter().all(|byte| *byte == 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_the_same_at_the_other_end() {
    let (endpoint, _) = serve(None, usual, echo_http2).await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    let body: Vec<u8> = (0..4 << 20)
        .map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (mut read, mut write) = stream.split();
    let mut all = Vec::new();
    let sending = async {
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(&body).await.unwrap();
    };
    let reading = async { read.read_to_end(&mut all).await.unwrap() };
    within(async { tokio::join!(sending, reading) }).await;
    assert!(all.ends_with(&body), "{} bytes came back", all.len());
}
