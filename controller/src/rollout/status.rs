//! Status: what people are shown about a fleet, as a projection of the record and of what is seen of the instances. It
//! may be lost without harm. The shape is that of `Rollout.status`.

use std::collections::BTreeSet;

use serde::Serialize;
use sluice_model::{FleetName, InstanceId, limits};

use super::Core;
use super::bake::{self, Standing};
use super::gates::Verdict;
use super::order::Members;
use super::record::{Beginning, PastResult, Pause, Reached, Record, Rollout};
use super::time::{Millis, Span};
use super::view::{Link, View};

/// Where a fleet is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub enum Phase {
    /// Everybody is ordered onto stable, and nothing else is wanted.
    Idle,
    /// A stage is ordered, and not every member has acknowledged.
    Progressing,
    /// A stage is being watched.
    Baking,
    /// Somebody paused it.
    Paused,
    /// Two rollouts failed with nobody to blame; a person has to act.
    Frozen,
    /// Everybody is ordered back, and not every reachable instance has acknowledged.
    RollingBack,
    /// Something is held, or the last revision was taken back.
    RolledBack,
    /// It cannot go on by itself; the message says why.
    Stalled,
}

/// What keeps a rollout from going on, in one word for programs; the message says it for people.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub enum Hindrance {
    /// An instance cannot keep the order, for a reason of its own.
    InstanceTrouble,
    /// The bake is over, and the evidence is not enough.
    MissingEvidence,
    /// `spec.progressDeadline` has passed.
    DeadlinePassed,
    /// The record is missing: the instances are asked what is stable.
    RecordMissing,
    /// Nobody is connected.
    NoInstances,
    /// There is nothing to serve yet.
    NoConfiguration,
    /// Fewer instances are connected than there were.
    FleetIncomplete,
}

/// How well the fleet does what it is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub enum Health {
    /// All is as it should be.
    Healthy,
    /// Something is held, blocked, refused or not reached.
    Degraded,
    /// No instance is connected, or a member of the stage says nothing.
    Unknown,
}

/// What people are shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Which fleet.
    pub fleet: FleetName,
    /// Where it is.
    pub phase: Phase,
    /// Why it is stalled, if it is.
    pub hindrance: Option<Hindrance>,
    /// One line for people: what is going on, and what to do if something has to be done.
    pub message: String,
    /// The stage of a rollout in progress.
    pub stage: Option<StageStatus>,
    /// Its instances.
    pub instances: InstancesStatus,
    /// How it does.
    pub health: Health,
    /// The order in force.
    pub epoch: u64,
    /// What is proven.
    pub stable_revision: Option<String>,
    /// What is tried, taken back or waiting; what commands speak about. Stable if there is nothing else.
    pub target_revision: Option<String>,
    /// What waits for its turn.
    pub queued_revision: Option<String>,
    /// What the gates say, the failing ones first.
    pub gates: Vec<GateStatus>,
    /// Contents that are held back.
    pub held: Vec<HeldStatus>,
    /// Revisions that failed without an object to blame, and are not tried again.
    pub blocked: Vec<BlockedStatus>,
    /// Instances that may still carry something that was taken back, because they cannot be reached.
    pub unreached: Vec<InstanceId>,
    /// A pause made by command.
    pub paused_by: Option<Asked>,
    /// What became of past revisions, the latest last.
    pub history: Vec<PastStatus>,
}

/// A stage in progress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Its name.
    pub name: String,
    /// From 1.
    pub index: usize,
    /// How many the plan has.
    pub of: usize,
    /// `2/4 small`.
    pub label: String,
    /// Who carries it; absent when everybody does.
    pub members: Option<Vec<InstanceId>>,
    /// Stages passed over because they would choose the same members.
    pub collapsed: Vec<String>,
    /// Observed so far, in milliseconds.
    pub observed_ms: u64,
    /// To be observed, in milliseconds.
    pub bake_ms: u64,
    /// When it ends if reports keep arriving (RFC 3339); absent until every member has acknowledged, and while one of them
    /// is silent.
    pub bake_until: Option<String>,
    /// Members that have acknowledged, and without whose word nothing bakes now.
    pub silent: Vec<InstanceId>,
}

