//! What Argo CD is told about our kinds: health and actions in Lua, for every phase and for status that speaks of an older
//! generation, run by the interpreter that Argo CD uses and within its limits.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_controller::rollout::{Health, Phase};
use sluice_e2e::repository;

use crate::world::World;

/// The generation that objects have here; status speaks of it, or of the one before.
const GENERATION: i64 = 3;
/// Built by `cluster build`.
const TOOL: &str = "argocd-lua";

/// All phases, with what Argo CD shows of them while the fleet's health is `Healthy`.
const PHASES: [(Phase, &str); 8] = [
    (Phase::Idle, "Healthy"),
    (Phase::Progressing, "Progressing"),
    (Phase::Baking, "Progressing"),
    (Phase::Paused, "Suspended"),
    (Phase::Frozen, "Degraded"),
    (Phase::RollingBack, "Degraded"),
    (Phase::RolledBack, "Degraded"),
    (Phase::Stalled, "Degraded"),
];

/// Who paused the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paused {
    /// Nobody by a command; the phase `Paused` is then `spec.paused`.
    NotByCommand,
    /// Somebody: in any phase the next change waits.
    ByCommand,
}

/// Which buttons can be pressed in a phase, of pause, resume and abort. Every phase is here, or this does not compile.
fn buttons(phase: Phase, paused: Paused) -> [bool; 3] {
    let (pause, abort) = match phase {
        Phase::Idle | Phase::Frozen | Phase::RollingBack | Phase::RolledBack => (true, false),
        Phase::Progressing | Phase::Baking | Phase::Stalled => (true, true),
        Phase::Paused => (false, true),
    };
    match paused {
        Paused::NotByCommand => [pause, false, abort],
        Paused::ByCommand => [false, true, abort],
    }
}

/// The whole table.
pub(crate) async fn lua(world: &World) -> anyhow::Result<()> {
    limits(world).await?;
    rollouts(world).await?;
    for kind in ["ProxyRoute", "Pool"] {
        contents(world, kind).await?;
    }
    pools(world).await?;
    actions(world).await
}

/// Argo CD opens few libraries for a customisation. A script that needs more would work here alone.
async fn limits(world: &World) -> anyhow::Result<()> {
    for library in ["string", "math", "io", "os"] {
        let path = world.folder().join(format!("{library}.lua"));
        fs::write(&path, format!("return {{status = 'Healthy', message = {library}.x}}\n"))?;
        let path = path.to_string_lossy();
        let said = world.tool_raw(TOOL, "{}", &["health", &path]).await?;
        ensure!(!said.status.success(), "a script has the library {library}");
    }
    Ok(())
}

async fn run(world: &World, what: &str, script: &str, object: &Value) -> anyhow::Result<Value> {
    let path = repository::root().join("deploy/argocd").join(script);
    let text = world
        .tool(TOOL, &object.to_string(), &[what, &path.to_string_lossy()])
        .await?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// The object's health has this status, and says something.
async fn health(world: &World, kind: &str, status: &Value, expected: &str) -> anyhow::Result<()> {
    let script = format!("{}/health.lua", kind.to_lowercase());
    let mut object = object(kind);
    if !status.is_null() {
        object["status"] = status.clone();
    }
    let found = run(world, "health", &script, &object).await?;
    ensure!(found["status"] == expected, "{kind} {status}: {found}, not {expected}");
    let message = found["message"].as_str().unwrap_or_default();
    ensure!(!message.is_empty(), "{kind} {status}: no message");
    Ok(())
}

fn object(kind: &str) -> Value {
    json!({
        "apiVersion": sluice_crds::API_VERSION,
        "kind": kind,
        "metadata": {"name": "a", "namespace": "b", "generation": GENERATION, "resourceVersion": "71"},
        "spec": {"dataPlane": {"listeners": [{"name": "https", "port": 8443, "tls": {}}]}},
    })
}

fn condition(kind: &str, status: &str, reason: &str, generation: i64) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "why", "observedGeneration": generation,
           "lastTransitionTime": "2026-11-26T10:00:00Z"})
}

fn rollout_status(phase: &str, health: Health, generation: i64) -> Value {
    json!({
        "observedGeneration": generation,
        "phase": phase,
        "health": health,
        "targetRevision": "42-c01d9a3f",
        "stage": {"label": "2/4 small"},
        "conditions": [condition("Accepted", "True", "Accepted", generation)],
    })
}

async fn rollouts(world: &World) -> anyhow::Result<()> {
    let check = async |status: &Value, expected| health(world, "Rollout", status, expected).await;
    for (phase, expected) in PHASES {
        let name = format!("{phase:?}");
        check(&rollout_status(&name, Health::Healthy, GENERATION), expected).await?;
        // What is said of an older generation says nothing of this one, whatever it is.
        let stale = rollout_status(&name, Health::Healthy, GENERATION - 1);
        check(&stale, "Progressing").await?;
        let mut by_condition = stale.clone();
        by_condition["observedGeneration"] = Value::Null;
        check(&by_condition, "Progressing").await?;
    }
    check(&rollout_status("Idle", Health::Degraded, GENERATION), "Degraded").await?;
    check(&rollout_status("Idle", Health::Unknown, GENERATION), "Progressing").await?;
    check(&rollout_status("Dancing", Health::Healthy, GENERATION), "Unknown").await?;
    let mut refused = rollout_status("Idle", Health::Healthy, GENERATION);
    refused["conditions"][0] = condition("Accepted", "False", "NotGoverning", GENERATION);
    check(&refused, "Degraded").await?;
    check(
        &json!({"phase": "Pending", "conditions": [pending("Accepted"), pending("Ready")]}),
        "Progressing",
    )
    .await?;
    check(&json!({}), "Progressing").await?;
    check(&Value::Null, "Progressing").await
}

