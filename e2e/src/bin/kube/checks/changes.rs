//! What it is all for, on a real cluster: a good change reaches everybody, a bad one is undone while others' changes of
//! the same moment go on, the same content is not tried again, and mended it rolls out.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use sluice_e2e::access_log::{self, Line};
use sluice_e2e::wait::wait_until;
use tokio::time::{Instant, sleep};

use super::served::Served;
use crate::backend::Backend;
use crate::install::GATEWAYS;
use crate::objects::{self, condition};
use crate::sluice::{FLEET, NAMESPACE, PATIENCE, Sluice};
use crate::traffic::{Seen, Traffic};
use crate::world::World;

/// Requests a second for each of the two hosts.
const PER_SECOND: u32 = 100;
/// For how long nothing may start. A change is compiled within a second.
const NOTHING_STARTS: Duration = Duration::from_secs(6);

/// Two teams and their hosts, under load.
struct Scene<'a> {
    world: &'a World,
    sluice: Sluice<'a>,
    shop: Served,
    docs: Served,
}

/// The whole story.
pub(crate) async fn story(world: &World) -> anyhow::Result<()> {
    let scene = Scene::set(world).await?;
    scene.good().await?;
    scene.bad().await?;
    scene.same_again().await?;
    scene.mended().await
}

impl<'a> Scene<'a> {
    async fn set(world: &'a World) -> anyhow::Result<Self> {
        let sluice = world.sluice().await?;
        let namespace = world.namespace("a").await?;
        for name in ["good", "mended", "docs-after"] {
            Backend::new(&namespace, name).apply(world).await?;
        }
        Backend::new(&namespace, "bad").failing(100).deploy(world).await?;
        let docs = Served::start(world, &namespace, "docs").await?;
        let shop = Served::start(world, &namespace, "shop").await?;
        sluice.calm().await?;
        Ok(Self {
            world,
            sluice,
            shop,
            docs,
        })
    }

    fn namespace(&self) -> &str {
        &self.shop.namespace
    }

    async fn load(&self, name: &'static str) -> anyhow::Result<Traffic> {
        let mut plan = self.shop.plan(self.sluice, 2 * PER_SECOND).await?;
        // A connection that is kept stays with the instance that kube-proxy chose, so the first stage's only instance
        // might get too few requests to convict anybody of.
        plan.new_connections_percent = 50;
        let traffic = Traffic::start(name, plan.and(&self.docs.host, "/docs", 1));
        // The gates compare with what stable did before, so let it do something.
        traffic.reach(u64::from(PER_SECOND)).await;
        Ok(traffic)
    }

    /// Promoted through every stage, and nobody notices.
    async fn good(&self) -> anyhow::Result<()> {
        let traffic = self.load("good").await?;
        let before = self.sluice.standing().await?["stableRevision"].clone();
        self.world.apply(self.namespace(), &[self.shop.pool_of("good")]).await?;
        let stages = Mutex::new(BTreeSet::new());
        self.stands("the good change to be promoted", |standing| {
            let label = standing["stage"]["label"].as_str();
            stages.lock().unwrap().extend(label.map(str::to_owned));
            standing["phase"] == "Idle" && standing["stableRevision"] != before
        })
        .await;
        let stages = stages.into_inner().unwrap();
        ensure!(stages.len() == 2, "of two stages these were passed: {stages:?}");
        let pool = ("Pool", self.namespace(), "shop");
        self.world.when(pool, ("Programmed", "True")).await;
        let seen = traffic.stop().await;
        seen.answered_by(self.world, &["shop", "good", "docs"])?;
        self.world
            .figure(format!("good change: {} requests, 0 failed", seen.count()));
        Ok(())
    }

    /// Undone by itself; the other team's change of the same `kubectl apply` is live in the end.
    async fn bad(&self) -> anyhow::Result<()> {
        let traffic = self.load("bad").await?;
        let began = Instant::now();
        let both = [self.shop.pool_of("bad"), self.docs.pool_of("docs-after")];
        self.world.apply(self.namespace(), &both).await?;
        let written = self.pool("shop").await?;
        self.undone().await;
        let undone = began.elapsed();
        self.answers(&self.docs, "docs-after").await?;
        self.answers(&self.shop, "good").await?;
        self.stands("the harmless change to be promoted", at_rest).await;
        let seen = traffic.stop().await;
        let failed = self.harm(&seen).await?;
        self.world.figure(format!(
            "bad change: undone after {:.1} s, {failed} of {} requests failed, all by 1 of {GATEWAYS} instances",
            undone.as_secs_f64(),
            seen.count()
        ));
        self.told(&written).await
    }

