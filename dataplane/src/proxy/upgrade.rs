//! Going over to another protocol (RFC 9110 §7.8), for those that a rule allows.
//!
//! A request that asks for anything else, or asks in a way that two readers could understand differently, is an ordinary
//! request: what it asks with concerns one hop and goes no further. One that may go over is sent to the upstream over a
//! connection of its own, with one protocol named. Nothing that follows its head is read before the upstream has agreed to
//! exactly that protocol (`guard::hold`); from then on the two connections are a [`Tunnel`].

use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, TE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Body;
use sluice_model::upgrade::UpgradeToken;
use tokio::sync::oneshot;

use super::Answer;
use super::body::ResponseBody;
use super::exchange::Exchange;
use super::failure::Failure;
use super::far::Far;
use super::forward::{Miss, Outgoing, Way};
use super::headers::Survey;
use super::http1;
use super::tunnel::Tunnel;
use crate::guard::hold::Held;
use crate::middleware::modify;
use crate::middleware::request_id::X_REQUEST_ID;
use crate::tls::upstream::Offer;
use crate::upstream::dial;

/// The protocol that a request may go over to, of those that its rule allows. Asked before the fields that say so are
/// taken out.
pub(super) fn wanted<B: Body>(
    exchange: &Exchange,
    survey: &Survey,
    request: &Request<B>,
    allowed: &[UpgradeToken],
) -> Option<UpgradeToken> {
    if allowed.is_empty() || request.version() != Version::HTTP_11 || *request.method() != Method::GET {
        return None;
    }
    let bodiless = survey.content_lengths == 0 && survey.transfer_encodings == 0 && request.body().is_end_stream();
    // The guard has judged by the bytes; if the two disagree, nothing changes.
    if !bodiless || !exchange.connection.gate.holds() {
        return None;
    }
    named(request.headers(), allowed)
}

/// The one protocol that a head names, if it is one of these.
fn named(headers: &HeaderMap, allowed: &[UpgradeToken]) -> Option<UpgradeToken> {
    let mut lines = headers.get_all(UPGRADE).into_iter();
    let (only, None) = (lines.next()?, lines.next()) else {
        return None;
    };
    let is = |token: &&UpgradeToken| only.as_bytes().eq_ignore_ascii_case(token.as_str().as_bytes());
    allowed.iter().find(is).cloned()
}

/// Asks the next hop for it, after what concerned only the hop before was taken out.
pub(super) fn ask(headers: &mut HeaderMap, token: &UpgradeToken) {
    headers.remove(TE);
    say(headers, token);
}

fn say(headers: &mut HeaderMap, token: &UpgradeToken) {
    if let Ok(value) = HeaderValue::from_str(token.as_str()) {
        headers.insert(UPGRADE, value);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Fails if an upstream goes over to a protocol that it was not asked for.
pub(super) fn check<B>(asked: Option<&UpgradeToken>, response: &Response<B>) -> Result<(), Failure> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    asked
        .and_then(|token| named(response.headers(), std::slice::from_ref(token)))
        .map(drop)
        .ok_or(Failure::UpstreamProtocolError)
}

/// Sends a request that may go over. Always over a fresh connection: one that rests may be closed in the very moment, and
/// what is asked here is not asked twice.
pub(super) async fn forward(exchange: &mut Exchange, way: &Way, request: Outgoing) -> Result<Answer, Miss> {
    let socket = match dial::open(&exchange.worker.clone(), way, Offer::Http1).await {
        Ok((socket, _)) => socket,
        Err(unreached) => return Err(exchange.unreached(request, &unreached)),
    };
    let Ok((upstream, mut driver)) = http1::begin(socket).await else {
        return Err(Miss::Unreached(request, Failure::UpstreamConnectFailed));
    };
    let (hand_over, handed_over) = oneshot::channel();
    tokio::task::spawn_local(async move {
        // Its errors reach the request that waits. Only after a change of protocol is anybody waiting for the rest.
        if (&mut driver).await.is_ok() {
            drop(hand_over.send(driver.into_parts()));
        }
    });
    match http1::attempt(exchange, upstream, way.place, request).await {
        Ok(Answer::Upstream(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let (parts, body) = response.into_parts();
            // The connection is given up when nobody can send by it any more.
            drop(body);
            let left = handed_over.await.map_err(|_| Miss::Sent(Failure::UpstreamReset))?;
            let far = Far::Socket(left.io.into_inner(), left.read_buf);
            Ok(Answer::Tunnel(Response::from_parts(parts, ()), far))
        }
        done => done,
    }
}

/// The client is told, and what follows on its connection is the tunnel's.
pub(super) fn respond(mut exchange: Box<Exchange>, response: Response<()>, far: Far) -> Response<ResponseBody> {
    let (mut parts, _) = response.into_parts();
    if exchange.connect.is_some() {
        // RFC 8441 §5: there is no 101 in HTTP/2, and no key that it would answer.
        parts.status = StatusCode::OK;
        parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
    }
    exchange.responded(parts.status.as_u16());
    Survey::of(&parts.headers).strip_response(&mut parts.headers);
    // RFC 9110 §8.6: there is none in a 1xx, nor in consent to a CONNECT, whatever the upstream says.
    parts.headers.remove(CONTENT_LENGTH);
    if let Some(rule) = exchange.rule_entry() {
        modify::apply(&rule.response_headers, &mut parts.headers);
    }
    if let (Some(token), None) = (&exchange.upgrade, &exchange.connect) {
        say(&mut parts.headers, token);
    }
    parts.headers.insert(X_REQUEST_ID, exchange.request_id.clone());
    parts.extensions.clear();
    parts.version = Version::HTTP_11;
    exchange.connection.gate.settle(Held::Tunnel);
    Response::from_parts(parts, ResponseBody::tunnel(Tunnel::new(exchange, far)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_protocol_is_named_and_nothing_beside_it() {
        let allowed = ["websocket", "x-own"].map(|text| UpgradeToken::new(text).unwrap());
        let check = |lines: &[&'static str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(UPGRADE, HeaderValue::from_static(line));
            }
            let found = named(&headers, &allowed);
            assert_eq!(found.as_ref().map(UpgradeToken::as_str), expected, "{lines:?}");
        };
        check(&["WebSocket"], Some("websocket"));
        check(&["x-own"], Some("x-own"));
        check(&[], None);
        check(&["h2c"], None);
        check(&["websocket/13"], None);
        check(&["websocket, h2c"], None);
        check(&["websocket", "websocket"], None);
        check(&["websocket", "h2c"], None);
    }
}