/// Instances in numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstancesStatus {
    /// Connected.
    pub total: usize,
    /// Ordered onto the candidate; all of them when nothing is tried, and none while the target waits for its turn.
    pub target: usize,
    /// Of these, have acknowledged the order in force.
    pub acknowledged: usize,
    /// Refuse the order in force.
    pub refused: usize,
    /// `4/40`: acknowledged of all that are connected.
    pub label: String,
    /// Who refuses, and why.
    pub refusals: Vec<RefusalStatus>,
}

/// An instance that refuses the order in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RefusalStatus {
    /// Who.
    pub instance: InstanceId,
    /// In its words.
    pub reason: String,
}

/// One gate on one scope.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GateStatus {
    /// Its metric.
    pub metric: String,
    /// `fleet` or the route.
    pub scope: String,
    /// What the candidate shows.
    pub candidate: String,
    /// What stable shows, over the same time or, without a stable cohort, before.
    pub stable: Option<String>,
    /// The candidate's requests.
    pub requests: u64,
    /// What it says.
    pub verdict: &'static str,
}

/// A content that is held back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HeldStatus {
    /// Whose.
    pub object: String,
    /// The first digits of its digest; `deleted` for a deletion.
    pub content: String,
    /// The revision that tried it.
    pub revision: String,
    /// Why, with figures.
    pub reason: String,
    /// When (RFC 3339).
    pub at: String,
}

/// A revision that is not tried again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BlockedStatus {
    /// Which.
    pub revision: String,
    /// Why, with figures.
    pub reason: String,
    /// When (RFC 3339).
    pub at: String,
}

/// Somebody asked for something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Asked {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When (RFC 3339).
    pub at: String,
}

/// What became of a revision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PastStatus {
    /// Which.
    pub revision: String,
    /// When (RFC 3339).
    pub at: String,
    /// One word.
    pub result: &'static str,
    /// Why, if it was taken back.
    pub reason: Option<String>,
}

impl Core {
    /// What people are shown at `now`.
    pub fn status(&self, now: Millis) -> RolloutStatus {
        let (record, view) = (&self.record, &self.view);
        let rollout = record.rollout.as_ref();
        let instances = instances(record, view);
        let phase = phase(record, view);
        RolloutStatus {
            fleet: record.fleet.clone(),
            phase,
            hindrance: (phase == Phase::Stalled).then(|| hindrance(record, view)),
            message: message(record, view, phase),
            stage: rollout.map(|rollout| stage(record, rollout, view, now)),
            health: health(record, view, &instances),
            instances,
            epoch: record.epoch,
            stable_revision: record.stable.map(|revision| revision.to_string()),
            target_revision: record.current().map(|revision| revision.to_string()),
            queued_revision: record.queued.as_ref().map(|target| target.revision.to_string()),
            gates: rollout.map_or_else(Vec::new, |rollout| gates(record, rollout)),
            held: held(record),
            blocked: blocked(record),
            unreached: record.unreached.iter().cloned().collect(),
            paused_by: record.paused.as_ref().map(asked),
            history: history(record),
        }
    }
}

fn phase(record: &Record, view: &View) -> Phase {
    if record.restoring.is_some() {
        return Phase::RollingBack;
    }
    let wanted = record.rollout.is_some() || record.queued.is_some();
    if record.frozen.is_some() {
        Phase::Frozen
    } else if record.is_paused() && wanted {
        Phase::Paused
    } else if !in_own_trouble(record, view).is_empty() {
        Phase::Stalled
    } else if let Some(rollout) = &record.rollout {
        of_rollout(record, rollout)
    } else if record.queued.is_some() || record.stable.is_none() {
        Phase::Stalled
    } else if !record.held.is_empty() || last_was_blocked(record) {
        Phase::RolledBack
    } else if view
        .connected()
        .iter()
        .all(|instance| view.has_acknowledged(instance, record.epoch))
    {
        Phase::Idle
    } else {
        Phase::Progressing
    }
}

fn of_rollout(record: &Record, rollout: &Rollout) -> Phase {
    let late = record
        .plan
        .progress_deadline_ms
        .is_some_and(|deadline| rollout.running_ms > deadline);
    match (bake::standing(record, rollout), rollout.reached) {
        _ if late => Phase::Stalled,
        (Standing::Holding(_), _) => Phase::Stalled,
        (_, Reached::NotYet) => Phase::Progressing,
        (Standing::NotYet | Standing::Passed | Standing::Again(_) | Standing::Failed(_), Reached::Yes) => Phase::Baking,
    }
}

