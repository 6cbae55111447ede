//! One client connection: what is spoken on it, its coarse deadlines, and how it is asked to end.
//!
//! Deadlines are checked once a second by the worker's sweep instead of by a timer per request: 10 s may become 11.

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sluice_model::client_limits::{Bounded, ClientLimits};
use sluice_model::limits::{CLIENT_BUFFER_BYTES, REQUEST_FIELDS_MOST, REQUEST_TOTAL_SECONDS};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::accept::{Manner, Speech};
use super::crowd::Place;
use super::introduction::{self, Unserved};
use super::socket::ClientStream;
use super::{Worker, handshake};
use crate::guard::bounds::Bounds;
use crate::guard::gate::Gate;
use crate::guard::rule::Rule;
use crate::guard::stream::Guarded;
use crate::http2;
use crate::http2::preface::{Begins, Rewound};
use crate::http2::state::{Due, Http2};
use crate::middleware::forwarded::Scheme;
use crate::proxy;
use crate::proxy::body::ClientBody;
use crate::proxy::failure::Failure;
use crate::proxy::tunnel::Tunnel;
use crate::tls::certificate::Offer;
use crate::tls::facts::Facts;

/// Fields of a head for which the HTTP/1.1 codec has room on its stack; for more it allocates.
const CODEC_FIELDS: usize = 100;

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It is introduced, or TLS is being agreed upon: each has a deadline of its own.
    Handshake,
    /// Resting between requests.
    Idle,
    /// A request head is expected or arriving.
    Head,
    /// A request is being answered.
    Busy,
    /// HTTP is over on it: bytes are passed on as they come.
    Tunnel,
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
    /// The client's address.
    ip: IpAddr,
    /// The same as text, for `X-Forwarded-For`.
    pub(crate) client: HeaderValue,
    /// The client's place among all clients, in millionths.
    pub(crate) cohort: u32,
    /// What its handshake left behind; empty: it is in the clear.
    pub(crate) tls: OnceCell<Facts>,
    /// How the socket is to be closed.
    pub(crate) closing: Cell<Closing>,
    /// What the guard of its bytes says of its requests, in HTTP/1.1.
    pub(crate) gate: Rc<Gate>,
    limits: RefCell<Arc<ClientLimits>>,
    /// If it speaks HTTP/2.
    http2: OnceCell<Rc<Http2>>,
    /// Requests under way: more than one only in HTTP/2.
    requests: Cell<u32>,
    /// Whether it has had a request.
    served: Cell<bool>,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    wish: Cell<Wish>,
    /// When it is ended if it is a tunnel then.
    ends_at: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    fn new(client: IpAddr, phase: Phase, limits: Arc<ClientLimits>) -> Self {
        let ip = client.to_canonical();
        Self {
            ip,
            client: HeaderValue::from_str(&ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            cohort: cohort(ip),
            tls: OnceCell::new(),
            closing: Cell::new(Closing::Orderly),
            gate: Rc::new(Gate::new(Bounds::of(&limits))),
            limits: RefCell::new(limits),
            http2: OnceCell::new(),
            requests: Cell::new(0),
            served: Cell::new(false),
            phase: Cell::new(phase),
            since: Cell::new(Instant::now()),
            wish: Cell::new(Wish::Stay),
            ends_at: Cell::new(None),
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

    /// HTTP/2 is spoken on it from now on.
    pub(crate) fn speaks_http2(&self) -> Rc<Http2> {
        self.http2
            .get_or_init(|| {
                let streams = self.limits().streams.get() as u32; // at most 1,000
                Rc::new(Http2::new(self.gate.bounds(), streams))
            })
            .clone()
    }

    /// What its client may take.
    pub(crate) fn limits(&self) -> Arc<ClientLimits> {
        self.limits.borrow().clone()
    }

    /// What it may take is something else, perhaps. A pointer comparison while nothing changes.
    pub(super) fn follow(&self, limits: &Arc<ClientLimits>) {
        if Arc::ptr_eq(&self.limits.borrow(), limits) {
            return;
        }
        *self.limits.borrow_mut() = limits.clone();
        let bounds = Bounds::of(limits);
        self.gate.follow(bounds);
        if let Some(http2) = self.http2.get() {
            http2.follow(bounds);
        }
    }

    /// The rule by which the client was cut off, if it was.
    pub(crate) fn cut(&self) -> Option<Rule> {
        match self.http2.get() {
            Some(http2) => http2.broken(),
            None => self.gate.cut(),
        }
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
        self.served.set(true);
        self.phase.set(Phase::Busy);
        self.since.set(Instant::now());
    }

    /// It is a tunnel from now on.
    pub(crate) fn becomes_tunnel(&self) {
        self.phase.set(Phase::Tunnel);
        self.since.set(Instant::now());
    }

    fn is_tunnel(&self) -> bool {
        self.phase.get() == Phase::Tunnel
    }

    /// How many tunnels it has: itself, or streams of HTTP/2.
    pub(super) fn tunnels(&self) -> usize {
        self.http2
            .get()
            .map_or_else(|| usize::from(self.is_tunnel()), |http2| http2.tunnels())
    }

    /// Each of them is to end at the next of these times.
    pub(super) fn end_tunnels_at(&self, next: &mut impl FnMut() -> Instant) {
        match self.http2.get() {
            Some(http2) => http2.end_tunnels_at(next),
            None if self.is_tunnel() => self.ends_at.set(Some(next())),
            None => {}
        }
    }

    /// Ends those whose time has come: their own, or the last for all. How many.
    pub(super) fn end_tunnels(&self, now: Instant, last: Instant) -> usize {
        if let Some(http2) = self.http2.get() {
            return http2.end_tunnels(now, last);
        }
        let due = self.ends_at.get().unwrap_or(last) <= now;
        if !due || !self.is_tunnel() || self.wish.get() == Wish::Abort {
            return 0;
        }
        self.wish(Wish::Abort);
        1
    }

    /// Something was passed on in it, one way or the other.
    pub(crate) fn moved(&self) {
        self.since.set(Instant::now());
    }

    /// A request is over.
    pub(crate) fn rest(&self) {
        self.requests.set(self.requests.get().saturating_sub(1));
        if self.requests.get() == 0 {
            self.phase.set(Phase::Idle);
            self.since.set(Instant::now());
        }
    }

    /// The worker wants its clients to go elsewhere. In HTTP/1.1 the next response says so; in HTTP/2 the connection does,
    /// once it has had a request: a client that is sent away before it has asked for anything may give up.
    pub(crate) fn ask_to_leave(&self) {
        if self.http2.get().is_some() && self.served.get() {
            self.wish(Wish::Finish);
        }
    }

    /// Bytes came. The first after a rest begin a head, in HTTP/1.1.
    pub(super) fn received(&self) {
        if self.phase.get() == Phase::Idle && self.http2.get().is_none() {
            self.phase.set(Phase::Head);
            self.since.set(Instant::now());
        }
    }

    /// Ends the connection if it has been slow for too long.
    pub(super) fn check_pace(&self, now: Instant) {
        if let Some(http2) = self.http2.get() {
            return self.check_http2(http2, now);
        }
        if self.phase.get() != Phase::Tunnel
            && let Some(rule) = self.gate.overdue(now)
        {
            return self.cut_off(rule, now);
        }
        let millis = match self.phase.get() {
            Phase::Idle => self.limits.borrow().idle_millis.get(),
            Phase::Head => self.limits.borrow().header_millis.get(),
            Phase::Busy => REQUEST_TOTAL_SECONDS.saturating_mul(1000),
            Phase::Tunnel => self.limits.borrow().tunnel_idle_millis.get(),
            Phase::Handshake => return,
        };
        if now.saturating_duration_since(self.since.get()) < Duration::from_millis(millis) {
            return;
        }
        match self.phase.get() {
            Phase::Head if self.gate.cut().is_none() => self.cut_off(Rule::HeadSlow, now),
            Phase::Head | Phase::Idle | Phase::Busy | Phase::Tunnel | Phase::Handshake => self.wish(Wish::Abort),
        }
    }

    fn check_http2(&self, http2: &Http2, now: Instant) {
        let passed = |since: Instant, millis| now.saturating_duration_since(since) >= Duration::from_millis(millis);
        let (head, idle, tunnel) = {
            let limits = self.limits.borrow();
            let tunnel = Duration::from_millis(limits.tunnel_idle_millis.get());
            (limits.header_millis.get(), limits.http2_idle_millis.get(), tunnel)
        };
        http2.end_idle_tunnels(now, tunnel);
        match http2.check(now) {
            Due::Nothing => {}
            Due::Driver => return self.wake(),
            Due::Reset(rule) => return self.reset(http2, rule),
            Due::End => return self.wish(Wish::Abort),
        }
        if self.phase.get() == Phase::Head && http2.is_settled() {
            self.phase.set(Phase::Idle);
            self.since.set(now);
        }
        let slow_head = http2.head_since().is_some_and(|since| passed(since, head));
        if slow_head && http2.broken().is_none() {
            http2.break_off(Rule::HeadSlow);
            return self.wake();
        }
        match self.phase.get() {
            Phase::Head if passed(self.since.get(), head) => self.wish(Wish::Abort),
            Phase::Idle if passed(self.since.get(), idle) => self.wish(Wish::Finish),
            Phase::Head | Phase::Idle | Phase::Busy | Phase::Tunnel | Phase::Handshake => {}
        }
    }

    /// Ends it so that nothing of it stays in the kernel.
    fn reset(&self, http2: &Http2, rule: Rule) {
        http2.break_off(rule);
        self.closing.set(Closing::Reset);
        self.wish(Wish::Abort);
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
    pub(crate) fn wish(&self, wish: Wish) {
        self.wish.set(self.wish.get().max(wish));
        self.wake();
    }

    /// What it is asked.
    pub(crate) fn wished(&self) -> Wish {
        self.wish.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The task that serves it.
    pub(crate) fn remember(&self, waker: &Waker) {
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

/// A connection's place among the worker's and the instance's, given up however its task ends.
struct Admission {
    id: u64,
    worker: Rc<Worker>,
    place: Place,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.worker.dismiss(self.id);
    }
}

/// Serves a connection until it ends.
pub(super) fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, manner: &Manner) {
    let introduced = manner.wants_introduction(peer.ip());
    let limits = worker.limits(cohort(peer.ip().to_canonical()));
    let mut place = match worker.crowd.enter(limits.connections.map(Bounded::get)) {
        Ok(place) => place,
        Err(rule) => return worker.turn_away(stream, peer.ip(), rule),
    };
    // Who is introduced by it is the client; a load balancer is none.
    if !introduced && let Err(rule) = place.belongs_to(peer.ip(), limits.connections_per_client.map(Bounded::get)) {
        return worker.turn_away(stream, peer.ip(), rule);
    }
    // Fails only on a connection that is dead already; the codec will notice.
    let _ = stream.set_nodelay(true);
    let phase = if introduced {
        Phase::Handshake
    } else {
        first_phase(&manner.speech)
    };
    let connection = Rc::new(Connection::new(peer.ip(), phase, limits));
    let admission = Admission {
        id: worker.admit(&connection),
        worker: worker.clone(),
        place,
    };
    if introduced {
        let speech = manner.speech.clone();
        tokio::task::spawn_local(introduce(worker.clone(), connection, stream, speech, admission));
    } else {
        speak(worker.clone(), connection, stream, &manner.speech, admission);
    }
}

/// Serves it as the client's whom its PROXY header names, or not at all.
async fn introduce(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    mut stream: TcpStream,
    speech: Speech,
    mut admission: Admission,
) {
    let connection = match introduction::hear(&mut stream).await {
        Ok(None) => {
            connection.phase.set(first_phase(&speech));
            connection.since.set(Instant::now());
            connection
        }
        Ok(Some(client)) => {
            let limits = worker.limits(cohort(client.to_canonical()));
            let introduced = Rc::new(Connection::new(client, first_phase(&speech), limits));
            introduced.wish.set(connection.wish.get());
            worker.readmit(admission.id, &introduced);
            introduced
        }
        Err(Unserved::Silent) => return,
        Err(Unserved::Refused(rule)) => return proxy::respond::not_introduced(&worker, &connection, rule),
    };
    let most = connection.limits().connections_per_client.map(Bounded::get);
    if let Err(rule) = admission.place.belongs_to(connection.ip, most) {
        return worker.turn_away(stream, connection.ip, rule);
    }
    speak(worker, connection, stream, &speech, admission);
}

fn first_phase(speech: &Speech) -> Phase {
    match speech {
        Speech::Clear | Speech::ClearEither => Phase::Head,
        Speech::Tls(_) | Speech::TlsEither(_) => Phase::Handshake,
    }
}

fn speak(worker: Rc<Worker>, connection: Rc<Connection>, stream: TcpStream, speech: &Speech, admission: Admission) {
    let stream = ClientStream::new(stream, connection.clone());
    match speech {
        Speech::Clear => tokio::task::spawn_local(async move { drive(&worker, &connection, stream, admission).await }),
        Speech::ClearEither => {
            tokio::task::spawn_local(async move { drive_either(&worker, &connection, stream, admission).await })
        }
        Speech::Tls(tls) => {
            let shake = handshake::Shake::new(tls.clone(), Offer::Http1);
            tokio::task::spawn_local(async move { drive_tls(&worker, &connection, shake, stream, admission).await })
        }
        Speech::TlsEither(tls) => {
            let shake = handshake::Shake::new(tls.clone(), Offer::Either);
            tokio::task::spawn_local(async move { drive_tls(&worker, &connection, shake, stream, admission).await })
        }
    };
}

// Whatever a connection does in its life has a place of its own in its task's memory, for as long as it lasts. Most connections
// rest most of the time: so each part of its life is in a box, which is there only while it is lived.

/// What the handshake agrees upon is spoken, and nothing else.
async fn drive_tls(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    shake: handshake::Shake,
    stream: ClientStream,
    admission: Admission,
) {
    let Some(stream) = Box::pin(shake.perform(worker, connection, stream)).await else {
        return;
    };
    if !stream.agreed_on_http2() {
        return Box::pin(drive(worker, connection, stream, admission)).await;
    }
    match Box::pin(looked_at(connection, stream)).await {
        Some((Begins::Http2, stream)) => Box::pin(http2::serve::serve(worker, connection, stream)).await,
        Some((Begins::Otherwise, stream)) => {
            http2::preface::refuse(stream).await;
            let rule = Rule::H2Preface;
            proxy::respond::refused_by_codec(worker, connection, rule.failure(), Some(rule));
        }
        None => {}
    }
    drop(admission);
}

/// HTTP/2 for who begins with its preface, and HTTP/1.1 for everybody else.
async fn drive_either(worker: &Rc<Worker>, connection: &Rc<Connection>, stream: ClientStream, admission: Admission) {
    match Box::pin(looked_at(connection, stream)).await {
        Some((Begins::Http2, stream)) => Box::pin(http2::serve::serve(worker, connection, stream)).await,
        Some((Begins::Otherwise, stream)) => return Box::pin(drive(worker, connection, stream, admission)).await,
        None => {}
    }
    drop(admission);
}

/// How it begins; `None`: it ends before that is known. As slow as a head may be.
async fn looked_at<S>(connection: &Connection, stream: S) -> Option<(Begins, Rewound<S>)>
where
    S: AsyncRead + Unpin,
{
    let mut looking = pin!(http2::preface::look(stream));
    poll_fn(|cx| {
        connection.remember(cx.waker());
        // Who was let in before the end is served, as with HTTP/1.1.
        match connection.wish.get() {
            Wish::Stay | Wish::Finish if connection.gate.cut().is_none() => looking.as_mut().poll(cx).map(Result::ok),
            Wish::Stay | Wish::Finish | Wish::Abort => Poll::Ready(None),
        }
    })
    .await
}

async fn drive<S>(worker: &Rc<Worker>, connection: &Rc<Connection>, stream: S, admission: Admission)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = exchange(worker, connection, stream).await;
    drop(admission);
    if let Some(failure) = ended.err().and_then(|error| parse_failure(&error)) {
        proxy::respond::refused_by_codec(worker, connection, failure, None);
    }
}

async fn exchange<S>(worker: &Rc<Worker>, connection: &Rc<Connection>, stream: S) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let io = TokioIo::new(Guarded::new(stream, connection.gate.clone()));
    let tunnel = Cell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = proxy::serve(worker.clone(), connection.clone(), request.map(ClientBody::Http1));
        let tunnel = &tunnel;
        // In a box of its own while it is under way: the codec keeps room for it as long as the connection lasts, which rests
        // most of the time.
        Box::pin(async move {
            let mut response = answer.await;
            tunnel.set(response.body_mut().take_tunnel());
            Ok::<_, Infallible>(response)
        })
    });
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(CLIENT_BUFFER_BYTES)
        .max_buf_size(CLIENT_BUFFER_BYTES);
    if connection.gate.bounds().fields > CODEC_FIELDS {
        builder.max_headers(REQUEST_FIELDS_MOST as usize);
    }
    let mut driving = builder.serve_connection(io, service);
    let mut finishing = false;
    let served = poll_fn(|cx| {
        connection.remember(cx.waker());
        match connection.wish.get() {
            Wish::Stay => {}
            Wish::Finish if finishing => {}
            Wish::Finish => {
                finishing = true;
                Pin::new(&mut driving).graceful_shutdown();
            }
            Wish::Abort => return Poll::Ready(Ok(())),
        }
        Pin::new(&mut driving).poll(cx)
    })
    .await;
    served?;
    let parts = driving.into_parts();
    Box::pin(finish(connection, parts.io.into_inner(), parts.read_buf, tunnel.take())).await;
    Ok(())
}

