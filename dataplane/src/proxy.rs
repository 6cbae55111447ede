//! The life of a request, on one page: admit → choose what serves → route → prepare → forward → respond → record.
//!
//! `Exchange` is filled phase by phase and recorded when it is dropped, however it ended. Every way to fail is a
//! `Failure`, and `respond` is the one file that turns one into a response.

mod admit;
pub(crate) mod body;
mod connect;
mod deadline;
mod drain;
pub(crate) mod exchange;
pub mod failure;
mod far;
mod forward;
mod grpc;
pub(crate) mod headers;
pub(crate) mod hints;
pub(crate) mod host;
pub(crate) mod http1;
mod http2;
pub(crate) mod incoming;
mod interim;
mod queue;
mod redirect;
mod replay;
pub(crate) mod respond;
mod rewrite;
pub(crate) mod tunnel;
pub(crate) mod upgrade;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Body;
use sluice_model::RequestFacts;
use sluice_model::unit::{ClientAuthMode, RuleClientAuth, UpstreamProtocol};

use crate::guard::hold::Held;
use crate::guard::rule::Rule;
use crate::live::{ActionEntry, RouteEntry, RuleEntry};
use crate::middleware::forwarded::X_FORWARDED_CLIENT_CERT;
use crate::middleware::request_id::X_REQUEST_ID;
use crate::middleware::{forwarded, modify};
use crate::worker::Worker;
use crate::worker::connection::Connection;
use admit::Way;
use body::{ClientBody, ResponseBody};
use deadline::{Deadline, Queueing};
use exchange::Exchange;
use failure::Failure;
use far::Far;
use forward::Outgoing;
use headers::Survey;
use host::Host;
use incoming::UpstreamBody;
use redirect::Elsewhere;

/// How a request was answered.
// Lives for one call: moving it once is cheaper than a box for every request.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Answer {
    /// By an upstream.
    Upstream(Response<UpstreamBody>),
    /// By an upstream that goes over to the protocol that was asked for.
    Tunnel(Response<()>, Far),
    /// By this hop, with nothing to say.
    Here,
    /// By this hop, with a redirect.
    Elsewhere(Elsewhere),
}

/// Answers one request. A panic on the way is a 500 for this request and concerns no other.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<ClientBody>,
) -> Response<ResponseBody> {
    let exchange = Exchange::begin(&worker, &connection, &request);
    let id = exchange.request_id.clone();
    let answered = caught(answer(exchange, request)).await;
    // Whatever was asked for: unless the answer was a tunnel, what follows is the next request.
    connection.gate.settle(Held::Request);
    answered.unwrap_or_else(|()| respond::after_panic(&worker, id))
}

async fn answer(mut exchange: Box<Exchange>, mut request: Request<ClientBody>) -> Response<ResponseBody> {
    let decided = decide(&mut exchange, &mut request);
    let answer = match decided {
        Ok(Decision::Forward) => {
            let request = forward::outgoing(&mut exchange, request);
            within(&mut exchange, request).await
        }
        Ok(Decision::Here) => {
            exchange.rest = drain::drain(request).await;
            Ok(Answer::Here)
        }
        // Who waits for consent sends nothing before.
        Ok(Decision::Elsewhere(elsewhere)) if exchange.connect.is_some() => Ok(Answer::Elsewhere(elsewhere)),
        Ok(Decision::Elsewhere(elsewhere)) => {
            exchange.rest = drain::drain(request).await;
            Ok(Answer::Elsewhere(elsewhere))
        }
        Err(failure) if failure.ends_connection() || exchange.connect.is_some() => Err(failure),
        Err(failure) => {
            exchange.rest = drain::drain(request).await;
            Err(failure)
        }
    };
    match answer {
        Ok(Answer::Upstream(response)) => respond::upstream(exchange, response),
        Ok(Answer::Tunnel(response, far)) => upgrade::respond(exchange, response, far),
        Ok(Answer::Here) => respond::here(exchange, StatusCode::NO_CONTENT),
        Ok(Answer::Elsewhere(elsewhere)) => respond::elsewhere(exchange, elsewhere),
        Err(failure) => respond::failure(exchange, failure),
    }
}

