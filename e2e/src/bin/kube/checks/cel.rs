//! The rules that CEL holds in the API server and translation holds everywhere: the table that joins them, put to a
//! real API server, which also proves that the expressions compile and stay within its cost budget.

use std::fs;

use anyhow::{Context, ensure};
use kube::api::PostParams;
use serde_json::Value;
use sluice_controller::lint::lint;
use sluice_controller::problem::Severity;
use sluice_crds::rules::{CASES, Case};

use crate::objects;
use crate::world::World;

/// Name of the object of every case; nothing is kept.
const NAME: &str = "case";

/// Every case, by the API server and by `sluice lint`.
pub(crate) async fn table(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    let namespace = world.namespace("a").await?;
    let mut wrong = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let server = by_server(world, &namespace, case).await?;
        let lint = by_lint(world, number, case)?;
        for (who, verdict) in [("the API server", server), ("sluice lint", lint)] {
            if !agrees(case, &verdict) {
                wrong.push(format!(
                    "{} {}: {who} says {verdict:?}, not {:?}",
                    case.rule.id, case.spec, case.refused_at
                ));
            }
        }
    }
    world.say(&format!("{} cases", CASES.len()));
    ensure!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// The paths that a verdict points at; none when the object is accepted.
fn agrees(case: &Case, verdict: &[String]) -> bool {
    match case.refused_at {
        None => verdict.is_empty(),
        Some(at) => !verdict.is_empty() && verdict.iter().all(|field| field.starts_with(at)),
    }
}

async fn by_server(world: &World, namespace: &str, case: &Case) -> anyhow::Result<Vec<String>> {
    let spec: Value = serde_json::from_str(case.spec)?;
    let object = objects::object(case.kind, NAME, &spec)?;
    let attempt = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match objects::api(world.client(), case.kind, namespace)
        .create(&attempt, &object)
        .await
    {
        Ok(_) => Ok(Vec::new()),
        Err(kube::Error::Api(status)) if status.is_invalid() => {
            world.say(&status.message);
            let causes = status.details.as_ref().map(|details| details.causes.as_slice());
            let fields: Vec<_> = causes
                .unwrap_or_default()
                .iter()
                .map(|cause| cause.field.clone())
                .collect();
            ensure!(
                status.message.contains(case.rule.message),
                "{}: {}",
                case.rule.id,
                status.message
            );
            Ok(fields)
        }
        Err(error) => Err(error).with_context(|| format!("{}: {}", case.rule.id, case.spec)),
    }
}

/// What a case about a route refers to, so that nothing else is wrong with it.
const SURROUNDINGS: &str = "
---
{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: around, namespace: e2e},
 spec: {dataPlane: {listeners: [{name: http, port: 8080}]}}}
---
{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {name: p, namespace: e2e},
 spec: {endpoints: [{address: 10.0.0.1, port: 80}]}}
";

fn by_lint(world: &World, number: usize, case: &Case) -> anyhow::Result<Vec<String>> {
    let folder = world.folder().join(format!("case-{number}"));
    fs::create_dir_all(&folder)?;
    let spec: Value = serde_json::from_str(case.spec)?;
    let mut object = serde_json::to_value(objects::object(case.kind, NAME, &spec)?)?;
    object["metadata"]["namespace"] = "e2e".into();
    let surroundings = if case.kind == "ProxyRoute" { SURROUNDINGS } else { "" };
    fs::write(folder.join("all.yaml"), format!("{object}{surroundings}"))?;
    // Warnings, such as of a Pool that no route uses, refuse nothing.
    let problems = lint(&folder)
        .problems
        .into_iter()
        .filter(|problem| problem.severity == Severity::Error);
    Ok(problems.map(|problem| problem.field.as_str().to_owned()).collect())
}
