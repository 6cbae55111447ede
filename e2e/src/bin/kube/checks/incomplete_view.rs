//! What the controller does when it cannot see everything: without the CRDs, with a kind that is forbidden, with an object
//! that its types cannot read, and when a CRD is deleted. It serves what it knows, says what it lacks, and signs nothing
//! that is built on a part of the truth.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_e2e::repository;
use sluice_e2e::wait::wait_until;
use tokio::time::{Instant, sleep};

use super::served::Served;
use crate::backend::Backend;
use crate::install::{self, RELEASE};
use crate::objects::{self, condition};
use crate::sluice::{CONTROLLER, GATEWAY, NAMESPACE, PATIENCE, Sluice};
use crate::world::World;

/// For how long something must not happen. The controller acts on what it sees within a second.
const NOT_FOR: Duration = Duration::from_secs(8);
/// Label of what the controller keeps.
const MANIFESTS: &str = "sluice.dev/part=manifest";

/// One after the other, on one installation.
pub(crate) async fn nothing_from_a_part(world: &World) -> anyhow::Result<()> {
    let sluice = without_crds(world).await?;
    let namespace = world.namespace("a").await?;
    Backend::new(&namespace, "next").deploy(world).await?;
    let shop = Served::start(world, &namespace, "shop").await?;
    sluice.calm().await?;
    forbidden(world, sluice, &shop).await?;
    unreadable(world, sluice, &shop).await?;
    crd_deleted(world, sluice, &shop).await
}

fn crds() -> String {
    repository::root().join("crds/yaml").to_string_lossy().into_owned()
}

/// Started without CRDs it lives, says which kinds are missing, and goes on by itself when they come.
async fn without_crds(world: &World) -> anyhow::Result<Sluice<'_>> {
    world.no_sluice().await?;
    world
        .kubectl(&["delete", "-f", &crds(), "--ignore-not-found", "--timeout=60s"])
        .await?;
    world.system_namespace().await?;
    // The chart's own Rollout needs its CRD, so it comes with the upgrade below.
    let [values, over] = world.values_files(&json!({"rollout": {"enabled": false}, "gateway": {"enabled": false}}))?;
    let chart = install::chart();
    let early = [
        "install",
        RELEASE,
        &chart,
        "--skip-crds",
        "--values",
        &values,
        "--values",
        &over,
    ];
    world.helm(&early).await?;
    let pods = wait_until("controllers without CRDs", PATIENCE, || async {
        let pods = world
            .pods(NAMESPACE, CONTROLLER)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let run = pods
            .iter()
            .all(|pod| pod.container().is_ok_and(|container| !container.id.is_empty()));
        if pods.len() == 2 && run {
            Ok(pods)
        } else {
            Err(format!("{pods:?}"))
        }
    })
    .await;
    sleep(NOT_FOR).await;
    let mut said = String::new();
    for pod in &pods {
        said.push_str(&world.logs(pod).await?);
    }
    for plural in ["proxyroutes", "pools", "rollouts"] {
        ensure!(
            said.contains(plural),
            "nothing is said of {plural}, which is missing: {said}"
        );
    }
    for pod in world.pods(NAMESPACE, CONTROLLER).await? {
        ensure!(
            pod.containers.values().all(|container| container.restarts == 0),
            "{pod:?} was restarted"
        );
    }
    world.kubectl(&["apply", "--server-side", "-f", &crds()]).await?;
    let sluice = Sluice::new(world);
    sluice.install(&json!({})).await?;
    Ok(sluice)
}

/// How many manifests there are: one for each revision that was signed.
async fn signed(world: &World) -> anyhow::Result<usize> {
    let get = ["-n", NAMESPACE, "get", "configmaps", "-l", MANIFESTS, "-o", "name"];
    Ok(world.kubectl(&get).await?.lines().count())
}

