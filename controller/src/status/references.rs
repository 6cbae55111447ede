//! `ResolvedRefs`: whether what an object refers to is there and can be used. Pure.
//!
//! As in the Gateway API, a route says so of its backends as well, and a backend of ours has two parts: the Pool, and the
//! Service whose endpoints it takes. Where one of them is missing or of no use, the route names both.

use std::collections::BTreeSet;

use sluice_model::unit::{PoolSource, Rule, Unit};
use sluice_model::{Kind, ObjectKey, ServiceRef};

use super::content::{Subject, first_of, in_words};
use super::desired::{Fact, Truth};
use super::reason::Reason;
use super::standing::Scene;
use crate::live::Presence;
use crate::pipeline::situation::Situation;
use crate::problem::{Effect, Problem};
use crate::translate::Item;

/// What `subject` is to say; `None` if that is known in a moment.
pub fn resolved(subject: Subject<'_>, scene: &Scene<'_>) -> Option<Fact> {
    match subject.item.object.key.kind {
        Kind::Pool => of_pool(subject, scene.situation),
        Kind::ProxyRoute => of_route(subject, scene),
        Kind::Rollout => Some(own(subject)),
    }
}

/// What its own Problems say.
fn own(subject: Subject<'_>) -> Fact {
    if subject.item.meaning.is_none() {
        let message = "what it refers to is not known before it is in order";
        return fact(Truth::Unknown, Reason::NotKnown, message);
    }
    let broken: Vec<&Problem> = subject
        .problems
        .iter()
        .filter(|problem| about(subject.item, problem).is_some())
        .copied()
        .collect();
    match broken.first().and_then(|first| about(subject.item, first)) {
        None => fact(Truth::True, Reason::Resolved, "everything that it refers to is there"),
        Some(reason) => fact(Truth::False, reason, first_of(&broken)),
    }
}

fn fact(truth: Truth, reason: Reason, message: impl Into<String>) -> Fact {
    Fact::new("ResolvedRefs", truth, reason, message.into())
}

/// What kind of reference a Problem of `item` is about, if it is about one. Of an object that means nothing as it is written
/// every Problem is about what is written there, also where a reference should stand.
pub(super) fn about(item: &Item, problem: &Problem) -> Option<Reason> {
    item.meaning.as_ref()?;
    let field = problem.field.as_str();
    match item.object.key.kind {
        Kind::ProxyRoute if field.starts_with("spec.rules[") && field.ends_with("].pool") => Some(Reason::PoolNotFound),
        // The pool that no form of serves is said of all rules at once.
        Kind::ProxyRoute if field == "spec.rules" => Some(Reason::PoolNotUsable),
        Kind::ProxyRoute
            if field.starts_with("spec.tls.certificates[") || field.starts_with("spec.tls.clientAuth.") =>
        {
            Some(Reason::CertificateNotUsable)
        }
        Kind::Pool if field.starts_with("spec.service") => Some(Reason::ServiceNotFound),
        Kind::ProxyRoute | Kind::Pool | Kind::Rollout => None,
    }
}

/// As a Service is or is not there, whatever else is known of the pool.
fn of_pool(subject: Subject<'_>, situation: &Situation) -> Option<Fact> {
    let said = own(subject);
    let Some((_, presence)) = service_of(subject.item, situation) else {
        return Some(said);
    };
    let (truth, reason) = match presence {
        Presence::Present => return Some(said),
        Presence::Missing => (Truth::False, Reason::ServiceNotFound),
        Presence::Unusable => (Truth::False, Reason::ServiceNotUsable),
        Presence::Unseen => (Truth::Unknown, Reason::NotKnown),
        Presence::NotYetSeen => return None,
    };
    let message = match said.truth {
        Truth::False => said.message,
        Truth::True | Truth::Unknown => "whether its Service is there is not known".to_owned(),
    };
    Some(fact(truth, reason, message))
}

/// What it refers to itself, and then what its pools do.
fn of_route(subject: Subject<'_>, scene: &Scene<'_>) -> Option<Fact> {
    let said = own(subject);
    if said.truth != Truth::True {
        return Some(said);
    }
    let rules = match subject.item.meaning.as_ref().map(|meaning| meaning.unit().as_ref()) {
        Some(Unit::Route(route)) => route.rules.as_slice(),
        Some(Unit::Pool(_) | Unit::DataPlane(_)) | None => &[],
    };
    let pools: BTreeSet<&ObjectKey> = rules.iter().filter_map(Rule::pool).collect();
    let mut lacking = Vec::new();
    for pool in pools {
        match backend(pool, scene) {
            Backend::InOrder => {}
            Backend::Lacks(fact) => lacking.push(fact),
            Backend::NotYetSeen => return None,
        }
    }
    let broken = lacking.iter().find(|fact| fact.truth == Truth::False);
    Some(broken.or(lacking.first()).cloned().unwrap_or(said))
}

/// A pool, to a route that refers to it.
enum Backend {
    InOrder,
    Lacks(Fact),
    NotYetSeen,
}

fn backend(pool: &ObjectKey, scene: &Scene<'_>) -> Backend {
    let Some(item) = scene.items().get(pool) else {
        return Backend::InOrder; // it cannot be seen; that there is none is an error of the route's own
    };
    let problems = scene.problems(pool);
    if let Some(error) = problems.iter().find(|problem| problem.is_error()) {
        let effect = error.effect.unwrap_or(Effect::NotServed);
        let message = format!("{pool} is in error: {}; {effect}", in_words(error));
        return Backend::Lacks(fact(Truth::False, Reason::PoolNotUsable, message));
    }
    let Some((service, presence)) = service_of(item, scene.situation) else {
        return Backend::InOrder;
    };
    let told = problems.iter().find(|problem| about(item, problem).is_some());
    let why = told.map_or_else(
        || format!("Service {service} is not known"),
        |problem| in_words(problem),
    );
    let lacks = |truth, reason| Backend::Lacks(fact(truth, reason, format!("{pool}: {why}")));
    match presence {
        Presence::Present => Backend::InOrder,
        Presence::Missing => lacks(Truth::False, Reason::ServiceNotFound),
        Presence::Unusable => lacks(Truth::False, Reason::ServiceNotUsable),
        Presence::Unseen => lacks(Truth::Unknown, Reason::NotKnown),
        Presence::NotYetSeen => Backend::NotYetSeen,
    }
}

/// The Service of a pool, and whether it is there; `None` if it has none.
fn service_of<'a>(item: &'a Item, situation: &Situation) -> Option<(&'a ServiceRef, Presence)> {
    let Unit::Pool(pool) = item.meaning.as_ref()?.unit().as_ref() else {
        return None;
    };
    match &pool.source {
        PoolSource::Static(_) => None,
        PoolSource::Service(service) => {
            let known = situation.written.as_ref()?.services.get(service);
            Some((service, known.copied().unwrap_or(Presence::NotYetSeen)))
        }
    }
}