/// What follows when HTTP has ended on a connection: the tunnel that it has become, or the end.
async fn finish<S>(connection: &Connection, mut io: S, early: Bytes, tunnel: Option<Box<Tunnel>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match tunnel {
        Some(tunnel) => until_aborted(connection, tunnel.run(io, early)).await,
        // Where a change of protocol was asked for and did not come, the codec leaves the end to others. What has ended
        // already ends at once.
        None => until_aborted(connection, async { drop(io.shutdown().await) }).await,
    }
}

/// What is left to do on a connection that HTTP has ended on, unless it is to end now.
async fn until_aborted(connection: &Connection, rest: impl Future<Output = ()>) {
    let mut rest = pin!(rest);
    poll_fn(|cx| {
        connection.remember(cx.waker());
        match connection.wish.get() {
            Wish::Stay | Wish::Finish => rest.as_mut().poll(cx),
            Wish::Abort => Poll::Ready(()),
        }
    })
    .await;
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

#[cfg(test)]
mod tests {
    use sluice_model::limits::TUNNEL_IDLE_TIMEOUT_SECONDS;

    use super::*;

    #[test]
    fn a_tunnel_ends_when_nothing_moves_in_it_and_only_then() {
        let connection = Connection::new("127.0.0.1".parse().unwrap(), Phase::Busy, Arc::default());
        let after = |seconds| Instant::now() + Duration::from_secs(seconds);
        connection.becomes_tunnel();
        connection.check_pace(after(TUNNEL_IDLE_TIMEOUT_SECONDS - 1));
        assert_eq!(connection.wished(), Wish::Stay);
        connection.check_pace(after(TUNNEL_IDLE_TIMEOUT_SECONDS));
        assert_eq!(connection.wished(), Wish::Abort);
    }

    #[test]
    fn an_open_connection_follows_other_limits() {
        let connection = Connection::new("127.0.0.1".parse().unwrap(), Phase::Idle, Arc::default());
        let after = Instant::now() + Duration::from_secs(10);
        connection.check_pace(after);
        assert_eq!(connection.wished(), Wish::Stay);
        connection.follow(&Arc::new(ClientLimits {
            idle_millis: Bounded::new(5_000).unwrap(),
            uri_bytes: Bounded::new(2_048).unwrap(),
            ..ClientLimits::default()
        }));
        assert_eq!(connection.gate.bounds().target_bytes, 2_048);
        connection.check_pace(after);
        assert_eq!(connection.wished(), Wish::Abort);
    }

    #[test]
    fn cohorts_are_stable_and_even() {
        let ips = (0..100_000_u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let low = ips.map(cohort).filter(|place| *place < 100_000).count();
        assert!((9_500..10_500).contains(&low), "{low}");
        assert_eq!(cohort("10.0.0.1".parse().unwrap()), cohort("10.0.0.1".parse().unwrap()));
    }

    /// The size of the future that a function makes, without a call of it.
    fn future_bytes<F>(_: fn(&'static Rc<Worker>, &'static Rc<Connection>, ClientStream, Admission) -> F) -> usize {
        size_of::<F>()
    }

    /// A connection at rest holds its task and no more of its life than the codec, which has buffers beside it.
    #[test]
    fn a_connection_at_rest_has_a_small_task() {
        let (task, codec) = (future_bytes(drive_either), future_bytes(drive));
        assert!(task <= 1 << 10, "{task} bytes");
        assert!(codec <= 3 << 10, "{codec} bytes");
    }
}