/// A kind that may not be listed any more: nothing that depends on all of it is signed, everything serves, and the kind is
/// named; with the right back, what waited goes out.
async fn forbidden(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    let role = format!("clusterrole/sluice-controller:{NAMESPACE}");
    let before = world.kubectl(&["get", &role, "-o", "json"]).await?;
    let mut without: Value = serde_json::from_str(&before)?;
    let rules = without["rules"].as_array_mut().context("rules")?;
    for rule in rules.iter_mut() {
        if let Some(resources) = rule["resources"].as_array_mut() {
            resources.retain(|resource| resource != "pools");
        }
    }
    world
        .kubectl_with(&without.to_string(), &["replace", "-f", "-"])
        .await?;
    // Only those that start anew notice: a watch that is open stays open.
    world
        .kubectl(&["-n", NAMESPACE, "delete", "pods", "-l", CONTROLLER, "--wait=true"])
        .await?;
    let count = signed(world).await?;
    let route = objects::route("early", "early.example.com", "shop");
    world.apply(&shop.namespace, &[route, shop.pool_of("next")]).await?;
    let began = Instant::now();
    while began.elapsed() < NOT_FOR {
        ensure!(
            signed(world).await? == count,
            "something was signed without knowing the pools"
        );
        sluice.every_instance_answers(&shop.host, "shop").await?;
        sleep(Duration::from_millis(500)).await;
    }
    named(world, "pools").await;
    let mut back: Value = serde_json::from_str(&before)?;
    back["metadata"]["resourceVersion"].take();
    world
        .kubectl_with(
            &back.to_string(),
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        )
        .await?;
    sluice.every_instance_answers(&shop.host, "next").await?;
    world.programmed(&shop.namespace, &["early"]).await?;
    world.apply(&shop.namespace, &[shop.pool_of("shop")]).await?;
    sluice.calm().await
}

/// A controller says somewhere what it cannot see, in a log line that names the kind.
async fn named(world: &World, plural: &str) {
    wait_until("the missing kind to be named", PATIENCE, || async {
        let mut said = String::new();
        for pod in world
            .pods(NAMESPACE, CONTROLLER)
            .await
            .map_err(|error| format!("{error:#}"))?
        {
            said.push_str(&world.logs(&pod).await.map_err(|error| format!("{error:#}"))?);
        }
        let lines = |line: &&str| line.contains(plural) && (line.contains("forbidden") || line.contains("403"));
        if said.lines().any(|line| lines(&line)) {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
}

/// An object that no schema let through, as one written before a schema was stricter: it is named, the others go on.
async fn unreadable(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    let name = "proxyroutes.sluice.dev";
    let before: Value = serde_json::from_str(&world.kubectl(&["get", "crd", name, "-o", "json"]).await?)?;
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let loose = json!([{"op": "replace", "path": schema, "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    world
        .kubectl(&["patch", "crd", name, "--type=json", "-p", &loose.to_string()])
        .await?;
    let mut odd = objects::route("odd", "odd.example.com", "shop");
    odd["spec"]["rules"] = json!("these are no rules");
    wait_until("the loose schema", PATIENCE, || async {
        world
            .apply(&shop.namespace, &[odd.clone()])
            .await
            .map_err(|error| format!("{error:#}"))
    })
    .await;
    world.apply(&shop.namespace, &[shop.pool_of("next")]).await?;
    sluice.every_instance_answers(&shop.host, "next").await?;
    let odd = world
        .when(("ProxyRoute", &shop.namespace, "odd"), ("Accepted", "False"))
        .await;
    let said = condition(&odd, "Accepted").map_or_else(String::new, |condition| condition["message"].to_string());
    ensure!(said.contains("spec.rules"), "no place in {said}");
    world
        .kubectl(&["-n", &shop.namespace, "delete", "proxyroutes.sluice.dev/odd"])
        .await?;
    let strict = json!([{"op": "replace", "path": schema, "value": before.pointer(schema).context("a schema")?}]);
    world
        .kubectl(&["patch", "crd", name, "--type=json", "-p", &strict.to_string()])
        .await?;
    sluice.calm().await
}

/// A CRD that is deleted takes all objects with it, and not one route out of service.
async fn crd_deleted(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    let count = signed(world).await?;
    world
        .kubectl(&[
            "delete",
            "crd",
            "proxyroutes.sluice.dev",
            "--wait=true",
            "--timeout=60s",
        ])
        .await?;
    let began = Instant::now();
    while began.elapsed() < NOT_FOR {
        sluice.every_instance_answers(&shop.host, "next").await?;
        ensure!(
            signed(world).await? == count,
            "a revision was signed when the CRD had gone"
        );
        sleep(Duration::from_millis(500)).await;
    }
    world.kubectl(&["apply", "--server-side", "-f", &crds()]).await?;
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds()];
    world.kubectl(&established).await?;
    sleep(NOT_FOR).await;
    sluice.every_instance_answers(&shop.host, "next").await?;
    world.ready_pods(NAMESPACE, GATEWAY, install::GATEWAYS).await;
    let [route, _] = shop.objects();
    world.apply(&shop.namespace, &[route, shop.pool_of("shop")]).await?;
    sluice.every_instance_answers(&shop.host, "shop").await
}
