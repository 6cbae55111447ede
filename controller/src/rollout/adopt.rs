//! Where stable comes from when the record does not say: from the instances, or, if none of them holds anything, from
//! the first revision.
//!
//! No honest instance holds an epoch that was not committed first. So one that is ahead of the record proves that the
//! record was lost or restored from a backup (or that this controller reads an old copy: then its write is refused).
//! What the most advanced order calls stable was proven; everybody is ordered onto it, past anything that the lost
//! controller may still have in flight.
//!
//! The one thing this cannot know: a controller without a record, whose only connected instances are new and empty,
//! takes the fleet for a new one after [`super::Timing::adoption_wait_ms`].

use sluice_model::RevisionId;

use super::Turn;
use super::record::{Beginning, Past, PastResult, Restoring};
use super::story::Story;
use super::view::{Link, Recompile};

impl Turn<'_> {
    /// Takes stable over from instances, or adopts the first revision, if it is time.
    pub(super) fn adopt_from_instances(&mut self) {
        let new_fleet = self.record.beginning == Beginning::NewFleet;
        let listened = self.view.listening_ms >= self.timing.adoption_wait_ms;
        match (self.record.stable, self.most_advanced()) {
            (Some(_), Some((epoch, stable))) if epoch > self.record.epoch => self.take_over(stable),
            (None, Some((_, stable))) if new_fleet || listened => self.take_over(stable),
            (None, None) if new_fleet || listened => self.adopt_first(),
            (Some(_) | None, _) => {}
        }
    }

    /// The greatest epoch that a connected instance holds, and what that order calls stable.
    fn most_advanced(&self) -> Option<(u64, RevisionId)> {
        let connected = self.view.instances.values().filter(|seen| seen.link == Link::Up);
        connected.filter_map(|seen| seen.told).max()
    }

    /// Whatever else instances may carry is taken back first: nothing is rolled out before they have all acknowledged.
    fn take_over(&mut self, stable: RevisionId) {
        let record = &mut *self.record;
        let doubtful = record.rollout.take().into_iter().flat_map(|rollout| rollout.ordered);
        let waiting = record
            .restoring
            .take()
            .into_iter()
            .flat_map(|restoring| restoring.waiting);
        let known = doubtful.chain(waiting).chain(self.view.connected()).collect();
        record.stable = Some(stable);
        record.queued = None;
        self.order_with_a_jump();
        self.record.restoring = Some(Restoring {
            revision: stable,
            epoch: self.record.epoch,
            waiting: known,
            result: PastResult::AdoptedFromInstances,
        });
        self.view.expect(self.record);
        self.tell(Story::AdoptedFromInstances(stable));
    }

    /// Nobody can be sent stable any more, and nobody serves it: the next revision is adopted as a first one is, unless
    /// an instance that holds something comes before it. Whoever carried a candidate is listed until it has acknowledged.
    pub(super) fn begin_anew(&mut self) {
        let Some(stable) = self.record.stable.take() else {
            return;
        };
        let record = &mut *self.record;
        let doubtful = record.rollout.take().into_iter().flat_map(|rollout| rollout.ordered);
        let waiting = record
            .restoring
            .take()
            .into_iter()
            .flat_map(|restoring| restoring.waiting);
        record.unreached.extend(doubtful.chain(waiting));
        record.queued = None;
        record.beginning = Beginning::RecordMissing;
        self.view.recompile = Recompile::Due;
        self.require_commit();
        self.tell(Story::StableLost(stable));
    }

    /// The first revision of a fleet has nothing to be compared with.
    fn adopt_first(&mut self) {
        let Some(target) = self.record.queued.take() else {
            return;
        };
        if target.basis != self.record.basis() {
            self.view.recompile = Recompile::Due;
            return;
        }
        let revision = target.revision;
        self.record.stable = Some(revision);
        self.record.size = self.view.connected().len();
        self.remember(Past {
            revision,
            at: self.now,
            result: PastResult::Adopted,
        });
        match self.record.beginning {
            Beginning::NewFleet => self.order_anew(),
            Beginning::RecordMissing => self.order_with_a_jump(),
        }
        self.tell(Story::Adopted(revision));
    }
}
