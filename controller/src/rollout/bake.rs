//! Observing a stage: how time passes, what counts as observed, who is silent, and what the gates say about it.
//!
//! Bake time is not a difference of clocks. It accrues at a tick, by what *every* member's reports vouch for, and never
//! by more than the controller's own clock moved since the tick before (nor by more than a bounded step of it). So a
//! clock that jumps, a controller that sleeps and a member that is silent all give nothing.

use std::collections::BTreeSet;

use sluice_model::{InstanceId, limits};

use super::event::InsteadOf;
use super::evidence::Evidence;
use super::failure::{Failure, Figure};
use super::gates::{self, Assessment, Cohort, Moment, Verdict};
use super::order::Members;
use super::plan::{OnIdle, OnNoData};
use super::record::{Compared, Reached, Record, Rollout};
use super::story::Story;
use super::view::{Link, Seen, View};
use super::{Commit, Timing, Turn};

/// Whether a stage may be left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Members have yet to acknowledge, or to be observed for long enough.
    NotYet,
    /// Nothing stands against the next stage.
    Passed,
    /// Long enough, but something is missing.
    Holding(String),
    /// Long enough, but stable does no better: watch again.
    Again(String),
    /// Something is wrong.
    Failed(Failure),
}

/// Whether stable instances stand beside the members of this stage.
pub(super) fn cohort(record: &Record, rollout: &Rollout) -> Cohort {
    match (&rollout.members, rollout.compared) {
        (Members::Listed(_), _) if record.size > rollout.ordered.len() => Cohort::Beside,
        (Members::Listed(_) | Members::All, Compared::Yes) => Cohort::Earlier,
        (Members::Listed(_) | Members::All, Compared::No) => Cohort::Never,
    }
}

impl Turn<'_> {
    /// Moves every age on, up to the wait that it is compared with; returns by how much.
    pub(super) fn pass_time(&mut self) -> u64 {
        let last = self.view.last_tick.replace(self.now).unwrap_or(self.now);
        let elapsed = self.now.since(last).min(self.timing.tick_max_ms);
        let grow = |age: &mut u64, most: u64| *age = age.saturating_add(elapsed).min(most);
        let (epoch, timing) = (self.record.epoch, self.timing);
        grow(&mut self.view.age_ms, timing.fleet_settle_ms);
        for seen in self.view.instances.values_mut() {
            grow(&mut seen.silent_ms, timing.member_silence_ms);
            if seen.link == Link::Away {
                grow(&mut seen.away_ms, timing.unreachable_after_ms);
            }
            if seen.own_trouble(epoch).is_some() {
                seen.unacknowledged_ms = 0; // it has answered: it is not the candidate that keeps it
            } else if seen.epoch < epoch {
                grow(&mut seen.unacknowledged_ms, timing.member_silence_ms);
            }
            if let Some((_, ago)) = &mut seen.sent {
                grow(ago, timing.order_resend_ms);
            }
        }
        if self.view.instances.values().any(|seen| seen.link == Link::Up) {
            grow(&mut self.view.listening_ms, timing.adoption_wait_ms);
        }
        self.view.pass_slots(elapsed, timing.baseline_slot_ms);
        elapsed
    }

    /// Adds to the observed bake what every member vouches for.
    pub(super) fn bake(&mut self, elapsed: u64) {
        let Some(rollout) = self.record.rollout.as_mut() else {
            return;
        };
        rollout.running_ms = rollout.running_ms.saturating_add(elapsed);
        if elapsed > 0 {
            self.outcome.commit = self.outcome.commit.max(Commit::Progress);
        }
        if rollout.reached == Reached::NotYet {
            return;
        }
        let silent = silent_members(rollout, self.view, self.timing, self.record.epoch);
        let speaking = || rollout.ordered.difference(&silent.tolerated);
        let credit = |instance| self.view.instances.get(instance).map_or(0, |seen| seen.credit_ms);
        let observed = speaking().map(credit).min().unwrap_or(0).min(elapsed);
        if observed == 0 {
            return;
        }
        let speaking: Vec<InstanceId> = speaking().cloned().collect();
        for instance in &speaking {
            let seen = self.view.seen(instance);
            seen.credit_ms = seen.credit_ms.saturating_sub(observed);
        }
        let before = rollout.observed_ms;
        rollout.observed_ms = before.saturating_add(observed);
        rollout.round_ms = rollout.round_ms.saturating_add(observed);
        let story = quarter_passed(rollout, before);
        story.into_iter().for_each(|story| self.tell(story));
    }

    /// Takes a candidate back whose members do not speak.
    pub(super) fn watch_silence(&mut self) {
        let Some(rollout) = self.record.rollout.as_ref() else {
            return;
        };
        let silent = silent_members(rollout, self.view, self.timing, self.record.epoch);
        if let Some((instance, for_ms)) = silent.condemning {
            self.roll_back(Failure::Silent { instance, for_ms });
        }
    }

    /// Takes a candidate back that is clearly worse, at any moment; else passes, holds or bakes again when it is time.
    pub(super) fn judge(&mut self) {
        let Some(rollout) = self.record.rollout.as_ref() else {
            return;
        };
        match standing(self.record, rollout) {
            Standing::Failed(failure) => self.roll_back(failure),
            Standing::Holding(why) => self.hold(why),
            Standing::Again(why) => self.bake_again(why),
            Standing::NotYet | Standing::Passed => {}
        }
    }

    /// Goes on counting, in rounds as long as the bake.
    fn hold(&mut self, why: String) {
        let Some(rollout) = self.record.rollout.as_mut() else {
            return;
        };
        if rollout.round_ms < rollout.bake_ms {
            return;
        }
        rollout.round_ms = 0;
        rollout.evidence.end_round();
        let stage = stage_name(rollout);
        self.note_progress();
        self.tell(Story::Holding { stage, why });
    }

    /// Begins the bake anew: what was counted so far speaks about somebody else's outage.
    fn bake_again(&mut self, why: String) {
        let Some(rollout) = self.record.rollout.as_mut() else {
            return;
        };
        rollout.observed_ms = 0;
        rollout.round_ms = 0;
        let scopes: Vec<_> = rollout.evidence.scopes.keys().cloned().collect();
        rollout.evidence = Evidence::over(scopes);
        let stage = stage_name(rollout);
        self.require_commit();
        self.tell(Story::Holding { stage, why });
    }
}

