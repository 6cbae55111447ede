//! Very many routes: how long they take, what they cost, and that one change among them is as quick as among few.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_cli::demo_upstream::VERSION_HEADER;
use sluice_e2e::client;
use sluice_e2e::wait::wait_until;
use tokio::time::Instant;

use super::crowd::Crowd;
use super::served::Served;
use crate::backend::Backend;
use crate::node::Process;
use crate::objects;
use crate::sluice::{NAMESPACE, Sluice};
use crate::world::World;

/// Until all are served.
const PATIENCE: Duration = Duration::from_secs(900);
/// From a change of one route to its first answer from the first stage, for 19 of 20: the machine has other work too.
const SERVED_WITHIN: Duration = Duration::from_secs(1);
/// From the last change until old revisions are gone.
const PRUNED_WITHIN: Duration = Duration::from_secs(60);
/// What one change may add to etcd.
const GROWTH_MAX: u64 = 100 * 1024;
/// Revisions that are kept, as the shared installation's Rollout says by default, and those that serve or wait.
const KEPT_MAX: usize = 10 + 4;
const MIB: f64 = 1024.0 * 1024.0;

/// Routes, then changes.
pub(crate) async fn many(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    Backend::new(&namespace, "other").replicas(2).deploy(world).await?;
    let shop = Served::start(world, &namespace, "shop").await?;
    world.apply(&namespace, &[objects::pool("other", "other")]).await?;
    sluice.calm().await?;
    let crowd = Crowd {
        namespace: &namespace,
        name: "scale",
        count: world.by_form(1_000, 10_000),
        pool: "shop",
    };
    let before = memory(world, sluice).await?;
    served(world, sluice, &crowd).await?;
    let after = memory(world, sluice).await?;
    world.figure(format!(
        "memory: controller {:.0}→{:.0} MiB, instance {:.0}→{:.0} MiB",
        before.0 / MIB,
        after.0 / MIB,
        before.1 / MIB,
        after.1 / MIB
    ));
    // A change is judged by what it costs, not by how long its stages are.
    let stages = json!([
        {"name": "canary", "fleetPercent": 34, "bakeTime": "0s"},
        {"name": "all", "fleetPercent": 100, "bakeTime": "0s"},
    ]);
    sluice.edit(&json!({"stages": stages})).await?;
    changes(world, sluice, &crowd).await?;
    let values = crate::install::values(world);
    sluice.edit(&json!({"stages": values["rollout"]["stages"]})).await?;
    world
        .kubectl(&[
            "-n",
            &shop.namespace,
            "delete",
            "proxyroutes.sluice.dev",
            "--all",
            "--wait=false",
        ])
        .await?;
    Ok(())
}

/// Creates them, and waits until all are answered for by every instance, and say so.
async fn served(world: &World, sluice: Sluice<'_>, crowd: &Crowd<'_>) -> anyhow::Result<()> {
    let began = Instant::now();
    crowd.create(world).await?;
    let created = began.elapsed();
    // Every instance is asked as often as any other: a stage that gets none of the load would be taken for a dead one.
    let mut asked = Vec::new();
    for address in addresses(sluice).await? {
        let some = [0, crowd.count / 2, crowd.count - 1].map(|number| (address, crowd.host(number)));
        asked.extend(some);
    }
    wait_until("the routes to be served", PATIENCE, || async {
        let mut missing = Ok(());
        for (address, host) in &asked {
            match client::get(*address, host, "/").await {
                Ok(answer) if answer.status == 200 => {}
                other => missing = Err(format!("{host} at {address}: {other:?}")),
            }
        }
        missing
    })
    .await;
    let served = began.elapsed();
    crowd.all_programmed(world, PATIENCE).await?;
    world.figure(format!(
        "{} routes: created in {:.0} s, served by all {:.0} s after the first was created, each says so after {:.0} s",
        crowd.count,
        created.as_secs_f64(),
        served.as_secs_f64(),
        began.elapsed().as_secs_f64()
    ));
    sluice.calm().await
}

