//! `Programmed` is the truth: whoever has waited for it gets what was written, from every instance.

use std::time::Duration;

use anyhow::ensure;
use sluice_e2e::load::Plan;
use tokio::time::{Instant, sleep};

use super::served::Served;
use crate::backend::Backend;
use crate::objects::{self, says};
use crate::sluice::{HTTP, Sluice};
use crate::traffic::Traffic;
use crate::world::World;

/// Requests after the wait.
const REQUESTS: u64 = 1_000;
/// As fast as debug binaries on two cores answer without queues.
const PER_SECOND: u32 = 400;

/// A new route, a changed one, and one that an instance does not hear of.
pub(crate) async fn truth(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let other = Backend::new(&namespace, "other").replicas(2).deploy(world).await?;
    let shop = Served::start(world, &namespace, "shop").await?;
    all_right(world, sluice, "new-route", &shop.host, "shop").await?;
    for round in 0..world.by_form(1, 5) {
        let backend = if round % 2 == 0 { "other" } else { "shop" };
        let route = objects::route("shop", &shop.host, backend);
        world
            .apply(&namespace, &[objects::pool("other", "other"), route])
            .await?;
        world.programmed(&namespace, &["shop"]).await?;
        all_right(world, sluice, "changed-route", &shop.host, backend).await?;
    }
    world.figure(format!("{} requests after each wait, 0 wrong", REQUESTS));
    frozen(world, sluice, &namespace, other).await
}

/// The next thousand requests are answered by `backend`, most of them over new connections, so by every instance.
async fn all_right(
    world: &World,
    sluice: Sluice<'_>,
    name: &'static str,
    host: &str,
    backend: &str,
) -> anyhow::Result<()> {
    let mut plan = Plan::new(sluice.address().await?, host, "/", PER_SECOND);
    plan.new_connections_percent = 50;
    let traffic = Traffic::start(name, plan);
    traffic.reach(REQUESTS).await;
    traffic.stop().await.answered_by(world, &[backend])
}

/// One instance stands still: a new route is not said to be programmed before it is back.
async fn frozen(world: &World, sluice: Sluice<'_>, namespace: &str, backend: Backend) -> anyhow::Result<()> {
    let pods = sluice.gateways().await?;
    let pod = pods.first().expect("a gateway has pods");
    let still = world.process(pod.container()?).await?.freeze()?;
    let late = Served {
        namespace: namespace.to_owned(),
        name: "other".to_owned(),
        host: "late.example.com".to_owned(),
        backend,
    };
    world.apply(namespace, &late.objects()).await?;
    // Longer than a silent instance counts as reachable is the full form's.
    let (began, long) = (
        Instant::now(),
        world.by_form(Duration::from_secs(12), Duration::from_secs(45)),
    );
    while began.elapsed() < long {
        let route = world.object("ProxyRoute", namespace, "other").await?;
        ensure!(
            !says(&route, "Programmed", "True"),
            "programmed while {} stands still: {:#}",
            pod.name,
            route["status"]
        );
        sleep(Duration::from_millis(200)).await;
    }
    drop(still);
    let thawed = Instant::now();
    world.programmed(namespace, &["other"]).await?;
    world.figure(format!(
        "programmed {:.1} s after the thaw",
        thawed.elapsed().as_secs_f64()
    ));
    // Straight to the one that stood still: by the Service others would answer.
    let traffic = Traffic::start("thawed", Plan::new(pod.at(HTTP)?, &late.host, "/", PER_SECOND));
    traffic.reach(REQUESTS).await;
    traffic.stop().await.answered_by(world, &["other"])
}
