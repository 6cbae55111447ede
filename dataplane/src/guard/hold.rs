//! What follows a request that asks to go over to another protocol (RFC 9110 §7.8). Whether it is the next request or
//! something else altogether is not known before the request is answered; until then it is held back unread, so that it
//! can be neither taken for what it is not nor sent on too early.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// What becomes of what is held back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held {
    /// That is not known yet.
    Undecided,
    /// It is the next request.
    Request,
    /// It is nobody's business here: the protocol has changed.
    Tunnel,
}

/// What the guard, which holds back, and the request, whose answer decides, tell each other.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Which request it is that is followed, counted from 1, and what was decided.
    decided: Cell<Option<(u64, Held)>>,
    /// Who waits for the decision.
    waker: RefCell<Option<Waker>>,
}

impl Hold {
    /// What follows this request is held back.
    pub(super) fn begin(&self, request: u64) {
        self.decided.set(Some((request, Held::Undecided)));
    }

    /// What was decided; `waker` is woken if it is nothing yet.
    pub(super) fn look(&self, waker: &Waker) -> Held {
        let held = self.decided.get().map_or(Held::Request, |(_, held)| held);
        if held == Held::Undecided {
            *self.waker.borrow_mut() = Some(waker.clone());
        }
        held
    }

    /// It is over: the next request is framed.
    pub(super) fn end(&self) {
        self.decided.set(None);
    }

    /// Whether what follows this request is held back and undecided.
    pub(super) fn waits_for(&self, request: u64) -> bool {
        self.decided.get() == Some((request, Held::Undecided))
    }

    /// This request was answered. What was decided before stays.
    pub(super) fn decide(&self, request: u64, held: Held) {
        if !self.waits_for(request) {
            return;
        }
        self.decided.set(Some((request, held)));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the protocol has changed.
    pub(super) fn is_tunnel(&self) -> bool {
        matches!(self.decided.get(), Some((_, Held::Tunnel)))
    }
}