/// Where each instance answers.
async fn addresses(sluice: Sluice<'_>) -> anyhow::Result<Vec<SocketAddr>> {
    let gateways = sluice.gateways().await?;
    gateways.iter().map(|pod| pod.at(crate::sluice::HTTP)).collect()
}

/// Memory of the leader and of an instance, in bytes.
async fn memory(world: &World, sluice: Sluice<'_>) -> anyhow::Result<(f64, f64)> {
    let leader = world.process(sluice.leader().await.container()?).await?;
    let gateways = sluice.gateways().await?;
    let instance = world
        .process(gateways.first().context("a gateway has pods")?.container()?)
        .await?;
    let of = |process: Process| process.memory().map(|bytes| bytes as f64);
    Ok((of(leader)?, of(instance)?))
}

/// One route after another to the other backend.
async fn changes(world: &World, sluice: Sluice<'_>, crowd: &Crowd<'_>) -> anyhow::Result<()> {
    let changes = world.by_form(20, 200);
    let (mut took, mut growth) = (Vec::new(), 0);
    for number in 0..changes {
        // Looked at each time: the API server has etcd forget every few minutes, and what that frees is not to count.
        let before = world.etcd_size().await?;
        took.push(change(world, sluice, crowd, number % crowd.count).await?);
        sluice.settled().await;
        growth += world.etcd_size().await?.in_use.saturating_sub(before.in_use);
    }
    let growth = growth / changes as u64;
    took.sort();
    let of = |percent: usize| took.get((took.len() * percent).div_ceil(100).saturating_sub(1));
    let of = |percent| of(percent).copied().context("nothing was changed");
    let (half, most, all) = (of(50)?, of(95)?, of(100)?);
    world.figure(format!(
        "{changes} changes of one route: half in the first stage within {half:.0?}, 95 % within {most:.0?}, all within \
         {all:.0?}; etcd {:.1} KiB each",
        growth as f64 / 1024.0
    ));
    ensure!(
        most <= SERVED_WITHIN,
        "of the changes one in twenty took more than {most:?} to be in the first stage"
    );
    ensure!(growth <= GROWTH_MAX, "a change adds {growth} bytes to etcd");
    pruned(world).await
}

/// Waits until old revisions are gone: they go when nothing else happens.
async fn pruned(world: &World) -> anyhow::Result<()> {
    let began = Instant::now();
    let manifests = ["-l", "sluice.dev/part=manifest", "-o", "name"];
    wait_until("old revisions to go", PRUNED_WITHIN, || async {
        let mut list = vec!["-n", NAMESPACE, "get", "configmaps"];
        list.extend(manifests);
        let list = world.kubectl(&list).await.map_err(|error| format!("{error:#}"))?;
        match list.lines().count() {
            kept if kept <= KEPT_MAX => Ok(()),
            kept => Err(format!("{kept} are kept")),
        }
    })
    .await;
    world.figure(format!(
        "old revisions gone {:.0} s later",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// From the change to the first answer by the other backend, of whichever instance is first.
async fn change(world: &World, sluice: Sluice<'_>, crowd: &Crowd<'_>, number: usize) -> anyhow::Result<Duration> {
    let addresses = addresses(sluice).await?;
    let api = objects::api(world.client(), "ProxyRoute", crowd.namespace);
    let (name, host) = (crowd.route(number), crowd.host(number));
    let rules = objects::route(&name, &host, "other")["spec"]["rules"].clone();
    let began = Instant::now();
    api.patch(
        &name,
        &PatchParams::default(),
        &Patch::Merge(json!({"spec": {"rules": rules}})),
    )
    .await?;
    wait_until("the change in the first stage", PATIENCE, || async {
        for address in &addresses {
            let answer = client::get(*address, &host, "/")
                .await
                .map_err(|error| format!("{error:#}"))?;
            if answer.header(VERSION_HEADER) == "other" {
                return Ok(());
            }
        }
        Err("no instance has it".to_owned())
    })
    .await;
    Ok(began.elapsed())
}
