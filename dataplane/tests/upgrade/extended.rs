//! What becomes of an extended `CONNECT`: the tunnel that it is, and who refuses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::SinkExt;
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use sluice_dataplane::shutdown::{End, Plan, Skip};
use sluice_model::client_limits::{Bounded, ClientLimits};
use sluice_model::unit::UpstreamProtocol;
use tokio_stream::StreamExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, accept_async};

use super::client::{Good, Raw, SETTINGS};
use super::server::{echo_http2, send_all, serve, usual};
use super::streams::*;
use super::*;

const HTTP1: UpstreamProtocol = UpstreamProtocol::Http1;
const HTTP2: UpstreamProtocol = UpstreamProtocol::Http2;

/// An upstream of HTTP/1.1 that grants what is asked by its key, and then does as told; the heads that it saw.
async fn keyed<F, R>(then: F) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>)
where
    F: Fn(TcpStream) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let (seen, heads) = tokio::sync::mpsc::unbounded_channel();
    let address = upstream(move |mut stream, _| {
        let (then, seen) = (then.clone(), seen.clone());
        async move {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let key = head.lines().find_map(|line| {
                line.to_lowercase()
                    .starts_with("sec-websocket-key")
                    .then(|| line[19..].to_owned())
            });
            let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.unwrap().as_bytes());
            let _ = seen.send(head.to_lowercase());
            let grant = GRANT.replace("X-Own: 1", &format!("X-Own: 1\r\nSec-WebSocket-Accept: {accept}"));
            stream.write_all(grant.as_bytes()).await.unwrap();
            then(stream).await;
        }
    })
    .await;
    (address, heads)
}

