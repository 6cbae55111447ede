//! Bodies in both directions: streamed frame by frame with the sender's pace set by the receiver, counted, and
//! watched for whose side breaks.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::deadline::Clock;
use super::exchange::Exchange;
use super::failure::Failure;
use super::grpc;
use super::headers::clean_trailers;
use super::incoming::{Broken as UpstreamBroken, UpstreamBody, inner};
use super::replay::{Piece, Replay};
use super::tunnel::Tunnel;
use crate::guard::rule::Rule;
use crate::http2::incoming;
use crate::http2::state::Stream;
use crate::worker::connection::{Closing, Reading};

/// How far a request body has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// There may be more.
    Flowing,
    /// All of it was handed on.
    Done,
    /// The client broke it.
    Broken(Failure),
}

/// What the exchange sees of its request body, which the upstream connection's task consumes.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(super) bytes: Cell<u64>,
    /// When something of it came last.
    pub(super) moved: Cell<Instant>,
    pub(super) progress: Cell<Progress>,
    /// Whether more of it is waited for.
    pub(super) waits: Cell<bool>,
    /// The rule by which the client broke it, if it was that.
    pub(super) rule: Cell<Option<Rule>>,
}

/// The body of a request as its codec reads it.
pub(crate) enum ClientBody {
    /// Of HTTP/1.1; its connection rests only when this is gone, unless it is empty.
    Http1(
        Incoming,
        #[expect(dead_code, reason = "told by its drop")] Option<Reading>,
    ),
    /// Of HTTP/2.
    Http2(incoming::Incoming),
}

/// Why a client's body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// As the codec of HTTP/1.1 says.
    #[error(transparent)]
    Http1(hyper::Error),
    /// As that of HTTP/2 does.
    #[error(transparent)]
    Http2(incoming::Broken),
    /// There is more of it than its rule allows.
    #[error("the body is larger than it may be")]
    TooLarge,
}

impl Broken {
    /// The rule that was broken.
    fn rule(&self) -> Option<Rule> {
        match self {
            // The guard of the connection names it.
            Self::Http1(error) => inner(error)?.get_ref()?.downcast_ref::<Rule>().copied(),
            Self::Http2(incoming::Broken::Cut(rule)) => Some(*rule),
            Self::TooLarge => Some(Rule::BodySize),
            // A length that differs from the body, for one.
            Self::Http2(incoming::Broken::Stream(error)) => error.is_library().then_some(Rule::H2Protocol),
        }
    }

    /// Whether the client sent nonsense or went away.
    fn failure(&self) -> Failure {
        if let Some(rule) = self.rule() {
            return rule.failure();
        }
        match self {
            // The codec reports nonsense as invalid input or data.
            Self::Http1(error) => match inner(error).map(io::Error::kind) {
                Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Failure::BadRequest,
                Some(_) | None => Failure::ClientClosed,
            },
            Self::Http2(_) | Self::TooLarge => Failure::ClientClosed,
        }
    }
}

impl ClientBody {
    /// The stream that it comes by, in HTTP/2.
    pub(super) fn stream(&self) -> Option<&Rc<Stream>> {
        match self {
            Self::Http1(..) => None,
            Self::Http2(incoming) => Some(incoming.stream()),
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Http1(incoming, _) => Pin::new(incoming).poll_frame(cx).map_err(Broken::Http1),
            Self::Http2(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Broken::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming, _) => incoming.is_end_stream(),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming, _) => incoming.size_hint(),
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}

/// A request body on its way to an upstream.
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// The client's.
    Client(Box<Streamed>),
}

/// A client's body, with what is known of it.
pub(crate) struct Streamed {
    incoming: ClientBody,
    watch: Rc<Watch>,
    /// Of its trailers the fields with these names concern this hop only.
    nominated: Vec<HeaderName>,
    /// How many bytes it may have.
    most: u64,
    replay: Replay,
}

impl RequestBody {
    /// The body of a request, of at most so many bytes, and, if there is one, its watch.
    pub(super) fn new(
        incoming: ClientBody,
        nominated: Vec<HeaderName>,
        most: Option<u64>,
    ) -> (Self, Option<Rc<Watch>>) {
        if incoming.is_end_stream() {
            return (Self::Empty, None);
        }
        let watch = Rc::new(Watch {
            bytes: Cell::new(0),
            moved: Cell::new(Instant::now()),
            progress: Cell::new(Progress::Flowing),
            waits: Cell::new(false),
            rule: Cell::new(None),
        });
        let streamed = Streamed {
            incoming,
            watch: watch.clone(),
            nominated,
            most: most.unwrap_or(u64::MAX),
            replay: Replay::default(),
        };
        (Self::Client(Box::new(streamed)), Some(watch))
    }

