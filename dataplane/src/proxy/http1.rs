//! Sending a request to an endpoint in HTTP/1.1: over an idle connection if there is a good one, else a fresh one.
//!
//! An idle connection may be closed by the upstream in the very moment it is used. That must not be the client's
//! problem: what was not written is sent again; what was written is sent again, once, if it has no body and doing it
//! twice is doing it once. Everything else gets a connection that was used a moment ago, or a fresh one.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper::ext::on_informational;
use hyper_util::rt::TokioIo;
use sluice_model::limits::{UPSTREAM_BUFFER_BYTES, UPSTREAM_TRUSTED_IDLE_MILLIS};

use super::Answer;
use super::body::{Progress, RequestBody};
use super::exchange::Exchange;
use super::failure::{Failure, Retryable};
use super::forward::{Miss, Outgoing, Repeat, Way, blame, check, head_of, repeat};
use super::incoming::{Broken, UpstreamBody};
use super::interim::{Allowance, Bounded};
use crate::pool::transport::Place;
use crate::tls::upstream::Offer;
use crate::upstream::dial;
use crate::upstream::socket::{Socket, Terms};
use crate::worker::Worker;

/// A connection to an endpoint.
pub(crate) struct Upstream {
    sender: SendRequest<RequestBody>,
    allowance: Allowance,
    /// Apart: an upstream is moved with each request.
    terms: Rc<Terms>,
}

impl Upstream {
    /// Whether it is of no more use.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether it may go on resting, as it has done for so long.
    pub(crate) fn may_rest(&self, rested: Duration) -> bool {
        rested < self.terms.idle_limit() && !self.is_closed()
    }

    /// Whether it is to be let go of: it is of no use to anybody, or is to be closed for a request that waits elsewhere, and
    /// then that is its due.
    pub(crate) fn is_given_up(&self) -> bool {
        self.is_closed() || self.terms.is_claimed()
    }
}

/// The connection that a response comes by, to be given back when all of it has come.
pub(crate) struct Lease {
    upstream: Upstream,
    place: Place,
}

impl Lease {
    /// Gives the connection back, unless the request was answered before all of it was sent: then something of it may
    /// still be on the way.
    pub(super) fn give_back(self, exchange: &Exchange, now: Instant) {
        let body = exchange.request_body.as_ref().map(|watch| watch.progress.get());
        let clean = matches!(body, None | Some(Progress::Done));
        if clean && !self.upstream.is_closed() {
            keep(&exchange.worker, self.place, self.upstream, now);
        }
    }
}

/// Lays a connection to rest, unless a request waits for it.
fn keep(worker: &Worker, place: Place, upstream: Upstream, now: Instant) {
    let upstream = match upstream.terms.quota().cloned() {
        None => Some(upstream),
        Some(quota) => worker.pending.take_back(place, &quota, upstream),
    };
    if let Some(upstream) = upstream {
        lay_down(worker, place, upstream, now);
    }
}

/// Lays a connection to rest that has done so since then.
fn lay_down(worker: &Worker, place: Place, upstream: Upstream, since: Instant) {
    upstream.terms.rests(true);
    drop(worker.idle.borrow_mut().put(place, upstream, since));
}

/// Sends the request over a connection that rests or a fresh one.
pub(super) async fn send(exchange: &mut Exchange, way: &Way, request: Outgoing) -> Result<Answer, Miss> {
    let request = match at_rest(exchange, way.place, request).await {
        Err(Miss::Unsent(request)) => request,
        done => return done,
    };
    // Handshakes are large, and rare: in a box they do not make every request's future as large.
    Box::pin(fresh(exchange, way, request)).await
}

/// Sends the request over a fresh connection.
async fn fresh(exchange: &mut Exchange, way: &Way, request: Outgoing) -> Result<Answer, Miss> {
    match dial::open(&exchange.worker.clone(), way, Offer::Http1).await {
        Ok((socket, _)) => over(exchange, way.place, socket, request).await,
        Err(unreached) => Err(exchange.unreached(request, &unreached)),
    }
}

