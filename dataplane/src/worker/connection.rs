//! One client connection: its HTTP/1.1 codec, its coarse deadlines, and how it is asked to end.
//!
//! Deadlines are checked once a second by the worker's sweep instead of by a timer per request: 10 s may become 11.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sluice_model::limits::{
    CLIENT_BUFFER_BYTES, CLIENT_IDLE_TIMEOUT_SECONDS, HEADER_READ_TIMEOUT_SECONDS, REQUEST_TOTAL_SECONDS,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::accept::Speech;
use super::{Worker, handshake};
use crate::guard::gate::Gate;
use crate::guard::rule::Rule;
use crate::guard::stream::Guarded;
use crate::middleware::forwarded::Scheme;
use crate::proxy;
use crate::proxy::failure::Failure;
use crate::tls::facts::Facts;

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// TLS is being agreed upon, which has a deadline of its own.
    Handshake,
    /// Resting between requests.
    Idle,
    /// A request head is expected or arriving.
    Head,
    /// A request is being answered.
    Busy,
}

/// How a connection is asked to end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Wish {
    /// It is not.
    Stay,
    /// After the request under way.
    Finish,
    /// Now.
    Abort,
}

/// How its socket is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closing {
    /// As usual.
    Orderly,
    /// By RST: the end of the connection is the end of the body, and this body is not complete.
    Reset,
}

/// One client connection, as its request, its codec and the sweep see it.
pub(crate) struct Connection {
    /// The client's address as text, for `X-Forwarded-For`.
    pub(crate) client: HeaderValue,
    /// The client's place among all clients, in millionths.
    pub(crate) cohort: u32,
    /// What its handshake left behind; empty: it is in the clear.
    pub(crate) tls: OnceCell<Facts>,
    /// How the socket is to be closed.
    pub(crate) closing: Cell<Closing>,
    /// The id of the request under way: what is left of it after a panic.
    pub(crate) request_id: RefCell<Option<HeaderValue>>,
    /// What the guard of its bytes says of its requests.
    pub(crate) gate: Rc<Gate>,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    wish: Cell<Wish>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    fn new(peer: SocketAddr, phase: Phase) -> Self {
        let ip = peer.ip().to_canonical();
        Self {
            client: HeaderValue::from_str(&ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            cohort: cohort(ip),
            tls: OnceCell::new(),
            closing: Cell::new(Closing::Orderly),
            request_id: RefCell::default(),
            gate: Rc::default(),
            phase: Cell::new(phase),
            since: Cell::new(Instant::now()),
            wish: Cell::new(Wish::Stay),
            waker: RefCell::default(),
        }
    }

    /// What is spoken on it.
    pub(crate) fn scheme(&self) -> Scheme {
        match self.tls.get() {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        }
    }

    /// The handshake is complete: the first request is expected.
    pub(super) fn secured(&self, facts: Facts) {
        // Empty until now: a connection has one handshake.
        let _ = self.tls.set(facts);
        self.phase.set(Phase::Head);
        self.since.set(Instant::now());
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        self.phase.set(Phase::Busy);
        self.since.set(Instant::now());
    }

    /// A request is over.
    pub(crate) fn rest(&self) {
        self.phase.set(Phase::Idle);
        self.since.set(Instant::now());
    }

    /// Bytes came. The first after a rest begin a head.
    fn received(&self) {
        if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            self.since.set(Instant::now());
        }
    }

    /// Ends the connection if it has been slow for too long.
    pub(super) fn check_pace(&self, now: Instant) {
        if let Some(rule) = self.gate.overdue(now) {
            return self.cut_off(rule, now);
        }
        let limit = match self.phase.get() {
            Phase::Idle => CLIENT_IDLE_TIMEOUT_SECONDS,
            Phase::Head => HEADER_READ_TIMEOUT_SECONDS,
            Phase::Busy => REQUEST_TOTAL_SECONDS,
            Phase::Handshake => return,
        };
        if now.saturating_duration_since(self.since.get()) < Duration::from_secs(limit) {
            return;
        }
        match self.phase.get() {
            Phase::Head if self.gate.cut().is_none() => self.cut_off(Rule::HeadSlow, now),
            Phase::Head | Phase::Idle | Phase::Busy | Phase::Handshake => self.wish(Wish::Abort),
        }
    }

