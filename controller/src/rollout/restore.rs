//! Going back: a new order that takes a candidate away from everybody, complete when all who can be reached have
//! acknowledged *that* order.
//!
//! "All show the old content" would not be enough: an order that is still in flight could land afterwards. So the order
//! goes to everybody, also to those that never moved, and its epoch is what counts.

use std::collections::BTreeSet;

use sluice_model::InstanceId;

use super::failure::Failure;
use super::record::{Past, PastResult, Restoring, Rollout};
use super::story::Story;
use super::view::{Link, Recompile};
use super::{Turn, attribution, bake};

impl Turn<'_> {
    /// Takes the candidate back and holds what did the harm.
    pub(super) fn roll_back(&mut self, failure: Failure) {
        let Some(rollout) = self.record.rollout.take() else {
            return;
        };
        let assessments = bake::assessments(self.record, &rollout);
        let culprits = attribution::culprits(&rollout, &failure, &assessments);
        self.tell(Story::RollingBack {
            revision: rollout.target.revision,
            failure: failure.clone(),
            culprits: culprits.clone(),
        });
        let culprits = self.hold_back(&rollout, culprits, &failure);
        self.order_back(&rollout, PastResult::RolledBack { failure, culprits });
    }

    /// Takes the candidate back because its author did; nothing is held.
    pub(super) fn withdraw(&mut self) {
        if let Some(rollout) = self.record.rollout.take() {
            self.tell(Story::Withdrawing(rollout.target.revision));
            self.order_back(&rollout, PastResult::Withdrawn);
        }
    }

    fn order_back(&mut self, rollout: &Rollout, result: PastResult) {
        let known = self.view.connected().union(&rollout.ordered).cloned().collect();
        self.order_anew();
        self.record.restoring = Some(Restoring {
            revision: rollout.target.revision,
            epoch: self.record.epoch,
            waiting: known,
            result,
        });
    }

    /// Notes who is back, and ends the way back when nobody who can be reached is missing.
    pub(super) fn finish_restoring(&mut self) {
        let Some(restoring) = self.record.restoring.as_mut() else {
            return;
        };
        let before = restoring.waiting.len();
        let (view, epoch) = (&*self.view, restoring.epoch);
        restoring
            .waiting
            .retain(|instance| !view.has_acknowledged(instance, epoch));
        let progress = restoring.waiting.len() != before;
        let unreachable_after = self.timing.unreachable_after_ms;
        let is_unreachable = |instance: &InstanceId| {
            let seen = view.instances.get(instance);
            seen.is_some_and(|seen| seen.link == Link::Away && seen.away_ms >= unreachable_after)
        };
        let complete = restoring.waiting.iter().all(is_unreachable);
        if progress {
            self.note_progress();
        }
        if complete {
            self.end_restoring();
        }
    }

    fn end_restoring(&mut self) {
        let Some(restoring) = self.record.restoring.take() else {
            return;
        };
        self.require_commit();
        let unreached: BTreeSet<InstanceId> = restoring.waiting;
        let (revision, missing) = (restoring.revision, unreached.iter().cloned().collect());
        self.tell(Story::Restored {
            revision,
            result: restoring.result.clone(),
            unreached: missing,
        });
        self.record.unreached.extend(unreached);
        self.remember(Past {
            revision: restoring.revision,
            at: self.now,
            result: restoring.result,
        });
        self.view.recompile = Recompile::Due;
    }
}
