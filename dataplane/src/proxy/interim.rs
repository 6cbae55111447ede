//! An upstream connection that bounds what may come before a response's head is complete: interim responses without end
//! would be read for as long as the upstream likes, since the codec skips them.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use sluice_model::limits::MAX_RESPONSE_HEAD_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much may still come before a head is complete. `None`: no head is expected.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance(Rc<Cell<Option<usize>>>);

impl Allowance {
    /// A response is expected.
    pub(super) fn expect_head(&self) {
        self.0.set(Some(MAX_RESPONSE_HEAD_BYTES));
    }

    /// Its head is there.
    pub(super) fn head_came(&self) {
        self.0.set(None);
    }
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Bounded<S> {
    stream: S,
    allowance: Allowance,
}

impl<S> Bounded<S> {
    /// Bounds `stream`.
    pub(super) fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance }
    }

    /// What is bounded.
    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Looked at before reading: what one read brings may be the head and a part of the body.
        if self.allowance.0.get() == Some(0) {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let came = buf.filled().len().saturating_sub(before);
        let left = self.allowance.0.get().map(|left| left.saturating_sub(came));
        self.allowance.0.set(left);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
