//! The first bytes of a connection: whether they are the preface of HTTP/2 (RFC 9113 §3.4). Nothing that was read is lost,
//! so that who speaks something else can be answered in that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use sluice_model::limits::{DRAIN_BYTES, DRAIN_MS};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::linger;

/// How long the preface is.
pub(crate) const PREFACE_BYTES: usize = PREFACE.len();

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Empty `SETTINGS`, with which a server begins, and `GOAWAY` that says `PROTOCOL_ERROR` and that nothing was served.
const REFUSAL: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";

/// How a connection begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begins {
    /// With the preface.
    Http2,
    /// With something else, or not at all.
    Otherwise,
}

/// Reads as far as it takes to tell. The connection is handed back as if nothing had been read of it.
pub(crate) async fn look<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Begins, Rewound<S>)> {
    let mut came = [0; PREFACE.len()];
    let mut have = 0;
    let begins = loop {
        let Some(rest) = came.get_mut(have..).filter(|rest| !rest.is_empty()) else {
            break Begins::Http2;
        };
        let count = stream.read(rest).await?;
        have = have.saturating_add(count);
        if count == 0 || came.get(..have) != PREFACE.get(..have) {
            break Begins::Otherwise;
        }
    };
    let rewound = Rewound {
        stream,
        came,
        taken: 0,
        have,
    };
    Ok((begins, rewound))
}

/// Ends a connection that was agreed to be HTTP/2 and is not.
pub(crate) async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if linger::say(&mut stream, REFUSAL).await.is_ok() {
        let read = linger::read_on(&mut stream, DRAIN_BYTES);
        // Whoever sends on for longer sees a reset.
        let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS), read).await;
    }
}

/// A connection whose first bytes are read again.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    stream: S,
    came: [u8; PREFACE.len()],
    taken: usize,
    have: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let again = this.came.get(this.taken..this.have).unwrap_or_default();
        let count = again.len().min(buf.remaining());
        match again.get(..count) {
            Some(part) if !part.is_empty() => {
                buf.put_slice(part);
                this.taken = this.taken.saturating_add(count);
                Poll::Ready(Ok(()))
            }
            _ => Pin::new(&mut this.stream).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn begins(sent: &[&[u8]]) -> (Begins, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(64);
        let sending = async {
            for part in sent {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let looking = async {
            let (begins, mut stream) = look(server).await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            (begins, all)
        };
        tokio::join!(sending, looking).1
    }

    #[tokio::test]
    async fn what_it_is_and_that_nothing_is_lost() {
        let check = async |sent: &[&[u8]], expected| {
            assert_eq!(begins(sent).await, (expected, sent.concat()), "{sent:?}");
        };
        check(&[PREFACE], Begins::Http2).await;
        check(&[&PREFACE[..3], &PREFACE[3..], b"more"], Begins::Http2).await;
        check(&[b"GET / HTTP/1.1\r\n\r\n"], Begins::Otherwise).await;
        check(&[b"P", b"UT / HTTP/1.1\r\n\r\n"], Begins::Otherwise).await;
        check(&[&PREFACE[..23], b"X"], Begins::Otherwise).await;
        check(&[&PREFACE[..10]], Begins::Otherwise).await;
        check(&[], Begins::Otherwise).await;
    }
}