/// What happens to a request, decided from its head alone.
enum Decision {
    /// It goes on, within the exchange's deadline.
    Forward,
    /// This hop answers it.
    Here,
    /// Its client is sent elsewhere.
    Elsewhere(Elsewhere),
}

fn decide(exchange: &mut Exchange, request: &mut Request<ClientBody>) -> Result<Decision, Failure> {
    let chosen = exchange.choose_lane();
    exchange.refused()?;
    chosen?;
    exchange.check_http2(request)?;
    let survey = Survey::of(request.headers());
    let admitted = admit::admit(request, &survey, exchange.connection.scheme());
    let admitted = admitted.map_err(|rule| exchange.broke_rule(rule))?;
    exchange.admitted(request, admitted.host);
    if admitted.way == Way::Here {
        return Ok(Decision::Here);
    }
    let decision = route(exchange, &survey, request)?;
    if let Decision::Forward = decision {
        let coded = survey.transfer_encodings > 0 || (exchange.connect.is_none() && lacks_length(request, &survey));
        prepare(exchange, &survey, request.headers_mut());
        if coded {
            // Said here so that the framing that goes on is ours, also for methods that usually have no body.
            let chunked = HeaderValue::from_static("chunked");
            request.headers_mut().insert(TRANSFER_ENCODING, chunked);
        }
        ask_to_go_over(exchange, request.headers_mut());
        rewrite::apply(exchange, request)?;
    }
    Ok(decision)
}

/// Says to an upstream of HTTP/1.1 what the request may go over to. In HTTP/2 that is said otherwise.
fn ask_to_go_over(exchange: &mut Exchange, headers: &mut HeaderMap) {
    let protocol = exchange.protocol();
    let Exchange {
        upgrade: Some(token),
        connect,
        worker,
        ..
    } = exchange
    else {
        return;
    };
    match connect {
        None => upgrade::ask(headers, token),
        Some(_) if protocol == Some(UpstreamProtocol::Http2) => {}
        Some(connect) => connect.ask(headers, token, &worker.chance),
    }
}

/// Finds the rule and what becomes of its requests. Each step compares stamps: what it came from and what it leads to are
/// of one generation.
fn route(exchange: &mut Exchange, survey: &Survey, request: &Request<ClientBody>) -> Result<Decision, Failure> {
    let lane = exchange.lane.clone().ok_or(Failure::NotReady)?;
    let host = exchange.host.as_ref().map(Host::name);
    if let (Some(tls), Some(host)) = (exchange.connection.tls.get(), host)
        && !tls.takes(host)
    {
        return Err(Failure::Misdirected);
    }
    let facts = RequestFacts {
        host,
        path: request.uri().path(),
        method: request.method(),
        headers: request.headers(),
        query: request.uri().query(),
    };
    let generation = &lane.generation;
    let to = generation.router.find(&facts).ok_or(Failure::NoRoute)?;
    let route = generation.routes.get(to.route as usize).ok_or(Failure::Internal)?;
    let rule = route.rules.get(to.rule as usize).ok_or(Failure::Internal)?;
    let pool = match &rule.action {
        ActionEntry::Forward(forward) => {
            let pool = generation.pools.get(forward.pool as usize);
            Some((forward.pool, pool.ok_or(Failure::Internal)?))
        }
        ActionEntry::Redirect(_) => None,
    };
    let stamps = [route.stamp, rule.stamp, pool.map_or(rule.stamp, |(_, pool)| pool.stamp)];
    for stamp in stamps {
        if stamp != generation.stamp {
            exchange.worker.counters.mixed.add(1);
        }
    }
    exchange.routed(to, pool.map(|(index, _)| index));
    if let Some(elsewhere) = redirect::to_https(exchange, route, &generation.https, request.uri())? {
        return Ok(Decision::Elsewhere(elsewhere));
    }
    know_client(exchange, route, rule)?;
    match &rule.action {
        ActionEntry::Forward(forward) => {
            if let Some(connect) = &exchange.connect {
                let wanted = connect.wanted(&forward.upgrades);
                exchange.upgrade = Some(wanted.map_err(|rule| exchange.broke_rule(rule))?);
            } else if exchange.protocol() != Some(UpstreamProtocol::Http2) {
                // Who asks in HTTP/1.1 gets it in HTTP/1.1.
                exchange.upgrade = upgrade::wanted(exchange, survey, request, &forward.upgrades);
            }
            exchange.deadline = Deadline::of(&forward.timeouts, exchange.started);
            // Its length is known, or is as large as it turns out.
            let length = request.body().size_hint().lower();
            if forward.max_body.is_some_and(|most| length > most) {
                return Err(exchange.broke_rule(Rule::BodySize));
            }
            Ok(Decision::Forward)
        }
        ActionEntry::Redirect(redirect) => {
            redirect::by_rule(exchange, redirect, rule.prefix(to.matched), request.uri()).map(Decision::Elsewhere)
        }
    }
}

