//! What `kubectl get` prints of our kinds, in every phase, as golden output: people and their scripts read it. And that the
//! full name works beside another CRD that is called the same.

use std::fmt::Write as _;
use std::fs;

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice_e2e::repository;
use sluice_e2e::wait::wait_until;

use crate::objects;
use crate::sluice::PATIENCE;
use crate::world::World;

const GOLDEN: &str = "e2e/src/bin/kube/checks/columns.golden";
/// Set to write the golden output anew.
const BLESS: &str = "SLUICE_BLESS";
/// Another project's kind of the same name.
const OTHER: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rollouts.argoproj.example.com}
spec:
  group: argoproj.example.com
  scope: Namespaced
  names: {plural: rollouts, singular: rollout, kind: Rollout, shortNames: [ro]}
  versions:
    - name: v1alpha1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object}}
";

/// Statuses as a controller would have written them; none runs, so that they stay.
pub(crate) async fn golden(world: &World) -> anyhow::Result<()> {
    world.no_sluice().await?;
    world.crds().await?;
    let namespace = world.namespace("a").await?;
    for (name, status) in rollouts() {
        written(world, &namespace, "Rollout", name, rollout_spec(name), status).await?;
    }
    for (name, status) in contents() {
        let route = objects::route(name, "shop.example.com", "shop")["spec"].clone();
        written(world, &namespace, "ProxyRoute", name, route, status.clone()).await?;
        let mut of_pool = status;
        if let Some(fields) = of_pool.as_object_mut() {
            fields.remove("liveIn");
            fields.insert("endpoints".into(), json!("2/3"));
        }
        written(
            world,
            &namespace,
            "Pool",
            name,
            objects::pool(name, "shop")["spec"].clone(),
            of_pool,
        )
        .await?;
    }
    let mut all = String::new();
    for what in ["rollouts.sluice.dev", "slr", "prt", "pol", "sluice"] {
        for wide in [&[][..], &["-o", "wide"]] {
            let call = [&["get", what][..], wide].concat();
            let table = world.kubectl(&[&["-n", &namespace], &call[..]].concat()).await?;
            let _ = write!(all, "$ kubectl {}\n{}\n", call.join(" "), without_age(&table));
        }
    }
    let path = repository::root().join(GOLDEN);
    if std::env::var_os(BLESS).is_some() {
        fs::write(&path, &all)?;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    ensure!(
        all == golden,
        "the output is not that of {GOLDEN} ({BLESS}=1 writes it anew):\n{all}"
    );
    beside_another(world, &namespace).await
}

/// Ages differ from run to run, and the width of their column with them.
fn without_age(table: &str) -> String {
    let mut text = String::new();
    let mut columns = None;
    for line in table.lines() {
        let header = line.starts_with("NAME");
        if header {
            columns = line
                .find(" AGE")
                .map(|before| (before + 1, next_column(line, before + 4)));
        }
        let whole = match columns {
            Some((age, next)) if line.len() > age => {
                let rest = line.get(next..).unwrap_or_default();
                format!("{}{:<6}{rest}", &line[..age], if header { "AGE" } else { "-" })
            }
            _ => line.to_owned(),
        };
        let _ = writeln!(text, "{}", whole.trim_end());
    }
    text
}

/// Where the first word from `from` on begins.
fn next_column(header: &str, from: usize) -> usize {
    let rest = header.get(from..).unwrap_or_default();
    from + rest.find(|letter| letter != ' ').unwrap_or(rest.len())
}

async fn written(
    world: &World,
    namespace: &str,
    kind: &str,
    name: &str,
    spec: Value,
    status: Value,
) -> anyhow::Result<()> {
    let object = objects::object(kind, name, &spec)?;
    let api = objects::api(world.client(), kind, namespace);
    api.create(&Default::default(), &object).await?;
    if !status.is_null() {
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(name, &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

fn rollout_spec(fleet: &str) -> Value {
    json!({"fleet": fleet, "dataPlane": {"listeners": [{"name": "http", "port": 8080}]}})
}

/// Every phase: `(name, status)`.
fn rollouts() -> Vec<(&'static str, Value)> {
    let stage = |label: &str, index: u8| {
        let name = label.split(' ').nth(1).unwrap();
        json!({"name": name, "index": index, "of": 2, "label": label})
    };
    let baking = {
        let mut stage = stage("1/2 canary", 1);
        stage["bakeUntil"] = "2026-11-23T10:20:00Z".into();
        stage
    };
    let of = |phase: &str, health: &str, stage: Value, (target, acknowledged): (u32, u32), message: &str| {
        let instances = json!({
            "total": 3, "target": target, "acknowledged": acknowledged, "refused": 0,
            "label": format!("{acknowledged}/3"),
        });
        let mut status = json!({
            "phase": phase,
            "health": health,
            "instances": instances,
            "stableRevision": "41-8f3c6a17",
            "targetRevision": if target == 3 { "41-8f3c6a17" } else { "42-c01d9a3f" },
        });
        if !stage.is_null() {
            status["stage"] = stage;
        }
        if !message.is_empty() {
            status["message"] = message.into();
        }
        status
    };
    vec![
        ("baking", of("Baking", "Healthy", baking, (1, 1), "")),
        (
            "frozen",
            of(
                "Frozen",
                "Degraded",
                Value::Null,
                (3, 3),
                "two rollouts failed with nobody to blame",
            ),
        ),
        ("idle", of("Idle", "Healthy", Value::Null, (3, 3), "")),
        (
            "paused",
            of(
                "Paused",
                "Healthy",
                stage("1/2 canary", 1),
                (1, 1),
                "paused by jane: lunch",
            ),
        ),
        ("pending", Value::Null),
        (
            "progressing",
            of("Progressing", "Healthy", stage("1/2 canary", 1), (1, 0), ""),
        ),
        (
            "rolledback",
            of(
                "RolledBack",
                "Degraded",
                Value::Null,
                (3, 3),
                "Pool shop/shop is held back",
            ),
        ),
        ("rollingback", of("RollingBack", "Degraded", Value::Null, (3, 2), "")),
        (
            "stalled",
            of("Stalled", "Unknown", Value::Null, (3, 0), "no instance is connected"),
        ),
    ]
}

/// What may become of a route or a pool.
fn contents() -> Vec<(&'static str, Value)> {
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "-",
            "lastTransitionTime": "2026-11-23T10:20:00Z",
        })
    };
    let of = |programmed: &str, accepted: &str, status: &str, reason: &str| {
        let conditions = [
            condition(
                "Accepted",
                accepted,
                if accepted == "True" { "Accepted" } else { "Invalid" },
            ),
            condition("Programmed", status, reason),
        ];
        json!({"programmed": programmed, "conditions": conditions})
    };
    let mut live = of("True", "True", "True", "Programmed");
    live["liveIn"] = "41-8f3c6a17".into();
    vec![
        ("broken", of("False", "False", "False", "Invalid")),
        ("live", live),
        ("new", Value::Null),
        ("rolledback", of("RolledBack", "True", "False", "RolledBack")),
        ("staged", of("canary", "True", "False", "Staged")),
    ]
}

/// `kubectl get rollouts` may mean the other; our full and short names do not.
async fn beside_another(world: &World, namespace: &str) -> anyhow::Result<()> {
    world.kubectl_with(OTHER, &["apply", "-f", "-"]).await?;
    let crd = "crd/rollouts.argoproj.example.com";
    let both = async {
        world
            .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", crd])
            .await?;
        for name in ["rollouts.sluice.dev", "slr", "rollouts.v1alpha1.sluice.dev"] {
            wait_until(name, PATIENCE, || async {
                let get = ["-n", namespace, "get", name, "idle"];
                world.kubectl(&get).await.map_err(|error| error.to_string())
            })
            .await;
        }
        let other = world
            .kubectl(&["-n", namespace, "get", "rollouts.argoproj.example.com"])
            .await?;
        ensure!(!other.contains("idle"), "{other}");
        anyhow::Ok(())
    }
    .await;
    world.kubectl(&["delete", "--wait=true", crd]).await?;
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_age_is_taken_away() {
        let table = "NAME   PHASE   AGE    STABLE\nidle   Idle    12s    41-8f\nnew            2m3s   \n";
        let golden = "NAME   PHASE   AGE   STABLE\nidle   Idle    -     41-8f\nnew            -\n";
        assert_eq!(without_age(table), golden);
    }
}
