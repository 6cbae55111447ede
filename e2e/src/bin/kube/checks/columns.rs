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
            let tables = world.kubectl(&[&["-n", &namespace], &call[..]].concat()).await?;
            let tables = in_order(&without_age(&tables));
            let _ = write!(all, "$ kubectl {}\n{tables}\n", call.join(" "));
        }
    }
    let path = repository::root().join(GOLDEN);
    if std::env::var_os(BLESS).is_some() {
        fs::write(&path, &all)?;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    ensure!(
        all == golden,
        "{} ({BLESS}=1 writes {GOLDEN} anew):\n{all}",
        first_difference(&all, &golden)
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

/// The tables of a category by their names: the API server lists kinds out of a map, in another order each time.
fn in_order(tables: &str) -> String {
    let mut tables: Vec<_> = tables.trim_end().split("\n\n").collect();
    tables.sort_by_key(|table| table.lines().nth(1));
    tables.join("\n\n") + "\n"
}

/// In one line, for the report.
fn first_difference(all: &str, golden: &str) -> String {
    let mut pairs = all.lines().zip(golden.lines().chain(std::iter::repeat("")));
    let Some((is, was)) = pairs.find(|(is, was)| is != was) else {
        return format!(
            "{} lines are missing at the end",
            golden.lines().count() - all.lines().count()
        );
    };
    format!("it prints {is:?} instead of {was:?}")
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
    with_another_kind_of_this_name(world, || async {
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
        Ok(())
    })
    .await
}

/// Does something while there is another kind whose plural is `rollouts`.
pub(crate) async fn with_another_kind_of_this_name(
    world: &World,
    something: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    world.kubectl_with(OTHER, &["apply", "-f", "-"]).await?;
    let crd = "crd/rollouts.argoproj.example.com";
    let done = async {
        world
            .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", crd])
            .await?;
        something().await
    }
    .await;
    world.kubectl(&["delete", "--wait=true", crd]).await?;
    done
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

    #[test]
    fn the_order_of_kinds_does_not_matter() {
        let one = "NAME\npool/a\npool/b\n\nNAME\nroute/a\n";
        let other = "NAME\nroute/a\n\nNAME\npool/a\npool/b\n";
        assert_eq!(in_order(one), one);
        assert_eq!(in_order(other), one);
    }

    #[test]
    fn a_difference_is_told_in_a_line() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), r#"it prints "b" instead of "c""#);
        assert_eq!(first_difference("a\nb\n", "a\n"), r#"it prints "b" instead of """#);
        assert_eq!(first_difference("a\n", "a\nb\n"), "1 lines are missing at the end");
    }
}
