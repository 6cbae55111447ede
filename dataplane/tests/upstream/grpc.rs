//! gRPC end to end: tonic on both ends, HTTP/2 in, h2c and HTTP/2 over TLS out.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use sluice_model::unit::UpstreamProtocol;
use tokio::sync::Notify;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::server::*;
use super::world::*;

/// Messages are bytes.
pub(super) fn codec() -> ProstCodec<Bytes, Bytes> {
    ProstCodec::default()
}

/// More than a message here has; tonic's own limit is 4 MiB.
const LARGEST: usize = 16 << 20;

/// A service of all kinds of calls.
#[derive(Clone, Default)]
struct Calls {
    begun: Arc<Notify>,
    gone: Arc<Notify>,
}

impl NamedService for Calls {
    const NAME: &'static str = "calls.Calls";
}

struct Handler<F>(F);

impl<F, R, O> Service<R> for Handler<F>
where
    F: Fn(R) -> BoxFuture<O, Status>,
{
    type Response = O;
    type Error = Status;
    type Future = BoxFuture<O, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        (self.0)(request)
    }
}

pub(super) type Messages = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<Bytes, Status>> + Send>>;

struct Gone(Arc<Notify>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn echo_one(request: Request<Bytes>) -> BoxFuture<Response<Bytes>, Status> {
    Box::pin(async move {
        let deadline = request.metadata().get("grpc-timeout").cloned();
        let mut response = Response::new(request.into_inner());
        if let Some(deadline) = deadline {
            response.metadata_mut().insert("x-deadline", deadline);
        }
        Ok(response)
    })
}

fn refuse(_: Request<Bytes>) -> BoxFuture<Response<Bytes>, Status> {
    Box::pin(async { Err(Status::failed_precondition("not so: 100 %")) })
}

fn count(request: Request<Streaming<Bytes>>) -> BoxFuture<Response<Bytes>, Status> {
    Box::pin(async move {
        let mut messages = request.into_inner();
        let mut count = 0_u32;
        while messages.message().await?.is_some() {
            count += 1;
        }
        Ok(Response::new(count.to_string().into()))
    })
}

fn many(request: Request<Bytes>) -> BoxFuture<Response<Messages>, Status> {
    Box::pin(async move {
        let message = request.into_inner();
        let all = (0..100).map(move |_| Ok(message.clone()));
        let end = std::iter::once(Err(Status::data_loss("in the trailers")));
        Ok(Response::new(Box::pin(tokio_stream::iter(all.chain(end))) as Messages))
    })
}

fn echo_all(request: Request<Streaming<Bytes>>) -> BoxFuture<Response<Messages>, Status> {
    Box::pin(async move { Ok(Response::new(Box::pin(request.into_inner()) as Messages)) })
}

/// Its call that has no end.
impl Service<Request<Bytes>> for Calls {
    type Response = Response<Bytes>;
    type Error = Status;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let (begun, gone) = (self.begun.clone(), Gone(self.gone.clone()));
        Box::pin(async move {
            begun.notify_one();
            let _gone = gone;
            pending().await
        })
    }
}

impl Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(codec()).max_decoding_message_size(LARGEST);
            Ok(match request.uri().path() {
                "/calls.Calls/Echo" => grpc.unary(Handler(echo_one), request).await,
                "/calls.Calls/Refuse" => grpc.unary(Handler(refuse), request).await,
                "/calls.Calls/Hang" => grpc.unary(this, request).await,
                "/calls.Calls/Count" => grpc.client_streaming(Handler(count), request).await,
                "/calls.Calls/Many" => grpc.server_streaming(Handler(many), request).await,
                _ => grpc.streaming(Handler(echo_all), request).await,
            })
        })
    }
}

/// A server of this service, over TLS if it is given a certificate and its key.
pub(super) async fn start<S>(calls: &S, tls: Option<(String, String)>) -> SocketAddr
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let mut server = Server::builder();
    if let Some((certificate, key)) = tls {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        server = server.tls_config(tls).unwrap();
    }
    let serving = server.add_service(calls.clone()).serve_with_incoming(incoming);
    tokio::spawn(async move { serving.await.unwrap() });
    address
}

pub(super) type Client = tonic::client::Grpc<Channel>;

pub(super) async fn client(world: &World) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{}", world.address)).unwrap();
    let endpoint = endpoint.origin("http://a.test".parse().unwrap());
    tonic::client::Grpc::new(endpoint.connect().await.unwrap()).max_decoding_message_size(LARGEST)
}

pub(super) fn path(name: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(name)
}

async fn unary(client: &Client, name: &'static str, message: impl Into<Bytes>) -> Result<Response<Bytes>, Status> {
    let mut client = client.clone();
    client.ready().await.unwrap();
    within(client.unary(Request::new(message.into()), path(name), codec())).await
}

