//! `kubectl sluice pool`: the endpoints of a Pool as each instance has them, by the instances' own admin ports. What is
//! in rotation differs from one to the next for a moment after every change, so no status could hold it.

use std::collections::BTreeSet;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_controller::members::DEFAULT_SERVICE_ACCOUNT;
use sluice_model::Name;
use sluice_model::limits::{FORWARDED_PODS_MAX, FORWARDS_AT_A_TIME};

use crate::cluster::forward::PodAdmin;
use crate::cluster::objects::{Kind, condition};
use crate::cluster::refusal::Wish;
use crate::cluster::{Cluster, ConnectionArgs, controller_namespace};
use crate::failure::{Exit, Failure};
use crate::instances::{exists, fleet_of};
use crate::output::{self, TableFormat};
use crate::table::Table;
use crate::waiting_runtime;

/// For whom the token of a pod of ours is: by it they are known among pods of the same account.
const AUDIENCE: &str = "sluice-controller";

/// Arguments of `kubectl sluice pool`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The Pool.
    pub name: Name,
    /// Its namespace [default: that of the kubeconfig's context].
    #[arg(short, long, help_heading = "Kubernetes")]
    pub namespace: Option<Name>,
    /// Ask only the instances of this fleet.
    #[arg(long)]
    pub fleet: Option<String>,
    /// The controller's namespace [default: $SLUICE_NAMESPACE, else sluice-system].
    #[arg(long, value_name = "NAMESPACE", help_heading = "Kubernetes")]
    pub controller_namespace: Option<Name>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: ConnectionArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TableFormat::Table)]
    pub output: TableFormat,
}

/// Runs `kubectl sluice pool`.
///
/// # Errors
/// When there is no such Pool, no instance has it, or none can be asked.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    waiting_runtime()?.block_on(look(args))
}

async fn look(args: &Args) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(&args.connection).await?;
    let namespace = args.namespace.as_ref().map_or(cluster.namespace(), Name::as_str);
    // The object first: a name that was misspelt is told as that, and not as one that no instance has.
    let pool = cluster.get(Kind::Pool, namespace, args.name.as_str()).await?;
    let key = format!("Pool {namespace}/{}", args.name);
    let system = controller_namespace(args.controller_namespace.as_ref())?;
    let members = members(&cluster, &system, args.fleet.as_deref()).await;
    let members = members.map_err(|failure| orphaned(&pool, &key).unwrap_or(failure))?;
    let pods = pods(&cluster, &members).await?;
    if pods.len() > FORWARDED_PODS_MAX {
        output::remark(&format!(
            "{} instances run; {FORWARDED_PODS_MAX} of them are asked",
            pods.len()
        ));
    }
    let asked = pods.iter().take(FORWARDED_PODS_MAX).map(|pod| ask(&cluster, pod, &key));
    let answers: Vec<_> = futures::stream::iter(asked)
        .buffered(FORWARDS_AT_A_TIME)
        .collect()
        .await;
    let mut rows = Vec::new();
    let mut silent = Vec::new();
    for answer in answers {
        match answer {
            Ok(mut found) => rows.append(&mut found),
            Err(failure) => silent.push(failure),
        }
    }
    for failure in &silent {
        output::remark(&failure.to_string());
    }
    if rows.is_empty() {
        return Err(orphaned(&pool, &key).unwrap_or_else(|| nothing(&key, pods.len(), silent.first())));
    }
    output::print(&match args.output {
        TableFormat::Json => output::json(&json!({"pool": key, "instances": rows}))?,
        TableFormat::Yaml => output::yaml(&json!({"pool": key, "instances": rows}))?,
        TableFormat::Table => table(&rows),
    });
    Ok(if silent.is_empty() { Exit::Done } else { Exit::Failed })
}

/// That whoever has it is of a fleet that no Rollout governs any more, if the controller says so of the Pool.
fn orphaned(pool: &DynamicObject, key: &str) -> Option<Failure> {
    let programmed = condition(pool, "Programmed")?;
    let text = |field: &str| programmed.get(field).and_then(Value::as_str).unwrap_or_default();
    (text("reason") == "NoRollout").then(|| {
        Failure::failed(format!(
            "{key}: {}; as long as no Rollout says who they are, those instances cannot be asked",
            text("message")
        ))
    })
}

fn nothing(key: &str, pods: usize, silent: Option<&Failure>) -> Failure {
    match (pods, silent) {
        (0, _) => Failure::failed(format!(
            "no instance runs that could have {key}: `rollout get` says where the fleets stand"
        )),
        (_, Some(failure)) => failure.clone(),
        (pods, None) => Failure::failed(format!(
            "none of {pods} instances has {key}: no route that they serve refers to it; `routes` and `rollout get` say more"
        )),
    }
}

