//! Deciding who leads: what a replica does next, given what it has seen of the lease and what time it is. Pure; the clock
//! is this process's monotonic one, and nothing that another machine's clock says is compared with it.
//!
//! ```text
//!   follows ──lease free, or unchanged for its whole duration──► take ──written──► leads
//!      ▲                                                                            │ renew, every 2 s
//!      └── somebody else wrote · no renewal answered for 7 s · stopped ◄────────────┘
//! ```
//!
//! A leader counts from when it *sent* its last successful write, a follower from when it *saw* the lease change, which is
//! later; and a leader gives up before a follower may take. So at no moment do two lead, whatever clocks say, as long as
//! they run at about the same speed. What a leader does is safe even if they do not: the record is written only over the
//! version that was read.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use sluice_model::limits::{LEASE_DEADLINE_MS, LEASE_LOOK_MS, LEASE_RENEW_MS, LEASE_RETRY_MS};

/// The lease at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// Which write of it this is.
    pub(super) version: String,
    /// Who holds it; nobody after a release.
    pub(super) holder: Option<String>,
    /// What the holder wrote as the time of its last renewal. Only ever compared with what was written here.
    pub(super) renewed: Option<Timestamp>,
    /// For how long an unchanged lease is still held.
    pub(super) duration: Duration,
    /// Where the holder's instances connect to.
    pub(super) address: Option<String>,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Nothing, until then.
    Wait(Instant),
    /// Read the lease.
    Look,
    /// Write that we hold it, in place of this version, or as a new lease.
    Write {
        /// The version that was read.
        over: Option<String>,
    },
}

/// What became of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The lease is this now.
    Written(Seen),
    /// Somebody else wrote first.
    Conflict,
    /// No answer: it may have been written or not.
    Unknown,
}

/// One replica.
#[derive(Clone, Debug)]
pub(super) struct Candidacy {
    me: String,
    /// The lease as it was last seen, and since when it has been so; also after it was deleted.
    seen: Option<(Seen, Instant)>,
    knows: Knows,
    look_at: Instant,
    term: Option<Term>,
}

/// Whether what was last seen is all that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Knows {
    /// Nobody has looked, or somebody has written since.
    Nothing,
    /// There is no lease.
    ItIsGone,
    /// It is as it was seen.
    ItIsSo,
}

/// We lead.
#[derive(Clone, Debug)]
struct Term {
    /// No longer than this.
    until: Instant,
    renew_at: Instant,
    /// Renewals that were sent and not answered, by the time written in them, and when they were sent.
    unsure: Vec<(Timestamp, Instant)>,
    /// Somebody wrote; perhaps it was us.
    contested: bool,
}

impl Candidacy {
    /// A replica called `me` that begins at `now`.
    pub(super) fn new(me: &str, now: Instant) -> Self {
        Self {
            me: me.to_owned(),
            seen: None,
            knows: Knows::Nothing,
            look_at: now,
            term: None,
        }
    }

