//! A connection to an upstream, in the clear or within TLS, and what goes with it as long as it lasts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::quota::{Permit, Quota};

/// A connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    idle_limit: Duration,
    permit: Option<Permit>,
}

/// What is sent and read by.
#[derive(Debug)]
pub(crate) enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Within TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// One that may rest for `idle_limit`; `permit` is given up with it, if connections there are bounded.
    pub(crate) fn new(stream: Stream, idle_limit: Duration, permit: Option<Permit>) -> Self {
        Self {
            stream,
            idle_limit,
            permit,
        }
    }

    /// How it may be kept.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            idle_limit: self.idle_limit,
            quota: self.permit.as_ref().map(|permit| permit.quota().clone()),
            rests: AtomicBool::new(false),
        }
    }

    /// What is given up with it, for whoever knows better when.
    pub(crate) fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// What is below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// How a connection may be kept, for whoever keeps it when a codec has its socket.
#[derive(Debug)]
pub(crate) struct Terms {
    idle_limit: Duration,
    quota: Option<Arc<Quota>>,
    rests: AtomicBool,
}

impl Terms {
    /// How long it may rest.
    pub(crate) fn idle_limit(&self) -> Duration {
        self.idle_limit
    }

    /// The bound that it counts against.
    pub(crate) fn quota(&self) -> Option<&Arc<Quota>> {
        self.quota.as_ref()
    }

    /// Says whether the connection has no request now; it rests no longer than this is kept.
    pub(crate) fn rests(&self, rests: bool) {
        if let Some(quota) = &self.quota
            && self.rests.swap(rests, Ordering::SeqCst) != rests
        {
            quota.rests(rests);
        }
    }

    /// Whether it is to be closed for a request that waits elsewhere; if so, that is its due.
    pub(crate) fn is_claimed(&self) -> bool {
        self.quota.as_ref().is_some_and(|quota| quota.claim())
    }
}

impl Drop for Terms {
    fn drop(&mut self) {
        self.rests(false);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