/// A service account whose pods may be instances.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Member {
    namespace: String,
    account: String,
}

/// The accounts of the fleets that the Rollouts of `system` govern.
async fn members(cluster: &Cluster, system: &str, fleet: Option<&str>) -> Result<BTreeSet<Member>, Failure> {
    let rollouts = cluster.list(Kind::Rollout, Some(system)).await?.items;
    let of_fleet = |rollout: &&DynamicObject| fleet.is_none_or(|fleet| fleet_of(rollout) == fleet);
    let wanted: Vec<&DynamicObject> = rollouts.iter().filter(of_fleet).collect();
    if rollouts.is_empty() {
        return Err(Failure::failed(format!(
            "there is no Rollout in namespace {system}; if the controller is in another, say which with \
             --controller-namespace"
        )));
    }
    if let Some(fleet) = fleet {
        exists(fleet, &rollouts.iter().map(fleet_of).collect())?;
    }
    Ok(wanted
        .into_iter()
        .flat_map(|rollout| members_of(rollout, system))
        .collect())
}

fn members_of(rollout: &DynamicObject, system: &str) -> Vec<Member> {
    let written = rollout.data.pointer("/spec/members").and_then(Value::as_array);
    let member = |member: &Value| {
        Some(Member {
            namespace: member.get("namespace")?.as_str()?.to_owned(),
            account: member.get("serviceAccountName")?.as_str()?.to_owned(),
        })
    };
    match written {
        Some(members) if !members.is_empty() => members.iter().filter_map(member).collect(),
        Some(_) | None => vec![Member {
            namespace: system.to_owned(),
            account: DEFAULT_SERVICE_ACCOUNT.to_owned(),
        }],
    }
}

/// A pod, by namespace and name.
type Place = (String, String);

/// The pods of these accounts that are instances.
async fn pods(cluster: &Cluster, members: &BTreeSet<Member>) -> Result<Vec<Place>, Failure> {
    let mut places = Vec::new();
    for Member { namespace, account } in members {
        let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
        let fields = format!("spec.serviceAccountName={account},status.phase=Running");
        let params = ListParams::default().fields(&fields);
        let found = cluster
            .call(&Wish::list("pods", Some(namespace)), api.list(&params))
            .await?;
        let instances = found.items.into_iter().filter(is_instance);
        places.extend(instances.filter_map(|pod| Some((namespace.clone(), pod.metadata.name?))));
    }
    Ok(places)
}

fn is_instance(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes
        .filter_map(|volume| volume.projected.as_ref()?.sources.as_ref())
        .flatten();
    let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    tokens.any(|token| token.audience.as_deref() == Some(AUDIENCE))
}

/// One endpoint as one instance has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
struct Row {
    pod: String,
    revision: String,
    role: String,
    endpoint: String,
    weight: Option<u64>,
    state: String,
    zone: Option<String>,
}

async fn ask(cluster: &Cluster, (namespace, pod): &Place, key: &str) -> Result<Vec<Row>, Failure> {
    let mut admin = PodAdmin::open(cluster, namespace, pod).await?;
    let (pools, services) = (admin.get("/api/v2/pools").await?, admin.get("/api/v2/services").await?);
    rows(pod, key, &pools, &services).map_err(|error| {
        Failure::failed(format!(
            "pod {pod}: its pools cannot be read: {error}; is it of another version?"
        ))
    })
}

#[derive(Deserialize)]
struct Pools {
    generations: Vec<Generation>,
}

#[derive(Deserialize)]
struct Generation {
    revision: String,
    role: String,
    items: Vec<PoolView>,
}

#[derive(Deserialize)]
struct PoolView {
    pool: String,
    service: Option<String>,
    endpoints: Vec<EndpointView>,
}

#[derive(Deserialize)]
struct EndpointView {
    address: String,
    weight: Option<u64>,
    state: Option<String>,
    zone: Option<String>,
}

#[derive(Deserialize)]
struct Services {
    services: Vec<ServiceView>,
}

#[derive(Deserialize)]
struct ServiceView {
    service: String,
    endpoints: Vec<EndpointView>,
}

