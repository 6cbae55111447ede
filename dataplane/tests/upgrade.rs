//! Going over to another protocol, with real sockets: what is let through byte by byte, and what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

// These serve other tests as well, which use more of them.
#[allow(dead_code)]
#[path = "http2/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "upstream/server.rs"]
mod server;
#[allow(dead_code)]
#[path = "proxy/world.rs"]
mod world;

#[path = "upgrade/drain.rs"]
mod drain;
#[path = "upgrade/ends.rs"]
mod ends;
#[path = "upgrade/extended.rs"]
mod extended;
#[path = "upgrade/refusals.rs"]
mod refusals;
#[path = "upgrade/streams.rs"]
mod streams;
#[path = "upgrade/websocket.rs"]
mod websocket;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use world::*;

/// Asks for a WebSocket.
const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
/// Grants it.
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Own: 1\r\n\r\n";

/// A route `ws` to this upstream whose clients may go over to WebSocket.
fn setup(upstream: SocketAddr) -> Setup {
    Setup::default()
        .pool("ws", &[upstream])
        .route("/", "ws", None)
        .upgrades("ws", &["websocket"])
}

/// Asks, and reads the head of the answer.
async fn asked(world: &World) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    (stream, head)
}

/// An upstream that grants and then does as told.
async fn granting<F, R>(then: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    upstream(move |mut stream, _| {
        let then = then.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(GRANT.as_bytes()).await.unwrap();
            then(stream).await;
        }
    })
    .await
}

/// Sends everything back until the end, which it returns.
async fn echoes(mut stream: TcpStream) {
    let (mut reading, mut writing) = stream.split();
    let _ = tokio::io::copy(&mut reading, &mut writing).await;
    let _ = writing.shutdown().await;
}

/// The byte at this place of what is sent. 251 is prime: no buffer's size divides the pattern.
fn byte_at(place: u64) -> u8 {
    (place % 251) as u8
}

fn pattern(from: u64, bytes: usize) -> Vec<u8> {
    (from..).take(bytes).map(byte_at).collect()
}

