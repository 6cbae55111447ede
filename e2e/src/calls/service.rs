//! A service with calls of every kind. Messages are bytes; which call it is stands in its metadata.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// The number of a call, in its metadata.
pub(super) const CALL: &str = "x-call";
/// Messages of a stream from the service.
pub(super) const MANY: usize = 20;
/// More than a message here has; tonic's own limit is 4 MiB.
pub(super) const LARGEST: usize = 16 << 20;

/// Messages are bytes.
pub(super) fn codec() -> ProstCodec<Bytes, Bytes> {
    ProstCodec::default()
}

/// Whether a connection has been broken.
pub(super) type Broken = Arc<AtomicBool>;

/// What the service has seen, over all its endpoints.
#[derive(Debug, Default)]
pub struct Seen {
    calls: Mutex<HashMap<u64, Call>>,
}

#[derive(Debug, Default)]
struct Call {
    connections: Vec<Broken>,
    begun: Arc<Notify>,
    gone: Arc<Notify>,
}

impl Seen {
    /// On how many connections a call came, and whether one of them was broken since.
    pub fn of(&self, call: u64) -> (usize, bool) {
        let calls = self.calls.lock().expect("a lock");
        let connections = calls.get(&call).map_or(&[][..], |call| &call.connections);
        let broken = connections.iter().any(|broken| broken.load(Ordering::Relaxed));
        (connections.len(), broken)
    }

    /// Rung when a call that hangs begins, and when it is given up.
    pub fn bells(&self, call: u64) -> (Arc<Notify>, Arc<Notify>) {
        let mut calls = self.calls.lock().expect("a lock");
        let call = calls.entry(call).or_default();
        (call.begun.clone(), call.gone.clone())
    }

    fn came(&self, call: u64, connection: Broken) {
        let mut calls = self.calls.lock().expect("a lock");
        calls.entry(call).or_default().connections.push(connection);
    }
}

/// The number in a call's metadata.
fn number(headers: &http::HeaderMap) -> u64 {
    let value = headers.get(CALL).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

/// Answers a call that came over this connection.
pub(super) async fn answer(
    seen: Arc<Seen>,
    connection: Broken,
    request: http::Request<Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    let number = number(request.headers());
    seen.came(number, connection);
    let request = request.map(Body::new);
    let mut grpc = tonic::server::Grpc::new(codec())
        .max_decoding_message_size(LARGEST)
        .max_encoding_message_size(LARGEST);
    Ok(match request.uri().path() {
        "/calls.Calls/Echo" => grpc.unary(Handler(echo_one), request).await,
        "/calls.Calls/Refuse" => grpc.unary(Handler(refuse), request).await,
        "/calls.Calls/Late" => grpc.unary(Handler(late), request).await,
        "/calls.Calls/Hang" => grpc.unary(Hang(seen.bells(number)), request).await,
        "/calls.Calls/Count" => grpc.client_streaming(Handler(count), request).await,
        "/calls.Calls/Many" => grpc.server_streaming(Handler(many), request).await,
        _ => grpc.streaming(Handler(echo_all), request).await,
    })
}

/// A function as a service.
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

fn echo_one(request: Request<Bytes>) -> BoxFuture<Response<Bytes>, Status> {
    Box::pin(async move { Ok(Response::new(request.into_inner())) })
}

fn refuse(_: Request<Bytes>) -> BoxFuture<Response<Bytes>, Status> {
    Box::pin(async { Err(Status::failed_precondition("not so: 100 %")) })
}

/// Waits for the caller's deadline.
fn late(request: Request<Bytes>) -> BoxFuture<Response<Bytes>, Status> {
    Box::pin(async move {
        let deadline = request
            .metadata()
            .get("grpc-timeout")
            .and_then(|text| text.to_str().ok());
        let nanos = deadline.and_then(|text| text.strip_suffix('n')?.parse().ok());
        let Some(nanos) = nanos else {
            return Err(Status::internal(format!("the deadline that came is {deadline:?}")));
        };
        tokio::time::sleep(Duration::from_nanos(nanos)).await;
        Err(Status::deadline_exceeded("as the caller said"))
    })
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

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Ends with an error in the trailers.
fn many(request: Request<Bytes>) -> BoxFuture<Response<Messages>, Status> {
    Box::pin(async move {
        let message = request.into_inner();
        let all = (0..MANY).map(move |_| Ok(message.clone()));
        let end = std::iter::once(Err(Status::data_loss("in the trailers")));
        Ok(Response::new(Box::pin(tokio_stream::iter(all.chain(end))) as Messages))
    })
}

fn echo_all(request: Request<Streaming<Bytes>>) -> BoxFuture<Response<Messages>, Status> {
    Box::pin(async move { Ok(Response::new(Box::pin(request.into_inner()) as Messages)) })
}

/// A call that has no end of its own.
struct Hang((Arc<Notify>, Arc<Notify>));

/// Rings when it goes.
struct Gone(Arc<Notify>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Service<Request<Bytes>> for Hang {
    type Response = Response<Bytes>;
    type Error = Status;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let (begun, gone) = self.0.clone();
        Box::pin(async move {
            let _gone = Gone(gone);
            begun.notify_one();
            pending().await
        })
    }
}
