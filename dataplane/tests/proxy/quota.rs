//! Pools that bound the connections to their endpoints, and say how long one may rest and take to open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request};
use sluice_model::client_limits::Bounded;
use sluice_model::limits::UPSTREAM_TRUSTED_IDLE_MILLIS;
use sluice_model::pool_connections::PoolConnections;
use sluice_model::unit::{Http2, Listener, TimeoutMillis, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::world::*;

/// Long enough for everything that is to happen.
const PATIENT_MS: u64 = 60_000;
/// Requests that wait.
const PENDING: &str = "proxy_pending_requests";

/// An upstream that answers a request when it is let.
#[derive(Clone)]
struct Slow {
    address: SocketAddr,
    /// One is answered for each.
    let_go: Arc<Semaphore>,
    /// Requests that came, those that are there, and the most that were there at a time.
    came: Arc<AtomicUsize>,
    there: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    /// Connections that came.
    opened: Arc<AtomicUsize>,
}

async fn slow() -> Slow {
    let mut slow = Slow {
        address: ([127, 0, 0, 1], 0).into(),
        let_go: Arc::new(Semaphore::new(0)),
        came: Arc::default(),
        there: Arc::default(),
        most: Arc::default(),
        opened: Arc::default(),
    };
    let serves = slow.clone();
    slow.address = upstream(move |stream, _| serves.clone().serve(stream)).await;
    slow
}

impl Slow {
    async fn serve(self, mut stream: TcpStream) {
        self.opened.fetch_add(1, Ordering::SeqCst);
        while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
            self.came.fetch_add(1, Ordering::SeqCst);
            let there = self.there.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(there, Ordering::SeqCst);
            self.let_go.acquire().await.unwrap().forget();
            self.there.fetch_sub(1, Ordering::SeqCst);
            if stream.write_all(reply("ok").as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn has(&self, there: usize) {
        are(&self.there, there).await;
    }
}

/// Waits until there are so many.
async fn are(count: &AtomicUsize, wanted: usize) {
    within(async {
        while count.load(Ordering::SeqCst) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn world(endpoints: &[SocketAddr], connections: PoolConnections) -> Arc<World> {
    let setup = Setup::default()
        .pool("p", endpoints)
        .connections("p", connections)
        .route("/", "p", None);
    Arc::new(World::start(setup).await)
}

/// A request of a client of its own.
fn ask(world: &Arc<World>, path: &str) -> JoinHandle<String> {
    let (world, path) = (world.clone(), path.to_owned());
    tokio::spawn(async move { world.get(&path).await })
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}

fn is_overloaded(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 503")
        && answer.contains("\"error_category\":\"overloaded\"")
        && answer.contains("retry-after: 1\r\n")
}

/// Nobody was blamed.
fn none_unreached(world: &World) -> bool {
    let page = world.handle.metrics().render();
    let mut lines = page
        .lines()
        .filter(|line| line.starts_with("proxy_upstream_unreached_total{"));
    lines.all(|line| line.ends_with(" 0"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_never_more_than_there_may_be() {
    let slow = slow().await;
    let world = world(&[slow.address], at_most(3, 1_000, PATIENT_MS)).await;
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let world = world.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let answer = world.get(&format!("/{client}/{round}")).await;
                    assert!(is_ok(&answer), "{answer}");
                }
            })
        })
        .collect();
    slow.has(3).await;
    world.metric_is(PENDING, 13).await;
    slow.let_go.add_permits(Semaphore::MAX_PERMITS / 2);
    for client in clients {
        within(client).await.unwrap();
    }
    assert_eq!(slow.most.load(Ordering::SeqCst), 3);
    assert_eq!(slow.came.load(Ordering::SeqCst), 320);
    assert_eq!(world.metric(PENDING), 0);
    assert!(none_unreached(&world));
    let opened = slow.opened.load(Ordering::SeqCst);
    assert!(opened < 320, "connections are handed over: {opened}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_served_when_a_connection_comes_back() {
    let slow = slow().await;
    let world = world(&[slow.address], at_most(1, 6, PATIENT_MS)).await;
    let mut asked = vec![ask(&world, "/first")];
    slow.has(1).await;
    asked.extend((0..6).map(|_| ask(&world, "/next")));
    world.metric_is(PENDING, 6).await;
    assert_eq!(slow.came.load(Ordering::SeqCst), 1);
    slow.let_go.add_permits(7);
    for asked in asked {
        let answer = within(asked).await.unwrap();
        assert!(is_ok(&answer), "{answer}");
    }
    assert_eq!(slow.most.load(Ordering::SeqCst), 1);
}

/// Each client meets either worker, and the only connection rests where the one before was. That it changes hands is no wait,
/// so that none may wait makes no difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rests_at_one_worker_is_given_up_for_another_at_once() {
    let world = world(&[echo().await], at_most(1, 0, PATIENT_MS)).await;
    let asked = async {
        for round in 0..60 {
            let answer = world.get(&format!("/{round}")).await;
            assert!(is_ok(&answer), "{answer}");
        }
    };
    // By the sweep alone each second one would take half a second.
    within(asked).await;
}

/// What must not be sent twice is not given to a connection that has rested for long, and one more there may not be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_rested_too_long_to_be_trusted_makes_room_for_a_fresh_one() {
    let slow = slow().await;
    slow.let_go.add_permits(2);
    let world = world(&[slow.address], at_most(1, 0, PATIENT_MS)).await;
    let mut client = TcpStream::connect(world.address).await.unwrap();
    for request in ["GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 0\r\n"] {
        client
            .write_all(format!("{request}Host: a.test\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let answer = read_until(&mut client, "ok").await;
        assert!(is_ok(&answer), "{answer}");
        tokio::time::sleep(Duration::from_millis(UPSTREAM_TRUSTED_IDLE_MILLIS + 1)).await;
    }
    assert_eq!(slow.opened.load(Ordering::SeqCst), 2);
    assert_eq!(slow.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_too_many_is_told_so_and_sent_nowhere() {
    let slow = slow().await;
    let world = world(&[slow.address], at_most(1, 1, PATIENT_MS)).await;
    let first = ask(&world, "/first");
    slow.has(1).await;
    let second = ask(&world, "/second");
    world.metric_is(PENDING, 1).await;
    let third = world.get("/third").await;
    assert!(is_overloaded(&third), "{third}");
    let call = "POST /call HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let call = world.ask(call).await;
    assert!(
        call.contains("grpc-status: 14\r\n") && call.contains("retry-after: 1\r\n"),
        "{call}"
    );
    let line = world.logged(|line| line["path"] == "/third").await;
    assert_eq!(
        (&line["error_category"], &line["retries"], &line["endpoint"]),
        (&"overloaded".into(), &0.into(), &slow.address.to_string().into()),
        "{line}"
    );
    slow.let_go.add_permits(2);
    for asked in [first, second] {
        assert!(is_ok(&within(asked).await.unwrap()));
    }
    assert_eq!(slow.came.load(Ordering::SeqCst), 2);
    assert!(none_unreached(&world));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_waited_for_too_long_is_told_so() {
    let slow = slow().await;
    let world = world(&[slow.address], at_most(1, 9, 50)).await;
    let first = ask(&world, "/first");
    slow.has(1).await;
    let second = world.get("/second").await;
    assert!(is_overloaded(&second), "{second}");
    slow.let_go.add_permits(1);
    assert!(is_ok(&within(first).await.unwrap()));
    assert_eq!((slow.came.load(Ordering::SeqCst), world.metric(PENDING)), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_with_room_comes_before_waiting() {
    let (one, other) = (slow().await, slow().await);
    let world = world(&[one.address, other.address], at_most(1, 0, PATIENT_MS)).await;
    let first = ask(&world, "/first");
    within(async {
        while one.there.load(Ordering::SeqCst) + other.there.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let (full, free) = match one.there.load(Ordering::SeqCst) {
        0 => (&other, &one),
        _ => (&one, &other),
    };
    free.let_go.add_permits(10);
    // One connection: one worker, whose turns are each one's in turn.
    let mut client = TcpStream::connect(world.address).await.unwrap();
    for number in 0..10 {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "ok").await;
        assert!(is_ok(&answer), "{answer}");
        let line = world.logged(|line| line["path"] == format!("/{number}")).await;
        assert_eq!(
            (&line["endpoint"], &line["retries"]),
            (&free.address.to_string().into(), &0.into()),
            "{line}"
        );
    }
    client
        .write_all(b"GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    free.has(1).await;
    let too_many = world.get("/too-many").await;
    assert!(is_overloaded(&too_many), "{too_many}");
    let line = world.logged(|line| line["path"] == "/too-many").await;
    assert_eq!(line["retries"], 0, "{line}");
    full.let_go.add_permits(1);
    assert!(is_ok(&within(first).await.unwrap()));
    assert!(none_unreached(&world));
}

/// One that cannot be reached is passed by as ever, and who then finds the other full waits there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_be_reached_is_no_place_to_wait_at() {
    let slow = slow().await;
    let world = world(&[nobody(), slow.address], at_most(1, 3, PATIENT_MS)).await;
    let asked: Vec<_> = (0..4).map(|number| ask(&world, &format!("/{number}"))).collect();
    slow.has(1).await;
    world.metric_is(PENDING, 3).await;
    slow.let_go.add_permits(4);
    for asked in asked {
        let answer = within(asked).await.unwrap();
        assert!(is_ok(&answer), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_gives_up_his_place() {
    let slow = slow().await;
    let world = world(&[slow.address], at_most(1, 1, PATIENT_MS)).await;
    let first = ask(&world, "/first");
    slow.has(1).await;
    let mut leaves = TcpStream::connect(world.address).await.unwrap();
    leaves
        .write_all(b"GET /leaves HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    world.metric_is(PENDING, 1).await;
    drop(leaves);
    world.metric_is(PENDING, 0).await;
    let third = ask(&world, "/third");
    world.metric_is(PENDING, 1).await;
    slow.let_go.add_permits(2);
    for asked in [first, third] {
        assert!(is_ok(&within(asked).await.unwrap()));
    }
    assert_eq!(slow.came.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_count_as_long_as_they_last() {
    let own = upstream(|mut stream, _| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let answer = if head.contains("upgrade: own") {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n".to_owned()
        } else {
            reply("ok")
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Until the other side ends.
        while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    });
    let setup = Setup::default()
        .pool("p", &[own.await])
        .connections("p", at_most(1, 1, PATIENT_MS))
        .route("/", "p", None)
        .upgrades("p", &["own"]);
    let world = Arc::new(World::start(setup).await);
    let mut tunnel = TcpStream::connect(world.address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n";
    tunnel.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut tunnel, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let waits = ask(&world, "/");
    world.metric_is(PENDING, 1).await;
    drop(tunnel);
    assert!(is_ok(&within(waits).await.unwrap()));
    // And one that is to be a tunnel gets a connection of its own, in the place of one that rests.
    let head = async {
        let mut tunnel = TcpStream::connect(world.address).await.unwrap();
        tunnel.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut tunnel, "\r\n\r\n").await
    };
    assert!(within(head).await.starts_with("HTTP/1.1 101"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_pool_that_says_the_same_shares_the_bound() {
    let slow = slow().await;
    let setup = |second: PoolConnections| {
        let setup = Setup::default().pool("p", &[slow.address]).pool("q", &[slow.address]);
        let setup = setup.connections("p", at_most(1, 0, 1_000)).connections("q", second);
        setup.route("/p", "p", None).route("/q", "q", None)
    };
    let world = Arc::new(World::start(setup(at_most(1, 0, 1_000))).await);
    let first = ask(&world, "/p");
    slow.has(1).await;
    assert!(is_overloaded(&world.get("/q").await));
    world.serve(2, setup(at_most(1, 0, 2_000)));
    let second = ask(&world, "/q");
    slow.has(2).await;
    assert!(is_overloaded(&world.get("/p").await), "as before the swap");
    slow.let_go.add_permits(2);
    for asked in [first, second] {
        assert!(is_ok(&within(asked).await.unwrap()));
    }
}

/// The first is full, and none of the others can be reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_else_can_be_reached_one_waits_at_the_full_one() {
    let slow = slow().await;
    let endpoints = [slow.address, nobody(), nobody(), nobody()];
    let world = world(&endpoints, at_most(1, 1_000, PATIENT_MS)).await;
    let first = ask(&world, "/first");
    let mut asked = vec![first];
    // Some begin with those three, and give up then.
    within(async {
        while world.metric(PENDING) < 5 {
            asked.push(ask(&world, "/next"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    slow.has(1).await;
    slow.let_go.add_permits(asked.len());
    let mut served = 0;
    for asked in asked {
        let answer = within(asked).await.unwrap();
        assert!(is_ok(&answer) || answer.starts_with("HTTP/1.1 502"), "{answer}");
        served += usize::from(is_ok(&answer));
    }
    assert!(served >= 6, "{served}");
}

/// Who waits, waits at all that are full, and is served by the one that has room first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_waits_at_all_that_are_full() {
    let (one, other) = (slow().await, slow().await);
    let world = world(&[one.address, other.address], at_most(1, 100, PATIENT_MS)).await;
    let held: Vec<_> = (0..2).map(|_| ask(&world, "/held")).collect();
    one.has(1).await;
    other.has(1).await;
    // Half of them have their turn at the one that stays full.
    let waits: Vec<_> = (0..8).map(|number| ask(&world, &format!("/{number}"))).collect();
    world.metric_is(PENDING, 8).await;
    other.let_go.add_permits(9);
    for waits in waits {
        let answer = within(waits).await.unwrap();
        assert!(is_ok(&answer), "{answer}");
    }
    assert_eq!((one.came.load(Ordering::SeqCst), world.metric(PENDING)), (1, 0));
    let line = world.logged(|line| line["path"] == "/0").await;
    assert_eq!(
        (&line["endpoint"], &line["retries"]),
        (&other.address.to_string().into(), &0.into()),
        "{line}"
    );
    one.let_go.add_permits(1);
    for held in held {
        assert!(is_ok(&within(held).await.unwrap()));
    }
}

/// The time of a request is over while it waits: no endpoint has got anything of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_time_is_over_while_it_waits_is_no_upstreams_failure() {
    let slow = slow().await;
    let setup = Setup::default()
        .pool("p", &[slow.address])
        .connections("p", at_most(1, 9, PATIENT_MS))
        .pool("q", &[slow.address])
        .connections("q", at_most(1, 9, PATIENT_MS))
        .route("/", "p", Some(300))
        .route("/first", "q", None);
    let world = Arc::new(World::start(setup).await);
    let first = ask(&world, "/first");
    slow.has(1).await;
    let second = world.get("/second").await;
    assert!(is_overloaded(&second), "{second}");
    slow.let_go.add_permits(1);
    assert!(is_ok(&within(first).await.unwrap()));
}

/// A small body that is on its way is read, and its connection serves the next request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_refused_keeps_its_connection() {
    let slow = slow().await;
    let world = world(&[slow.address], at_most(1, 0, PATIENT_MS)).await;
    let first = ask(&world, "/first");
    slow.has(1).await;
    let mut client = TcpStream::connect(world.address).await.unwrap();
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello";
    for _ in 0..2 {
        client.write_all(post.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "}\n").await;
        assert!(
            is_overloaded(&answer) && !answer.contains("connection: close"),
            "{answer}"
        );
    }
    // Who waits to be told to go on is not told to.
    let asks = post.replace("\r\n\r\nhello", "\r\nExpect: 100-continue\r\n\r\n");
    let answer = world.ask(&asks).await;
    assert!(
        is_overloaded(&answer) && answer.contains("connection: close"),
        "{answer}"
    );
    slow.let_go.add_permits(1);
    assert!(is_ok(&within(first).await.unwrap()));
}

/// Several at the same moment, for each of which one that rests is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_that_rests_makes_room_for_one() {
    let slow = slow().await;
    let world = world(&[slow.address], at_most(4, 0, PATIENT_MS)).await;
    for _ in 0..3 {
        let asked: Vec<_> = (0..4).map(|_| ask(&world, "/")).collect();
        slow.has(4).await;
        slow.let_go.add_permits(4);
        for asked in asked {
            assert!(is_ok(&within(asked).await.unwrap()));
        }
        tokio::time::sleep(Duration::from_millis(UPSTREAM_TRUSTED_IDLE_MILLIS + 1)).await;
        let posts: Vec<_> = (0..4)
            .map(|_| {
                let world = world.clone();
                let post = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                tokio::spawn(async move { world.ask(post).await })
            })
            .collect();
        slow.has(4).await;
        slow.let_go.add_permits(4);
        for post in posts {
            let answer = within(post).await.unwrap();
            assert!(is_ok(&answer), "{answer}");
        }
        tokio::time::sleep(Duration::from_millis(UPSTREAM_TRUSTED_IDLE_MILLIS + 1)).await;
    }
    assert_eq!(slow.most.load(Ordering::SeqCst), 4);
}

/// The kernel holds a few connections for one who does not accept, and answers no more.
async fn deaf() -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let deaf = socket.listen(1).unwrap();
    let address = deaf.local_addr().unwrap();
    let mut kept = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        kept.push(stream.unwrap());
    }
    (address, (deaf, kept))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_takes_as_long_as_it_may() {
    let (address, _kept) = deaf().await;
    let quick = PoolConnections {
        connect_millis: Bounded::new(70).unwrap(),
        ..PoolConnections::default()
    };
    let world = world(&[address], quick).await;
    let answer = world.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    let line = world.logged(|line| line["status"] == 502).await;
    assert_eq!(line["upstream_error"], "connect: no answer within 70 ms", "{line}");
}

/// One that has a body of which nothing was sent goes elsewhere, also if a try has less time than a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_that_ends_before_a_connection_is_there_costs_no_request() {
    let (deaf, _kept) = deaf().await;
    let setup = Setup::default()
        .pool("p", &[deaf, echo().await])
        .connections("p", patient())
        .route("/", "p", None)
        .forward("p", |forward| {
            forward.timeouts = Arc::new(Timeouts {
                per_try: TimeoutMillis::new(200),
                ..Timeouts::default()
            });
        });
    let world = World::start(setup).await;
    for _ in 0..4 {
        let post = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        let answer = within(world.ask(post)).await;
        assert!(is_ok(&answer), "{answer}");
    }
    assert!(none_unreached(&world), "it may only be slow");
}

fn patient() -> PoolConnections {
    PoolConnections {
        connect_millis: Bounded::new(PATIENT_MS).unwrap(),
        ..PoolConnections::default()
    }
}

/// A connection at rest that its upstream has closed is nobody's due: for who waits another one is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_rest_that_is_dead_serves_nobody() {
    let (first, let_go, hang_up) = (
        Arc::new(Semaphore::new(0)),
        Arc::new(Semaphore::new(0)),
        Arc::new(Semaphore::new(0)),
    );
    let there = Arc::new(AtomicUsize::new(0));
    let server = {
        let (first, let_go, hang_up, there) = (first.clone(), let_go.clone(), hang_up.clone(), there.clone());
        upstream(move |mut stream, connection| {
            let (first, let_go, hang_up, there) = (first.clone(), let_go.clone(), hang_up.clone(), there.clone());
            async move {
                while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
                    there.fetch_add(1, Ordering::SeqCst);
                    let turn = if connection == 0 { &first } else { &let_go };
                    turn.acquire().await.unwrap().forget();
                    there.fetch_sub(1, Ordering::SeqCst);
                    stream.write_all(reply("ok").as_bytes()).await.unwrap();
                    if connection == 0 {
                        // It has rested longest by then.
                        hang_up.acquire().await.unwrap().forget();
                        stream.shutdown().await.unwrap();
                        read_all(&mut stream).await;
                        there.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
            }
        })
    };
    let setup = Setup::default().pool("p", &[server.await]).route("/", "p", None);
    let mut world = World::start(setup.connections("p", at_most(2, 0, PATIENT_MS))).await;
    let http2 = Listener {
        http2: Http2::PriorKnowledge,
        ..listener("http", 80)
    };
    world.address = world.listen(http2).await;
    // One connection: one worker.
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let ask = |method: Method| {
        let request = Request::builder()
            .method(method)
            .uri("http://a.test/")
            .body(())
            .unwrap();
        let sender = sender.clone();
        tokio::spawn(async move {
            let (response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
            within(response).await.unwrap().status()
        })
    };
    let both = [ask(Method::GET), ask(Method::GET)];
    are(&there, 2).await;
    first.add_permits(1);
    are(&there, 1).await;
    let_go.add_permits(1);
    for asked in both {
        assert_eq!(within(asked).await.unwrap(), 200);
    }
    tokio::time::sleep(Duration::from_millis(UPSTREAM_TRUSTED_IDLE_MILLIS + 1)).await;
    hang_up.add_permits(1);
    // It has closed it too; until the worker's next sweep it is kept with the others.
    are(&there, 1).await;
    let long = ask(Method::POST);
    are(&there, 2).await;
    let second = ask(Method::POST);
    // Sooner than the server, which waits for 10 s, closes the other one.
    let soon = tokio::time::timeout(Duration::from_secs(5), are(&there, 3)).await;
    assert!(soon.is_ok(), "the one that is left was not closed for it");
    let_go.add_permits(2);
    for asked in [long, second] {
        assert_eq!(within(asked).await.unwrap(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_rests_for_as_long_as_its_pool_says() {
    let ended = Arc::new(Semaphore::new(0));
    let server = || {
        let ended = ended.clone();
        upstream(move |mut stream, _| {
            let ended = ended.clone();
            async move {
                while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
                    stream.write_all(reply("ok").as_bytes()).await.unwrap();
                }
                ended.add_permits(1);
            }
        })
    };
    let brief = PoolConnections {
        idle_millis: Bounded::new(1_000).unwrap(),
        ..PoolConnections::default()
    };
    let setup = Setup::default()
        .pool("brief", &[server().await])
        .connections("brief", brief)
        .pool("usual", &[server().await]);
    let world = World::start(setup.route("/brief", "brief", None).route("/usual", "usual", None)).await;
    for path in ["/brief", "/usual"] {
        assert!(is_ok(&world.get(path).await));
    }
    // Far less than the 30 s of those that say nothing.
    within(ended.acquire()).await.unwrap().forget();
    assert_eq!(ended.available_permits(), 0, "the other one rests");
}
