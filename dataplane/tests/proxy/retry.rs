//! What becomes of requests whose endpoint cannot be reached.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::world::*;

/// Of this pool, `unreached` attempts failed at `endpoint`.
fn unreached(pool: &str, endpoint: SocketAddr) -> String {
    format!("proxy_upstream_unreached_total{{pool=\"t/{pool}\",endpoint=\"{endpoint}\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_cannot_be_reached_is_nobodys_problem() {
    let (gone, echo) = (nobody(), echo().await);
    let setup = Setup::default().pool("half", &[gone, echo]).route("/", "half", None);
    let world = World::start(setup).await;
    for round in 0..20 {
        let method = ["GET", "POST"][round % 2];
        let answer = world
            .ask(&format!(
                "{method} /{round} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nX-Request-Id: r-{round}\r\nContent-Length: 3\r\n\r\nabc"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{round}: {answer}");
        let line = world.logged(|line| line["request_id"] == format!("r-{round}")).await;
        assert_eq!(line["endpoint"], echo.to_string(), "{line}");
    }
    // Every second turn on each worker, and workers differ in where they begin.
    let retried = world.metric(&unreached("half", gone));
    assert!((8..=12).contains(&retried), "{retried}");
    world
        .metric_is("proxy_retries_total{route=\"t/half\",outcome=\"answered\"}", retried)
        .await;
    assert_eq!(world.metric("proxy_reconnects_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_cannot_be_reached_fails_and_each_endpoint_was_tried_once() {
    let gone = [nobody(), nobody()];
    let setup = Setup::default().pool("gone", &gone).route("/", "gone", None);
    let world = World::start(setup).await;
    let answer = world.get("/").await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("upstream_connect_failed"),
        "{answer}"
    );
    let line = world.logged(|line| line["status"] == 502).await;
    assert_eq!(line["retries"], 1, "{line}");
    for endpoint in gone {
        world.metric_is(&unreached("gone", endpoint), 1).await;
    }
    world
        .metric_is("proxy_retries_total{route=\"t/gone\",outcome=\"failed\"}", 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_few_and_those_without_weight_are_not_tried() {
    let gone: Vec<_> = (0..9).map(|_| nobody()).collect();
    let setup = Setup::default().pool("gone", &gone).route("/", "gone", None);
    let world = World::start(setup).await;
    assert!(world.get("/").await.starts_with("HTTP/1.1 502"));
    let line = world.logged(|line| line["status"] == 502).await;
    assert_eq!(line["retries"], 2, "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_go_to_another_endpoint_too() {
    let far = says("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\nfar").await;
    let setup = Setup::default().pool("half", &[nobody(), far]);
    let setup = setup.route("/", "half", None).upgrades("half", &["own"]);
    let world = World::start(setup).await;
    for _ in 0..4 {
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n";
        let answer = world.ask(request).await;
        assert!(
            answer.starts_with("HTTP/1.1 101") && answer.ends_with("far"),
            "{answer}"
        );
    }
}

/// An upstream that breaks its first connection at the second request, and answers every other one.
struct Breaks {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
    listens: JoinHandle<()>,
}

async fn breaks() -> Breaks {
    let (address, came) = (nobody(), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind(address).await.unwrap();
    let count = came.clone();
    let listens = tokio::spawn(async move {
        for most in [1, usize::MAX] {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, most, count.clone()));
        }
    });
    Breaks { address, came, listens }
}

/// Answers so many requests; the next one breaks the connection.
async fn answer(mut stream: TcpStream, most: usize, came: Arc<AtomicUsize>) {
    for number in 0..=most {
        if hear(&mut stream).await.is_none() {
            return;
        }
        came.fetch_add(1, Ordering::SeqCst);
        if number < most {
            let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(ok).await.unwrap();
        }
    }
}

/// A head; `None`: the connection has ended.
async fn hear(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(())
}

/// A connection at rest broke under it, so that it was sent again; no endpoint after that gets it twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_may_have_been_acted_upon_is_sent_again_once() {
    let both = [breaks().await, breaks().await];
    let setup = Setup::default().pool("two", &both.each_ref().map(|one| one.address));
    let world = World::start(setup.route("/", "two", None)).await;
    // One connection: one worker, and its connections to the two.
    let mut client = TcpStream::connect(world.address).await.unwrap();
    let mut endpoints = Vec::new();
    for (round, status) in [200, 200, 502].into_iter().enumerate() {
        if round == 2 {
            let next = both.iter().find(|one| endpoints[0] == one.address.to_string());
            let next = &next.unwrap().listens;
            next.abort();
            within(async {
                while !next.is_finished() {
                    tokio::task::yield_now().await
                }
            })
            .await;
        }
        let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: r-{round}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        within(hear(&mut client)).await.unwrap();
        let line = world.logged(|line| line["request_id"] == format!("r-{round}")).await;
        assert_eq!(line["status"], status, "{line}");
        endpoints.push(line["endpoint"].as_str().unwrap_or_default().to_owned());
        if status == 200 {
            client.read_exact(&mut [0; 2]).await.unwrap();
        }
    }
    assert_ne!(endpoints[0], endpoints[1]);
    assert_eq!(endpoints[2], endpoints[1], "it went on to the other one");
    for one in &both {
        assert_eq!(one.came.load(Ordering::SeqCst), 2, "{}", one.address);
    }
}
