//! A real Argo CD, with our chart and an example of ours in Git: they become Synced and Healthy and stay so, a bad commit
//! is shown with its culprit, a mended one Healthy, and the buttons do what they say.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use sluice_crds::GROUP;
use sluice_e2e::load::Plan;
use sluice_e2e::repository::{self, Source};
use sluice_e2e::wait::wait_until;
use sluice_e2e::{client, documents};
use tokio::time::{Instant, sleep};

use super::docs;
use crate::argo::{self, Argo};
use crate::audit::Entry;
use crate::backend::Backend;
use crate::commits::{BRANCH, Commits};
use crate::install;
use crate::sluice::{CONTROLLER_USER, FLEET, NAMESPACE, PATIENCE, Sluice};
use crate::traffic::Traffic;
use crate::world::World;

/// The Applications of deploy/argocd/application.yaml.
const CHART: &str = "sluice";
const ROUTES: &str = "shop-routes";
/// The example, and where its backends are in it; here they are Services of the cluster.
const EXAMPLE: &str = "examples/quickstart";
const BACKENDS: [(&str, &str); 3] = [("v1", "9101"), ("v2", "9102"), ("v3", "9103")];
/// The document, its story, and whom its rights are about.
const DOCUMENT: &str = "docs/gitops.md";
pub(super) const STORY: &str = "gitops";
const USER: &str = "olga";
/// The example has no hostnames: it serves any.
const HOST: &str = "hello.example.com";
const PER_SECOND: u32 = 100;
/// For how long nothing may happen. Argo CD looks every ten seconds.
const STAYS: Duration = Duration::from_secs(65);
const NO_FIGHT: Duration = Duration::from_secs(25);

/// What the check works with.
struct Scene<'a> {
    world: &'a World,
    argo: Argo<'a>,
    sluice: Sluice<'a>,
    commits: Commits<'a>,
    namespace: String,
    /// Each backend's address in the example, and here.
    backends: Vec<(String, String)>,
}

