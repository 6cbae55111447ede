//! What the controller keeps is lost, or older than what instances have: they take new orders, in which nothing old is
//! replayed.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_e2e::client;
use sluice_e2e::wait::wait_until;

use super::served::Served;
use crate::backend::Backend;
use crate::objects::condition;
use crate::sluice::{FLEET, HEALTH, NAMESPACE, PATIENCE, Sluice};
use crate::traffic::Traffic;
use crate::world::World;

/// Requests a second all the while.
const PER_SECOND: u32 = 50;

/// The record deleted, the Rollout deleted and applied again, etcd brought back from an older copy.
pub(crate) async fn new_orders(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    for name in ["two", "three", "four"] {
        Backend::new(&namespace, name).deploy(world).await?;
    }
    let shop = Served::start(world, &namespace, "shop").await?;
    sluice.calm().await?;
    let traffic = Traffic::start("all-the-while", shop.plan(sluice, PER_SECOND).await?);
    record_deleted(world, sluice, &shop).await?;
    rollout_again(world, sluice, &shop).await?;
    let seen = traffic.stop().await;
    seen.answered_by(world, &["shop", "two", "three"])?;
    world.figure(format!("{} requests, 0 failed", seen.count()));
    older_etcd(world, sluice, &shop).await
}

/// The epoch of each instance, which may never decrease.
async fn epochs(sluice: Sluice<'_>) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut epochs = BTreeMap::new();
    for pod in sluice.gateways().await? {
        let metrics = client::get(pod.at(HEALTH)?, "health", "/metrics").await?.body;
        let epoch = client::metric(&metrics, "proxy_config_epoch", &[]).context("no epoch")?;
        epochs.insert(pod.name, epoch as u64);
    }
    Ok(epochs)
}

fn risen(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    for (pod, epoch) in before {
        let now = after.get(pod).with_context(|| format!("{pod} is gone"))?;
        ensure!(now > epoch, "{pod} was at epoch {epoch} and is at {now}");
    }
    Ok(())
}

async fn record_deleted(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    let before = epochs(sluice).await?;
    let record = format!("configmap/sluice-record-{FLEET}");
    world.kubectl(&["-n", NAMESPACE, "delete", &record]).await?;
    // The leader has it in memory; whoever leads next does not.
    world.kill(&sluice.leader().await).await?;
    world.apply(&shop.namespace, &[shop.pool_of("two")]).await?;
    sluice.every_instance_answers(&shop.host, "two").await?;
    sluice.calm().await?;
    world.kubectl(&["-n", NAMESPACE, "get", &record]).await?;
    risen(&before, &epochs(sluice).await?)
}

async fn rollout_again(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    let before = epochs(sluice).await?;
    let rollout = format!("rollouts.sluice.dev/{FLEET}");
    let written: Value =
        serde_json::from_str(&world.kubectl(&["-n", NAMESPACE, "get", &rollout, "-o", "json"]).await?)?;
    let mut again = written.clone();
    let metadata = &written["metadata"];
    let mut annotations = metadata["annotations"].clone();
    if let Some(annotations) = annotations.as_object_mut() {
        // A command that somebody gave is theirs: nobody applies it again in their name.
        annotations.retain(|name, _| !name.starts_with("sluice.dev/command"));
    }
    again["metadata"] = serde_json::json!({"name": FLEET, "labels": metadata["labels"], "annotations": annotations});
    again["status"].take();
    world.kubectl(&["-n", NAMESPACE, "delete", &rollout]).await?;
    sluice.every_instance_answers(&shop.host, "two").await?;
    without_rollout(world, sluice, shop).await?;
    world
        .kubectl_with(&again.to_string(), &["-n", NAMESPACE, "create", "-f", "-"])
        .await?;
    world.apply(&shop.namespace, &[shop.pool_of("three")]).await?;
    sluice.every_instance_answers(&shop.host, "three").await?;
    sluice.calm().await?;
    risen(&before, &epochs(sluice).await?)
}

/// What serves on says so: the route with its revision, and every instance with the reason why it is not let in.
async fn without_rollout(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    wait_until("the route to miss its Rollout", PATIENCE, || async {
        let route = world.object("ProxyRoute", &shop.namespace, &shop.name).await?;
        let programmed = condition(&route, "Programmed").context("no condition")?;
        ensure!(programmed["reason"] == "NoRollout", "{programmed:#}");
        ensure!(route["status"]["liveIn"].is_string(), "{:#}", route["status"]);
        anyhow::Ok(())
    })
    .await;
    let gateways = sluice.gateways().await?;
    wait_until("the instances not to be let in", PATIENCE, || async {
        let instances = world.view(&sluice.leader().await, "/api/v2/instances").await?;
        let listed = instances.as_array().context("no list")?;
        for pod in &gateways {
            let of_pod = |instance: &&Value| {
                let name = instance["instance"].as_str().unwrap_or_default();
                name.starts_with(&pod.name)
            };
            let instance = listed
                .iter()
                .find(of_pod)
                .with_context(|| format!("{} is not listed", pod.name))?;
            ensure!(instance["connected"] == false, "{instance:#}");
            let reason = instance["reason"].as_str().unwrap_or_default();
            ensure!(reason.contains("not let in"), "{instance:#}");
        }
        anyhow::Ok(())
    })
    .await;
    Ok(())
}

/// Objects and record are those of before; instances have been further. They follow the objects, by orders that are new.
async fn older_etcd(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    let copy = world.copy_of_etcd().await?;
    sluice.calm().await?;
    world.apply(&shop.namespace, &[shop.pool_of("four")]).await?;
    sluice.every_instance_answers(&shop.host, "four").await?;
    sluice.calm().await?;
    let before = epochs(sluice).await?;
    world.restore_etcd(copy).await?;
    sluice.every_instance_answers(&shop.host, "three").await?;
    sluice.calm().await?;
    let after = epochs(sluice).await?;
    risen(&before, &after)?;
    world.figure("etcd restored from an older copy: followed by new orders");
    // And it goes on from there.
    world.apply(&shop.namespace, &[shop.pool_of("two")]).await?;
    sluice.every_instance_answers(&shop.host, "two").await?;
    sluice.calm().await?;
    risen(&after, &epochs(sluice).await?)
}
