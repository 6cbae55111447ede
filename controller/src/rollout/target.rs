//! Targets: what the objects compile to, and when it may be rolled out.

use std::collections::{BTreeMap, BTreeSet};

use sluice_model::{RevisionId, limits};

use super::Turn;
use super::event::{InsteadOf, Target};
use super::evidence::{Evidence, ScopeId};
use super::order::Members;
use super::plan::Stage;
use super::record::{Compared, Past, PastResult, Reached, Rollout};
use super::story::{Story, Waiting};
use super::time::Millis;
use super::view::Recompile;

/// What to do with a target.
enum Reception {
    /// It was compiled against something that is no longer so.
    Outdated,
    /// It is what everybody serves.
    IsStable,
    /// It is being tried.
    IsTried,
    /// Its digest failed before.
    IsBlocked,
    /// It takes the place of what is being tried.
    Supersedes,
    /// It waits.
    Waits(Option<Waiting>),
}

impl Turn<'_> {
    /// The objects compile to `target` now.
    pub(super) fn offered(&mut self, target: Target) {
        let reception = self.receive(&target);
        if !matches!(reception, Reception::Outdated) {
            self.lift_holds(&target);
        }
        let revision = target.revision;
        match reception {
            Reception::Outdated => self.view.recompile = Recompile::Due,
            Reception::IsTried => self.dequeue(),
            Reception::IsBlocked => {
                self.dequeue();
                self.tell(Story::Blocked(revision));
            }
            Reception::IsStable => {
                self.dequeue();
                self.withdraw();
            }
            Reception::Supersedes => self.supersede(target),
            Reception::Waits(why) => self.enqueue(target, why),
        }
    }

    fn receive(&self, target: &Target) -> Reception {
        let digest = target.revision.digest;
        let is = |revision: RevisionId| revision.digest == digest;
        let tried = self.record.rollout.as_ref().map(|rollout| rollout.target.revision);
        if target.basis != self.record.basis() {
            return Reception::Outdated;
        }
        if self.record.stable.is_some_and(is) {
            return Reception::IsStable;
        }
        if tried.is_some_and(is) {
            return Reception::IsTried;
        }
        if self.record.blocked.iter().any(|blocked| is(blocked.revision)) {
            return Reception::IsBlocked;
        }
        let Some(rollout) = self.record.rollout.as_ref() else {
            return Reception::Waits(self.obstacle());
        };
        let pending = self.now.since(rollout.pending_since);
        if self.is_paused() {
            Reception::Waits(Some(Waiting::Resume))
        } else if rollout.target.instead_of == InsteadOf::Nothing {
            // What went to everybody at once serves there: the next change has something to be compared with.
            Reception::Waits(Some(Waiting::FirstRoutes))
        } else if pending >= self.record.plan.max_pending_age_ms {
            Reception::Waits(Some(Waiting::EndOfRollout))
        } else if !self.fleet_is_here() {
            Reception::Waits(Some(Waiting::Instances))
        } else {
            Reception::Supersedes
        }
    }

    /// What keeps a target from being rolled out, while nothing else is being tried.
    fn obstacle(&self) -> Option<Waiting> {
        if self.record.restoring.is_some() {
            Some(Waiting::EndOfRollback)
        } else if self.record.frozen.is_some() {
            Some(Waiting::Thaw)
        } else if self.is_paused() {
            Some(Waiting::Resume)
        } else if !self.fleet_is_here() {
            Some(Waiting::Instances)
        } else {
            None
        }
    }

    /// Holds on contents that no object has any more are lifted.
    fn lift_holds(&mut self, target: &Target) {
        let before = self.record.held.len();
        self.record.held.retain(|held| target.still_held.contains(&held.object));
        if self.record.held.len() != before {
            self.require_commit();
        }
    }

    fn dequeue(&mut self) {
        if self.record.queued.take().is_some() {
            self.require_commit();
        }
    }

    fn enqueue(&mut self, target: Target, why: Option<Waiting>) {
        if self.record.queued.as_ref() == Some(&target) {
            return;
        }
        let revision = target.revision;
        self.record.queued = Some(target);
        self.require_commit();
        if let Some(why) = why.filter(|_| self.record.stable.is_some()) {
            self.tell(Story::Queued { revision, why });
        }
    }

    /// Rolls out what waits, if nothing stands in the way.
    pub(super) fn start_queued(&mut self) {
        if self.record.rollout.is_some() || self.record.stable.is_none() {
            return;
        }
        let outdated = self
            .record
            .queued
            .as_ref()
            .is_some_and(|target| target.basis != self.record.basis());
        if outdated {
            self.dequeue();
            self.view.recompile = Recompile::Due;
        }
        if self.obstacle().is_some() {
            return;
        }
        if let Some(target) = self.record.queued.take() {
            let now = self.now;
            self.start(target, now);
        }
    }

    fn supersede(&mut self, target: Target) {
        let Some(old) = self.record.rollout.take() else {
            return;
        };
        self.tell(Story::Superseded {
            old: old.target.revision,
            new: target.revision,
        });
        self.remember(Past {
            revision: old.target.revision,
            at: self.now,
            result: PastResult::Superseded,
        });
        let unreached = old
            .ordered
            .difference(&self.view.connected())
            .cloned()
            .collect::<BTreeSet<_>>();
        self.record.unreached.extend(unreached);
        self.record.queued = None;
        self.start(target, old.pending_since);
    }

    /// Begins at the first stage; where stable serves nobody, with everybody at once: they only have to acknowledge it.
    fn start(&mut self, target: Target, pending_since: Millis) {
        let plan = &self.record.plan;
        let stages = match target.instead_of {
            InsteadOf::Routes => plan.stages().to_vec(),
            InsteadOf::Nothing => vec![Stage::everybody_at_once()],
        };
        let routes = target.scopes.iter().take(limits::ROLLOUT_SCOPES_MAX);
        let routes = routes.map(|scope| ScopeId::Route(scope.route.clone()));
        let scopes = std::iter::once(ScopeId::Fleet).chain(routes);
        self.record.rollout = Some(Rollout {
            evidence: Evidence::over(scopes),
            target,
            began: self.now,
            pending_since,
            first_epoch: 0,
            stages,
            gates: plan.gates().to_vec(),
            on_no_data: plan.on_no_data,
            on_idle: plan.on_idle,
            stage: 0,
            collapsed: Vec::new(),
            bake_ms: 0,
            members: Members::Listed(BTreeSet::new()),
            ordered: BTreeSet::new(),
            reached: Reached::NotYet,
            observed_ms: 0,
            round_ms: 0,
            running_ms: 0,
            baseline: self
                .view
                .baseline
                .counts()
                .map_or_else(BTreeMap::new, |counts| BTreeMap::from([(ScopeId::Fleet, counts)])),
            compared: Compared::No,
            served_before: 0,
            served_before_ms: 0,
            waved: None,
        });
        self.commit_stage(0);
    }
}
