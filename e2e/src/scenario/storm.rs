//! The storm: a change every second under constant load. No request may fail, and none may see two revisions.
//!
//! Generation N is one manifest file whose route has a rule `gen-N` that goes to a pool `gen-N`, whose endpoint stamps
//! its answers `gen-N`. So one request shows the generation three times: in the rule and the pool that the instance
//! logged, and in the answer. And all requests that logged one revision must show one generation.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::access_log;
use crate::fleet::Fleet;
use crate::load::{Load, Outcomes, Plan};
use crate::manifests;
use crate::upstream::{Upstream, stamp};

/// How hard it blows.
#[derive(Clone, Debug)]
pub struct Storm {
    /// How many changes, one a second.
    pub changes: u16,
    /// Requests a second.
    pub per_second: u32,
    /// Instances.
    pub instances: usize,
    /// Stages as (percent, bake time).
    pub stages: Vec<(u32, &'static str)>,
}

/// What was seen.
#[derive(Debug)]
pub struct Report {
    /// The load's own summary.
    pub load: String,
    /// Generations that served at least one request.
    pub generations_seen: usize,
    /// Requests whose log line and answer were compared.
    pub compared: usize,
    /// Lines that the log dropped.
    pub lines_dropped: f64,
}

const HOST: &str = "storm.example.com";

/// Lets it blow.
///
/// # Panics
/// If a request fails, or shows two generations, or if the last change is not live at the end.
pub async fn run(storm: &Storm) -> Report {
    let upstream = Upstream::start();
    let setup = Fleet::setup().await;
    let rollout = manifests::rollout(setup.port(), &storm.stages, &[]);
    let setup = setup
        .with("rollout.yaml", &rollout)
        .with("ballast.yaml", &ballast(&upstream));
    let fleet = setup
        .with("gen.yaml", &generation(&upstream, 0))
        .start(storm.instances)
        .await;
    fleet.answers(HOST, "/", &stamp(0)).await;

    let load = Load::start("storm", Plan::new(fleet.http, HOST, "/", storm.per_second));
    let began = Instant::now();
    for number in 1..=storm.changes {
        // A pace, not a wait for something to happen: the changes come whether the fleet is done or not.
        sleep_until(began + Duration::from_secs(u64::from(number))).await;
        fleet.folder.write("gen.yaml", &generation(&upstream, number));
    }
    fleet.settled().await;
    fleet.answers(HOST, "/", &stamp(storm.changes)).await;
    let outcomes = load.stop().await;

    let report = judge(&fleet, &outcomes).await;
    assert_eq!(outcomes.failures().count(), 0, "{report:#?}");
    assert_eq!(fleet.metric("proxy_snapshot_mixed_total").await, 0.0);
    report
}

/// Other routes and pools, so that replacing one pool is not "most of them are gone".
fn ballast(upstream: &Upstream) -> String {
    let objects = (0..10).flat_map(|number| {
        let name = format!("ballast-{number}");
        let route = manifests::route(&name, &format!("{name}.example.com"), &name);
        [route, manifests::pool(&name, &[upstream.endpoint(40_000 + number)])]
    });
    manifests::documents(&objects.collect::<Vec<_>>())
}

fn generation(upstream: &Upstream, number: u16) -> String {
    let pool = stamp(number);
    let route = manifests::route("storm", HOST, &pool);
    manifests::documents(&[route, manifests::pool(&pool, &[upstream.endpoint(number)])])
}

/// Compares every answer with its log line.
async fn judge(fleet: &Fleet, outcomes: &Outcomes) -> Report {
    let lines = wait_for_lines(fleet, outcomes).await;
    let by_request = access_log::by_request(&lines);
    let mut generation_of: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut compared = 0;
    for outcome in &outcomes.all {
        let (Some(reply), Some(line)) = (outcome.reply(), by_request.get(&outcome.id)) else {
            continue;
        };
        let (rule, pool) = (line.text("rule"), line.text("pool"));
        let pool = pool.rsplit('/').next().unwrap_or_default();
        assert!(
            rule == pool && pool == reply.stamp,
            "rule {rule}, pool {pool}, answer {}: {line:?}",
            reply.stamp
        );
        generation_of
            .entry(line.revision())
            .or_default()
            .insert(reply.stamp.clone());
        *seen.entry(reply.stamp.clone()).or_default() += 1;
        compared += 1;
    }
    let mixed: Vec<_> = generation_of.iter().filter(|(_, stamps)| stamps.len() > 1).collect();
    assert!(mixed.is_empty(), "revisions that served two generations: {mixed:?}");
    let lines_dropped = fleet.metric("proxy_access_log_dropped_total").await;
    let missing = outcomes.all.len() - compared;
    assert!(
        missing as f64 <= lines_dropped,
        "{missing} requests have no line, {lines_dropped} were dropped"
    );
    Report {
        load: outcomes.summary(),
        generations_seen: seen.len(),
        compared,
        lines_dropped,
    }
}

/// Log lines are written after the answer, by a thread of their own.
async fn wait_for_lines(fleet: &Fleet, outcomes: &Outcomes) -> Vec<access_log::Line> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let lines = fleet.lines();
        let by_request = access_log::by_request(&lines);
        let all = outcomes.all.iter().all(|outcome| by_request.contains_key(&outcome.id));
        if all || Instant::now() > deadline {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
