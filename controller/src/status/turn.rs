//! What became of an object, as far as people want an Event about it: told when its status is written, from what the status
//! said before. So a controller that starts anew tells nothing twice, and what was over in a moment is not told.

use serde_json::Value;
use sluice_model::{Kind, ObjectKey};

use super::desired::Fact;
use super::reason::Reason;
use super::schedule::Write;
use super::watched::{condition, text};

/// What became of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Something is wrong with it now.
    Quarantined,
    /// Nothing is any more.
    Mended,
    /// It is held back.
    RolledBack,
    /// A Rollout governs nothing, or is not in order.
    NotAccepted,
    /// A Service or a Secret that it refers to is missing, or of no use.
    ReferenceMissing,
    /// All of them are there.
    ReferenceFound,
}

/// An object of which something became.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turned {
    /// Which.
    pub object: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// What.
    pub turn: Turn,
    /// What its status says about it.
    pub message: String,
}

/// What a status that is written makes of its object.
pub fn of(write: &Write) -> Vec<Turned> {
    let content = decisive(write, "Programmed");
    let main = match content {
        Some((before, fact)) => of_content(before, fact.reason).map(|turn| (turn, fact)),
        None => decisive(write, "Accepted").and_then(|(before, fact)| {
            let now = fact.reason != Reason::Accepted && before != Some(fact.reason.as_str());
            now.then_some((Turn::NotAccepted, fact))
        }),
    };
    let references = decisive(write, "ResolvedRefs");
    let references =
        references.and_then(|(before, fact)| Some((of_references(write.object.kind, before, fact.reason)?, fact)));
    let turned = |(turn, fact): (Turn, &Fact)| Turned {
        object: write.object.clone(),
        uid: write.desired.uid.to_string(),
        turn,
        message: fact.message.clone(),
    };
    main.into_iter().chain(references).map(turned).collect()
}

/// A condition's reason as it was, and what it is to say.
fn decisive<'a>(write: &'a Write, type_: &str) -> Option<(Option<&'a str>, &'a Fact)> {
    let fact = write.desired.facts.iter().find(|fact| fact.type_ == type_)?;
    let before: Option<&Value> = condition(&write.shown, type_);
    Some((before.and_then(|before| text(before, "reason")), fact))
}

fn of_content(before: Option<&str>, now: Reason) -> Option<Turn> {
    let was = |reason: Reason| before == Some(reason.as_str());
    if now == Reason::Quarantined {
        (!was(Reason::Quarantined)).then_some(Turn::Quarantined)
    } else if now == Reason::RolledBack {
        (!was(Reason::RolledBack)).then_some(Turn::RolledBack)
    } else {
        was(Reason::Quarantined).then_some(Turn::Mended)
    }
}

/// A pool that is missing is told as an error of its route. What a pool lacks is told of the pool, and not once more of
/// every route that uses it.
fn of_references(kind: Kind, before: Option<&str>, now: Reason) -> Option<Turn> {
    let broken: &[Reason] = match kind {
        Kind::Pool => &[Reason::ServiceNotFound, Reason::ServiceNotUsable],
        Kind::ProxyRoute | Kind::Rollout => &[Reason::CertificateNotUsable],
    };
    let is_broken = |reason: &str| broken.iter().any(|one| one.as_str() == reason);
    if is_broken(now.as_str()) {
        (before != Some(now.as_str())).then_some(Turn::ReferenceMissing)
    } else if now == Reason::Resolved {
        before.is_some_and(is_broken).then_some(Turn::ReferenceFound)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_that_breaks_is_told_once_and_when_it_is_mended() {
        let check = |kind, before: Option<&str>, now, expected| {
            assert_eq!(of_references(kind, before, now), expected, "{kind} {before:?}");
        };
        let (pool, route) = (Kind::Pool, Kind::ProxyRoute);
        let (missing, found) = (Some(Turn::ReferenceMissing), Some(Turn::ReferenceFound));
        check(pool, None, Reason::Resolved, None);
        check(pool, None, Reason::ServiceNotFound, missing);
        check(pool, Some("ServiceNotFound"), Reason::ServiceNotFound, None);
        check(pool, Some("ServiceNotFound"), Reason::ServiceNotUsable, missing);
        check(pool, Some("ServiceNotFound"), Reason::Resolved, found);
        check(route, Some("Resolved"), Reason::CertificateNotUsable, missing);
        check(route, Some("CertificateNotUsable"), Reason::Resolved, found);
        check(route, Some("CertificateNotUsable"), Reason::NotKnown, None);
        check(route, Some("PoolNotFound"), Reason::Resolved, None);
        check(route, Some("Resolved"), Reason::PoolNotFound, None);
        check(route, Some("Resolved"), Reason::ServiceNotFound, None);
        check(route, Some("ServiceNotFound"), Reason::Resolved, None);
    }
}
