//! The data plane as a sidecar, as `examples/sidecar` has it: the app's pods are a fleet of their own, in a namespace that
//! enforces the `restricted` standard.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_cli::inject::{self, Args};
use sluice_e2e::load::Plan;
use sluice_e2e::{client, repository};

use crate::install::GATEWAYS;
use crate::pods::Pod;
use crate::sluice::{NAMESPACE, PATIENCE, Sluice};
use crate::traffic::Traffic;
use crate::world::World;

/// The namespace, fleet, app and account of the example.
const EXAMPLE_NAMESPACE: &str = "sidecar-demo";
const FLEET: &str = "hello";
const LABELS: &str = "app=hello";
/// Pods of the app.
const PODS: usize = 3;
/// Images that the example names, up to their version.
const PUBLISHED: &str = "ghcr.io/sluice-proxy/sluice-";
const PER_SECOND: u32 = 60;

/// The example, and what one would do with it.
struct Scene<'a> {
    world: &'a World,
    sluice: Sluice<'a>,
    namespace: String,
}

/// All of it.
pub(crate) async fn in_front(world: &World) -> anyhow::Result<()> {
    let namespace = world.namespace("demo").await?;
    let sluice = world
        .own_sluice(&json!({"members": {"namespaces": [namespace]}}))
        .await?;
    let scene = Scene {
        world,
        sluice,
        namespace,
    };
    scene.start().await?;
    scene.job().await?;
    scene.restart().await?;
    scene.bad_change().await
}

impl Scene<'_> {
    /// The app as its team wrote it, injected, with what goes with it; the app starts after the sidecar.
    async fn start(&self) -> anyhow::Result<()> {
        let app = self.injected(&self.example("before/app.yaml"))?;
        // Bakes that somebody can watch are long for a check.
        let rollout = self.example("rollout.yaml").replace("bakeTime: 20s", "bakeTime: 3s");
        let rest = ["route.yaml", "pool.yaml", "service.yaml"].map(|file| self.example(file));
        for manifest in [rollout].iter().chain(&rest).chain([&app]) {
            self.apply(manifest).await?;
        }
        for pod in self.world.ready_pods(&self.namespace, LABELS, PODS).await {
            self.started_after(&pod).await?;
        }
        let address = self.address().await?;
        client::until_ok("an answer through a sidecar", PATIENCE, address, "hello").await;
        self.stands("the fleet to be idle", |standing| {
            standing["phase"] == "Idle" && standing["instances"]["total"] == PODS
        })
        .await;
        // The gateway's fleet has nothing to do with it.
        ensure!(
            self.sluice.gateways().await?.len() == GATEWAYS,
            "the gateway is not whole"
        );
        Ok(())
    }

    async fn started_after(&self, pod: &Pod) -> anyhow::Result<()> {
        let get = ["-n", &self.namespace, "get", "pod", &pod.name, "-o", "json"];
        let pod: Value = serde_json::from_str(&self.world.kubectl(&get).await?)?;
        let at = |list: &str| {
            pod["status"][list][0]["state"]["running"]["startedAt"]
                .as_str()
                .map(str::to_owned)
        };
        let (sidecar, app) = (at("initContainerStatuses"), at("containerStatuses"));
        let (sidecar, app) = (sidecar.context("no sidecar runs")?, app.context("no app runs")?);
        // RFC 3339 in one zone sorts as text.
        ensure!(
            sidecar <= app,
            "the app started at {app}, before the sidecar at {sidecar}"
        );
        Ok(())
    }

    /// A Job whose pod has a sidecar ends when its own work does.
    async fn job(&self) -> anyhow::Result<()> {
        let job = "
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: sidecar-demo}
spec:
  backoffLimit: 0
  template:
    metadata:
      labels:
        job: once
    spec:
      restartPolicy: Never
      serviceAccountName: hello
      automountServiceAccountToken: false
      containers:
        - name: work
          image: ghcr.io/sluice-proxy/sluice-controller:0.1.0
          command: [/usr/local/bin/sluice, --version]
          ports:
            - containerPort: 9101
          securityContext:
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL]}
            readOnlyRootFilesystem: true
            runAsNonRoot: true
            seccompProfile: {type: RuntimeDefault}
