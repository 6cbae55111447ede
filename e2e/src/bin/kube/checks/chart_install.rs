//! The life of an installation: installed, upgraded, rolled back and uninstalled, with requests coming in all the time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_e2e::load::{Outcome, Plan};
use sluice_e2e::wait::{unix_ms, wait_until};
use sluice_e2e::{client, repository};
use tokio::time::Instant;

use super::served::Served;
use crate::backend::Backend;
use crate::install::{self, RELEASE};
use crate::objects;
use crate::sluice::{GATEWAY, HTTP, NAMESPACE, PATIENCE, Sluice};
use crate::traffic::{Seen, Traffic};
use crate::world::World;

/// From `helm install` to the first answer: what a newcomer waits.
const FIRST_ANSWER: Duration = Duration::from_secs(90);
/// What every namespace has.
const OF_EVERY_NAMESPACE: [&str; 2] = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
/// Until Kubernetes has deleted what belonged to a release that is gone.
const COLLECTED: Duration = Duration::from_secs(60);
/// How long slow answers take: long enough that some are on their way whenever an instance is told to end.
const SLOW: &str = "1500ms";
/// Kinds that speak of the past.
const PAST: [&str; 2] = ["event/", "event.events.k8s.io/"];

/// From nothing to nothing.
pub(crate) async fn life(world: &World) -> anyhow::Result<()> {
    world.no_sluice().await?;
    remove_crds(world).await?;
    let namespace = world.namespace("users").await?;
    let backend = Backend::new(&namespace, "shop").replicas(2).deploy(world).await?;
    let sluice = Sluice::new(world);
    let shop = first_answer(world, sluice, &namespace, backend).await?;
    no_violation(world).await?;

    let traffic = Traffic::start("through-upgrades", shop.plan(sluice, 50).await?);
    same_again(world, sluice).await?;
    changed_and_back(world, sluice).await?;
    let seen = traffic.stop().await;
    seen.answered_by(world, &["shop"])?;
    world.figure(format!(
        "{} requests through upgrade and rollback, 0 failed",
        seen.count()
    ));
    slow_path(world, &shop).await?;
    gone(world, sluice, &shop).await
}

/// Beside the quick answers of the same host, some that are slow.
async fn slow_path(world: &World, shop: &Served) -> anyhow::Result<()> {
    let slow = Backend::new(&shop.namespace, "slow").taking(SLOW);
    slow.deploy(world).await?;
    let both = objects::routes(&shop.name, &shop.host, &[("/", "shop"), ("/slow", "slow")]);
    let objects = [both, objects::pool("slow", "slow")];
    world.apply(&shop.namespace, &objects).await?;
    world.programmed(&shop.namespace, &[&shop.name]).await
}

/// As on a cluster that never had them: the chart brings them.
async fn remove_crds(world: &World) -> anyhow::Result<()> {
    let folder = repository::root().join("crds/yaml");
    let folder = folder.to_string_lossy();
    world
        .kubectl(&["delete", "-f", &folder, "--ignore-not-found", "--timeout=60s"])
        .await?;
    Ok(())
}

/// `helm install --wait`, a route, an answer.
async fn first_answer(world: &World, sluice: Sluice<'_>, namespace: &str, backend: Backend) -> anyhow::Result<Served> {
    let began = Instant::now();
    sluice.install(&json!({})).await?;
    let installed = began.elapsed();
    let shop = Served {
        namespace: namespace.to_owned(),
        name: "shop".to_owned(),
        host: "shop.example.com".to_owned(),
        backend,
    };
    world.apply(namespace, &shop.objects()).await?;
    let address = sluice.address().await?;
    client::until_ok("the first answer", PATIENCE, address, &shop.host).await;
    let took = began.elapsed();
    world.figure(format!(
        "installed in {:.0} s, first 200 after {:.0} s",
        installed.as_secs_f64(),
        took.as_secs_f64()
    ));
    ensure!(took <= FIRST_ANSWER, "the first answer came after {took:?}");
    world.programmed(namespace, &["shop"]).await?;
    Ok(shop)
}

