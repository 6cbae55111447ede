//! WebSocket and other protocols over HTTP/2 (RFC 8441): an extended `CONNECT` is the same request as one of HTTP/1.1 that
//! asks to go over (`upgrade`), and what it becomes is the same tunnel.
//!
//! To an upstream of HTTP/1.1 it goes as that: a GET, for WebSocket with a key made here, whose answer is checked here (RFC
//! 6455 §4.1), since a client of HTTP/2 has neither. To one of HTTP/2 it goes as it came, if that says that it takes them.
//! Where it cannot go over it is refused, and never an ordinary request: its client takes any 2xx for consent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use sha1::{Digest, Sha1};
use sluice_model::limits::UPSTREAM_UNPROCESSED_ATTEMPTS;
use sluice_model::upgrade::UpgradeToken;

use super::Answer;
use super::body::{ClientBody, RequestBody};
use super::exchange::Exchange;
use super::failure::Failure;
use super::far::Far;
use super::forward::{Miss, Outgoing, Way};
use super::http2::Refusal;
use super::{http2, upgrade};
use crate::guard::rule::Rule;
use crate::http2::duplex::Duplex;
use crate::tls::upstream::Offer;
use crate::upstream::dial::Unreached;
use crate::upstream::http2::Slot;
use crate::upstream::multiplexed::{Got, Multiplexed};
use crate::worker::chance::Chance;

/// RFC 6455 §1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An extended `CONNECT`.
pub(super) struct Connect {
    /// What it is to go over to, as the client named it.
    protocol: Protocol,
    /// What an upstream of HTTP/1.1 has to answer to the key that it was sent.
    accept: Option<HeaderValue>,
    /// What the client sends: nothing of it is read before the upstream has agreed.
    near: Option<ClientBody>,
}

/// Takes what makes a request one off it: from here on it is a GET, as a WebSocket of HTTP/1.1 is.
pub(super) fn take<B>(request: &mut Request<B>) -> Option<Box<Connect>> {
    let protocol = request.extensions_mut().remove::<Protocol>()?;
    *request.method_mut() = Method::GET;
    Some(Box::new(Connect {
        protocol,
        accept: None,
        near: None,
    }))
}

impl Connect {
    /// What it is to go over to, if its rule allows that.
    pub(super) fn wanted(&self, allowed: &[UpgradeToken]) -> Result<UpgradeToken, Rule> {
        let is = |token: &&UpgradeToken| self.protocol.as_str().eq_ignore_ascii_case(token.as_str());
        allowed.iter().find(is).cloned().ok_or(Rule::ConnectProtocol)
    }

    /// Asks an upstream of HTTP/1.1.
    pub(super) fn ask(&mut self, headers: &mut HeaderMap, token: &UpgradeToken, chance: &Chance) {
        upgrade::ask(headers, token);
        headers.remove(SEC_WEBSOCKET_KEY);
        if token.as_str() != "websocket" {
            return;
        }
        let nonce = [chance.next().to_be_bytes(), chance.next().to_be_bytes()].concat();
        let key = STANDARD.encode(nonce);
        self.accept = HeaderValue::try_from(accept_of(&key)).ok();
        if let Ok(key) = HeaderValue::try_from(key) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
    }

    /// What the client sends is kept for the tunnel, and the request has no body.
    pub(super) fn keep(&mut self, near: ClientBody) -> RequestBody {
        self.near = Some(near);
        RequestBody::Empty
    }

    /// What the client sends, for the tunnel.
    pub(super) fn take_near(&mut self) -> Option<RecvStream> {
        match self.near.take()? {
            ClientBody::Http2(incoming) => Some(incoming.into_recv()),
            ClientBody::Http1(..) => None,
        }
    }
}

/// The answer to a key (RFC 6455 §4.2.2).
fn accept_of(key: &str) -> String {
    let hash = Sha1::new().chain_update(key).chain_update(WEBSOCKET_GUID).finalize();
    STANDARD.encode(hash)
}

/// Fails if an upstream of HTTP/1.1 answers in a way that the client would misunderstand: by a 2xx, which to him is consent,
/// or by consent to another key.
pub(super) fn check<B>(connect: Option<&Connect>, response: &Response<B>) -> Result<(), Failure> {
    let Some(connect) = connect else { return Ok(()) };
    let mut answers = response.headers().get_all(SEC_WEBSOCKET_ACCEPT).iter();
    let right = match (&connect.accept, answers.next(), answers.next()) {
        (Some(accept), Some(answer), None) => accept == answer,
        (None, _, _) => true,
        (Some(_), _, _) => false,
    };
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS if right => Ok(()),
        StatusCode::SWITCHING_PROTOCOLS => Err(Failure::UpstreamProtocolError),
        status if status.is_success() => Err(Failure::UpstreamProtocolError),
        _ => Ok(()),
    }
}

