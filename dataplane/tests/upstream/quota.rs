//! Bounds on connections of HTTP/2, which requests share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response, StatusCode};
use sluice_model::client_limits::Bounded;
use sluice_model::pool_connections::PoolConnections;
use sluice_model::unit::UpstreamProtocol;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::server::*;
use super::world::*;

const PATIENT_MS: u64 = 60_000;

/// Requests that are on each connection, and the most connections that had any at a time.
#[derive(Default)]
struct Busy {
    requests: Mutex<BTreeMap<u64, usize>>,
    most: Mutex<usize>,
}

impl Busy {
    fn begins(&self, connection: u64) {
        let mut requests = self.requests.lock().unwrap();
        *requests.entry(connection).or_default() += 1;
        let mut most = self.most.lock().unwrap();
        *most = requests.len().max(*most);
    }

    fn ends(&self, connection: u64) {
        let mut requests = self.requests.lock().unwrap();
        let count = requests.get_mut(&connection).unwrap();
        *count -= 1;
        if *count == 0 {
            requests.remove(&connection);
        }
    }
}

/// A server each of whose requests takes a while.
async fn busy() -> (SocketAddr, Arc<Busy>) {
    let busy = Arc::new(Busy::default());
    let counts = busy.clone();
    let address = upstream(move |stream, connection| {
        let busy = counts.clone();
        async move {
            let Ok(mut server) = h2::server::handshake(stream).await else {
                return;
            };
            while let Some(Ok((_, mut respond))) = server.accept().await {
                busy.begins(connection);
                let busy = busy.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    busy.ends(connection);
                    let _ = respond.send_response(Response::new(()), true);
                });
            }
        }
    });
    (address.await, busy)
}

async fn bounded(endpoint: SocketAddr, connections: PoolConnections) -> Arc<World> {
    let setup = Setup::default()
        .pool("all", &[endpoint])
        .spoken("all", UpstreamProtocol::Http2, None)
        .connections("all", connections);
    let mut world = World::start(setup.route("/", "all", None)).await;
    world.address = world.listen(cleartext()).await;
    Arc::new(world)
}

async fn client(world: &World) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

async fn status(sender: &SendRequest<Bytes>, path: &str) -> StatusCode {
    let request = Request::get(format!("http://a.test{path}")).body(()).unwrap();
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    within(response).await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_take_turns_with_one_connection() {
    let (endpoint, busy) = busy().await;
    let world = bounded(endpoint, at_most(1, 1_000, PATIENT_MS)).await;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let answer = world.get(&format!("/{round}")).await;
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                }
            })
        })
        .collect();
    for client in clients {
        within(client).await.unwrap();
    }
    assert_eq!(*busy.most.lock().unwrap(), 1);
    world.metric_is("proxy_pending_requests", 0).await;
}

/// One worker's connection is never without a request, and the other one's requests have their turn all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_rests_is_given_up_too() {
    let (endpoint, busy) = busy().await;
    let world = bounded(endpoint, at_most(1, 1_000, PATIENT_MS)).await;
    let ends = Arc::new(AtomicBool::new(false));
    let sender = client(&world).await;
    assert_eq!(status(&sender, "/first").await, 200);
    let stays: Vec<_> = (0..16)
        .map(|_| {
            let (sender, ends) = (sender.clone(), ends.clone());
            tokio::spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    assert_eq!(status(&sender, "/stays").await, 200);
                }
            })
        })
        .collect();
    // Some of them meet the other worker.
    let others: Vec<_> = (0..8)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.get("/other").await })
        })
        .collect();
    for other in others {
        let answer = within(other).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    ends.store(true, Ordering::Relaxed);
    for stays in stays {
        within(stays).await.unwrap();
    }
    assert_eq!(*busy.most.lock().unwrap(), 1);
}

/// Where a connection is full and there may be no other, a request waits for a stream on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_connection_waits_for_a_stream() {
    let let_go = Arc::new(Semaphore::new(0));
    let held = let_go.clone();
    let one_stream = |builder: &mut h2::server::Builder| {
        builder.max_concurrent_streams(1);
    };
    let (endpoint, seen) = serve(None, one_stream, move |_, mut respond, _| {
        let held = held.clone();
        async move {
            held.acquire().await.unwrap().forget();
            let _ = respond.send_response(Response::new(()), true);
        }
    })
    .await;
    let world = bounded(endpoint, at_most(1, 0, PATIENT_MS)).await;
    // One connection: one worker.
    let sender = client(&world).await;
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let sender = sender.clone();
            tokio::spawn(async move { status(&sender, "/").await })
        })
        .collect();
    world.metric_is("proxy_inflight_requests", 3).await;
    let_go.add_permits(3);
    for asked in asked {
        assert_eq!(within(asked).await.unwrap(), 200);
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
}

/// Of requests that wait at one worker, one opens a connection and all share it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_is_enough_for_all_who_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = bounded(address, at_most(1, 100, PATIENT_MS)).await;
    let senders: Vec<SendRequest<Bytes>> = {
        let mut senders = Vec::new();
        for _ in 0..8 {
            senders.push(client(&world).await);
        }
        senders
    };
    // Whoever comes first opens it, which takes as long as nobody speaks there; the requests of the other worker wait.
    let asked: Vec<_> = senders
        .into_iter()
        .map(|sender| tokio::spawn(async move { status(&sender, "/").await }))
        .collect();
    world.metric_is("proxy_inflight_requests", 8).await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = server.accept().await {
                    let _ = respond.send_response(Response::new(()), true);
                }
            });
        }
    });
    for asked in asked {
        assert_eq!(within(asked).await.unwrap(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_rests_for_as_long_as_its_pool_says() {
    let ended = Arc::new(Semaphore::new(0));
    let tells = ended.clone();
    let endpoint = upstream(move |stream, _| {
        let ended = tells.clone();
        async move {
            let mut server = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = server.accept().await {
                let _ = respond.send_response(Response::new(()), true);
            }
            ended.add_permits(1);
        }
    });
    let brief = PoolConnections {
        idle_millis: Bounded::new(1_000).unwrap(),
        ..PoolConnections::default()
    };
    let world = bounded(endpoint.await, brief).await;
    assert!(world.get("/").await.starts_with("HTTP/1.1 200"));
    // Far less than the 30 s of those that say nothing.
    within(ended.acquire()).await.unwrap().forget();
}
