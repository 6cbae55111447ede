//! The body of an upstream's response, of whichever version of HTTP, with what it keeps in use: a connection of HTTP/1.1,
//! or a stream of HTTP/2. Dropped before its end, it closes the one and resets the other.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::task::AbortHandle;

use super::exchange::Exchange;
use super::failure::Failure;
use super::http1::Lease;
use crate::upstream::http2::Slot;

/// Why a response did not come, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// As the codec of HTTP/1.1 says.
    #[error(transparent)]
    Http1(hyper::Error),
    /// As that of HTTP/2 does.
    #[error(transparent)]
    Http2(h2::Error),
    /// It took too long, by this limit of its rule.
    #[error("{}", .0.message())]
    Slow(Failure),
}

impl Broken {
    /// Whether the upstream sent nonsense or went away.
    pub(super) fn failure(&self) -> Failure {
        let nonsense = match self {
            Self::Http1(error) => {
                let kind = inner(error).map(io::Error::kind);
                matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)) || error.is_parse()
            }
            Self::Http2(error) => error.is_library() && !error.is_io(),
            Self::Slow(failure) => return *failure,
        };
        if nonsense {
            Failure::UpstreamProtocolError
        } else {
            Failure::UpstreamReset
        }
    }
}

/// The I/O error inside of the codec's.
pub(super) fn inner(error: &hyper::Error) -> Option<&io::Error> {
    error.source().and_then(|source| source.downcast_ref::<io::Error>())
}

/// The task that sends a request's body; it ends with this.
pub(crate) struct Sending(AbortHandle);

impl Sending {
    /// Of this task.
    pub(super) fn new(task: AbortHandle) -> Self {
        Self(task)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A stream of HTTP/2.
pub(crate) struct Stream {
    pub(super) recv: RecvStream,
    pub(super) slot: Slot,
    /// What is left of the length that the head says.
    pub(super) length: Option<u64>,
    /// Whoever answers before the request is complete wants no more of it.
    pub(super) sending: Option<Sending>,
    pub(super) data_ended: bool,
}

/// The body of a response.
pub(crate) enum UpstreamBody {
    /// Of HTTP/1.1, and the connection that it comes by.
    Http1(Incoming, Option<Lease>),
    /// Of HTTP/2.
    Http2(Stream),
}

impl UpstreamBody {
    /// Of HTTP/1.1.
    pub(super) fn http1(incoming: Incoming, lease: Lease) -> Self {
        Self::Http1(incoming, Some(lease))
    }

    /// All of it has come.
    pub(super) fn complete(&mut self, exchange: &Exchange) {
        match self {
            Self::Http1(_, lease) => {
                if let Some(lease) = lease.take() {
                    lease.give_back(exchange, Instant::now());
                }
            }
            Self::Http2(_) => {}
        }
    }
}

impl Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        while !self.data_ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.slot.heard();
                    self.length = self.length.map(|length| length.saturating_sub(data.len() as u64));
                    // Taken only when the client's side asks for it: so its pace is the upstream's. Fails only if the stream
                    // is gone, which the next read tells.
                    let _ = self.recv.flow_control().release_capacity(data.len());
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.recv.poll_trailers(cx));
        drop(self.sending.take());
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Http1(incoming, _) => Pin::new(incoming).poll_frame(cx).map_err(Broken::Http1),
            Self::Http2(stream) => stream.poll_frame(cx).map_err(Broken::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming, _) => incoming.is_end_stream(),
            Self::Http2(stream) => stream.recv.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming, _) => incoming.size_hint(),
            Self::Http2(stream) if stream.recv.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(stream) => stream.length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
