//! The rollout core: a pure state machine `(record, event, now) → (record, actions)` for one fleet.
//!
//! ```text
//!   NewTarget ──► queued ──► stage 1 ──reached, baked, gates pass──► stage 2 ─► … ─► all ──► stable
//!                    ▲          │ gate fails · nack · restart · silence · abort          │
//!                    │          ▼                                                        │
//!                Recompile ◄── restoring: everybody ordered back, culprits held ◄────────┘
//! ```
//!
//! The caller owns the clock, the store and the streams. For each event it calls [`Core::step`] and then, in this order:
//!
//! 1. If [`Outcome::commit`] says `Required`, writes [`Core::record`] with a precondition on the version it read. If
//!    that fails, somebody else leads: drop the actions, read the record again and hand it to [`Core::reload`].
//!    `Progress` may be written later (at most a few seconds): no order depends on it, and losing it only makes a new
//!    controller observe that much of the bake again.
//! 2. Carries out [`Outcome::actions`]. An order is built from the record ([`order()`]) when it is sent, not before.
//!
//! A controller that dies between the two has done no harm: the next one reads the same record, makes the same order
//! out of it, and sends it to every instance that has not acknowledged it.
//!
//! The rules this enforces, each with the model that breaks when it is taken away, are in
//! `controller/tests/rollout_model.rs`.

mod adopt;
mod attribution;
mod bake;
mod command;
pub mod epoch;
pub mod event;
pub mod evidence;
pub mod failure;
pub mod gates;
mod instances;
mod order;
pub mod plan;
pub mod record;
mod restore;
mod stages;
pub mod status;
mod stored;
mod story;
mod target;
pub mod time;
pub mod view;

use sluice_model::{FleetName, InstanceId};

pub use event::{Basis, Changed, Command, Event, Facts, Fault, InsteadOf, LastEnd, Report, Scope, Target, Verb};
pub use evidence::{Counts, Role, ScopeId};
pub use failure::{Failure, Figure};
pub use order::{Candidate, Members, Order, order};
pub use plan::{Gate, LatencyLimit, Limit, OnIdle, OnNoData, PerMillion, Plan, PlanError, Progress, RateLimit, Stage};
pub use record::{Beginning, Record};
pub use status::{Health, Phase, RolloutStatus};
pub use story::{Story, Waiting};
pub use time::{Millis, Span, Timing};
pub use view::View;

/// One fleet's rollout, as one controller knows it: the record, and what it sees of the instances.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Core {
    record: Record,
    view: View,
    timing: Timing,
}

/// What follows from an event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Whether the record has to be written first.
    pub commit: Commit,
    /// What to do then, in this order.
    pub actions: Vec<Action>,
}

/// Whether the record has to be written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Commit {
    /// It did not change.
    #[default]
    Nothing,
    /// Only observations changed. May be written later, together.
    Progress,
    /// Before any action is carried out.
    Required,
}

/// What the caller has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send the order in force. Sending it twice does no harm.
    SendOrder(Recipients),
    /// Compile the newest objects against [`Record::basis`] and the held contents, and offer the result as
    /// [`Event::NewTarget`].
    Recompile,
    /// Tell people.
    Tell(Story),
    /// The command was not carried out; nothing changed.
    Refuse {
        /// Which.
        command: Command,
        /// Why, and what to do.
        why: String,
    },
}

/// To whom an order goes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Recipients {
    /// Every connected instance.
    Everybody,
    /// One that just connected, or has not acknowledged.
    One(InstanceId),
}

impl Core {
    /// A controller that has read the fleet's record.
    pub fn resume(record: Record) -> Self {
        Self {
            view: View::of(&record),
            record,
            timing: Timing::default(),
        }
    }

    /// A controller that found no record.
    pub fn begin(fleet: FleetName, plan: Plan, beginning: Beginning) -> Self {
        Self::resume(Record::new(fleet, plan, beginning))
    }

    /// The same with other waits; for tests that explore many states.
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// The record as it is to be stored.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What this controller sees of the instances.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether this controller has been at work for long enough to have seen every instance that there is.
    pub fn has_settled(&self) -> bool {
        self.view.age_ms >= self.timing.fleet_settle_ms
    }

