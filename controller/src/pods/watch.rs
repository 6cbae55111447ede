//! Watches the pods of members' namespaces: their metadata alone, and only those that are not at their end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use sluice_model::{FleetName, InstanceId};
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Pods;
use crate::members::Memberships;
use crate::pki::instance_of_pod;

/// When a pod is at its end it leaves the watch, as one that is deleted does.
const ALIVE: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The namespaces of each fleet's members. A fleet that has none any more, since its Rollout is gone, keeps those that it
/// had: its pods are there, and must not be taken for gone because nobody looks.
fn looked_at(kept: &mut BTreeMap<FleetName, BTreeSet<String>>, members: &Memberships) -> BTreeSet<String> {
    kept.extend(members.namespaces_by_fleet());
    kept.values().flatten().cloned().collect()
}

/// Watches until `stop`, in the namespaces that `memberships` name. Needs `list` and `watch` on pods there.
pub async fn watch(
    client: Client,
    pods: Pods,
    mut memberships: Receiver<Option<Arc<Memberships>>>,
    stop: CancellationToken,
) {
    let mut watched: BTreeMap<String, Watch> = BTreeMap::new();
    let mut kept = BTreeMap::new();
    loop {
        let members = memberships.borrow_and_update().clone();
        if let Some(members) = members {
            let namespaces = looked_at(&mut kept, &members);
            pods.update(|view| view.look_at(&namespaces));
            watched.retain(|namespace, _| namespaces.contains(namespace));
            for namespace in namespaces {
                let begin = || Watch::begin(client.clone(), pods.clone(), namespace.clone());
                watched.entry(namespace.clone()).or_insert_with(begin);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = memberships.changed() => if changed.is_err() { return stop.cancelled().await },
        }
    }
}

/// One namespace's; ends when dropped.
struct Watch(JoinHandle<()>);

impl Watch {
    fn begin(client: Client, pods: Pods, namespace: String) -> Self {
        Self(tokio::spawn(follow(client, pods, namespace)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn follow(client: Client, pods: Pods, namespace: String) {
    let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(ALIVE);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut listing = BTreeSet::new();
    let mut trouble = None;
    loop {
        match events.try_next().await {
            Ok(Some(event)) => {
                trouble = None;
                take(event, &pods, &namespace, &mut listing);
            }
            Ok(None) => return,
            // What was watched is too old to go on from: it lists anew, which is no trouble yet.
            Err(watcher::Error::WatchError(status)) if status.code == 410 => {}
            Err(error) => {
                let met = error.to_string();
                if trouble.as_ref() != Some(&met) {
                    tracing::warn!(
                        namespace,
                        error = met,
                        "pods cannot be watched: instances that are gone are still counted; the controller needs list and watch on pods there"
                    );
                    trouble = Some(met);
                }
            }
        }
    }
}

fn take(
    event: watcher::Event<PartialObjectMeta<Pod>>,
    pods: &Pods,
    namespace: &str,
    listing: &mut BTreeSet<InstanceId>,
) {
    match event {
        watcher::Event::Init => listing.clear(),
        watcher::Event::InitApply(pod) => listing.extend(instance(&pod)),
        watcher::Event::InitDone => {
            let all = std::mem::take(listing);
            pods.update(|view| view.listed(namespace, all));
        }
        watcher::Event::Apply(pod) => {
            if let Some(instance) = instance(&pod) {
                pods.update(|view| view.came(namespace, instance));
            }
        }
        watcher::Event::Delete(pod) => {
            if let Some(instance) = instance(&pod) {
                pods.update(|view| view.went(namespace, &instance));
            }
        }
    }
}

/// What the instance in a pod is called.
fn instance(pod: &PartialObjectMeta<Pod>) -> Option<InstanceId> {
    instance_of_pod(&pod.name_any(), &pod.metadata.uid.as_deref()?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::members;
    use crate::source::{manifest, yaml};

    fn named(rollouts: &[(&str, &str)]) -> Memberships {
        let text = |(fleet, namespace): &(&str, &str)| {
            format!(
                "---\n{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: {fleet}, namespace: sluice-system}}, \
                 spec: {{fleet: {fleet}, dataPlane: {{listeners: [{{name: http, port: 80}}]}}, \
                 members: [{{namespace: {namespace}, serviceAccountName: a}}]}}}}\n"
            )
        };
        let text: String = rollouts.iter().map(text).collect();
        let read = manifest::read(&"a.yaml".into(), yaml::documents(&text).unwrap());
        assert_eq!(read.problems, []);
        members(&read.objects.into_iter().collect(), "sluice-system", None)
    }

    #[test]
    fn pods_of_a_fleet_without_a_rollout_are_looked_at_on() {
        let mut kept = BTreeMap::new();
        let mut check = |rollouts: &[(&str, &str)], expected: &[&str]| {
            let namespaces = looked_at(&mut kept, &named(rollouts));
            assert_eq!(
                namespaces,
                expected.iter().map(ToString::to_string).collect(),
                "{rollouts:?}"
            );
        };
        check(&[("edge", "front"), ("shop", "shop")], &["front", "shop"]);
        check(&[("edge", "front")], &["front", "shop"]);
        check(&[("edge", "back")], &["back", "shop"]);
        check(&[("edge", "back"), ("shop", "store")], &["back", "store"]);
    }
}
