//! What the controller keeps belongs to the installation, a ConfigMap of the chart: also what was written when there was
//! none. While it is gone nothing is written, and all is served; when it comes back, so do the same keys. With `keepState`
//! it outlives an uninstall, and the next release goes on from there; else it begins anew.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};
use sluice_e2e::client;
use sluice_e2e::wait::wait_until;
use tokio::time::{Instant, sleep};

use super::chart_install::{left_behind, nothing_left};
use super::served::Served;
use crate::backend::Backend;
use crate::install::RELEASE;
use crate::pods::Pod;
use crate::sluice::{HEALTH, NAMESPACE, PATIENCE, Sluice};
use crate::traffic::Traffic;
use crate::world::World;

/// The installation.
const NAME: &str = "sluice-installation";
/// What the controller writes into its namespace.
const OURS: &str = "app.kubernetes.io/managed-by=sluice-controller";
/// So long nothing may come back: longer than any look and any lease.
const QUIET: Duration = Duration::from_secs(15);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// See the registry.
pub(crate) async fn owns(world: &World) -> anyhow::Result<()> {
    let namespace = world.namespace("a").await?;
    let sluice = world.own_sluice(&json!({})).await?;
    let shop = Served::start(world, &namespace, "shop").await?;
    Backend::new(&namespace, "two").replicas(2).deploy(world).await?;
    all_owned(world).await?;
    owned_again(world, sluice).await?;
    let traffic = Traffic::start("all-the-while", shop.plan(sluice, 50).await?);
    without_it(world, sluice, &shop).await?;
    let seen = traffic.stop().await;
    seen.answered_by(world, &["shop", "two"])?;
    world.figure(format!("{} requests meanwhile, 0 failed", seen.count()));
    kept(world, sluice).await?;
    at_once(world, sluice).await
}

/// The objects that the controller has in its namespace.
async fn ours(world: &World) -> anyhow::Result<Vec<Value>> {
    let get = [
        "-n",
        NAMESPACE,
        "get",
        "secrets,configmaps,leases",
        "-l",
        OURS,
        "-o",
        "json",
    ];
    let list: Value = serde_json::from_str(&world.kubectl(&get).await?)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

async fn uid(world: &World, kind: &str, name: &str) -> anyhow::Result<String> {
    let get = ["-n", NAMESPACE, "get", kind, name, "-o", "jsonpath={.metadata.uid}"];
    world.kubectl(&get).await
}

/// Which cluster the keys are of.
async fn cluster(world: &World) -> anyhow::Result<Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(world.client(), NAMESPACE);
    let data = secrets.get("sluice-keys").await?.data.unwrap_or_default();
    Ok(data.get("cluster").context("no cluster")?.0.clone())
}

/// What a controller's metric says of the installation.
async fn missing(pod: &Pod) -> anyhow::Result<f64> {
    let metrics = client::get(pod.at(HEALTH)?, "health", "/metrics").await?.body;
    client::metric(&metrics, "sluice_installation_missing", &[]).context("no such metric")
}

/// Each of them has the installation as its owner, and no other.
async fn all_owned(world: &World) -> anyhow::Result<()> {
    let owner = uid(world, "configmap", NAME).await?;
    let expected = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": NAME, "uid": owner}]);
    wait_until("all to be owned", PATIENCE, || async {
        let ours = ours(world).await?;
        let parts = ["keys", "trust", "record", "manifest", "section"];
        let has = |part: &str| {
            ours.iter()
                .any(|object| object["metadata"]["labels"]["sluice.dev/part"] == part)
        };
        ensure!(parts.iter().all(|part| has(part)), "not all is there");
        ensure!(ours.iter().any(|object| object["kind"] == "Lease"), "no lease");
        let stranger = ours
            .iter()
            .find(|object| object["metadata"]["ownerReferences"] != expected);
        ensure!(stranger.is_none(), "{:#}", stranger.unwrap_or(&Value::Null)["metadata"]);
        anyhow::Ok(())
    })
    .await;
    Ok(())
}

