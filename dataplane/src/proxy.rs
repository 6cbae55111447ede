//! The life of a request, on one page: admit → choose what serves → route → prepare → forward → respond → record.
//!
//! `Exchange` is filled phase by phase and recorded when it is dropped, however it ended. Every way to fail is a
//! `Failure`, and `respond` is the one file that turns one into a response.

mod admit;
pub(crate) mod body;
pub(crate) mod exchange;
pub mod failure;
pub(crate) mod forward;
mod headers;
pub(crate) mod respond;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use sluice_model::authority;
use sluice_model::{RequestFacts, unit::TimeoutMillis};

use crate::middleware::forwarded;
use crate::middleware::request_id::X_REQUEST_ID;
use crate::worker::Worker;
use crate::worker::connection::Connection;
use admit::Way;
use body::ResponseBody;
use exchange::Exchange;
use failure::Failure;
use forward::Lease;
use headers::Survey;

/// How a request was answered.
// Lives for one call: moving it once is cheaper than a box for every request.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Answer {
    /// By an upstream, over the connection leased.
    Upstream(Response<Incoming>, Lease),
    /// By this hop, with nothing to say.
    Here,
}

/// Answers one request. A panic on the way is a 500 for this request and concerns no other.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let exchange = Exchange::begin(&worker, &connection, &request);
    let answered = caught(answer(exchange, request)).await;
    Ok(answered.unwrap_or_else(|()| respond::after_panic(&worker, &connection)))
}

async fn answer(mut exchange: Box<Exchange>, request: Request<Incoming>) -> Response<ResponseBody> {
    match live(&mut exchange, request).await {
        Ok(Answer::Upstream(response, lease)) => respond::upstream(exchange, response, lease),
        Ok(Answer::Here) => respond::here(exchange),
        Err(failure) => respond::failure(exchange, failure),
    }
}

async fn live(exchange: &mut Exchange, mut request: Request<Incoming>) -> Result<Answer, Failure> {
    exchange.choose_lane()?;
    let survey = Survey::of(request.headers());
    let way = admit::admit(&mut request, &survey, exchange.connection.scheme())?;
    exchange.admitted(&request);
    if way == Way::Here {
        return Ok(Answer::Here);
    }
    let timeout = route(exchange, &request)?;
    prepare(exchange, &survey, request.headers_mut());
    within(exchange, timeout, request).await
}

/// Finds the rule and its pool. Each step compares stamps: what it came from and what it leads to are of one generation.
fn route(exchange: &mut Exchange, request: &Request<Incoming>) -> Result<Option<TimeoutMillis>, Failure> {
    let lane = exchange.lane.clone().ok_or(Failure::NotReady)?;
    let host = request
        .headers()
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| authority::parse(host).ok());
    if let (Some(tls), Some(host)) = (exchange.connection.tls.get(), &host)
        && !tls.takes(&host.host)
    {
        return Err(Failure::Misdirected);
    }
    let facts = RequestFacts {
        host: host.as_ref().map(|authority| &*authority.host),
        path: request.uri().path(),
        method: request.method(),
        headers: request.headers(),
        query: request.uri().query(),
    };
    let generation = &lane.generation;
    let to = generation.router.find(&facts).ok_or(Failure::NoRoute)?;
    let route = generation.routes.get(to.route as usize).ok_or(Failure::Internal)?;
    let rule = route.rules.get(to.rule as usize).ok_or(Failure::Internal)?;
    let pool = generation.pools.get(rule.pool as usize).ok_or(Failure::Internal)?;
    for stamp in [route.stamp, rule.stamp, pool.stamp] {
        if stamp != generation.stamp {
            exchange.worker.counters.mixed.add(1);
        }
    }
    exchange.routed(to.route, to.rule, rule.pool);
    Ok(rule.timeouts.request)
}

/// What the upstream gets to see: nothing that concerned only the hop before, and what this hop vouches for.
fn prepare(exchange: &Exchange, survey: &Survey, headers: &mut HeaderMap) {
    survey.strip_request(headers);
    let connection = &exchange.connection;
    forwarded::apply(headers, &connection.client, connection.scheme(), exchange.host.as_ref());
    headers.insert(X_REQUEST_ID, exchange.request_id.clone());
    if survey.transfer_encodings > 0 {
        // Said here so that the framing that goes on is ours, also for methods that usually have no body.
        headers.insert(http::header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

async fn within(
    exchange: &mut Exchange,
    timeout: Option<TimeoutMillis>,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let Some(timeout) = timeout else {
        return forward::forward(exchange, request).await;
    };
    let deadline = exchange.started.checked_add(Duration::from_millis(timeout.get()));
    let deadline = deadline.ok_or(Failure::Internal)?.into();
    tokio::time::timeout_at(deadline, forward::forward(exchange, request))
        .await
        .unwrap_or(Err(Failure::RequestTimeout))
}

/// Polls `future` and catches its panic. What it held is dropped by unwinding; nothing of it is looked at again.
async fn caught<F: Future>(future: F) -> Result<F::Output, ()> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(_) => Poll::Ready(Err(())),
    })
    .await
}