";
        self.apply(&self.injected(&self.here(job))?).await?;
        let wait = [
            "-n",
            &self.namespace,
            "wait",
            "job/once",
            "--for=condition=Complete",
            "--timeout=90s",
        ];
        self.world.kubectl(&wait).await?;
        self.world
            .kubectl(&["-n", &self.namespace, "delete", "job/once"])
            .await?;
        self.stands("the Job's pod to be forgotten", |standing| {
            standing["instances"]["total"] == PODS
        })
        .await;
        Ok(())
    }

    /// `kubectl rollout restart` under load loses no request.
    async fn restart(&self) -> anyhow::Result<()> {
        let traffic = self.load("restart").await?;
        for _ in 0..self.world.by_form(1, 5) {
            self.world.restart(&self.namespace, "deployment/hello").await?;
            self.world.ready_pods(&self.namespace, LABELS, PODS).await;
        }
        let seen = traffic.stop().await;
        seen.answered_by(self.world, &["v1"])?;
        self.world
            .figure(format!("rolling restart: {} requests, 0 failed", seen.count()));
        self.stands("the fleet to be idle", |standing| standing["phase"] == "Idle")
            .await;
        Ok(())
    }

    /// A change that breaks the app's own pod reaches one of them, and is taken back.
    async fn bad_change(&self) -> anyhow::Result<()> {
        let traffic = self.load("bad-change").await?;
        traffic.reach(u64::from(PER_SECOND) * 3).await;
        self.apply(&self.example("changes/bad-change.yaml")).await?;
        let standing = self
            .stands("the bad change to be taken back", |standing| {
                let held = standing["held"].as_array().is_some_and(|held| !held.is_empty());
                held && standing["phase"] != "RollingBack"
            })
            .await;
        let seen = traffic.stop().await;
        let failed = seen.outcomes.failures().count();
        self.world.say(&seen.outcomes.summary());
        ensure!(failed > 0, "nobody was harmed, so nothing was proven");
        ensure!(
            failed * PODS <= seen.count() * 2,
            "{failed} of {} requests failed: more than one pod's",
            seen.count()
        );
        let held = standing["held"].to_string();
        ensure!(
            held.contains(&format!("{}/hello", self.namespace)),
            "the culprit is not named: {held}"
        );
        let address = self.address().await?;
        for _ in 0..3 * PODS {
            let answer = client::get(address, "hello", "/").await?;
            ensure!(
                answer.status == 200,
                "not all is well after it was taken back: {answer:?}"
            );
        }
        self.world.figure(format!(
            "bad change: {failed} of {} requests failed, undone",
            seen.count()
        ));
        Ok(())
    }

    async fn load(&self, name: &'static str) -> anyhow::Result<Traffic> {
        Ok(Traffic::start(
            name,
            Plan::new(self.address().await?, "hello", "/", PER_SECOND),
        ))
    }

    async fn address(&self) -> anyhow::Result<std::net::SocketAddr> {
        let get = [
            "-n",
            &self.namespace,
            "get",
            "service/hello",
            "-o",
            "jsonpath={.spec.clusterIP}",
        ];
        let address = self.world.kubectl(&get).await?;
        Ok(std::net::SocketAddr::new(address.parse()?, 80))
    }

    async fn stands(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.sluice.fleet_stands(FLEET, what, wanted).await
    }

    async fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        self.world.kubectl_with(manifest, &["apply", "-f", "-"]).await?;
        Ok(())
    }

    /// A file of the example, moved into this check's namespace.
    fn example(&self, file: &str) -> String {
        self.here(&repository::read(&format!("examples/sidecar/{file}")))
    }

    fn here(&self, manifest: &str) -> String {
        let images = self.world.images();
        let controller = format!("{PUBLISHED}controller:{}", env!("CARGO_PKG_VERSION"));
        manifest
            .replace(EXAMPLE_NAMESPACE, &self.namespace)
            .replace(&controller, &images.controller)
    }

    /// What `sluice inject` makes of a manifest.
    fn injected(&self, manifest: &str) -> anyhow::Result<String> {
        let arguments = Args {
            filename: PathBuf::from("-"),
            app_port: None,
            listener_port: 9903,
            image: self.world.images().dataplane.clone(),
            controller_namespace: NAMESPACE.parse()?,
            with_resources: false,
            fleet: None,
        };
        let injected = inject::inject(manifest, &arguments).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        Ok(injected.text)
    }
}
