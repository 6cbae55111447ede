//! Sending a request to an endpoint in HTTP/2: over a stream of a connection that others share.
//!
//! What an upstream says it did not process (RFC 9113 §8.7: a stream refused, or above the last one of a GOAWAY) goes over
//! another connection, with its body as far as that is remembered. The body is sent by a task of its own, so that both
//! directions flow at once; each is read only when the other side has room.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Body;
use sluice_model::limits::{HTTP2_FRAME_BYTES, MAX_RESPONSE_HEAD_BYTES, UPSTREAM_UNPROCESSED_ATTEMPTS};

use super::Answer;
use super::body::RequestBody;
use super::exchange::Exchange;
use super::failure::{Failure, Retryable};
use super::forward::{Miss, Outgoing, Repeat, Way, blame, check, repeat};
use super::http1;
use super::incoming::{Broken, Sending, Stream, UpstreamBody};
use crate::http2::room;
use crate::tls::upstream::Offer;
use crate::upstream::http2::Slot;
use crate::upstream::multiplexed::{Got, Multiplexed};

/// What a field counts beside its bytes.
const FIELD_OVERHEAD_BYTES: usize = 32;

/// The body of a request, which the task that sends it and the attempt that may have to begin anew both have.
type Shared = Rc<RefCell<RequestBody>>;

/// How an attempt ended without an answer.
pub(super) enum Refusal {
    /// The connection took nothing, or the upstream says that it did not process the request.
    Unprocessed,
    /// The connection broke, which was there before the request: the upstream may have been gone.
    Broke(Failure),
    /// It may have been acted upon.
    Sent(Failure),
}

/// Sends the request over a connection that has room, or a fresh one.
pub(super) async fn send(
    exchange: &mut Exchange,
    way: &Way,
    offer: Offer,
    mut request: Outgoing,
) -> Result<Answer, Miss> {
    let worker = exchange.worker.clone();
    let mut avoid = None;
    for _ in 0..UPSTREAM_UNPROCESSED_ATTEMPTS {
        let repeat = repeat(exchange, &request);
        let got = Multiplexed::get(&worker, way, offer, avoid.as_ref()).await;
        let slot = match got {
            Ok(Got::Stream(slot)) => slot,
            Ok(Got::Http1(socket)) => return http1::over(exchange, way.place, socket, request).await,
            Err(unreached) => return Err(exchange.unreached(request, &unreached)),
        };
        avoid = Some(slot.connection().clone());
        let head = head(&request, way).ok_or(Miss::Sent(Failure::Internal))?;
        let (parts, body) = request.into_parts();
        let body: Shared = Rc::new(RefCell::new(body));
        let refusal = match attempt(exchange, slot, head, &body).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::Unprocessed => {}
            Refusal::Broke(failure) if repeat == Repeat::Harmless && failure.retryable() == Retryable::IfIdempotent => {
                exchange.repeated = true;
            }
            Refusal::Broke(failure) | Refusal::Sent(failure) => return Err(Miss::Sent(failure)),
        }
        if !body.borrow_mut().rewind() {
            return Err(Miss::Sent(Failure::UpstreamReset));
        }
        let body = body.replace(RequestBody::Empty);
        request = Box::new(Request::from_parts(parts, body));
    }
    Err(Miss::Unreached(request, Failure::UpstreamReset))
}