/// Nothing that the `restricted` standard would refuse, warn of or note.
async fn no_violation(world: &World) -> anyhow::Result<()> {
    let events = world.kubectl(&["-n", NAMESPACE, "get", "events"]).await?;
    ensure!(!events.contains("violates PodSecurity"), "{events}");
    if let Some(audit) = world.audit() {
        let text = audit.text()?;
        let mut lines = text
            .lines()
            .filter(|line| line.contains("pod-security.kubernetes.io/audit-violations"));
        ensure!(
            lines.next().is_none(),
            "the audit log notes a violation of pod security"
        );
    }
    Ok(())
}

/// Two upgrades that change nothing make no difference to any object.
async fn same_again(world: &World, sluice: Sluice<'_>) -> anyhow::Result<()> {
    let mut before = None;
    for _ in 0..2 {
        sluice.install(&json!({})).await?;
        let now = state(world).await?;
        if let Some(before) = before.replace(now.clone()) {
            ensure!(
                before == now,
                "the second upgrade changed something: {before:#?} {now:#?}"
            );
        }
    }
    Ok(())
}

/// For each object of the release what moves when its content does: its generation, or else its version.
async fn state(world: &World) -> anyhow::Result<BTreeMap<String, Value>> {
    let manifest = world.helm(&["get", "manifest", RELEASE]).await?;
    let get = ["-n", NAMESPACE, "get", "-f", "-", "-o", "json"];
    let list: Value = serde_json::from_str(&world.kubectl_with(&manifest, &get).await?)?;
    let items = list["items"].as_array().context("a list")?;
    let one = |item: &Value| {
        let metadata = &item["metadata"];
        let moving = ["generation", "resourceVersion"].map(|field| &metadata[field]);
        let version = moving.into_iter().find(|value| !value.is_null()).cloned();
        (
            format!("{} {}", item["kind"], metadata["name"]),
            version.unwrap_or_default(),
        )
    };
    ensure!(items.len() > 10, "the release has only {} objects", items.len());
    Ok(items.iter().map(one).collect())
}

/// An upgrade to a changed chart replaces every pod, and so does going back.
async fn changed_and_back(world: &World, sluice: Sluice<'_>) -> anyhow::Result<()> {
    let status: Value = serde_json::from_str(&world.helm(&["status", RELEASE, "-o", "json"]).await?)?;
    let revision = status["version"].to_string();
    let chart = changed_chart(world)?;
    let before = uids(sluice).await?;
    let annotation = json!({"e2e": "changed"});
    let over = json!({"controller": {"podAnnotations": annotation}, "gateway": {"podAnnotations": annotation}});
    sluice.install_chart(&chart, &over).await?;
    let changed = uids(sluice).await?;
    ensure!(
        before.iter().all(|uid| !changed.contains(uid)),
        "pods were not replaced"
    );
    world
        .helm(&["rollback", RELEASE, &revision, "--wait", "--timeout=120s"])
        .await?;
    ensure!(
        uids(sluice).await?.iter().all(|uid| !changed.contains(uid)),
        "pods were not put back"
    );
    Ok(())
}

async fn uids(sluice: Sluice<'_>) -> anyhow::Result<Vec<String>> {
    let pods = [sluice.controllers().await?, sluice.gateways().await?].concat();
    Ok(pods.into_iter().map(|pod| pod.uid).collect())
}

