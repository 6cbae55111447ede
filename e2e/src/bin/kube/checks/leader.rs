//! What happens to a rollout, and to requests, when the controller that leads goes away: killed, stopped, or frozen and
//! back when another leads.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use sluice_e2e::wait::wait_until;
use tokio::time::{Instant, sleep};

use super::served::Served;
use crate::backend::Backend;
use crate::pods::Pod;
use crate::sluice::{CONTROLLER, CONTROLLER_USER, NAMESPACE, PATIENCE, Sluice, members};
use crate::traffic::Traffic;
use crate::world::World;

/// How long a lease lasts, and what a follower may need after it: then a rollout goes on.
const TAKEOVER: Duration = Duration::from_secs(10 + 5);
/// A clean stop gives the lease back.
const HANDOVER: Duration = Duration::from_secs(3);
/// What was observed is recorded this often; a kill may lose as much.
const RECORDED_EVERY_MS: u64 = 1_000;
/// Requests a second meanwhile.
const PER_SECOND: u32 = 100;

/// A rollout in the middle of a bake that no check waits for.
struct Baking<'a> {
    sluice: Sluice<'a>,
    shop: Served,
    traffic: Traffic,
}

impl<'a> Baking<'a> {
    async fn start(world: &'a World) -> anyhow::Result<Self> {
        let sluice = world.sluice().await?;
        let namespace = world.namespace("a").await?;
        Backend::new(&namespace, "next").replicas(2).deploy(world).await?;
        let shop = Served::start(world, &namespace, "shop").await?;
        sluice.calm().await?;
        let stages = json!([
            {"name": "canary", "fleetPercent": 34, "bakeTime": "1h"},
            {"name": "all", "fleetPercent": 100, "bakeTime": "1s"},
        ]);
        sluice.edit(&json!({"stages": stages})).await?;
        let traffic = Traffic::start("all-the-while", shop.plan(sluice, PER_SECOND).await?);
        world.apply(&namespace, &[shop.pool_of("next")]).await?;
        let baking = Self { sluice, shop, traffic };
        baking.baked(2 * RECORDED_EVERY_MS).await;
        Ok(baking)
    }

    /// Waits until so much has been observed.
    async fn baked(&self, ms: u64) -> Value {
        let what = format!("{ms} ms of bake");
        self.sluice
            .stands(&what, |standing| {
                standing["phase"] == "Baking" && observed(standing) >= ms
            })
            .await
    }

    /// Where the fleet stands, as the first answer of another leader than `before` tells it.
    async fn under_another(&self, before: &Pod) -> Value {
        wait_until("another leader", PATIENCE, || async {
            let attempt = async {
                let leader = self.sluice.holder().await?;
                ensure!(!leader.is_empty() && !leader.contains(&before.name), "{leader} leads");
                let standing = self.sluice.standing().await?;
                ensure!(standing["stage"].is_object(), "{standing:#}");
                Ok(standing)
            };
            attempt.await.map_err(|error| format!("{error:#}"))
        })
        .await
    }

    /// Nothing was lost meanwhile; the change is taken back, and stages are short again.
    async fn end(self, world: &World) -> anyhow::Result<()> {
        let seen = self.traffic.stop().await;
        world.apply(&self.shop.namespace, &[self.shop.pool_of("shop")]).await?;
        let values = crate::install::values(world);
        self.sluice
            .edit(&json!({"stages": values["rollout"]["stages"]}))
            .await?;
        self.sluice.calm().await?;
        seen.answered_by(world, &["shop", "next"])?;
        world.figure(format!("{} requests, 0 failed", seen.count()));
        Ok(())
    }
}

/// Milliseconds of bake.
fn observed(standing: &Value) -> u64 {
    standing["stage"]["observedMs"].as_u64().unwrap_or_default()
}

/// The same rollout, as far as it was.
fn goes_on(before: &Value, after: &Value) -> anyhow::Result<()> {
    let place = |standing: &Value| [standing["targetRevision"].clone(), standing["stage"]["index"].clone()];
    ensure!(
        place(before) == place(after),
        "another rollout or stage: {before:#} {after:#}"
    );
    ensure!(members(before) == members(after), "other members: {before:#} {after:#}");
    let (had, has) = (observed(before), observed(after));
    ensure!(
        has + RECORDED_EVERY_MS >= had,
        "{had} ms were observed, {has} ms are remembered"
    );
    Ok(())
}

