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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
async fn workers_share_one_connection() {
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

/// One worker's connection is never without a request, and the other one's requests go over it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_rests_is_shared_too() {
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

/// A server that answers a request when it is let, but `/quick` and `/leave` at once.
async fn held(configure: fn(&mut h2::server::Builder)) -> (SocketAddr, Arc<Seen>, Arc<Semaphore>) {
    let let_go = Arc::new(Semaphore::new(0));
    let held = let_go.clone();
    let (endpoint, seen) = serve(None, configure, move |request, mut respond, _| {
        let held = held.clone();
        async move {
            if !matches!(request.uri().path(), "/quick" | "/leave") {
                held.acquire().await.unwrap().forget();
            }
            let _ = respond.send_response(Response::new(()), true);
        }
    })
    .await;
    (endpoint, seen, let_go)
}

/// Waits until a request is there.
async fn has_come(seen: &Seen) {
    within(async {
        while seen.requests.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn one_stream(builder: &mut h2::server::Builder) {
    builder.max_concurrent_streams(1);
}

/// Where connections are full and there may be no other, a request waits as it would for a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_stream_is_one_who_waits() {
    let (endpoint, seen, let_go) = held(one_stream).await;
    let world = bounded(endpoint, at_most(1, 2, PATIENT_MS)).await;
    // One connection: one worker. The others meet either.
    let sender = client(&world).await;
    let ask = || {
        let sender = sender.clone();
        tokio::spawn(async move { status(&sender, "/").await })
    };
    let mut asked = vec![ask()];
    has_come(&seen).await;
    asked.push(ask());
    world.metric_is("proxy_pending_requests", 1).await;
    let other = world.clone();
    let other = tokio::spawn(async move { other.get("/other").await });
    world.metric_is("proxy_pending_requests", 2).await;
    for _ in 0..4 {
        let refused = world.get("/").await;
        assert!(
            refused.starts_with("HTTP/1.1 503") && refused.contains("overloaded"),
            "{refused}"
        );
    }
    let_go.add_permits(3);
    for asked in asked {
        assert_eq!(within(asked).await.unwrap(), 200);
    }
    let other = within(other).await.unwrap();
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
    world.metric_is("proxy_pending_requests", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_waited_for_a_stream_for_too_long_is_told_so() {
    let (endpoint, seen, let_go) = held(one_stream).await;
    let world = bounded(endpoint, at_most(1, 9, 50)).await;
    let sender = client(&world).await;
    let first = tokio::spawn({
        let sender = sender.clone();
        async move { status(&sender, "/").await }
    });
    has_come(&seen).await;
    assert_eq!(status(&sender, "/").await, 503);
    let_go.add_permits(1);
    assert_eq!(within(first).await.unwrap(), 200);
    assert_eq!(seen.requests.load(Ordering::Relaxed), 1);
}

/// A request that lasts keeps nobody from the other streams of its connection, whichever worker he meets, though none may wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_lasts_keeps_nobody_out() {
    let (endpoint, seen, let_go) = held(usual).await;
    let world = bounded(endpoint, at_most(1, 0, PATIENT_MS)).await;
    let sender = client(&world).await;
    assert_eq!(status(&sender, "/quick").await, 200);
    let lasts = tokio::spawn(async move { status(&sender, "/lasts").await });
    // Longer than the worker's sweep leaves anything alone.
    let until = tokio::time::Instant::now() + Duration::from_millis(2_500);
    while tokio::time::Instant::now() < until {
        let quick = world.get("/quick").await;
        assert!(quick.starts_with("HTTP/1.1 200"), "{quick}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
    let_go.add_permits(1);
    assert_eq!(within(lasts).await.unwrap(), 200);
}

/// What its endpoint says goes away counts no more, though a request is still on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_goes_away_makes_room_for_another() {
    let (endpoint, seen, let_go) = held(usual).await;
    let world = bounded(endpoint, at_most(1, 0, PATIENT_MS)).await;
    let sender = client(&world).await;
    assert_eq!(status(&sender, "/quick").await, 200);
    let lasts = tokio::spawn({
        let sender = sender.clone();
        async move { status(&sender, "/lasts").await }
    });
    world.metric_is("proxy_inflight_requests", 1).await;
    assert_eq!(status(&sender, "/leave").await, 200);
    for _ in 0..10 {
        let quick = world.get("/quick").await;
        assert!(quick.starts_with("HTTP/1.1 200"), "{quick}");
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 2);
    let_go.add_permits(1);
    assert_eq!(within(lasts).await.unwrap(), 200);
}

/// What an endpoint allows may become more while requests wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_served_when_an_endpoint_allows_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = bounded(listener.local_addr().unwrap(), at_most(1, 100, PATIENT_MS)).await;
    let more = Arc::new(Semaphore::new(0));
    let allows = more.clone();
    // By hand: the codec's server says once what it allows.
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut reads, mut writes) = stream.into_split();
        let settings = |streams: u8| [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, streams];
        writes.write_all(&settings(1)).await.unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            reads.read_exact(&mut [0; 24]).await.unwrap();
            let mut head = [0; 9];
            while reads.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                reads.read_exact(&mut vec![0; length as usize]).await.unwrap();
                if head[3] == 1 {
                    tell.send([head[5], head[6], head[7], head[8]]).unwrap();
                }
            }
        });
        told.recv().await.unwrap(); // This one lasts.
        allows.acquire().await.unwrap().forget();
        writes.write_all(&settings(100)).await.unwrap();
        while let Some(id) = told.recv().await {
            let answer = [&[0, 0, 1, 1, 5], id.as_slice(), &[0x88]].concat();
            writes.write_all(&answer).await.unwrap();
        }
    });
    let sender = client(&world).await;
    let lasts = tokio::spawn(async move { status(&sender, "/lasts").await });
    world.metric_is("proxy_inflight_requests", 1).await;
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.get("/quick").await })
        })
        .collect();
    world.metric_is("proxy_pending_requests", 20).await;
    more.add_permits(1);
    for asked in asked {
        let answer = within(asked).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    lasts.abort();
}

