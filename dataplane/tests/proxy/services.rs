//! Pools of services, with real sockets: endpoints come and go between requests, and no request pays for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sluice_proto::live::{EndpointState, LiveEndpoint};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::world::*;

fn ready(address: SocketAddr) -> LiveEndpoint {
    LiveEndpoint {
        address,
        state: EndpointState::Ready,
        zone: None,
    }
}

fn draining(address: SocketAddr) -> LiveEndpoint {
    LiveEndpoint {
        state: EndpointState::Draining,
        ..ready(address)
    }
}

fn feed(world: &World, endpoints: &[LiveEndpoint]) {
    let services = &world.store.values().services;
    services.replace("t/api:http".parse().unwrap(), endpoints.into());
}

fn setup() -> Setup {
    Setup::default().service("api", "t/api:http").route("/", "api", None)
}

/// Answers with its own name.
async fn named(name: &'static str) -> SocketAddr {
    upstream(move |mut stream, _| async move {
        while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
            if stream.write_all(reply(name).as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_endpoints_has_none_and_draining_ones_are_the_last_resort() {
    let [one, two] = [named("one").await, named("two").await];
    let world = World::start(setup()).await;
    let check = |expected: &'static str| {
        let world = &world;
        async move {
            for _ in 0..8 {
                let response = world.get("/").await;
                assert!(response.contains(expected), "{expected}: {response}");
            }
        }
    };
    check("\"no_endpoint\"").await;
    feed(&world, &[ready(one), draining(two)]);
    check("\r\n\r\none").await;
    feed(&world, &[draining(two)]);
    check("\r\n\r\ntwo").await;
    // A new revision, and a new worker's view of it, meets the endpoints of now.
    world.serve(2, setup());
    check("\r\n\r\ntwo").await;
    feed(&world, &[]);
    check("\"no_endpoint\"").await;
    feed(&world, &[ready(one)]);
    check("\r\n\r\none").await;
    let page = world.admin("/api/v2/services").await;
    assert!(page.contains("t/api:http") && page.contains(&one.to_string()), "{page}");
    let pools = world.admin("/api/v2/pools").await;
    assert!(
        pools.contains(&one.to_string()) && !pools.contains(&two.to_string()),
        "{pools}"
    );
    // Counted under its own address.
    let name = format!("proxy_upstream_requests_total{{pool=\"t/api\",endpoint=\"{two}\"}}");
    world.metric_is(&name, 16).await;
}

/// An upstream that counts its open connections.
async fn counting(open: &Arc<AtomicUsize>) -> SocketAddr {
    let open = open.clone();
    upstream(move |mut stream, _| {
        let open = open.clone();
        async move {
            open.fetch_add(1, Ordering::SeqCst);
            while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
                if stream.write_all(reply("hello").as_bytes()).await.is_err() {
                    break;
                }
            }
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_to_an_endpoint_that_left_are_closed() {
    let open = Arc::new(AtomicUsize::new(0));
    let (gone, stays) = (counting(&open).await, named("stays").await);
    let world = World::start(setup()).await;
    feed(&world, &[ready(gone)]);
    for _ in 0..8 {
        assert!(world.get("/").await.contains("hello"));
    }
    assert!(open.load(Ordering::SeqCst) > 0);
    feed(&world, &[ready(stays)]);
    within(async {
        while open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(world.get("/").await.contains("stays"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_replaced_under_load_and_no_request_fails() {
    let upstreams = [named("a").await, named("b").await, named("c").await];
    let world = World::start(setup()).await;
    feed(&world, &upstreams.map(ready));
    let stop = Arc::new(AtomicBool::new(false));
    let clients = [true, true, false].map(|keep| {
        let (stop, address) = (stop.clone(), world.address);
        tokio::spawn(async move {
            let mut count = 0_u64;
            let mut stream = TcpStream::connect(address).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                if !keep {
                    stream = TcpStream::connect(address).await.unwrap();
                }
                let request = b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";
                stream.write_all(request).await.unwrap();
                let head = read_until(&mut stream, "\r\n\r\n").await;
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut [0])
                    .await
                    .unwrap();
                count += 1;
            }
            count
        })
    });
    let until = Instant::now() + Duration::from_secs(2);
    let mut number = 2;
    while Instant::now() < until {
        for left_out in upstreams {
            let rest: Vec<_> = upstreams
                .iter()
                .filter(|address| **address != left_out)
                .copied()
                .map(ready)
                .collect();
            feed(&world, &rest);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        world.serve(number, setup());
        number += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for client in clients {
        sent += client.await.unwrap();
    }
    assert!(sent > 100, "{sent}");
    assert_eq!(world.handle.metrics().mixed(), 0);
}
