//! Attribution: which changed objects answer for a failure, and how they are held.
//!
//! - Routes that fail: the changed objects that can affect them.
//! - Only the fleet as a whole is convicted: the changed objects behind the routes that lean the same way on fewer
//!   requests than a conviction takes.
//! - No route leans, or an instance refuses, restarts, falls silent, or a person aborts: all changed
//!   objects. It cannot be told, and letting one slip through repeats the accident.
//! - No changed object at all: the digest is blocked. Two of those in a row freeze the fleet, since whatever changes
//!   configuration without a change of objects is not something that the next compile will mend.

use std::collections::BTreeSet;

use sluice_model::{ObjectKey, limits};

use super::Turn;
use super::evidence::ScopeId;
use super::failure::Failure;
use super::gates::{self, Assessment};
use super::record::{Blocked, Held, Rollout};
use super::story::Story;

/// The changed objects that answer for `failure`, given what the gates say at this moment. None if it is all of them, and
/// they are more than can be held.
pub(super) fn culprits(rollout: &Rollout, failure: &Failure, assessments: &[Assessment]) -> Vec<ObjectKey> {
    let convicted = failing_routes(failure, assessments);
    let scopes = rollout
        .target
        .scopes
        .iter()
        .filter(|scope| convicted.contains(&scope.route));
    let suspects: BTreeSet<&ObjectKey> = scopes.flat_map(|scope| &scope.suspects).collect();
    let changed = || rollout.target.changed.iter().map(|changed| &changed.object);
    let blamed: Vec<ObjectKey> = changed().filter(|object| suspects.contains(object)).cloned().collect();
    match (blamed.is_empty(), rollout.target.unlisted) {
        (false, _) => blamed,
        (true, 0) => changed().cloned().collect(),
        (true, _) => Vec::new(),
    }
}

/// The routes that are convicted themselves; if there are none and a gate convicts the fleet, those that are over the
/// same gate's limit on fewer requests than a conviction needs.
fn failing_routes(failure: &Failure, assessments: &[Assessment]) -> BTreeSet<ObjectKey> {
    let route = |scope: &ScopeId| match scope {
        ScopeId::Fleet => None,
        ScopeId::Route(route) => Some(route.clone()),
    };
    match failure {
        Failure::Gate { scope, .. } | Failure::Starved { scope, .. } | Failure::NoData { scope, .. } => {
            let others = gates::convictions(assessments).into_iter();
            let convicted: BTreeSet<ObjectKey> = others
                .filter_map(|assessment| route(&assessment.scope))
                .chain(route(scope))
                .collect();
            if let (true, Failure::Gate { metric, .. }) = (convicted.is_empty(), failure) {
                let leaning = |assessment: &&Assessment| assessment.metric == *metric && assessment.leans_over;
                let leaning = assessments.iter().filter(leaning);
                return leaning.filter_map(|assessment| route(&assessment.scope)).collect();
            }
            convicted
        }
        Failure::Refused { .. } | Failure::Restarted { .. } | Failure::Silent { .. } | Failure::Aborted { .. } => {
            BTreeSet::new()
        }
    }
}

impl Turn<'_> {
    /// Holds the contents of `culprits` in `rollout`, and says whose; blocks its digest if there are none, or too many to
    /// hold.
    pub(super) fn hold_back(
        &mut self,
        rollout: &Rollout,
        culprits: Vec<ObjectKey>,
        failure: &Failure,
    ) -> Vec<ObjectKey> {
        let room = limits::HELD_CONTENTS_MAX.saturating_sub(self.record.held.len());
        if culprits.is_empty() || culprits.len() > room {
            self.block(rollout, failure);
            return Vec::new();
        }
        self.record.blamed_on_nobody = 0;
        self.record.held.retain(|held| !culprits.contains(&held.object));
        let stage = super::bake::stage_name(rollout);
        for changed in rollout
            .target
            .changed
            .iter()
            .filter(|changed| culprits.contains(&changed.object))
        {
            self.record.held.push(Held {
                object: changed.object.clone(),
                content: changed.content,
                revision: rollout.target.revision,
                stage: stage.clone(),
                failure: failure.clone(),
                at: self.now,
            });
        }
        self.record.held_generation = self.record.held_generation.saturating_add(1);
        culprits
    }

    fn block(&mut self, rollout: &Rollout, failure: &Failure) {
        self.record.blocked.push_back(Blocked {
            revision: rollout.target.revision,
            failure: failure.clone(),
            at: self.now,
        });
        while self.record.blocked.len() > limits::BLOCKED_DIGESTS_MAX {
            self.record.blocked.pop_front();
        }
        self.record.blamed_on_nobody = self.record.blamed_on_nobody.saturating_add(1);
        let too_many = !rollout.target.changed.is_empty() || rollout.target.unlisted > 0;
        if too_many || self.record.blamed_on_nobody >= 2 {
            let revision = rollout.target.revision;
            let why = if too_many {
                format!("{revision} failed and changed more objects than can be held one by one ({failure})")
            } else {
                format!("two rollouts in a row failed without an object to blame, the last {revision} ({failure})")
            };
            self.record.frozen = Some(why.clone());
            self.tell(Story::Frozen(why));
        }
    }
}
