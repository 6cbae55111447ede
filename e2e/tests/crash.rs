//! Processes that die. Traffic does not, and nothing that was agreed on is forgotten.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use sluice_e2e::client;
use sluice_e2e::fleet::Fleet;
use sluice_e2e::load::{Load, Plan};
use sluice_e2e::manifests::{self, FLEET};
use sluice_e2e::scenario::chaos::{self, Chaos};
use sluice_e2e::upstream::{Upstream, stamp};
use sluice_e2e::wait::{unix_ms, wait_until};
use sluice_model::limits::{PIPELINE_TICK_MS, RECORD_PROGRESS_MS, REPORT_ON_TRIAL_MS};
use tokio::time::Instant;

const HOST: &str = "crash.example.com";

async fn fleet(upstream: &Upstream, bake: &str) -> Fleet {
    let setup = Fleet::setup().await;
    let rollout = manifests::rollout(setup.port(), &[(34, bake), (100, bake)], &[]);
    let fleet = setup
        .with("rollout.yaml", &rollout)
        .with("site.yaml", &site(upstream, 1))
        .start(3)
        .await;
    fleet.answers(HOST, "/", &stamp(1)).await;
    fleet
}

fn site(upstream: &Upstream, generation: u16) -> String {
    let pool = manifests::pool("site", &[upstream.endpoint(generation)]);
    manifests::documents(&[manifests::route("site", HOST, "site"), pool])
}

