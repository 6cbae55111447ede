//! What an HTTP/2 connection, its streams and the worker's sweep tell each other. One task at a time uses it, so cells do.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::Response;
use sluice_model::limits::{
    DRAIN_MS, HTTP2_GOAWAY_WAIT_SECONDS, HTTP2_HEADS_MAX_BYTES, HTTP2_HEADS_STREAM_BYTES, HTTP2_STALLED_STREAMS_MAX,
    HTTP2_STREAM_IDLE_SECONDS, REQUEST_TOTAL_SECONDS,
};

use super::frames::Credit;
use crate::guard::bounds::Bounds;
use crate::guard::patience::{Patience, earn, wait};
use crate::guard::rule::Rule;
use crate::proxy::hints::Hints;

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
        let stream = Rc::new(Stream {
            http2: self.clone(),
            began: Instant::now(),
            head_bytes: Cell::new(head_bytes),
            fits: if held > heads_max(self.streams_max) {
                Err(Rule::HeadMemory)
            } else {
                Ok(())
            },
            body: Cell::new(Patience::for_body(&self.bounds.get())),
            silent_since: Cell::new(None),
            response: Cell::new(Patience::for_response(&self.bounds.get())),
            cut: Cell::default(),
            wants_continue: Cell::default(),
            hints: OnceCell::new(),
            tunnel: Cell::default(),
            driver: RefCell::default(),
            reader: RefCell::default(),
        });
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
        for stream in self.streams.borrow().values() {
            if let Some(tunnel) = stream.tunnel.get() {
                let ends_at = Some(next());
                stream.tunnel.set(Some(Tunnel { ends_at, ..tunnel }));
            }
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
        let due = streams.values().filter(|stream| {
            let tunnel = stream.tunnel.get();
            tunnel.is_some_and(|tunnel| tunnel.stage == TunnelStage::Open && due(&tunnel))
        });
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

/// A stream that is a tunnel.
#[derive(Clone, Copy, Debug)]
struct Tunnel {
    /// When something was passed on last, one way or the other.
    moved: Instant,
    /// When it is to end, if its instance ends.
    ends_at: Option<Instant>,
    stage: TunnelStage,
}

/// Whether a tunnel goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TunnelStage {
    /// It does.
    Open,
    /// It is to end now.
    Over,
}

/// The state of one stream.
pub(crate) struct Stream {
    http2: Rc<Http2>,
    began: Instant,
    head_bytes: Cell<usize>,
    fits: Result<(), Rule>,
    body: Cell<Patience>,
    /// It may be silent, and has been since then in both directions.
    silent_since: Cell<Option<Instant>>,
    response: Cell<Patience>,
    cut: Cell<Option<Rule>>,
    wants_continue: Cell<bool>,
    /// What its client is told before the answer.
    hints: OnceCell<Hints>,
    /// It has left HTTP.
    tunnel: Cell<Option<Tunnel>>,
    driver: RefCell<Option<Waker>>,
    reader: RefCell<Option<Waker>>,
}

impl Stream {
    /// Whether there was room for its head.
    pub(crate) fn fits(&self) -> Result<(), Rule> {
        self.fits
    }

    /// Its head is needed no longer.
    pub(crate) fn head_is_gone(&self) {
        let bytes = self.head_bytes.take();
        self.http2
            .heads_bytes
            .set(self.http2.heads_bytes.get().saturating_sub(bytes));
    }

    /// The client need not send its body at a rate.
    pub(crate) fn may_be_silent(&self) {
        self.silent_since.set(Some(Instant::now()));
    }

    /// The rule by which it, or its connection, was cut off.
    pub(crate) fn cut(&self) -> Option<Rule> {
        self.cut.get().or_else(|| self.http2.broken())
    }

    /// The rule that ended its connection and so all that was on it, if it was not cut off by itself.
    pub(crate) fn ended_with_connection(&self) -> Option<Rule> {
        self.http2.broken().filter(|_| self.cut.get().is_none())
    }

    /// Whether its response goes no further. A body that comes too slowly is answered.
    pub(super) fn is_response_cut(&self) -> bool {
        self.cut.get() == Some(Rule::ResponseSlow) || self.http2.broken().is_some()
    }

    /// Cuts it off; whether it was not before.
    fn cut_off(&self, rule: Rule) -> bool {
        let first = self.cut.get().is_none();
        if first {
            self.cut.set(Some(rule));
            wake(&self.driver);
            wake(&self.reader);
        }
        first
    }

