//! What the status of a ProxyRoute or a Pool is to say, given where its content stands. Pure.
//!
//! Nothing in here counts instances or names what changes by itself: scaling a fleet, or another object's change, must not
//! rewrite the status of this one.

use sluice_crds::{PoolStatus, ProxyRouteStatus};
use sluice_model::unit::{PoolSource, Unit};
use sluice_model::{FleetName, Kind};

use super::desired::{Desired, Fact, Truth, Weight, fields};
use super::reason::Reason;
use super::references::about;
use super::standing::{Standing, Waiting, fleet_of};
use crate::live::Rotation;
use crate::objects::Stored;
use crate::pipeline::situation::{FleetSituation, Situation};
use crate::problem::{Effect, Problem};
use crate::translate::Item;

/// An object, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The object and what it means.
    pub item: &'a Item,
    /// What the API server says of it.
    pub stored: &'a Stored,
    /// What is wrong with it and with what it refers to.
    pub problems: &'a [&'a Problem],
}

/// The status of a route. `resolved` is what there is to say of what it refers to, and `live_in` the revision with which
/// the form that serves came into service everywhere.
pub fn route(subject: Subject<'_>, standing: &Standing, resolved: Fact, live_in: Option<String>) -> Desired {
    let programmed = programmed(subject, standing, live_in.as_deref());
    let status = ProxyRouteStatus {
        programmed: Some(word(standing, &programmed)),
        live_in,
        conditions: vec![],
    };
    let facts = vec![accepted(subject), resolved, programmed];
    desired(subject, fields(&status), facts, standing)
}

/// The status of a pool.
pub fn pool(subject: Subject<'_>, standing: &Standing, resolved: Fact, rotation: Option<Rotation>) -> Desired {
    let programmed = programmed(subject, standing, None);
    let status = PoolStatus {
        endpoints: rotation.map(|Rotation { ready, all }| format!("{ready}/{all}")),
        programmed: Some(word(standing, &programmed)),
        conditions: vec![],
    };
    let facts = vec![accepted(subject), resolved, programmed, healthy(standing, rotation)];
    desired(subject, fields(&status), facts, standing)
}

fn desired(
    subject: Subject<'_>,
    fields: serde_json::Map<String, serde_json::Value>,
    facts: Vec<Fact>,
    standing: &Standing,
) -> Desired {
    let weight = match standing {
        Standing::Live(_) | Standing::Held { .. } => Weight::Settled,
        Standing::Quarantined(_) | Standing::AwaitsConsent => Weight::Failing,
        // There is no Rollout that would speak for them, however many they are.
        Standing::Waiting(Waiting::NoRollout(_) | Waiting::RolloutGone(_)) => Weight::Failing,
        Standing::NotUsed
        | Standing::Ordered(_)
        | Standing::Carried { .. }
        | Standing::Waiting(
            Waiting::Turn
            | Waiting::NoInstances
            | Waiting::Paused
            | Waiting::Frozen
            | Waiting::Blocked(_)
            | Waiting::Withheld(_),
        ) => Weight::Passing { crowd: 0 },
    };
    Desired {
        uid: subject.stored.uid.clone(),
        generation: subject.stored.generation,
        fields,
        facts,
        weight,
    }
}

/// How many endpoints of a pool are in rotation, as the form says that serves, or its service shows; `None` if that is not
/// known, or no form serves.
pub fn rotation(item: &Item, standing: &Standing, situation: &Situation) -> Option<Rotation> {
    let stable = |fleet: &FleetSituation| fleet.served.stable.as_ref()?.snapshot.clone();
    let unit = match serves(standing) {
        Serves::Nothing => return None,
        Serves::AsWritten => item.meaning.as_ref()?.unit().clone(),
        Serves::LastGood => {
            let mut snapshots = situation.fleets.values().filter_map(stable);
            snapshots.find_map(|snapshot| snapshot.config().units.get(&item.object.key).cloned())?
        }
    };
    let Unit::Pool(pool) = unit.as_ref() else {
        return None;
    };
    match &pool.source {
        PoolSource::Static(endpoints) => Some(Rotation {
            ready: endpoints.iter().filter(|endpoint| endpoint.weight.get() > 0).count(),
            all: endpoints.len(),
        }),
        PoolSource::Service(service) => {
            let mut fleets = situation.fleets.values();
            fleets.find_map(|fleet| fleet.rotation.get(service).copied())
        }
    }
}