    /// Ends a client that is too slow: told why if it can still hear it, by the guard; else by a reset, since a client that
    /// does not take its response would have the kernel keep what is left of it.
    fn cut_off(&self, rule: Rule, now: Instant) {
        self.gate.cut_off(rule);
        if rule == Rule::ResponseSlow {
            self.closing.set(Closing::Reset);
            return self.wish(Wish::Abort);
        }
        if self.phase.get() == Phase::Head {
            self.since.set(now);
        }
        self.wake();
    }

    /// Asks the connection to end. A stronger wish replaces a weaker one.
    pub(super) fn wish(&self, wish: Wish) {
        self.wish.set(self.wish.get().max(wish));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

/// A stable place for every client: the same address always meets the same generation. splitmix64's finaliser over
/// the address.
fn cohort(ip: IpAddr) -> u32 {
    let bits = match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let mut hash = (bits as u64) ^ ((bits >> 64) as u64).rotate_left(32);
    hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    ((u128::from(hash) * 1_000_000) >> 64) as u32
}

/// A connection's place among the worker's, given up however its task ends.
struct Admission {
    id: u64,
    worker: Rc<Worker>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.worker.dismiss(self.id);
    }
}

/// Serves a connection until it ends.
pub(super) fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, speech: &Speech) {
    // Fails only on a connection that is dead already; the codec will notice.
    let _ = stream.set_nodelay(true);
    let phase = match speech {
        Speech::Clear => Phase::Head,
        Speech::Tls(_) => Phase::Handshake,
    };
    let connection = Rc::new(Connection::new(peer, phase));
    let admission = Admission {
        id: worker.admit(&connection),
        worker: worker.clone(),
    };
    let worker = worker.clone();
    let stream = ClientStream {
        stream,
        connection: connection.clone(),
    };
    match speech {
        Speech::Clear => tokio::task::spawn_local(async move { drive(&worker, &connection, stream, admission).await }),
        Speech::Tls(tls) => {
            let tls = tls.clone();
            tokio::task::spawn_local(async move {
                if let Some(stream) = handshake::perform(&worker, &connection, &tls, stream).await {
                    drive(&worker, &connection, stream, admission).await;
                }
            })
        }
    };
}

async fn drive<S>(worker: &Rc<Worker>, connection: &Rc<Connection>, stream: S, admission: Admission)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = exchange(worker, connection, stream).await;
    drop(admission);
    if let Some(failure) = ended.err().and_then(|error| parse_failure(&error)) {
        proxy::respond::refused_by_codec(worker, connection, failure);
    }
}

async fn exchange<S>(worker: &Rc<Worker>, connection: &Rc<Connection>, stream: S) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let io = TokioIo::new(Guarded::new(stream, connection.gate.clone()));
    let service = service_fn(|request| proxy::serve(worker.clone(), connection.clone(), request));
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(CLIENT_BUFFER_BYTES)
        .max_buf_size(CLIENT_BUFFER_BYTES);
    let mut driving = pin!(builder.serve_connection(io, service));
    let mut finishing = false;
    poll_fn(|cx| {
        connection.remember(cx.waker());
        match connection.wish.get() {
            Wish::Stay => {}
            Wish::Finish if finishing => {}
            Wish::Finish => {
                finishing = true;
                driving.as_mut().graceful_shutdown();
            }
            Wish::Abort => return Poll::Ready(Ok(())),
        }
        driving.as_mut().poll(cx)
    })
    .await
}

/// What the codec refused by itself although the guard let it pass: it has answered and there was no request yet.
fn parse_failure(error: &hyper::Error) -> Option<Failure> {
    if error.is_parse_too_large() {
        let target = error.to_string().contains("URI");
        Some(if target {
            Failure::UriTooLong
        } else {
            Failure::HeadersTooLarge
        })
    } else if error.is_parse() {
        Some(Failure::BadRequest)
    } else {
        None
    }
}

/// The socket, telling the connection when bytes come and closing as it says.
pub(super) struct ClientStream {
    stream: TcpStream,
    connection: Rc<Connection>,
}

impl ClientStream {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cohorts_are_stable_and_even() {
        let ips = (0..100_000_u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let low = ips.map(cohort).filter(|place| *place < 100_000).count();
        assert!((9_500..10_500).contains(&low), "{low}");
        assert_eq!(cohort("10.0.0.1".parse().unwrap()), cohort("10.0.0.1".parse().unwrap()));
    }
}
