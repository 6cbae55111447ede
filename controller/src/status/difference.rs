//! What a status is to say against what it says: whether they differ, and how much that matters. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value};
use sluice_model::Kind;
use sluice_model::limits::STATUS_BAKE_UNTIL_TOLERANCE_MS;

use super::desired::{Desired, Fact, conditions_of};
use super::watched::{condition, text};

/// How much a difference matters, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Difference {
    /// None.
    Same,
    /// Figures of gates, and words.
    Figures,
    /// How many endpoints are in rotation.
    Counts,
    /// A rollout moved on.
    Moving,
    /// Where an object's content stands.
    Content,
    /// A rollout turned: it failed, was paused, ended.
    Turned,
    /// Somebody waits for an answer.
    Answer,
}

/// How `desired` differs from `shown`, the status of an object of `kind`.
pub fn difference(kind: Kind, desired: &Desired, shown: &Value) -> Difference {
    let conditions = conditions_of(kind).iter().map(|type_| {
        let wanted = desired.facts.iter().find(|fact| fact.type_ == *type_);
        of_condition(kind, type_, wanted, condition(shown, type_), desired.generation)
    });
    let fields = fields_of(kind).iter().map(|(field, weight)| {
        let (wanted, is) = (desired.fields.get(*field), shown.get(*field));
        if wanted == is {
            Difference::Same
        } else {
            weight(wanted, is)
        }
    });
    conditions.chain(fields).max().unwrap_or(Difference::Same)
}

fn of_condition(kind: Kind, type_: &str, wanted: Option<&Fact>, shown: Option<&Value>, generation: i64) -> Difference {
    let (Some(wanted), Some(shown)) = (wanted, shown) else {
        return match (wanted.is_some() == shown.is_some(), kind) {
            (true, _) => Difference::Same,
            (false, Kind::Rollout) => Difference::Turned,
            (false, Kind::ProxyRoute | Kind::Pool) => Difference::Content,
        };
    };
    let is = |field, expected: &str| text(shown, field) == Some(expected);
    let is_observed = shown.get("observedGeneration").and_then(Value::as_i64) == Some(generation);
    let status = is("status", wanted.truth.as_str());
    let reason = is("reason", wanted.reason.as_str());
    let message = is("message", &wanted.message);
    match (kind, status, reason && is_observed, message) {
        (_, true, true, true) => Difference::Same,
        (Kind::Pool, _, _, _) if type_ == "Healthy" => Difference::Counts,
        (Kind::ProxyRoute | Kind::Pool, _, _, _) => Difference::Content,
        (Kind::Rollout, false, _, _) => Difference::Turned,
        (Kind::Rollout, true, false, _) => Difference::Moving,
        (Kind::Rollout, true, true, false) => Difference::Figures,
    }
}

/// How much it matters that a field is to be one thing and is another.
type Weigh = fn(Option<&Value>, Option<&Value>) -> Difference;

/// Every field that is ours.
fn fields_of(kind: Kind) -> &'static [(&'static str, Weigh)] {
    match kind {
        Kind::ProxyRoute => &[("programmed", content), ("liveIn", content)],
        Kind::Pool => &[("programmed", content), ("endpoints", counts)],
        Kind::Rollout => &[
            ("command", answer),
            ("phase", phase),
            ("health", turned),
            ("held", turned),
            ("heldTotal", turned),
            ("blocked", turned),
            ("pausedBy", turned),
            ("stage", stage),
            ("gates", gates),
            ("message", figures),
            ("observedGeneration", moving),
            ("instances", moving),
            ("stableRevision", moving),
            ("targetRevision", moving),
            ("queuedRevision", moving),
            ("quarantined", moving),
            ("unreached", moving),
            ("history", moving),
        ],
    }
}

fn content(_: Option<&Value>, _: Option<&Value>) -> Difference {
    Difference::Content
}

fn counts(_: Option<&Value>, _: Option<&Value>) -> Difference {
    Difference::Counts
}

fn answer(_: Option<&Value>, _: Option<&Value>) -> Difference {
    Difference::Answer
}

fn turned(_: Option<&Value>, _: Option<&Value>) -> Difference {
    Difference::Turned
}

fn moving(_: Option<&Value>, _: Option<&Value>) -> Difference {
    Difference::Moving
}

fn figures(_: Option<&Value>, _: Option<&Value>) -> Difference {
    Difference::Figures
}

/// A busy repository makes a rollout begin again every second; that it does is no turn.
fn phase(wanted: Option<&Value>, shown: Option<&Value>) -> Difference {
    let on_its_way = |phase: Option<&Value>| matches!(phase.and_then(Value::as_str), Some("Progressing" | "Baking"));
    if on_its_way(wanted) && on_its_way(shown) {
        Difference::Moving
    } else {
        Difference::Turned
    }
}

/// The end of a bake moves with every report by a little.
fn stage(wanted: Option<&Value>, shown: Option<&Value>) -> Difference {
    let (Some(Value::Object(wanted)), Some(Value::Object(shown))) = (wanted, shown) else {
        return Difference::Moving;
    };
    let rest = |stage: &Map<String, Value>| {
        let mut rest = stage.clone();
        rest.remove("bakeUntil");
        rest
    };
    let end = |stage: &Map<String, Value>| stage.get("bakeUntil")?.as_str()?.parse::<Timestamp>().ok();
    match (rest(wanted) == rest(shown), end(wanted), end(shown)) {
        (false, _, _) => Difference::Moving,
        (true, Some(one), Some(other)) => {
            let apart = one.as_millisecond().abs_diff(other.as_millisecond());
            if apart < STATUS_BAKE_UNTIL_TOLERANCE_MS {
                Difference::Same
            } else {
                Difference::Moving
            }
        }
        (true, _, _) => Difference::Moving,
    }
}

/// A verdict is news; the figures behind it are looked at now and then.
fn gates(wanted: Option<&Value>, shown: Option<&Value>) -> Difference {
    let verdicts = |gates: Option<&Value>| -> Vec<[Value; 3]> {
        let gates = gates.and_then(Value::as_array).into_iter().flatten();
        let field = |gate: &Value, name: &str| gate.get(name).cloned().unwrap_or_default();
        gates
            .map(|gate| ["metric", "scope", "verdict"].map(|name| field(gate, name)))
            .collect()
    };
    if verdicts(wanted) == verdicts(shown) {
        Difference::Figures
    } else {
        Difference::Moving
    }
}
