//! A listener whose clients may have 1,000 calls at a time on one connection: that many are carried, one more is not, and
//! what they pin is bounded.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use sluice_model::client_limits::{Bounded, ClientLimits};
use sluice_model::unit::{UpstreamProtocol, UpstreamTls};
use tokio::sync::Semaphore;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::{Request, Status};

use super::client::*;
use super::grpc::{Client, Messages, codec, path, start};
use super::server::{send_all, serve, usual};
use super::world::*;
use super::{grpc, server};

const STREAMS: u64 = 1_000;
const REFUSED_STREAM: u32 = 7;

/// A world with one pool for everything, whose clients may have as many streams as anybody may.
async fn wide(endpoint: SocketAddr, protocol: UpstreamProtocol, tls: Option<UpstreamTls>) -> World {
    let limits = ClientLimits {
        streams: Bounded::new(STREAMS).unwrap(),
        ..ClientLimits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    let setup = setup.pool("all", &[endpoint]).spoken("all", protocol, tls);
    let setup = setup.route("/", "all", None);
    let mut world = World::start(setup).await;
    world.address = world.listen(cleartext()).await;
    world
}

/// Calls that last until they are let go.
#[derive(Clone)]
struct Held {
    came: Arc<AtomicU64>,
    here: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
    go: Arc<Semaphore>,
}

impl Held {
    fn new() -> Self {
        Self {
            came: Arc::default(),
            here: Arc::default(),
            most: Arc::default(),
            go: Arc::new(Semaphore::new(0)),
        }
    }

    async fn hold(self) {
        let here = self.here.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(here, Ordering::Relaxed);
        self.came.fetch_add(1, Ordering::Relaxed);
        self.go.acquire().await.unwrap().forget();
        self.here.fetch_sub(1, Ordering::Relaxed);
    }

    async fn have_come(&self, count: u64) {
        within(async {
            while self.came.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

impl NamedService for Held {
    const NAME: &'static str = "held.Held";
}

impl Service<http::Request<Body>> for Held {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let held = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(codec());
            Ok(if request.uri().path() == "/held.Held/Unary" {
                grpc.unary(Kind(held, unary), request).await
            } else {
                grpc.server_streaming(Kind(held, streaming), request).await
            })
        })
    }
}

/// How calls of one kind are answered.
struct Kind<O>(Held, fn(Held, Request<Bytes>) -> BoxFuture<O, Status>);

impl<O> Service<Request<Bytes>> for Kind<O> {
    type Response = O;
    type Error = Status;
    type Future = BoxFuture<O, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        (self.1)(self.0.clone(), request)
    }
}

fn unary(held: Held, request: Request<Bytes>) -> BoxFuture<tonic::Response<Bytes>, Status> {
    Box::pin(async move {
        held.hold().await;
        Ok(tonic::Response::new(request.into_inner()))
    })
}

/// Says it before it waits, and again after.
fn streaming(held: Held, request: Request<Bytes>) -> BoxFuture<tonic::Response<Messages>, Status> {
    let message = request.into_inner();
    let (send, messages) = tokio::sync::mpsc::channel(2);
    tokio::spawn(async move {
        let _ = send.send(Ok(message.clone())).await;
        held.hold().await;
        let _ = send.send(Ok(message)).await;
    });
    let messages = Box::pin(tokio_stream::wrappers::ReceiverStream::new(messages));
    Box::pin(async move { Ok(tonic::Response::new(messages as Messages)) })
}

/// One call, of either kind; how many messages came back as they were sent.
async fn call(mut client: Client, number: u64) -> Result<usize, Status> {
    let message = Bytes::from(number.to_string());
    let request = Request::new(message.clone());
    client.ready().await.unwrap();
    if number.is_multiple_of(2) {
        let answer = client.unary(request, path("/held.Held/Unary"), codec()).await?;
        return Ok(usize::from(answer.into_inner() == message));
    }
    let answer = client
        .server_streaming(request, path("/held.Held/Stream"), codec())
        .await?;
    let messages: Vec<Result<Bytes, Status>> = answer.into_inner().collect().await;
    Ok(messages
        .into_iter()
        .filter(|came| came.as_ref().is_ok_and(|came| *came == message))
        .count())
}

/// One more than there may be: the last is sent when one of the others has ended, and all succeed.
async fn check_thousand(world: &World, held: &Held) {
    let client = grpc::client(world).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..=STREAMS {
        let client = client.clone();
        calls.spawn(async move { (number, call(client, number).await) });
    }
    held.have_come(STREAMS).await;
    assert_eq!(world.metric("proxy_inflight_requests"), STREAMS);
    held.go.add_permits(1);
    held.have_come(STREAMS + 1).await;
    assert_eq!(held.most.load(Ordering::Relaxed), STREAMS);
    held.go.add_permits(STREAMS as usize);
    for (number, came) in within(calls.join_all()).await {
        let expected = if number.is_multiple_of(2) { 1 } else { 2 };
        assert_eq!(came.unwrap(), expected, "call {number}");
    }
    assert_eq!(world.metric("proxy_connections"), 1);
    assert_eq!(world.metric("proxy_reconnects_total"), 0, "no upstream refused any");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_last_at_once_on_one_connection_in_the_clear() {
    let held = Held::new();
    let world = wide(start(&held, None).await, UpstreamProtocol::Http2, None).await;
    check_thousand(&world, &held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_last_at_once_on_one_connection_over_tls() {
    let (authority, held) = (server::Authority::new(), Held::new());
    let endpoint = start(&held, Some(authority.pem("api.test"))).await;
    let tls = server::tls("api.test", Some("t/ca"), None);
    let world = wide(endpoint, UpstreamProtocol::Http2, Some(tls)).await;
    authority.hold(&world, "t/ca");
    check_thousand(&world, &held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_too_many_is_refused_and_all_may_be_given_up_at_once() {
    let (go, came) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
    let (going, counted) = (go.clone(), came.clone());
    let (endpoint, seen) = serve(None, usual, move |_, mut respond, _| {
        let (go, came) = (going.clone(), counted.clone());
        async move {
            came.fetch_add(1, Ordering::Relaxed);
            go.acquire().await.unwrap().forget();
            drop(respond.send_response(Response::new(()), true));
        }
    })
    .await;
    let world = wide(endpoint, UpstreamProtocol::Http2, None).await;
    let mut raw = Raw::connect(world.address, &[]).await;
    // With a token, as calls between services have one.
    let token = [b'a'; 1_200];
    let head = request("GET", "/", &[(b"authorization", &token)]);
    let ask = |number: u64| frame(HEADERS, END_HEADERS | END_STREAM, 2 * number as u32 + 1, &head);
    for number in 0..=STREAMS {
        assert!(raw.send(&ask(number)).await);
    }
    let refused = raw.next_on(2 * STREAMS as u32 + 1).await.unwrap();
    assert_eq!((refused.kind, refused.code()), (RST_STREAM, REFUSED_STREAM));
    within(async {
        while came.load(Ordering::Relaxed) < STREAMS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // When one has ended there is room for another.
    go.add_permits(1);
    let answer = raw.next_of(HEADERS).await.unwrap();
    assert_eq!(answer.status(), Some(200));
    raw.send(&ask(STREAMS + 1)).await;
    go.add_permits(1);
    assert_eq!(raw.next_of(HEADERS).await.unwrap().status(), Some(200));
    let resets: Vec<u8> = (0..=STREAMS + 1)
        .filter(|number| *number != STREAMS)
        .flat_map(|number| frame(RST_STREAM, 0, 2 * number as u32 + 1, &8_u32.to_be_bytes()))
        .collect();
    raw.send(&resets).await;
    world.metric_is("proxy_inflight_requests", 0).await;
    go.add_permits(STREAMS as usize + 1);
    raw.send(&ask(STREAMS + 2)).await;
    assert_eq!(
        raw.next_on(2 * (STREAMS as u32 + 2) + 1).await.unwrap().status(),
        Some(200)
    );
    assert!(
        seen.connections.load(Ordering::Relaxed) <= 16,
        "as many as a worker may have"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_streams_hold_that_nobody_reads_is_bounded() {
    const READ_BY_NOBODY: u64 = 200;
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let (endpoint, _) = serve(None, usual, move |_, mut respond, _| {
        let count = count.clone();
        async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            let piece = Bytes::from(vec![7; 16 << 10]);
            while send_all(&mut send, piece.clone()).await.is_ok() {
                count.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        }
    })
    .await;
    let world = wide(endpoint, UpstreamProtocol::Http2, None).await;
    // Windows as large as there are, and nothing is read.
    let mut raw = Raw::connect(world.address, &[(4, i32::MAX as u32)]).await;
    let window = frame(WINDOW_UPDATE, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes());
    assert!(raw.send(&window).await);
    for number in 0..READ_BY_NOBODY {
        let ask = frame(HEADERS, END_HEADERS | END_STREAM, 2 * number as u32 + 1, &get("/"));
        assert!(raw.send(&ask).await);
    }
    let mut before = u64::MAX;
    let steady = async {
        while before != sent.load(Ordering::Relaxed) || before == 0 {
            before = sent.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    within(steady).await;
    let held = before / READ_BY_NOBODY;
    println!("{held} bytes for each stream");
    // The upstream's window, a piece that waits, a frame in the codec, and the kernel's part.
    assert!(held < 144 << 10, "{held} bytes for each that takes nothing");
}
