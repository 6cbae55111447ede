//! Changes under load: a good one reaches everybody, a bad one is undone by itself, and what else was changed in the
//! same moment goes on.
//!
//! Two teams share the fleet: `shop`, whose pool is changed for the better or the worse, and `docs`, whose harmless
//! change comes in the same moment.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use crate::access_log::{self, Line};
use crate::fleet::{Fleet, PATIENCE};
use crate::load::{Load, Outcomes, Plan};
use crate::manifests;
use crate::upstream::{Mode, Upstream, stamp};
use crate::wait::{unix_ms, wait_until};

const SHOP: &str = "shop.example.com";
const DOCS: &str = "docs.example.com";
/// Generations: of shop before, good and bad; of docs before and after.
const BEFORE: u16 = 1;
const GOOD: u16 = 2;
const BAD: u16 = 3;
const DOCS_BEFORE: u16 = 11;
const DOCS_AFTER: u16 = 12;

/// How much of it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Requests a second.
    pub per_second: u32,
    /// Of a hundred requests, how many are for the shop.
    pub shop_percent: u32,
    /// Bake time of each stage.
    pub bake: &'static str,
    /// Requests that a gate wants to see.
    pub min_requests: u32,
}

/// What a bad change did.
#[derive(Debug)]
pub struct Harm {
    /// The load's own summary.
    pub load: String,
    /// Requests that failed.
    pub failed: usize,
    /// Requests that the member served on the candidate, from the order to the restoration.
    pub served_by_member: usize,
    /// Who was the member.
    pub members: BTreeSet<String>,
    /// From the change on disk to the last failed request.
    pub seconds_of_harm: f64,
    /// From the change on disk to everybody back on stable.
    pub seconds_to_restore: f64,
    /// What the status says about the culprit.
    pub verdict: String,
}

/// Plays the good change.
///
/// # Panics
/// If a request fails, or the change does not reach everybody through every stage.
pub async fn good(change: &Change) -> String {
    let upstream = Upstream::start();
    let fleet = start(&upstream, change).await;
    let load = Load::start("good", plan(&fleet, change));
    fleet.folder.write("shop.yaml", &shop(&upstream, GOOD));
    let stages = RefCell::new(BTreeSet::new());
    fleet
        .when("the good change to be promoted", |status| {
            stages
                .borrow_mut()
                .extend(status["stage"]["label"].as_str().map(str::to_owned));
            last_result(status) == "Promoted" && status["phase"] == "Idle"
        })
        .await;
    let stages = stages.into_inner();
    fleet.answers(SHOP, "/", &stamp(GOOD)).await;
    let outcomes = load.stop().await;
    assert_eq!(outcomes.failures().count(), 0, "{}", outcomes.summary());
    assert_eq!(stages.len(), 3, "every stage was passed: {stages:?}");
    outcomes.summary()
}

/// Plays the bad change, with a harmless one beside it.
///
/// # Panics
/// If a request fails that no candidate on a member served, if more than that failed, if it is not undone, if the
/// harmless change is not live at the end, or if the culprit is not named with figures.
pub async fn bad(change: &Change) -> Harm {
    let upstream = Upstream::start();
    upstream.set(BAD, Mode::Failing(StatusCode::INTERNAL_SERVER_ERROR));
    let fleet = start(&upstream, change).await;
    let load = Load::start("bad", plan(&fleet, change));
    // The gates compare with what stable did before, so let it do something.
    wait_until("some traffic", PATIENCE, || async {
        (load.answered() > u64::from(change.per_second))
            .then_some(())
            .ok_or(load.answered())
    })
    .await;

    let began = Instant::now();
    let began_unix_ms = unix_ms();
    fleet.folder.write("shop.yaml", &shop(&upstream, BAD));
    fleet.folder.write("docs.yaml", &docs(&upstream, DOCS_AFTER));
    let members = undone(&fleet).await;
    let seconds_to_restore = began.elapsed().as_secs_f64();
    fleet.answers(DOCS, "/", &stamp(DOCS_AFTER)).await;
    let status = fleet.settled().await;
    fleet.answers(SHOP, "/", &stamp(BEFORE)).await;
    let outcomes = load.stop().await;
    let harm = judge(&fleet, &outcomes, &members, began_unix_ms);
    Harm {
        seconds_to_restore,
        verdict: culprit(&status),
        ..harm
    }
}

