//! Sending a request to an endpoint of its pool: which endpoint, in which version of HTTP, and what becomes of a request
//! that did not get there.
//!
//! An endpoint that cannot be reached has got nothing of the request, which goes to another one of its pool; so does one
//! that an upstream says it did not process. `http1` and `http2` send, and say how far they came.

use std::net::SocketAddr;

use http::header::HOST;
use http::{Method, Request, Response, Version};
use sluice_model::limits::MAX_CONNECT_ATTEMPTS;
use sluice_model::unit::{TimeoutMillis, UpstreamProtocol};
use tokio::time::{Instant, timeout_at};

use super::body::{ClientBody, Progress, RequestBody};
use super::deadline::Queueing;
use super::exchange::Exchange;
use super::failure::Failure;
use super::headers::Survey;
use super::incoming::Broken;
use super::{Answer, connect, deadline, http1, http2, queue, upgrade};
use crate::pool::transport::Place;
use crate::tls::upstream::Offer;
pub(super) use crate::upstream::way::Way;

/// A request on its way. In a box: it is handed from function to function, each of which has a place for it in its future.
pub(super) type Outgoing = Box<Request<RequestBody>>;

/// Whether a request that may have been acted upon can be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Repeat {
    /// It is the same twice as once, and there is no body that is gone.
    Harmless,
    /// Once only.
    Never,
}

/// Whether this one can: once, whatever becomes of it then.
pub(super) fn repeat(exchange: &Exchange, request: &Request<RequestBody>) -> Repeat {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    match request.body() {
        _ if exchange.repeated => Repeat::Never,
        RequestBody::Empty if idempotent => Repeat::Harmless,
        RequestBody::Empty | RequestBody::Client(_) => Repeat::Never,
    }
}

/// How an attempt ended without an answer.
pub(super) enum Miss {
    /// Not a byte was written: here is the request again.
    Unsent(Outgoing),
    /// There was no connection to write it to, and here it is again: another endpoint may do.
    Unreached(Outgoing, Failure),
    /// It took longer than one try may. Another endpoint may do, and the request can go there.
    Slow(Outgoing),
    /// There are as many connections as there may be, and here it is again.
    Full(Outgoing),
    /// It may have been acted upon.
    Sent(Failure),
}

impl Miss {
    /// The request, which another endpoint may take, and what becomes of it if there is none.
    pub(super) fn goes_on(self) -> Result<(Outgoing, Failure), Failure> {
        match self {
            Self::Unsent(request) => Ok((request, Failure::UpstreamReset)),
            Self::Unreached(request, failure) => Ok((request, failure)),
            Self::Slow(request) => Ok((request, Failure::UpstreamTimeout)),
            Self::Full(_) => Err(Failure::Overloaded),
            Self::Sent(failure) => Err(failure),
        }
    }
}

/// Sends the request to the endpoint whose turn it is. If that cannot be reached, it has got nothing of the request, which
/// goes to the next one; each is tried once. The request's own time limit covers all of it.
pub(super) async fn forward(
    exchange: &mut Exchange,
    mut request: Outgoing,
    queueing: &Queueing,
) -> Result<Answer, Failure> {
    let mut tried = Vec::new();
    let mut failure = Failure::NoEndpoint;
    while tried.len() < MAX_CONNECT_ATTEMPTS
        && let Some(way) = choose(exchange, &tried)?
    {
        name_host(exchange, &mut request)?;
        // Few rules bound a try: the others need no layer more around this future, which is large.
        let done = match per_try(exchange) {
            None => at_endpoint(exchange, &way, request).await,
            Some(_) => Box::pin(one_try(exchange, &way, request)).await,
        };
        (request, failure) = match done {
            Ok(answer) => return Ok(answer),
            Err(Miss::Full(request)) => {
                match Box::pin(queue::send(exchange, way, request, &mut tried, queueing)).await {
                    Ok(answer) => return Ok(answer),
                    Err(miss) => miss.goes_on()?,
                }
            }
            Err(miss) => miss.goes_on()?,
        };
        exchange.missed(failure);
        // Whichever it was that had room.
        tried.extend(exchange.endpoint().map(|endpoint| endpoint.address));
    }
    Err(failure)
}

/// Sends the request to this endpoint, within the time that its rule gives one try.
pub(super) async fn one_try(exchange: &mut Exchange, way: &Way, request: Outgoing) -> Result<Answer, Miss> {
    match per_try(exchange) {
        None => at_endpoint(exchange, way, request).await,
        Some(limit) => {
            let ends = Instant::now() + deadline::time(limit);
            way.try_until(ends);
            let attempt = async |exchange: &mut Exchange, request| at_endpoint(exchange, way, request).await;
            limited(exchange, ends, request, attempt).await
        }
    }
}

/// The time that the rule gives one try.
pub(super) fn per_try(exchange: &Exchange) -> Option<TimeoutMillis> {
    exchange.forward_entry()?.timeouts.per_try
}

