//! What the controller says about fleets, as far as people are shown it, and the table of it.
//!
//! Read leniently: a newer controller may say more, and `-o json` passes all of it on.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::called::Called;
use crate::failure::Failure;
use crate::table::Table;

/// One fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Its name.
    pub fleet: String,
    /// Idle, Progressing, Baking, ….
    pub phase: String,
    /// What is going on, in a line.
    pub message: String,
    /// The stage of a rollout in progress.
    pub stage: Option<Stage>,
    /// Instances in numbers.
    pub instances: Instances,
    /// Healthy, Degraded or Unknown.
    pub health: String,
    /// What is proven.
    pub stable_revision: Option<String>,
    /// What is tried; stable if there is nothing else.
    pub target_revision: Option<String>,
    /// What the gates say.
    pub gates: Vec<Gate>,
    /// Contents held back.
    pub held: Vec<Held>,
    /// Revisions not tried again.
    pub blocked: Vec<Blocked>,
    /// Instances that may still carry what was taken back.
    pub unreached: Vec<String>,
    /// What became of past revisions, the latest last.
    pub history: Vec<Past>,
    /// What became of the last command that was given by annotation; only in a cluster.
    pub command: Option<Command>,
}

/// The stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stage {
    /// `2/4 small`.
    pub label: String,
    /// Who carries it; absent when everybody does.
    pub members: Option<Vec<String>>,
    /// Observed so far.
    pub observed_ms: u64,
    /// To be observed.
    pub bake_ms: u64,
    /// When it ends if reports keep arriving.
    pub bake_until: Option<String>,
}

/// Instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instances {
    /// `4/40`.
    pub label: String,
    /// Who refuses the order in force.
    pub refusals: Vec<Refusal>,
}

/// An instance that refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// Who.
    pub instance: String,
    /// Why.
    pub reason: String,
}

/// One gate on one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gate {
    /// Its metric.
    pub metric: String,
    /// `fleet` or the route.
    pub scope: String,
    /// What the candidate shows.
    pub candidate: String,
    /// What stable shows.
    pub stable: Option<String>,
    /// The candidate's requests.
    pub requests: u64,
    /// What it says.
    pub verdict: String,
}

/// A content held back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Held {
    /// Whose.
    pub object: String,
    /// The first digits of its digest.
    pub content: String,
    /// What tried it.
    pub revision: String,
    /// Why, with figures.
    pub reason: String,
    /// When.
    pub at: String,
}

/// A revision not tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Blocked {
    /// Which.
    pub revision: String,
    /// Why, with figures.
    pub reason: String,
}

/// What became of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Command {
    /// What was asked for.
    pub verb: String,
    /// By whom.
    pub by: String,
    /// Done or Refused.
    pub result: String,
    /// What follows, or why not.
    pub message: String,
}

/// What became of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Past {
    /// Which.
    pub revision: String,
    /// When.
    pub at: String,
    /// One word.
    pub result: String,
}

/// The fleets in an answer: a list of them, or one.
///
/// # Errors
/// When it is neither.
pub fn read(answer: &Value) -> Result<Vec<Status>, Failure> {
    let wrong = |error: serde_json::Error| {
        Failure::failed(format!(
            "the controller's answer is not a rollout status: {error}; are both of one version?"
        ))
    };
    match items(answer) {
        Some(items) => items
            .iter()
            .map(Status::deserialize)
            .collect::<Result<_, _>>()
            .map_err(wrong),
        None => Status::deserialize(answer).map(|one| vec![one]).map_err(wrong),
    }
}

fn items(answer: &Value) -> Option<&Vec<Value>> {
    answer.as_array().or_else(|| answer.get("items")?.as_array())
}

/// The fleet called `fleet` in an answer, as it was sent.
pub fn raw_of<'a>(answer: &'a Value, fleet: &str) -> Option<&'a Value> {
    items(answer)?
        .iter()
        .find(|item| item.get("fleet").and_then(Value::as_str) == Some(fleet))
}

/// The fleet with this name, or the only one.
///
/// # Errors
/// When there is no such fleet, or the choice is not clear.
pub fn choose<'a>(all: &'a [Status], fleet: Option<&str>) -> Result<&'a Status, Failure> {
    let names: Vec<_> = all.iter().map(|status| status.fleet.as_str()).collect();
    match (fleet, all) {
        (Some(fleet), all) => all.iter().find(|status| status.fleet == fleet).ok_or_else(|| {
            Failure::failed(format!(
                "there is no fleet {fleet:?} here; there is: {}",
                names.join(", ")
            ))
        }),
        (None, [one]) => Ok(one),
        (None, []) => Err(Failure::failed(
            "this controller has no fleet yet: it has seen no Rollout",
        )),
        (None, _) => Err(Failure::usage(format!("say which fleet: {}", names.join(", ")))),
    }
}

/// The table, and under it what has to be said in sentences.
pub fn table(all: &[Status], now: Timestamp, called: Called) -> String {
    if all.is_empty() {
        return "No fleets: this controller has seen no Rollout.\n".to_owned();
    }
    let heads = [
        "NAME",
        "PHASE",
        "STAGE",
        "INSTANCES",
        "REVISION",
        "HEALTH",
        "BAKE-UNTIL",
        "AGE",
    ];
    let mut table = Table::new(&heads);
    for status in all {
        let stage = status.stage.clone().unwrap_or_default();
        table.row([
            status.fleet.clone(),
            status.phase.clone(),
            stage.label,
            status.instances.label.clone(),
            status.target_revision.clone().unwrap_or_default(),
            status.health.clone(),
            stage.bake_until.map(|at| time_of_day(&at)).unwrap_or_default(),
            age(status, now),
        ]);
    }
    let mut text = table.render();
    for status in all {
        remarks(&mut text, status, called);
    }
    text
}

