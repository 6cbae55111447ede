//! Sending a request to an endpoint of its pool: over an idle connection if there is a good one, else a fresh one.
//!
//! An endpoint that cannot be reached has got nothing of the request, which goes to another one of its pool.
//!
//! An idle connection may be closed by the upstream in the very moment it is used. That must not be the client's
//! problem: what was not written is sent again; what was written is sent again, once, if it has no body and doing it
//! twice is doing it once. Everything else gets a connection that was used a moment ago, or a fresh one.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::HOST;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use sluice_model::limits::{MAX_CONNECT_ATTEMPTS, UPSTREAM_CONNECT_TIMEOUT_MILLIS, UPSTREAM_TRUSTED_IDLE_MILLIS};
use tokio::net::TcpStream;

use super::Answer;
use super::body::{ClientBody, Progress, RequestBody, upstream_failure};
use super::exchange::Exchange;
use super::failure::{Failure, Retryable};
use super::headers::Survey;
use super::interim::{Allowance, Bounded};
use super::upgrade;
use crate::worker::Worker;

/// A connection to an endpoint.
pub(crate) struct Upstream {
    sender: SendRequest<RequestBody>,
    allowance: Allowance,
}

impl Upstream {
    /// Whether it is of no more use.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// The connection that a response comes by, to be given back when all of it has come.
pub(crate) struct Lease {
    upstream: Upstream,
    address: SocketAddr,
}

impl Lease {
    /// Gives the connection back, unless the request was answered before all of it was sent: then something of it may
    /// still be on the way.
    pub(super) fn give_back(self, exchange: &Exchange, now: Instant) {
        let body = exchange.request_body.as_ref().map(|watch| watch.progress.get());
        let clean = matches!(body, None | Some(Progress::Done));
        if clean && !self.upstream.is_closed() {
            drop(exchange.worker.idle.borrow_mut().put(self.address, self.upstream, now));
        }
    }
}

/// Whether a request that may have been acted upon can be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repeat {
    /// It is the same twice as once, and there is no body that is gone.
    Harmless,
    /// Once only.
    Never,
}

fn repeat(method: &Method, body: &RequestBody) -> Repeat {
    let idempotent = matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    match body {
        RequestBody::Empty if idempotent => Repeat::Harmless,
        RequestBody::Empty | RequestBody::Client(_, _, _) => Repeat::Never,
    }
}

/// How an attempt ended without an answer.
// Lives for one call: moving it once is cheaper than a box for every request.
#[allow(clippy::large_enum_variant)]
pub(super) enum Miss {
    /// Not a byte was written: here is the request again.
    Unsent(Request<RequestBody>),
    /// There was no connection to write it to, and here it is again: another endpoint may do.
    Unreached(Request<RequestBody>, Failure),
    /// It may have been acted upon.
    Sent(Failure),
}

/// Sends the request to the endpoint whose turn it is. If that cannot be reached, it has got nothing of the request, which
/// goes to the next one; each is tried once. The request's own time limit covers all of it.
pub(super) async fn forward(exchange: &mut Exchange, request: Request<ClientBody>) -> Result<Answer, Failure> {
    let mut tried = Vec::new();
    let mut failure = Failure::NoEndpoint;
    let mut request = outgoing(exchange, request);
    while tried.len() < MAX_CONNECT_ATTEMPTS
        && let Some(address) = choose(exchange, &tried)?
    {
        name_host(exchange, &mut request)?;
        (request, failure) = match at_endpoint(exchange, address, request).await {
            Ok(answer) => return Ok(answer),
            Err(Miss::Sent(failure)) => return Err(failure),
            Err(Miss::Unsent(request)) => (request, Failure::UpstreamReset),
            Err(Miss::Unreached(request, failure)) => (request, failure),
        };
        exchange.not_reached();
        tried.push(address);
    }
    Err(failure)
}

/// Sends the request to this endpoint, over a connection that rests or a fresh one.
async fn at_endpoint(
    exchange: &mut Exchange,
    address: SocketAddr,
    mut request: Request<RequestBody>,
) -> Result<Answer, Miss> {
    if exchange.upgrade.is_some() {
        return upgrade::forward(exchange, address, request).await;
    }
    let repeat = repeat(request.method(), request.body());
    if let Some(upstream) = idle(&exchange.worker.clone(), address, repeat).await {
        let copy = (repeat == Repeat::Harmless).then(|| head_of(&request));
        request = match (attempt(exchange, upstream, address, request).await, copy) {
            (Err(Miss::Unsent(request)), _) => request,
            (Err(Miss::Sent(failure)), Some(head)) if failure.retryable() == Retryable::IfIdempotent => head,
            (done, _) => return done,
        };
    }
    match connect(address).await {
        Ok(upstream) => attempt(exchange, upstream, address, request).await,
        Err(failure) => Err(Miss::Unreached(request, failure)),
    }
}