/// Taken back with no object to hold for it. Where objects were held and are no longer, their authors went back to what
/// serves: nothing is missing.
fn last_was_blocked(record: &Record) -> bool {
    let last = record.history.back();
    let taken_back = last.is_some_and(|past| matches!(past.result, PastResult::RolledBack { .. }));
    taken_back && !record.blocked.is_empty()
}

/// By whom, and what ends it.
fn paused(record: &Record) -> String {
    record.paused.as_ref().map_or_else(
        || "paused by spec.paused".to_owned(),
        |pause| format!("paused by {}; `rollout resume` goes on", pause.actor),
    )
}

fn message(record: &Record, view: &View, phase: Phase) -> String {
    match phase {
        Phase::Idle if !record.is_paused() => String::new(),
        Phase::Idle => format!("{}; the next change waits", paused(record)),
        Phase::Frozen => record.frozen.clone().unwrap_or_default(),
        Phase::Paused => paused(record),
        Phase::RollingBack => {
            let missing = missing("waiting for everybody to be back on stable", waiting(record));
            own_trouble(record, view).map_or(missing.clone(), |trouble| format!("{missing}; {trouble}"))
        }
        Phase::RolledBack => held_in_short(record),
        Phase::Progressing => missing("waiting for acknowledgements", unacknowledged(record, view)),
        Phase::Baking => record
            .rollout
            .as_ref()
            .map_or_else(String::new, |rollout| baking(record, rollout, view)),
        Phase::Stalled => stalled(record, view),
    }
}

fn baking(record: &Record, rollout: &Rollout, view: &View) -> String {
    let baking = format!("baking {} of {}", Span(rollout.observed_ms), Span(rollout.bake_ms));
    let waits = waits_for(record, rollout, view);
    match waits.as_slice() {
        [] => baking,
        [(_, one)] => format!("{baking}; waits for {one}"),
        [(_, first), rest @ ..] => format!("{baking}; waits for {first} and {} more", rest.len()),
    }
}

/// Members of the stage without whose word nothing bakes, each with why.
fn waits_for(record: &Record, rollout: &Rollout, view: &View) -> Vec<(InstanceId, String)> {
    let member = |instance: &InstanceId| {
        let seen = view.instances.get(instance)?;
        let since = Span(seen.silent_ms);
        let why = match seen.link {
            Link::Away => format!("{instance}, not connected for {since}"),
            Link::Up if seen.silent_ms >= limits::MEMBER_QUIET_MS => format!("{instance}, silent for {since}"),
            Link::Up if seen.epoch < record.epoch => format!("{instance} to carry it again"),
            Link::Up => return None,
        };
        Some((instance.clone(), why))
    };
    rollout.ordered.iter().filter_map(member).collect()
}

fn held_in_short(record: &Record) -> String {
    let of_held = |held: &super::record::Held| format!("{} is held back: {}", held.object, held.failure);
    let last = record
        .history
        .back()
        .map(|past| format!("{} was taken back", past.revision));
    record.held.first().map(of_held).or(last).unwrap_or_default()
}

fn missing(what: &str, who: Vec<InstanceId>) -> String {
    let names: Vec<&str> = who.iter().take(3).map(InstanceId::as_str).collect();
    match (names.is_empty(), who.len() > names.len()) {
        (true, _) => what.to_owned(),
        (false, false) => format!("{what}: {}", names.join(", ")),
        (false, true) => format!("{what}: {} and {} more", names.join(", "), who.len() - names.len()),
    }
}

fn waiting(record: &Record) -> Vec<InstanceId> {
    let waiting = record.restoring.iter().flat_map(|restoring| &restoring.waiting);
    waiting.cloned().collect()
}

fn unacknowledged(record: &Record, view: &View) -> Vec<InstanceId> {
    let asked = target_instances(record, view);
    asked
        .into_iter()
        .filter(|instance| !view.has_acknowledged(instance, record.epoch))
        .collect()
}

/// Instances that are waited for and cannot keep the order in force, for a reason of their own.
fn in_own_trouble<'a>(record: &Record, view: &'a View) -> Vec<(&'a InstanceId, &'a str)> {
    let asked = target_instances(record, view);
    let seen = view.instances.iter().filter(|(instance, _)| asked.contains(*instance));
    seen.filter_map(|(instance, seen)| Some((instance, seen.own_trouble(record.epoch)?)))
        .collect()
}

