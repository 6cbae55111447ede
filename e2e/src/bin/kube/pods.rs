//! Pods as the checks need them: which there are, where they answer, and how to end one without asking it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod as KubePod};
use kube::api::{Api, ListParams, LogParams};
use sluice_e2e::wait::wait_until;

use crate::world::World;

/// Until pods have started, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// One pod, as it was when it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// What tells it from an earlier one of that name.
    pub(crate) uid: String,
    /// Where it answers; none before it runs.
    pub(crate) ip: Option<IpAddr>,
    /// Whether its readiness probes succeed.
    pub(crate) ready: bool,
    /// Whether it is on its way out.
    pub(crate) leaving: bool,
    /// Its containers, also those that run beside the others from the beginning.
    pub(crate) containers: BTreeMap<String, Container>,
}

/// One container of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// What containerd calls it; empty before it runs.
    pub(crate) id: String,
    /// How often it was started again.
    pub(crate) restarts: i32,
}

impl Pod {
    /// One of its ports.
    pub(crate) fn at(&self, port: u16) -> anyhow::Result<SocketAddr> {
        let ip = self.ip.with_context(|| format!("{} has no address yet", self.name))?;
        Ok(SocketAddr::new(ip, port))
    }

    /// Its only container, or the first of them.
    pub(crate) fn container(&self) -> anyhow::Result<&Container> {
        let first = self.containers.values().next();
        first.with_context(|| format!("{} has no container yet", self.name))
    }

    fn of(pod: KubePod) -> Self {
        let (metadata, status) = (pod.metadata, pod.status.unwrap_or_default());
        let conditions = status.conditions.unwrap_or_default();
        let ready = |condition: &k8s_openapi::api::core::v1::PodCondition| {
            condition.type_ == "Ready" && condition.status == "True"
        };
        let first = status.init_container_statuses.into_iter().flatten();
        // One that only comes before the others is over when they run.
        let beside = first.filter(|first| first.state.as_ref().is_none_or(|state| state.terminated.is_none()));
        let all = status.container_statuses.into_iter().flatten().chain(beside);
        Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            ip: status.pod_ip.and_then(|ip| ip.parse().ok()),
            ready: conditions.iter().any(ready),
            leaving: metadata.deletion_timestamp.is_some(),
            containers: all.map(container).collect(),
        }
    }
}

fn container(status: ContainerStatus) -> (String, Container) {
    let id = status.container_id.unwrap_or_default();
    let id = id.split_once("://").map(|(_, id)| id.to_owned()).unwrap_or_default();
    let restarts = status.restart_count;
    (status.name, Container { id, restarts })
}

impl World {
    /// The pods with these labels, by name.
    pub(crate) async fn pods(&self, namespace: &str, labels: &str) -> anyhow::Result<Vec<Pod>> {
        let api: Api<KubePod> = Api::namespaced(self.client(), namespace);
        let list = api.list(&ListParams::default().labels(labels)).await?;
        let mut pods: Vec<_> = list.items.into_iter().map(Pod::of).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// Waits until there are exactly so many, all ready, and none that still leaves.
    pub(crate) async fn ready_pods(&self, namespace: &str, labels: &str, count: usize) -> Vec<Pod> {
        wait_until(&format!("{count} ready pods of {labels}"), PATIENCE, || async {
            let pods = self
                .pods(namespace, labels)
                .await
                .map_err(|error| format!("{error:#}"))?;
            let settled = pods.len() == count && pods.iter().all(|pod| pod.ready && !pod.leaving);
            if settled { Ok(pods) } else { Err(format!("{pods:?}")) }
        })
        .await
    }

    /// All that a pod has printed.
    pub(crate) async fn logs(&self, pod: &Pod) -> anyhow::Result<String> {
        let api: Api<KubePod> = Api::namespaced(self.client(), &pod.namespace);
        let container = pod.containers.keys().next().cloned();
        let what = LogParams {
            container,
            ..LogParams::default()
        };
        Ok(api.logs(&pod.name, &what).await?)
    }

    /// Ends a pod without a word, as a failing node would. What the API server is told alone would let its processes
    /// end in order, so on our own node they are killed first.
    pub(crate) async fn kill(&self, pod: &Pod) -> anyhow::Result<()> {
        if self.own().is_ok() {
            for container in pod.containers.values() {
                self.process(container).await?.kill()?;
            }
        }
        let (namespace, name) = (&pod.namespace, &pod.name);
        let delete = [
            "-n",
            namespace,
            "delete",
            "pod",
            name,
            "--grace-period=0",
            "--force",
            "--wait=false",
        ];
        let said = self.kubectl_raw("", &delete).await?;
        ensure!(said.status.success(), "{name} cannot be killed: {}", said.stderr);
        Ok(())
    }
}
