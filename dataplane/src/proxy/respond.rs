//! Responses: the upstream's, cleaned; this hop's own; and the one place where a `Failure` becomes a response.

use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::body::ResponseBody;
use super::drain::Rest;
use super::exchange::Exchange;
use super::failure::Failure;
use super::grpc;
use super::headers::Survey;
use super::incoming::UpstreamBody;
use super::redirect::Elsewhere;
use crate::guard::rule::Rule;
use crate::middleware::modify;
use crate::middleware::request_id::X_REQUEST_ID;
use crate::telemetry::names::NONE;
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// The upstream's answer goes on.
pub(super) fn upstream(mut exchange: Box<Exchange>, response: Response<UpstreamBody>) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    exchange.responded(parts.status.as_u16());
    exchange.call_ended(&parts.headers);
    let survey = Survey::of(&parts.headers);
    survey.strip_response(&mut parts.headers);
    if let Some(rule) = exchange.rule_entry() {
        modify::apply(&rule.response_headers, &mut parts.headers);
    }
    parts.headers.insert(X_REQUEST_ID, exchange.request_id.clone());
    if exchange.is_last(Rest::Gone) {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    parts.extensions.clear();
    if parts.status.canonical_reason().is_none() {
        // The codec would make one up.
        parts.extensions.insert(ReasonPhrase::from_static(b""));
    }
    // A hop speaks its own version (RFC 9110 §2.5): an HTTP/1.0 upstream's body, which ends with its connection, goes on
    // in chunks, so that a client can tell its end from a break. The codec lowers it for clients of HTTP/1.0.
    parts.version = Version::HTTP_11;
    let body = ResponseBody::upstream(&parts.headers, body, exchange);
    Response::from_parts(parts, body)
}

