//! Connections of clients that speak HTTP/1.1: those that rest for so long that they have no codec any more, on which whatever comes
//! next is taken as if they had not; and what else lets one go on or ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluice_model::limits::CODEC_REST_MS;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::*;

/// Long enough, with the second between two looks of the worker. Time is what this is about; more of it changes nothing.
async fn rest() {
    tokio::time::sleep(Duration::from_millis(CODEC_REST_MS + 1_500)).await;
}

async fn world() -> World {
    world_to(upstream(|stream, _| mirror(stream)).await).await
}

async fn world_to(server: SocketAddr) -> World {
    World::start(Setup::default().pool("p", &[server]).route("/", "p", None)).await
}

/// Answers every request with itself: head, chunks and trailers.
async fn mirror(mut stream: TcpStream) {
    loop {
        let mut request = read_until(&mut stream, "\r\n\r\n").await;
        if request.is_empty() {
            return;
        }
        if request.contains("transfer-encoding: chunked") {
            request += &read_until(&mut stream, "\r\n\r\n").await;
        }
        if stream.write_all(reply(&request).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A connection that has had a request, and rested.
async fn rested(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    asked(&mut stream, "GET /first HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    rest().await;
    stream
}

async fn asked(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// One answer of `echo`, which says how long it is.
async fn answer(stream: &mut TcpStream) -> String {
    let head = read_until(stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (head, early) = head.split_once("\r\n\r\n").unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = early.as_bytes().to_vec();
    let mut rest = vec![0; length.parse::<usize>().unwrap() - body.len()];
    within(stream.read_exact(&mut rest)).await.unwrap();
    body.append(&mut rest);
    String::from_utf8(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_as_before() {
    let world = world().await;
    let mut stream = rested(&world).await;
    // In pieces, with a rest of the same length within its head.
    stream.write_all(b"GET /in-pieces HT").await.unwrap();
    rest().await;
    let echoed = asked(&mut stream, "TP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(echoed.starts_with("GET /in-pieces "), "{echoed}");
    rest().await;
    let two = "POST /body HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let echoed = asked(&mut stream, two).await;
    assert!(echoed.starts_with("POST /body "), "{echoed}");
    let echoed = answer(&mut stream).await;
    assert!(echoed.starts_with("GET /next "), "{echoed}");
    rest().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nX y: 1\r\n\r\n")
        .await
        .unwrap();
    let refused = read_all(&mut stream).await;
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    world
        .logged(|line| line["status"] == 400 && line["refused_by"] != "")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_its_client_and_with_its_instance() {
    let world = world().await;
    let (gone, mut half) = tokio::join!(rested(&world), rested(&world));
    drop(gone);
    world.metric_is("proxy_connections", 1).await;
    half.shutdown().await.unwrap();
    assert_eq!(within(half.read(&mut [0; 8])).await.unwrap(), 0, "closed in order");
    world.metric_is("proxy_connections", 0).await;

    let (mut idle, mut begun) = tokio::join!(rested(&world), rested(&world));
    begun.write_all(b"GET /begun HTTP/1.1\r\n").await.unwrap();
    // One that has not rested, and has begun another behind its first.
    let mut behind = TcpStream::connect(world.address).await.unwrap();
    let both = "GET /first HTTP/1.1\r\nHost: a.test\r\n\r\nGET /behind HTTP/1.1\r\n";
    asked(&mut behind, both).await;
    let plan = sluice_dataplane::shutdown::Plan {
        converge: Duration::ZERO,
        grace: Duration::from_secs(8),
    };
    let (handle, _folder) = (world.handle, world.folder_kept);
    let down = tokio::spawn(async move { handle.shutdown(plan, &Default::default()).await });
    assert_eq!(within(idle.read(&mut [0; 8])).await.unwrap(), 0, "closed in order");
    for stream in [&mut begun, &mut behind] {
        stream.write_all(b"Host: a.test\r\n\r\n").await.unwrap();
        let response = read_all(stream).await;
        assert!(
            response.starts_with("HTTP/1.1 200"),
            "a head that had begun: {response}"
        );
        assert!(response.contains("connection: close"), "{response}");
    }
    within(down).await.unwrap();
}

/// A client that does not take its response has not had it: its connection does not rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_taken_is_not_lost() {
    const BODY: usize = 32 << 20;
    let large = upstream(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Whoever reads it may go before its end.
        let _ = stream.write_all(&vec![b'x'; BODY]).await;
    })
    .await;
    let world = world_to(large).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    rest().await;
    let mut body = vec![0; BODY];
    within(stream.read_exact(&mut body)).await.unwrap();
    assert!(body.iter().all(|byte| *byte == b'x'));
}

/// What follows a `CONNECT` is nobody's request, whatever its answer is: that says so, and ends the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_follows_a_connect() {
    let world = world().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let both = "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    stream.write_all(both.as_bytes()).await.unwrap();
    let answers = read_all(&mut stream).await;
    assert!(
        answers.starts_with("HTTP/1.1 405") && answers.contains("connection: close"),
        "{answers}"
    );
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
}

/// A request with trailers leaves its connection to the upstream to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_cost_no_connection() {
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let server = upstream(move |stream, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        mirror(stream)
    });
    let world = world_to(server.await).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = "POST / HTTP/1.1\r\nHost: a.test\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n";
    for _ in 0..5 {
        let echoed = asked(&mut stream, request).await;
        assert!(echoed.ends_with("0\r\nx-a: 1\r\n\r\n"), "{echoed}");
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
}