pub(super) fn stage_name(rollout: &Rollout) -> String {
    rollout
        .current_stage()
        .map_or_else(String::new, |stage| stage.name.clone())
}

fn quarter_passed(rollout: &Rollout, before_ms: u64) -> Option<Story> {
    let quarter = |ms: u64| ms.saturating_mul(4).checked_div(rollout.bake_ms).unwrap_or(0);
    let (before, after) = (quarter(before_ms), quarter(rollout.observed_ms));
    (before < after && after < 4).then(|| Story::Baking {
        stage: stage_name(rollout),
        observed_ms: rollout.observed_ms,
        bake_ms: rollout.bake_ms,
    })
}

/// Members that have not acknowledged, or have said nothing, for too long.
#[derive(Default)]
struct Silent {
    /// So few that they condemn nothing; the rest of the stage is observed without them.
    tolerated: BTreeSet<InstanceId>,
    /// One of too many, and for how long.
    condemning: Option<(InstanceId, u64)>,
}

/// For how long a member has not acknowledged or said anything, in milliseconds, if that is too long.
fn silence(seen: &Seen, epoch: u64, timing: &Timing) -> Option<u64> {
    let unacknowledged = if seen.epoch < epoch { seen.unacknowledged_ms } else { 0 };
    let longest = seen.silent_ms.max(unacknowledged);
    (longest >= timing.member_silence_ms).then_some(longest)
}

fn silent_members(rollout: &Rollout, view: &View, timing: &Timing, epoch: u64) -> Silent {
    let silence = |instance: &InstanceId| {
        let for_ms = silence(view.instances.get(instance)?, epoch, timing)?;
        Some((instance.clone(), for_ms))
    };
    let mut silent = rollout.ordered.iter().filter_map(silence).peekable();
    let first = silent.peek().cloned();
    let tolerated: BTreeSet<InstanceId> = silent.map(|(instance, _)| instance).collect();
    let most = match rollout.target.instead_of {
        InsteadOf::Routes => rollout.ordered.len() * limits::SILENT_MEMBERS_MAX_PERCENT / 100,
        // Whoever has fallen silent did so on its own: going back would only take from the others what they serve.
        InsteadOf::Nothing => rollout.ordered.len(),
    };
    if tolerated.len() > most {
        return Silent {
            tolerated: BTreeSet::new(),
            condemning: first,
        };
    }
    Silent {
        tolerated,
        condemning: None,
    }
}