/// A copy of the chart, as its next version.
fn changed_chart(world: &World) -> anyhow::Result<String> {
    let copy = world.folder().join("chart");
    copy_folder(Path::new(&install::chart()), &copy)?;
    let about = copy.join("Chart.yaml");
    let text = fs::read_to_string(&about)?;
    let (before, rest) = text.split_once("\nversion: ").context("a chart without version")?;
    let (version, after) = rest.split_once('\n').context("a chart without more")?;
    fs::write(&about, format!("{before}\nversion: {version}-changed\n{after}"))?;
    Ok(copy.to_string_lossy().into_owned())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// `helm uninstall` under load: what was accepted is answered, users' objects stay, and nothing of ours does.
async fn gone(world: &World, sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<()> {
    let before = users_objects(world, shop).await?;
    let traffic = through_everything(sluice, shop).await?;
    for traffic in &traffic {
        traffic.reach(50).await;
    }
    let told = unix_ms();
    world.helm(&["uninstall", RELEASE, "--wait", "--timeout=90s"]).await?;
    wait_until("the gateway's pods to end", PATIENCE, || async {
        match world.pods(NAMESPACE, GATEWAY).await {
            Ok(pods) if pods.is_empty() => Ok(()),
            pods => Err(format!("{pods:?}")),
        }
    })
    .await;
    for traffic in traffic {
        accepted_is_answered(world, traffic.stop().await, told)?;
    }
    nothing_left(world).await?;
    ensure!(
        users_objects(world, shop).await? == before,
        "uninstalling touched objects of users"
    );
    Ok(())
}

/// To the Service, as clients come; and straight to an instance, which hears of its end while somebody still comes: to the
/// quick path and to the slow one.
async fn through_everything(sluice: Sluice<'_>, shop: &Served) -> anyhow::Result<[Traffic; 4]> {
    let gateways = sluice.gateways().await?;
    let instance = gateways.first().context("no gateway")?.at(HTTP)?;
    let service = sluice.address().await?;
    let start = |name, address, path: &str, per_second| {
        let plan = Plan {
            new_connections_percent: 50,
            timeout: Duration::from_secs(5),
            ..Plan::new(address, &shop.host, path, per_second)
        };
        Traffic::start(name, plan)
    };
    Ok([
        start("uninstall-service", service, "/", 50),
        start("uninstall-service-slow", service, "/slow", 20),
        start("uninstall-instance", instance, "/", 50),
        start("uninstall-instance-slow", instance, "/slow", 20),
    ])
}

/// Where nobody listens there is no connection, as it should be: the Service goes first, and then the instances. A request
/// that was taken is answered, and well.
fn accepted_is_answered(world: &World, seen: Seen, told: u64) -> anyhow::Result<()> {
    let nobody = |outcome: &Outcome| {
        let error = outcome.result.as_ref().err();
        outcome.sent_unix_ms >= told && error.is_some_and(|error| error.starts_with("connecting: "))
    };
    seen.all(world, |outcome| !outcome.failed() || nobody(outcome))?;
    let after = seen.outcomes.all.iter().filter(|outcome| outcome.sent_unix_ms >= told);
    let (unconnected, answered): (Vec<_>, Vec<_>) = after.partition(|outcome| nobody(outcome));
    world.figure(format!(
        "{}: {} answered during uninstall, {} found nobody, 0 cut off",
        seen.name(),
        answered.len(),
        unconnected.len()
    ));
    Ok(())
}

/// Of a release that was removed nothing is left, as soon as Kubernetes has deleted what belonged to it.
pub(super) async fn nothing_left(world: &World) -> anyhow::Result<()> {
    let began = Instant::now();
    wait_until("nothing to be left", COLLECTED, || async {
        match left_behind(world).await {
            Ok(left) if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await;
    world.figure(format!("nothing left after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

async fn users_objects(world: &World, shop: &Served) -> anyhow::Result<[Value; 2]> {
    let of = async |kind| {
        let object = world.object(kind, &shop.namespace, &shop.name).await?;
        anyhow::Ok(json!([
            object["metadata"]["generation"],
            object["spec"],
            object["metadata"]["finalizers"]
        ]))
    };
    Ok([of("ProxyRoute").await?, of("Pool").await?])
}

/// What is in the namespace that no empty one has, and what is ours in the cluster; CRDs are users' as their objects are.
pub(super) async fn left_behind(world: &World) -> anyhow::Result<Vec<String>> {
    let kinds = world
        .kubectl(&["api-resources", "--namespaced", "--verbs=list", "-o", "name"])
        .await?;
    let kinds = kinds.lines().collect::<Vec<_>>().join(",");
    let found = world
        .kubectl(&["-n", NAMESPACE, "get", &kinds, "-o", "name", "--ignore-not-found"])
        .await?;
    let everywhere = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,\
                      priorityclasses,mutatingwebhookconfigurations,validatingwebhookconfigurations";
    let wide = world.kubectl(&["get", everywhere, "-o", "name"]).await?;
    let of_every_namespace =
        |name: &&str| OF_EVERY_NAMESPACE.contains(name) || PAST.iter().any(|past| name.starts_with(past));
    let here = found.lines().filter(|name| !of_every_namespace(name));
    let wide = wide.lines().filter(|name| name.contains("sluice"));
    Ok(here.chain(wide).map(str::to_owned).collect())
}