/// The form of an object that requests meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Serves {
    AsWritten,
    LastGood,
    Nothing,
}

/// See [`Serves`].
pub(super) fn serves(standing: &Standing) -> Serves {
    match standing {
        Standing::Quarantined(Effect::NotServed) => Serves::Nothing,
        Standing::Quarantined(Effect::LastGoodServes | Effect::FileAsBefore)
        | Standing::AwaitsConsent
        | Standing::Held { .. } => Serves::LastGood,
        Standing::Live(_)
        | Standing::Ordered(_)
        | Standing::Carried { .. }
        | Standing::NotUsed
        | Standing::Waiting(_) => Serves::AsWritten,
    }
}

/// The word of `status.programmed`.
fn word(standing: &Standing, programmed: &Fact) -> String {
    match standing {
        Standing::Carried { stage, .. } => stage.clone(),
        Standing::Held { .. } => "RolledBack".to_owned(),
        Standing::Live(_)
        | Standing::Ordered(_)
        | Standing::NotUsed
        | Standing::Waiting(_)
        | Standing::AwaitsConsent
        | Standing::Quarantined(_) => programmed.truth.as_str().to_owned(),
    }
}

fn programmed(subject: Subject<'_>, standing: &Standing, live_in: Option<&str>) -> Fact {
    let (truth, reason, message) = match standing {
        Standing::Live(_) => (Truth::True, Reason::Programmed, live(subject, live_in)),
        Standing::Ordered(revision) => (
            Truth::False,
            Reason::NotAcknowledged,
            format!("revision {revision} is ordered onto every instance, and not all have acknowledged it; {}", look(subject)),
        ),
        Standing::Carried { revision, stage, index, of } => (
            Truth::False,
            Reason::InStage,
            format!("stage {stage} ({index}/{of}) tries it in revision {revision}; what served before serves everybody else"),
        ),
        Standing::NotUsed => (
            Truth::False,
            Reason::NotUsed,
            "no route refers to this pool, so it is not served; refer to it by spec.rules[].pool of a ProxyRoute in its namespace".to_owned(),
        ),
        Standing::Waiting(waiting) => self::waiting(subject, waiting, live_in),
        Standing::AwaitsConsent => (
            Truth::False,
            Reason::AwaitsConsent,
            format!("with this content most hosts would go at once, so the one before serves on until somebody consents; {}", look(subject)),
        ),
        Standing::Quarantined(effect) => (Truth::False, Reason::Quarantined, quarantined(subject, *effect)),
        Standing::Held { revision, why } => (
            Truth::False,
            Reason::RolledBack,
            format!("revision {revision} was taken back: {why}. The content before serves; a new content of this object is tried again"),
        ),
    };
    Fact::new("Programmed", truth, reason, message)
}

fn live(subject: Subject<'_>, live_in: Option<&str>) -> String {
    match (subject.item.object.key.kind, live_in) {
        (Kind::Pool, _) => "every instance that uses it serves it".to_owned(),
        (Kind::ProxyRoute | Kind::Rollout, Some(revision)) => {
            format!("every instance serves it, since revision {revision}")
        }
        (Kind::ProxyRoute | Kind::Rollout, None) => "every instance serves it".to_owned(),
    }
}

/// Where to look further.
fn look(subject: Subject<'_>) -> String {
    match fleet_of(subject.item) {
        Some(fleet) => format!("the Rollout of fleet {fleet} says more"),
        None => "the Rollouts of the fleets that use it say more".to_owned(),
    }
}

fn waiting(subject: Subject<'_>, waiting: &Waiting, live_in: Option<&str>) -> (Truth, Reason, String) {
    let more = look(subject);
    let (reason, message) = match waiting {
        Waiting::Turn => (
            Reason::Waiting,
            format!("it is compiled and waits for its turn; {more}"),
        ),
        Waiting::NoInstances => (
            Reason::NoInstances,
            "no instance of its fleet is connected; start one, or look at the instances' logs".to_owned(),
        ),
        Waiting::Paused => (Reason::Paused, format!("the rollout is paused; {more}")),
        Waiting::Frozen => (
            Reason::Frozen,
            format!("the fleet is frozen until somebody retries; {more}"),
        ),
        Waiting::Blocked(revision) => (
            Reason::Blocked,
            format!(
                "revision {revision} with this content failed with no object to blame; change something, or retry it"
            ),
        ),
        Waiting::Withheld(why) => (Reason::Withheld, why.clone()),
        Waiting::NoRollout(fleet) => (
            Reason::NoRollout,
            format!(
                "no Rollout that is in order governs fleet {fleet}; add one with fleet: {fleet}, or correct spec.fleet"
            ),
        ),
        Waiting::RolloutGone(fleet) => (Reason::NoRollout, rollout_gone(fleet, live_in)),
    };
    (Truth::False, reason, message)
}

