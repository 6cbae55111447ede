//! What became of an object, as far as people want an Event about it: told when its status is written, from what the status
//! said before. So a controller that starts anew tells nothing twice, and what was over in a moment is not told.

use serde_json::Value;
use sluice_model::ObjectKey;

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
pub fn of(write: &Write) -> Option<Turned> {
    let content = decisive(write, "Programmed");
    let (turn, fact) = match content {
        Some((before, fact)) => (of_content(before, fact.reason)?, fact),
        None => {
            let (before, fact) = decisive(write, "Accepted")?;
            let now = fact.reason != Reason::Accepted && before != Some(fact.reason.as_str());
            (now.then_some(Turn::NotAccepted)?, fact)
        }
    };
    Some(Turned {
        object: write.object.clone(),
        uid: write.desired.uid.to_string(),
        turn,
        message: fact.message.clone(),
    })
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
