//! `kubectl sluice instances`: the instances of every fleet as the leading controller sees them, by its admin port.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;
use sluice_crds::DEFAULT_FLEET;
use sluice_model::Name;

use crate::cluster::forward::PodAdmin;
use crate::cluster::leader::pod_of;
use crate::cluster::objects::{Kind, text};
use crate::cluster::{Cluster, ConnectionArgs, controller_namespace};
use crate::failure::{Exit, Failure};
use crate::output::{self, TableFormat};
use crate::patience::Patience;
use crate::table::Table;
use crate::waiting_runtime;

/// Arguments of `kubectl sluice instances`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The fleet; without it all.
    pub fleet: Option<String>,
    /// The controller's namespace [default: $SLUICE_NAMESPACE, else sluice-system].
    #[arg(short, long, help_heading = "Kubernetes")]
    pub namespace: Option<Name>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub patience: Patience,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TableFormat::Table)]
    pub output: TableFormat,
}

/// One instance, as the controller tells it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Instance {
    instance: String,
    fleet: String,
    connected: bool,
    epoch: u64,
    stable: Option<String>,
    candidate: Option<String>,
    build: String,
    since: String,
    reason: Option<String>,
}

/// Runs `kubectl sluice instances`.
///
/// # Errors
/// When there is no leader, it cannot be asked, or there is no such fleet.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    waiting_runtime()?.block_on(async {
        let cluster = Cluster::connect(&args.connection).await?;
        let namespace = controller_namespace(args.namespace.as_ref())?;
        let governed = of_rollouts(&cluster, &namespace).await;
        // One that no Rollout names can only be told by whoever leads now: nobody waits for a name that is misspelt.
        let is_governed = |fleet: &String| governed.as_ref().is_none_or(|fleets| fleets.contains(fleet));
        let patience = match args.fleet.as_ref().is_none_or(is_governed) {
            true => args.patience.get(),
            false => Duration::ZERO,
        };
        let asked = cluster.ask_leader(&namespace, "/api/v2/instances", patience).await;
        let governed = governed.unwrap_or_default();
        let (mut admin, mut answer) = match (asked, &args.fleet) {
            (Ok(answered), _) => answered,
            (Err(failure), Some(fleet)) if patience.is_zero() => {
                let Failure { message, .. } = exists(fleet, &governed).err().unwrap_or(failure);
                return Err(Failure::failed(message));
            }
            (Err(failure), _) => return Err(failure),
        };
        if let Some(fleet) = &args.fleet {
            exists(fleet, &fleets(governed, &mut admin, &answer).await?)?;
        }
        if let (Some(fleet), Some(all)) = (&args.fleet, answer.as_array_mut()) {
            all.retain(|instance| instance.get("fleet").and_then(Value::as_str) == Some(fleet));
        }
        output::print(&match args.output {
            TableFormat::Json => output::json(&answer)?,
            TableFormat::Yaml => output::yaml(&answer)?,
            TableFormat::Table => table(&answer)?,
        });
        Ok(Exit::Done)
    })
}

/// The fleets that there are: those that a Rollout names, which may have nothing to serve yet, and those that the
/// controller has begun.
async fn fleets(
    governed: BTreeSet<String>,
    admin: &mut PodAdmin,
    instances: &Value,
) -> Result<BTreeSet<String>, Failure> {
    let begun = admin.get("/api/v2/rollouts").await?;
    let mut fleets = governed;
    fleets.extend(named(&begun, "/fleet"));
    fleets.extend(named(instances, "/fleet"));
    Ok(fleets)
}

/// The fleets that Rollouts name; `None` for whoever may not see them.
async fn of_rollouts(cluster: &Cluster, namespace: &str) -> Option<BTreeSet<String>> {
    let rollouts = cluster.list(Kind::Rollout, Some(namespace)).await.ok()?;
    Some(rollouts.items.iter().map(fleet_of).collect())
}

/// The fleet that a Rollout names.
pub fn fleet_of(rollout: &DynamicObject) -> String {
    match text(rollout, "/spec/fleet") {
        "" => DEFAULT_FLEET.to_owned(),
        fleet => fleet.to_owned(),
    }
}