/// Whether every member of the stage has acknowledged the order in force, but for those whose silence is tolerated.
pub(super) fn all_acknowledged(record: &Record, rollout: &Rollout, view: &View, timing: &Timing) -> bool {
    let missing = |instance: &&InstanceId| !view.has_acknowledged(instance, record.epoch);
    let Some(first) = rollout.ordered.iter().find(missing) else {
        return !rollout.ordered.is_empty();
    };
    // Rare from here on: somebody is missing, which is only fine if it has been silent for long.
    let is_silent = |instance| {
        view.instances
            .get(instance)
            .is_some_and(|seen| silence(seen, record.epoch, timing).is_some())
    };
    if !is_silent(first) {
        return false;
    }
    let silent = silent_members(rollout, view, timing, record.epoch);
    let mut speaking = rollout.ordered.difference(&silent.tolerated).peekable();
    speaking.peek().is_some() && speaking.all(|instance| view.has_acknowledged(instance, record.epoch))
}

/// The gates' figures for status: as they stand now.
pub(super) fn assessments(record: &Record, rollout: &Rollout) -> Vec<Assessment> {
    let over = rollout.reached == Reached::Yes && rollout.observed_ms >= rollout.bake_ms;
    let moment = if over { Moment::BakeOver } else { Moment::During };
    gates::assess(rollout, cohort(record, rollout), moment)
}

/// Where a rollout stands in its stage.
pub(super) fn standing(record: &Record, rollout: &Rollout) -> Standing {
    if rollout.bake_ms == 0 {
        return match rollout.reached {
            Reached::NotYet => Standing::NotYet,
            Reached::Yes => Standing::Passed, // nobody asked for evidence
        };
    }
    let assessments = assessments(record, rollout);
    if let Some(failure) = gates::convictions(&assessments)
        .first()
        .and_then(|worst| worst.failure())
    {
        return Standing::Failed(failure);
    }
    if rollout.reached == Reached::NotYet {
        return Standing::NotYet;
    }
    if rollout.waved.is_some() {
        return Standing::Passed;
    }
    if rollout.observed_ms < rollout.bake_ms {
        return Standing::NotYet;
    }
    if !gates::has_reports(&rollout.evidence, cohort(record, rollout)) {
        return Standing::Holding("no stable instance has reported".to_owned());
    }
    let verdicts = assessments.iter().map(|assessment| of_verdict(rollout, assessment));
    verdicts.max_by_key(severity).unwrap_or(Standing::Passed)
}

fn severity(standing: &Standing) -> u8 {
    match standing {
        Standing::Passed => 0,
        Standing::NotYet => 1,
        Standing::Again(_) => 2,
        Standing::Holding(_) => 3,
        Standing::Failed(_) => 4,
    }
}

/// What one verdict means at the end of a bake, by the plan.
fn of_verdict(rollout: &Rollout, assessment: &Assessment) -> Standing {
    let scope = &assessment.scope;
    match assessment.verdict {
        Verdict::Pass | Verdict::NotComparable => Standing::Passed,
        Verdict::Fail | Verdict::Starved => assessment.failure().map_or(Standing::NotYet, Standing::Failed),
        Verdict::Shared => Standing::Again(format!(
            "{} on {scope} is over its limit on stable too: the cause is shared, baking again",
            assessment.metric
        )),
        Verdict::Idle => match rollout.on_idle {
            OnIdle::Proceed => Standing::Passed,
            OnIdle::Hold => Standing::Holding(format!("nobody sent a request to {scope} (onIdle: Hold)")),
        },
        Verdict::TooFew => {
            let (requests, needed) = (assessment.candidate.requests(), assessment.needed);
            let stable = assessment.stable.map_or(0, Figure::requests);
            match rollout.on_no_data {
                OnNoData::Pass => Standing::Passed,
                OnNoData::Hold => Standing::Holding(format!(
                    "too few requests on {scope} for {}: candidate {requests}, stable {stable}, needed {needed}",
                    assessment.metric
                )),
                OnNoData::Fail => Standing::Failed(Failure::NoData {
                    scope: scope.clone(),
                    requests,
                    needed,
                }),
            }
        }
    }
}