/// Sends it over a stream of HTTP/2, if the endpoint takes it there. What the upstream says it did not process goes over
/// another connection; anything else is asked once.
pub(super) async fn forward(exchange: &mut Exchange, way: &Way, request: Outgoing) -> Result<Answer, Miss> {
    let worker = exchange.worker.clone();
    let mut avoid = None;
    for _ in 0..UPSTREAM_UNPROCESSED_ATTEMPTS {
        let got = Multiplexed::get(&worker, way, Offer::Http2, avoid.as_ref()).await;
        let slot = match got {
            Ok(Got::Stream(slot)) => slot,
            Ok(Got::Http1(_)) => return Err(exchange.unreached(request, &Unreached::NoHttp2)),
            Err(unreached) => return Err(exchange.unreached(request, &unreached)),
        };
        avoid = Some(slot.connection().clone());
        // Known since its SETTINGS have come, and before that the connection was not open.
        if !slot.sender().is_extended_connect_protocol_enabled() {
            return Err(exchange.unreached(request, &Unreached::NoConnect));
        }
        match attempt(exchange, slot, &request, way).await {
            Ok(answer) => return Ok(answer),
            Err(Refusal::Unprocessed) => {}
            Err(Refusal::Broke(failure) | Refusal::Sent(failure)) => return Err(Miss::Sent(failure)),
        }
    }
    Err(Miss::Unreached(request, Failure::UpstreamReset))
}

async fn attempt(
    exchange: &mut Exchange,
    slot: Slot,
    request: &Request<RequestBody>,
    way: &Way,
) -> Result<Answer, Refusal> {
    let Ok(mut sender) = slot.sender().ready().await else {
        return Err(Refusal::Unprocessed);
    };
    let head = head(exchange, request, way).ok_or(Refusal::Sent(Failure::Internal))?;
    let Ok((response, send)) = sender.send_request(head, false) else {
        return Err(Refusal::Unprocessed);
    };
    exchange.sending();
    let response = http2::head_of(exchange, &slot, response).await?;
    slot.heard();
    exchange.upstream_answered();
    Ok(answer(response, send, slot))
}

/// The head as it came, but for what is said of this hop.
fn head(exchange: &Exchange, request: &Request<RequestBody>, way: &Way) -> Option<Request<()>> {
    let mut head = http2::head(request, way)?;
    *head.method_mut() = Method::CONNECT;
    let protocol = exchange.upgrade.as_ref()?.as_str();
    head.extensions_mut().insert(Protocol::from(protocol));
    for name in [TE, SEC_WEBSOCKET_KEY] {
        head.headers_mut().remove(name);
    }
    Some(head)
}

fn answer(response: Response<RecvStream>, mut send: SendStream<bytes::Bytes>, slot: Slot) -> Answer {
    if response.status().is_success() {
        let (parts, recv) = response.into_parts();
        let far = Far::Stream(Duplex::upstream(recv, send), slot);
        return Answer::Tunnel(Response::from_parts(parts, ()), far);
    }
    // There is nothing more to say to it. Fails only if it has reset the stream.
    let _ = send.send_data(bytes::Bytes::new(), true);
    Answer::Upstream(http2::incoming(response, slot, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocol: &'static str) -> (Connect, HeaderMap) {
        let mut request = Request::connect("http://a.test/ws").body(()).unwrap();
        request.extensions_mut().insert(Protocol::from_static(protocol));
        let mut connect = take(&mut request).unwrap();
        assert_eq!(request.method(), Method::GET);
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("the client's"));
        let token = UpgradeToken::new(&protocol.to_lowercase()).unwrap();
        assert!(connect.wanted(&[]).is_err());
        assert_eq!(connect.wanted(std::slice::from_ref(&token)), Ok(token.clone()));
        connect.ask(&mut headers, &token, &Chance::from_seed(7));
        (*connect, headers)
    }

    #[test]
    fn the_key_and_its_answer_are_those_of_the_standard() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let (connect, headers) = asked("WebSocket");
        let key = headers[SEC_WEBSOCKET_KEY].to_str().unwrap();
        assert_eq!(STANDARD.decode(key).unwrap().len(), 16);
        let answer = |status: u16, accept: &[&str]| {
            let mut response = Response::builder().status(status);
            for accept in accept {
                response = response.header(SEC_WEBSOCKET_ACCEPT, *accept);
            }
            check(Some(&connect), &response.body(()).unwrap())
        };
        let right = accept_of(key);
        let wrong = Err(Failure::UpstreamProtocolError);
        assert_eq!(answer(101, &[&right]), Ok(()));
        assert_eq!(answer(101, &[]), wrong);
        assert_eq!(answer(101, &["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]), wrong);
        assert_eq!(answer(101, &[&right, &right]), wrong);
        assert_eq!(answer(200, &[&right]), wrong, "to its client it would be consent");
        assert_eq!(answer(403, &[]), Ok(()));
    }

    #[test]
    fn other_protocols_have_no_key() {
        let (connect, headers) = asked("x-own");
        assert!(!headers.contains_key(SEC_WEBSOCKET_KEY));
        let response = Response::builder().status(101).body(()).unwrap();
        assert_eq!(check(Some(&connect), &response), Ok(()));
    }
}
