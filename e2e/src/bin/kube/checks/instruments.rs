//! What the checks under load stand on: that the load sees what goes wrong and nothing else, that a backend restarts
//! without losing a request, and that processes stand still and end when told.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use sluice_e2e::client;
use sluice_e2e::load::Plan;
use sluice_e2e::wait::wait_until;

use crate::backend::{Backend, PORT};
use crate::sluice::PATIENCE;
use crate::traffic::Traffic;
use crate::world::World;

const PER_SECOND: u32 = 100;

/// A backend by itself, without anything of ours in front.
pub(crate) async fn hold(world: &World) -> anyhow::Result<()> {
    let namespace = world.namespace("a").await?;
    let backend = Backend::new(&namespace, "alone").replicas(2).deploy(world).await?;
    let services: Api<Service> = Api::namespaced(world.client(), &namespace);
    let address = services
        .get("alone")
        .await?
        .spec
        .and_then(|spec| spec.cluster_ip)
        .context("no address")?;
    let service = SocketAddr::new(address.parse()?, 80);
    // Ready pods are in the Service a moment later.
    wait_until("the Service to answer", PATIENCE, || async {
        client::get(service, "alone", "/")
            .await
            .map_err(|error| format!("{error:#}"))
    })
    .await;
    let mut plan = Plan::new(service, "alone", "/", PER_SECOND);
    // A connection to a Service stays with its pod, whichever leaves; what is kept there is the gateway's business.
    plan.new_connections_percent = 100;
    let traffic = Traffic::start("restart", plan);
    traffic.reach(u64::from(PER_SECOND)).await;
    backend.restart(world).await?;
    let seen = traffic.stop().await;
    seen.answered_by(world, &["alone"])?;
    world.figure(format!("backend restarted: {} requests, 0 failed", seen.count()));

    let pods = backend.ready(world).await;
    let pod = pods.first().context("a backend has pods")?;
    let straight = pod.at(PORT)?;
    let process = world.process(pod.container()?).await?;
    let still = process.freeze()?;
    let mut plan = Plan::new(straight, "alone", "/", 10);
    plan.timeout = Duration::from_secs(1);
    let traffic = Traffic::start("frozen", plan);
    traffic.reach(10).await;
    let seen = traffic.stop().await;
    ensure!(
        seen.answered_by(world, &["alone"]).is_err(),
        "a process that stands still answers"
    );
    drop(still);
    wait_until("the thawed process to answer", PATIENCE, || async {
        client::get(straight, "alone", "/")
            .await
            .map_err(|error| format!("{error:#}"))
    })
    .await;
    world.kill(pod).await?;
    ensure!(
        client::get(straight, "alone", "/").await.is_err(),
        "a killed pod answers"
    );
    backend.ready(world).await;

    let before = world.etcd_size().await?.revision;
    world.compact().await?;
    ensure!(before > 0, "etcd has no revision");
    Ok(())
}