/// Reads exactly so many bytes, which must be the pattern.
async fn reads_pattern(stream: &mut (impl AsyncReadExt + Unpin), bytes: u64) {
    let mut chunk = vec![0; 1 << 16];
    let mut place = 0;
    while place < bytes {
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "ended after {place} of {bytes}");
        assert_eq!(chunk[..read], pattern(place, read), "at {place}");
        place += read as u64;
    }
    assert_eq!(place, bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_and_granted_is_said_in_one_form() {
    let (seen, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            seen.send(read_until(&mut stream, "\r\n\r\n").await).unwrap();
            let lax =
                "HTTP/1.1 101 Whatever\r\nUpgrade: WEBSOCKET\r\nContent-Length: 0\r\nKeep-Alive: 1\r\nX-Own: 1\r\n\r\n";
            stream.write_all(lax.as_bytes()).await.unwrap();
            echoes(stream).await;
        }
    })
    .await;
    let world = World::start(setup(upstream)).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let ask = "GET /ws?q HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: te, Upgrade, x-hop\r\nx-hop: 1\r\n\
               Upgrade: WebSocket\r\nSec-WebSocket-Key: k==\r\nX-Request-Id: w1\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for (name, count) in [
        ("upgrade: websocket\r\n", 1),
        ("connection: upgrade\r\n", 1),
        ("x-own: 1\r\n", 1),
        ("x-request-id: w1\r\n", 1),
        ("content-length", 0),
        ("keep-alive", 0),
        ("transfer-encoding", 0),
    ] {
        assert_eq!(head.matches(name).count(), count, "{name:?} in {head}");
    }
    let seen = heads.recv().await.unwrap().to_lowercase();
    assert!(seen.starts_with("get /ws?q http/1.1\r\n"), "{seen}");
    for (name, count) in [
        ("\r\nupgrade: websocket\r\n", 1),
        ("\r\nconnection: upgrade\r\n", 1),
        ("sec-websocket-key: k==\r\n", 1),
        ("x-hop", 0),
        ("te: ", 0),
        ("content-length", 0),
        ("transfer-encoding", 0),
    ] {
        assert_eq!(seen.matches(name).count(), count, "{name:?} in {seen}");
    }
    world.metric_is("proxy_tunnels", 1).await;
    stream.write_all(b"12345").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "12345");
    let line = world.logged(|line| line["request_id"] == "w1").await;
    for (field, value) in [
        ("upgrade", "websocket"),
        ("tunnel_end", "complete"),
        ("path", "/ws"),
        ("pool", "t/ws"),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    for (field, value) in [("status", 101), ("bytes_in", 5), ("bytes_out", 5)] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(line.get("error_category").is_none(), "{line}");
    world.metric_is("proxy_tunnels", 0).await;
    assert_eq!(world.metric("proxy_tunnel_bytes_total{direction=\"in\"}"), 5);
    assert_eq!(world.metric("proxy_tunnel_bytes_total{direction=\"out\"}"), 5);
    assert_eq!(
        world.metric("proxy_requests_total{route=\"t/ws\",pool=\"t/ws\",status=\"101\"}"),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_head_at_once_is_not_lost_and_not_sent_early() {
    let (granted, grants) = tokio::sync::watch::channel(false);
    let upstream = upstream(move |mut stream, _| {
        let mut grants = grants.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let mut byte = [0];
            tokio::select! {
                read = stream.read(&mut byte) => panic!("{read:?} came before it was granted"),
                granted = grants.wait_for(|granted| *granted) => drop(granted.unwrap()),
            }
            // In one write with the head: what the codec reads with it.
            stream
                .write_all(format!("{GRANT}first words").as_bytes())
                .await
                .unwrap();
            echoes(stream).await;
        }
    })
    .await;
    let world = World::start(setup(upstream)).await;
    for early in [1_usize, 1000, 300_000] {
        let stream = TcpStream::connect(world.address).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let writer = tokio::spawn(async move {
            let mut all = ASK.as_bytes().to_vec();
            all.extend(pattern(0, early));
            writing.write_all(&all).await.unwrap();
            writing.shutdown().await.unwrap();
        });
        // The request is on its way and what follows it has had time to go wrong.
        world.metric_is("proxy_inflight_requests", 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        granted.send(true).unwrap();
        let head = read_until(&mut reading, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let mut words = [0; 11];
        within(reading.read_exact(&mut words)).await.unwrap();
        assert_eq!(&words, b"first words");
        within(reads_pattern(&mut reading, early as u64)).await;
        assert_eq!(within(reading.read(&mut words)).await.unwrap(), 0);
        writer.await.unwrap();
        granted.send(false).unwrap();
        world.metric_is("proxy_inflight_requests", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_go_and_come_back_unchanged() {
    const BYTES: u64 = 100 << 20;
    let world = World::start(setup(granting(echoes).await)).await;
    let (stream, head) = asked(&world).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (mut reading, mut writing) = stream.into_split();
    let writer = tokio::spawn(async move {
        let block = pattern(0, 251 * 256);
        let mut place = 0;
        while place < BYTES {
            let count = block.len().min((BYTES - place) as usize);
            writing.write_all(&block[..count]).await.unwrap();
            place += count as u64;
        }
        writing.shutdown().await.unwrap();
    });
    let reading = reads_pattern(&mut reading, BYTES);
    tokio::time::timeout(Duration::from_secs(120), reading).await.unwrap();
    writer.await.unwrap();
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&BYTES.into(), &BYTES.into()),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_stops_who_writes() {
    let (go_on, told) = tokio::sync::watch::channel(false);
    let upstream = granting(move |stream| {
        let mut told = told.clone();
        async move {
            told.wait_for(|told| *told).await.unwrap();
            echoes(stream).await;
        }
    })
    .await;
    let world = World::start(setup(upstream)).await;
    let (mut stream, _) = asked(&world).await;
    let block = pattern(0, 251 * 256);
    let mut sent = 0_u64;
    // Two sockets' buffers and one of ours: then nothing more is taken.
    while let Ok(written) = tokio::time::timeout(
        Duration::from_millis(500),
        stream.write(&block[(sent % 251) as usize..]),
    )
    .await
    {
        sent += written.unwrap() as u64;
        assert!(sent < 64 << 20, "{sent} bytes were taken that nobody reads");
    }
    go_on.send(true).unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let rest = tokio::spawn(async move {
        writing.write_all(&pattern(sent, 1 << 20)).await.unwrap();
        writing.shutdown().await.unwrap();
    });
    within(reads_pattern(&mut reading, sent + (1 << 20))).await;
    rest.await.unwrap();
}