fn rollout_gone(fleet: &FleetName, live_in: Option<&str>) -> String {
    let serving = match live_in {
        Some(revision) if !revision.is_empty() => format!("its instances serve this on, since revision {revision}"),
        Some(_) | None => "its instances serve on what they have".to_owned(),
    };
    format!(
        "no Rollout governs fleet {fleet} any more: {serving}, and get nothing new; apply one with fleet: {fleet} in the \
         controller's namespace again"
    )
}

fn quarantined(subject: Subject<'_>, effect: Effect) -> String {
    // What only one fleet does not take is no error of the object.
    let refused = |problem: &&&Problem| problem.field.as_str().starts_with("spec.endpoints[");
    let error = subject.problems.iter().find(|problem| problem.is_error());
    let Some(error) = error.or_else(|| subject.problems.iter().find(refused)) else {
        return format!("what it depends on is in error; {effect}");
    };
    format!("{}; {effect}", in_words(error))
}

/// What is wrong and how to mend it; where it stands on an API server is known.
pub(super) fn in_words(problem: &Problem) -> String {
    let field = match problem.field.as_str() {
        "" => String::new(),
        field => format!("{field}: "),
    };
    let fix = match problem.fix.as_str() {
        "" => String::new(),
        fix => format!("; {fix}"),
    };
    format!("{field}{}{fix}", problem.message)
}

/// The first of some Problems, and how many more there are.
pub(super) fn first_of(problems: &[&Problem]) -> String {
    match problems {
        [] => String::new(),
        [one] => in_words(one),
        [first, rest @ ..] => format!("{} (and {} more)", in_words(first), rest.len()),
    }
}

fn accepted(subject: Subject<'_>) -> Fact {
    let own = |problem: &&&Problem| about(subject.item, problem).is_none();
    let (errors, warnings): (Vec<&Problem>, Vec<&Problem>) = subject
        .problems
        .iter()
        .filter(own)
        .partition(|problem| problem.is_error());
    accepted_of(&errors, &warnings)
}

/// Whether a content is in order, given what is wrong with it.
pub(super) fn accepted_of(errors: &[&Problem], warnings: &[&Problem]) -> Fact {
    match (errors, warnings) {
        ([], []) => Fact::new("Accepted", Truth::True, Reason::Accepted, "it is in order"),
        ([], warnings) => {
            let message = format!("it is in order, but: {}", first_of(warnings));
            Fact::new("Accepted", Truth::True, Reason::Accepted, message)
        }
        (errors, _) => Fact::new("Accepted", Truth::False, Reason::Invalid, first_of(errors)),
    }
}

fn healthy(standing: &Standing, rotation: Option<Rotation>) -> Fact {
    let serves = serves(standing);
    let (truth, reason, message) = match (serves, rotation) {
        (Serves::Nothing, _) => (
            Truth::False,
            Reason::Quarantined,
            "it is in error and no form of it serves, so no endpoint is in rotation",
        ),
        (Serves::AsWritten | Serves::LastGood, None) => (
            Truth::Unknown,
            Reason::NotKnown,
            "nothing is known of its endpoints yet",
        ),
        (Serves::AsWritten | Serves::LastGood, Some(Rotation { ready: 0, .. })) => (
            Truth::False,
            Reason::NoEndpoints,
            "no endpoint is in rotation, so requests are answered with 503; are the pods ready?",
        ),
        (Serves::AsWritten, Some(_)) => (Truth::True, Reason::InRotation, "endpoints are in rotation"),
        (Serves::LastGood, Some(_)) => (
            Truth::True,
            Reason::InRotation,
            "endpoints of its last good form, which serves, are in rotation",
        ),
    };
    Fact::new("Healthy", truth, reason, message)
}