/// The endpoint whose turn it is, or, after some were tried in vain, another one.
fn choose(exchange: &mut Exchange, tried: &[SocketAddr]) -> Result<Option<SocketAddr>, Failure> {
    let lane = exchange.lane.clone().ok_or(Failure::NotReady)?;
    let (index, _) = exchange.pool().ok_or(Failure::Internal)?;
    let Some(chosen) = lane.next_endpoint(index, tried) else {
        return Ok(None);
    };
    let address = chosen.endpoint().ok_or(Failure::Internal)?.address;
    exchange.chose(chosen);
    Ok(Some(address))
}

/// The request as the upstream gets it.
fn outgoing(exchange: &mut Exchange, request: Request<ClientBody>) -> Request<RequestBody> {
    let (mut parts, incoming) = request.into_parts();
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let (body, watch) = RequestBody::new(incoming, std::mem::take(&mut exchange.nominated));
    exchange.request_body = watch;
    Request::from_parts(parts, body)
}

/// HTTP/1.0 without Host: the upstream speaks 1.1 and must get one, so it gets its own address.
fn name_host(exchange: &Exchange, request: &mut Request<RequestBody>) -> Result<(), Failure> {
    if exchange.host.is_none() {
        let host = exchange.endpoint().ok_or(Failure::Internal)?.host.clone();
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

fn head_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// An idle connection to `address` that can be trusted with this request. Closed ones found on the way are dropped.
async fn idle(worker: &Rc<Worker>, address: SocketAddr, repeat: Repeat) -> Option<Upstream> {
    loop {
        let (upstream, since) = worker.idle.borrow_mut().take(address)?;
        if repeat == Repeat::Never && since.elapsed() > Duration::from_millis(UPSTREAM_TRUSTED_IDLE_MILLIS) {
            // The rest are older still. They stay for requests that can be repeated.
            drop(worker.idle.borrow_mut().put(address, upstream, since));
            return None;
        }
        if upstream.sender.is_ready() {
            return Some(upstream);
        }
        if !upstream.is_closed() {
            // Its task has not yet seen that the response is over: one turn is all that takes.
            tokio::task::yield_now().await;
            if upstream.sender.is_ready() {
                return Some(upstream);
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Result<Upstream, Failure> {
    let (upstream, driver) = open(address).await?;
    tokio::task::spawn_local(async move {
        // Its errors reach the request that waits; without one, nobody is concerned.
        let _ = driver.await;
    });
    Ok(upstream)
}

/// What drives a connection to an upstream.
pub(super) type Driver = http1::Connection<TokioIo<Bounded<TcpStream>>, RequestBody>;

/// A fresh connection, which works while its driver is polled.
pub(super) async fn open(address: SocketAddr) -> Result<(Upstream, Driver), Failure> {
    let limit = Duration::from_millis(UPSTREAM_CONNECT_TIMEOUT_MILLIS);
    let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "upstream connection failed");
            return Err(Failure::UpstreamConnectFailed);
        }
        Err(_) => return Err(Failure::UpstreamConnectFailed),
    };
    // Fails only on a dead connection; the request will tell.
    let _ = stream.set_nodelay(true);
    let allowance = Allowance::default();
    let (sender, driver) = http1::handshake(TokioIo::new(Bounded::new(stream, allowance.clone())))
        .await
        .map_err(|_| Failure::UpstreamConnectFailed)?;
    Ok((Upstream { sender, allowance }, driver))
}

pub(super) async fn attempt(
    exchange: &mut Exchange,
    mut upstream: Upstream,
    address: SocketAddr,
    request: Request<RequestBody>,
) -> Result<Answer, Miss> {
    exchange.sending();
    upstream.allowance.expect_head();
    match upstream.sender.try_send_request(request).await {
        Ok(response) => {
            upstream.allowance.head_came();
            exchange.upstream_answered();
            check(exchange, &response).map_err(Miss::Sent)?;
            Ok(Answer::Upstream(response, Lease { upstream, address }))
        }
        Err(mut error) => match error.take_message() {
            Some(request) => Err(Miss::Unsent(request)),
            None => Err(Miss::Sent(blame(exchange, error.error()))),
        },
    }
}

/// Whose fault it is that there is no answer.
fn blame(exchange: &Exchange, error: &hyper::Error) -> Failure {
    let body = exchange.request_body.as_ref().map(|watch| watch.progress.get());
    match body {
        Some(Progress::Broken(failure)) => failure,
        Some(Progress::Flowing | Progress::Done) | None => upstream_failure(error),
    }
}

/// Refuses answers that two readers could understand differently, and upgrades that nobody asked for.
fn check(exchange: &Exchange, response: &Response<Incoming>) -> Result<(), Failure> {
    let headers = response.headers();
    if Survey::of(headers).is_ambiguous_response(headers) {
        return Err(Failure::UpstreamProtocolError);
    }
    upgrade::check(exchange.upgrade.as_ref(), response)
}
