//! What an HTTP/2 connection, its streams and the worker's sweep tell each other. One task at a time uses it, so cells do.

mod stream;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sluice_model::limits::{
    DRAIN_MS, HTTP2_GOAWAY_WAIT_SECONDS, HTTP2_HEADS_MAX_BYTES, HTTP2_HEADS_STREAM_BYTES, HTTP2_STALLED_STREAMS_MAX,
};

pub(crate) use self::stream::Stream;
use self::stream::Tunnel;
pub(super) use self::stream::Window;
use super::frames::Credit;
use crate::guard::bounds::Bounds;
use crate::guard::patience::{Patience, earn, wait};
use crate::guard::rule::Rule;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    /// Why and since when it ends against the client's will.
    broken: Cell<Option<(Rule, Instant)>>,
    bounds: Cell<Bounds>,
    /// Requests that may be under way.
    streams_max: u32,
    /// Since when the client has been told to leave.
    leaving: Cell<Option<Instant>>,
    /// Whether the client's first `SETTINGS` has come.
    settled: Cell<bool>,
    /// Since when the head of a request, or a frame that is no data, is incomplete.
    head_since: Cell<Option<Instant>>,
    credit: Cell<Credit>,
    writing: Cell<Patience>,
    /// Heads that no upstream has answered.
    heads_bytes: Cell<usize>,
    stalled: Cell<u32>,
    /// Streams that the codec reset because they were against the protocol, and that were not counted yet.
    malformed: Cell<u32>,
    streams: RefCell<HashMap<u32, Rc<Stream>>>,
}

impl Http2 {
    /// Of a connection with these bounds, which may have so many streams.
    pub(crate) fn new(bounds: Bounds, streams_max: u32) -> Self {
        Self {
            streams_max,
            broken: Cell::default(),
            bounds: Cell::new(bounds),
            leaving: Cell::default(),
            settled: Cell::default(),
            head_since: Cell::default(),
            credit: Cell::default(),
            writing: Cell::new(Patience::for_response(&bounds)),
            heads_bytes: Cell::default(),
            stalled: Cell::default(),
            malformed: Cell::default(),
            streams: RefCell::default(),
        }
    }

    /// How many streams it may have.
    pub(super) fn streams_max(&self) -> u32 {
        self.streams_max
    }

    /// The bounds are others from now on; of streams, of those to come.
    pub(crate) fn follow(&self, bounds: Bounds) {
        self.bounds.set(bounds);
        let mut writing = self.writing.get();
        writing.follow_response(&bounds);
        self.writing.set(writing);
    }
}

/// What the heads of a connection of so many streams may take while no upstream has answered them, in bytes.
fn heads_max(streams: u32) -> usize {
    HTTP2_HEADS_MAX_BYTES.max(HTTP2_HEADS_STREAM_BYTES.saturating_mul(streams as usize))
}

/// What the sweep has to do about a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// Its driver is to look at it: it was broken off.
    Driver,
    /// It is to be reset: what is left of its responses would stay in the kernel.
    Reset(Rule),
    /// It ends now: it was told to, and does not.
    End,
}

impl Http2 {
    /// The rule by which it ends, if it does.
    pub(crate) fn broken(&self) -> Option<Rule> {
        self.broken.get().map(|(rule, _)| rule)
    }

    /// It ends, by this rule. The first counts.
    pub(crate) fn break_off(&self, rule: Rule) {
        if self.broken.get().is_none() {
            self.broken.set(Some((rule, Instant::now())));
        }
    }

    /// The client was told to leave.
    pub(super) fn told_to_leave(&self) {
        self.leaving.set(Some(Instant::now()));
    }

    /// Whether its settings were agreed upon: from then on it rests between requests.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// Since when something incomplete that is not data is waited for.
    pub(crate) fn head_since(&self) -> Option<Instant> {
        self.head_since.get()
    }

    pub(super) fn came(&self, settled: bool, head_since: Option<Instant>) {
        self.settled.set(settled);
        self.head_since.set(head_since);
    }

    pub(super) fn credit(&self) -> Credit {
        self.credit.get()
    }

    pub(super) fn forget_credit(&self) {
        self.credit.set(Credit::default());
    }

    fn earn(&self, answered: u32, pieces: u32) {
        let credit = self.credit.get();
        self.credit.set(Credit {
            answered: credit.answered.saturating_add(answered),
            pieces: credit.pieces.saturating_add(pieces),
        });
    }