/// For how long the stable revision has been stable.
fn age(status: &Status, now: Timestamp) -> String {
    let stable = status.stable_revision.as_deref();
    let past = status
        .history
        .iter()
        .rev()
        .find(|past| Some(past.revision.as_str()) == stable);
    past.and_then(|past| past.at.parse::<Timestamp>().ok())
        .map(|at| short_span(now.duration_since(at).as_secs().max(0)))
        .unwrap_or_default()
}

/// `42s`, `7m`, `3h`, `5d`, as kubectl says ages.
fn short_span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

/// `2026-11-23T10:20:00Z` as `10:20:00Z`; anything else as it is.
fn time_of_day(at: &str) -> String {
    let time = at.split_once('T').map_or(at, |(_, time)| time);
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

fn remarks(text: &mut String, status: &Status, called: Called) {
    let fleet = &status.fleet;
    if !status.message.is_empty() {
        let _ = writeln!(text, "\n{fleet}: {}", status.message);
    }
    for gate in &status.gates {
        let against = gate
            .stable
            .as_ref()
            .map(|stable| format!(", stable {stable}"))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "  {} on {}: {}{against} over {} requests: {}",
            gate.metric, gate.scope, gate.candidate, gate.requests, gate.verdict
        );
    }
    for refusal in &status.instances.refusals {
        let _ = writeln!(text, "  {} refuses: {}", refusal.instance, refusal.reason);
    }
    if !status.held.is_empty() {
        let _ = writeln!(text, "\nHeld back in {fleet} (a new content of the object clears it):");
    }
    for held in &status.held {
        let _ = writeln!(
            text,
            "  {} ({}), tried in {} at {}: {}",
            held.object,
            held.content,
            held.revision,
            time_of_day(&held.at),
            held.reason
        );
    }
    for blocked in &status.blocked {
        let _ = writeln!(
            text,
            "\nNot tried again in {fleet} (`{called} rollout retry` does): {}: {}",
            blocked.revision, blocked.reason
        );
    }
    if !status.unreached.is_empty() {
        let _ = writeln!(
            text,
            "\nNot reached, may still carry what was taken back (`{called} rollout forget` one that never comes back): {}",
            status.unreached.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_names_the_culprit_and_the_figures() {
        let answer = json!([{
            "fleet": "default", "phase": "RolledBack", "message": "", "health": "Degraded",
            "stage": null, "instances": {"label": "3/3", "total": 3, "refusals": []},
            "stableRevision": "1-aaaaaaaa", "targetRevision": "1-aaaaaaaa",
            "held": [{"object": "Pool default/hello", "content": "0badc0de", "revision": "2-bbbbbbbb",
                      "reason": "ErrorRate 98% (49 of 50) against 0% (0 of 100)", "at": "2026-11-23T10:20:00Z"}],
            "history": [{"revision": "1-aaaaaaaa", "at": "2026-11-23T10:00:00Z", "result": "Adopted"}],
            "somethingNewer": {}
        }]);
        let all = read(&answer).unwrap();
        let text = table(&all, "2026-11-23T10:30:00Z".parse().unwrap(), Called::Sluice);
        let expected = "\
NAME      PHASE        STAGE   INSTANCES   REVISION     HEALTH     BAKE-UNTIL   AGE
default   RolledBack   -       3/3         1-aaaaaaaa   Degraded   -            30m

Held back in default (a new content of the object clears it):
  Pool default/hello (0badc0de), tried in 2-bbbbbbbb at 10:20:00Z: ErrorRate 98% (49 of 50) against 0% (0 of 100)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_bake_shows_its_gates() {
        let answer = json!({"fleet": "edge", "phase": "Baking", "message": "baking 2s of 8s",
            "stage": {"label": "1/2 canary", "bakeUntil": "2026-11-23T10:20:00.123Z"},
            "gates": [{"metric": "ErrorRate", "scope": "fleet", "candidate": "0%", "stable": "0.1%",
                       "requests": 40, "verdict": "Pass"}]});
        let text = table(
            &read(&answer).unwrap(),
            "2026-11-23T10:20:00Z".parse().unwrap(),
            Called::Sluice,
        );
        assert!(text.contains("1/2 canary"), "{text}");
        assert!(text.contains("10:20:00Z"), "{text}");
        assert!(
            text.contains("ErrorRate on fleet: 0%, stable 0.1% over 40 requests: Pass"),
            "{text}"
        );
    }

    #[test]
    fn the_fleet_must_be_clear() {
        let of = |fleet: &str| Status {
            fleet: fleet.to_owned(),
            ..Status::default()
        };
        let two = [of("a"), of("b")];
        assert_eq!(choose(&two, Some("b")).unwrap().fleet, "b");
        assert!(choose(&two, None).unwrap_err().to_string().contains("a, b"));
        assert!(choose(&two, Some("c")).is_err());
        assert!(choose(&[], None).is_err());
        assert_eq!(choose(&two[..1], None).unwrap().fleet, "a");
    }

    #[test]
    fn spans_are_short() {
        let said: Vec<_> = [5, 300, 10_000, 200_000].into_iter().map(short_span).collect();
        assert_eq!(said, ["5s", "5m", "2h", "2d"]);
    }
}
