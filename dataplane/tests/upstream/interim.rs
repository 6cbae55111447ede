//! What comes before a response: interim responses of upstreams, and clients that wait to be told to go on.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use sluice_model::limits::INTERIM_RESPONSES_MAX;
use sluice_model::unit::UpstreamProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::client::*;
use super::server::{echo_http2, serve, usual, world};
use super::world::*;

const HTTP1: UpstreamProtocol = UpstreamProtocol::Http1;
const HTTP2: UpstreamProtocol = UpstreamProtocol::Http2;

/// Of HTTP/1.1: says this before each answer, which comes when it may go on.
async fn hinting_http1(interim: String, go: Arc<Semaphore>) -> SocketAddr {
    upstream(move |mut stream, _| {
        let (interim, go) = (interim.clone(), go.clone());
        async move {
            while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
                let _ = stream.write_all(interim.as_bytes()).await;
                go.acquire().await.unwrap().forget();
                let _ = stream.write_all(reply("final").as_bytes()).await;
            }
        }
    })
    .await
}

/// The same of HTTP/2, with these statuses.
async fn hinting_http2(statuses: Vec<u16>, go: Arc<Semaphore>) -> SocketAddr {
    let answer = move |_: Request<RecvStream>, mut respond: SendResponse<Bytes>, _| {
        let (statuses, go) = (statuses.clone(), go.clone());
        async move {
            for status in statuses {
                let interim = Response::builder().status(status).header("link", "</a>");
                let _ = respond.send_informational(interim.body(()).unwrap());
            }
            go.acquire().await.unwrap().forget();
            if let Ok(mut send) = respond.send_response(Response::new(()), false) {
                let _ = send.send_data("final".into(), true);
            }
        }
    };
    serve(None, usual, answer).await.0
}

fn interim(statuses: &[u16]) -> String {
    let one = |status: &u16| {
        format!("HTTP/1.1 {status} X\r\nLink: </a>\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n\r\n")
    };
    statuses.iter().map(one).collect()
}

/// Asks, and lets the upstream go on when so many interim responses have come; these.
async fn hints(world: &World, go: &Semaphore, count: usize) -> Vec<Response<()>> {
    let good = Good::connect(world.address).await;
    let mut sender = good.0.clone().ready().await.unwrap();
    let request = Request::get("http://a.test/").body(()).unwrap();
    let (mut response, _) = sender.send_request(request, true).unwrap();
    let mut came = Vec::new();
    while came.len() < count {
        let next = within(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
        came.push(next.expect("one more before the answer").unwrap());
    }
    go.add_permits(1);
    let more = within(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    assert!(more.is_none(), "{more:?}");
    let answer = within(response).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    assert_eq!(within(body.data()).await.unwrap().unwrap(), "final");
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_hints_go_to_clients_of_http_2_at_once() {
    let go = Arc::new(Semaphore::new(0));
    let statuses = [100, 103, 102, 103];
    let one = hinting_http1(interim(&statuses), go.clone()).await;
    let two = hinting_http2(statuses.to_vec(), go.clone()).await;
    for (endpoint, protocol) in [(one, HTTP1), (two, HTTP2)] {
        let world = world(&[endpoint], protocol, None).await;
        let came = hints(&world, &go, 3).await;
        let told: Vec<u16> = came.iter().map(|hint| hint.status().as_u16()).collect();
        assert_eq!(told, [103, 102, 103], "{protocol:?}");
        for hint in came {
            let names: Vec<&str> = hint.headers().keys().map(http::HeaderName::as_str).collect();
            assert_eq!(names, ["link"], "{protocol:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_http_1_get_the_answer_alone_and_their_connection_goes_on() {
    let go = Arc::new(Semaphore::new(100));
    let one = hinting_http1(interim(&[103, 102, 199]), go.clone()).await;
    let two = hinting_http2(vec![103, 102, 199], go).await;
    for (endpoint, protocol) in [(one, HTTP1), (two, HTTP2)] {
        let world = world(&[endpoint], protocol, None).await;
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        for _ in 0..3 {
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
                .await
                .unwrap();
            let head = read_until(&mut stream, "\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 200") && !head.contains("link"), "{head}");
            let end = if head.contains("chunked") {
                "final\r\n0\r\n\r\n"
            } else {
                "final"
            };
            let body = read_until(&mut stream, end).await;
            assert!(body.ends_with(end), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_so_many_and_not_without_end() {
    let go = Arc::new(Semaphore::new(0));
    let many = vec![103; INTERIM_RESPONSES_MAX + 10];
    let one = hinting_http1(interim(&many), go.clone()).await;
    let two = hinting_http2(many, go.clone()).await;
    for (endpoint, protocol) in [(one, HTTP1), (two, HTTP2)] {
        let world = world(&[endpoint], protocol, None).await;
        assert_eq!(
            hints(&world, &go, INTERIM_RESPONSES_MAX).await.len(),
            INTERIM_RESPONSES_MAX
        );
    }
    let endless = |_: Request<RecvStream>, mut respond: SendResponse<Bytes>, _| async move {
        let interim = || Response::builder().status(103).header("link", "</a>").body(()).unwrap();
        while respond.send_informational(interim()).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let (endpoint, _) = serve(None, usual, endless).await;
    let world = world(&[endpoint], HTTP2, None).await;
    let answer = world.get("/").await;
    assert!(answer.contains("upstream_protocol_error"), "{answer}");
    let good = Good::connect(world.address).await;
    let answer = within(good.get("/")).await.unwrap();
    assert!(answer.text().contains("upstream_protocol_error"), "{answer:?}");
}

/// Of HTTP/1.1: answers with the body of what it is sent.
async fn mirror() -> SocketAddr {
    upstream(|mut stream, _| async move {
        loop {
            let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
            if head.is_empty() {
                return;
            }
            assert!(!head.contains("expect"), "it concerns this hop: {head}");
            let mut body = [0; 2];
            stream.read_exact(&mut body).await.unwrap();
            let answer = reply(std::str::from_utf8(&body).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_to_go_on_is_told_to_whatever_either_side_speaks() {
    let (two, _) = serve(None, usual, echo_http2).await;
    for (endpoint, protocol) in [(mirror().await, HTTP1), (two, HTTP2)] {
        let world = world(&[endpoint], protocol, None).await;
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let head =
            "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let go_on = read_until(&mut stream, "\r\n\r\n").await;
        assert!(go_on.starts_with("HTTP/1.1 100"), "{protocol:?}: {go_on}");
        stream.write_all(b"ok").await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("ok"),
            "{protocol:?}: {answer}"
        );
        assert!(!answer.contains("expect"), "{protocol:?}: {answer}");

        let mut raw = Raw::connect(world.address, &[]).await;
        let head = request("POST", "/", &[(b"expect", b"100-continue"), (b"content-length", b"2")]);
        raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
        let go_on = raw.next_on(1).await.unwrap();
        assert_eq!((go_on.kind, go_on.status()), (HEADERS, Some(100)), "{protocol:?}");
        raw.send(&frame(DATA, END_STREAM, 1, b"ok")).await;
        let answer = raw.next_on(1).await.unwrap();
        assert_eq!((answer.kind, answer.status()), (HEADERS, Some(200)), "{protocol:?}");
        let mut body = Vec::new();
        while !body.ends_with(b"ok") {
            body.extend(raw.next_on(1).await.unwrap().payload);
        }
    }
    // Who cannot be reached is not told to go on.
    let world = world(&[nobody()], HTTP2, None).await;
    let answer = world
        .ask("POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}
