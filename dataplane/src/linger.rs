//! The end of a connection whose client may still be sending: the last word is said, and a little more is read and dropped.
//! To close with bytes unread resets the connection, and the client might never see why (RFC 9112 §9.6).

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use sluice_model::limits::{DRAIN_BYTES, DRAIN_MS};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

/// How far a connection is with its end, for those that are polled.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Nothing was said about an end yet.
    No,
    /// The last word is said; so much more is read, and so long.
    Lingers(Pin<Box<Sleep>>, usize),
    /// It may be closed.
    Done,
}

impl Ending {
    /// The last word is said, and the client may be sending.
    pub(crate) fn lingers() -> Self {
        let sleep = tokio::time::sleep(Duration::from_millis(DRAIN_MS));
        Self::Lingers(Box::pin(sleep), DRAIN_BYTES)
    }

    /// Reads on, within two bounds. Ready at once if there is nothing to wait for.
    pub(crate) fn poll<S: AsyncRead + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        while let Self::Lingers(sleep, left) = self {
            if *left == 0 || sleep.as_mut().poll(cx).is_ready() {
                *self = Self::Done;
                break;
            }
            match ready!(poll_scrap(stream, cx)) {
                Ok(0) | Err(_) => *self = Self::Done,
                Ok(count) => *left = left.saturating_sub(count),
            }
        }
        Poll::Ready(())
    }
}

/// Reads something to drop it; how much.
pub(crate) fn poll_scrap<S: AsyncRead + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut scrap = [MaybeUninit::<u8>::uninit(); 4096];
    let mut scrap = ReadBuf::uninit(&mut scrap);
    ready!(Pin::new(stream).poll_read(cx, &mut scrap))?;
    Poll::Ready(Ok(scrap.filled().len()))
}

/// Says the last word.
///
/// # Errors
/// When the client is gone, so that there is nobody to linger for.
pub(crate) async fn say<S: AsyncWrite + Unpin>(stream: &mut S, word: &[u8]) -> io::Result<()> {
    stream.write_all(word).await?;
    stream.shutdown().await
}

/// Reads on until the client ends its side, or has sent `most` bytes. For how long is the caller's to bound.
pub(crate) async fn read_on<S: AsyncRead + Unpin>(stream: &mut S, most: usize) {
    let mut scrap = [0; 1024];
    let mut left = most;
    while left > 0 {
        match stream.read(&mut scrap).await {
            Ok(0) | Err(_) => return,
            Ok(count) => left = left.saturating_sub(count),
        }
    }
}
