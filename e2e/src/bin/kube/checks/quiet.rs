//! What the controller writes: nothing when nothing happens, one status for each object that is new, none for objects
//! that stay where they are, and nothing of what others wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_model::limits::EVENT_REPEAT_MS;
use tokio::time::{Instant, sleep};

use super::crowd::Crowd;
use super::restarts;
use super::served::Served;
use crate::audit::{AuditLog, Entry};
use crate::install::GATEWAYS;
use crate::objects;
use crate::sluice::{CONTROLLER_USER, GATEWAY, NAMESPACE, Sluice};
use crate::world::World;

/// What may be written although nothing happens: who leads, and whether a token is genuine.
const ALLOWED: [&str; 2] = ["leases", "tokenreviews"];
/// Routes made at once.
const ROUTES: usize = 1_000;
/// Status writes for them: one each, and a few for what happened meanwhile.
const WRITES_MAX: usize = 1_050;
/// So long nothing is written once everything is told: longer than any status waits for more to go with it, but for
/// figures, and longer than an Event waits to be counted on.
const REST: Duration = Duration::from_millis(EVENT_REPEAT_MS + 5_000);
/// Until that is so.
const REST_PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// Until all of them are programmed, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Instances after scaling.
const MORE: usize = GATEWAYS + 2;
/// A condition that is not ours, and whose it is.
const FOREIGN: &str = "example.com/Reviewed";

/// At rest, with many new routes, and then while everything else changes.
pub(crate) async fn nothing_to_say(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let shop = Served::start(world, &namespace, "shop").await?;
    foreign_condition(world, &namespace).await?;
    sluice.calm().await?;
    at_rest(world).await?;
    many(world, sluice, &namespace).await?;
    // Statuses follow within a second or two; what comes later would be counted below.
    sleep(Duration::from_secs(5)).await;
    moved(world, sluice).await?;
    let route = world.object("ProxyRoute", &shop.namespace, &shop.name).await?;
    ensure!(
        objects::condition(&route, FOREIGN).is_some(),
        "the foreign condition is gone: {:#}",
        route["status"]
    );
    remove(world, sluice, &namespace).await
}

fn audit(world: &World) -> anyhow::Result<AuditLog> {
    world.audit().context("our own cluster")?.again_from_now()
}

/// Writes of the controller, by resource, without those that are always there.
fn written(audit: &AuditLog) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for entry in audit.of(CONTROLLER_USER)?.into_iter().filter(Entry::is_write) {
        let resource = entry.resource();
        if !ALLOWED.contains(&resource.as_str()) {
            *counts.entry(format!("{} {resource}", entry.verb)).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Waits until what happened before is told: the last news of a rollout follow its end by seconds, the counts of its
/// Events by up to a minute.
async fn all_is_told(world: &World) -> anyhow::Result<()> {
    let (mut quiet, began) = (audit(world)?, Instant::now());
    let (mut since, mut last) = (began, BTreeMap::new());
    while since.elapsed() < REST {
        ensure!(
            began.elapsed() < REST_PATIENCE,
            "it never rests for {REST:?}: last this was written: {last:?}"
        );
        sleep(LOOK).await;
        let written = written(&quiet)?;
        if !written.is_empty() {
            (quiet, since, last) = (audit(world)?, Instant::now(), written);
        }
    }
    Ok(())
}

async fn at_rest(world: &World) -> anyhow::Result<()> {
    all_is_told(world).await?;
    let (audit, long) = (audit(world)?, world.by_form(60, 300));
    sleep(Duration::from_secs(long)).await;
    let written = written(&audit)?;
    ensure!(
        written.is_empty(),
        "idle for {long} s, and this was written: {written:?}"
    );
    world.figure(format!("idle for {long} s: 0 writes but leases"));
    Ok(())
}

/// A thousand routes, each of which gets its status once.
async fn many(world: &World, sluice: Sluice<'_>, namespace: &str) -> anyhow::Result<()> {
    let (audit, began) = (audit(world)?, Instant::now());
    let crowd = Crowd {
        namespace,
        name: "quiet",
        count: ROUTES,
        pool: "shop",
    };
    crowd.create(world).await?;
    let created = began.elapsed();
    crowd.all_programmed(world, PATIENCE).await?;
    let took = began.elapsed();
    sluice.settled().await;
    sleep(Duration::from_secs(2)).await;
    let all = written(&audit)?;
    let statuses = all.get("patch proxyroutes/status").copied().unwrap_or_default();
    world.say(&format!("written meanwhile: {all:?}"));
    ensure!(statuses <= WRITES_MAX, "{statuses} status writes for {ROUTES} routes");
    world.figure(format!(
        "{ROUTES} routes created in {:.0} s, programmed after {:.0} s: {statuses} status writes",
        created.as_secs_f64(),
        took.as_secs_f64()
    ));
    Ok(())
}

/// The controller restarts and the gateway grows and shrinks: no route has moved, so none is written about.
async fn moved(world: &World, sluice: Sluice<'_>) -> anyhow::Result<()> {
    let audit = audit(world)?;
    world.restart(NAMESPACE, "deployment/sluice-controller").await?;
    for count in [MORE, GATEWAYS] {
        let (gateway, replicas) = (restarts::gateway(world).await?, format!("--replicas={count}"));
        world.kubectl(&["-n", NAMESPACE, "scale", &gateway, &replicas]).await?;
        world.ready_pods(NAMESPACE, GATEWAY, count).await;
        sluice.settled().await;
    }
    sleep(Duration::from_secs(3)).await;
    let all = written(&audit)?;
    let about_objects = all
        .iter()
        .filter(|(what, _)| what.contains("proxyroutes") || what.contains("pools"));
    let about_objects: Vec<_> = about_objects.collect();
    world.say(&format!("written meanwhile: {all:?}"));
    ensure!(about_objects.is_empty(), "nothing moved, and this was written: {all:?}");
    world.figure(format!(
        "controller restarted, gateway {GATEWAYS}→{MORE}→{GATEWAYS}: 0 writes about routes"
    ));
    Ok(())
}

/// Somebody else's condition, with a field manager of its own.
async fn foreign_condition(world: &World, namespace: &str) -> anyhow::Result<()> {
    let condition = json!({
        "type": FOREIGN,
        "status": "True",
        "reason": "Reviewed",
        "message": "by somebody",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({
        "apiVersion": sluice_crds::API_VERSION,
        "kind": "ProxyRoute",
        "metadata": {"name": "shop"},
        "status": {"conditions": [condition]},
    });
    let api = objects::api(world.client(), "ProxyRoute", namespace);
    api.patch_status("shop", &PatchParams::apply("reviewer"), &Patch::Apply(status))
        .await?;
    Ok(())
}

/// Most of what the fleet serves goes at once, which has to be consented to.
async fn remove(world: &World, sluice: Sluice<'_>, namespace: &str) -> anyhow::Result<()> {
    world
        .kubectl(&[
            "-n",
            namespace,
            "delete",
            "proxyroutes.sluice.dev",
            "--all",
            "--wait=false",
        ])
        .await?;
    sleep(Duration::from_secs(2)).await;
    sluice.calm().await
}