/// Killed without a word, in the middle of a bake, again and again.
pub(crate) async fn killed(world: &World) -> anyhow::Result<()> {
    let baking = Baking::start(world).await?;
    let (kills, mut slowest) = (world.by_form(2, 10), Duration::ZERO);
    for _ in 0..kills {
        let before = baking.sluice.standing().await?;
        let leader = baking.sluice.leader().await;
        let began = Instant::now();
        world.kill(&leader).await?;
        let after = baking.under_another(&leader).await;
        let took = began.elapsed();
        slowest = slowest.max(took);
        ensure!(took <= TAKEOVER, "another led only after {took:?}");
        goes_on(&before, &after)?;
        // It bakes, not only remembers.
        baking.baked(observed(&after) + 2 * RECORDED_EVERY_MS).await;
        world.ready_pods(NAMESPACE, CONTROLLER, 2).await;
    }
    world.figure(format!(
        "{kills} kills, back after {:.1} s at most",
        slowest.as_secs_f64()
    ));
    baking.end(world).await
}

/// Stopped as an upgrade or a drain stops it.
pub(crate) async fn stopped(world: &World) -> anyhow::Result<()> {
    let baking = Baking::start(world).await?;
    let (stops, mut slowest) = (world.by_form(2, 10), Duration::ZERO);
    for _ in 0..stops {
        let before = baking.sluice.standing().await?;
        let leader = baking.sluice.leader().await;
        let began = Instant::now();
        world
            .kubectl(&["-n", NAMESPACE, "delete", "pod", &leader.name, "--wait=false"])
            .await?;
        wait_until("the lease to be handed over", PATIENCE, || async {
            let holder = baking.sluice.holder().await.map_err(|error| format!("{error:#}"))?;
            let other = !holder.is_empty() && !holder.contains(&leader.name);
            if other { Ok(()) } else { Err(holder) }
        })
        .await;
        let took = began.elapsed();
        slowest = slowest.max(took);
        ensure!(took <= HANDOVER, "the lease was handed over after {took:?}");
        goes_on(&before, &baking.under_another(&leader).await)?;
        world.ready_pods(NAMESPACE, CONTROLLER, 2).await;
    }
    world.figure(format!(
        "{stops} stops, handed over in {:.1} s at most",
        slowest.as_secs_f64()
    ));
    baking.end(world).await
}

/// Frozen until another leads, then thawed: what it still believes changes nothing.
pub(crate) async fn frozen(world: &World) -> anyhow::Result<()> {
    let baking = Baking::start(world).await?;
    let before = baking.sluice.standing().await?;
    let leader = baking.sluice.leader().await;
    let began = Instant::now();
    let still = world.process(leader.container()?).await?.freeze()?;
    let after = baking.under_another(&leader).await;
    let took = began.elapsed();
    ensure!(took <= TAKEOVER, "another led only after {took:?}");
    goes_on(&before, &after)?;
    // Longer would be a minute of failed liveness probes, and the end of the process.
    let long = world.by_form(Duration::from_secs(20), Duration::from_secs(55));
    sleep(long.saturating_sub(began.elapsed())).await;
    let audit = world.audit().expect("our own cluster").again_from_now()?;
    drop(still);
    sleep(Duration::from_secs(10)).await;
    let mut attempts = 0;
    for entry in audit.of(CONTROLLER_USER)? {
        let of_leader = entry.pod() == leader.name && entry.is_write() && entry.resource() != "tokenreviews";
        attempts += usize::from(of_leader);
        ensure!(!(of_leader && entry.succeeded()), "the thawed leader wrote: {entry:?}");
    }
    ensure!(
        !baking.sluice.holder().await?.contains(&leader.name),
        "the thawed leader leads again"
    );
    let restarts = |pods: &[Pod]| pods.iter().find(|pod| pod.name == leader.name).cloned();
    let now = restarts(&baking.sluice.controllers().await?);
    ensure!(
        now.is_some_and(|pod| pod.containers.values().all(|container| container.restarts == 0)),
        "the frozen process was ended, so nothing was proven"
    );
    world.figure(format!(
        "taken over after {:.1} s; thawed after {} s it tried {attempts} writes, none succeeded",
        took.as_secs_f64(),
        long.as_secs()
    ));
    goes_on(&after, &baking.sluice.standing().await?)?;
    baking.end(world).await
}
