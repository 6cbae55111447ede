//! A client connection in front of the HTTP/2 codec: frames are counted before the codec has them, and what goes out is
//! watched for progress. When a rule is broken the codec gets nothing more, not even the frame that broke it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use sluice_model::limits::{HTTP2_FIELDS_AT_A_TIME, HTTP2_READ_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

use super::frames::{Frames, Kind, Piece, Scanner};
use super::state::Http2;
use crate::linger::Ending;

/// The connection. The preface is still to come, and is not a frame.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: Take<S>,
    http2: Rc<Http2>,
    preface_left: usize,
    frames: Frames,
    written: Written,
    /// Fields that the codec got in this turn.
    fields: usize,
    ending: Ending,
}

impl<S: AsyncRead> Watched<S> {
    /// Puts the counting in front of a connection whose preface is `preface_bytes` long.
    pub(super) fn new(stream: S, http2: Rc<Http2>, preface_bytes: usize) -> Self {
        Self {
            stream: stream.take(0),
            frames: Frames::new(Instant::now(), http2.streams_max()),
            http2,
            preface_left: preface_bytes,
            written: Written::default(),
            fields: 0,
            ending: Ending::No,
        }
    }

    /// Looks at what came. `Err`: the codec must not have it.
    fn take_in(&mut self, came: &[u8]) -> Result<(), ()> {
        let preface = self.preface_left.min(came.len());
        self.preface_left = self.preface_left.saturating_sub(preface);
        let came = came.get(preface..).unwrap_or_default();
        let now = Instant::now();
        if self.frames.roll(now) {
            self.http2.forget_credit();
        }
        match self.frames.feed(came, now, self.http2.credit()) {
            Ok(fields) => {
                self.fields = self.fields.saturating_add(fields);
                self.http2.came(self.frames.is_settled(), self.frames.head_since());
                Ok(())
            }
            Err(rule) => {
                self.http2.break_off(rule);
                Err(())
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.http2.broken().is_some() {
            return Poll::Pending; // the driver says the last word, and nothing is read meanwhile
        }
        if this.fields > HTTP2_FIELDS_AT_A_TIME {
            // The requests that these belong to are looked at first: what is refused gives its memory back.
            this.fields = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Larger reads only for data: a few KiB of header blocks can be hundreds of KiB of fields.
        let most = this.frames.data_left().saturating_add(HTTP2_READ_BYTES);
        this.stream.set_limit(most as u64);
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_pending() {
            this.fields = 0; // nothing waits: this turn is over
        }
        ready!(read)?;
        let came = buf.filled().get(before..).unwrap_or_default();
        if !came.is_empty() && this.take_in(came).is_err() {
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// What the codec writes, looked at for the streams that it resets because of the client.
#[derive(Debug, Default)]
struct Written {
    scanner: Scanner,
    resets: bool,
}

impl Written {
    fn went(&mut self, mut bytes: &[u8], http2: &Http2) {
        while let Some(piece) = self.scanner.next(&mut bytes) {
            match piece {
                Piece::Head(head) => self.resets = head.kind == Kind::Reset,
                // The code is the last of four bytes; those of the protocol fit in one. A frame of four bytes is hardly ever
                // cut, and if it is, a reset goes uncounted.
                Piece::Payload([_, _, _, code]) if self.resets && is_clients_fault(*code) => http2.reset_malformed(),
                Piece::Payload(_) => {}
            }
        }
    }
}

/// `PROTOCOL_ERROR`, `FLOW_CONTROL_ERROR`, `STREAM_CLOSED`, `FRAME_SIZE_ERROR`: none that this proxy chooses itself.
fn is_clients_fault(code: u8) -> bool {
    matches!(code, 1 | 3 | 5 | 6)
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn watched(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.http2.writing_waits(),
            Poll::Ready(Ok(count)) => self.http2.wrote(*count),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.stream.get_mut()).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = written {
            let this = &mut *self;
            this.written.went(buf.get(..count).unwrap_or_default(), &this.http2);
        }
        self.watched(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(self.stream.get_mut()).poll_flush(cx);
        match &flushed {
            Poll::Pending => self.http2.writing_waits(),
            Poll::Ready(_) => self.http2.wrote(0),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Ending::No = this.ending {
            // If it fails the client is gone already, which changes nothing about why this ends.
            let _ = ready!(Pin::new(this.stream.get_mut()).poll_shutdown(cx));
            this.ending = Ending::lingers();
        }
        ready!(this.ending.poll(this.stream.get_mut(), cx));
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.stream.get_mut()).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut count)) = written {
            let this = &mut *self;
            for buf in bufs {
                let part = count.min(buf.len());
                count = count.saturating_sub(part);
                this.written.went(buf.get(..part).unwrap_or_default(), &this.http2);
            }
        }
        self.watched(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }
}
