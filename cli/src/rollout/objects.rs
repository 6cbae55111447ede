//! Rollouts in a cluster, as what the table and the screen show: the status that the controller wrote into each.

use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;

use super::status::{self, Status};
use super::{Look, show};
use crate::called::Called;
use crate::cluster::Cluster;
use crate::cluster::objects::{self, Kind};
use crate::failure::{Exit, Failure};
use crate::output::{self, TableFormat};

/// Shows where the fleets of this namespace's Rollouts stand.
///
/// # Errors
/// When they cannot be read, or there is none of that name.
pub async fn get(cluster: &Cluster, namespace: &str, look: &Look, called: Called) -> Result<Exit, Failure> {
    let (objects, raw) = match &look.name {
        Some(name) => {
            let object = find(cluster, namespace, name).await?;
            let raw = objects::shown(&object);
            (vec![object], raw)
        }
        None => {
            let objects = cluster.list(Kind::Rollout, namespace.into()).await?.items;
            let raw = objects::list(&objects);
            (objects, raw)
        }
    };
    if !objects.is_empty()
        && let Some(nobody) = cluster.nobody_leads(namespace).await
    {
        output::remark(&nobody);
    }
    output::print(&match look.output {
        TableFormat::Json | TableFormat::Yaml => show(&raw, look.output, called)?,
        TableFormat::Table => table(&objects, namespace, called)?,
    });
    Ok(Exit::Done)
}

/// The table of these Rollouts.
///
/// # Errors
/// When one of them has a status of another shape.
pub fn table(objects: &[DynamicObject], namespace: &str, called: Called) -> Result<String, Failure> {
    if objects.is_empty() {
        return Ok(format!("{}\n", none(namespace)));
    }
    let all: Vec<Status> = objects.iter().map(status_of).collect::<Result<_, _>>()?;
    Ok(status::table(&all, jiff::Timestamp::now(), called))
}

fn none(namespace: &str) -> String {
    format!("There is no Rollout in namespace {namespace}; if the controller is in another, say which with -n.")
}

/// The Rollout of this name, or the only one.
///
/// # Errors
/// When there is none, or the choice is not clear.
pub async fn choose(cluster: &Cluster, namespace: &str, name: Option<&str>) -> Result<DynamicObject, Failure> {
    match name {
        Some(name) => find(cluster, namespace, name).await,
        None => only(cluster.list(Kind::Rollout, namespace.into()).await?.items, namespace),
    }
}

/// The Rollout of this name. Whoever misspelt it is told which there are.
///
/// # Errors
/// When there is none, or it cannot be read.
pub async fn find(cluster: &Cluster, namespace: &str, name: &str) -> Result<DynamicObject, Failure> {
    let failure = match cluster.get(Kind::Rollout, namespace, name).await {
        Ok(rollout) => return Ok(rollout),
        Err(failure) => failure,
    };
    match cluster.list(Kind::Rollout, namespace.into()).await {
        Ok(all) if all.items.iter().all(|rollout| name_of(rollout) != name) => {
            Err(Failure::failed(no_such(&all.items, namespace, name)))
        }
        Ok(_) | Err(_) => Err(failure),
    }
}

fn only(mut all: Vec<DynamicObject>, namespace: &str) -> Result<DynamicObject, Failure> {
    match (all.pop(), all.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => Err(Failure::failed(none(namespace))),
        (Some(last), others) => {
            let names: Vec<&str> = others.iter().chain([&last]).map(name_of).collect();
            Err(Failure::usage(format!("say which Rollout: {}", names.join(", "))))
        }
    }
}

fn no_such(all: &[DynamicObject], namespace: &str, name: &str) -> String {
    let names: Vec<&str> = all.iter().map(name_of).collect();
    let there = match names.as_slice() {
        [] => "there is none".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    };
    format!("there is no Rollout {name:?} in namespace {namespace}; {there}")
}

