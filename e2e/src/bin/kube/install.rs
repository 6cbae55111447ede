//! Sluice as people install it: the chart of this repository with the images under test, by Helm.
//!
//! Installing takes a while, and two installations that watch the same namespaces would contradict each other. So there
//! is one at a time. Most checks share one with the values below, made when the first of them asks; a check that needs
//! other values, or that breaks what cannot be mended, gets one of its own, and the next that shares gets a new one.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_e2e::repository;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::sluice::{NAMESPACE, Sluice};
use crate::world::World;

/// The release's name.
pub(crate) const RELEASE: &str = "sluice";
/// Instances of the shared installation: enough for a first stage that is not the whole fleet.
pub(crate) const GATEWAYS: usize = 3;

/// What is installed in the cluster of this run.
#[derive(Debug, Default)]
pub(crate) struct Installed(Mutex<Standing>);

/// Whose it is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Standing {
    /// An earlier run may have left something.
    #[default]
    Unknown,
    /// The one that checks share.
    Shared,
    /// One of a check's own, or what is left of it.
    Own,
}

/// The values that checks share: all namespaces, short drains and bakes, an access log.
pub(crate) fn values(world: &World) -> Value {
    let images = world.images();
    json!({
        "watch": {"all": true},
        "secrets": {"all": true},
        "controller": {"image": image(&images.controller), "resources": {"requests": {"cpu": "10m"}}},
        "gateway": {
            "image": image(&images.dataplane),
            "replicas": GATEWAYS,
            "workers": 1,
            "accessLog": true,
            "service": {"type": "ClusterIP"},
            "drain": {"lameDuckSeconds": 5, "graceSeconds": 10},
            "resources": {"requests": {"cpu": "10m"}},
        },
        "rollout": {
            "stages": [
                {"name": "canary", "fleetPercent": 34, "bakeTime": "2s"},
                {"name": "all", "fleetPercent": 100, "bakeTime": "1s"},
            ],
            "gates": [{"metric": "ErrorRate", "max": "5%", "minRequests": 20}],
            // Most checks send nothing while they change something.
            "onNoData": "Pass",
        },
    })
}

/// `repository:tag`, as the chart wants it.
fn image(reference: &str) -> Value {
    let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
    json!({"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"})
}

impl World {
    /// The installation that checks share, at rest.
    pub(crate) async fn sluice(&self) -> anyhow::Result<Sluice<'_>> {
        let mut standing = self.installed().0.lock().await;
        let sluice = Sluice::new(self);
        if *standing != Standing::Shared {
            self.remove().await?;
            *standing = Standing::Own;
            self.crds().await?;
            sluice.install(&json!({})).await?;
            *standing = Standing::Shared;
        }
        sluice.calm().await?;
        Ok(sluice)
    }

    /// An installation for this check alone, with these values over the shared ones.
    pub(crate) async fn own_sluice(&self, values: &Value) -> anyhow::Result<Sluice<'_>> {
        self.no_sluice().await?;
        self.crds().await?;
        let sluice = Sluice::new(self);
        sluice.install(values).await?;
        Ok(sluice)
    }

    /// Nothing installed; what the check installs after this is its own.
    pub(crate) async fn no_sluice(&self) -> anyhow::Result<()> {
        let mut standing = self.installed().0.lock().await;
        *standing = Standing::Own;
        self.remove().await?;
        // An installation of its own serves what is there, and others' objects are.
        self.others_gone().await;
        Ok(())
    }

    async fn remove(&self) -> anyhow::Result<()> {
        let uninstall = ["uninstall", RELEASE, "--ignore-not-found", "--wait", "--timeout=90s"];
        self.helm(&uninstall).await?;
        self.kubectl(&[
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--wait=true",
            "--timeout=90s",
        ])
        .await?;
        Ok(())
    }

    /// Makes the namespace that it is installed into, held to the `restricted` standard.
    pub(crate) async fn system_namespace(&self) -> anyhow::Result<()> {
        let said = self.kubectl_raw("", &["get", "namespace", NAMESPACE]).await?;
        if !said.status.success() {
            self.kubectl(&["create", "namespace", NAMESPACE]).await?;
        }
        let labels = ["enforce", "warn", "audit"].map(|mode| format!("pod-security.kubernetes.io/{mode}=restricted"));
        let [enforce, warn, audit] = labels.each_ref().map(String::as_str);
        self.kubectl(&["label", "namespace", NAMESPACE, "--overwrite", enforce, warn, audit])
            .await?;
        Ok(())
    }

    /// A call of Helm about the namespace of the installation, that has to succeed; gives what it printed.
    pub(crate) async fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("helm")
            .args(arguments)
            .args(["--namespace", NAMESPACE])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("helm does not start; is it in PATH?")?;
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let call = arguments.join(" ");
        self.say(&format!("helm {call}\n{stdout}{stderr}"));
        ensure!(output.status.success(), "helm {call}: {stderr}");
        ensure!(!stderr.contains("would violate PodSecurity"), "helm {call}: {stderr}");
        Ok(stdout.into_owned())
    }

    /// The values of the shared installation with others over them, as files for Helm's `--values`.
    pub(crate) fn values_files(&self, over: &Value) -> anyhow::Result<[String; 2]> {
        let write = |name: &str, values: &Value| {
            let path = self.folder().join(name);
            fs::write(&path, format!("{values:#}"))?;
            anyhow::Ok(path.to_string_lossy().into_owned())
        };
        Ok([write("values.json", &values(self))?, write("values-over.json", over)?])
    }
}

/// The chart of this repository.
pub(crate) fn chart() -> String {
    repository::root().join("charts/sluice").to_string_lossy().into_owned()
}

impl Sluice<'_> {
    /// `helm upgrade --install --wait`, with these values over the shared ones.
    pub(crate) async fn install(&self, over: &Value) -> anyhow::Result<()> {
        self.install_chart(&chart(), over).await
    }

    /// The same of another chart.
    pub(crate) async fn install_chart(&self, chart: &str, over: &Value) -> anyhow::Result<()> {
        let world = self.world();
        world.system_namespace().await?;
        let [values, over] = world.values_files(over)?;
        let upgrade = ["upgrade", "--install", RELEASE, chart, "--wait", "--timeout=120s"];
        world
            .helm(&[&upgrade[..], &["--values", &values, "--values", &over]].concat())
            .await?;
        Ok(())
    }
}