/// Sends the request over a connection that rests, if there is one that can be trusted with it.
pub(super) async fn at_rest(exchange: &mut Exchange, place: Place, request: Outgoing) -> Result<Answer, Miss> {
    let repeat = repeat(exchange, &request);
    let Some(upstream) = idle(&exchange.worker.clone(), place, repeat).await else {
        return Err(Miss::Unsent(request));
    };
    let copy = (repeat == Repeat::Harmless).then(|| head_of(&request));
    match (attempt(exchange, upstream, place, request).await, copy) {
        (Err(Miss::Sent(failure)), Some(head)) if failure.retryable() == Retryable::IfIdempotent => {
            exchange.repeated = true;
            Err(Miss::Unsent(Box::new(head)))
        }
        (done, _) => done,
    }
}

/// Sends the request over a connection that another one has just given back.
pub(super) async fn over_used(
    exchange: &mut Exchange,
    place: Place,
    upstream: Upstream,
    request: Outgoing,
) -> Result<Answer, Miss> {
    // It is taken out again before anybody else looks, and so does not count as one that rests.
    drop(exchange.worker.idle.borrow_mut().put(place, upstream, Instant::now()));
    at_rest(exchange, place, request).await
}

/// Sends the request over a connection that was just opened.
pub(super) async fn over(
    exchange: &mut Exchange,
    place: Place,
    socket: Socket,
    request: Outgoing,
) -> Result<Answer, Miss> {
    let Ok((upstream, driver)) = begin(socket).await else {
        return Err(Miss::Unreached(request, Failure::UpstreamConnectFailed));
    };
    tokio::task::spawn_local(async move {
        // Its errors reach the request that waits; without one, nobody is concerned.
        let _ = driver.await;
    });
    attempt(exchange, upstream, place, request).await
}

/// An idle connection to `place` that can be trusted with this request. Closed ones found on the way are dropped.
async fn idle(worker: &Rc<Worker>, place: Place, repeat: Repeat) -> Option<Upstream> {
    loop {
        let (upstream, since) = worker.idle.borrow_mut().take(place)?;
        if repeat == Repeat::Never && since.elapsed() > Duration::from_millis(UPSTREAM_TRUSTED_IDLE_MILLIS) {
            // The rest are older still. They stay for requests that can be repeated.
            lay_down(worker, place, upstream, since);
            return None;
        }
        upstream.terms.rests(false);
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

/// What drives a connection to an upstream.
pub(super) type Driver = http1::Connection<TokioIo<Bounded<Socket>>, RequestBody>;

/// A connection that works while its driver is polled.
pub(super) async fn begin(socket: Socket) -> Result<(Upstream, Driver), hyper::Error> {
    let allowance = Allowance::default();
    let terms = Rc::new(socket.terms());
    let io = TokioIo::new(Bounded::new(socket, allowance.clone()));
    // Without a bound the codec reads far ahead of a client that takes nothing.
    let mut builder = http1::Builder::new();
    let (sender, driver) = builder.max_buf_size(UPSTREAM_BUFFER_BYTES).handshake(io).await?;
    let upstream = Upstream {
        sender,
        allowance,
        terms,
    };
    Ok((upstream, driver))
}

/// Sends the request by this connection.
pub(super) async fn attempt(
    exchange: &mut Exchange,
    mut upstream: Upstream,
    place: Place,
    mut request: Outgoing,
) -> Result<Answer, Miss> {
    exchange.sending();
    if let Some(hints) = exchange.hints() {
        on_informational(&mut request, move |interim| {
            hints.came(interim.status(), interim.headers())
        });
    }
    upstream.allowance.expect_head();
    match upstream.sender.try_send_request(*request).await {
        Ok(response) => {
            upstream.allowance.head_came();
            exchange.upstream_answered();
            check(exchange, &response).map_err(Miss::Sent)?;
            let lease = Lease { upstream, place };
            Ok(Answer::Upstream(response.map(|body| UpstreamBody::http1(body, lease))))
        }
        Err(mut error) => match error.take_message() {
            Some(request) => Err(Miss::Unsent(Box::new(request))),
            None => Err(Miss::Sent(blame(exchange, &Broken::Http1(error.into_error())))),
        },
    }
}
