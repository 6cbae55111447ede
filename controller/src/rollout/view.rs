//! What a controller sees right now: who is connected, what each instance has acknowledged, who is silent.
//!
//! None of it is stored: a controller that restarts asks again, and until it has, nothing bakes. Ages are sums of the
//! core's own ticks, so that a clock that jumps neither condemns nor acquits anybody.

use std::collections::{BTreeMap, BTreeSet};

use sluice_model::{InstanceId, RevisionId};

use super::event::Fault;
use super::evidence::Counts;
use super::record::Record;
use super::time::Millis;

/// Everything seen since this controller started.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct View {
    /// By instance; also those that the record mentions and that have not been seen yet.
    pub instances: BTreeMap<InstanceId, Seen>,
    /// The greatest plausible epoch that any instance reported.
    pub reported_epoch: u64,
    /// How long this controller has been at work, in milliseconds of its ticks.
    pub age_ms: u64,
    /// Since an instance first connected to a controller without a record.
    pub listening_ms: u64,
    pub(super) last_tick: Option<Millis>,
    pub(super) baseline: Baseline,
    pub(super) recompile: Recompile,
}

/// Whether the caller has to compile again although nobody changed anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Recompile {
    #[default]
    No,
    Due,
}

/// One instance.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Seen {
    /// Whether its stream is up.
    pub link: Link,
    /// The greatest epoch it has acknowledged or said that it holds.
    pub epoch: u64,
    /// The epoch and the stable revision of the order it said that it holds when it connected.
    pub told: Option<(u64, RevisionId)>,
    /// Since its stream ended, in milliseconds.
    pub away_ms: u64,
    /// Since it last said anything, in milliseconds.
    pub silent_ms: u64,
    /// Since it was ordered onto the candidate without acknowledging, in milliseconds.
    pub unacknowledged_ms: u64,
    /// Observed time that its reports vouch for and that has not been spent, in milliseconds.
    pub credit_ms: u64,
    /// What it served lately, under whatever revision.
    pub(super) served: Served,
    /// The last order sent to it over this stream, and how long ago.
    pub sent: Option<(u64, u64)>,
    /// The last order it refused.
    pub refusal: Option<Refused>,
}

/// An order that an instance refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Refused {
    /// Which.
    pub epoch: u64,
    /// Why, in its words.
    pub reason: String,
    /// Whose fault it is.
    pub fault: Fault,
}

impl Seen {
    /// Why it cannot follow the order of `epoch`, if that is trouble of its own.
    pub fn own_trouble(&self, epoch: u64) -> Option<&str> {
        let refused = self.refusal.as_ref()?;
        let waits = self.link == Link::Up && self.epoch < epoch && refused.epoch == epoch;
        (waits && refused.fault == Fault::Instance).then_some(refused.reason.as_str())
    }
}

/// Whether a stream is up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Link {
    /// No stream.
    #[default]
    Away,
    /// An authenticated stream.
    Up,
}

/// What was counted over one to two slots of time: what is older is forgotten a slot at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Recent<T> {
    older: T,
    newer: T,
}

impl<T: Default> Recent<T> {
    fn next_slot(&mut self) {
        self.older = std::mem::take(&mut self.newer);
    }
}

/// Stable traffic of the whole fleet, for stages without a stable cohort.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Baseline {
    recent: Recent<Counts>,
    /// How long the newer slot has been counting, in milliseconds.
    slot_ms: u64,
    /// How long the older one did.
    older_ms: u64,
}

/// Requests that one instance served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Served(Recent<u64>);

impl Served {
    pub(super) fn add(&mut self, requests: u64) {
        self.0.newer = self.0.newer.saturating_add(requests);
    }

    fn requests(self) -> u64 {
        self.0.older.saturating_add(self.0.newer)
    }
}

impl Baseline {
    pub(super) fn add(&mut self, counts: &Counts) {
        self.recent.newer.merge(counts);
    }

    /// Lets time pass; whether another slot begins with it.
    fn pass(&mut self, elapsed_ms: u64, slot_ms: u64) -> bool {
        self.slot_ms = self.slot_ms.saturating_add(elapsed_ms);
        let is_over = self.slot_ms >= slot_ms;
        if is_over {
            self.older_ms = std::mem::take(&mut self.slot_ms);
            self.recent.next_slot();
        }
        is_over
    }

    fn over_ms(&self) -> u64 {
        self.older_ms.saturating_add(self.slot_ms)
    }

    /// `None` if there was no request: nothing can be compared with it.
    pub(super) fn counts(&self) -> Option<Counts> {
        let mut counts = self.recent.older.clone();
        counts.merge(&self.recent.newer);
        (counts.requests > 0).then_some(counts)
    }
}

impl View {
    /// What a controller sees that has just read `record`: everybody it mentions is away.
    pub(super) fn of(record: &Record) -> Self {
        let mut view = Self::default();
        view.expect(record);
        view
    }

    /// Makes room for everybody whom `record` waits for.
    pub(super) fn expect(&mut self, record: &Record) {
        let ordered = record.rollout.iter().flat_map(|rollout| &rollout.ordered);
        let waiting = record.restoring.iter().flat_map(|restoring| &restoring.waiting);
        for instance in ordered.chain(waiting) {
            self.instances.entry(instance.clone()).or_default();
        }
    }

    /// Lets what was served grow old.
    pub(super) fn pass_slots(&mut self, elapsed_ms: u64, slot_ms: u64) {
        if self.baseline.pass(elapsed_ms, slot_ms) {
            self.instances.values_mut().for_each(|seen| seen.served.0.next_slot());
        }
    }

    /// Requests that these instances served lately, and over how many milliseconds.
    pub(super) fn served_by(&self, instances: &BTreeSet<InstanceId>) -> (u64, u64) {
        let served = instances.iter().filter_map(|instance| self.instances.get(instance));
        let served = served.fold(0_u64, |sum, seen| sum.saturating_add(seen.served.requests()));
        (served, self.baseline.over_ms())
    }

    /// Those with a stream.
    pub fn connected(&self) -> BTreeSet<InstanceId> {
        let up = self.instances.iter().filter(|(_, seen)| seen.link == Link::Up);
        up.map(|(instance, _)| instance.clone()).collect()
    }

    /// Whether `instance` has acknowledged `epoch` or a later one.
    pub fn has_acknowledged(&self, instance: &InstanceId, epoch: u64) -> bool {
        self.instances.get(instance).is_some_and(|seen| seen.epoch >= epoch)
    }

    pub(super) fn seen(&mut self, instance: &InstanceId) -> &mut Seen {
        self.instances.entry(instance.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_forgets_after_two_slots() {
        let mut baseline = Baseline::default();
        baseline.add(&Counts {
            requests: 5,
            ..Counts::default()
        });
        baseline.pass(10, 10);
        assert_eq!((baseline.counts().unwrap().requests, baseline.over_ms()), (5, 10));
        baseline.pass(4, 10);
        assert_eq!(baseline.over_ms(), 14);
        baseline.pass(6, 10);
        assert_eq!((baseline.counts(), baseline.over_ms()), (None, 10));
    }
}