/// `; default-2 cannot keep the order (…): it is sent again every 5s`.
fn own_trouble(record: &Record, view: &View) -> Option<String> {
    let troubled = in_own_trouble(record, view);
    let (instance, reason) = troubled.first()?;
    let more = match troubled.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let again = Span(limits::ORDER_RESEND_MS);
    Some(format!(
        "waits for {instance}, which cannot keep the order ({reason}){more}; mended, it goes on by itself: the order is \
         sent again every {again}"
    ))
}

/// Why a stalled rollout does not go on.
fn hindrance(record: &Record, view: &View) -> Hindrance {
    if !in_own_trouble(record, view).is_empty() {
        return Hindrance::InstanceTrouble;
    }
    if let Some(rollout) = &record.rollout {
        return match bake::standing(record, rollout) {
            Standing::Holding(_) => Hindrance::MissingEvidence,
            Standing::NotYet | Standing::Passed | Standing::Again(_) | Standing::Failed(_) => Hindrance::DeadlinePassed,
        };
    }
    if record.stable.is_none() && record.beginning == Beginning::RecordMissing {
        return Hindrance::RecordMissing;
    }
    match (present(view), record.stable.is_some()) {
        (0, _) => Hindrance::NoInstances,
        (_, false) => Hindrance::NoConfiguration,
        (_, true) => Hindrance::FleetIncomplete,
    }
}

fn present(view: &View) -> usize {
    view.instances.values().filter(|seen| seen.link == Link::Up).count()
}

fn stalled(record: &Record, view: &View) -> String {
    match hindrance(record, view) {
        Hindrance::InstanceTrouble => own_trouble(record, view).unwrap_or_default(),
        Hindrance::MissingEvidence => format!("{}; `rollout promote` goes on without it", holding(record)),
        Hindrance::DeadlinePassed => "spec.progressDeadline has passed".to_owned(),
        Hindrance::RecordMissing => record_missing(view),
        Hindrance::NoInstances => "no instance is connected".to_owned(),
        Hindrance::NoConfiguration => "there is no configuration yet".to_owned(),
        Hindrance::FleetIncomplete => {
            let (here, all) = (present(view), record.size);
            format!("waiting for the fleet to connect: {here} of {all} are here")
        }
    }
}

fn holding(record: &Record) -> String {
    let standing = record.rollout.as_ref().map(|rollout| bake::standing(record, rollout));
    match standing {
        Some(Standing::Holding(why)) => why,
        Some(Standing::NotYet | Standing::Passed | Standing::Again(_) | Standing::Failed(_)) | None => String::new(),
    }
}

fn record_missing(view: &View) -> String {
    let missing = "the record of this fleet is missing";
    let is_over = view.listening_ms >= limits::ADOPTION_WAIT_MS;
    match (view.connected().is_empty(), is_over) {
        (true, _) => format!("{missing}, and no instance is connected yet to say what it serves; traffic goes on"),
        (false, true) => format!("{missing}, and no instance holds anything: waiting for the first revision"),
        // Not how long it still takes: a status is written when it means something else.
        (false, false) => format!(
            "{missing}: what the instances serve is listened to for {}; traffic goes on",
            Span(limits::ADOPTION_WAIT_MS)
        ),
    }
}

fn stage(record: &Record, rollout: &Rollout, view: &View, now: Millis) -> StageStatus {
    let name = bake::stage_name(rollout);
    let (index, of) = (rollout.stage + 1, rollout.stages.len());
    let left = rollout.bake_ms.saturating_sub(rollout.observed_ms);
    let is_reached = rollout.reached == Reached::Yes;
    let waits = waits_for(record, rollout, view).into_iter().filter(|_| is_reached);
    let silent: Vec<InstanceId> = waits.map(|(instance, _)| instance).collect();
    let bakes = is_reached && silent.is_empty();
    StageStatus {
        label: format!("{index}/{of} {name}"),
        name,
        index,
        of,
        members: match &rollout.members {
            Members::Listed(members) => Some(members.iter().cloned().collect()),
            Members::All => None,
        },
        collapsed: rollout.collapsed.clone(),
        observed_ms: rollout.observed_ms,
        bake_ms: rollout.bake_ms,
        bake_until: bakes.then(|| rfc3339(Millis(now.0.saturating_add(left)))),
        silent,
    }
}

fn target_instances(record: &Record, view: &View) -> BTreeSet<InstanceId> {
    match &record.rollout {
        Some(rollout) => rollout.ordered.clone(),
        None => view.connected(),
    }
}