    /// The socket takes nothing for now.
    pub(super) fn writing_waits(&self) {
        wait(&self.writing);
    }

    /// So much was written.
    pub(super) fn wrote(&self, bytes: usize) {
        earn(&self.writing, bytes);
    }

    /// The codec has reset a stream for what the client did.
    pub(super) fn reset_malformed(&self) {
        self.malformed.set(self.malformed.get().saturating_add(1));
    }

    /// Such streams since it was asked last.
    pub(super) fn take_malformed(&self) -> u32 {
        self.malformed.take()
    }

    /// A request has come, with a head of so many bytes.
    pub(super) fn open(self: &Rc<Self>, id: u32, head_bytes: usize) -> Rc<Stream> {
        let held = self.heads_bytes.get().saturating_add(head_bytes);
        self.heads_bytes.set(held);
        let fits = match held > heads_max(self.streams_max) {
            true => Err(Rule::HeadMemory),
            false => Ok(()),
        };
        let stream = Rc::new(Stream::new(self.clone(), head_bytes, fits));
        self.streams.borrow_mut().insert(id, stream.clone());
        stream
    }

    /// A stream is over.
    pub(super) fn close(&self, id: u32) {
        self.streams.borrow_mut().remove(&id);
    }

    /// How many streams are tunnels.
    pub(crate) fn tunnels(&self) -> usize {
        self.streams
            .borrow()
            .values()
            .filter(|stream| stream.is_tunnel())
            .count()
    }

    /// Each of them is to end at the next of these times.
    pub(crate) fn end_tunnels_at(&self, next: &mut impl FnMut() -> Instant) {
        for stream in self.streams.borrow().values().filter(|stream| stream.is_tunnel()) {
            stream.end_tunnel_at(next());
        }
    }

    /// Ends those whose time has come: their own, or the last for all. How many.
    pub(crate) fn end_tunnels(&self, now: Instant, last: Instant) -> usize {
        self.end_those(|tunnel| tunnel.ends_at.unwrap_or(last) <= now)
    }

    /// Ends those in which nothing has moved for so long.
    pub(crate) fn end_idle_tunnels(&self, now: Instant, limit: Duration) {
        self.end_those(|tunnel| now.saturating_duration_since(tunnel.moved) >= limit);
    }

    fn end_those(&self, due: impl Fn(&Tunnel) -> bool) -> usize {
        let streams = self.streams.borrow();
        let due = streams
            .values()
            .filter(|stream| stream.open_tunnel().is_some_and(|tunnel| due(&tunnel)));
        due.map(|stream| stream.end_tunnel()).count()
    }

    /// What is due: cuts off streams whose client is too slow, and says what the connection itself needs.
    pub(crate) fn check(&self, now: Instant) -> Due {
        if let Some((rule, since)) = self.broken.get() {
            let said = now.saturating_duration_since(since) >= Duration::from_millis(2 * DRAIN_MS);
            return if said { Due::Reset(rule) } else { Due::Nothing };
        }
        if self.writing.get().is_over(now) {
            return Due::Reset(Rule::ResponseSlow);
        }
        let mut stalled = self.stalled.get();
        for stream in self.streams.borrow().values() {
            if let Some(rule) = stream.overdue(now)
                && stream.cut_off(rule)
                && rule == Rule::ResponseSlow
            {
                stalled = stalled.saturating_add(1);
            }
        }
        self.stalled.set(stalled);
        if stalled > HTTP2_STALLED_STREAMS_MAX {
            self.break_off(Rule::H2Stalled);
            return Due::Driver;
        }
        let wait = Duration::from_secs(HTTP2_GOAWAY_WAIT_SECONDS);
        let told = self.leaving.get();
        let deaf = told.is_some_and(|since| now.saturating_duration_since(since) >= wait);
        if deaf && self.streams.borrow().is_empty() {
            return Due::End;
        }
        Due::Nothing
    }
}

#[cfg(test)]
mod tests {
    use sluice_model::limits::{HTTP2_STREAM_IDLE_SECONDS, HTTP2_STREAMS_MAX, REQUEST_TOTAL_SECONDS};

    use super::*;