/// This hop answers with a status alone.
pub(super) fn here(mut exchange: Box<Exchange>, status: StatusCode) -> Response<ResponseBody> {
    exchange.responded(status.as_u16());
    let id = exchange.request_id.clone();
    let closes = exchange.is_last(exchange.rest_of_request());
    let mut response = Response::new(ResponseBody::own(Bytes::new(), Some(exchange)));
    *response.status_mut() = status;
    response.headers_mut().insert(X_REQUEST_ID, id);
    if closes {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// This hop answers: the client is to go elsewhere.
pub(super) fn elsewhere(exchange: Box<Exchange>, elsewhere: Elsewhere) -> Response<ResponseBody> {
    let mut headers = HeaderMap::new();
    if let Some(rule) = exchange.rule_entry() {
        modify::apply(&rule.response_headers, &mut headers);
    }
    headers.insert(LOCATION, elsewhere.location);
    let mut response = here(exchange, elsewhere.status);
    response.headers_mut().extend(headers);
    response
}

/// A request failed.
pub(super) fn failure(mut exchange: Box<Exchange>, failure: Failure) -> Response<ResponseBody> {
    exchange.failed(failure);
    let id = exchange.request_id.clone();
    let rest = if failure.ends_connection() {
        Rest::Left
    } else {
        exchange.rest_of_request()
    };
    let closes = exchange.is_last(rest);
    exchange.bytes_out = 0;
    if let Some(kind) = exchange.call().cloned() {
        return of_call(exchange, failure, kind, rest);
    }
    let body = content(failure, exchange.broken_rule(), &id);
    let version = exchange.version;
    let mut response = of_failure(failure, id, ResponseBody::own(body, Some(exchange)));
    if failure == Failure::TlsRequired && version == Version::HTTP_11 {
        // RFC 9110 §15.5.22 wants what to upgrade to, and §7.8 that it concerns this hop.
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if closes {
        response
            .headers_mut()
            .append(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A call of gRPC failed: its status is all that its client looks at (trailers-only).
fn of_call(exchange: Box<Exchange>, failure: Failure, kind: HeaderValue, rest: Rest) -> Response<ResponseBody> {
    let (id, closes) = (exchange.request_id.clone(), exchange.is_last(rest));
    let message = match exchange.broken_rule().and_then(Rule::words) {
        // Printable ASCII without '%', so that there is nothing to encode.
        Some(words) => HeaderValue::try_from(format!("{}: {words}", failure.message())),
        None => Ok(HeaderValue::from_static(failure.message())),
    };
    let mut response = Response::new(ResponseBody::own(Bytes::new(), Some(exchange)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(grpc::GRPC_STATUS, HeaderValue::from(grpc::Status::of(failure).0));
    if let Ok(message) = message {
        headers.insert(grpc::GRPC_MESSAGE, message);
    }
    headers.insert(X_REQUEST_ID, id);
    say_when(failure, headers);
    if closes {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A panic took the exchange with it; its id is left.
pub(super) fn after_panic(worker: &Worker, id: HeaderValue) -> Response<ResponseBody> {
    tracing::error!(request_id = ?id, instance = %worker.instance, "a request ended in a panic: please report it");
    let body = content(Failure::Internal, None, &id);
    of_failure(Failure::Internal, id, ResponseBody::own(body, None))
}

/// The codec answered by itself, or a connection was ended: there was no request, or there were several. Counted, and logged
/// with what is known.
pub(crate) fn refused_by_codec(worker: &Rc<Worker>, connection: &Connection, failure: Failure, rule: Option<Rule>) {
    if let Some(refused) = rule.and_then(|rule| worker.counters.refused(rule)) {
        refused.add(1);
    }
    if let Some(none) = worker.counters.route(NONE) {
        if let Some(status) = none.status(failure.status()) {
            status.add(1);
        }
        if let Some(error) = none.error(failure) {
            error.add(1);
        }
    }
    worker.log.line(&worker.counters, |line| {
        line.time("timestamp", std::time::SystemTime::now());
        line.number("status", u64::from(failure.status()));
        line.text("error_category", failure.category().as_bytes());
        if let Some(rule) = rule {
            line.text("refused_by", rule.as_str().as_bytes());
        }
        line.text("client", connection.client.as_bytes());
        line.text("instance", worker.instance.as_bytes());
    });
}

/// A connection from where the PROXY protocol is spoken, without a header that can be believed: counted and logged, and
/// answered by nothing, since nobody knows what the other side would take for an answer. It is no request.
pub(crate) fn not_introduced(worker: &Rc<Worker>, connection: &Connection, rule: Rule) {
    if let Some(refused) = worker.counters.refused(rule) {
        refused.add(1);
    }
    worker.log.line(&worker.counters, |line| {
        line.time("timestamp", std::time::SystemTime::now());
        line.text("error_category", rule.failure().category().as_bytes());
        line.text("refused_by", rule.as_str().as_bytes());
        line.text("client", connection.client.as_bytes());
        line.text("instance", worker.instance.as_bytes());
    });
}

/// A connection was refused as it came. It is no request, and counted by whoever refused it.
pub(crate) fn turned_away(worker: &Worker, client: IpAddr, rule: Rule) {
    worker.log.line(&worker.counters, |line| {
        line.time("timestamp", std::time::SystemTime::now());
        line.text("error_category", rule.failure().category().as_bytes());
        line.text("refused_by", rule.as_str().as_bytes());
        line.text("client", client.to_canonical().to_string().as_bytes());
        line.text("instance", worker.instance.as_bytes());
    });
}

fn of_failure(failure: Failure, id: HeaderValue, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_REQUEST_ID, id);
    if failure == Failure::MethodNotAllowed {
        // RFC 9110 §15.5.6 wants the methods that would be allowed: those that have a meaning for every resource.
        let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");
        headers.insert(http::header::ALLOW, allowed);
    }
    say_when(failure, headers);
    response
}

/// When it may be asked again, for what is over as soon as others have been answered.
fn say_when(failure: Failure, headers: &mut HeaderMap) {
    if failure == Failure::Overloaded {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
}

/// Written by hand: an id is a token, the rest are our own words, so there is nothing to escape but what tokens allow
/// anyway (no quotes, no backslashes).
fn content(failure: Failure, rule: Option<Rule>, id: &HeaderValue) -> Bytes {
    let mut body = Vec::with_capacity(256);
    let status = failure_status(failure);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| body.extend_from_slice(part));
    put(&[b"{\"status\":", &status, b",\"request_id\":\"", id.as_bytes()]);
    put(&[b"\",\"error_category\":\"", failure.category().as_bytes()]);
    if let Some(rule) = rule {
        put(&[b"\",\"rule\":\"", rule.as_str().as_bytes()]);
    }
    put(&[b"\",\"message\":\"", failure.message().as_bytes()]);
    if let Some(words) = rule.and_then(Rule::words) {
        put(&[b": ", words.as_bytes()]);
    }
    put(&[b"\"}\n"]);
    Bytes::from(body)
}

fn failure_status(failure: Failure) -> [u8; 3] {
    let status = failure.status();
    [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(failure: Failure, rule: Option<Rule>) -> serde_json::Value {
        let body = content(failure, rule, &HeaderValue::from_static("a'b|c"));
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn every_failure_is_valid_json() {
        for failure in Failure::ALL {
            let body = parsed(failure, None);
            assert_eq!(body["status"], failure.status());
            assert_eq!(body["error_category"], failure.category());
            assert_eq!(
                (&body["request_id"], &body["message"]),
                (&"a'b|c".into(), &failure.message().into())
            );
            assert_eq!(body.get("rule"), None);
        }
    }

    #[test]
    fn the_rule_that_was_broken_is_named_and_put_into_words() {
        let body = parsed(Failure::BadRequest, Some(Rule::HostMissing));
        assert_eq!(body["rule"], "host_missing");
        assert_eq!(body["message"], "the request is malformed: there is no Host");
        for rule in Rule::ALL {
            let body = parsed(rule.failure(), Some(*rule));
            assert_eq!(body["rule"], rule.as_str());
            let message = body["message"].as_str().unwrap();
            // gRPC-message of HTTP/2 would have '%' encoded.
            let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
            assert!(message.bytes().all(is_plain), "{message}");
            // "Malformed" alone helps nobody who is to mend it.
            let says_how = rule.failure() != Failure::BadRequest || rule.words().is_some();
            let is_answered = !["h2_", "proxy_"].iter().any(|of| rule.as_str().starts_with(of));
            assert!(says_how || !is_answered, "{rule}");
        }
    }
}