    /// Waits until something is held and everybody is ordered back.
    async fn undone(&self) {
        self.stands("the bad change to be undone", |standing| {
            let held = standing["held"].as_array().is_some_and(|held| !held.is_empty());
            held && standing["phase"] != "RollingBack"
        })
        .await;
    }

    /// Only what one instance served on the candidate failed. Gives how many.
    async fn harm(&self, seen: &Seen) -> anyhow::Result<usize> {
        let lines = self.access_log().await?;
        let by_request = access_log::by_request(&lines);
        let failed: Vec<_> = seen.outcomes.failures().collect();
        self.world.say(&format!("load bad: {}", seen.outcomes.summary()));
        ensure!(
            !failed.is_empty(),
            "nobody was harmed, so nothing was proven: {}",
            seen.outcomes.summary()
        );
        let mut carriers = BTreeSet::new();
        for outcome in &failed {
            let line = by_request.get(&outcome.id);
            let line = line.ok_or_else(|| anyhow::anyhow!("no log line for {outcome:?}"))?;
            ensure!(line.is_candidate(), "a failed request that stable served: {line:?}");
            carriers.insert(line.instance.clone());
        }
        ensure!(
            carriers.len() == 1,
            "more than the first stage was harmed: {carriers:?}"
        );
        Ok(failed.len())
    }

    /// What each instance logged of its requests; a line is written a moment after its answer.
    async fn access_log(&self) -> anyhow::Result<Vec<Line>> {
        sleep(Duration::from_secs(1)).await;
        let mut lines = Vec::new();
        for pod in self.sluice.gateways().await? {
            let text = self.world.logs(&pod).await?;
            let file = self.world.folder().join(format!("{}.access", pod.name));
            fs::write(&file, text)?;
            lines.extend(access_log::read(&pod.name, &file));
        }
        Ok(lines)
    }

    /// The culprit is named, with figures, everywhere where somebody would look, and what was written is untouched.
    async fn told(&self, written: &Value) -> anyhow::Result<()> {
        let shown = ["ProxyRoute", "Pool"].map(|kind| format!("{kind} {}/shop", self.namespace()));
        let pool = wait_until("the culprit's status", PATIENCE, || async {
            let pool = self.pool("shop").await.map_err(|error| format!("{error:#}"))?;
            let programmed = condition(&pool, "Programmed").cloned().unwrap_or_default();
            let held = programmed["status"] == "False" && programmed["reason"] == "RolledBack";
            if held {
                Ok(pool)
            } else {
                Err(format!("{:#}", pool["status"]))
            }
        })
        .await;
        let why = condition(&pool, "Programmed").map_or_else(String::new, |condition| condition["message"].to_string());
        ensure!(why.contains("ErrorRate") && why.contains('%'), "no figures in {why}");
        ensure!(
            untouched(written, &pool),
            "the object was touched: {written:#} {pool:#}"
        );
        let rollout = self.sluice.rollout().await?;
        let held = rollout["status"]["held"].to_string();
        ensure!(shown.iter().any(|name| held.contains(name)), "{held}");
        ensure!(rollout["status"]["health"] == "Degraded", "{:#}", rollout["status"]);
        let get = ["-n", NAMESPACE, "get", "rollouts.sluice.dev", FLEET, "-o", "wide"];
        let table = self.world.kubectl(&get).await?;
        ensure!(
            table.contains("Degraded") && table.contains(&format!("{}/shop", self.namespace())),
            "{table}"
        );
        self.event("RolledBack").await;
        Ok(())
    }

    /// An Event about the culprit, where `kubectl describe` shows it.
    async fn event(&self, reason: &str) {
        wait_until("an Event about the culprit", PATIENCE, || async {
            let get = ["-n", self.namespace(), "get", "events.events.k8s.io", "-o", "json"];
            let list = self.world.kubectl(&get).await.map_err(|error| error.to_string())?;
            let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
            let about = |event: &Value| event["regarding"]["name"] == "shop" && event["reason"] == reason;
            let found = list["items"].as_array().is_some_and(|items| items.iter().any(about));
            if found { Ok(()) } else { Err(format!("{list:#}")) }
        })
        .await;
    }