    /// What is handed on from here on may have to be handed on again.
    pub(super) fn keep(&mut self) {
        match self {
            Self::Empty => {}
            Self::Client(streamed) => streamed.replay.keep(),
        }
    }

    /// It will not have to.
    pub(super) fn forget(&mut self) {
        match self {
            Self::Empty => {}
            Self::Client(streamed) => streamed.replay.forget(),
        }
    }

    /// Begins anew; whether that is possible.
    pub(super) fn rewind(&mut self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(streamed) => streamed.replay.rewind(),
        }
    }
}

impl Streamed {
    fn note(&mut self, frame: Option<Result<Frame<Bytes>, Broken>>) -> Option<Result<Frame<Bytes>, Broken>> {
        let watch = &self.watch;
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    let bytes = watch.bytes.get().saturating_add(data.len() as u64);
                    watch.bytes.set(bytes);
                    watch.moved.set(Instant::now());
                    if bytes > self.most {
                        return Some(Err(self.breaks(Broken::TooLarge)));
                    }
                    self.replay.data(data);
                }
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers, &self.nominated);
                    self.replay.trailers(trailers);
                }
                // Who sends them on asks for nothing more.
                if frame.is_trailers() || self.incoming.is_end_stream() {
                    watch.progress.set(Progress::Done);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(self.breaks(error))),
            None => {
                watch.progress.set(Progress::Done);
                None
            }
        }
    }

    fn breaks(&self, error: Broken) -> Broken {
        self.watch.rule.set(error.rule());
        self.watch.progress.set(Progress::Broken(error.failure()));
        error
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self::Client(streamed) = self.get_mut() else {
            return Poll::Ready(None);
        };
        match streamed.replay.next() {
            Some(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => {}
        }
        let frame = Pin::new(&mut streamed.incoming).poll_frame(cx);
        streamed.watch.waits.set(frame.is_pending());
        Poll::Ready(streamed.note(ready!(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(streamed) => streamed.replay.is_over() && streamed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(streamed) => streamed.incoming.size_hint(),
        }
    }
}

enum Source {
    /// Ours, whole.
    Own(Option<Bytes>),
    /// The upstream's.
    Upstream(UpstreamBody),
    /// None: what follows the head is another protocol's.
    Tunnel(Option<Box<Tunnel>>),
}

/// What an upstream's body has, or that it took too long.
fn in_time(
    frame: Poll<Option<Result<Frame<Bytes>, UpstreamBroken>>>,
    clock: Option<&mut Clock>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, UpstreamBroken>>> {
    let Some(clock) = clock else { return frame };
    if frame.is_pending() {
        return clock.poll(cx).map(|failure| Some(Err(UpstreamBroken::Slow(failure))));
    }
    clock.moved();
    frame
}

/// A response body on its way to the client. The exchange ends with it.
pub(crate) struct ResponseBody {
    source: Source,
    /// `None` after a panic, when the exchange has ended before.
    exchange: Option<Box<Exchange>>,
    ended: bool,
    /// Whoever was to send it did not send all that it got.
    lost: bool,
    /// Its upstream broke off, which a codec that still holds some of it is not told yet.
    broken: Option<UpstreamBroken>,
    /// How long all of it may take, if that is bounded.
    clock: Option<Box<Clock>>,
    /// How a call ended is said in its trailers, also where its upstream breaks off and cannot say it.
    trailers_tell: bool,
}

impl ResponseBody {
    /// A body of our own.
    pub(super) fn own(content: Bytes, exchange: Option<Box<Exchange>>) -> Self {
        Self {
            source: Source::Own(Some(content).filter(|content| !content.is_empty())),
            exchange,
            ended: false,
            lost: false,
            broken: None,
            clock: None,
            trailers_tell: false,
        }
    }

    /// The upstream's.
    pub(super) fn upstream(head: &HeaderMap, body: UpstreamBody, exchange: Box<Exchange>) -> Self {
        // Where both sides speak gRPC; and what has said how long it is can only be cut.
        let call = exchange.call().is_some() && grpc::call(head).is_some();
        let trailers_tell = exchange.stream.is_some() && call && body.size_hint().exact().is_none();
        // Its head.
        exchange.connection.gate.response_given();
        let watch = &exchange.request_body;
        let clock = exchange
            .deadline
            .map(|deadline| Box::new(Clock::new(deadline, watch.clone())));
        Self {
            source: Source::Upstream(body),
            exchange: Some(exchange),
            ended: false,
            lost: false,
            broken: None,
            clock,
            trailers_tell,
        }
    }

    /// None, but a tunnel in its place, which has the exchange.
    pub(super) fn tunnel(tunnel: Box<Tunnel>) -> Self {
        Self {
            source: Source::Tunnel(Some(tunnel)),
            exchange: None,
            ended: false,
            lost: false,
            broken: None,
            clock: None,
            trailers_tell: false,
        }
    }

    /// The tunnel that begins when the head is sent, if one does.
    pub(crate) fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        match &mut self.source {
            Source::Tunnel(tunnel) => tunnel.take(),
            Source::Own(_) | Source::Upstream(_) => None,
        }
    }

    /// What it handed on did not all get to the client, although it may be at its end.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    fn sent(&mut self, bytes: usize) {
        if let Some(exchange) = &mut self.exchange {
            exchange.bytes_out = exchange.bytes_out.saturating_add(bytes as u64);
            exchange.connection.gate.response_given();
        }
    }

    /// Whether the codec of HTTP/1.1 has not written all that came. It drops that when a body breaks, and its client could not
    /// tell what broke from a response that never began.
    fn is_unwritten(&self) -> bool {
        let codec = self.exchange.as_ref().filter(|exchange| exchange.stream.is_none());
        codec.is_some_and(|exchange| exchange.connection.gate.response_is_unwritten())
    }

    /// The upstream broke off. Where only the end of the connection ends the body, it must not end in order.
    fn broke(&mut self, error: &UpstreamBroken) {
        if let Some(exchange) = &mut self.exchange {
            exchange.broke(error.failure());
            if matches!(exchange.version, Version::HTTP_09 | Version::HTTP_10) {
                exchange.connection.closing.set(Closing::Reset);
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = UpstreamBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamBroken>>> {
        if self.broken.is_some() {
            // The codec writes what it has before it asks again.
            return match self.is_unwritten() {
                true => Poll::Pending,
                false => Poll::Ready(self.broken.take().map(Err)),
            };
        }
        let frame = match &mut self.source {
            Source::Own(content) => content.take().map(|content| Ok(Frame::data(content))),
            Source::Upstream(body) => ready!(in_time(Pin::new(body).poll_frame(cx), self.clock.as_deref_mut(), cx)),
            Source::Tunnel(_) => None,
        };
        if let Some(Err(error)) = &frame
            && self.trailers_tell
        {
            self.broke(error);
            let status = grpc::Status::of(error.failure());
            if let Some(exchange) = &mut self.exchange {
                exchange.call_told(status);
            }
            let told = grpc::broken_off(status);
            self.source = Source::Own(None);
            self.ended = true;
            return Poll::Ready(Some(Ok(Frame::trailers(told))));
        }
        match frame {
            Some(Err(error)) if self.is_unwritten() => {
                self.broke(&error);
                self.broken = Some(error);
                return Poll::Pending;
            }
            _ => {}
        }
        match &frame {
            Some(Ok(frame)) => {
                self.sent(frame.data_ref().map_or(0, Bytes::len));
                if let (Some(trailers), Some(exchange)) = (frame.trailers_ref(), &mut self.exchange) {
                    exchange.call_ended(trailers);
                }
            }
            Some(Err(error)) => self.broke(error),
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(content) => content.is_none(),
            Source::Upstream(body) => self.broken.is_none() && body.is_end_stream(),
            Source::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(content) => SizeHint::with_exact(content.as_ref().map_or(0, Bytes::len) as u64),
            Source::Upstream(body) => body.size_hint(),
            Source::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let complete = self.ended || self.is_end_stream();
        let Some(exchange) = &mut self.exchange else { return };
        match &mut self.source {
            Source::Own(_) | Source::Tunnel(_) => {}
            Source::Upstream(body) if complete => body.complete(exchange),
            Source::Upstream(_) => exchange.client_left(),
        }
        if self.lost
            && let Some(exchange) = &mut self.exchange
        {
            exchange.client_left();
        }
    }
}