    /// It is a tunnel from now on: nobody waits for a body or a response any more.
    pub(crate) fn becomes_tunnel(&self) {
        self.tunnel.set(Some(Tunnel {
            moved: Instant::now(),
            ends_at: None,
            stage: TunnelStage::Open,
        }));
    }

    /// Something was passed on in it.
    pub(crate) fn moved(&self) {
        if let Some(tunnel) = self.tunnel.get() {
            let moved = Instant::now();
            self.tunnel.set(Some(Tunnel { moved, ..tunnel }));
        }
    }

    fn is_tunnel(&self) -> bool {
        self.tunnel.get().is_some()
    }

    fn end_tunnel(&self) {
        if let Some(tunnel) = self.tunnel.get() {
            let stage = TunnelStage::Over;
            self.tunnel.set(Some(Tunnel { stage, ..tunnel }));
            wake(&self.driver);
        }
    }

    /// Whether it is a tunnel that is to end now.
    pub(super) fn is_tunnel_over(&self) -> bool {
        let broken = self.http2.broken().is_some();
        broken
            || self
                .tunnel
                .get()
                .is_some_and(|tunnel| tunnel.stage == TunnelStage::Over)
    }

    /// Where an upstream's interim responses go.
    pub(crate) fn hints(&self) -> Hints {
        self.hints.get_or_init(Hints::default).clone()
    }

    /// The next of them; without one, `waker` is woken when one comes.
    pub(super) fn take_hint(&self, waker: &Waker) -> Option<Response<()>> {
        self.hints.get()?.take(waker)
    }

    /// The client waits to be told to go on.
    pub(super) fn want_continue(&self) {
        self.wants_continue.set(true);
        wake(&self.driver);
    }

    /// Whether it does; it is told once.
    pub(super) fn take_want_continue(&self) -> bool {
        self.wants_continue.take()
    }

    /// The task that drives the stream.
    pub(super) fn driven_by(&self, waker: &Waker) {
        remember(&self.driver, waker);
    }

    /// The task that reads the body.
    pub(super) fn read_by(&self, waker: &Waker) {
        remember(&self.reader, waker);
    }

    /// The client has sent nothing of its body that waits.
    pub(super) fn body_waits(&self) {
        if self.silent_since.get().is_none() {
            wait(&self.body);
        }
    }

    /// So much of its body came.
    pub(super) fn body_came(&self, bytes: usize) {
        self.heard();
        earn(&self.body, bytes);
    }

    /// All of it came.
    pub(super) fn body_ended(&self) {
        self.silent_since.set(None);
        earn(&self.body, usize::MAX);
    }

    /// The client's window takes nothing more for now.
    pub(super) fn response_waits(&self) {
        wait(&self.response);
    }

    /// It takes so much.
    pub(super) fn response_went(&self, bytes: usize, window: Window) {
        self.heard();
        earn(&self.response, bytes);
        match window {
            Window::Enough => self.http2.earn(0, 1),
            Window::Short => {}
        }
    }

    /// It was answered in full.
    pub(super) fn answered(&self) {
        self.http2.earn(1, 0);
    }

    fn heard(&self) {
        if self.silent_since.get().is_some() {
            self.silent_since.set(Some(Instant::now()));
        }
    }

    fn overdue(&self, now: Instant) -> Option<Rule> {
        let passed = |since: Instant, seconds| now.saturating_duration_since(since) >= Duration::from_secs(seconds);
        if self.is_tunnel() {
            None
        } else if self.response.get().is_over(now) {
            Some(Rule::ResponseSlow)
        } else if self.body.get().is_over(now)
            || self
                .silent_since
                .get()
                .is_some_and(|since| passed(since, HTTP2_STREAM_IDLE_SECONDS))
        {
            Some(Rule::BodySlow)
        } else if passed(self.began, REQUEST_TOTAL_SECONDS) {
            Some(Rule::ResponseSlow)
        } else {
            None
        }
    }
}

/// Without its connection, which has it too.
impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            began,
            cut,
            body,
            response,
            ..
        } = self;
        let mut stream = f.debug_struct("Stream");
        stream.field("began", began).field("cut", cut).field("body", body);
        stream.field("response", response).finish_non_exhaustive()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.head_is_gone();
    }
}

/// Whether the client's window was large enough for what there was to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Window {
    /// It was.
    Enough,
    /// It cut a piece short.
    Short,
}

fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = waker.borrow().as_ref() {
        waker.wake_by_ref();
    }
}

fn remember(known: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut known = known.borrow_mut();
    if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *known = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use sluice_model::limits::HTTP2_STREAMS_MAX;

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