    /// The same content again, by hand or by a GitOps tool, starts nothing.
    async fn same_again(&self) -> anyhow::Result<()> {
        let before = self.sluice.standing().await?;
        self.world.apply(self.namespace(), &[self.shop.pool_of("bad")]).await?;
        let sync = [
            "-n",
            self.namespace(),
            "annotate",
            "pools.sluice.dev/shop",
            "synced=again",
        ];
        self.world.kubectl(&sync).await?;
        let began = Instant::now();
        while began.elapsed() < NOTHING_STARTS {
            let now = self.sluice.standing().await?;
            ensure!(now["targetRevision"] == before["targetRevision"], "{before:#} {now:#}");
            ensure!(now["stage"].is_null(), "{now:#}");
            sleep(Duration::from_millis(200)).await;
        }
        self.answers(&self.shop, "good").await
    }

    /// Another content clears it.
    async fn mended(&self) -> anyhow::Result<()> {
        let traffic = self.load("mended").await?;
        self.world
            .apply(self.namespace(), &[self.shop.pool_of("mended")])
            .await?;
        self.stands("the mended change to be promoted", |standing| {
            standing["phase"] == "Idle" && standing["held"].as_array().is_none_or(Vec::is_empty)
        })
        .await;
        self.answers(&self.shop, "mended").await?;
        self.world
            .when(("Pool", self.namespace(), "shop"), ("Programmed", "True"))
            .await;
        traffic
            .stop()
            .await
            .answered_by(self.world, &["good", "mended", "docs-after"])
    }

    async fn stands(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.sluice.stands(what, wanted).await
    }

    async fn pool(&self, name: &str) -> anyhow::Result<Value> {
        self.world.object("Pool", self.namespace(), name).await
    }

    /// Waits until every instance answers for this host out of this backend.
    async fn answers(&self, served: &Served, backend: &str) -> anyhow::Result<()> {
        self.sluice.every_instance_answers(&served.host, backend).await
    }
}

fn at_rest(standing: &Value) -> bool {
    standing["stage"].is_null() && standing["queuedRevision"].is_null() && standing["phase"] != "RollingBack"
}

/// Nobody but its author wrote anything of it.
fn untouched(written: &Value, now: &Value) -> bool {
    let part = |object: &Value| {
        let metadata = &object["metadata"];
        json!([
            object["spec"],
            metadata["generation"],
            metadata["labels"],
            metadata["annotations"],
            metadata["finalizers"],
            metadata["ownerReferences"],
        ])
    };
    part(written) == part(now)
}

/// Objects of the second story.
const MANY: usize = 50;

/// One broken object among many changed ones is quarantined: it serves as before, also after a restart of the
/// controller, and the others change.
pub(crate) async fn quarantined(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    for name in ["old", "new"] {
        Backend::new(&namespace, name).deploy(world).await?;
        world.apply(&namespace, &[objects::pool(name, name)]).await?;
    }
    let many = |pool: &'static str| (0..MANY).map(move |number| objects::route(&name(number), &host(number), pool));
    world.apply(&namespace, &many("old").collect::<Vec<_>>()).await?;
    let names: Vec<_> = (0..MANY).map(name).collect();
    world
        .programmed(&namespace, &names.iter().map(String::as_str).collect::<Vec<_>>())
        .await?;
    let mut changed: Vec<_> = many("new").collect();
    // What no schema sees: a regular expression that is none.
    changed[0]["spec"]["rules"][0]["matches"] = json!([{"path": {"type": "RegularExpression", "value": "/(v1"}}]);
    world.apply(&namespace, &changed).await?;
    let others: Vec<_> = names.iter().skip(1).map(String::as_str).collect();
    world.programmed(&namespace, &others).await?;
    held_alone(world, sluice, &namespace).await?;
    world.restart(NAMESPACE, "deployment/sluice-controller").await?;
    sluice.calm().await?;
    held_alone(world, sluice, &namespace).await
}

async fn held_alone(world: &World, sluice: Sluice<'_>, namespace: &str) -> anyhow::Result<()> {
    let broken = world
        .when(("ProxyRoute", namespace, &name(0)), ("Accepted", "False"))
        .await;
    let said = condition(&broken, "Accepted").map_or_else(String::new, |condition| condition["message"].to_string());
    ensure!(
        said.contains("spec.rules[0].matches[0].path.value"),
        "no place in {said}"
    );
    sluice.every_instance_answers(&host(0), "old").await?;
    for number in 1..MANY {
        sluice.every_instance_answers(&host(number), "new").await?;
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("r{number}")
}

fn host(number: usize) -> String {
    format!("r{number}.quarantined.example.com")
}
