//! The chart and the kustomize base as files: rendered, held against the schemas of all kinds and against the API server,
//! and asked for what they must refuse. Nothing is installed.

mod schemas;

use std::fs;

use anyhow::{Context, ensure};
use sluice_e2e::repository;

use self::schemas::Schemas;
use crate::world::World;

/// Values that differ from the defaults, one file for each way of installing: `charts/sluice/ci`.
const DEFAULTS: &str = "";
/// Kinds whose CRDs are somebody else's, and are not here.
const FOREIGN: &str = "PodMonitor,PrometheusRule";
/// Namespaces that those files name, as they are called there.
const NAMED: [&str; 2] = ["shop", "apps"];

/// What must be refused, and what the refusal names.
const REFUSED: [(&str, &str); 20] = [
    ("gatway.replicas=3", "gatway"),
    ("gateway.replica=3", "replica"),
    ("gateway.kind=StatefulSet", "/gateway/kind"),
    ("gateway.replicas=many", "/gateway/replicas"),
    (
        "gateway.listeners[0].name=web,gateway.listeners[0].port=80,gateway.listeners[0].servicePort=80",
        "/gateway/listeners/0/port",
    ),
    ("gateway.service.type=ExternalName", "/gateway/service/type"),
    (
        "gateway.service.loadBalancerSourceRanges={everybody}",
        "/gateway/service/loadBalancerSourceRanges/0",
    ),
    ("gateway.drain.lameDuckSeconds=-1", "/gateway/drain/lameDuckSeconds"),
    ("gateway.image.digest=latest", "/gateway/image/digest"),
    (
        "gateway.disruptionBudget.maxUnavailable=0",
        "/gateway/disruptionBudget/maxUnavailable",
    ),
    ("controller.replicas=0", "/controller/replicas"),
    ("controller.state.sizeLimit=lots", "/controller/state/sizeLimit"),
    ("watch.namespaces={Shop}", "/watch/namespaces/0"),
    ("rollout.onNoData=Ignore", "/rollout/onNoData"),
    (
        "rollout.stages[0].name=a,rollout.stages[0].fleetPercent=10,rollout.stages[0].bakeTime=soon",
        "/rollout/stages/0/bakeTime",
    ),
    (
        "monitoring.podMonitor.interval=often",
        "/monitoring/podMonitor/interval",
    ),
    // Together only, which a schema cannot say.
    ("watch.all=true,watch.namespaces={shop}", "watch.namespaces: "),
    ("secrets.all=true", "secrets.all: "),
    (
        "gateway.kind=DaemonSet,gateway.autoscaling.enabled=true",
        "gateway.autoscaling.enabled: ",
    ),
    (
        "gateway.autoscaling.enabled=true,gateway.autoscaling.minReplicas=11",
        "gateway.autoscaling.minReplicas: ",
    ),
];

fn chart() -> String {
    repository::root().join("charts/sluice").to_string_lossy().into_owned()
}

/// `helm lint`, kubeconform and the API server have nothing to say against any way of installing; two renderings are the
/// same; and what cannot be meant is refused with its name.
pub(crate) async fn chart_lint(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    let namespace = world.namespace("system").await?;
    let mut named = Vec::new();
    for name in NAMED {
        named.push((name, world.namespace(name).await?));
    }
    let schemas = schemas::write(world).await?;
    for values in ways()? {
        world.say(&format!(
            "values: {}",
            if values == DEFAULTS { "the defaults" } else { &values }
        ));
        let with = if values == DEFAULTS {
            vec![]
        } else {
            vec!["--values", values.as_str()]
        };
        world
            .tool("helm", "", &[&["lint", "--strict", &chart()], &with[..]].concat())
            .await?;
        let rendered = rendered(world, &namespace, &with).await?;
        ensure!(
            rendered == self::rendered(world, &namespace, &with).await?,
            "two renderings with {values:?} differ"
        );
        // Namespaces that are there, in place of those that the file names.
        let here = named.iter().fold(rendered, |text, (name, real)| {
            text.replace(&format!("namespace: {name}\n"), &format!("namespace: {real}\n"))
        });
        conform(world, &schemas, &here).await?;
        accepted(world, &here).await?;
    }
    for (values, says) in REFUSED {
        refused(world, values, says).await?;
    }
    Ok(())
}

/// The defaults, and each file of values.
fn ways() -> anyhow::Result<Vec<String>> {
    let folder = repository::root().join("charts/sluice/ci");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files = entries
        .map(|entry| Ok(entry?.path().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    files.sort();
    ensure!(files.len() >= 4, "{} has only {files:?}", folder.display());
    files.insert(0, DEFAULTS.to_owned());
    Ok(files)
}

async fn rendered(world: &World, namespace: &str, with: &[&str]) -> anyhow::Result<String> {
    let chart = chart();
    let template = ["template", "sluice", &chart, "--namespace", namespace];
    world.tool("helm", "", &[&template, with].concat()).await
}

async fn conform(world: &World, schemas: &Schemas, manifests: &str) -> anyhow::Result<()> {
    let location = schemas.location();
    let arguments = [
        "-strict",
        "-summary",
        "-skip",
        FOREIGN,
        "-schema-location",
        &location,
        "-",
    ];
    world.tool("kubeconform", manifests, &arguments).await?;
    Ok(())
}

/// By the API server, without a warning; nothing is kept.
async fn accepted(world: &World, manifests: &str) -> anyhow::Result<()> {
    let foreign = |document: &&str| {
        FOREIGN
            .split(',')
            .any(|kind| document.contains(&format!("\nkind: {kind}\n")))
    };
    let own: Vec<_> = manifests
        .split("\n---\n")
        .filter(|document| !foreign(document))
        .collect();
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-f",
        "-",
    ];
    let said = world.tool_raw("kubectl", &own.join("\n---\n"), &apply).await?;
    ensure!(
        said.status.success() && said.stderr.is_empty(),
        "kubectl apply: {}",
        said.stderr
    );
    Ok(())
}

async fn refused(world: &World, values: &str, says: &str) -> anyhow::Result<()> {
    let said = world
        .tool_raw("helm", "", &["template", "sluice", &chart(), "--set", values])
        .await?;
    ensure!(!said.status.success(), "{values} is not refused");
    ensure!(
        said.stderr.contains(says),
        "{values}: {says:?} is not named: {}",
        said.stderr
    );
    Ok(())
}

/// The base is what the chart makes; base and overlay can be built, and conform.
pub(crate) async fn kustomize(world: &World) -> anyhow::Result<()> {
    let folder = repository::root().join("deploy/kustomize");
    let path = |below: &str| folder.join(below).to_string_lossy().into_owned();
    // The words of its own header, so that what is committed and what is made now are compared whole.
    let now = world
        .tool(&path("render"), "", &["--namespace", "sluice-system"])
        .await?;
    let committed = fs::read_to_string(path("base/sluice.yaml"))?;
    let (_, committed) = committed.split_once('\n').context("a header")?;
    ensure!(
        committed == now,
        "deploy/kustomize/base/sluice.yaml is out of date: run `just deploy`"
    );
    let schemas = schemas::write(world).await?;
    for built in ["base", "overlays/example"] {
        let manifests = world.tool("kubectl", "", &["kustomize", &path(built)]).await?;
        conform(world, &schemas, &manifests).await?;
    }
    Ok(())
}
