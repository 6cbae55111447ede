//! Endpoints come and go with pods: at once, without a revision, and a sudden loss of most of them is doubted first.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_e2e::client;
use sluice_e2e::wait::wait_until;
use tokio::time::{Instant, interval, sleep};

use super::served::Served;
use crate::audit::Entry;
use crate::objects;
use crate::sluice::{CONTROLLER_USER, PATIENCE, Sluice};
use crate::world::World;

/// From an endpoint that is ready to its first request.
const USED_WITHIN: Duration = Duration::from_secs(1);
/// For how long the brake holds what is lost, as the Pool says.
const BRAKE: Duration = Duration::from_secs(6);
/// The addresses of the pool that loses most of them. Nobody answers there, and nobody asks.
const ADDRESSES: u8 = 10;
/// A thousand a minute.
const FLAP_EVERY: Duration = Duration::from_millis(60);
/// CPU that a thousand flaps a minute may cost, of one core: they are no reason to be late with anything else.
const CPU_MAX: f64 = 0.8;

/// Pods that come and go, then endpoints that nobody answers at.
pub(crate) async fn follow(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let mut shop = Served::start(world, &namespace, "shop").await?;
    endpoints_of_nobody(world, &namespace).await?;
    world.programmed(&namespace, &["many"]).await?;
    sluice.calm().await?;
    let before = revisions(sluice).await?;
    for _ in 0..2 {
        shop.backend.scale(world, 0).await?;
        empty(sluice, &shop.host).await?;
        shop.backend.scale(world, 3).await?;
        used_at_once(world, sluice, &shop).await?;
        shop.backend.ready(world).await;
    }
    brake(world, sluice, &namespace).await?;
    flaps(world, sluice, &namespace).await?;
    let after = revisions(sluice).await?;
    ensure!(before == after, "endpoints made a revision: {before} {after}");
    Ok(())
}

/// What a revision would change.
async fn revisions(sluice: Sluice<'_>) -> anyhow::Result<Value> {
    let standing = sluice.standing().await?;
    Ok(json!([
        standing["stableRevision"],
        standing["targetRevision"],
        standing["history"]
    ]))
}