/// As the CRDs fill it in before a controller has looked.
fn pending(kind: &str) -> Value {
    json!({"type": kind, "status": "Unknown", "reason": "Pending", "message": "why",
           "lastTransitionTime": "1970-01-01T00:00:00Z"})
}

/// Accepted, ResolvedRefs and Programmed, and what comes of them.
const CONTENTS: [(&str, &str, &str, &str, &str); 8] = [
    ("True", "True", "True", "Programmed", "Healthy"),
    ("True", "True", "False", "Progressing", "Progressing"),
    ("True", "True", "False", "RolledBack", "Degraded"),
    ("True", "True", "Unknown", "Pending", "Progressing"),
    ("False", "True", "False", "Invalid", "Degraded"),
    // Its last good form serves: still it is not what was written.
    ("False", "True", "True", "Programmed", "Degraded"),
    ("True", "False", "True", "Programmed", "Degraded"),
    ("True", "False", "False", "Progressing", "Degraded"),
];

async fn contents(world: &World, kind: &str) -> anyhow::Result<()> {
    for (accepted, resolved, programmed, reason, expected) in CONTENTS {
        // Each of the three may be the one that speaks of an older generation.
        for stale in [None, Some(0), Some(1), Some(2)] {
            let generation = |index| {
                if stale == Some(index) {
                    GENERATION - 1
                } else {
                    GENERATION
                }
            };
            let status = json!({"conditions": [
                condition("Accepted", accepted, "Why", generation(0)),
                condition("ResolvedRefs", resolved, "Why", generation(1)),
                condition("Programmed", programmed, reason, generation(2)),
            ]});
            let expected = if stale.is_some() { "Progressing" } else { expected };
            health(world, kind, &status, expected).await?;
        }
    }
    let taken_back = json!({"programmed": "RolledBack", "conditions": [
        condition("Accepted", "True", "Accepted", GENERATION),
        condition("Programmed", "False", "Held", GENERATION),
    ]});
    health(world, kind, &taken_back, "Degraded").await?;
    let first = json!({"programmed": "Pending", "conditions": [pending("Accepted"), pending("Programmed")]});
    health(world, kind, &first, "Progressing").await?;
    health(world, kind, &Value::Null, "Progressing").await
}

/// A pool without an endpoint that answers.
async fn pools(world: &World) -> anyhow::Result<()> {
    for (endpoints, expected) in [("True", "Healthy"), ("Unknown", "Healthy"), ("False", "Degraded")] {
        let status = json!({"conditions": [
            condition("Accepted", "True", "Accepted", GENERATION),
            condition("Programmed", "True", "Programmed", GENERATION),
            condition("Healthy", endpoints, "Why", GENERATION),
        ]});
        health(world, "Pool", &status, expected).await?;
    }
    Ok(())
}

async fn actions(world: &World) -> anyhow::Result<()> {
    for (phase, _) in PHASES {
        let mut rollout = object("Rollout");
        rollout["status"] = rollout_status(&format!("{phase:?}"), Health::Healthy, GENERATION);
        discovered(world, &rollout, buttons(phase, Paused::NotByCommand)).await?;
        rollout["status"]["pausedBy"] = json!({"by": "olga", "reason": "", "at": "2026-11-26T10:00:00Z"});
        let by_command = buttons(phase, Paused::ByCommand);
        discovered(world, &rollout, by_command).await?;
        // Nothing is tried that could be taken back: what is new waits in the queue.
        rollout["status"]["stage"] = Value::Null;
        discovered(world, &rollout, [by_command[0], by_command[1], false]).await?;
        rollout["status"]["targetRevision"] = Value::Null;
        discovered(world, &rollout, [false; 3]).await?;
    }
    discovered(world, &object("Rollout"), [false; 3]).await?;
    for verb in ["pause", "resume", "abort"] {
        commanded(world, verb).await?;
    }
    Ok(())
}

async fn discovered(world: &World, rollout: &Value, expected: [bool; 3]) -> anyhow::Result<()> {
    let found = run(world, "discovery", "rollout/actions/discovery.lua", rollout).await?;
    for (verb, enabled) in ["pause", "resume", "abort"].into_iter().zip(expected) {
        ensure!(found[verb]["disabled"] == !enabled, "{verb} of {rollout}: {found}");
    }
    Ok(())
}

/// The object comes back with the command, and otherwise as it was.
async fn commanded(world: &World, verb: &str) -> anyhow::Result<()> {
    let mut before = object("Rollout");
    before["metadata"]["annotations"] = json!({"team": "edge", "sluice.dev/command-reason": "of another",
        "sluice.dev/command-instance": "of another"});
    before["status"] = rollout_status("Baking", Health::Healthy, GENERATION);
    let script = format!("rollout/actions/{verb}.lua");
    let mut after = run(world, "action", &script, &before).await?;
    let annotations = after["metadata"]["annotations"].clone();
    let expected = json!({
        "team": "edge",
        "sluice.dev/command": verb,
        "sluice.dev/command-revision": "42-c01d9a3f",
        "sluice.dev/command-by": "system:serviceaccount:argocd:argocd-server",
        "sluice.dev/command-id": format!("argocd-{verb}-71"),
    });
    ensure!(annotations == expected, "{verb}: {annotations}");
    after["metadata"]["annotations"] = before["metadata"]["annotations"].clone();
    ensure!(after == before, "{verb} changes more than annotations: {after}");
    Ok(())
}
