//! Objects with something wrong: each is refused by the API server, which names the field, or accepted and told so in its
//! status; and `sluice lint` says the same of the same file.
//!
//! The objects are the golden cases of the compiler and the table of the CEL rules, so that what is added there is
//! tried here.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use serde_json::{Value, json};
use sluice_controller::lint::lint;
use sluice_crds::rules::CASES;
use sluice_e2e::repository;
use sluice_e2e::wait::wait_until;

use crate::objects::{self, says};
use crate::sluice::{NAMESPACE, PATIENCE};
use crate::world::World;

/// What is promised.
const AT_LEAST: usize = 60;
/// Golden cases that are about more than one object, which a cluster has in another way or not at all.
const OF_SEVERAL: [&str; 7] = [
    "dangling-pool-elsewhere",
    "duplicate-match",
    "duplicate-object",
    "foreign-kind",
    "host-of-another-namespace",
    "second-rollout",
    "unknown-fleet",
];

/// A bad object, as somebody would write it.
struct Bad {
    case: String,
    kind: &'static str,
    manifest: String,
    /// The field that `sluice lint` names.
    field: String,
}

/// Where the cases' namespaces are in this cluster.
struct Places {
    /// In place of `shop`.
    own: String,
    /// In place of `certs`, whose Secrets the cases refer to.
    of_others: String,
}

/// Tries all of them.
pub(crate) async fn refused_or_told(world: &World) -> anyhow::Result<()> {
    world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let surroundings = [objects::pool("api", "api"), objects::pool("p", "api")];
    world.apply(&namespace, &surroundings).await?;
    let places = Places {
        own: namespace.clone(),
        of_others: world.namespace("certs").await?,
    };
    let bad = all(world, &places)?;
    ensure!(bad.len() >= AT_LEAST, "there are only {} bad objects", bad.len());
    let (mut refused, mut accepted, mut unsaid) = (0, Vec::new(), Vec::new());
    for object in &bad {
        let said = world.kubectl_raw(&object.manifest, &["apply", "-f", "-"]).await?;
        if said.status.success() {
            accepted.push(object);
        } else {
            refused += 1;
            if !points_at(&object.field, &said.stderr) {
                unsaid.push(format!("{}, {}: {}", object.case, object.field, said.stderr));
            }
        }
    }
    ensure!(
        unsaid.is_empty(),
        "the API server does not name the field of {unsaid:#?}"
    );
    for object in &accepted {
        told(world, &namespace, object).await?;
    }
    world.figure(format!(
        "{refused} refused, {} accepted and told so in their status",
        accepted.len()
    ));
    for object in &accepted {
        world
            .kubectl_with(
                &object.manifest,
                &["delete", "--ignore-not-found", "--wait=false", "-f", "-"],
            )
            .await?;
    }
    Ok(())
}

/// Waits until the status says which field is wrong.
async fn told(world: &World, namespace: &str, bad: &Bad) -> anyhow::Result<()> {
    let namespace = namespace_of(bad.kind, namespace);
    wait_until(
        &format!("the status of {} to name {}", bad.case, bad.field),
        PATIENCE,
        || async {
            let object = world
                .object(bad.kind, namespace, &bad.case)
                .await
                .map_err(|error| format!("{error:#}"))?;
            let wrong = ["Accepted", "ResolvedRefs"]
                .iter()
                .any(|kind| says(&object, kind, "False"));
            let named = points_at(&bad.field, &object["status"]["conditions"].to_string());
            if wrong && named {
                Ok(())
            } else {
                Err(format!("{:#}", object["status"]))
            }
        },
    )
    .await;
    Ok(())
}

/// Only Rollouts in the controller's namespace are looked at.
fn namespace_of<'a>(kind: &str, namespace: &'a str) -> &'a str {
    if kind == "Rollout" { NAMESPACE } else { namespace }
}

fn all(world: &World, places: &Places) -> anyhow::Result<Vec<Bad>> {
    let mut manifests = golden(places)?;
    manifests.extend(of_rules(&places.own));
    let lint = |(case, manifest)| by_lint(world, &places.own, case, manifest);
    manifests.into_iter().map(lint).filter_map(Result::transpose).collect()
}

/// The compiler's cases, moved into this cluster: `(name, manifest)`.
fn golden(places: &Places) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(repository::root().join("controller/tests/golden/cases"))? {
        let path = entry?.path();
        let case = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default()
            .to_owned();
        let manifest = path.extension().is_some_and(|extension| extension == "yaml");
        if !manifest || OF_SEVERAL.contains(&case.as_str()) {
            continue;
        }
        // One is no text at all.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        found.push((case.clone(), moved(&case, &text, places)));
    }
    found.sort();
    Ok(found)
}

