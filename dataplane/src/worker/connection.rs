//! What is known of one client connection: its coarse deadlines, and how it is asked to rest and to end.
//!
//! Deadlines are checked once a second by the worker's sweep instead of by a timer per request: 10 s may become 11.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::HeaderValue;
use sluice_model::client_limits::ClientLimits;
use sluice_model::limits::{CODEC_REST_MS, REQUEST_TOTAL_SECONDS};

use crate::guard::bounds::Bounds;
use crate::guard::gate::Gate;
use crate::guard::rule::Rule;
use crate::http2::state::{Due, Http2};
use crate::middleware::forwarded::Scheme;
use crate::tls::facts::Facts;

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
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

/// What becomes of the codec of HTTP/1.1, which has buffers, when a connection rests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Codec {
    /// It stays: there may be another request at once.
    Stays,
    /// It goes, as soon as it has nothing to do.
    Goes,
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
    pub(super) ip: IpAddr,
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
    /// Bodies that the codec of HTTP/1.1 still reads, or has to.
    bodies: Cell<u32>,
    codec: Cell<Codec>,
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
    pub(super) fn new(client: IpAddr, phase: Phase, limits: Arc<ClientLimits>) -> Self {
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
            bodies: Cell::new(0),
            codec: Cell::new(Codec::Stays),
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
        self.enters(Phase::Head);
    }

    /// This is what it does from now on.
    pub(super) fn enters(&self, phase: Phase) {
        self.phase.set(phase);
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
        self.codec.set(Codec::Stays);
        self.enters(Phase::Busy);
    }

    /// A request has a body, which is read until what this returns is dropped.
    pub(super) fn reads_body(self: &Rc<Self>) -> Reading {
        self.bodies.set(self.bodies.get().saturating_add(1));
        Reading(self.clone())
    }

    /// Whether its codec of HTTP/1.1 is to go and has nothing to do: no request, no body, and nothing that was not taken.
    pub(super) fn codec_may_go(&self) -> bool {
        self.codec.get() == Codec::Goes
            && self.phase.get() == Phase::Idle
            && self.bodies.get() == 0
            && self.gate.is_between()
    }

    /// It is a tunnel from now on.
    pub(crate) fn becomes_tunnel(&self) {
        self.enters(Phase::Tunnel);
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
        self.settle();
    }

    /// With no request under way it rests; but a head that has begun behind the request before is waited for as any other.
    fn settle(&self) {
        if self.requests.get() == 0 {
            let begun = self.bodies.get() == 0 && self.gate.head_has_begun();
            self.enters(if begun { Phase::Head } else { Phase::Idle });
        }
    }

    /// The worker wants its clients to go elsewhere. In HTTP/1.1 the next response says so; in HTTP/2 the connection does,
    /// once it has had a request: a client that is sent away before it has asked for anything may give up.
    pub(crate) fn ask_to_leave(&self) {
        if self.http2.get().is_some() && self.served.get() {
            self.wish(Wish::Finish);
        }
    }

    /// Bytes came. The first after a rest begin a head, in HTTP/1.1, unless they are of a body whose answer did not wait for it.
    pub(super) fn received(&self) {
        if self.phase.get() == Phase::Idle && self.http2.get().is_none() {
            let body = self.bodies.get() > 0;
            self.enters(if body { Phase::Idle } else { Phase::Head });
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
        let passed = now.saturating_duration_since(self.since.get());
        if passed < Duration::from_millis(millis) {
            if self.phase.get() == Phase::Idle && passed >= Duration::from_millis(CODEC_REST_MS) {
                self.lets_codec_go();
            }
            return;
        }
        match self.phase.get() {
            Phase::Head if self.gate.cut().is_none() => self.cut_off(Rule::HeadSlow, now),
            Phase::Head | Phase::Idle | Phase::Busy | Phase::Tunnel | Phase::Handshake => self.wish(Wish::Abort),
        }
    }

    /// Said once for each rest.
    fn lets_codec_go(&self) {
        if self.codec.replace(Codec::Goes) == Codec::Stays {
            self.wake();
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

/// A body of HTTP/1.1 that is being read, or is still to be.
pub(crate) struct Reading(Rc<Connection>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.bodies.set(self.0.bodies.get().saturating_sub(1));
        if self.0.phase.get() == Phase::Idle {
            self.0.settle();
        }
    }
}

/// A stable place for every client: the same address always meets the same generation. splitmix64's finaliser over
/// the address.
pub(super) fn cohort(ip: IpAddr) -> u32 {
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

#[cfg(test)]
mod tests {
    use sluice_model::client_limits::Bounded;
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
}