/// Whether the client may come by this rule. Asked of every request, after its rule is known and by nothing but what this
/// connection's client has proven: so there is no way around it by another name in the handshake, another host, a
/// connection that is shared between hosts, or a port without TLS.
fn know_client(exchange: &Exchange, route: &RouteEntry, rule: &RuleEntry) -> Result<(), Failure> {
    let Some(auth) = &route.client_auth else {
        return Ok(());
    };
    match (auth.mode, rule.client_auth) {
        (ClientAuthMode::Optional, RuleClientAuth::AsRoute) => return Ok(()),
        (ClientAuthMode::Required, RuleClientAuth::AsRoute) | (_, RuleClientAuth::Required) => {}
    }
    let tls = exchange
        .connection
        .tls
        .get()
        .ok_or(Failure::ClientCertificateRequired)?;
    if exchange.proven_client(auth).is_some() {
        return Ok(());
    }
    // One that was opened for another host was not asked for a certificate, or for another one (RFC 9110 §15.5.20).
    match exchange.host.as_ref().map(Host::name) {
        Some(host) if tls.is_for(host) => Err(Failure::ClientCertificateRequired),
        Some(_) | None => Err(Failure::Misdirected),
    }
}

/// What the upstream is told of the client's certificate, if its route tells it anything and there is one.
fn tell_of_client(exchange: &Exchange, survey: &Survey, headers: &mut HeaderMap) {
    if survey.client_certs > 0 {
        headers.remove(X_FORWARDED_CLIENT_CERT);
    }
    let Some(auth) = exchange.route().and_then(|route| route.client_auth.as_ref()) else {
        return;
    };
    if auth.forwarded.is_empty() {
        return;
    }
    let details = exchange
        .proven_client(auth)
        .and_then(|client| client.details(&auth.forwarded));
    if let Some(details) = details {
        headers.insert(X_FORWARDED_CLIENT_CERT, details);
    }
}

/// What the upstream gets to see: nothing that concerned only the hop before, and what this hop vouches for.
fn prepare(exchange: &mut Exchange, survey: &Survey, headers: &mut HeaderMap) {
    exchange.waits_to_go_on = survey.expects > 0;
    exchange.nominated = survey.strip_request(headers);
    let connection = &exchange.connection;
    let host = exchange.host.as_ref().map(Host::sent);
    forwarded::apply(headers, &connection.client, connection.scheme(), host);
    headers.insert(X_REQUEST_ID, exchange.request_id.clone());
    tell_of_client(exchange, survey, headers);
    let mut cleared = Vec::new();
    if let Some(forward) = exchange.forward_entry() {
        modify::apply(&forward.request_headers, headers);
        let names = forward.request_headers.cleared();
        cleared.extend(names.map(|name| name.header().clone()));
    }
    exchange.nominated.append(&mut cleared);
}

/// Whether only HTTP/2's frames say where its body ends.
fn lacks_length(request: &Request<ClientBody>, survey: &Survey) -> bool {
    request.version() == Version::HTTP_2 && survey.content_lengths == 0 && !request.body().is_end_stream()
}

async fn within(exchange: &mut Exchange, request: Outgoing) -> Result<Answer, Failure> {
    let deadline = exchange.deadline;
    let watch = deadline.and(exchange.request_body.clone());
    let queueing = Queueing::default();
    let answer = {
        let answer = pin!(forward::forward(exchange, request, &queueing));
        match deadline {
            None => answer.await,
            Some(deadline) => deadline.hold(watch, &queueing, answer).await,
        }
    };
    match answer {
        Err(Failure::ClientTimeout) => Err(exchange.broke_rule(Rule::BodySlow)),
        answer => answer,
    }
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
