//! What the status of a Rollout is to say: the fleet's rollout as the core shows it, cut to what a status may hold, and
//! the conditions that people and tools wait for. Pure.
//!
//! `Reconciling` and `Stalled` are kstatus' (Flux, Helm, `kubectl wait`): there only while they are True, never both.
//! Stalled is what waits for a person; what goes on by itself when an instance connects or requests come is Reconciling.

use sluice_crds::bounds;
use sluice_crds::{
    BlockedStatus, CommandStatus, GateStatus, HeldStatus, InstancesStatus, PastStatus, PausedStatus, RefusalStatus,
    RolloutStatus, StageStatus,
};
use sluice_model::ObjectKey;

use super::content::{Subject, accepted_of, first_of};
use super::desired::{Desired, Fact, Truth, Weight, fields, sentence};
use super::reason::Reason;
use crate::pipeline::situation::FleetSituation;
use crate::problem::Problem;
use crate::rollout::status::{self as core, Health, Hindrance, Phase};

/// The status of the Rollout that governs `fleet`.
pub fn governing(subject: Subject<'_>, fleet: &FleetSituation, command: Option<CommandStatus>) -> Desired {
    let (errors, warnings): (Vec<&Problem>, Vec<&Problem>) =
        subject.problems.iter().partition(|problem| problem.is_error());
    let accepted = accepted_of(&errors, &warnings);
    let shown = &fleet.rollout;
    let status = RolloutStatus {
        command,
        quarantined: Some(number(fleet.served.chosen.quarantined.len())),
        ..projected(shown, &of_the_whole(&warnings), subject.stored.generation)
    };
    let facts = conditions(shown, accepted, status.message.as_deref().unwrap_or_default());
    desired(subject, &status, facts)
}

/// What warnings say of the fleet as a whole, in one line.
fn of_the_whole(warnings: &[&Problem]) -> String {
    let whole: Vec<&Problem> = warnings
        .iter()
        .copied()
        .filter(|one| one.field.as_str().is_empty())
        .collect();
    first_of(&whole)
}

/// The status of one that governs nothing: `by` does, or something is wrong with it.
pub fn not_governing(subject: Subject<'_>, by: Option<&ObjectKey>, command: Option<CommandStatus>) -> Desired {
    let mut errors: Vec<&Problem> = subject
        .problems
        .iter()
        .copied()
        .filter(|problem| problem.is_error())
        .collect();
    // What is wrong with itself comes first: who has which members is settled among those that are in order.
    errors.sort_by_key(|problem| problem.field.as_str().starts_with("spec.members"));
    let error = errors.first();
    let about = |problem: &Problem| ["spec.fleet", "metadata.namespace"].contains(&problem.field.as_str());
    let reason = match (error, by) {
        (Some(error), _) if !about(error) => Reason::Invalid,
        (Some(_) | None, Some(_)) | (Some(_), None) => Reason::NotGoverning,
        (None, None) => Reason::Invalid,
    };
    let message = match (error, by) {
        (Some(_), _) => first_of(&errors),
        (None, Some(by)) => format!("{by} governs this fleet; remove one of the two, or name another fleet"),
        (None, None) => "it governs no fleet".to_owned(),
    };
    let status = RolloutStatus {
        observed_generation: Some(subject.stored.generation),
        phase: Some(format!("{:?}", Phase::Stalled)),
        message: Some(sentence(&message)),
        command,
        ..RolloutStatus::default()
    };
    let fact = |type_, truth| Fact::new(type_, truth, reason, message.clone());
    let facts = vec![
        fact("Accepted", Truth::False),
        fact("Ready", Truth::False),
        fact("Stalled", Truth::True),
    ];
    desired(subject, &status, facts)
}

