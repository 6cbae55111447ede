//! The upstream's side of a tunnel: a connection of its own, or a stream of HTTP/2 that others share.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::interim::Bounded;
use crate::http2::duplex::Duplex;
use crate::upstream::http2::Slot;
use crate::upstream::socket::Socket;

/// What is left of an upstream's connection, or stream, when HTTP is over on it.
pub(crate) enum Far {
    /// A connection, and what of the upstream's words its codec had read with the head.
    Socket(Bounded<Socket>, Bytes),
    /// A stream, and its place on a connection.
    Stream(Duplex, Slot),
}

impl Far {
    /// What the upstream has said already; it is said once.
    pub(super) fn take_early(&mut self) -> Bytes {
        match self {
            Self::Socket(_, early) => std::mem::take(early),
            Self::Stream(..) => Bytes::new(),
        }
    }

    /// It is not ended in order: its upstream is to know that the client broke. A stream that is dropped is reset anyway.
    pub(super) fn breaks(&self) {
        match self {
            // If it fails the connection is closed in order: of no consequence to anybody but the upstream.
            Self::Socket(socket, _) => drop(socket.get_ref().tcp().set_zero_linger()),
            Self::Stream(..) => {}
        }
    }
}

impl AsyncRead for Far {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket, _) => Pin::new(socket).poll_read(cx, buf),
            Self::Stream(stream, slot) => {
                let read = Pin::new(stream).poll_read(cx, buf);
                if read.is_ready() {
                    slot.heard();
                }
                read
            }
        }
    }
}

impl AsyncWrite for Far {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(socket, _) => Pin::new(socket).poll_write(cx, buf),
            Self::Stream(stream, _) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket, _) => Pin::new(socket).poll_flush(cx),
            Self::Stream(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket, _) => Pin::new(socket).poll_shutdown(cx),
            Self::Stream(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