async fn more_answers(load: &Load, count: u64) {
    let before = load.answered();
    wait_until("answers", Duration::from_secs(60), || async {
        let now = load.answered();
        (now >= before + count).then_some(()).ok_or(now)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_controller_traffic_goes_on_and_an_instance_starts_from_its_disk() {
    let upstream = Upstream::start();
    let mut fleet = fleet(&upstream, "100ms").await;
    let load = Load::start("gone", Plan::new(fleet.http, HOST, "/", 200));
    more_answers(&load, 100).await;
    fleet.controller.kill();
    more_answers(&load, 300).await;

    let killed_at = unix_ms();
    fleet.instances[0].kill();
    let lines = fleet.instances[0].lines().len();
    let began = Instant::now();
    fleet.instances[0].start();
    fleet.instances[0].ready().await;
    let ready_after = began.elapsed();
    chaos::serves_again(&fleet, 0, lines).await;
    let outcomes = load.stop().await;

    println!("ready {ready_after:?} after its start; {}", outcomes.summary());
    // A second on a quiet machine; tests share theirs with other tests.
    assert!(ready_after < Duration::from_secs(3), "{ready_after:?}");
    for failed in outcomes.failures() {
        let ended = failed.sent_unix_ms + u64::try_from(failed.took.as_millis()).unwrap();
        assert!(
            failed.sent_unix_ms <= killed_at + 250 && ended + 250 >= killed_at,
            "not in flight: {failed:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_restarts_resumes_the_stage_with_its_members_and_its_bake() {
    let upstream = Upstream::start();
    let mut fleet = fleet(&upstream, "12s").await;
    fleet.folder.write("site.yaml", &site(&upstream, 2));
    let before = chaos::observed(&fleet, Duration::from_secs(2)).await;
    fleet.controller.kill();
    fleet.controller.restart().await;
    let after = fleet
        .when("the stage to be resumed", |status| !status["stage"].is_null())
        .await;

    let stage = |field: &str| (before["stage"][field].clone(), after["stage"][field].clone());
    for field in ["name", "index", "members"] {
        let (then, now) = stage(field);
        assert_eq!(then, now, "{field}\n{before:#}\n{after:#}");
    }
    assert_eq!(before["targetRevision"], after["targetRevision"]);
    let (then, now) = stage("observedMs");
    // The record is written at intervals, with what reports brought: what was shown and not yet written is observed
    // once more.
    let unwritten = RECORD_PROGRESS_MS + REPORT_ON_TRIAL_MS + PIPELINE_TICK_MS;
    assert!(
        now.as_u64().unwrap() + unwritten >= then.as_u64().unwrap(),
        "{then} {now}"
    );
    fleet.settled().await;
    fleet.answers(HOST, "/", &stamp(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_ended_in_good_order_during_a_bake_is_no_evidence_and_one_that_dies_is() {
    let upstream = Upstream::start();
    let mut fleet = fleet(&upstream, "6s").await;
    fleet.folder.write("site.yaml", &site(&upstream, 2));
    let baking = chaos::observed(&fleet, Duration::from_secs(2)).await;
    let member = member_of(&fleet, &baking);
    fleet.instances[member].stop().await;
    fleet.instances[member].start();
    fleet.instances[member].ready().await;
    let settled = fleet.settled().await;
    assert_eq!(settled["phase"], "Idle", "{settled:#}");
    fleet.answers(HOST, "/", &stamp(2)).await;

    fleet.folder.write("site.yaml", &site(&upstream, 3));
    let baking = chaos::observed(&fleet, Duration::from_secs(2)).await;
    let member = member_of(&fleet, &baking);
    fleet.instances[member].kill();
    fleet.instances[member].start();
    fleet
        .when("the change to be taken back", |status| status["phase"] == "RolledBack")
        .await;
    fleet.answers(HOST, "/", &stamp(2)).await;
}

/// The instance that carries the first stage.
fn member_of(fleet: &Fleet, status: &serde_json::Value) -> usize {
    let id = status["stage"]["members"][0].as_str().unwrap();
    fleet.instances.iter().position(|instance| instance.id == id).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_record_is_adopted_back_and_new_orders_count() {
    let upstream = Upstream::start();
    let mut fleet = fleet(&upstream, "100ms").await;
    let mut before = Vec::new();
    for instance in &fleet.instances {
        before.push(instance.live().await.unwrap());
    }
    fleet.controller.stop().await;
    std::fs::remove_file(fleet.controller.record(FLEET)).unwrap();
    fleet.controller.restart().await;
    fleet.settled().await;
    fleet.folder.write("site.yaml", &site(&upstream, 2));
    fleet.answers(HOST, "/", &stamp(2)).await;
    for (instance, before) in fleet.instances.iter().zip(before) {
        let now = instance.live().await.unwrap();
        assert!(
            now["epoch"].as_u64().unwrap() > before["epoch"].as_u64().unwrap(),
            "{before:#} {now:#}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_lost_all_but_its_keys_is_handed_stable_back_by_the_instances() {
    let upstream = Upstream::start();
    let mut fleet = fleet(&upstream, "1s").await;
    let status = fleet.status().await.unwrap();
    let proven = &status["stableRevision"].as_str().unwrap()[..10]; // as logs have it
    fleet.controller.stop().await;
    let record = fleet.controller.record(FLEET);
    std::fs::remove_dir_all(record.parent().unwrap()).unwrap();
    fleet.folder.write("site.yaml", &site(&upstream, 2));
    fleet.join();
    fleet.controller.restart().await;
    fleet.instances[3].ready().await;
    fleet.answers(HOST, "/", &stamp(2)).await;
    fleet.settled().await;

    let events = client::json(fleet.controller.admin, "/api/v2/events?since=0")
        .await
        .unwrap();
    let events = events.as_array().unwrap();
    let at = |kind: &str| events.iter().position(|event| event["kind"] == kind);
    let order = ["adoptedFromInstances", "mended", "stageOrdered", "promoted"].map(at);
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{order:?} {events:#?}"
    );
    assert_eq!(at("adopted"), None, "nothing unproven is adopted: {events:#?}");
    let stages = events.iter().filter(|event| event["kind"] == "stageOrdered").count();
    assert_eq!(stages, 2, "{events:#?}");
    let newcomer = fleet.instances[3].output();
    let first = newcomer
        .lines()
        .find(|line| line.contains("epoch") && line.contains("stable"));
    let first = first.expect("a line for what became live");
    assert!(
        first.contains(proven),
        "it began with another revision than {proven}: {newcomer}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_break_no_invariant() {
    let seed = std::env::var("SLUICE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(unix_ms);
    let report = chaos::run(&Chaos {
        kills: 8,
        per_second: 150,
        seed,
    })
    .await;
    println!("{report:#?}");
}