    /// Until when we lead, if nothing is answered any more; `None` if we do not at `now`.
    pub(super) fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.term.as_ref().map(|term| term.until).filter(|until| now < *until)
    }

    /// Where the leader's instances connect to, if somebody else leads as far as anybody knows.
    pub(super) fn leader(&self, now: Instant) -> Option<&str> {
        let (seen, since) = self.seen.as_ref().filter(|_| self.knows != Knows::ItIsGone)?;
        let other = seen.holder.as_ref().is_some_and(|holder| *holder != self.me);
        seen.address
            .as_deref()
            .filter(|_| other && now < *since + seen.duration)
    }

    /// What to do at `now`.
    pub(super) fn next(&mut self, now: Instant) -> Action {
        if self.leads_until(now).is_none() {
            self.term = None;
        }
        match &self.term {
            Some(term) if term.contested => self.look(now, term.until),
            Some(term) if now < term.renew_at => Action::Wait(term.renew_at.min(term.until)),
            Some(_) => self.write(),
            None => self.follow(now),
        }
    }

    fn look(&self, now: Instant, unless: Instant) -> Action {
        if self.look_at <= now {
            Action::Look
        } else {
            Action::Wait(self.look_at.min(unless))
        }
    }

    fn follow(&self, now: Instant) -> Action {
        let free_at = self.free_at(now);
        match self.knows {
            Knows::Nothing => self.look(now, self.look_at),
            Knows::ItIsGone | Knows::ItIsSo if free_at <= now => self.write(),
            Knows::ItIsGone | Knows::ItIsSo => self.look(now, free_at),
        }
    }

    fn write(&self) -> Action {
        let over = self.seen.as_ref().filter(|_| self.knows == Knows::ItIsSo);
        Action::Write {
            over: over.map(|(seen, _)| seen.version.clone()),
        }
    }

    /// From when on the lease may be taken, as far as is known.
    fn free_at(&self, now: Instant) -> Instant {
        let Some((seen, since)) = &self.seen else {
            return now;
        };
        match &seen.holder {
            None => now, // given back
            Some(holder) if *holder == self.me => now,
            // Also if it was deleted since: who held it may not have noticed.
            Some(_) => *since + seen.duration,
        }
    }

    /// The lease was read; `None` if there is none.
    pub(super) fn looked(&mut self, lease: Option<Seen>, now: Instant) {
        self.look_at = now + Duration::from_millis(LEASE_LOOK_MS);
        if let Some(term) = self.term.take() {
            self.term = lease.as_ref().and_then(|lease| term.confirmed(lease, &self.me));
        }
        let Some(lease) = lease else {
            self.knows = Knows::ItIsGone;
            return;
        };
        self.knows = Knows::ItIsSo;
        if self.seen.as_ref().is_none_or(|(seen, _)| seen.version != lease.version) {
            self.seen = Some((lease, now));
        }
    }

    /// The lease could not be read.
    pub(super) fn looked_in_vain(&mut self, now: Instant) {
        self.look_at = now + Duration::from_millis(LEASE_RETRY_MS);
    }

    /// What was sent at `sent`, with `renewed` in it, came to this.
    pub(super) fn wrote(&mut self, outcome: Outcome, renewed: Timestamp, sent: Instant, now: Instant) {
        let retry_at = now + Duration::from_millis(LEASE_RETRY_MS);
        match (outcome, &mut self.term) {
            (Outcome::Written(lease), _) => {
                self.seen = Some((lease, now));
                self.knows = Knows::ItIsSo;
                self.term = Some(Term::begun(sent));
            }
            (Outcome::Conflict, Some(term)) => {
                // Perhaps with an attempt of our own that was not answered, this one's included.
                term.unsure.push((renewed, sent));
                term.contested = true;
                self.look_at = now;
            }
            (Outcome::Unknown, Some(term)) => {
                term.unsure.push((renewed, sent));
                term.renew_at = retry_at;
            }
            (Outcome::Conflict, None) => (self.knows, self.look_at) = (Knows::Nothing, now),
            (Outcome::Unknown, None) => (self.knows, self.look_at) = (Knows::Nothing, retry_at),
        }
    }

    /// The version to give back.
    pub(super) fn held_version(&self) -> Option<&str> {
        let held = self.seen.as_ref().filter(|_| self.knows == Knows::ItIsSo);
        held.map(|(seen, _)| seen.version.as_str())
    }
}

impl Term {
    fn begun(sent: Instant) -> Self {
        Self {
            until: sent + Duration::from_millis(LEASE_DEADLINE_MS),
            renew_at: sent + Duration::from_millis(LEASE_RENEW_MS),
            unsure: Vec::new(),
            contested: false,
        }
    }

    /// The term goes on if what is there was written by us, after all.
    fn confirmed(self, lease: &Seen, me: &str) -> Option<Self> {
        let ours = lease.holder.as_deref() == Some(me);
        let written = |(renewed, _): &&(Timestamp, Instant)| ours && lease.renewed == Some(*renewed);
        let (_, sent) = self.unsure.iter().find(written)?;
        Some(Self::begun(*sent))
    }
}

#[cfg(test)]
mod tests;
