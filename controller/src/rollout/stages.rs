//! Stages: committing one, leaving it, and the end of the last.

use std::collections::BTreeSet;

use sluice_model::{InstanceId, limits};

use super::bake::{self, Standing};
use super::evidence::{Evidence, ScopeId};
use super::order::{self, Members};
use super::plan::{PerMillion, Stage};
use super::record::{Compared, Past, PastResult, Reached, Rollout};
use super::story::Story;
use super::{Turn, epoch};

/// A stage as it is about to be committed.
struct Choice {
    index: usize,
    members: Members,
    ordered: BTreeSet<InstanceId>,
    collapsed: Vec<String>,
    bake_ms: u64,
}

impl Turn<'_> {
    /// Notes when every member has acknowledged, and goes on when the stage has passed.
    pub(super) fn advance(&mut self) {
        self.replace_a_vanished_cohort();
        self.reach();
        let Some(rollout) = self.record.rollout.as_ref() else {
            return;
        };
        if self.is_paused() || bake::standing(self.record, rollout) != Standing::Passed {
            return;
        }
        if rollout.stage + 1 >= rollout.stages.len() {
            self.promote();
        } else if self.fleet_is_here() {
            let next = rollout.stage + 1;
            self.commit_stage(next);
        }
    }

    /// Whether somebody asked that nothing new be ordered.
    pub(super) fn is_paused(&self) -> bool {
        self.record.is_paused()
    }

    /// Whether as many instances are connected as when a stage was last committed; a controller that has just started
    /// waits a while for them, lest it size a stage by those that were quickest.
    pub(super) fn fleet_is_here(&self) -> bool {
        let connected = self.view.connected().len();
        connected > 0 && (self.has_settled() || connected >= self.record.size)
    }

    /// Whether this controller has been at work for long enough to have seen every instance that there is.
    pub(super) fn has_settled(&self) -> bool {
        self.view.age_ms >= self.timing.fleet_settle_ms
    }

    fn reach(&mut self) {
        let Some(rollout) = self.record.rollout.as_ref() else {
            return;
        };
        let now =
            rollout.reached == Reached::NotYet && bake::all_acknowledged(self.record, rollout, self.view, self.timing);
        let Some(rollout) = self.record.rollout.as_mut().filter(|_| now) else {
            return;
        };
        rollout.reached = Reached::Yes;
        let (stage, bake_ms) = (bake::stage_name(rollout), rollout.bake_ms);
        self.view.instances.values_mut().for_each(|seen| seen.credit_ms = 0);
        self.require_commit();
        self.tell(Story::StageReached { stage, bake_ms });
    }

    /// All members of a stage are gone for good: the stage begins again with others, and bakes in full.
    fn replace_a_vanished_cohort(&mut self) {
        let vanished = self
            .record
            .rollout
            .as_ref()
            .filter(|rollout| rollout.ordered.is_empty());
        let Some(stage) = vanished.map(|rollout| rollout.stage) else {
            return;
        };
        if !self.is_paused() && self.fleet_is_here() {
            self.commit_stage(stage);
        }
    }

    /// Orders the candidate onto the members of the stage at `index`, or of a later one that would choose the same.
    pub(super) fn commit_stage(&mut self, index: usize) {
        let present = self.view.connected();
        let fleet = self.record.fleet.clone();
        let next_epoch = epoch::next(self.record.epoch, self.view.reported_epoch, self.now);
        let Some(rollout) = self.record.rollout.as_mut() else {
            return;
        };
        let choose = |share: PerMillion| order::choose(&fleet, share, &present, &rollout.ordered);
        let Some(choice) = collapse(rollout, index, &present, choose) else {
            return;
        };
        if rollout.first_epoch == 0 {
            rollout.first_epoch = next_epoch;
        }
        let served_before = self.view.served_by(&choice.ordered);
        rollout.enter(choice, served_before);
        self.record.size = present.len();
        self.tell_stage();
        self.order_anew();
    }

    fn tell_stage(&mut self) {
        let Some(rollout) = self.record.rollout.as_ref() else {
            return;
        };
        let members = match &rollout.members {
            Members::Listed(members) => Some(members.iter().cloned().collect()),
            Members::All => None,
        };
        let story = Story::StageOrdered {
            revision: rollout.target.revision,
            stage: bake::stage_name(rollout),
            index: rollout.stage + 1,
            of: rollout.stages.len(),
            members,
            collapsed: rollout.collapsed.clone(),
            uncounted_routes: rollout.target.scopes.len().saturating_sub(limits::ROLLOUT_SCOPES_MAX),
        };
        self.tell(story);
    }

    /// The candidate has baked everywhere: it is stable now.
    fn promote(&mut self) {
        let Some(rollout) = self.record.rollout.take() else {
            return;
        };
        let revision = rollout.target.revision;
        self.record.stable = Some(revision);
        self.record.blamed_on_nobody = 0;
        self.remember(Past {
            revision,
            at: self.now,
            result: PastResult::Promoted,
        });
        self.order_anew();
        self.tell(Story::Promoted(revision));
    }

    /// Adds to the history, which forgets its oldest.
    pub(super) fn remember(&mut self, past: Past) {
        self.record.history.push_back(past);
        while self.record.history.len() > limits::ROLLOUT_HISTORY_MAX {
            self.record.history.pop_front();
        }
    }

    /// The author's plan changed. What is running keeps what it began with.
    pub(super) fn plan_changed(&mut self, plan: super::Plan) {
        if self.record.plan != plan {
            self.record.plan = plan;
            self.require_commit();
        }
    }
}

/// The stage to commit: `index`, or the last after it that would choose the same list, with the longest bake of them. A
/// list is never collapsed into *everybody*, even if it has the same members now: others may join.
fn collapse(
    rollout: &Rollout,
    index: usize,
    present: &BTreeSet<InstanceId>,
    choose: impl Fn(PerMillion) -> Members,
) -> Option<Choice> {
    let first = rollout.stages.get(index)?;
    let members = choose(first.fleet);
    let rest = rollout.stages.get(index + 1..)?.iter();
    let same: Vec<&Stage> = rest.take_while(|stage| choose(stage.fleet) == members).collect();
    let ordered = match &members {
        Members::Listed(listed) => listed.clone(),
        Members::All => present.union(&rollout.ordered).cloned().collect(),
    };
    let stages = || std::iter::once(first).chain(same.iter().copied());
    Some(Choice {
        index: index + same.len(),
        members,
        ordered,
        collapsed: stages().take(same.len()).map(|stage| stage.name.clone()).collect(),
        bake_ms: stages().map(|stage| stage.bake_ms).max().unwrap_or(0),
    })
}

impl Rollout {
    /// Begins a stage with nothing observed. What stable showed in the one before stays as the baseline.
    fn enter(&mut self, choice: Choice, (served_before, served_before_ms): (u64, u64)) {
        let scopes: Vec<ScopeId> = self.evidence.scopes.keys().cloned().collect();
        let before = std::mem::replace(&mut self.evidence, Evidence::over(scopes));
        if before.stable_reports > 0 {
            self.compared = Compared::Yes;
        }
        for (scope, pair) in before.scopes {
            if pair.stable.requests > 0 {
                self.baseline.insert(scope, pair.stable);
            }
        }
        self.stage = choice.index;
        self.members = choice.members;
        self.ordered = choice.ordered;
        self.collapsed = choice.collapsed;
        self.bake_ms = choice.bake_ms;
        self.served_before = served_before;
        self.served_before_ms = served_before_ms;
        self.reached = Reached::NotYet;
        self.observed_ms = 0;
        self.round_ms = 0;
        self.waved = None;
    }
}
