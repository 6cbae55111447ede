//! A pod that is no member of a fleet gets nothing of it, whatever it is called and whatever its account is called: no
//! revision, no endpoint, no key. A member of another fleet gets that fleet's, and nothing more.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_e2e::client;
use sluice_e2e::wait::wait_until;
use tokio::time::sleep;

use super::served::Served;
use crate::objects;
use crate::pods::Pod;
use crate::sluice::{HEALTH, HTTP, NAMESPACE, PATIENCE, Sluice};
use crate::tls::Authority;
use crate::world::World;

/// The pod in each namespace, and the label by which it is found.
const NAME: &str = "guest";
const LABELS: &str = "app=guest";
/// The other fleet.
const OTHER: &str = "other";
const OTHER_HOST: &str = "other.example.com";
/// A member's own certificate and key, below its folder of keys.
const OWN_PAIR: &str = "/identity/pair.pem";
/// For how long a stranger asks in vain: several attempts.
const IN_VAIN: Duration = Duration::from_secs(12);

/// A stranger, and a member of another fleet.
pub(crate) async fn kept_apart(world: &World) -> anyhow::Result<()> {
    let (stranger, member) = (world.namespace("stranger").await?, world.namespace("member").await?);
    let sluice = world.own_sluice(&json!({"members": {"namespaces": [member]}})).await?;
    let secret = with_secret(world, sluice).await?;
    for namespace in [&stranger, &member] {
        guest(world, namespace).await?;
    }
    // The trust is no secret: whoever wants it copies it.
    copy_trust(world, &stranger).await?;
    other_fleet(world, &member).await?;
    let of_member = &world.ready_pods(&member, LABELS, 1).await[0];
    own_fleet_only(world, of_member, &secret).await?;
    sleep(IN_VAIN).await;
    nothing(world, sluice, &stranger).await
}

/// A host of the gateway's fleet with everything that must not get out: endpoints, a certificate and its key.
async fn with_secret(world: &World, sluice: Sluice<'_>) -> anyhow::Result<Served> {
    let namespace = world.namespace("a").await?;
    let shop = Served::start(world, &namespace, "shop").await?;
    let certificate = Authority::new()?.issue(&shop.host)?;
    let mut route = shop.objects()[0].clone();
    route["spec"]["tls"] = json!({"certificates": [{"secretName": "shop-tls"}]});
    world
        .apply(&namespace, &[certificate.secret("shop-tls"), route])
        .await?;
    world.programmed(&namespace, &["shop"]).await?;
    sluice.calm().await?;
    Ok(shop)
}

/// A pod like the gateway's, account and all, in another namespace.
async fn guest(world: &World, namespace: &str) -> anyhow::Result<()> {
    let get = ["-n", NAMESPACE, "get", "deployment/sluice", "-o", "json"];
    let gateway: Value = serde_json::from_str(&world.kubectl(&get).await?)?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": gateway["spec"]["template"]["spec"],
    });
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sluice-dataplane"}});
    world.apply(namespace, &[account, pod]).await
}

async fn copy_trust(world: &World, namespace: &str) -> anyhow::Result<()> {
    let get = ["-n", NAMESPACE, "get", "configmap/sluice-trust", "-o", "json"];
    let trust: Value = serde_json::from_str(&world.kubectl(&get).await?)?;
    let copy = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "sluice-trust"},
        "data": trust["data"],
        "binaryData": trust["binaryData"],
    });
    world.apply(namespace, &[copy]).await
}

/// A fleet whose only member is in `namespace`, and a route of its own.
async fn other_fleet(world: &World, namespace: &str) -> anyhow::Result<()> {
    let spec = json!({
        "fleet": OTHER,
        "members": [{"namespace": namespace, "serviceAccountName": "sluice-dataplane"}],
        "dataPlane": {"listeners": [{"name": "http", "port": HTTP}]},
    });
    let rollout = serde_json::to_value(objects::object("Rollout", OTHER, &spec)?)?;
    world.apply(NAMESPACE, &[rollout]).await?;
    let mut route = objects::route(OTHER, OTHER_HOST, OTHER);
    route["spec"]["fleet"] = OTHER.into();
    world.apply(namespace, &[route, objects::pool(OTHER, OTHER)]).await
}

/// The other fleet's member serves its own host, and knows nothing of the gateway's.
async fn own_fleet_only(world: &World, pod: &Pod, secret: &Served) -> anyhow::Result<()> {
    let views = ["config/current", "routes", "pools", "services", "certificates"];
    let mut known = String::new();
    for view in views {
        known.push_str(&world.view(pod, &format!("/api/v2/{view}")).await?.to_string());
    }
    ensure!(known.contains(OTHER_HOST), "the member has not its own route: {known}");
    ensure!(
        !known.contains(&secret.host) && !known.contains(&secret.namespace),
        "it knows of {}: {known}",
        secret.host
    );
    let answer = client::get(pod.at(HTTP)?, &secret.host, "/").await?;
    ensure!(answer.status == 404, "it answers for {}: {answer:?}", secret.host);
    let mut keys = files(&world.process(pod.container()?).await?.path("/run/sluice/keys"));
    keys.retain(|file| !file.ends_with(OWN_PAIR));
    ensure!(keys.is_empty(), "it has keys that are not its own: {keys:?}");
    Ok(())
}

/// The stranger has asked, was refused, and has nothing.
async fn nothing(world: &World, sluice: Sluice<'_>, namespace: &str) -> anyhow::Result<()> {
    let pods = world.pods(namespace, LABELS).await?;
    let pod = pods.first().context("the stranger is gone")?;
    ensure!(!pod.ready, "the stranger is ready");
    let said = client::get(pod.at(HEALTH)?, "health", "/ready").await?;
    ensure!(said.status == 503, "{said:?}");
    let process = world.process(pod.container()?).await?;
    let kept = [
        process.path("/var/lib/sluice/last-good"),
        process.path("/run/sluice/keys"),
    ];
    let kept: Vec<_> = kept.iter().flat_map(|folder| files(folder)).collect();
    ensure!(kept.is_empty(), "the stranger has {kept:?}");
    let log = world.logs(pod).await?;
    ensure!(log.contains("member"), "the stranger was not told why: {log}");
    let instances = world
        .view(&sluice.leader().await, "/api/v2/instances")
        .await?
        .to_string();
    ensure!(
        !instances.contains(&format!("{NAME}.{}", &pod.uid[..8])),
        "the stranger is an instance: {instances}"
    );
    wait_until("the leader to have said so", PATIENCE, || async {
        let log = world
            .logs(&sluice.leader().await)
            .await
            .map_err(|error| format!("{error:#}"))?;
        if log.contains(namespace) {
            Ok(())
        } else {
            Err("no word of the stranger's namespace".to_owned())
        }
    })
    .await;
    Ok(())
}

/// Every file below a folder; none when it is not there.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of_entry = |entry: fs::DirEntry| match entry.path().is_dir() {
        true => files(&entry.path()),
        false => vec![entry.path().to_string_lossy().into_owned()],
    };
    entries.flat_map(of_entry).collect()
}