fn desired(subject: Subject<'_>, status: &RolloutStatus, facts: Vec<Fact>) -> Desired {
    Desired {
        uid: subject.stored.uid.clone(),
        generation: subject.stored.generation,
        fields: fields(status),
        facts,
        weight: Weight::Fleet,
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The first `most` of a list.
fn some<'a, T, U>(items: &'a [T], most: u32, each: impl Fn(&'a T) -> U) -> Vec<U> {
    items.iter().take(most as usize).map(each).collect()
}

/// `concern` is what is wrong around the fleet, which nothing that the core knows explains.
fn projected(shown: &core::RolloutStatus, concern: &str, generation: i64) -> RolloutStatus {
    let core::RolloutStatus {
        fleet: _,
        phase,
        hindrance: _,
        message: _,
        stage,
        instances,
        health,
        epoch: _,
        stable_revision,
        target_revision,
        queued_revision,
        gates,
        held,
        blocked,
        unreached,
        paused_by,
        history,
    } = shown;
    let latest = history.len().saturating_sub(bounds::STATUS_HISTORY_MAX_ITEMS as usize);
    RolloutStatus {
        observed_generation: Some(generation),
        phase: Some(format!("{phase:?}")),
        message: Some(joined(concern, &message(shown))).filter(|message| !message.is_empty()),
        stage: stage.as_ref().map(stage_of),
        instances: Some(instances_of(instances)),
        health: Some(format!("{health:?}")),
        stable_revision: stable_revision.clone(),
        target_revision: target_revision.clone(),
        queued_revision: queued_revision.clone(),
        gates: some(gates, bounds::STATUS_GATES_MAX_ITEMS, gate_of),
        held: some(held, bounds::STATUS_HELD_MAX_ITEMS, held_of),
        held_total: Some(number(held.len())).filter(|total| *total > 0),
        blocked: some(blocked, bounds::STATUS_BLOCKED_MAX_ITEMS, blocked_of),
        quarantined: None,
        unreached: some(unreached, bounds::STATUS_INSTANCES_MAX_ITEMS, ToString::to_string),
        paused_by: paused_by.as_ref().map(paused_of),
        history: history.iter().skip(latest).map(past_of).collect(),
        command: None,
        conditions: vec![],
    }
}

fn joined(concern: &str, message: &str) -> String {
    match (concern, message) {
        ("", message) => message.to_owned(),
        (concern, "") => sentence(concern),
        (concern, message) => sentence(&format!("{concern}. {message}")),
    }
}

/// The core's message without what moves by itself: how long the bake has lasted is in `bakeUntil`.
fn message(shown: &core::RolloutStatus) -> String {
    let silent = shown.stage.iter().flat_map(|stage| &stage.silent);
    let silent: Vec<String> = silent.map(ToString::to_string).collect();
    match (shown.phase, silent.as_slice()) {
        (Phase::Baking, []) => String::new(),
        (Phase::Baking, [one]) => format!("waits for {one}, which says nothing"),
        (Phase::Baking, [first, rest @ ..]) => format!("waits for {first} and {} more, which say nothing", rest.len()),
        (
            Phase::Idle
            | Phase::Progressing
            | Phase::Paused
            | Phase::Frozen
            | Phase::RollingBack
            | Phase::RolledBack
            | Phase::Stalled,
            _,
        ) => sentence(&shown.message),
    }
}

fn stage_of(stage: &core::StageStatus) -> StageStatus {
    let members = stage.members.as_deref().unwrap_or_default();
    StageStatus {
        name: stage.name.clone(),
        index: number(stage.index),
        of: number(stage.of),
        label: stage.label.clone(),
        bake_until: stage.bake_until.clone(),
        members: some(members, bounds::STATUS_INSTANCES_MAX_ITEMS, ToString::to_string),
        collapsed: stage.collapsed.clone(),
    }
}

fn instances_of(instances: &core::InstancesStatus) -> InstancesStatus {
    InstancesStatus {
        total: number(instances.total),
        target: number(instances.target),
        acknowledged: number(instances.acknowledged),
        refused: number(instances.refused),
        label: instances.label.clone(),
        refusals: some(&instances.refusals, 10, |refusal| RefusalStatus {
            instance: refusal.instance.to_string(),
            reason: sentence(&refusal.reason),
        }),
    }
}

fn gate_of(gate: &core::GateStatus) -> GateStatus {
    GateStatus {
        metric: gate.metric.clone(),
        scope: gate.scope.clone(),
        candidate: gate.candidate.clone(),
        stable: gate.stable.clone(),
        requests: gate.requests,
        verdict: gate.verdict.to_owned(),
    }
}

fn held_of(held: &core::HeldStatus) -> HeldStatus {
    HeldStatus {
        object: held.object.clone(),
        content: held.content.clone(),
        revision: held.revision.clone(),
        reason: sentence(&held.reason),
        at: held.at.clone(),
    }
}

fn blocked_of(blocked: &core::BlockedStatus) -> BlockedStatus {
    BlockedStatus {
        revision: blocked.revision.clone(),
        reason: sentence(&blocked.reason),
        at: blocked.at.clone(),
    }
}

fn paused_of(paused: &core::Asked) -> PausedStatus {
    PausedStatus {
        by: sentence(&paused.actor),
        reason: sentence(&paused.reason),
        at: paused.at.clone(),
    }
}

fn past_of(past: &core::PastStatus) -> PastStatus {
    PastStatus {
        revision: past.revision.clone(),
        at: past.at.clone(),
        result: past.result.to_owned(),
        reason: past.reason.as_deref().map(sentence),
    }
}

/// What tools wait for.
fn conditions(shown: &core::RolloutStatus, accepted: Fact, message: &str) -> Vec<Fact> {
    let (course, why) = course(shown);
    let degraded = degraded(shown);
    let fact = |type_, truth, reason| Fact::new(type_, truth, reason, message);
    let is_accepted = accepted.truth == Truth::True;
    let refused = (accepted.reason, accepted.message.clone());
    let mut facts = vec![accepted];
    facts.push(match (course, degraded) {
        (Course::AtRest, None) if is_accepted => Fact::new(
            "Ready",
            Truth::True,
            Reason::Promoted,
            "every object that is in order is in service",
        ),
        (Course::AtRest, None) => Fact::new("Ready", Truth::False, refused.0, refused.1.clone()),
        (Course::AtRest, Some(reason)) => fact("Ready", Truth::False, reason),
        (Course::UnderWay | Course::Waits | Course::NeedsSomebody, _) => fact("Ready", Truth::False, why),
    });
    facts.push(match course {
        Course::UnderWay => fact("Progressing", Truth::True, why),
        Course::AtRest | Course::Waits | Course::NeedsSomebody => fact("Progressing", Truth::False, why),
    });
    facts.push(match degraded {
        Some(reason) => fact("Degraded", Truth::True, reason),
        None => Fact::new("Degraded", Truth::False, Reason::Healthy, ""),
    });
    match (is_accepted, course) {
        (false, _) => facts.push(Fact::new("Stalled", Truth::True, refused.0, refused.1)),
        (true, Course::NeedsSomebody) => facts.push(fact("Stalled", Truth::True, why)),
        (true, Course::UnderWay | Course::Waits) => facts.push(fact("Reconciling", Truth::True, why)),
        (true, Course::AtRest) => {}
    }
    facts
}

/// Where it is going.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Course {
    /// Nowhere: all is done.
    AtRest,
    /// On.
    UnderWay,
    /// On, when what it waits for has come.
    Waits,
    /// Nowhere before somebody acts.
    NeedsSomebody,
}

fn course(shown: &core::RolloutStatus) -> (Course, Reason) {
    match shown.phase {
        Phase::Idle if shown.instances.total == 0 => (Course::Waits, Reason::NoInstances),
        Phase::Idle => (Course::AtRest, Reason::Idle),
        Phase::Progressing => (Course::UnderWay, Reason::Progressing),
        Phase::Baking => (Course::UnderWay, Reason::Baking),
        Phase::RollingBack => (Course::UnderWay, Reason::RollingBack),
        Phase::Paused => (Course::Waits, Reason::Paused),
        Phase::Frozen => (Course::NeedsSomebody, Reason::Frozen),
        Phase::RolledBack => (Course::NeedsSomebody, Reason::RolledBack),
        Phase::Stalled => match shown.hindrance {
            Some(Hindrance::InstanceTrouble) => (Course::Waits, Reason::InstanceTrouble),
            Some(Hindrance::MissingEvidence) => (Course::Waits, Reason::MissingEvidence),
            Some(Hindrance::DeadlinePassed) => (Course::NeedsSomebody, Reason::DeadlinePassed),
            Some(Hindrance::RecordMissing) => (Course::Waits, Reason::RecordMissing),
            Some(Hindrance::NoInstances) => (Course::Waits, Reason::NoInstances),
            Some(Hindrance::NoConfiguration) => (Course::Waits, Reason::NoConfiguration),
            Some(Hindrance::FleetIncomplete) | None => (Course::Waits, Reason::FleetIncomplete),
        },
    }
}

fn degraded(shown: &core::RolloutStatus) -> Option<Reason> {
    match (shown.health, shown.phase) {
        (Health::Healthy | Health::Unknown, _) => None,
        (Health::Degraded, Phase::Frozen) => Some(Reason::Frozen),
        (Health::Degraded, Phase::RollingBack) => Some(Reason::RollingBack),
        (
            Health::Degraded,
            Phase::Idle | Phase::Progressing | Phase::Baking | Phase::Paused | Phase::RolledBack | Phase::Stalled,
        ) => Some(if !shown.held.is_empty() || !shown.blocked.is_empty() {
            Reason::ContentsHeld
        } else if shown.instances.refused > 0 {
            Reason::OrderRefused
        } else {
            Reason::InstancesUnreached
        }),
    }
}
