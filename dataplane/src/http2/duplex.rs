//! A stream of HTTP/2 as bytes in both directions, for what has left HTTP on it (RFC 8441 §5). No more is taken from the
//! codec than is asked for, and no more is given to it than the other side's window has room for: each side stops the other.
//! Dropped before both directions have ended, it resets the stream.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use sluice_model::limits::HTTP2_FRAME_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::room;
use super::state::{Stream, Window};

/// The stream.
#[derive(Debug)]
pub(crate) struct Duplex {
    recv: RecvStream,
    send: SendStream<Bytes>,
    /// What came and was not read.
    left: Bytes,
    /// If it is a client's: what it takes earns it what it needs to take more.
    client: Option<Rc<Stream>>,
}

impl Duplex {
    /// To an upstream, of its two halves.
    pub(crate) fn upstream(recv: RecvStream, send: SendStream<Bytes>) -> Self {
        Self {
            recv,
            send,
            left: Bytes::new(),
            client: None,
        }
    }

    /// To a client, of its two halves.
    pub(super) fn client(recv: RecvStream, send: SendStream<Bytes>, stream: Rc<Stream>) -> Self {
        Self {
            client: Some(stream),
            ..Self::upstream(recv, send)
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.left.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                Some(data) => this.left = data.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let part = this.left.split_to(this.left.len().min(buf.remaining()));
        buf.put_slice(&part);
        // Fails only if the stream is gone, which the next read tells.
        let _ = this.recv.flow_control().release_capacity(part.len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wanted = data.len().min(HTTP2_FRAME_BYTES as usize);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(room::poll(&mut this.send, wanted, cx)).map_err(io::Error::other)?;
        let piece = data.get(..room).unwrap_or_default();
        let sent = this.send.send_data(Bytes::copy_from_slice(piece), false);
        sent.map_err(io::Error::other)?;
        if let Some(client) = &this.client {
            let window = if piece.len() == wanted {
                Window::Enough
            } else {
                Window::Short
            };
            client.response_went(piece.len(), window);
        }
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the codec's driver writes
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.get_mut().send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