/// The endpoints of the pool `key` in each generation: those in rotation, and of a service's also those that are not.
fn rows(pod: &str, key: &str, pools: &Value, services: &Value) -> serde_json::Result<Vec<Row>> {
    let Pools { generations } = Pools::deserialize(pools)?;
    let Services { services } = Services::deserialize(services)?;
    let mut rows = Vec::new();
    for Generation { revision, role, items } in generations {
        for pool in items.iter().filter(|pool| pool.pool == key) {
            let row = |endpoint: String, weight, state: &str, zone: Option<String>| Row {
                pod: pod.to_owned(),
                revision: revision.clone(),
                role: role.clone(),
                endpoint,
                weight,
                state: state.to_owned(),
                zone,
            };
            let service = pool.service.as_ref();
            let known = services.iter().find(|known| Some(&known.service) == service);
            let known = known.map(|known| known.endpoints.as_slice()).unwrap_or_default();
            let zone = |address: &str| known.iter().find(|other| other.address == address)?.zone.clone();
            for used in &pool.endpoints {
                rows.push(row(
                    used.address.clone(),
                    used.weight,
                    "in rotation",
                    zone(&used.address),
                ));
            }
            let resting = known
                .iter()
                .filter(|other| pool.endpoints.iter().all(|used| used.address != other.address));
            for other in resting {
                let state = other.state.as_deref().unwrap_or("not in rotation");
                rows.push(row(other.address.clone(), None, state, other.zone.clone()));
            }
            if pool.endpoints.is_empty() && known.is_empty() {
                rows.push(row(String::new(), None, "empty", None));
            }
        }
    }
    Ok(rows)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["POD", "ROLE", "REVISION", "ENDPOINT", "WEIGHT", "STATE", "ZONE"]);
    for row in rows {
        let Row {
            pod,
            revision,
            role,
            endpoint,
            weight,
            state,
            zone,
        } = row.clone();
        let weight = weight.map(|weight| weight.to_string()).unwrap_or_default();
        table.row([pod, role, revision, endpoint, weight, state, zone.unwrap_or_default()]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_a_pool_in_each_generation() {
        let pools = json!({"generations": [
            {"revision": "41-aa", "role": "stable", "items": [
                {"pool": "Pool shop/api", "service": "shop/api:http", "endpoints": [{"address": "10.0.0.1:80", "weight": 1}]},
                {"pool": "Pool shop/other", "service": null, "endpoints": []}]},
            {"revision": "42-bb", "role": "candidate", "items": [
                {"pool": "Pool shop/api", "service": null, "endpoints": []}]}]});
        let services = json!({"services": [{"service": "shop/api:http", "endpoints": [
            {"address": "10.0.0.1:80", "state": "ready", "zone": "a"},
            {"address": "10.0.0.2:80", "state": "draining", "zone": null}]}]});
        let rows = rows("edge-1", "Pool shop/api", &pools, &services).unwrap();
        let expected = "\
POD      ROLE        REVISION   ENDPOINT      WEIGHT   STATE         ZONE
edge-1   stable      41-aa      10.0.0.1:80   1        in rotation   a
edge-1   stable      41-aa      10.0.0.2:80   -        draining      -
edge-1   candidate   42-bb      -             -        empty         -
";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn a_pool_of_a_fleet_without_a_rollout_says_so() {
        let pool = |reason: &str| -> DynamicObject {
            let conditions = json!([{"type": "Programmed", "status": "False", "reason": reason, "message": "no Rollout governs it"}]);
            serde_json::from_value(json!({"metadata": {"name": "api"}, "status": {"conditions": conditions}})).unwrap()
        };
        let told = orphaned(&pool("NoRollout"), "Pool shop/api").unwrap().to_string();
        assert!(told.starts_with("Pool shop/api: no Rollout governs it; "), "{told}");
        assert_eq!(orphaned(&pool("NotUsed"), "Pool shop/api"), None);
    }

    #[test]
    fn members_are_as_written_or_the_charts_own() {
        let rollout = |spec: Value| -> DynamicObject {
            serde_json::from_value(json!({"metadata": {"name": "edge"}, "spec": spec})).unwrap()
        };
        let of = |spec: Value| members_of(&rollout(spec), "sluice-system");
        assert_eq!(of(json!({}))[0].account, "sluice-dataplane");
        let written = json!({"members": [{"namespace": "shop", "serviceAccountName": "shop"}]});
        assert_eq!(
            of(written),
            [Member {
                namespace: "shop".to_owned(),
                account: "shop".to_owned()
            }]
        );
    }

    #[test]
    fn an_instance_has_a_token_for_the_controller() {
        let pod = |audience: &str| -> Pod {
            let sources = json!([{"serviceAccountToken": {"audience": audience, "path": "token"}}]);
            let volumes = json!([{"name": "other"}, {"name": "token", "projected": {"sources": sources}}]);
            serde_json::from_value(json!({"spec": {"containers": [], "volumes": volumes}})).unwrap()
        };
        assert!(is_instance(&pod("sluice-controller")));
        assert!(!is_instance(&pod("vault")));
        assert!(!is_instance(&Pod::default()));
    }
}