/// As after an upgrade from a version that knew no owner: who leads next gives them one.
async fn owned_again(world: &World, sluice: Sluice<'_>) -> anyhow::Result<()> {
    let remove = r#"{"metadata": {"ownerReferences": null}}"#;
    for object in ours(world).await? {
        let (kind, name) = (object["kind"].as_str(), object["metadata"]["name"].as_str());
        let (kind, name) = (kind.context("a kind")?, name.context("a name")?);
        let patch = ["-n", NAMESPACE, "patch", kind, name, "--type=merge", "-p", remove];
        world.kubectl(&patch).await?;
    }
    world.kill(&sluice.leader().await).await?;
    all_owned(world).await
}

/// Deleted while everything runs: what it owned goes, stays away, and all is served. Made again, the same keys sign on.
async fn without_it(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    sluice.calm().await?;
    let before = cluster(world).await?;
    world.kubectl(&["-n", NAMESPACE, "delete", "configmap", NAME]).await?;
    wait_until("all that belonged to it to go", PATIENCE, || async {
        let left = ours(world).await?;
        ensure!(left.is_empty(), "{left:#?}");
        anyhow::Ok(())
    })
    .await;
    let gone = Instant::now();
    let mut flashes = 0;
    let mut last = None;
    while gone.elapsed() < QUIET {
        let back = ours(world).await?;
        if !back.is_empty() {
            flashes += 1;
            last = Some((gone.elapsed(), back));
        }
        sleep(LOOK).await;
    }
    // Within the time that it takes to notice, something may have been written: it went at once.
    if let Some((when, back)) = last {
        ensure!(
            when < Duration::from_secs(5),
            "{when:?} after it was gone there was {back:#?}"
        );
    }
    world.figure(format!("gone, and {flashes} looks saw anything again"));
    for pod in sluice.controllers().await? {
        let log = world.logs(&pod).await?;
        ensure!(
            log.contains("ConfigMap sluice-system/sluice-installation is not there"),
            "{} says nothing",
            pod.name
        );
        ensure!(missing(&pod).await? == 1.0, "{}: its metric says nothing", pod.name);
    }

    let began = Instant::now();
    sluice.install(&json!({})).await?;
    world.apply(&shop.namespace, &[shop.pool_of("two")]).await?;
    sluice.every_instance_answers(&shop.host, "two").await?;
    sluice.calm().await?;
    all_owned(world).await?;
    ensure!(cluster(world).await? == before, "the keys are others");
    world.figure(format!(
        "made again, a change is served after {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// With `keepState`, and without it again.
async fn kept(world: &World, sluice: Sluice<'_>) -> anyhow::Result<()> {
    sluice.install(&json!({"keepState": true})).await?;
    let before = (
        uid(world, "secret", "sluice-keys").await?,
        uid(world, "configmap", NAME).await?,
    );
    let uninstall = ["uninstall", RELEASE, "--wait", "--timeout=90s"];
    world.helm(&uninstall).await?;
    let parts = ["record", "manifest", "section", "origins", "trust", "installation"];
    let may_stay = |name: &String| {
        ["secret/sluice-keys", "lease.coordination.k8s.io/sluice-controller"].contains(&name.as_str())
            || parts
                .iter()
                .any(|part| name.starts_with(&format!("configmap/sluice-{part}")))
    };
    wait_until("the release to go, and what is kept to stay", PATIENCE, || async {
        let left = left_behind(world).await?;
        ensure!(left.iter().all(may_stay), "{left:?}");
        anyhow::Ok(())
    })
    .await;

    sluice.install(&json!({})).await?;
    sluice.calm().await?;
    let after = (
        uid(world, "secret", "sluice-keys").await?,
        uid(world, "configmap", NAME).await?,
    );
    ensure!(
        before == after,
        "a release that came back began anew: {before:?}, {after:?}"
    );
    all_owned(world).await?;
    world.figure("kept by one release, taken over by the next");
    Ok(())
}

/// Uninstalled and installed again in the same breath: nothing of the one release gets into the other.
async fn at_once(world: &World, sluice: Sluice<'_>) -> anyhow::Result<()> {
    let before = cluster(world).await?;
    world.helm(&["uninstall", RELEASE]).await?;
    sluice.install(&json!({})).await?;
    sluice.calm().await?;
    all_owned(world).await?;
    ensure!(
        cluster(world).await? != before,
        "the keys are those of the release before"
    );
    world.helm(&["uninstall", RELEASE, "--wait", "--timeout=90s"]).await?;
    nothing_left(world).await
}