/// The same manifest with a name and a place of its own.
fn moved(case: &str, text: &str, places: &Places) -> String {
    let rollout = text.contains("kind: Rollout");
    let namespace = format!("namespace: {}", if rollout { NAMESPACE } else { &places.own });
    let of_others = format!("namespace: {}", places.of_others);
    let fleet = if rollout {
        format!("fleet: {case}")
    } else {
        "fleet: default".to_owned()
    };
    let line = |line: &str| {
        let line = line.replace("namespace: certs", &of_others);
        if line.starts_with("metadata:") {
            let named = ["broken", "side", "edge", "lost", "spare", "mine"]
                .iter()
                .fold(line, |line, name| {
                    line.replace(&format!("name: {name}"), &format!("name: {case}"))
                });
            named.replace("namespace: shop", &namespace)
        } else {
            line.replace("fleet: edge", &fleet)
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// What the table of rules refuses.
fn of_rules(namespace: &str) -> Vec<(String, String)> {
    let refused = CASES.iter().enumerate().filter(|(_, case)| case.refused_at.is_some());
    let one = |(number, case): (usize, &sluice_crds::rules::Case)| {
        let name = format!("{}-{number}", case.rule.id);
        let mut spec: Value = serde_json::from_str(case.spec).unwrap();
        if case.kind == "Rollout" {
            spec["fleet"] = name.clone().into();
        }
        let namespace = namespace_of(case.kind, namespace);
        let object = json!({
            "apiVersion": sluice_crds::API_VERSION,
            "kind": case.kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        });
        (name, object.to_string())
    };
    refused.map(one).collect()
}

/// What `sluice lint` says of it, in surroundings in which nothing else is wrong. `None`: it is no object that an API
/// server would be sent, or lint only warns of it.
fn by_lint(world: &World, namespace: &str, case: String, manifest: String) -> anyhow::Result<Option<Bad>> {
    let kinds = ["ProxyRoute", "Pool", "Rollout"];
    let Some(kind) = kinds.into_iter().find(|kind| manifest.contains(kind)) else {
        return Ok(None);
    };
    let folder = world.folder().join("lint").join(&case);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("case.yaml"), &manifest)?;
    fs::write(folder.join("around.yaml"), around(namespace))?;
    let field = named_by_lint(&folder);
    Ok(field.map(|field| Bad {
        case,
        kind,
        manifest,
        field,
    }))
}

fn around(namespace: &str) -> String {
    let pool = |name: &str| {
        format!(
            "---\n{{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {{name: {name}, namespace: {namespace}}}, \
             spec: {{endpoints: [{{address: 10.0.0.1, port: 80}}]}}}}\n"
        )
    };
    let rollout = format!(
        "---\n{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: default, namespace: {NAMESPACE}}}, \
         spec: {{dataPlane: {{listeners: [{{name: http, port: 8080}}]}}}}}}\n"
    );
    [pool("api"), pool("p"), rollout].concat()
}

fn named_by_lint(folder: &Path) -> Option<String> {
    let problems = lint(folder).problems;
    let of_case = problems.iter().filter(|problem| {
        problem.is_error() && problem.place.as_ref().is_some_and(|place| &*place.file == "case.yaml")
    });
    let mut fields = of_case
        .map(|problem| problem.field.as_str())
        .filter(|field| !field.is_empty());
    fields.next().map(str::to_owned)
}

/// Whether a text names the field, or one that it is in: schemas speak of a list where lint speaks of its item.
fn points_at(field: &str, text: &str) -> bool {
    let text = text.to_lowercase();
    let field = field.to_lowercase();
    let of_whole_spec = text.contains("spec: ");
    match field.as_str() {
        "spec" if of_whole_spec => return true,
        // Nobody has that kind, so kubectl asks no server.
        "apiversion" => return text.contains("in version") || text.contains("apiversion not set"),
        _ => {}
    }
    // A rule about how fields go together points at what they are in, and its message names them.
    let leaf = field.rsplit('.').next().unwrap_or_default();
    if of_whole_spec && text.contains(&format!(" {leaf}")) {
        return true;
    }
    let ends = field.match_indices(['.', '[']).map(|(end, _)| end).chain([field.len()]);
    let mut parents = ends
        .map(|end| &field[..end])
        .filter(|part| !["spec", "metadata"].contains(part));
    // Of names kubectl says "resource name may not be empty" itself, before any server is asked.
    parents.any(|part| text.contains(part)) || (field == "metadata.name" && text.contains("name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_near_enough_but_not_the_whole_spec() {
        let said = "The ProxyRoute \"x\" is invalid: spec.hostnames: Invalid value";
        assert!(points_at("spec.hostnames[0]", said));
        assert!(!points_at("spec.rules[0].pool", said));
        let together = "spec: Invalid value: a pool needs either endpoints or a service, and not both";
        assert!(points_at("spec.service", together) && !points_at("spec.removalBrake", together));
        assert!(points_at("spec.rules[0].pool", "spec.rules[0].pool: no Pool"));
    }

    #[test]
    fn cases_get_a_name_and_a_place_of_their_own() {
        let text = "kind: ProxyRoute\nmetadata: {name: broken, namespace: shop}\nspec:\n  fleet: edge\n";
        let places = Places {
            own: "ns".to_owned(),
            of_others: "ns-certs".to_owned(),
        };
        let moved = moved("x", text, &places);
        assert_eq!(
            moved,
            "kind: ProxyRoute\nmetadata: {name: x, namespace: ns}\nspec:\n  fleet: default\n"
        );
    }
}
