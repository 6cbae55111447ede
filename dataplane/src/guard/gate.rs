//! What the guard of a connection, the requests that pass it and the worker's sweep tell each other.

use std::cell::Cell;
use std::time::Instant;

use super::bounds::Bounds;
use super::hold::{Held, Hold};
use super::output::{Line, Meets, Refusal};
use super::patience::{Patience, earn, wait};
use super::rule::Rule;

/// A request whose stand-in has come out of the codec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    /// The rule it broke.
    pub(crate) rule: Rule,
    /// Whether method and target are its own.
    pub(crate) line: Line,
}

/// The state that they share. One task uses it, so cells do.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Requests that came out of the codec.
    passed: Cell<u64>,
    /// A connection has one refusal: nothing follows it.
    refusal: Cell<Option<Refusal>>,
    /// The client is too slow, in this way.
    cut: Cell<Option<Rule>>,
    bounds: Cell<Bounds>,
    body: Cell<Patience>,
    response: Cell<Patience>,
    /// All that was said has been taken, and nothing of a request has come since the last.
    between: Cell<bool>,
    /// Some of a head has come, and not all of it.
    begun: Cell<bool>,
    /// The codec was given some of a response, and has not written all of it since.
    unwritten: Cell<bool>,
    pub(super) hold: Hold,
}

impl Gate {
    /// Of a connection with these bounds.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            passed: Cell::new(0),
            refusal: Cell::new(None),
            cut: Cell::new(None),
            bounds: Cell::new(bounds),
            body: Cell::new(Patience::for_body(&bounds)),
            response: Cell::new(Patience::for_response(&bounds)),
            between: Cell::new(true),
            begun: Cell::new(false),
            unwritten: Cell::new(false),
            hold: Hold::default(),
        }
    }

    /// The bounds of now.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds.get()
    }

    /// They are others from now on; of the rate of a body, from the next body on.
    pub(crate) fn follow(&self, bounds: Bounds) {
        self.bounds.set(bounds);
        let mut response = self.response.get();
        response.follow_response(&bounds);
        self.response.set(response);
    }

    /// A request came out of the codec. If it is a stand-in: for what was refused.
    pub(crate) fn pass(&self) -> Option<Refused> {
        let request = self.passed.get().saturating_add(1);
        self.passed.set(request);
        let refusal = self.refusal.get().filter(|refusal| refusal.request == request)?;
        match refusal.meets {
            Meets::StandIn(line) => Some(Refused {
                rule: refusal.rule,
                line,
            }),
            Meets::Body => None,
        }
    }

    /// Whether what follows the request that passed last is held back, so that the protocol can change.
    pub(crate) fn holds(&self) -> bool {
        self.hold.waits_for(self.passed.get())
    }

    /// The request that passed last is answered: this is what follows it. Said twice, the first holds.
    pub(crate) fn settle(&self, held: Held) {
        self.hold.decide(self.passed.get(), held);
    }

    /// The rule by which the client was cut off, if it was.
    pub(crate) fn cut(&self) -> Option<Rule> {
        self.cut.get()
    }

    /// The client is to be cut off: the guard sees to it when it is asked next.
    pub(crate) fn cut_off(&self, rule: Rule) {
        self.cut.set(Some(rule));
    }

    /// The way in which the client is too slow now.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Rule> {
        if self.response.get().is_over(now) {
            Some(Rule::ResponseSlow)
        } else if self.body.get().is_over(now) {
            Some(Rule::BodySlow)
        } else {
            None
        }
    }

    /// Whether it was between requests when the codec last wrote, with all that it had to say taken.
    pub(crate) fn is_between(&self) -> bool {
        self.between.get()
    }

    /// Whether some of a head has come, and not all of it.
    pub(crate) fn head_has_begun(&self) -> bool {
        self.begun.get()
    }

    pub(super) fn head_begun(&self, begun: bool) {
        self.begun.set(begun);
    }

    /// The codec is given some of a response.
    pub(crate) fn response_given(&self) {
        self.unwritten.set(true);
    }

    /// Whether it still has some of that. It writes it, and asks the body again, before it waits for anything else.
    pub(crate) fn response_is_unwritten(&self) -> bool {
        self.unwritten.get()
    }

    pub(super) fn response_is_written(&self) {
        self.unwritten.set(false);
    }

    pub(super) fn between(&self, between: bool) {
        self.between.set(between);
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        self.refusal.set(Some(refusal));
    }

    /// Patience with the body of a request begins anew.
    pub(super) fn body_begins(&self) {
        self.body.set(Patience::for_body(&self.bounds.get()));
    }

    /// The client has sent nothing of its body that waits.
    pub(super) fn body_waits(&self) {
        wait(&self.body);
    }

    /// So much of a body came.
    pub(super) fn body_came(&self, bytes: usize) {
        earn(&self.body, bytes);
    }

    /// The client takes no more of its response for now.
    pub(super) fn response_waits(&self) {
        wait(&self.response);
    }

    /// So much of a response went.
    pub(super) fn response_went(&self, bytes: usize) {
        earn(&self.response, bytes);
    }
}
