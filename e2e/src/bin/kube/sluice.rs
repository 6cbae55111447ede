//! An installation of Sluice as operators see it: its pods, who leads, where its fleet stands, and that it is at rest.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use serde_json::Value;
use sluice_cli::demo_upstream::VERSION_HEADER;
use sluice_e2e::client;
use sluice_e2e::wait::wait_until;

use crate::pods::Pod;
use crate::world::World;

/// Where the installation is.
pub(crate) const NAMESPACE: &str = "sluice-system";
/// The fleet of the chart's Rollout.
pub(crate) const FLEET: &str = "default";
/// Pods of the controller.
pub(crate) const CONTROLLER: &str = "app.kubernetes.io/name=sluice,app.kubernetes.io/component=controller";
/// Pods of the gateway.
pub(crate) const GATEWAY: &str = "app.kubernetes.io/name=sluice,app.kubernetes.io/component=gateway";
/// Where the gateway's pods serve plain HTTP.
pub(crate) const HTTP: u16 = 8080;
/// Health, readiness and metrics of both.
pub(crate) const HEALTH: u16 = 9902;
/// The accounts that the pods run as.
pub(crate) const CONTROLLER_USER: &str = "system:serviceaccount:sluice-system:sluice-controller";
pub(crate) const DATAPLANE_USER: &str = "system:serviceaccount:sluice-system:sluice-dataplane";
/// Until a change has passed all stages of the shared installation, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// One installation.
#[derive(Clone, Copy)]
pub(crate) struct Sluice<'a> {
    world: &'a World,
}