    /// Whether as many instances are connected as when a stage was last committed, or enough time has passed for that.
    pub fn has_its_fleet(&self) -> bool {
        let connected = self.view.connected().len();
        self.has_settled() || (connected > 0 && connected >= self.record.size)
    }

    /// Whether some instance follows an order that the record knows nothing of: it is not the latest one.
    pub fn is_behind(&self) -> bool {
        self.view.reported_epoch > self.record.epoch
    }

    /// Replaces the record by what the store holds, after a write was refused. What is seen of instances stays. A new
    /// target is asked for with the next tick.
    pub fn reload(&mut self, record: Record) {
        self.record = record;
        self.view.expect(&self.record);
        for seen in self.view.instances.values_mut() {
            seen.credit_ms = 0;
            seen.sent = None; // what was about to be sent was not
        }
        self.view.recompile = view::Recompile::Due;
    }

    /// What follows from `event` at `now`.
    pub fn step(&mut self, event: Event, now: Millis) -> Outcome {
        let mut turn = Turn {
            record: &mut self.record,
            view: &mut self.view,
            timing: &self.timing,
            now,
            outcome: Outcome::default(),
        };
        match event {
            Event::NewTarget(target) => turn.offered(target),
            Event::PlanChanged(plan) => turn.plan_changed(plan),
            Event::Connected { instance, facts } => turn.connected(&instance, facts),
            Event::Disconnected(instance) => turn.disconnected(&instance),
            Event::Removed(instance) => turn.removed(&instance),
            Event::Roster(instances) => turn.only(&instances),
            Event::Ack { instance, epoch } => turn.acknowledged(&instance, epoch),
            Event::Nack {
                instance,
                epoch,
                reason,
                fault,
            } => turn.refused(&instance, epoch, &reason, fault),
            Event::Report(report) => {
                // Judged with the next tick, together with what the others report about the same second.
                turn.reported(&report);
                return turn.outcome;
            }
            Event::StableLost => turn.begin_anew(),
            Event::Tick => turn.ticked(),
            Event::Command(command) => turn.commanded(command),
        }
        turn.follow_up();
        turn.outcome
    }
}

/// One step in progress.
struct Turn<'a> {
    record: &'a mut Record,
    view: &'a mut View,
    timing: &'a Timing,
    now: Millis,
    outcome: Outcome,
}

impl Turn<'_> {
    /// A second passed.
    fn ticked(&mut self) {
        let elapsed = self.pass_time();
        self.bake(elapsed);
        self.watch_silence();
        self.judge();
    }

    /// What has become possible.
    fn follow_up(&mut self) {
        self.adopt_from_instances();
        self.finish_restoring();
        self.strike_off_the_reached();
        self.advance();
        self.start_queued();
        self.send_to_those_behind();
        self.ask_for_target();
    }

    /// The next order: a new epoch, written before it is sent to everybody.
    fn order_anew(&mut self) {
        self.record.epoch = epoch::next(self.record.epoch, self.view.reported_epoch, self.now);
        self.send_to_everybody();
    }

    /// The same, past anything that a predecessor whose record is lost can have sent.
    fn order_with_a_jump(&mut self) {
        self.record.epoch = epoch::jump(
            self.record.epoch,
            self.view.reported_epoch,
            self.now,
            self.timing.clock_difference_seconds,
        );
        self.send_to_everybody();
    }

    fn send_to_everybody(&mut self) {
        self.require_commit();
        let epoch = self.record.epoch;
        for seen in self.view.instances.values_mut() {
            seen.sent = Some((epoch, 0));
            seen.unacknowledged_ms = 0;
        }
        let everybody = Action::SendOrder(Recipients::Everybody);
        self.outcome.actions.retain(|action| *action != everybody);
        self.outcome.actions.push(everybody);
    }

    fn require_commit(&mut self) {
        self.outcome.commit = Commit::Required;
    }

    fn note_progress(&mut self) {
        self.outcome.commit = self.outcome.commit.max(Commit::Progress);
    }

    fn tell(&mut self, story: Story) {
        self.outcome.actions.push(Action::Tell(story));
    }

    fn ask_for_target(&mut self) {
        if std::mem::take(&mut self.view.recompile) == view::Recompile::Due {
            self.outcome.actions.push(Action::Recompile);
        }
    }
}

#[cfg(test)]
mod tests;
