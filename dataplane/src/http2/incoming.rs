//! The body of a request of HTTP/2. The client's window opens as the upstream takes what came, so no more than a window of
//! it is ever held.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame, SizeHint};

use super::state::Stream;
use crate::guard::rule::Rule;

/// Why a body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The client was too slow.
    #[error("{0}")]
    Cut(Rule),
    /// The stream or its connection ended.
    #[error("{0}")]
    Stream(#[from] h2::Error),
}

/// A body on its way from a client.
#[derive(Debug)]
pub(crate) struct Incoming {
    recv: RecvStream,
    stream: Rc<Stream>,
    length: Option<u64>,
    /// The client waits to be told to go on.
    expects: bool,
    data_ended: bool,
}

impl Incoming {
    /// Of a stream; `length`: as its head says.
    pub(super) fn new(recv: RecvStream, stream: Rc<Stream>, length: Option<u64>, expects: bool) -> Self {
        Self {
            recv,
            stream,
            length,
            expects,
            data_ended: false,
        }
    }

    /// What comes, as the codec has it: nobody watches it any more.
    pub(crate) fn into_recv(self) -> RecvStream {
        self.recv
    }

    /// The stream it comes by.
    pub(crate) fn stream(&self) -> &Rc<Stream> {
        &self.stream
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let came = self.recv.poll_data(cx);
        Poll::Ready(match came {
            Poll::Pending => {
                self.stream.body_waits();
                return Poll::Pending;
            }
            Poll::Ready(None) => None,
            Poll::Ready(Some(Err(error))) => Some(Err(error.into())),
            Poll::Ready(Some(Ok(data))) => {
                self.stream.body_came(data.len());
                self.length = self.length.map(|length| length.saturating_sub(data.len() as u64));
                // Fails only if the stream is gone, which the next read tells.
                let _ = self.recv.flow_control().release_capacity(data.len());
                Some(Ok(data))
            }
        })
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        if let Some(rule) = this.stream.cut() {
            return Poll::Ready(Some(Err(Broken::Cut(rule))));
        }
        if this.recv.is_end_stream() {
            this.stream.body_ended();
            return Poll::Ready(None);
        }
        this.stream.read_by(cx.waker());
        if std::mem::take(&mut this.expects) {
            this.stream.want_continue();
        }
        while !this.data_ended {
            match std::task::ready!(this.poll_data(cx)) {
                // A piece without data says nothing but that the end may be near.
                Some(Ok(data)) if data.is_empty() => {}
                Some(data) => return Poll::Ready(Some(data.map(Frame::data))),
                None => this.data_ended = true,
            }
        }
        let trailers = std::task::ready!(this.recv.poll_trailers(cx));
        this.stream.body_ended();
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(None) => None,
            Err(error) => Some(Err(error.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.recv.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