/// Its name.
pub fn name_of(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

/// What its status says. A Rollout that nobody has looked at yet has none.
///
/// # Errors
/// When it is of another shape.
pub fn status_of(object: &DynamicObject) -> Result<Status, Failure> {
    let name = name_of(object);
    let said = object.data.get("status").filter(|status| !status.is_null());
    let mut status = match said {
        Some(said) => Status::deserialize(said).map_err(|error| {
            Failure::failed(format!(
                "the status of Rollout {name} cannot be read: {error}; are the controller and this command of one version?"
            ))
        })?,
        None => Status::default(),
    };
    name.clone_into(&mut status.fleet);
    if status.phase.is_empty() {
        "Pending".clone_into(&mut status.phase);
    }
    if status.message.is_empty() {
        status.message = not_accepted(object).unwrap_or_default().to_owned();
    }
    Ok(status)
}

/// Why the Rollout governs no fleet, if it does not.
fn not_accepted(object: &DynamicObject) -> Option<&str> {
    let accepted = objects::condition(object, "Accepted")?;
    let text = |field| accepted.get(field).and_then(Value::as_str);
    (text("status") == Some("False")).then(|| text("message"))?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout(name: &str, status: Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"fleet": "x"}, "status": status})).unwrap()
    }

    #[test]
    fn a_status_in_the_api_makes_the_table_of_the_admin_port() {
        let edge = rollout(
            "edge",
            json!({
                "observedGeneration": 3, "phase": "Baking", "message": "baking 2s of 8s", "health": "Healthy",
                "stage": {"name": "small", "index": 2, "of": 4, "label": "2/4 small", "bakeUntil": "2026-11-23T10:20:00Z"},
                "instances": {"total": 40, "target": 4, "acknowledged": 4, "refused": 0, "label": "4/40"},
                "stableRevision": "41-8f3c0000", "targetRevision": "42-c01d0000",
                "gates": [{"metric": "ErrorRate", "scope": "fleet", "candidate": "0%", "requests": 40, "verdict": "Pass"}],
                "newer": true,
            }),
        );
        let text = table(&[edge], "sluice-system", Called::Plugin).unwrap();
        let expected = "\
NAME   PHASE    STAGE       INSTANCES   REVISION      HEALTH    BAKE-UNTIL   AGE
edge   Baking   2/4 small   4/40        42-c01d0000   Healthy   10:20:00Z    -

edge: baking 2s of 8s
  ErrorRate on fleet: 0% over 40 requests: Pass
";
        assert_eq!(text, expected);
    }

    #[test]
    fn one_that_governs_nothing_says_why() {
        let conditions = json!({"conditions": [{"type": "Accepted", "status": "False", "reason": "NotGoverning",
                                               "message": "only Rollouts in sluice-system govern"}]});
        let status = status_of(&rollout("stray", conditions)).unwrap();
        assert_eq!(
            (status.phase.as_str(), status.message.as_str()),
            ("Pending", "only Rollouts in sluice-system govern")
        );
        assert_eq!(status_of(&rollout("new", Value::Null)).unwrap().phase, "Pending");
        assert!(
            status_of(&rollout("odd", json!({"phase": 7})))
                .unwrap_err()
                .to_string()
                .contains("one version")
        );
    }

    #[test]
    fn the_only_one_needs_no_name_and_a_wrong_name_is_told_the_right_ones() {
        let named = |names: &[&str]| names.iter().map(|name| rollout(name, Value::Null)).collect::<Vec<_>>();
        let chosen = |names: &[&str]| {
            let chosen = only(named(names), "edge");
            chosen
                .map(|one| name_of(&one).to_owned())
                .map_err(|failure| failure.to_string())
        };
        assert_eq!(chosen(&["a"]), Ok("a".to_owned()));
        assert_eq!(chosen(&["a", "b"]), Err("say which Rollout: a, b".to_owned()));
        assert!(chosen(&[]).unwrap_err().contains("no Rollout in namespace edge"));
        assert_eq!(
            no_such(&named(&["a", "b"]), "edge", "c"),
            "there is no Rollout \"c\" in namespace edge; there are: a, b"
        );
    }

    #[test]
    fn an_empty_namespace_is_said() {
        assert!(
            table(&[], "edge", Called::Plugin)
                .unwrap()
                .contains("no Rollout in namespace edge")
        );
    }
}
