//! What one stream of an HTTP/2 connection, the request that it is and the worker's sweep tell each other.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::Response;
use sluice_model::limits::{HTTP2_STREAM_IDLE_SECONDS, REQUEST_TOTAL_SECONDS};

use super::Http2;
use crate::guard::patience::{Patience, earn, wait};
use crate::guard::rule::Rule;
use crate::proxy::hints::Hints;

/// A stream that is a tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnel {
    /// When something was passed on last, one way or the other.
    pub(super) moved: Instant,
    /// When it is to end, if its instance ends.
    pub(super) ends_at: Option<Instant>,
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
    /// Of a request that has come by `http2`, with a head of so many bytes, for which there was room or not.
    pub(super) fn new(http2: Rc<Http2>, head_bytes: usize, fits: Result<(), Rule>) -> Self {
        let bounds = http2.bounds.get();
        Self {
            http2,
            began: Instant::now(),
            head_bytes: Cell::new(head_bytes),
            fits,
            body: Cell::new(Patience::for_body(&bounds)),
            silent_since: Cell::new(None),
            response: Cell::new(Patience::for_response(&bounds)),
            cut: Cell::default(),
            wants_continue: Cell::default(),
            hints: OnceCell::new(),
            tunnel: Cell::default(),
            driver: RefCell::default(),
            reader: RefCell::default(),
        }
    }

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
    pub(in crate::http2) fn is_response_cut(&self) -> bool {
        self.cut.get() == Some(Rule::ResponseSlow) || self.http2.broken().is_some()
    }

    /// Cuts it off; whether it was not before.
    pub(super) fn cut_off(&self, rule: Rule) -> bool {
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

    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.get().is_some()
    }

    /// The tunnel that it is, unless that is to end already.
    pub(super) fn open_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.get().filter(|tunnel| tunnel.stage == TunnelStage::Open)
    }

    /// If it is a tunnel, that ends then, together with its instance.
    pub(super) fn end_tunnel_at(&self, at: Instant) {
        if let Some(tunnel) = self.tunnel.get() {
            let ends_at = Some(at);
            self.tunnel.set(Some(Tunnel { ends_at, ..tunnel }));
        }
    }

    /// If it is a tunnel, that ends now.
    pub(super) fn end_tunnel(&self) {
        if let Some(tunnel) = self.tunnel.get() {
            let stage = TunnelStage::Over;
            self.tunnel.set(Some(Tunnel { stage, ..tunnel }));
            wake(&self.driver);
        }
    }

    /// Whether it is a tunnel that is to end now.
    pub(in crate::http2) fn is_tunnel_over(&self) -> bool {
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
    pub(in crate::http2) fn take_hint(&self, waker: &Waker) -> Option<Response<()>> {
        self.hints.get()?.take(waker)
    }

    /// The client waits to be told to go on.
    pub(in crate::http2) fn want_continue(&self) {
        self.wants_continue.set(true);
        wake(&self.driver);
    }

    /// Whether it does; it is told once.
    pub(in crate::http2) fn take_want_continue(&self) -> bool {
        self.wants_continue.take()
    }

    /// The task that drives the stream.
    pub(in crate::http2) fn driven_by(&self, waker: &Waker) {
        remember(&self.driver, waker);
    }

    /// The task that reads the body.
    pub(in crate::http2) fn read_by(&self, waker: &Waker) {
        remember(&self.reader, waker);
    }

    /// The client has sent nothing of its body that waits.
    pub(in crate::http2) fn body_waits(&self) {
        if self.silent_since.get().is_none() {
            wait(&self.body);
        }
    }

    /// So much of its body came.
    pub(in crate::http2) fn body_came(&self, bytes: usize) {
        self.heard();
        earn(&self.body, bytes);
    }

    /// All of it came.
    pub(in crate::http2) fn body_ended(&self) {
        self.silent_since.set(None);
        earn(&self.body, usize::MAX);
    }

    /// The client's window takes nothing more for now.
    pub(in crate::http2) fn response_waits(&self) {
        wait(&self.response);
    }

    /// It takes so much.
    pub(in crate::http2) fn response_went(&self, bytes: usize, window: Window) {
        self.heard();
        earn(&self.response, bytes);
        match window {
            Window::Enough => self.http2.earn(0, 1),
            Window::Short => {}
        }
    }

    /// It was answered in full.
    pub(in crate::http2) fn answered(&self) {
        self.http2.earn(1, 0);
    }

    fn heard(&self) {
        if self.silent_since.get().is_some() {
            self.silent_since.set(Some(Instant::now()));
        }
    }

    /// The way in which its client is too slow now.
    pub(super) fn overdue(&self, now: Instant) -> Option<Rule> {
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
pub(in crate::http2) enum Window {
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