/// Every kind of call, by this way.
async fn check_calls(world: &World) {
    let client = client(world).await;
    let answer = unary(&client, "/calls.Calls/Echo", "hello").await.unwrap();
    assert_eq!(answer.into_inner(), "hello");
    let large = Bytes::from(vec![7; 4 << 20]);
    let answer = unary(&client, "/calls.Calls/Echo", large.clone()).await.unwrap();
    assert!(answer.into_inner() == large);
    // Trailers only: the status comes in the head.
    let refused = unary(&client, "/calls.Calls/Refuse", "").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "not so: 100 %")
    );
    let mut streams = client.clone();
    let three = || Request::new(tokio_stream::iter(["a", "b", "c"].map(Bytes::from)));
    streams.ready().await.unwrap();
    let counted = within(streams.client_streaming(three(), path("/calls.Calls/Count"), codec()))
        .await
        .unwrap();
    assert_eq!(counted.into_inner(), "3");
    streams.ready().await.unwrap();
    let one = Request::new(Bytes::from(vec![1; 50_000]));
    let many = within(streams.server_streaming(one, path("/calls.Calls/Many"), codec()))
        .await
        .unwrap();
    let many: Vec<_> = within(many.into_inner().collect::<Vec<_>>()).await;
    assert_eq!(many.iter().filter(|message| message.is_ok()).count(), 100);
    let last = many.last().unwrap().as_ref().unwrap_err();
    assert_eq!((last.code(), last.message()), (Code::DataLoss, "in the trailers"));
    // Both directions at once: the next is sent when the last has come back.
    streams.ready().await.unwrap();
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let messages = Request::new(tokio_stream::wrappers::ReceiverStream::new(messages));
    let both = within(streams.streaming(messages, path("/calls.Calls/Both"), codec()))
        .await
        .unwrap();
    let mut both = both.into_inner();
    for round in 0..20 {
        send.send(Bytes::from(round.to_string())).await.unwrap();
        assert_eq!(within(both.message()).await.unwrap().unwrap(), round.to_string());
    }
    drop(send);
    assert!(within(both.message()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_every_kind_in_the_clear() {
    let calls = Calls::default();
    let world = world(&[start(&calls, None).await], UpstreamProtocol::Http2, None).await;
    check_calls(&world).await;
    let line = world.logged(|line| line["path"] == "/calls.Calls/Refuse").await;
    assert_eq!(
        (&line["status"], &line["grpc_status"]),
        (&200.into(), &9.into()),
        "{line}"
    );
    let line = world.logged(|line| line["path"] == "/calls.Calls/Many").await;
    assert_eq!(line["grpc_status"], 15, "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_every_kind_over_tls() {
    let authority = Authority::new();
    for protocol in [UpstreamProtocol::Http2, UpstreamProtocol::Auto] {
        let endpoint = start(&Calls::default(), Some(authority.pem("api.test"))).await;
        let world = world(&[endpoint], protocol, Some(tls("api.test", Some("t/ca"), None))).await;
        authority.hold(&world, "t/ca");
        check_calls(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_ends_upstream_at_once() {
    let calls = Calls::default();
    let world = world(&[start(&calls, None).await], UpstreamProtocol::Http2, None).await;
    let client = client(&world).await;
    for _ in 0..5 {
        let call = tokio::spawn({
            let client = client.clone();
            async move { unary(&client, "/calls.Calls/Hang", "").await }
        });
        within(calls.begun.notified()).await;
        let left = Instant::now();
        call.abort();
        within(calls.gone.notified()).await;
        println!("cancelled upstream after {:?}", left.elapsed());
        assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_are_passed_on() {
    let world = world(&[start(&Calls::default(), None).await], UpstreamProtocol::Http2, None).await;
    let mut client = client(&world).await;
    client.ready().await.unwrap();
    let mut request = Request::new(Bytes::from_static(b"in time"));
    request.set_timeout(Duration::from_secs(7));
    let answer = within(client.unary(request, path("/calls.Calls/Echo"), codec()))
        .await
        .unwrap();
    assert!(answer.metadata().contains_key("x-deadline"), "{:?}", answer.metadata());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_at_once_over_one_connection() {
    let world = world(&[start(&Calls::default(), None).await], UpstreamProtocol::Http2, None).await;
    let client = client(&world).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let client = client.clone();
        tasks.spawn(async move {
            let answer = unary(&client, "/calls.Calls/Echo", number.to_string()).await;
            answer.map(|answer| answer.into_inner() == number.to_string())
        });
    }
    let answers = within(tasks.join_all()).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(true))), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_fail_here_have_a_status_of_grpc() {
    let setup = Setup::default()
        .pool("gone", &[nobody()])
        .spoken("gone", UpstreamProtocol::Http2, None)
        .route("/gone", "gone", None)
        .pool("slow", &[start(&Calls::default(), None).await])
        .spoken("slow", UpstreamProtocol::Http2, None)
        .route("/calls.Calls/Hang", "slow", Some(100))
        .pool("empty", &[])
        .route("/empty", "empty", None);
    let mut world = World::start(setup).await;
    world.address = world.listen(cleartext()).await;
    let client = client(&world).await;
    for (name, code, category) in [
        ("/gone/Call", Code::Unavailable, "upstream_connect_failed"),
        ("/calls.Calls/Hang", Code::DeadlineExceeded, "request_timeout"),
        ("/empty", Code::Unavailable, "no_endpoint"),
        ("/nobody.Here/Call", Code::Unimplemented, "no_route"),
    ] {
        let status = unary(&client, name, "").await.unwrap_err();
        assert_eq!(status.code(), code, "{name}: {status:?}");
        let line = world.logged(|line| line["error_category"] == category).await;
        assert_eq!(line["grpc_status"], code as i32, "{line}");
    }
}