/// Makes an attempt until then. A request without a body that was not sent by then, or can be sent twice, can go
/// elsewhere.
pub(super) async fn limited(
    exchange: &mut Exchange,
    ends: Instant,
    request: Outgoing,
    attempt: impl AsyncFnOnce(&mut Exchange, Outgoing) -> Result<Answer, Miss>,
) -> Result<Answer, Miss> {
    let harmless = repeat(exchange, &request) == Repeat::Harmless;
    let copy = matches!(request.body(), RequestBody::Empty).then(|| head_of(&request));
    if let Ok(done) = timeout_at(ends, attempt(exchange, request)).await {
        return done;
    }
    match copy {
        Some(head) if harmless || exchange.is_unsent() => {
            exchange.repeated |= !exchange.is_unsent();
            Err(Miss::Slow(Box::new(head)))
        }
        Some(_) | None => {
            let watch = exchange.request_body.as_deref();
            Err(Miss::Sent(deadline::blame(watch, Failure::UpstreamTimeout)))
        }
    }
}

/// Sends the request to this endpoint, in the version of HTTP that its pool says.
///
/// The future of a request is as large as the largest way that it may take, and is moved several times: what opens
/// connections is in boxes, so that HTTP/1.1 over a connection at rest, which most requests take, stays small.
pub(super) async fn at_endpoint(exchange: &mut Exchange, way: &Way, request: Outgoing) -> Result<Answer, Miss> {
    let protocol = way.settings().protocol;
    if exchange.upgrade.is_some() {
        return match protocol {
            UpstreamProtocol::Http2 => Box::pin(connect::forward(exchange, way, request)).await,
            UpstreamProtocol::Http1 | UpstreamProtocol::Auto => {
                Box::pin(upgrade::forward(exchange, way, request)).await
            }
        };
    }
    match protocol {
        UpstreamProtocol::Http1 => http1::send(exchange, way, request).await,
        UpstreamProtocol::Http2 => Box::pin(http2::send(exchange, way, Offer::Http2, request)).await,
        UpstreamProtocol::Auto if exchange.worker.multiplexed.chose_http1(way.place) => {
            http1::send(exchange, way, request).await
        }
        UpstreamProtocol::Auto => match http1::at_rest(exchange, way.place, request).await {
            Err(Miss::Unsent(request)) => Box::pin(http2::send(exchange, way, Offer::Either, request)).await,
            done => done,
        },
    }
}

/// The endpoint whose turn it is, or, after some were tried in vain, another one.
pub(super) fn choose(exchange: &mut Exchange, tried: &[SocketAddr]) -> Result<Option<Way>, Failure> {
    let lane = exchange.lane.clone().ok_or(Failure::NotReady)?;
    let (index, _) = exchange.pool().ok_or(Failure::Internal)?;
    let Some(chosen) = lane.next_endpoint(index, tried) else {
        return Ok(None);
    };
    let address = chosen.endpoint().ok_or(Failure::Internal)?.address;
    let transport = chosen.transport().clone();
    exchange.chose(chosen);
    let place = Place {
        address,
        transport: transport.id(),
    };
    Ok(Some(Way::new(place, transport)))
}

/// The request as the upstream gets it.
pub(super) fn outgoing(exchange: &mut Exchange, request: Request<ClientBody>) -> Outgoing {
    let (mut parts, incoming) = request.into_parts();
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    if let Some(connect) = &mut exchange.connect {
        return Box::new(Request::from_parts(parts, connect.keep(incoming)));
    }
    let most = exchange.forward_entry().and_then(|forward| forward.max_body);
    let (body, watch) = RequestBody::new(incoming, std::mem::take(&mut exchange.nominated), most);
    exchange.request_body = watch;
    Box::new(Request::from_parts(parts, body))
}

/// HTTP/1.0 without Host: the upstream speaks 1.1 and must get one, so it gets its own address.
pub(super) fn name_host(exchange: &Exchange, request: &mut Request<RequestBody>) -> Result<(), Failure> {
    if exchange.host.is_none() {
        let host = exchange.endpoint().ok_or(Failure::Internal)?.host.clone();
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

/// The same request, for one that has no body.
pub(super) fn head_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Whose fault it is that there is no answer.
pub(super) fn blame(exchange: &Exchange, error: &Broken) -> Failure {
    let body = exchange.request_body.as_ref().map(|watch| watch.progress.get());
    match body {
        Some(Progress::Broken(failure)) => failure,
        Some(Progress::Flowing | Progress::Done) | None => error.failure(),
    }
}

/// Refuses answers that two readers could understand differently, and upgrades that nobody asked for.
pub(super) fn check<B>(exchange: &Exchange, response: &Response<B>) -> Result<(), Failure> {
    let headers = response.headers();
    if Survey::of(headers).is_ambiguous_response(headers) {
        return Err(Failure::UpstreamProtocolError);
    }
    connect::check(exchange.connect.as_deref(), response)?;
    upgrade::check(exchange.upgrade.as_ref(), response)
}
