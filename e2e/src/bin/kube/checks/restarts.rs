//! Rolling restarts under load, of the gateway and of a backend: kept connections, new ones and slow answers, and no
//! request fails. A pod without a verified revision gets none.

use std::time::Duration;

use anyhow::{Context, ensure};
use sluice_e2e::load::Plan;
use sluice_e2e::{client, wait};
use tokio::time::{Instant, sleep};

use super::served::Served;
use crate::backend::Backend;
use crate::install::GATEWAYS;
use crate::objects;
use crate::pods::Pod;
use crate::sluice::{CONTROLLER, GATEWAY, HEALTH, NAMESPACE, PATIENCE, Sluice};
use crate::traffic::{self, Traffic};
use crate::world::World;

/// How long the slow answers take: longer than a restart needs to notice, shorter than the drain.
const SLOW: &str = "1500ms";

/// All of it.
pub(crate) async fn nothing_is_lost(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let slow = Backend::new(&namespace, "slow")
        .taking(SLOW)
        .replicas(2)
        .apply(world)
        .await;
    slow?;
    let shop = Served::start(world, &namespace, "shop").await?;
    let rules = [("/", "shop"), ("/slow", "slow")];
    let both = objects::routes("shop", &shop.host, &rules);
    world.apply(&namespace, &[both, objects::pool("slow", "slow")]).await?;
    world.programmed(&namespace, &["shop"]).await?;
    let traffic = load(sluice, &shop.host).await?;
    let (rounds, requests) = world.by_form((1, 0), (5, 50_000));
    for _ in 0..rounds {
        world.restart(NAMESPACE, &gateway(world).await?).await?;
        world.ready_pods(NAMESPACE, GATEWAY, GATEWAYS).await;
        shop.backend.restart(world).await?;
    }
    traffic::reach_together(&traffic, requests).await;
    let answered: u64 = traffic.iter().map(Traffic::answered).sum();
    for traffic in traffic {
        traffic.stop().await.answered_by(world, &["shop", "slow"])?;
    }
    world.figure(format!(
        "{rounds} restarts of gateway and backend each, {answered} requests, 0 failed"
    ));
    not_ready_too_early(world, sluice).await
}

/// Three loads, so that one kind does not hide in the average of another.
async fn load(sluice: Sluice<'_>, host: &str) -> anyhow::Result<[Traffic; 3]> {
    let address = sluice.address().await?;
    let plan = |path: &str, per_second, new_connections_percent| Plan {
        new_connections_percent,
        ..Plan::new(address, host, path, per_second)
    };
    Ok([
        Traffic::start("kept", plan("/", 100, 0)),
        Traffic::start("new", plan("/", 50, 100)),
        Traffic::start("slow", plan("/slow", 10, 20)),
    ])
}

/// What the gateway's pods belong to.
pub(crate) async fn gateway(world: &World) -> anyhow::Result<String> {
    let find = [
        "-n",
        NAMESPACE,
        "get",
        "deployments,daemonsets",
        "-l",
        GATEWAY,
        "-o",
        "name",
    ];
    let names = world.kubectl(&find).await?;
    names.lines().next().map(str::to_owned).context("no gateway")
}

/// With no controller to ask, a new pod has nothing, says so, and is sent nothing; with one it comes up.
async fn not_ready_too_early(world: &World, sluice: Sluice<'_>) -> anyhow::Result<()> {
    let scale = async |count: usize| {
        let replicas = format!("--replicas={count}");
        world
            .kubectl(&["-n", NAMESPACE, "scale", "deployment/sluice-controller", &replicas])
            .await
    };
    scale(0).await?;
    world.ready_pods(NAMESPACE, CONTROLLER, 0).await;
    let old = sluice.gateways().await?;
    let gone = old.first().context("a gateway has pods")?;
    world.kill(gone).await?;
    let fresh = fresh(sluice, &old).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        let pods = sluice.gateways().await?;
        let now = pods
            .iter()
            .find(|pod| pod.uid == fresh.uid)
            .context("the new pod is gone")?;
        ensure!(!now.ready, "{} is ready without a revision", now.name);
        sleep(Duration::from_millis(200)).await;
    }
    let said = client::get(fresh.at(HEALTH)?, "health", "/ready").await?;
    scale(2).await?;
    // A pod that was never there before cannot even enrol: that comes first, and the revision after it.
    ensure!(
        said.status == 503 && (said.body.contains("revision") || said.body.contains("not enrolled")),
        "{said:?}"
    );
    world.ready_pods(NAMESPACE, CONTROLLER, 2).await;
    world.ready_pods(NAMESPACE, GATEWAY, GATEWAYS).await;
    Ok(())
}

/// The pod that takes the place of one of these, when it runs.
async fn fresh(sluice: Sluice<'_>, old: &[Pod]) -> Pod {
    wait::wait_until("a new pod", PATIENCE, || async {
        let pods = sluice.gateways().await.map_err(|error| format!("{error:#}"))?;
        let new = pods.iter().find(|pod| old.iter().all(|old| old.uid != pod.uid));
        let runs =
            new.filter(|pod| pod.ip.is_some() && pod.container().is_ok_and(|container| !container.id.is_empty()));
        runs.cloned().ok_or(format!("{pods:?}"))
    })
    .await
}
