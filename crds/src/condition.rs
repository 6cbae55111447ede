//! One condition of an object, in the shape of Kubernetes' `metav1.Condition`, with every field bounded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One aspect of the object's state, as its controller last saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// Which aspect, such as Accepted, Programmed or Ready. `docs/status.md` explains each.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// True, False or Unknown.
    #[schemars(length(max = 16), regex(pattern = "^(True|False|Unknown)$"))]
    pub status: String,
    /// Why, in one CamelCase word for programs.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, in a sentence for people: which field, what is wrong, how to mend it.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When the status last changed (RFC 3339).
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// The generation of the object that this speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

/// What a route's or a pool's status says before any controller has written one: a mass of new objects reads as Pending
/// from the first moment, without a write for each.
pub(crate) fn pending_content() -> Value {
    json!({"programmed": "Pending", "conditions": [pending("Accepted"), pending("Programmed")]})
}

/// The same of a Rollout. `Ready` is what kstatus (Flux, Helm) waits for.
pub(crate) fn pending_rollout() -> Value {
    json!({"phase": "Pending", "conditions": [pending("Accepted"), pending("Ready")]})
}

fn pending(type_: &str) -> Value {
    json!({
        "type": type_,
        "status": "Unknown",
        "reason": "Pending",
        "message": "No controller has said anything about it yet.",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    })
}
