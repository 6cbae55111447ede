//! The socket of a client connection: tells its connection when bytes come, and closes as that says.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::{Closing, Connection};

/// The socket, telling the connection when bytes come and closing as it says.
pub(super) struct ClientStream {
    stream: TcpStream,
    connection: Rc<Connection>,
}

impl ClientStream {
    /// Of this connection.
    pub(super) fn new(stream: TcpStream, connection: Rc<Connection>) -> Self {
        Self { stream, connection }
    }

    /// The first byte that the client sends, which stays to be read. `None`: it sends none.
    pub(super) async fn peek_first(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let seen = self.stream.peek(&mut first).await?;
        Ok((seen > 0).then_some(first[0]))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.connection.closing.get() == Closing::Reset {
            // If it fails the connection is closed in order, which the client may take for a complete body: said.
            if let Err(error) = self.stream.set_zero_linger() {
                tracing::warn!(%error, "a broken response could not be ended by a reset");
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.connection.received();
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.closing.get() == Closing::Reset {
            return Poll::Ready(Ok(())); // no FIN: the drop sends RST
        }
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
