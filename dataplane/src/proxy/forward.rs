//! Sending a request to an endpoint of its pool: which endpoint, in which version of HTTP, and what becomes of a request
//! that did not get there.
//!
//! An endpoint that cannot be reached has got nothing of the request, which goes to another one of its pool; so does one
//! that an upstream says it did not process. `http1` and `http2` send, and say how far they came.

use std::net::SocketAddr;
use std::rc::Rc;

use http::header::HOST;
use http::{Method, Request, Response, Version};
use sluice_model::limits::MAX_CONNECT_ATTEMPTS;
use sluice_model::unit::UpstreamProtocol;

use super::body::{ClientBody, Progress, RequestBody};
use super::exchange::Exchange;
use super::failure::Failure;
use super::headers::Survey;
use super::incoming::Broken;
use super::{Answer, connect, deadline, http1, http2, upgrade};
use crate::pool::transport::Place;
use crate::tls::upstream::Offer;
use crate::worker::lane::Spoken;

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
    /// It may have been acted upon.
    Sent(Failure),
}

/// Sends the request to the endpoint whose turn it is. If that cannot be reached, it has got nothing of the request, which
/// goes to the next one; each is tried once. The request's own time limit covers all of it.
pub(super) async fn forward(exchange: &mut Exchange, mut request: Outgoing) -> Result<Answer, Failure> {
    let mut tried = Vec::new();
    let mut failure = Failure::NoEndpoint;
    while tried.len() < MAX_CONNECT_ATTEMPTS
        && let Some(way) = choose(exchange, &tried)?
    {
        name_host(exchange, &mut request)?;
        (request, failure) = match one_try(exchange, &way, request).await {
            Ok(answer) => return Ok(answer),
            Err(Miss::Sent(failure)) => return Err(failure),
            Err(Miss::Unsent(request)) => (request, Failure::UpstreamReset),
            Err(Miss::Unreached(request, failure)) => (request, failure),
            Err(Miss::Slow(request)) => (request, Failure::UpstreamTimeout),
        };
        // What this process lacks is not held against the endpoint: another one may have a connection at rest. And one that is
        // slow may have been reached.
        if !matches!(failure, Failure::Exhausted | Failure::UpstreamTimeout) {
            exchange.not_reached();
        }
        tried.push(way.place.address);
    }
    Err(failure)
}

/// Sends the request to this endpoint, within the time that its rule gives one try. What has no body, and was not sent or can
/// be sent twice, can go to another one then.
async fn one_try(exchange: &mut Exchange, way: &Way, request: Outgoing) -> Result<Answer, Miss> {
    let limit = exchange.forward_entry().and_then(|forward| forward.timeouts.per_try);
    let Some(limit) = limit else {
        return at_endpoint(exchange, way, request).await;
    };
    let repeat = repeat(exchange, &request);
    let copy = matches!(request.body(), RequestBody::Empty).then(|| head_of(&request));
    let attempt = at_endpoint(exchange, way, request);
    // Few rules ask for it: in a box it does not make every request's future as large.
    if let Ok(done) = Box::pin(tokio::time::timeout(deadline::time(limit), attempt)).await {
        return done;
    }
    let harmless = repeat == Repeat::Harmless;
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
async fn at_endpoint(exchange: &mut Exchange, way: &Way, request: Outgoing) -> Result<Answer, Miss> {
    let protocol = way.transport.settings().protocol;
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

/// Where a request goes, and how that is spoken to.
pub(super) struct Way {
    /// The endpoint.
    pub(super) place: Place,
    /// How it is spoken to.
    pub(super) transport: Rc<Spoken>,
}

/// The endpoint whose turn it is, or, after some were tried in vain, another one.
fn choose(exchange: &mut Exchange, tried: &[SocketAddr]) -> Result<Option<Way>, Failure> {
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
    Ok(Some(Way { place, transport }))
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
fn name_host(exchange: &Exchange, request: &mut Request<RequestBody>) -> Result<(), Failure> {
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
