//! One request of an HTTP/2 connection and its response. What is sent waits here until the client's window has room for
//! it, and not in the codec, so that a client that gives none pins one piece of a body and is seen to give none.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body;
use sluice_model::limits::HTTP2_FRAME_BYTES;

use super::duplex::Duplex;
use super::incoming::Incoming;
use super::state::{Http2, Stream, Window};
use super::{request, room};
use crate::proxy;
use crate::proxy::body::{ClientBody, ResponseBody};
use crate::proxy::headers::clean_response_trailers;
use crate::proxy::tunnel::Tunnel;
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// Takes the stream off its connection however its task ends.
struct Place {
    id: u32,
    http2: Rc<Http2>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.http2.close(self.id);
    }
}

/// Answers one request.
pub(super) async fn answer(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    http2: Rc<Http2>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let id = respond.stream_id().as_u32();
    let stream = http2.open(id, request::head_bytes(&request));
    let _place = Place { id, http2 };
    let for_head = *request.method() == Method::HEAD;
    let request = with_body(request, &stream);
    let response = {
        let mut answering = pin!(proxy::serve(worker, connection, request));
        poll_fn(|cx| poll_answer(&mut respond, &stream, answering.as_mut(), cx)).await
    };
    let Some(mut response) = response else { return };
    if let Some(tunnel) = response.body_mut().take_tunnel() {
        let (head, _) = finished(response, false);
        // Fails only if the stream was reset meanwhile: then there is nobody to carry anything for.
        if let Ok(send) = respond.send_response(head, false) {
            carry(tunnel, send, &stream).await;
        }
        return;
    }
    let (head, mut body) = finished(response, for_head);
    let ends = for_head || body.is_end_stream();
    let Ok(send) = respond.send_response(head, ends) else {
        body.lose(); // reset meanwhile
        return;
    };
    if ends {
        stream.answered();
        return;
    }
    let mut sending = Sending {
        send,
        stream,
        body,
        waiting: None,
        over: Over::No,
    };
    poll_fn(|cx| sending.poll(cx)).await;
}

/// What has left HTTP on this stream, until it ends or is to end.
async fn carry(mut tunnel: Box<Tunnel>, send: SendStream<Bytes>, stream: &Rc<Stream>) {
    let Some(recv) = tunnel.take_near() else { return };
    stream.answered();
    let mut running = pin!(tunnel.run(Duplex::client(recv, send, stream.clone()), Bytes::new()));
    poll_fn(|cx| {
        stream.driven_by(cx.waker());
        if stream.is_tunnel_over() {
            return Poll::Ready(());
        }
        running.as_mut().poll(cx)
    })
    .await;
}

fn with_body(request: Request<RecvStream>, stream: &Rc<Stream>) -> Request<ClientBody> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let expects = text(EXPECT).is_some_and(|expects| expects.eq_ignore_ascii_case("100-continue"));
    request.map(|recv| ClientBody::Http2(Incoming::new(recv, stream.clone(), length, expects)))
}

/// `None`: nobody waits for the answer any more.
fn poll_answer<F: Future<Output = Response<ResponseBody>>>(
    respond: &mut SendResponse<Bytes>,
    stream: &Stream,
    answering: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Option<Response<ResponseBody>>> {
    stream.driven_by(cx.waker());
    if respond.poll_reset(cx).is_ready() {
        return Poll::Ready(None);
    }
    let answer = answering.poll(cx);
    if answer.is_pending() && stream.take_want_continue() {
        let mut go_on = Response::new(());
        *go_on.status_mut() = StatusCode::CONTINUE;
        // Fails only if the stream is gone.
        let _ = respond.send_informational(go_on);
    }
    // Before the answer, also if that came at once.
    while let Some(hint) = stream.take_hint(cx.waker()) {
        // Fails only if the stream is gone.
        let _ = respond.send_informational(hint);
    }
    answer.map(Some)
}

/// The head as HTTP/2 has it.
fn finished(response: Response<ResponseBody>, for_head: bool) -> (Response<()>, ResponseBody) {
    let (mut parts, body) = response.into_parts();
    // Ours alone: what the upstream said of its own connection is gone already.
    parts.headers.remove(CONNECTION);
    let length = body.size_hint().exact();
    if let Some(length) = length.filter(|length| !body.is_end_stream() || (for_head && *length > 0)) {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    let now = || HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now()));
    if !parts.headers.contains_key(DATE)
        && let Ok(now) = now()
    {
        parts.headers.insert(DATE, now);
    }
    (Response::from_parts(parts, ()), body)
}

/// A response body that is being sent.
struct Sending {
    send: SendStream<Bytes>,
    stream: Rc<Stream>,
    body: ResponseBody,
    /// What the window has no room for yet.
    waiting: Option<Bytes>,
    over: Over,
}

/// Whether the client got all there was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    /// It did not.
    No,
    /// It did, or there was no more.
    Yes,
}

impl Drop for Sending {
    fn drop(&mut self) {
        match self.over {
            Over::No => self.body.lose(),
            Over::Yes => {}
        }
    }
}

impl Sending {
    /// Ready when it is over, in whatever way.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.driven_by(cx.waker());
        if self.stream.is_response_cut() {
            self.send.send_reset(Reason::CANCEL);
            return Poll::Ready(());
        }
        if self.send.poll_reset(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            if let Some(data) = self.waiting.take() {
                match ready!(self.send_piece(data, cx)) {
                    Ok(Sent::All) => {
                        self.done();
                        return Poll::Ready(());
                    }
                    Ok(Sent::Some) => continue,
                    Err(_) => return Poll::Ready(()),
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() && !self.body.is_end_stream() => {}
                    Ok(data) => self.waiting = Some(data),
                    Err(frame) => return self.end(frame.into_trailers().ok()),
                },
                // Never an end that could be taken for the body's.
                Some(Err(_)) => {
                    self.over = Over::Yes;
                    self.send.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                None => return self.end(None),
            }
        }
    }

    fn done(&mut self) {
        self.over = Over::Yes;
        self.stream.answered();
    }

    fn send_piece(&mut self, mut data: Bytes, cx: &mut Context<'_>) -> Poll<Result<Sent, h2::Error>> {
        let wanted = data.len().min(HTTP2_FRAME_BYTES as usize);
        if wanted == 0 {
            self.send.send_data(data, true)?;
            return Poll::Ready(Ok(Sent::All));
        }
        let Poll::Ready(room) = room::poll(&mut self.send, wanted, cx) else {
            self.stream.response_waits();
            self.waiting = Some(data);
            return Poll::Pending;
        };
        let room = room?;
        let piece = data.split_to(room);
        let window = if room == wanted { Window::Enough } else { Window::Short };
        self.stream.response_went(room, window);
        let ends = data.is_empty() && self.body.is_end_stream();
        self.send.send_data(piece, ends)?;
        if !data.is_empty() {
            self.waiting = Some(data);
        }
        Poll::Ready(Ok(if ends { Sent::All } else { Sent::Some }))
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Poll<()> {
        let ended = match trailers {
            Some(mut trailers) => {
                clean_response_trailers(&mut trailers);
                self.send.send_trailers(trailers)
            }
            None => self.send.send_data(Bytes::new(), true),
        };
        if ended.is_ok() {
            self.done();
        }
        Poll::Ready(())
    }
}

/// How far a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    /// To its end.
    All,
    /// There may be more.
    Some,
}