async fn start(upstream: &Upstream, change: &Change) -> Fleet {
    let setup = Fleet::setup().await;
    let stages = [(34, change.bake), (67, change.bake), (100, change.bake)];
    let gate = format!(
        "{{metric: ErrorRate, max: \"5%\", minRequests: {}}}",
        change.min_requests
    );
    let rollout = manifests::rollout(setup.port(), &stages, &[&gate]);
    let setup = setup
        .with("rollout.yaml", &rollout)
        .with("shop.yaml", &shop(upstream, BEFORE));
    let fleet = setup.with("docs.yaml", &docs(upstream, DOCS_BEFORE)).start(3).await;
    fleet.answers(SHOP, "/", &stamp(BEFORE)).await;
    fleet
}

fn plan(fleet: &Fleet, change: &Change) -> Plan {
    let plan = Plan::new(fleet.http, SHOP, "/", change.per_second).weight(change.shop_percent);
    plan.and(DOCS, "/", 100 - change.shop_percent)
}

fn shop(upstream: &Upstream, generation: u16) -> String {
    manifests::documents(&[
        manifests::route("shop", SHOP, "shop"),
        manifests::pool("shop", &[upstream.endpoint(generation)]),
    ])
}

fn docs(upstream: &Upstream, generation: u16) -> String {
    manifests::documents(&[
        manifests::route("docs", DOCS, "docs"),
        manifests::pool("docs", &[upstream.endpoint(generation)]),
    ])
}

/// Who carried a candidate, by revision.
type Members = BTreeMap<String, BTreeSet<String>>;

/// Waits until something is held and everybody is back; notes who carried a candidate meanwhile.
async fn undone(fleet: &Fleet) -> Members {
    let members = RefCell::new(Members::new());
    fleet
        .when("the bad change to be undone", |status| {
            let (target, listed) = (&status["targetRevision"], &status["stage"]["members"]);
            if let (Some(target), Some(listed)) = (target.as_str(), listed.as_array()) {
                let listed = listed.iter().filter_map(|id| id.as_str()).map(str::to_owned);
                members
                    .borrow_mut()
                    .entry(target.to_owned())
                    .or_default()
                    .extend(listed);
            }
            let held = status["held"].as_array().is_some_and(|held| !held.is_empty());
            held && status["phase"] != "RollingBack"
        })
        .await;
    members.into_inner()
}

fn judge(fleet: &Fleet, outcomes: &Outcomes, members: &Members, began_unix_ms: u64) -> Harm {
    let lines = fleet.lines();
    let by_request = access_log::by_request(&lines);
    let failed: Vec<_> = outcomes.failures().collect();
    assert!(
        !failed.is_empty(),
        "nobody was harmed, so nothing was proven: {}",
        outcomes.summary()
    );
    let (mut carriers, mut revisions) = (BTreeSet::new(), BTreeSet::new());
    for outcome in &failed {
        let line = by_request
            .get(&outcome.id)
            .unwrap_or_else(|| panic!("no log line for {outcome:?}"));
        assert!(line.is_candidate(), "a failed request that stable served: {line:?}");
        carriers.insert(line.instance.clone());
        revisions.insert(line.revision());
    }
    assert_eq!(
        carriers.len(),
        1,
        "the first stage is one instance of three: {carriers:?}"
    );
    for (revision, listed) in members.iter().filter(|(revision, _)| revisions.contains(*revision)) {
        assert!(
            carriers.is_subset(listed),
            "{carriers:?} are not the members {listed:?} of {revision}"
        );
    }
    let of_candidate = |line: &&Line| line.is_candidate() && revisions.contains(&line.revision());
    let served_by_member = lines.iter().filter(of_candidate).count();
    assert!(
        failed.len() <= served_by_member,
        "{} failed, {served_by_member} were served",
        failed.len()
    );
    let last = failed
        .iter()
        .map(|outcome| outcome.sent_unix_ms)
        .max()
        .unwrap_or(began_unix_ms);
    Harm {
        load: outcomes.summary(),
        failed: failed.len(),
        served_by_member,
        members: carriers,
        seconds_of_harm: last.saturating_sub(began_unix_ms) as f64 / 1000.0,
        seconds_to_restore: 0.0,
        verdict: String::new(),
    }
}

/// The held object and the reason; it must be the shop's, and have figures.
fn culprit(status: &Value) -> String {
    let held: Vec<(String, String)> = status["held"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|held| (text(&held["object"]), text(&held["reason"])))
        .collect();
    assert!(!held.is_empty(), "{status:#}");
    for (object, reason) in &held {
        assert!(object.ends_with("demo/shop"), "{object} is innocent: {status:#}");
        assert!(
            reason.contains("ErrorRate") && reason.contains('%'),
            "no figures in {reason:?}"
        );
    }
    held.iter()
        .map(|(object, reason)| format!("{object}: {reason}"))
        .collect::<Vec<_>>()
        .join("; ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn last_result(status: &Value) -> String {
    let history = status["history"].as_array().and_then(|history| history.last());
    history.map(|last| text(&last["result"])).unwrap_or_default()
}
