//! Drives one HTTP/2 connection: takes its requests, each a task of its own, tells the client to leave when the worker
//! wants that, and ends it with `GOAWAY` when it breaks a rule.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection as Codec};
use sluice_model::limits::{
    HTTP2_CAUSED_RESETS_MAX, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_FRAME_BYTES, HTTP2_HEADER_LIST_BYTES,
    HTTP2_HEADER_TABLE_BYTES, HTTP2_PENDING_RESETS_MAX, HTTP2_SEND_BUFFER_BYTES, HTTP2_STREAM_WINDOW_BYTES,
    HTTP2_STREAMS_MAX,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::preface::PREFACE_BYTES;
use super::state::Http2;
use super::stream;
use super::watched::Watched;
use crate::guard::rule::Rule;
use crate::proxy::respond::refused_by_codec;
use crate::worker::Worker;
use crate::worker::connection::{Connection, Wish};

/// Serves a connection until it ends. Its preface was looked at, and is read again.
pub(crate) async fn serve<S>(worker: &Rc<Worker>, connection: &Rc<Connection>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let http2 = connection.speaks_http2();
    let stream = Watched::new(stream, http2.clone(), PREFACE_BYTES);
    let mut beginning = pin!(codec(http2.streams_max()).handshake::<_, Bytes>(stream));
    let begun = poll_fn(|cx| {
        connection.remember(cx.waker());
        match connection.wished() {
            // Who was let in before the end is served, and told when there is somebody to tell.
            Wish::Stay | Wish::Finish => beginning.as_mut().poll(cx).map(Some),
            Wish::Abort => Poll::Ready(None),
        }
    });
    let ended = match begun.await {
        None => return,
        Some(Err(error)) => Err(error),
        Some(Ok(codec)) => {
            let mut driver = Driver {
                worker,
                connection,
                http2: &http2,
                codec,
                told: Told::Nothing,
            };
            poll_fn(|cx| driver.poll(cx)).await
        }
    };
    let rule = http2.broken().or_else(|| broken_rule(&ended.err()?));
    if let Some(rule) = rule {
        tracing::debug!(rule = rule.as_str(), client = ?connection.client, "an HTTP/2 connection was ended");
        refused_by_codec(worker, connection, rule.failure(), Some(rule));
    }
}

/// What of one response may wait to be written, in bytes, where there may be so many: the same of all of them together, and
/// a frame at least.
fn send_buffer(streams: u32) -> usize {
    let all = HTTP2_SEND_BUFFER_BYTES.saturating_mul(HTTP2_STREAMS_MAX as usize);
    let share = all.checked_div(streams as usize).unwrap_or(all);
    share.clamp(HTTP2_FRAME_BYTES as usize, HTTP2_SEND_BUFFER_BYTES)
}

/// Every limit said, also where it is the codec's own default today.
fn codec(streams: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .initial_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .max_header_list_size(HTTP2_HEADER_LIST_BYTES)
        .header_table_size(HTTP2_HEADER_TABLE_BYTES)
        .max_send_buffer_size(send_buffer(streams))
        .max_concurrent_reset_streams(streams as usize)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(HTTP2_CAUSED_RESETS_MAX))
        // It cannot be said of a route: it is said once, before any request, and not taken back (RFC 8441 §3).
        .enable_connect_protocol();
    builder
}

/// What the codec ended the connection for by itself, if that is the client's.
fn broken_rule(error: &h2::Error) -> Option<Rule> {
    match error.reason() {
        _ if error.is_io() || error.is_remote() => None,
        Some(Reason::ENHANCE_YOUR_CALM) => Some(Rule::H2Calm),
        Some(Reason::NO_ERROR | Reason::INTERNAL_ERROR) | None => None,
        Some(_) => Some(Rule::H2Protocol),
    }
}

/// What the client was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    /// Nothing.
    Nothing,
    /// To leave when it is done.
    Leave,
    /// That it is over.
    Over,
}

struct Driver<'a, S> {
    worker: &'a Rc<Worker>,
    connection: &'a Rc<Connection>,
    http2: &'a Rc<Http2>,
    codec: Codec<S, Bytes>,
    told: Told,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<'_, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        self.connection.remember(cx.waker());
        loop {
            if self.connection.wished() == Wish::Abort {
                return Poll::Ready(Ok(()));
            }
            self.tell();
            let accepted = self.codec.poll_accept(cx);
            for _ in 0..self.http2.take_malformed() {
                let rule = Rule::H2Protocol;
                refused_by_codec(self.worker, self.connection, rule.failure(), Some(rule));
            }
            match accepted {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let (worker, connection) = (self.worker.clone(), self.connection.clone());
                    let answer = stream::answer(worker, connection, self.http2.clone(), request, respond);
                    // In a box: the runtime moves what it is given several times.
                    tokio::task::spawn_local(Box::pin(answer));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                // Reading may have found that it is over: then that is to be said.
                Poll::Pending if self.http2.broken().is_some() && self.told != Told::Over => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn tell(&mut self) {
        let over = self.http2.broken().is_some();
        match self.told {
            Told::Nothing | Told::Leave if over => {
                self.told = Told::Over;
                self.codec.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            Told::Nothing if self.connection.wished() == Wish::Finish => {
                self.told = Told::Leave;
                self.http2.told_to_leave();
                // GOAWAY for streams that may be on their way, then, a round trip later, the one that counts.
                self.codec.graceful_shutdown();
            }
            Told::Nothing | Told::Leave | Told::Over => {}
        }
    }
}
