//! The API server away, and standing still: everything is served all the time, a container that is killed meanwhile
//! comes back out of what it has on disk, and afterwards nobody has missed anything.

use std::time::Duration;

use anyhow::{Context, ensure};
use sluice_e2e::client;
use sluice_e2e::load::Plan;
use sluice_e2e::wait::wait_until;
use tokio::time::{Instant, sleep};

use super::served::Served;
use crate::backend::Backend;
use crate::node::{Frozen, Process};
use crate::pods::Pod;
use crate::sluice::{HTTP, PATIENCE, Sluice};
use crate::traffic::Traffic;
use crate::world::World;

/// From the start of its process to the first answer of a container that knows only what is on disk.
const FROM_DISK: Duration = Duration::from_secs(1);
/// From a change, made as soon as the API server is back, to its first answer.
const LIVE_WITHIN: Duration = Duration::from_secs(10);
/// Requests a second all the while.
const PER_SECOND: u32 = 100;

/// Stopped, then frozen.
pub(crate) async fn served(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    for name in ["after-stop", "after-freeze"] {
        Backend::new(&namespace, name).deploy(world).await?;
    }
    let doomed = Backend::new(&namespace, "doomed").deploy(world).await?;
    Served::with(world, &namespace, "doomed", doomed).await?;
    let shop = Served::start(world, &namespace, "shop").await?;
    sluice.calm().await?;
    stopped(world, sluice, &shop).await?;
    frozen(world, sluice, &shop).await
}

/// Stopped; a container is killed while it is away, and a route is deleted while the controllers do not look.
async fn stopped(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    // Whom to kill and to freeze has to be asked while there is somebody to ask.
    let mut controllers = Vec::new();
    for pod in sluice.controllers().await? {
        controllers.push(world.process(pod.container()?).await?);
    }
    let gateways = sluice.gateways().await?;
    let [victim, others @ ..] = gateways.as_slice() else {
        anyhow::bail!("a gateway has pods")
    };
    let victims = world.process(victim.container()?).await?;
    let other = others.first().context("a gateway has several pods")?;
    let traffic = Traffic::start("api-stopped", shop.plan(sluice, PER_SECOND).await?);
    let (began, long) = (Instant::now(), Duration::from_secs(world.by_form(20, 300)));
    world.part("stop", "apiserver").await?;
    sleep(long.saturating_sub(began.elapsed())).await;
    let seen = traffic.stop().await;
    seen.answered_by(world, &["shop"])?;
    world.figure(format!(
        "API server stopped for {} s: {} requests, 0 failed",
        long.as_secs(),
        seen.count()
    ));

    // By the Service some requests would meet the container that is down, which nobody can tell kube-proxy.
    let traffic = Traffic::start(
        "beside-the-killed",
        Plan::new(other.at(HTTP)?, &shop.host, "/", PER_SECOND),
    );
    let took = back_from_disk(world, victim, victims, &shop.host).await?;
    world.figure(format!(
        "killed meanwhile: the first answer {} ms after its start",
        took.as_millis()
    ));
    ensure!(took <= FROM_DISK, "the container answered {took:?} after its start");
    traffic.stop().await.answered_by(world, &["shop"])?;

    unseen_deletion(world, sluice, shop, &controllers).await
}

/// Kills the instance's process, and waits until a new one answers; gives how long after its start.
async fn back_from_disk(world: &World, pod: &Pod, before: Process, host: &str) -> anyhow::Result<Duration> {
    let network = before.network()?;
    before.kill()?;
    let address = pod.at(HTTP)?;
    let answers = async || {
        client::get(address, host, "/")
            .await
            .is_ok_and(|answer| answer.status == 200)
    };
    wait_until("the killed process to be gone", PATIENCE, || async {
        if answers().await { Err("it answers") } else { Ok(()) }
    })
    .await;
    wait_until("an answer out of what is on disk", PATIENCE, || async {
        if answers().await { Ok(()) } else { Err("no answer") }
    })
    .await;
    let answered = Instant::now();
    let now = world.youngest(network).await?;
    ensure!(now != before, "the process was not killed");
    Ok(now.age()?.saturating_sub(answered.elapsed()))
}

/// The API server comes back while the controllers stand still, and etcd forgets what they saw last: they have to list
/// anew, and must notice that a route is gone that was deleted meanwhile.
async fn unseen_deletion(
    world: &World,
    sluice: Sluice<'_>,
    shop: &Served,
    controllers: &[Process],
) -> anyhow::Result<()> {
    let still: Vec<Frozen> = controllers
        .iter()
        .map(|process| process.freeze())
        .collect::<Result<_, _>>()?;
    world.part("start", "apiserver").await?;
    world.api_server_is_back().await;
    let delete = [
        "-n",
        &shop.namespace,
        "delete",
        "proxyroutes.sluice.dev/doomed",
        "--wait=true",
    ];
    world.kubectl(&delete).await?;
    world.compact().await?;
    drop(still);
    let began = Instant::now();
    world.apply(&shop.namespace, &[shop.pool_of("after-stop")]).await?;
    first_answer_by(sluice, shop, "after-stop").await?;
    let took = began.elapsed();
    world.figure(format!("a change at once: live after {:.1} s", took.as_secs_f64()));
    ensure!(took <= LIVE_WITHIN, "a change was live {took:?} after it was made");
    let doomed = format!("doomed.{}.example.com", shop.namespace);
    gone(sluice, &doomed).await
}

/// Waits until any instance answers out of this backend: the first stage has it.
async fn first_answer_by(sluice: Sluice<'_>, shop: &Served, backend: &str) -> anyhow::Result<()> {
    let address = sluice.address().await?;
    wait_until("the change to be served", PATIENCE, || async {
        let answer = client::get(address, &shop.host, "/")
            .await
            .map_err(|error| format!("{error:#}"))?;
        let by = answer.header(sluice_cli::demo_upstream::VERSION_HEADER);
        if by == backend {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    Ok(())
}

/// Waits until no instance has a route for this host.
async fn gone(sluice: Sluice<'_>, host: &str) -> anyhow::Result<()> {
    for pod in sluice.gateways().await? {
        let address = pod.at(HTTP)?;
        wait_until("the deleted route to be gone", PATIENCE, || async {
            let answer = client::get(address, host, "/")
                .await
                .map_err(|error| format!("{error:#}"))?;
            if answer.status == 404 {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        })
        .await;
    }
    Ok(())
}

/// Frozen: connections stay open and nothing is answered, which is the worse of the two.
async fn frozen(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    sluice.calm().await?;
    let traffic = Traffic::start("api-frozen", shop.plan(sluice, PER_SECOND).await?);
    let long = Duration::from_secs(world.by_form(20, 300));
    world.part("freeze", "apiserver").await?;
    sleep(long).await;
    world.part("thaw", "apiserver").await?;
    world.api_server_is_back().await;
    let began = Instant::now();
    world.apply(&shop.namespace, &[shop.pool_of("after-freeze")]).await?;
    first_answer_by(sluice, shop, "after-freeze").await?;
    let took = began.elapsed();
    let seen = traffic.stop().await;
    seen.answered_by(world, &["after-stop", "after-freeze"])?;
    world.figure(format!(
        "API server frozen for {} s: {} requests, 0 failed; a change at once live after {:.1} s",
        long.as_secs(),
        seen.count(),
        took.as_secs_f64()
    ));
    ensure!(took <= LIVE_WITHIN, "a change was live {took:?} after it was made");
    sluice.calm().await
}
