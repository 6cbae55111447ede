//! `kubectl sluice instances`: the instances of every fleet as the leading controller sees them, by its admin port.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde::Deserialize;
use serde_json::Value;
use sluice_model::Name;

use crate::cluster::forward::PodAdmin;
use crate::cluster::refusal::Wish;
use crate::cluster::{Cluster, ConnectionArgs, controller_namespace};
use crate::failure::{Exit, Failure};
use crate::output::{self, TableFormat};
use crate::table::Table;
use crate::waiting_runtime;

/// The lease that says who leads.
const LEASE: &str = "sluice-controller";

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
}

/// Runs `kubectl sluice instances`.
///
/// # Errors
/// When there is no leader, or it cannot be asked.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    waiting_runtime()?.block_on(async {
        let cluster = Cluster::connect(&args.connection).await?;
        let namespace = controller_namespace(args.namespace.as_ref())?;
        let leader = leader(&cluster, &namespace).await?;
        let mut admin = PodAdmin::open(&cluster, &namespace, &leader).await?;
        let mut answer = admin.get("/api/v2/instances").await?;
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

/// The pod of the controller that leads.
async fn leader(cluster: &Cluster, namespace: &str) -> Result<String, Failure> {
    let api: Api<Lease> = Api::namespaced(cluster.client(), namespace);
    let wish = Wish::get("leases.coordination.k8s.io", namespace, LEASE);
    let lease = cluster.call(&wish, api.get_opt(LEASE)).await?;
    let lease = lease.ok_or_else(|| {
        Failure::failed(format!(
            "there is no Lease {LEASE} in namespace {namespace}: no controller runs there; if it is in another, say which \
             with -n"
        ))
    })?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    pod_of(&holder).map(str::to_owned).ok_or_else(|| {
        Failure::failed(format!(
            "nobody leads: the Lease {LEASE} in namespace {namespace} has no holder; `kubectl -n {namespace} get pods` shows \
             whether a controller runs"
        ))
    })
}

/// The pod in the name of a holder or an instance, which is that of its pod and what tells it from a namesake.
fn pod_of(identity: &str) -> Option<&str> {
    let pod = identity.split(['.', '_', '/']).next()?;
    (!pod.is_empty()).then_some(pod)
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
    for instance in instances {
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
    Ok(table.render())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_pod_is_in_the_name() {
        assert_eq!(pod_of("sluice-7d9f-abcde.0a1b2c3d"), Some("sluice-7d9f-abcde"));
        assert_eq!(pod_of("sluice-controller-0_1f2e"), Some("sluice-controller-0"));
        assert_eq!(pod_of("edge-3"), Some("edge-3"));
        assert_eq!(pod_of(""), None);
    }

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
}