/// The head as HTTP/2 has it: no field that concerns a connection (RFC 9113 §8.2.2), and the host in `:authority`.
pub(super) fn head(request: &Request<RequestBody>, way: &Way) -> Option<Request<()>> {
    let scheme = match way.settings().tls {
        Some(_) => Scheme::HTTPS,
        None => Scheme::HTTP,
    };
    let host = request.headers().get(HOST)?;
    let target = request.uri().path_and_query().cloned();
    let mut head = Request::new(());
    *head.uri_mut() = Uri::builder()
        .scheme(scheme)
        .authority(Authority::try_from(host.as_bytes()).ok()?)
        .path_and_query(target.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()
        .ok()?;
    *head.method_mut() = request.method().clone();
    *head.version_mut() = Version::HTTP_2;
    let headers = head.headers_mut();
    *headers = request.headers().clone();
    for name in [HOST, CONNECTION, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    Some(head)
}

async fn attempt(exchange: &mut Exchange, slot: Slot, head: Request<()>, body: &Shared) -> Result<Answer, Refusal> {
    let Ok(mut sender) = slot.sender().ready().await else {
        return Err(Refusal::Unprocessed);
    };
    body.borrow_mut().keep();
    let ends = body.borrow().is_end_stream();
    let Ok((response, stream)) = sender.send_request(head, ends) else {
        return Err(Refusal::Unprocessed);
    };
    exchange.sending();
    let sending = (!ends).then(|| {
        let mut upload = Upload {
            stream,
            body: body.clone(),
            waiting: None,
        };
        let task = tokio::task::spawn_local(async move { poll_fn(|cx| upload.poll(cx)).await });
        Sending::new(task.abort_handle())
    });
    let response = head_of(exchange, &slot, response).await?;
    body.borrow_mut().forget();
    slot.heard();
    exchange.upstream_answered();
    check(exchange, &response).map_err(Refusal::Sent)?;
    Ok(Answer::Upstream(incoming(response, slot, sending)))
}

/// The head of the response. What comes before it is told to the client, and bounded as in HTTP/1.1: all of it together is
/// no larger than one head may be.
pub(super) async fn head_of(
    exchange: &Exchange,
    slot: &Slot,
    mut response: ResponseFuture,
) -> Result<Response<RecvStream>, Refusal> {
    let hints = exchange.hints();
    let mut left = MAX_RESPONSE_HEAD_BYTES;
    poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            slot.heard();
            left = left.saturating_sub(size(interim.headers()));
            // There is no 101 in HTTP/2 (RFC 9113 §8.6).
            if left == 0 || interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(Refusal::Sent(Failure::UpstreamProtocolError)));
            }
            if let Some(hints) = &hints {
                hints.came(interim.status(), interim.headers());
            }
        }
        let response = ready!(Pin::new(&mut response).poll(cx));
        Poll::Ready(response.map_err(|error| refusal(exchange, slot, error)))
    })
    .await
}

/// As HTTP/2 counts a head (RFC 9113 §6.5.2), with its status.
fn size(headers: &HeaderMap) -> usize {
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len().saturating_add(value.len()));
    sizes.fold(FIELD_OVERHEAD_BYTES, |sum, size| {
        sum.saturating_add(size).saturating_add(FIELD_OVERHEAD_BYTES)
    })
}

/// The response as the proxy has it.
pub(super) fn incoming(response: Response<RecvStream>, slot: Slot, sending: Option<Sending>) -> Response<UpstreamBody> {
    let length = response.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length: &HeaderValue| length.to_str().ok()?.parse().ok());
    response.map(|recv| {
        UpstreamBody::Http2(Stream {
            data_ended: false,
            recv,
            slot,
            length,
            sending,
        })
    })
}

/// What an error says about whether the request was processed.
pub(super) fn refusal(exchange: &Exchange, slot: &Slot, error: h2::Error) -> Refusal {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    if error.is_remote() && (refused || error.is_go_away()) {
        return Refusal::Unprocessed;
    }
    let broke = error.is_io() && slot.is_reused();
    let failure = blame(exchange, &Broken::Http2(error));
    if broke {
        Refusal::Broke(failure)
    } else {
        Refusal::Sent(failure)
    }
}

/// A body that is being sent.
struct Upload {
    stream: SendStream<Bytes>,
    body: Shared,
    /// What the upstream's window has no room for yet.
    waiting: Option<Bytes>,
}

impl Upload {
    /// Ready when it is over, in whatever way.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            if let Some(data) = self.waiting.take() {
                match ready!(self.send_piece(data, cx)) {
                    Ok(()) => continue,
                    Err(_) => return Poll::Ready(()),
                }
            }
            let frame = ready!(Pin::new(&mut *self.body.borrow_mut()).poll_frame(cx));
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.waiting = Some(data).filter(|data| !data.is_empty()),
                    Err(frame) => return self.end(frame.into_trailers().ok()),
                },
                // The client broke it off: never an end that could be taken for the body's.
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
                None => return self.end(None),
            }
        }
    }

    fn send_piece(&mut self, mut data: Bytes, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let wanted = data.len().min(HTTP2_FRAME_BYTES as usize);
        let Poll::Ready(room) = room::poll(&mut self.stream, wanted, cx) else {
            self.waiting = Some(data);
            return Poll::Pending;
        };
        let piece = data.split_to(room?);
        self.stream.send_data(piece, false)?;
        self.waiting = Some(data).filter(|data| !data.is_empty());
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Poll<()> {
        // Fails only if the stream is gone, which whoever waits for the answer is told.
        let _ = match trailers {
            Some(trailers) if !trailers.is_empty() => self.stream.send_trailers(trailers),
            Some(_) | None => self.stream.send_data(Bytes::new(), true),
        };
        Poll::Ready(())
    }
}