fn named(list: &Value, pointer: &str) -> BTreeSet<String> {
    let items = list.as_array().into_iter().flatten();
    let names = items.filter_map(|item| item.pointer(pointer)?.as_str());
    names.map(str::to_owned).collect()
}

/// That there is no such fleet, if there is none.
///
/// # Errors
/// When there is none.
pub fn exists(fleet: &str, fleets: &BTreeSet<String>) -> Result<(), Failure> {
    if fleets.contains(fleet) {
        return Ok(());
    }
    let all: Vec<&str> = fleets.iter().map(String::as_str).collect();
    let all = match all.as_slice() {
        [] => "there is none".to_owned(),
        all => format!("there are: {}", all.join(", ")),
    };
    Err(Failure::failed(format!("there is no fleet {fleet:?}; {all}")))
}

fn table(answer: &Value) -> Result<String, Failure> {
    let instances = Vec::<Instance>::deserialize(answer).map_err(|error| {
        Failure::failed(format!(
            "the controller's list of instances cannot be read: {error}; are both of one version?"
        ))
    })?;
    if instances.is_empty() {
        return Ok("No instance has been connected to this controller since it leads.\n".to_owned());
    }
    let mut table = Table::new(&[
        "FLEET",
        "POD",
        "CONNECTED",
        "EPOCH",
        "STABLE",
        "CANDIDATE",
        "BUILD",
        "SINCE",
        "INSTANCE",
    ]);
    let mut sentences = String::new();
    for instance in instances {
        if let Some(reason) = &instance.reason {
            sentences.push_str(&format!("\n{}: {reason}\n", instance.instance));
        }
        let connected = if instance.connected { "yes" } else { "no" };
        table.row([
            instance.fleet,
            pod_of(&instance.instance).unwrap_or_default().to_owned(),
            connected.to_owned(),
            instance.epoch.to_string(),
            instance.stable.unwrap_or_default(),
            instance.candidate.unwrap_or_default(),
            instance.build,
            instance.since,
            instance.instance,
        ]);
    }
    Ok(table.render() + &sentences)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn instances_are_a_table() {
        let answer = json!([{"instance": "sluice-7d9f-abcde.0a1b2c3d", "fleet": "edge", "connected": true, "epoch": 7,
            "stable": "42-c01d", "candidate": null, "build": "0.1.0", "since": "2026-11-23T10:20:00Z", "newer": 1}]);
        let expected = "\
FLEET   POD                 CONNECTED   EPOCH   STABLE    CANDIDATE   BUILD   SINCE                  INSTANCE
edge    sluice-7d9f-abcde   yes         7       42-c01d   -           0.1.0   2026-11-23T10:20:00Z   sluice-7d9f-abcde.0a1b2c3d
";
        assert_eq!(table(&answer).unwrap(), expected);
        assert!(table(&json!([])).unwrap().contains("No instance"));
        assert!(table(&json!({"a": 1})).is_err());
    }

    #[test]
    fn who_is_not_connected_is_told_why() {
        let answer = json!([{"instance": "edge-1.0a1b2c3d", "fleet": "edge", "connected": false,
            "reason": "no Rollout governs fleet edge any more"}]);
        let told = table(&answer).unwrap();
        assert!(
            told.ends_with("\n\nedge-1.0a1b2c3d: no Rollout governs fleet edge any more\n"),
            "{told}"
        );
    }

    #[test]
    fn a_fleet_that_there_is_not_is_no_empty_list() {
        let fleets = named(&json!([{"fleet": "edge"}, {"fleet": "shop"}, {"other": 1}]), "/fleet");
        assert_eq!(exists("edge", &fleets), Ok(()));
        assert_eq!(
            exists("egde", &fleets).unwrap_err().to_string(),
            "there is no fleet \"egde\"; there are: edge, shop"
        );
        assert!(
            exists("edge", &BTreeSet::new())
                .unwrap_err()
                .to_string()
                .ends_with("there is none")
        );
    }
}