    #[test]
    fn heads_are_bounded_together_and_given_back() {
        let http2 = Rc::new(Http2::new(Bounds::default(), HTTP2_STREAMS_MAX));
        let first = http2.open(1, HTTP2_HEADS_MAX_BYTES);
        assert_eq!(first.fits(), Ok(()));
        assert_eq!(http2.open(3, 1).fits(), Err(Rule::HeadMemory));
        http2.close(3);
        first.head_is_gone();
        first.head_is_gone();
        assert_eq!(http2.open(5, HTTP2_HEADS_MAX_BYTES).fits(), Ok(()));
    }

    #[test]
    fn who_may_have_more_streams_has_room_for_their_heads() {
        let http2 = Rc::new(Http2::new(Bounds::default(), 1_000));
        let streams: Vec<_> = (0..1_000)
            .map(|n| http2.open(2 * n + 1, HTTP2_HEADS_STREAM_BYTES))
            .collect();
        assert!(streams.iter().all(|stream| stream.fits() == Ok(())));
        assert_eq!(http2.open(2_001, 1).fits(), Err(Rule::HeadMemory));
    }

    #[test]
    fn a_stalled_response_is_cut_and_many_end_the_connection() {
        let http2 = Rc::new(Http2::new(Bounds::default(), HTTP2_STREAMS_MAX));
        let streams: Vec<_> = (0..=HTTP2_STALLED_STREAMS_MAX)
            .map(|n| http2.open(2 * n + 1, 0))
            .collect();
        let now = Instant::now();
        let (paused, rest) = streams.split_first().unwrap();
        paused.response_waits();
        let later = now + Duration::from_secs(31);
        assert_eq!(http2.check(now + Duration::from_secs(29)), Due::Nothing);
        assert_eq!(
            (paused.cut(), http2.check(later), paused.cut()),
            (None, Due::Nothing, Some(Rule::ResponseSlow))
        );
        rest.iter().for_each(|stream| stream.response_waits());
        assert_eq!(http2.check(later + Duration::from_secs(1)), Due::Driver);
        assert_eq!(http2.broken(), Some(Rule::H2Stalled));
    }

    #[test]
    fn a_silent_body_is_cut_early_and_a_call_of_grpc_late() {
        let http2 = Rc::new(Http2::new(Bounds::default(), HTTP2_STREAMS_MAX));
        let (upload, call) = (http2.open(1, 0), http2.open(3, 0));
        call.may_be_silent();
        upload.body_waits();
        call.body_waits();
        let now = Instant::now();
        http2.check(now + Duration::from_secs(6));
        assert_eq!((upload.cut(), call.cut()), (Some(Rule::BodySlow), None));
        http2.check(now + Duration::from_secs(HTTP2_STREAM_IDLE_SECONDS + 1));
        assert_eq!(call.cut(), Some(Rule::BodySlow));
        let done = http2.open(5, 0);
        done.may_be_silent();
        done.body_ended();
        http2.check(now + Duration::from_secs(HTTP2_STREAM_IDLE_SECONDS + 1));
        assert_eq!(done.cut(), None, "who has said all may wait for the answer");
    }

    #[test]
    fn a_tunnel_ends_when_nothing_moves_in_it_or_its_time_has_come() {
        let http2 = Rc::new(Http2::new(Bounds::default(), HTTP2_STREAMS_MAX));
        let (request, tunnel) = (http2.open(1, 0), http2.open(3, 0));
        tunnel.body_waits();
        tunnel.becomes_tunnel();
        let (now, limit) = (Instant::now(), Duration::from_secs(300));
        assert_eq!(
            http2.check(now + Duration::from_secs(REQUEST_TOTAL_SECONDS)),
            Due::Nothing
        );
        assert_eq!(
            (tunnel.cut(), http2.tunnels()),
            (None, 1),
            "nothing is waited for in it"
        );
        http2.end_idle_tunnels(now + Duration::from_secs(299), limit);
        assert!(!tunnel.is_tunnel_over());
        http2.end_tunnels_at(&mut || now + Duration::from_secs(5));
        let late = now + Duration::from_secs(60);
        assert_eq!(http2.end_tunnels(now + Duration::from_secs(4), late), 0);
        assert_eq!(http2.end_tunnels(now + Duration::from_secs(5), late), 1);
        assert_eq!(http2.end_tunnels(late, late), 0, "once");
        assert!(tunnel.is_tunnel_over() && !request.is_tunnel_over());
    }
}