/// A pool without endpoints says so, for as long as there are none.
async fn empty(sluice: Sluice<'_>, host: &str) -> anyhow::Result<()> {
    let address = sluice.address().await?;
    wait_until("an answer that there is no endpoint", PATIENCE, || async {
        let answer = client::get(address, host, "/")
            .await
            .map_err(|error| format!("{error:#}"))?;
        let said = answer.status == 503 && answer.body.contains("no_endpoint");
        if said { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    Ok(())
}

/// From the moment when the API server calls an endpoint ready, it is a second at most to the first answer.
async fn used_at_once(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    let address = sluice.address().await?;
    let ready = wait_until("a ready endpoint", PATIENCE, || async {
        let slices = slices(world, shop).await.map_err(|error| format!("{error:#}"))?;
        if any_ready(&slices) {
            Ok(Instant::now())
        } else {
            Err(format!("{slices:?}"))
        }
    });
    let used = wait_until("the first answer", PATIENCE, || async {
        let answer = client::get(address, &shop.host, "/")
            .await
            .map_err(|error| format!("{error:#}"))?;
        if answer.status == 200 {
            Ok(Instant::now())
        } else {
            Err(format!("{answer:?}"))
        }
    });
    let (ready, used) = tokio::join!(ready, used);
    let took = used.saturating_duration_since(ready);
    world.figure(format!("a ready endpoint used after {} ms", took.as_millis()));
    ensure!(took <= USED_WITHIN, "the endpoint was used {took:?} after it was ready");
    Ok(())
}

async fn slices(world: &World, shop: &Served) -> anyhow::Result<Vec<EndpointSlice>> {
    let api: Api<EndpointSlice> = Api::namespaced(world.client(), &shop.namespace);
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={}", shop.name));
    Ok(api.list(&of).await?.items)
}

fn any_ready(slices: &[EndpointSlice]) -> bool {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    endpoints
        .filter_map(|endpoint| endpoint.conditions.as_ref())
        .any(|conditions| conditions.ready == Some(true))
}

/// A Service without pods, whose endpoints are written by hand, behind a route.
async fn endpoints_of_nobody(world: &World, namespace: &str) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "many"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    let mut pool = objects::pool("many", "many");
    pool["spec"]["removalBrake"] = json!({"for": format!("{}s", BRAKE.as_secs())});
    let route = objects::route("many", "many.example.com", "many");
    world
        .apply(namespace, &[service, slice(ADDRESSES, true), pool, route])
        .await
}

/// Its endpoints: so many, the first of them ready or not.
fn slice(count: u8, first_ready: bool) -> Value {
    let endpoint = |number: u8| {
        let ready = number > 0 || first_ready;
        json!({"addresses": [format!("10.98.0.{}", number + 1)], "conditions": {"ready": ready}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "many", "labels": {"kubernetes.io/service-name": "many"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80}],
        "endpoints": (0..count).map(endpoint).collect::<Vec<_>>(),
    })
}

/// Nine of ten leave at once: they stay in rotation for as long as the Pool says.
async fn brake(world: &World, sluice: Sluice<'_>, namespace: &str) -> anyhow::Result<()> {
    in_rotation(world, sluice, namespace, usize::from(ADDRESSES)).await;
    world.apply(namespace, &[slice(1, true)]).await?;
    let began = Instant::now();
    while began.elapsed() < BRAKE / 2 {
        let there = rotation(world, sluice, namespace).await?;
        ensure!(
            there == usize::from(ADDRESSES),
            "{there} endpoints after {:?}",
            began.elapsed()
        );
        sleep(Duration::from_millis(200)).await;
    }
    in_rotation(world, sluice, namespace, 1).await;
    let held = began.elapsed();
    ensure!(held >= BRAKE.mul_f64(0.9), "the brake held for {held:?} only");
    world.figure(format!("9 of 10 endpoints lost: held for {:.1} s", held.as_secs_f64()));
    world.apply(namespace, &[slice(ADDRESSES, true)]).await?;
    in_rotation(world, sluice, namespace, usize::from(ADDRESSES)).await;
    Ok(())
}

async fn in_rotation(world: &World, sluice: Sluice<'_>, namespace: &str, count: usize) {
    wait_until(&format!("{count} endpoints"), PATIENCE, || async {
        let there = rotation(world, sluice, namespace)
            .await
            .map_err(|error| format!("{error:#}"))?;
        if there == count {
            Ok(())
        } else {
            Err(format!("{there}"))
        }
    })
    .await;
}

/// How many endpoints of the pool an instance sends requests to.
async fn rotation(world: &World, sluice: Sluice<'_>, namespace: &str) -> anyhow::Result<usize> {
    let pods = sluice.gateways().await?;
    let pod = pods.first().context("a gateway has pods")?;
    let pools = world.view(pod, "/api/v2/pools").await?;
    let generations = pools["generations"].as_array().into_iter().flatten();
    let mut items = generations.flat_map(|generation| generation["items"].as_array().into_iter().flatten());
    let name = format!("{namespace}/many");
    let pool = items
        .find(|item| item["pool"].to_string().contains(&name))
        .context("no such pool")?;
    Ok(pool["endpoints"].as_array().map_or(0, Vec::len))
}

/// An endpoint that is ready and not, a thousand times a minute, costs little, and writes nothing.
async fn flaps(world: &World, sluice: Sluice<'_>, namespace: &str) -> anyhow::Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(world.client(), namespace);
    let (leader, gateways) = (sluice.leader().await, sluice.gateways().await?);
    let controller = world.process(leader.container()?).await?;
    let instance = world
        .process(gateways.first().context("a gateway has pods")?.container()?)
        .await?;
    let audit = world.audit().context("our own cluster")?.again_from_now()?;
    let (cpu, began) = ((controller.cpu()?, instance.cpu()?), Instant::now());
    let (count, mut tick) = (world.by_form(250_u32, 1_000), interval(FLAP_EVERY));
    for number in 0..count {
        tick.tick().await;
        let patch = Patch::Merge(json!({"endpoints": slice(ADDRESSES, number % 2 == 1)["endpoints"]}));
        api.patch("many", &PatchParams::default(), &patch).await?;
    }
    let took = began.elapsed().as_secs_f64();
    let share = |before: Duration, after: Duration| (after - before).as_secs_f64() / took;
    let (of_controller, of_instance) = (share(cpu.0, controller.cpu()?), share(cpu.1, instance.cpu()?));
    let a_minute = f64::from(count) / took * 60.0;
    world.figure(format!(
        "{a_minute:.0} flaps a minute: {:.0} % of a core for the controller, {:.0} % for an instance",
        of_controller * 100.0,
        of_instance * 100.0
    ));
    ensure!(
        of_controller <= CPU_MAX && of_instance <= CPU_MAX,
        "flaps cost {of_controller} and {of_instance} of a core"
    );
    let writes: Vec<Entry> = audit.of(CONTROLLER_USER)?.into_iter().filter(Entry::is_write).collect();
    // How often Events of before have come again is written half a minute later.
    let is_here = |entry: &Entry| {
        let object = entry.object_ref.as_ref();
        object.is_some_and(|object| object.namespace == namespace)
    };
    let counts = |entry: &&Entry| match entry.resource().as_str() {
        "leases" | "tokenreviews" => false,
        "events" => is_here(entry),
        _ => true,
    };
    let written: Vec<_> = writes.iter().filter(counts).map(Entry::resource).collect();
    // The pool's own count of endpoints may be written, at most every half a minute.
    ensure!(written.len() <= 3, "{} writes: {written:?}", written.len());
    Ok(())
}