async fn send(stream: &mut SendStream<Bytes>, data: impl Into<Bytes>) {
    within(send_all(stream, data.into())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_announced() {
    let (upstream, _) = keyed(super::echoes).await;
    let world = world(upstream, HTTP1).await;
    let mut raw = Raw::connect(world.address, &[]).await;
    let settings = raw.next_of(SETTINGS).await.unwrap().payload;
    assert!(
        settings.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]),
        "{settings:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_http_1_it_is_an_upgrade_with_a_key_of_ours() {
    let (upstream, mut heads) = keyed(super::echoes).await;
    let world = world(upstream, HTTP1).await;
    let good = Good::connect(world.address).await;
    let fields = [
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-key", "theirs"),
        ("x-request-id", "w1"),
    ];
    let (response, mut stream) = ask(&good, connect("WebSocket", &fields)).await;
    assert_eq!(response.status(), 200);
    for gone in [
        "upgrade",
        "connection",
        "sec-websocket-accept",
        "content-length",
        "transfer-encoding",
    ] {
        assert!(!response.headers().contains_key(gone), "{:?}", response.headers());
    }
    assert_eq!(response.headers()["x-own"], "1");
    assert_eq!(response.headers()["x-request-id"], "w1");
    let head = within(heads.recv()).await.unwrap();
    assert!(head.starts_with("get /ws?q http/1.1\r\n"), "{head}");
    for (text, count) in [
        ("\r\nhost: a.test\r\n", 1),
        ("\r\nupgrade: websocket\r\n", 1),
        ("\r\nconnection: upgrade\r\n", 1),
        ("\r\nsec-websocket-version: 13\r\n", 1),
        ("\r\nsec-websocket-protocol: chat\r\n", 1),
        ("sec-websocket-key: ", 1),
        ("theirs", 0),
        ("transfer-encoding", 0),
        ("content-length", 0),
        (":protocol", 0),
    ] {
        assert_eq!(head.matches(text).count(), count, "{text:?} in {head}");
    }
    world.metric_is("proxy_tunnels", 1).await;
    send(&mut stream, "12345").await;
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(whole(response.into_body()).await.unwrap(), b"12345");
    let line = world.logged(|line| line["request_id"] == "w1").await;
    for (field, value) in [
        ("method", "CONNECT"),
        ("protocol", "h2"),
        ("upgrade", "websocket"),
        ("tunnel_end", "complete"),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    for (field, value) in [("status", 200), ("bytes_in", 5), ("bytes_out", 5)] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    world.metric_is("proxy_tunnels", 0).await;
    world.metric_is("proxy_inflight_requests", 0).await;
    assert_eq!(world.metric("proxy_connections"), 1, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_http_2_it_goes_as_it_came() {
    let (upstream, mut heads) = agreeing(streams::echoes).await;
    let world = world(upstream, HTTP2).await;
    let good = Good::connect(world.address).await;
    let (response, mut stream) = ask(&good, connect("websocket", &[("sec-websocket-version", "13")])).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-own"], "1");
    let head = within(heads.recv()).await.unwrap();
    assert_eq!(head["sec-websocket-version"], "13");
    assert_eq!(head["x-forwarded-for"], "127.0.0.1");
    for gone in [
        "sec-websocket-key",
        "upgrade",
        "connection",
        "host",
        "transfer-encoding",
    ] {
        assert!(!head.contains_key(gone), "{head:?}");
    }
    send(&mut stream, "12345").await;
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(whole(response.into_body()).await.unwrap(), b"12345");
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(line["tunnel_end"], "complete", "{line}");
}

/// Bytes as they come, both ways at once, and the end of one direction while the other goes on.
async fn check_bytes(world: &World) {
    const BYTES: u64 = 16 << 20;
    let good = Good::connect(world.address).await;
    let (mut recv, mut stream) = connected(&good).await;
    let writer = tokio::spawn(async move {
        let block = pattern(0, 251 * 64);
        let mut place = 0;
        while place < BYTES {
            let count = block.len().min((BYTES - place) as usize);
            send_all(&mut stream, Bytes::copy_from_slice(&block[..count]))
                .await
                .unwrap();
            place += count as u64;
        }
        stream.send_data(Bytes::new(), true).unwrap();
    });
    let mut place = 0;
    while let Some(data) = within(recv.data()).await {
        let data = data.unwrap();
        let _ = recv.flow_control().release_capacity(data.len());
        assert!(data == pattern(place, data.len()), "at {place}");
        place += data.len() as u64;
    }
    writer.await.unwrap();
    assert_eq!(place, BYTES);
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&BYTES.into(), &BYTES.into()),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_and_come_back_unchanged() {
    check_bytes(&world(keyed(super::echoes).await.0, HTTP1).await).await;
    check_bytes(&world(agreeing(streams::echoes).await.0, HTTP2).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_direction_ends_by_itself() {
    let (one, _) = keyed(|mut stream| async move {
        stream.write_all(b"all that there is").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "answer");
    })
    .await;
    let (two, _) = agreeing(|recv, mut stream| async move {
        send_all(&mut stream, "all that there is".into()).await.unwrap();
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(whole(recv).await.unwrap(), b"answer");
    })
    .await;
    for (upstream, protocol) in [(one, HTTP1), (two, HTTP2)] {
        let world = world(upstream, protocol).await;
        let good = Good::connect(world.address).await;
        let (recv, mut stream) = connected(&good).await;
        assert_eq!(whole(recv).await.unwrap(), b"all that there is");
        assert_eq!(world.metric("proxy_tunnels"), 1, "the other direction is open");
        send(&mut stream, "answer").await;
        stream.send_data(Bytes::new(), true).unwrap();
        let line = world.logged(|line| line["upgrade"] == "websocket").await;
        assert_eq!(
            (&line["tunnel_end"], &line["bytes_in"]),
            (&"complete".into(), &6.into()),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_breaks_off_is_told_to_the_other_side() {
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let tell = told.clone();
    let (one, _) = keyed(move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut byte = [0];
            let end = loop {
                match stream.read(&mut byte).await {
                    Ok(0) => break "in order",
                    Ok(_) => {}
                    Err(_) => break "by a reset",
                }
            };
            tell.send(end).unwrap();
        }
    })
    .await;
    let (two, _) = agreeing(move |recv, _send| {
        let told = told.clone();
        async move {
            let end = if whole(recv).await.is_err() {
                "by a reset"
            } else {
                "in order"
            };
            told.send(end).unwrap();
        }
    })
    .await;
    for (upstream, protocol) in [(one, HTTP1), (two, HTTP2)] {
        let world = world(upstream, protocol).await;
        let good = Good::connect(world.address).await;
        let (recv, mut stream) = connected(&good).await;
        send(&mut stream, "half").await;
        stream.send_reset(Reason::CANCEL);
        drop(recv);
        assert_eq!(within(hears.recv()).await, Some("by a reset"));
        let line = world.logged(|line| line["upgrade"] == "websocket").await;
        assert_eq!(line["tunnel_end"], "client_broke", "{line}");
    }
    // And the other way round.
    let (one, _) = keyed(|mut stream| async move {
        stream.read_exact(&mut [0]).await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let (two, _) = agreeing(|mut recv, mut send| async move {
        recv.data().await.unwrap().unwrap();
        send.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    for (upstream, protocol) in [(one, HTTP1), (two, HTTP2)] {
        let world = world(upstream, protocol).await;
        let good = Good::connect(world.address).await;
        let (recv, mut stream) = connected(&good).await;
        send(&mut stream, "x").await;
        let error = whole(recv).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL), "as TCP's reset: {error}");
        let line = world.logged(|line| line["upgrade"] == "websocket").await;
        assert_eq!(line["tunnel_end"], "upstream_broke", "{line}");
        assert!(line.get("error_category").is_none(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_stops_who_writes_and_nobody_else() {
    // Each its own: the first goes on writing into the kernel's buffers until it hears that nobody is there.
    let (by_one, by_two) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (one, two) = (by_one.clone(), by_two.clone());
    let (one, _) = keyed(move |mut stream| {
        let written = one.clone();
        async move {
            while let Ok(count) = stream.write(&[7; 1 << 14]).await {
                written.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
    })
    .await;
    let (two, _) = agreeing(move |_recv, mut send| {
        let written = two.clone();
        async move {
            while send_all(&mut send, Bytes::from_static(&[7; 1 << 14])).await.is_ok() {
                written.fetch_add(1 << 14, Ordering::Relaxed);
            }
        }
    })
    .await;
    // Two sockets' buffers are the kernel's; of ours there is one, and the windows.
    for (upstream, written, protocol, most) in [(one, by_one, HTTP1, 16 << 20), (two, by_two, HTTP2, 512 << 10)] {
        let world = world(upstream, protocol).await;
        // Its window for the connection is larger than that of one stream: others have room beside that.
        let stream = TcpStream::connect(world.address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let (sender, driving) = builder.handshake::<_, Bytes>(stream).await.unwrap();
        tokio::spawn(async move { drop(driving.await) });
        let good = Good(sender);
        let (mut recv, _stream) = connected(&good).await;
        let steady = async {
            let mut before = 0;
            while before == 0 || before != written.load(Ordering::Relaxed) {
                before = written.load(Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            before
        };
        let held = within(steady).await;
        assert!(held < most, "{held} bytes were taken that nobody reads");
        let missing = Request::get("http://b.test/").body(()).unwrap();
        assert_eq!(within(good.ask(missing, None)).await.unwrap().status(), 404);
        // When it reads again, more comes.
        let mut came = 0;
        while came <= held {
            let data = within(recv.data()).await.unwrap().unwrap();
            let _ = recv.flow_control().release_capacity(data.len());
            came += data.len() as u64;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_rests_too_long_is_ended_and_its_connection_goes_on() {
    let (upstream, _) = agreeing(streams::echoes).await;
    let limits = ClientLimits {
        tunnel_idle_millis: Bounded::new(1_000).unwrap(),
        ..ClientLimits::default()
    };
    let world = world_with(setup(upstream).spoken("ws", HTTP2, None), limits).await;
    let good = Good::connect(world.address).await;
    let (recv, _stream) = connected(&good).await;
    assert_eq!(whole(recv).await.unwrap_err().reason(), Some(Reason::CANCEL));
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(line["tunnel_end"], "cut", "{line}");
    let missing = Request::get("http://b.test/").body(()).unwrap();
    assert_eq!(within(good.ask(missing, None)).await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_ends_gives_them_their_time() {
    let (upstream, _) = keyed(super::echoes).await;
    let world = world(upstream, HTTP1).await;
    let good = Good::connect(world.address).await;
    let (mut stays, mut stays_send) = connected(&good).await;
    let (leaves, mut leaves_send) = connected(&good).await;
    let plan = Plan {
        converge: Duration::ZERO,
        grace: Duration::from_secs(5),
    };
    let (log, folder) = (world.log.clone(), world.folder_kept);
    let began = std::time::Instant::now();
    let down = tokio::spawn(async move { world.handle.shutdown(plan, &Skip::default()).await });
    send(&mut stays_send, "ping").await;
    assert_eq!(within(stays.data()).await.unwrap().unwrap(), "ping");
    leaves_send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(whole(leaves).await.unwrap(), b"");
    assert_eq!(within(down).await.unwrap(), End::Complete);
    assert!(began.elapsed() >= plan.grace / 10 && began.elapsed() < plan.grace);
    assert_eq!(whole(stays).await.unwrap_err().reason(), Some(Reason::CANCEL));
    let lines = std::fs::read_to_string(log).unwrap();
    for (end, count) in [("\"tunnel_end\":\"complete\"", 1), ("\"tunnel_end\":\"cut\"", 1)] {
        assert_eq!(lines.matches(end).count(), count, "{lines}");
    }
    drop(folder);
}

/// Asks, and expects to be refused in this way.
async fn refused(world: &World, request: Request<()>, status: u16, category: &str, rule: Option<&str>) {
    let good = Good::connect(world.address).await;
    let (response, _stream) = ask(&good, request).await;
    assert_eq!(response.status().as_u16(), status, "{category}");
    let body = String::from_utf8(whole(response.into_body()).await.unwrap()).unwrap();
    assert!(body.contains(category), "{body}");
    let line = world.logged(|line| line["error_category"] == category).await;
    assert_eq!(line.get("refused_by").and_then(|rule| rule.as_str()), rule, "{line}");
    assert_eq!(world.metric("proxy_tunnels"), 0);
    // Its connection goes on.
    let missing = Request::get("http://b.test/").body(()).unwrap();
    assert_eq!(within(good.ask(missing, None)).await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_rule_allows_is_refused_and_never_an_ordinary_request() {
    let (upstream, mut heads) = keyed(super::echoes).await;
    let plain = Setup::default().pool("ws", &[upstream]).route("/", "ws", None);
    let rule = Some("connect_protocol");
    let none = world_with(plain, ClientLimits::default()).await;
    refused(&none, connect("websocket", &[]), 501, "not_implemented", rule).await;
    let world = world(upstream, HTTP1).await;
    for protocol in ["connect-udp", "h2c", "websocket, h2c"] {
        refused(&world, connect(protocol, &[]), 501, "not_implemented", rule).await;
    }
    let mut tunnel = Request::connect("http://a.test:443").body(()).unwrap();
    *tunnel.uri_mut() = "a.test:443".parse().unwrap();
    refused(&world, tunnel, 405, "method_not_allowed", Some("method")).await;
    let star = Request::connect("http://b.test/ws").body(());
    let mut elsewhere = star.unwrap();
    elsewhere
        .extensions_mut()
        .insert(h2::ext::Protocol::from_static("websocket"));
    refused(&world, elsewhere, 404, "no_route", None).await;
    assert!(heads.try_recv().is_err(), "nothing of it came to the upstream");
    let told = world.store.stats().drain().roles[0].scopes[0].clone();
    assert_eq!(told.failures, 0, "all of it is the client's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_agrees_otherwise_than_asked_has_failed() {
    let grant = "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    let other = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    for answer in [
        format!("{grant}\r\nhello"),
        format!("{grant}{other}hello"),
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
    ] {
        let upstream = super::world::says(answer.leak()).await;
        let world = world(upstream, HTTP1).await;
        refused(&world, connect("websocket", &[]), 502, "upstream_protocol_error", None).await;
    }
    // What it refuses goes to the client.
    let no = super::world::says("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let world = world(no, HTTP1).await;
    let good = Good::connect(world.address).await;
    let (response, _stream) = ask(&good, connect("websocket", &[])).await;
    assert_eq!(response.status(), 403);
    assert_eq!(whole(response.into_body()).await.unwrap(), b"no");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_of_http_2_that_does_not_offer_it_gets_nothing() {
    let (upstream, seen) = serve(None, usual, echo_http2).await;
    let lacking = world(upstream, HTTP2).await;
    refused(
        &lacking,
        connect("websocket", &[]),
        502,
        "upstream_connect_failed",
        None,
    )
    .await;
    let line = lacking
        .logged(|line| line["error_category"] == "upstream_connect_failed")
        .await;
    assert!(line["upstream_error"].as_str().unwrap().contains("RFC 8441"), "{line}");
    assert_eq!(seen.requests.load(Ordering::Relaxed), 0);
    // One that offers it may say no.
    let (no, _) = serve(None, announces, |_, mut respond, _| async move {
        let response = http::Response::builder().status(403).body(()).unwrap();
        respond
            .send_response(response, false)
            .unwrap()
            .send_data("no".into(), true)
            .unwrap();
    })
    .await;
    let refusing = world(no, HTTP2).await;
    let good = Good::connect(refusing.address).await;
    let (response, _stream) = ask(&good, connect("websocket", &[])).await;
    assert_eq!(response.status(), 403);
    assert_eq!(whole(response.into_body()).await.unwrap(), b"no");
}

/// A library's frames, on both ends.
async fn check_frames(world: &World) {
    let good = Good::connect(world.address).await;
    let (recv, stream) = connected(&good).await;
    let mut socket = WebSocketStream::from_raw_socket(as_bytes(recv, stream), Role::Client, None).await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let message = Message::Binary(Bytes::from(pattern(0, size)));
        within(socket.send(message.clone())).await.unwrap();
        let came = within(socket.next()).await.unwrap().unwrap();
        assert!(came == message, "{size}");
    }
    within(socket.send(Message::Ping("are you there".into())))
        .await
        .unwrap();
    let pong = within(socket.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("are you there".into()));
    within(socket.close(None)).await.unwrap();
    while within(socket.next()).await.is_some() {}
    drop(socket);
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(line["tunnel_end"], "complete", "{line}");
}

async fn frames_echo<S>(mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_librarys_frames_go_through() {
    let one = upstream(|stream, _| async move {
        // It refuses what is not asked with a sound key.
        if let Ok(socket) = accept_async(stream).await {
            frames_echo(socket).await;
        }
    })
    .await;
    check_frames(&world(one, HTTP1).await).await;
    let (two, _) = agreeing(|recv: RecvStream, send| async move {
        frames_echo(WebSocketStream::from_raw_socket(as_bytes(recv, send), Role::Server, None).await).await;
    })
    .await;
    check_frames(&world(two, HTTP2).await).await;
}
