//! What our accounts may do is what they do: the chart's rules, as they were and are in this run, held against all that its
//! audit log has of them.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::audit::Entry;
use crate::sluice::{CONTROLLER_USER, DATAPLANE_USER, NAMESPACE};
use crate::world::World;

/// Labels of what the chart made.
const OF_CHART: [(&str, &str); 2] = [
    ("app.kubernetes.io/name", "sluice"),
    ("app.kubernetes.io/component", "controller"),
];
/// What every account may do: to ask what it may do, and which kinds there are.
const OF_EVERYBODY: [&str; 2] = ["authorization.k8s.io", "authentication.k8s.io"];

/// One thing that may be done: `patch proxyroutes/status.sluice.dev`.
type Doings = BTreeSet<String>;

/// The controller's account and the data plane's.
pub(crate) async fn used(world: &World) -> anyhow::Result<()> {
    // So that there is a run to speak of when this check is the only one.
    let sluice = world.sluice().await?;
    let log = world.audit_of_run().context("our own cluster")?.entries()?;
    let granted = granted(world, &log).await?;
    let of = |user: &str| {
        log.iter()
            .filter(|entry| entry.user.username == user)
            .collect::<Vec<_>>()
    };
    let controller = of(CONTROLLER_USER);
    ensure!(!controller.is_empty(), "the audit log has nothing of {CONTROLLER_USER}");
    // Of the installation that is there: one that is taken away loses its rights before its pods end.
    let pods: Vec<String> = sluice.controllers().await?.into_iter().map(|pod| pod.name).collect();
    let mut lately = world.audit().context("our own cluster")?.of(CONTROLLER_USER)?;
    lately.retain(|entry| pods.iter().any(|pod| pod == entry.pod()));
    refused(&lately)?;
    let used = doings(&controller);
    let beyond: Vec<_> = used.difference(&granted).collect();
    let unused: Vec<_> = granted.difference(&used).collect();
    world.say(&format!("granted {granted:#?}\nused {used:#?}"));
    ensure!(beyond.is_empty(), "done without a rule of the chart: {beyond:?}");
    // What only an accident needs is done by the checks that cause one; all of them have to have run.
    ensure!(
        unused.is_empty() || !world.whole_run(),
        "the chart grants what nothing in this run needed: {unused:?}"
    );
    world.figure(format!("{} of {} verbs used", used.len(), granted.len()));
    let calls = of(DATAPLANE_USER);
    ensure!(calls.is_empty(), "the data plane called the API server: {calls:?}");
    can_do_nothing(world).await
}

/// 403s are lines in somebody's log that nobody wants. Of this check alone: others take rights away to see what happens.
fn refused(entries: &[Entry]) -> anyhow::Result<()> {
    let code = |entry: &Entry| entry.response_status.as_ref().map_or(0, |answered| answered.code);
    let refused = entries.iter().find(|entry| code(entry) == 403);
    ensure!(refused.is_none(), "it was refused something: {refused:?}");
    Ok(())
}

fn doings(entries: &[&Entry]) -> Doings {
    let of_object = |entry: &&Entry| {
        let object = entry.object_ref.as_ref()?;
        let everybody = OF_EVERYBODY.contains(&object.api_group.as_str()) && object.resource.starts_with("self");
        (!everybody).then(|| doing(&entry.verb, &entry.resource(), &object.api_group))
    };
    entries.iter().filter_map(of_object).collect()
}

fn doing(verb: &str, resource: &str, group: &str) -> String {
    format!("{verb} {resource}.{group}")
}

/// All that the chart's Roles and ClusterRoles for the controller say, and said earlier in the run under other values;
/// none of it with `*`.
async fn granted(world: &World, log: &[Entry]) -> anyhow::Result<Doings> {
    let labels = OF_CHART.map(|(key, value)| format!("{key}={value}")).join(",");
    let get = ["get", "roles,clusterroles", "-A", "-l", &labels, "-o", "json"];
    let list: Value = serde_json::from_str(&world.kubectl(&get).await?)?;
    let now = list["items"].as_array().into_iter().flatten();
    let written = log.iter().filter_map(|entry| entry.response_object.as_ref());
    let of_chart = |role: &&Value| {
        let mut labels = OF_CHART.iter();
        labels.all(|(key, value)| role["metadata"]["labels"][key] == *value)
    };
    let mut granted = Doings::new();
    for rule in now
        .chain(written.filter(of_chart))
        .flat_map(|role| texts_of(role, "rules"))
    {
        let texts = |field: &str| texts_of(rule, field).filter_map(Value::as_str).collect::<Vec<_>>();
        for group in texts("apiGroups") {
            for resource in texts("resources") {
                granted.extend(texts("verbs").iter().map(|verb| doing(verb, resource, group)));
            }
        }
        ensure!(!rule.to_string().contains('*'), "a rule with a star: {rule}");
    }
    ensure!(!granted.is_empty(), "the chart's roles are not found by {labels}");
    Ok(granted)
}

fn texts_of<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// The data plane's account has what an account that nobody gave anything has.
async fn can_do_nothing(world: &World) -> anyhow::Result<()> {
    let account = "nobody-gave-it-anything";
    world
        .kubectl(&["-n", NAMESPACE, "create", "serviceaccount", account])
        .await?;
    let list = async |user: &str| {
        let list = ["-n", NAMESPACE, "auth", "can-i", "--list", &format!("--as={user}")];
        world.kubectl(&list).await
    };
    let nobody = list(&format!("system:serviceaccount:{NAMESPACE}:{account}")).await?;
    let dataplane = list(DATAPLANE_USER).await?;
    world
        .kubectl(&["-n", NAMESPACE, "delete", "serviceaccount", account])
        .await?;
    ensure!(
        nobody == dataplane,
        "the data plane's account can do more than nothing:\n{dataplane}\n{nobody}"
    );
    Ok(())
}