impl<'a> Sluice<'a> {
    /// What is installed, or will be.
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world }
    }

    /// The check that looks at it.
    pub(crate) fn world(&self) -> &'a World {
        self.world
    }

    /// The gateway's Service, as others in the cluster reach it.
    pub(crate) async fn address(&self) -> anyhow::Result<SocketAddr> {
        self.address_of("http").await
    }

    /// One of its ports.
    pub(crate) async fn address_of(&self, port: &str) -> anyhow::Result<SocketAddr> {
        let services: Api<Service> = Api::namespaced(self.world.client(), NAMESPACE);
        let spec = services.get("sluice").await?.spec.context("a Service without spec")?;
        let ports = spec.ports.unwrap_or_default();
        let number = ports.iter().find(|known| known.name.as_deref() == Some(port));
        let number = u16::try_from(number.context("no such port")?.port)?;
        Ok(SocketAddr::new(spec.cluster_ip.context("no address")?.parse()?, number))
    }

    /// The controller's pods that are to stay.
    pub(crate) async fn controllers(&self) -> anyhow::Result<Vec<Pod>> {
        let mut pods = self.world.pods(NAMESPACE, CONTROLLER).await?;
        pods.retain(|pod| !pod.leaving);
        Ok(pods)
    }

    /// The gateway's pods that are to stay.
    pub(crate) async fn gateways(&self) -> anyhow::Result<Vec<Pod>> {
        let mut pods = self.world.pods(NAMESPACE, GATEWAY).await?;
        pods.retain(|pod| !pod.leaving);
        Ok(pods)
    }

    /// The name of the pod that the lease names; empty when nobody holds it.
    pub(crate) async fn holder(&self) -> anyhow::Result<String> {
        let leases: Api<Lease> = Api::namespaced(self.world.client(), NAMESPACE);
        let spec = leases
            .get("sluice-controller")
            .await?
            .spec
            .context("a lease without spec")?;
        Ok(spec.holder_identity.unwrap_or_default())
    }

    /// The pod that leads.
    pub(crate) async fn leader(&self) -> Pod {
        wait_until("a leader", PATIENCE, || async {
            self.find_leader().await.map_err(|error| format!("{error:#}"))
        })
        .await
    }

    async fn find_leader(&self) -> anyhow::Result<Pod> {
        let holder = self.holder().await?;
        let pods = self.controllers().await?;
        let leader = pods.iter().find(|pod| !holder.is_empty() && holder.contains(&pod.name));
        leader
            .cloned()
            .with_context(|| format!("the lease names {holder:?}, of {pods:?}"))
    }

    /// Where the fleet stands, as the leader knows it: more than `Rollout.status` shows.
    pub(crate) async fn standing(&self) -> anyhow::Result<Value> {
        self.standing_of(FLEET).await
    }

    async fn standing_of(&self, fleet: &str) -> anyhow::Result<Value> {
        let leader = self.find_leader().await?;
        self.world.view(&leader, &format!("/api/v2/rollouts/{fleet}")).await
    }

    /// Waits until where the fleet stands is as wanted.
    pub(crate) async fn stands(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.fleet_stands(FLEET, what, wanted).await
    }

    /// The same of another fleet than the gateway's.
    pub(crate) async fn fleet_stands(&self, fleet: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, PATIENCE, || async {
            match self.standing_of(fleet).await {
                Ok(standing) if wanted(&standing) => Ok(standing),
                Ok(standing) => Err(format!("{standing:#}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    /// The Rollout, as the API server has it.
    pub(crate) async fn rollout(&self) -> anyhow::Result<Value> {
        self.world.object("Rollout", NAMESPACE, FLEET).await
    }

    /// Changes the Rollout's spec, as an operator who edits it.
    pub(crate) async fn edit(&self, spec: &Value) -> anyhow::Result<()> {
        let patch = serde_json::json!({"spec": spec}).to_string();
        let patch = [
            "-n",
            NAMESPACE,
            "patch",
            "rollouts.sluice.dev",
            FLEET,
            "--type=merge",
            "-p",
            &patch,
        ];
        self.world.kubectl(&patch).await?;
        Ok(())
    }

    /// Waits until nothing is in motion: earlier checks' namespaces are gone, and the fleet has followed.
    ///
    /// What a check made and took away at once may be most of what the fleet serves; that is consented to.
    pub(crate) async fn calm(&self) -> anyhow::Result<()> {
        self.world.others_gone().await;
        wait_until("the fleet to be at rest", PATIENCE, || async {
            self.at_rest().await.map_err(|error| format!("{error:#}"))
        })
        .await;
        Ok(())
    }

    async fn at_rest(&self) -> anyhow::Result<()> {
        if let Some(token) = self.wants_consent().await? {
            let consent = format!("sluice.dev/consent-removal={token}");
            let annotate = [
                "-n",
                NAMESPACE,
                "annotate",
                "rollouts.sluice.dev",
                FLEET,
                "--overwrite",
                &consent,
            ];
            self.world.kubectl(&annotate).await?;
        }
        let standing = self.standing().await?;
        let instances = &standing["instances"];
        let idle = ["Idle", "RolledBack"].iter().any(|phase| standing["phase"] == *phase);
        let all = instances["acknowledged"] == instances["total"] && instances["total"] != 0;
        anyhow::ensure!(idle && all && standing["queuedRevision"].is_null(), "{standing:#}");
        // Whoever gives a command is asked which revision it is about, and takes it from there.
        let (shown, target) = (self.rollout().await?, &standing["targetRevision"]);
        let shown = &shown["status"]["targetRevision"];
        anyhow::ensure!(shown == target, "the Rollout shows {shown}, and {target} is served");
        Ok(())
    }

    /// The token of a removal that waits for somebody to say that it is meant.
    async fn wants_consent(&self) -> anyhow::Result<Option<String>> {
        let problems = self.world.view(&self.find_leader().await?, "/api/v2/problems").await?;
        let text = problems.to_string().replace("\\\"", "\"");
        let after = text
            .split_once("sluice.dev/consent-removal: \"")
            .map(|(_, after)| after);
        Ok(after.and_then(|after| after.split('"').next()).map(str::to_owned))
    }

    /// Waits until every instance serves only what is stable, of this content, and nothing is tried.
    pub(crate) async fn settled(&self) -> Value {
        self.stands("the fleet to be idle", |standing| standing["phase"] == "Idle")
            .await
    }

    /// Waits until every instance answers for this host out of this backend.
    pub(crate) async fn every_instance_answers(&self, host: &str, backend: &str) -> anyhow::Result<()> {
        for pod in self.gateways().await? {
            let (address, what) = (pod.at(HTTP)?, format!("{} to answer {host} by {backend}", pod.name));
            wait_until(&what, PATIENCE, || async {
                let answer = client::get(address, host, "/")
                    .await
                    .map_err(|error| format!("{error:#}"))?;
                let right = answer.status == 200 && answer.header(VERSION_HEADER) == backend;
                if right { Ok(()) } else { Err(format!("{answer:?}")) }
            })
            .await;
        }
        Ok(())
    }
}

/// The members of the stage, as the leader tells them.
pub(crate) fn members(standing: &Value) -> BTreeSet<String> {
    let members = standing["stage"]["members"].as_array();
    let names = members.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}