fn instances(record: &Record, view: &View) -> InstancesStatus {
    let asked = target_instances(record, view);
    let refusal = |(instance, seen): (&InstanceId, &super::view::Seen)| {
        let refused = seen.refusal.as_ref()?;
        (refused.epoch == record.epoch).then(|| RefusalStatus {
            instance: instance.clone(),
            reason: refused.reason.clone(),
        })
    };
    let refusals: Vec<RefusalStatus> = view.instances.iter().filter_map(refusal).collect();
    let total = view.connected().len();
    // Nobody has what waits for its turn: to count who follows the order in force beside it would say the contrary.
    let has_target = record.rollout.is_some() || record.restoring.is_some() || record.queued.is_none();
    let asked = if has_target { asked } else { BTreeSet::new() };
    let acknowledged = asked
        .iter()
        .filter(|instance| view.has_acknowledged(instance, record.epoch))
        .count();
    InstancesStatus {
        total,
        target: asked.len(),
        acknowledged,
        refused: refusals.len(),
        label: format!("{acknowledged}/{total}"),
        refusals,
    }
}

fn health(record: &Record, view: &View, instances: &InstancesStatus) -> Health {
    let rollout = record
        .rollout
        .as_ref()
        .filter(|rollout| rollout.reached == Reached::Yes);
    let is_awaited = rollout.is_some_and(|rollout| !waits_for(record, rollout, view).is_empty());
    let taken_back = !record.held.is_empty() || !record.blocked.is_empty() || record.frozen.is_some();
    if instances.total == 0 {
        Health::Unknown
    } else if taken_back || instances.refused > 0 || !record.unreached.is_empty() || record.restoring.is_some() {
        Health::Degraded
    } else if is_awaited {
        Health::Unknown
    } else {
        Health::Healthy
    }
}

fn gates(record: &Record, rollout: &Rollout) -> Vec<GateStatus> {
    let mut assessments = bake::assessments(record, rollout);
    assessments.sort_by_key(|assessment| !matches!(assessment.verdict, Verdict::Fail | Verdict::Starved));
    let status = assessments.iter().map(|assessment| GateStatus {
        metric: assessment.metric.to_string(),
        scope: assessment.scope.to_string(),
        candidate: assessment.candidate.value(),
        stable: assessment.stable.map(|stable| stable.value()),
        requests: assessment.candidate.requests(),
        verdict: assessment.verdict.as_str(),
    });
    status.collect()
}

fn held(record: &Record) -> Vec<HeldStatus> {
    let status = record.held.iter().map(|held| HeldStatus {
        object: held.object.to_string(),
        content: held
            .content
            .map_or_else(|| "deleted".to_owned(), |content| content.short()),
        revision: held.revision.to_string(),
        reason: format!("{} at stage {}", held.failure, held.stage),
        at: rfc3339(held.at),
    });
    status.collect()
}

fn blocked(record: &Record) -> Vec<BlockedStatus> {
    let status = record.blocked.iter().map(|blocked| BlockedStatus {
        revision: blocked.revision.to_string(),
        reason: blocked.failure.to_string(),
        at: rfc3339(blocked.at),
    });
    status.collect()
}

fn asked(pause: &Pause) -> Asked {
    Asked {
        actor: pause.actor.clone(),
        reason: pause.reason.clone(),
        at: rfc3339(pause.at),
    }
}

fn history(record: &Record) -> Vec<PastStatus> {
    let status = record.history.iter().map(|past| PastStatus {
        revision: past.revision.to_string(),
        at: rfc3339(past.at),
        result: match &past.result {
            PastResult::Adopted => "Adopted",
            PastResult::AdoptedFromInstances => "AdoptedFromInstances",
            PastResult::Promoted => "Promoted",
            PastResult::RolledBack { .. } => "RolledBack",
            PastResult::Superseded => "Superseded",
            PastResult::Withdrawn => "Withdrawn",
        },
        reason: match &past.result {
            PastResult::RolledBack { failure, .. } => Some(failure.to_string()),
            PastResult::Adopted
            | PastResult::AdoptedFromInstances
            | PastResult::Promoted
            | PastResult::Superseded
            | PastResult::Withdrawn => None,
        },
    });
    status.collect()
}

/// RFC 3339 in UTC, to the second; empty beyond the year 9999.
fn rfc3339(at: Millis) -> String {
    let second = i64::try_from(at.seconds()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(second).map_or_else(|_| String::new(), |time| time.to_string())
}