/// One that is being opened is for the requests of all workers, though none may wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_being_opened_is_for_all() {
    for _ in 0..10 {
        let (endpoint, seen, _let_go) = held(usual).await;
        let world = bounded(endpoint, at_most(1, 0, PATIENT_MS)).await;
        let asked: Vec<_> = (0..40)
            .map(|_| {
                let world = world.clone();
                tokio::spawn(async move { world.get("/quick").await })
            })
            .collect();
        for asked in asked {
            let answer = within(asked).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
    }
}

/// A stream goes to who has waited longest, whichever worker he is at, and nobody overtakes him.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_given_in_the_order_in_which_requests_came() {
    let order: Arc<Mutex<Vec<usize>>> = Arc::default();
    let let_go = Arc::new(Semaphore::new(0));
    let (writes, held) = (order.clone(), let_go.clone());
    let (endpoint, _) = serve(None, one_stream, move |request, mut respond, _| {
        let (writes, held) = (writes.clone(), held.clone());
        async move {
            let number = request.uri().path()[1..].parse().unwrap();
            writes.lock().unwrap().push(number);
            if number == 0 {
                held.acquire().await.unwrap().forget();
            }
            let _ = respond.send_response(Response::new(()), true);
        }
    })
    .await;
    let world = bounded(endpoint, at_most(1, 1_000, PATIENT_MS)).await;
    let mut asked = Vec::new();
    for number in 0..60_usize {
        let other = world.clone();
        asked.push(tokio::spawn(async move { other.get(&format!("/{number}")).await }));
        if number == 0 {
            while order.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } else {
            world.metric_is("proxy_pending_requests", number as u64).await;
        }
    }
    let_go.add_permits(1);
    for asked in asked {
        let answer = within(asked).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(*order.lock().unwrap(), (0..60).collect::<Vec<_>>());
}

/// Another one that cannot be opened costs nobody what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_be_opened_costs_nobody_those_that_are() {
    let endpoint = upstream(|stream, connection| async move {
        if connection > 0 {
            // Says nothing.
            std::future::pending::<()>().await;
        }
        let mut server = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = server.accept().await {
            let _ = respond.send_response(Response::new(()), true);
        }
    });
    let world = bounded(endpoint.await, at_most(2, 0, PATIENT_MS)).await;
    for _ in 0..40 {
        let answer = world.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
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
