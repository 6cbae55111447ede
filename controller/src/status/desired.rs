//! What an object's status is to say: our own fields, and facts that become conditions when they are written. Here is the
//! shape; `content` and `fleet` fill it in.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use sluice_crds::{CommandStatus, RolloutStatus};
use sluice_model::Kind;
use sluice_model::limits::STATUS_SENTENCE_CHARS;

use super::reason::Reason;
use crate::objects::Stored;

/// See the file's comment.
#[derive(Clone, PartialEq, Debug)]
pub struct Desired {
    /// Which object, whatever its name.
    pub uid: Arc<str>,
    /// The generation that this speaks about.
    pub generation: i64,
    /// Our own fields besides `conditions`.
    pub fields: Map<String, Value>,
    /// What the conditions are to say.
    pub facts: Vec<Fact>,
    /// How soon it is to be written.
    pub weight: Weight,
}

/// What a condition is to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// Which.
    pub type_: &'static str,
    /// What.
    pub truth: Truth,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
}

/// The status of a condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Truth {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// How soon a status is to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// It stays so: in service, held back.
    Settled,
    /// Something is wrong; it may be mended in a moment.
    Failing,
    /// It will be over by itself.
    Passing {
        /// How many objects of the fleet pass at the moment.
        crowd: usize,
    },
    /// Of a Rollout: each field has a pace of its own.
    Fleet,
}

impl Fact {
    /// What `type_` is to say.
    pub fn new(type_: &'static str, truth: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            type_,
            truth,
            reason,
            message: sentence(&message.into()),
        }
    }
}

impl Desired {
    /// What a Rollout's status says already, with another answer to a command. `None` if it says things that this build
    /// does not know.
    pub fn as_shown(stored: &Stored, shown: &Value, command: &CommandStatus) -> Option<Self> {
        let mut status: RolloutStatus = serde_json::from_value(shown.clone()).ok()?;
        let generation = status.observed_generation.unwrap_or(stored.generation);
        let fact = |type_: &'static str| {
            let condition = status.conditions.iter().find(|condition| condition.type_ == type_)?;
            let truth = [Truth::True, Truth::False, Truth::Unknown];
            let truth = truth.into_iter().find(|truth| truth.as_str() == condition.status)?;
            let reason = Reason::ALL.iter().find(|reason| reason.as_str() == condition.reason)?;
            Some(Fact::new(type_, truth, *reason, condition.message.clone()))
        };
        let facts = conditions_of(Kind::Rollout)
            .iter()
            .filter_map(|type_| fact(type_))
            .collect();
        status.command = Some(command.clone());
        Some(Self {
            uid: stored.uid.clone(),
            generation,
            fields: fields(&status),
            facts,
            weight: Weight::Fleet,
        })
    }
}

/// The conditions that are ours.
pub fn conditions_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::ProxyRoute => &["Accepted", "ResolvedRefs", "Programmed"],
        Kind::Pool => &["Accepted", "ResolvedRefs", "Programmed", "Healthy"],
        Kind::Rollout => &["Accepted", "Ready", "Progressing", "Degraded", "Reconciling", "Stalled"],
    }
}

/// The fields of `status`, without its conditions: those are made of facts.
pub(super) fn fields(status: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(mut fields)) => {
            fields.remove("conditions");
            fields
        }
        // Types of ours without maps are objects.
        Ok(_) | Err(_) => Map::new(),
    }
}

/// `text`, no longer than a sentence may be.
pub fn sentence(text: &str) -> String {
    match text.char_indices().nth(STATUS_SENTENCE_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