/// The whole story; whatever becomes of it, nothing stays that would apply things again.
pub(crate) async fn follows(world: &World) -> anyhow::Result<()> {
    let told = world.clone();
    let told = tokio::spawn(async move { story(&told).await }).await;
    let ended = argo::end(world, &[ROUTES, CHART]).await;
    match told {
        Ok(told) => told.and(ended),
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}

async fn story(world: &World) -> anyhow::Result<()> {
    let scene = Scene::set(world).await?;
    scene.healthy().await?;
    scene.stays().await?;
    scene.bad().await?;
    scene.mended().await?;
    scene.buttons().await?;
    scene.reverted().await?;
    scene.only_status_was_written()?;
    scene.uninstalled().await
}

impl<'a> Scene<'a> {
    async fn set(world: &'a World) -> anyhow::Result<Self> {
        world.no_sluice().await?;
        let document = Source {
            path: DOCUMENT.to_owned(),
            text: repository::read(DOCUMENT),
        };
        let argo = Argo::start(world, USER, &rights(&document)?).await?;
        docs::run(world, STORY, &documents::story(&document, STORY), "").await?;
        let namespace = world.namespace("a").await?;
        let commits = Commits::begin(world).await?;
        let mut scene = Self {
            world,
            argo,
            sluice: Sluice::new(world),
            commits,
            namespace,
            backends: Vec::new(),
        };
        for (name, port) in BACKENDS {
            let instead = scene.backend(name).await?;
            scene.backends.push((format!("127.0.0.1, port: {port}"), instead));
        }
        Ok(scene)
    }

    /// One of the example's backends; gives where it is.
    async fn backend(&self, name: &str) -> anyhow::Result<String> {
        let backend = Backend::new(&self.namespace, name);
        let backend = if name == "v3" { backend.failing(100) } else { backend };
        backend.deploy(self.world).await?;
        let service = format!("service/{name}");
        let address = "jsonpath={.spec.clusterIP}, port: {.spec.ports[0].port}";
        let get = ["-n", &self.namespace, "get", &service, "-o", address];
        self.world.kubectl(&get).await
    }

    /// A file of the example in place of one in Git.
    fn write(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let mut text = repository::read(&format!("{EXAMPLE}/{from}"));
        for (theirs, ours) in &self.backends {
            text = text.replace(theirs, ours);
        }
        ensure!(!text.contains("127.0.0.1"), "a backend that is not here: {text}");
        self.commits.write(&format!("routes/{to}"), &text)
    }

    /// From nothing to all of it, by two Applications.
    async fn healthy(&self) -> anyhow::Result<()> {
        self.commits.copy(Path::new(&install::chart()), "charts/sluice").await?;
        for file in ["route.yaml", "pool.yaml", "docs.yaml"] {
            self.write(file, file)?;
        }
        let commit = self.commits.push("the chart and the example").await?;
        let began = Instant::now();
        for mut application in argo::examples()? {
            let spec = &mut application["spec"];
            spec["source"]["repoURL"] = self.commits.url().into();
            spec["source"]["targetRevision"] = BRANCH.into();
            if application["metadata"]["name"] == CHART {
                application["spec"]["source"]["helm"]["valuesObject"] = install::values(self.world);
            } else {
                application["spec"]["destination"]["namespace"] = self.namespace.clone().into();
            }
            self.argo.apply(application).await?;
        }
        for name in [CHART, ROUTES] {
            self.argo.becomes(name, "Healthy", Some(&commit)).await;
            self.took(&format!("{name} Synced and Healthy"), began);
        }
        let address = self.sluice.address().await?;
        client::until_ok("the first answer", PATIENCE, address, HOST).await;
        Ok(())
    }

    /// Nobody finds anything to do, for a minute.
    async fn stays(&self) -> anyhow::Result<()> {
        let commit = self.argo.application(ROUTES).await?["status"]["sync"]["revision"].clone();
        let commit = commit.as_str().context("a commit")?;
        // Instances and endpoints are still being counted for a moment after it all serves.
        self.sluice.settled().await;
        sleep(Duration::from_secs(5)).await;
        self.nothing_happens(STAYS, ("Healthy", commit), wrote).await
    }

    /// A pool goes to what fails, in one commit with a harmless change. It is taken back and named, the harmless change is
    /// live, and Argo CD leaves it at that.
    async fn bad(&self) -> anyhow::Result<()> {
        let traffic = self.load("bad").await?;
        self.write("changes/bad-change.yaml", "pool.yaml")?;
        self.write("changes/docs-change.yaml", "docs.yaml")?;
        let began = Instant::now();
        let commit = self.push("a bad change beside a good one").await?;
        self.argo.becomes(ROUTES, "Degraded", Some(&commit)).await;
        self.took("bad commit Degraded", began);
        self.argo.becomes(CHART, "Degraded", None).await;
        self.line_says(ROUTES, "Pool/hello", &["Degraded", "ErrorRate", "%"])
            .await;
        let pool = format!("Pool {}/hello is held back", self.namespace);
        self.line_says(CHART, &format!("Rollout/{FLEET}"), &["Degraded", &pool])
            .await;
        for object in ["ProxyRoute/docs", "Pool/docs"] {
            self.line_says(ROUTES, object, &["Healthy"]).await;
        }
        let seen = traffic.stop().await;
        let failed = seen.outcomes.failures().count();
        ensure!(failed > 0, "nobody was harmed, so nothing was proven");
        self.world
            .figure(format!("{failed} of {} requests failed", seen.count()));
        self.nothing_happens(NO_FIGHT, ("Degraded", &commit), applied).await
    }

    /// Another content is another commit.
    async fn mended(&self) -> anyhow::Result<()> {
        self.write("changes/good-change.yaml", "pool.yaml")?;
        let began = Instant::now();
        let commit = self.push("mended").await?;
        for name in [ROUTES, CHART] {
            self.argo.becomes(name, "Healthy", Some(&commit)).await;
        }
        self.took("mended commit Healthy", began);
        self.sluice.every_instance_answers(HOST, "v2").await
    }

    /// Paused while nothing is tried, resumed, paused in the middle of a bake, aborted.
    async fn buttons(&self) -> anyhow::Result<()> {
        self.long_bakes().await?;
        self.no_more_rights_than_given().await?;
        self.offers(&["pause"]).await;
        self.press("pause").await?;
        self.offers(&["resume"]).await;
        self.line_says(
            CHART,
            &format!("Rollout/{FLEET}"),
            &["Healthy", "the next change waits"],
        )
        .await;

        self.write("pool.yaml", "pool.yaml")?;
        let commit = self.push("for the buttons").await?;
        self.argo.becomes(CHART, "Suspended", None).await;
        self.argo.becomes(ROUTES, "Progressing", Some(&commit)).await;
        self.press("resume").await?;
        self.sluice
            .stands("a bake", |standing| standing["phase"] == "Baking")
            .await;
        self.offers(&["abort", "pause"]).await;
        self.press("pause").await?;
        self.argo.becomes(CHART, "Suspended", None).await;
        let stage = self.sluice.standing().await?["stage"]["label"].clone();
        self.nothing_is_synced(NO_FIGHT).await?;
        let standing = self.sluice.standing().await?;
        ensure!(
            standing["phase"] == "Paused" && standing["stage"]["label"] == stage,
            "{standing:#}"
        );
        self.offers(&["abort", "resume"]).await;
        let began = Instant::now();
        self.press("abort").await?;
        self.argo.becomes(ROUTES, "Degraded", Some(&commit)).await;
        self.argo.becomes(CHART, "Degraded", None).await;
        self.took("aborted, Degraded", began);
        self.line_says(ROUTES, "Pool/hello", &["Degraded", "aborted by"]).await;
        self.sluice.every_instance_answers(HOST, "v2").await?;
        // A button speaks about the revision that the status shows, which is refused once it is no longer the current one.
        wait_until("the status to show what serves", PATIENCE, || async {
            let rollout = self.sluice.rollout().await.map_err(|error| format!("{error:#}"))?;
            let status = &rollout["status"];
            let shown = status["phase"] == "RolledBack" && status["targetRevision"] == status["stableRevision"];
            if shown { Ok(()) } else { Err(format!("{status:#}")) }
        })
        .await;
        self.press("resume").await
    }

    /// `git revert` of what was aborted: what is in Git serves, so nothing is left to mend.
    async fn reverted(&self) -> anyhow::Result<()> {
        self.commits.revert().await?;
        let began = Instant::now();
        self.refresh().await?;
        for name in [ROUTES, CHART] {
            self.argo.becomes(name, "Healthy", None).await;
        }
        self.took("reverted commit Healthy", began);
        self.sluice.every_instance_answers(HOST, "v2").await
    }

    /// Bakes in which somebody can press a button, out of Git as everything else.
    async fn long_bakes(&self) -> anyhow::Result<()> {
        let mut values = install::values(self.world);
        for stage in values["rollout"]["stages"].as_array_mut().into_iter().flatten() {
            stage["bakeTime"] = "10m".into();
        }
        let spec = json!({"spec": {"source": {"helm": {"valuesObject": values}}}}).to_string();
        let name = format!("application/{CHART}");
        let patch = ["-n", "argocd", "patch", &name, "--type=merge", "-p", &spec];
        self.world.kubectl(&patch).await?;
        let rollout = ("Rollout", NAMESPACE, FLEET);
        wait_until("the long bakes", PATIENCE, || async {
            let (kind, namespace, name) = rollout;
            let rollout = self.world.object(kind, namespace, name).await;
            let rollout = rollout.map_err(|error| format!("{error:#}"))?;
            let long = rollout["spec"]["stages"][0]["bakeTime"] == "10m";
            if long { Ok(()) } else { Err(rollout["spec"].to_string()) }
        })
        .await;
        self.argo.becomes(CHART, "Healthy", None).await;
        Ok(())
    }

    /// Whoever may steer rollouts by these lines may do nothing else.
    async fn no_more_rights_than_given(&self) -> anyhow::Result<()> {
        let said = self.argo.call(&["app", "sync", ROUTES]).await?;
        ensure!(
            !said.status.success() && said.stderr.contains("PermissionDenied"),
            "{USER} may sync: {}{}",
            said.stdout,
            said.stderr
        );
        Ok(())
    }

    /// Presses a button, and sees the command carried out in Argo CD's name.
    async fn press(&self, verb: &str) -> anyhow::Result<()> {
        self.argo.press(CHART, verb).await?;
        wait_until(&format!("an answer to {verb}"), PATIENCE, || async {
            let rollout = self.sluice.rollout().await.map_err(|error| format!("{error:#}"))?;
            let command = rollout["status"]["command"].clone();
            let given = &rollout["metadata"]["annotations"]["sluice.dev/command-id"];
            let done = command["verb"] == verb && command["result"] == "Done" && command["id"] == *given;
            if done && command["by"] == argo::SERVER_USER {
                Ok(())
            } else {
                Err(format!("{command:#}"))
            }
        })
        .await;
        Ok(())
    }

    /// Waits until these buttons can be pressed, and no others.
    async fn offers(&self, verbs: &[&str]) {
        wait_until(&format!("the buttons {verbs:?}"), PATIENCE, || async {
            let mut found = self
                .argo
                .buttons(CHART)
                .await
                .map_err(|error| vec![format!("{error:#}")])?;
            found.sort();
            if found == verbs { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Waits until the user sees all of this in an object's line.
    async fn line_says(&self, application: &str, object: &str, parts: &[&str]) {
        wait_until(&format!("{object} to say {parts:?}"), PATIENCE, || async {
            let line = self.argo.line(application, object).await;
            let line = line.map_err(|error| format!("{error:#}"))?;
            let all = parts.iter().all(|part| line.contains(part));
            if all { Ok(()) } else { Err(line) }
        })
        .await;
    }

    /// Pushes a commit, of which a webhook tells.
    async fn push(&self, message: &str) -> anyhow::Result<String> {
        let commit = self.commits.push(message).await?;
        self.refresh().await?;
        Ok(commit)
    }

    async fn refresh(&self) -> anyhow::Result<()> {
        for name in [ROUTES, CHART] {
            self.argo.refresh(name).await?;
        }
        Ok(())
    }

    /// For this long both Applications stay as they are, and neither Argo CD nor Sluice writes anything of that sort.
    async fn nothing_happens(
        &self,
        time: Duration,
        (health, commit): (&str, &str),
        sort: fn(&Entry) -> bool,
    ) -> anyhow::Result<()> {
        let audit = self.world.audit().context("our own cluster")?.again_from_now()?;
        let commits = [Some(commit), None];
        let began = Instant::now();
        let mut before = Vec::new();
        for (name, commit) in [ROUTES, CHART].into_iter().zip(commits) {
            let application = self.argo.becomes(name, health, commit).await;
            before.push(argo::operations(&application));
        }
        while began.elapsed() < time {
            sleep(Duration::from_secs(1)).await;
            for (name, before) in [ROUTES, CHART].into_iter().zip(&before) {
                let application = self.argo.application(name).await?;
                ensure!(argo::is(&application, health), "{name}: {:#}", application["status"]);
                let now = argo::operations(&application);
                ensure!(now == *before, "{name} was synced again: {before:?} {now:?}");
            }
        }
        let writes: Vec<_> = audit.entries()?.into_iter().filter(sort).collect();
        ensure!(writes.is_empty(), "written to while nothing changed: {writes:?}");
        Ok(())
    }

    /// For this long Argo CD starts no operation.
    async fn nothing_is_synced(&self, time: Duration) -> anyhow::Result<()> {
        let operations = async || {
            let routes = argo::operations(&self.argo.application(ROUTES).await?);
            anyhow::Ok([routes, argo::operations(&self.argo.application(CHART).await?)])
        };
        let before = operations().await?;
        sleep(time).await;
        let now = operations().await?;
        ensure!(now == before, "synced again: {before:?} {now:?}");
        Ok(())
    }

    /// Of our kinds the controller wrote the status, from the beginning to the end.
    fn only_status_was_written(&self) -> anyhow::Result<()> {
        let log = self.world.audit().context("our own cluster")?.of(CONTROLLER_USER)?;
        let writes: Vec<_> = log.iter().filter(|entry| entry.is_write() && is_ours(entry)).collect();
        ensure!(!writes.is_empty(), "no status was written, so nothing was proven");
        let other = writes.iter().find(|entry| !entry.resource().ends_with("/status"));
        ensure!(other.is_none(), "a write to more than status: {other:?}");
        Ok(())
    }

    /// The chart's Application deleted with all that it applied: kinds and users' objects stay.
    async fn uninstalled(&self) -> anyhow::Result<()> {
        self.argo.delete(CHART).await?;
        let routes = ["-n", &self.namespace, "get", "sluice", "-o", "name"];
        let left = self.world.kubectl(&routes).await?;
        ensure!(
            left.lines().count() == 4,
            "of two routes and two pools these are left: {left}"
        );
        let workloads = ["-n", NAMESPACE, "get", "deployments,services", "-o", "name"];
        let left = self.world.kubectl(&workloads).await?;
        ensure!(left.is_empty(), "the Application left {left}");
        Ok(())
    }

    async fn load(&self, name: &'static str) -> anyhow::Result<Traffic> {
        let plan = Plan::new(self.sluice.address().await?, HOST, "/", PER_SECOND);
        let traffic = Traffic::start(name, plan.and(HOST, "/docs", 1));
        // The gates compare with what stable did before, so let it do something.
        traffic.reach(u64::from(PER_SECOND)).await;
        Ok(traffic)
    }

    fn took(&self, what: &str, began: Instant) {
        self.world
            .figure(format!("{what} after {:.1} s", began.elapsed().as_secs_f64()));
    }
}

/// Argo CD or Sluice wrote to an object of ours.
fn wrote(entry: &Entry) -> bool {
    let by = entry.user.username.as_str();
    entry.is_write() && is_ours(entry) && (by == CONTROLLER_USER || argo::is_account(by))
}

/// The same of more than its status, which goes on for a moment after what it tells of.
fn applied(entry: &Entry) -> bool {
    wrote(entry) && !entry.resource().ends_with("/status")
}

fn is_ours(entry: &Entry) -> bool {
    entry
        .object_ref
        .as_ref()
        .is_some_and(|object| object.api_group == GROUP)
}

/// The lines of the document that give rights, to our user.
fn rights(document: &Source) -> anyhow::Result<String> {
    let lines = document.text.lines().map(str::trim);
    let given: Vec<_> = lines.filter(|line| line.starts_with("p, role:edge, ")).collect();
    ensure!(!given.is_empty(), "{DOCUMENT} gives nobody rights");
    Ok(format!("{}\ng, {USER}, role:edge\n", given.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_who_may_press_buttons() {
        let document = Source {
            path: DOCUMENT.to_owned(),
            text: repository::read(DOCUMENT),
        };
        assert!(rights(&document).unwrap().contains("action/sluice.dev/Rollout/*"));
        assert!(!documents::story(&document, STORY).is_empty());
    }
}
