//! What the status of a ProxyRoute or a Pool is to say, given where its content stands. Pure.
//!
//! Nothing in here counts instances or names what changes by itself: scaling a fleet, or another object's change, must not
//! rewrite the status of this one.

use sluice_crds::{PoolStatus, ProxyRouteStatus};
use sluice_model::unit::{PoolSource, Unit};
use sluice_model::{FleetName, Kind};

use super::desired::{Desired, Fact, Truth, Weight, fields};
use super::reason::Reason;
use super::standing::{Standing, Waiting, fleet_of};
use crate::live::{Presence, Rotation};
use crate::objects::Stored;
use crate::pipeline::situation::Situation;
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

/// The status of a route. `live_in` is the revision with which its content came into service everywhere.
pub fn route(subject: Subject<'_>, standing: &Standing, live_in: Option<String>) -> Desired {
    let programmed = programmed(subject, standing, live_in.as_deref());
    let status = ProxyRouteStatus {
        programmed: Some(word(standing, &programmed)),
        live_in,
        conditions: vec![],
    };
    let facts = vec![accepted(subject), resolved(subject), programmed];
    desired(subject, fields(&status), facts, standing)
}

/// The status of a pool. `presence` is whether its Service is there; `None`: it has none.
pub fn pool(
    subject: Subject<'_>,
    standing: &Standing,
    rotation: Option<Rotation>,
    presence: Option<Presence>,
) -> Desired {
    let programmed = programmed(subject, standing, None);
    let status = PoolStatus {
        endpoints: rotation.map(|Rotation { ready, all }| format!("{ready}/{all}")),
        programmed: Some(word(standing, &programmed)),
        conditions: vec![],
    };
    let resolved = service_resolved(subject, presence);
    let facts = vec![accepted(subject), resolved, programmed, healthy(rotation)];
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

/// How many endpoints of a pool are in rotation, as its content says or its service shows; `None` if that is not known.
pub fn rotation(item: &Item, situation: &Situation) -> Option<Rotation> {
    let Unit::Pool(pool) = item.meaning.as_ref()?.unit().as_ref() else {
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

/// Whether the Service of a pool is there; `None` if it has none.
pub fn presence(item: &Item, situation: &Situation) -> Option<Presence> {
    let Unit::Pool(pool) = item.meaning.as_ref()?.unit().as_ref() else {
        return None;
    };
    match &pool.source {
        PoolSource::Static(_) => None,
        PoolSource::Service(service) => {
            let known = situation.written.as_ref()?.services.get(service);
            Some(known.copied().unwrap_or(Presence::NotYetSeen))
        }
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
    let Some(error) = subject.problems.iter().find(|problem| problem.is_error()) else {
        return format!("what it depends on is in error; {effect}");
    };
    format!("{}; {effect}", in_words(error))
}

/// What is wrong and how to mend it; where it stands on an API server is known.
fn in_words(problem: &Problem) -> String {
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
    let own = |problem: &&&Problem| reference(subject.item.object.key.kind, problem).is_none();
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

fn resolved(subject: Subject<'_>) -> Fact {
    let kind = subject.item.object.key.kind;
    let broken: Vec<&Problem> = subject
        .problems
        .iter()
        .filter(|problem| reference(kind, problem).is_some())
        .copied()
        .collect();
    match broken.first().and_then(|first| reference(kind, first)) {
        None => {
            let message = "everything that it refers to is there";
            Fact::new("ResolvedRefs", Truth::True, Reason::Resolved, message)
        }
        Some(reason) => Fact::new("ResolvedRefs", Truth::False, reason, first_of(&broken)),
    }
}

/// As a Service is or is not there, whatever else is known of the pool.
fn service_resolved(subject: Subject<'_>, presence: Option<Presence>) -> Fact {
    let fact = resolved(subject);
    let (truth, reason) = match presence {
        None | Some(Presence::Present) => return fact,
        Some(Presence::Missing) => (Truth::False, Reason::ServiceNotFound),
        Some(Presence::Unusable) => (Truth::False, Reason::ServiceNotUsable),
        Some(Presence::Unseen | Presence::NotYetSeen) => (Truth::Unknown, Reason::NotKnown),
    };
    let message = match fact.truth {
        Truth::False => fact.message,
        Truth::True | Truth::Unknown => "whether its Service is there is not known".to_owned(),
    };
    Fact::new("ResolvedRefs", truth, reason, message)
}

/// What kind of reference a Problem is about, if it is about one.
fn reference(kind: Kind, problem: &Problem) -> Option<Reason> {
    let field = problem.field.as_str();
    match kind {
        Kind::ProxyRoute if field.starts_with("spec.rules[") && field.ends_with("].pool") => Some(Reason::PoolNotFound),
        Kind::ProxyRoute if field.starts_with("spec.tls.certificates[") => Some(Reason::CertificateNotUsable),
        Kind::Pool if field.starts_with("spec.service") => Some(Reason::ServiceNotFound),
        Kind::ProxyRoute | Kind::Pool | Kind::Rollout => None,
    }
}

fn healthy(rotation: Option<Rotation>) -> Fact {
    let (truth, reason, message) = match rotation {
        None => (
            Truth::Unknown,
            Reason::NotKnown,
            "nothing is known of its endpoints yet",
        ),
        Some(Rotation { ready: 0, .. }) => (
            Truth::False,
            Reason::NoEndpoints,
            "no endpoint is in rotation, so requests are answered with 503; are the pods ready?",
        ),
        Some(_) => (Truth::True, Reason::InRotation, "endpoints are in rotation"),
    };
    Fact::new("Healthy", truth, reason, message)
}
