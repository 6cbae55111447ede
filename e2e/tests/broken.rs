//! Broken manifests in a folder that serves: each becomes a Problem with its place, the change beside it goes live, and
//! what the object was before keeps serving. (Every kind by itself, with its exact text: `controller/tests/golden`.)

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;

use serde_json::Value;
use sluice_e2e::fleet::{Fleet, PATIENCE};
use sluice_e2e::load::{Load, Plan};
use sluice_e2e::upstream::{Upstream, stamp};
use sluice_e2e::wait::wait_until;
use sluice_e2e::{client, manifests, repository};

const GOOD: &str = "good.example.com";
const VICTIM: &str = "victim.example.com";

/// What is put in place of the victim's manifest, and what a Problem must say.
fn breakages(victim: &str) -> Vec<(&'static str, String, &'static str)> {
    let with = |from: &str, to: &str| {
        assert!(victim.contains(from), "{from} is not in {victim}");
        victim.replacen(from, to, 1)
    };
    vec![
        ("bad YAML", with("spec:", "spec: [unclosed"), ""),
        ("an unknown field", with("hostnames:", "hostname:"), "hostname"),
        (
            "a pool that is not there",
            with("pool: victim", "pool: nowhere"),
            "nowhere",
        ),
        (
            "a bad regular expression",
            with("type: PathPrefix, value: /", "type: RegularExpression, value: \"(\""),
            "",
        ),
        (
            "a weight out of range",
            with("port:", "weight: 1000001, port:"),
            "weight",
        ),
        (
            "an endpoint that is no address",
            with("address: 127", "address: somewhere-127"),
            "address",
        ),
        ("no rules", with("rules:\n", "rules: []\n  x:\n"), ""),
        (
            "another kind of value",
            with("hostnames: [victim.example.com]", "hostnames: 7"),
            "hostnames",
        ),
        (
            "a hostname with a port",
            with("victim.example.com", "victim.example.com:80"),
            "port",
        ),
        ("half a file", victim[..victim.len() / 2].to_owned(), ""),
        ("a 10 MB file", format!("{victim}# {}\n", "x".repeat(10 << 20)), ""),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_manifests_of_every_kind_harm_only_themselves() {
    let upstream = Upstream::start();
    let setup = Fleet::setup().await;
    let rollout = manifests::rollout(setup.port(), &[(100, "0s")], &[]);
    let good = |generation: u16| {
        let pool = manifests::pool("good", &[upstream.endpoint(generation)]);
        manifests::documents(&[manifests::route("good", GOOD, "good"), pool])
    };
    let pool = manifests::pool("victim", &[upstream.endpoint(1_000)]);
    let victim = manifests::documents(&[manifests::route("victim", VICTIM, "victim"), pool]);
    let setup = setup
        .with("rollout.yaml", &rollout)
        .with("good.yaml", &good(0))
        .with("victim.yaml", &victim);
    let fleet = setup.start(2).await;
    let load = Load::start("broken", Plan::new(fleet.http, VICTIM, "/", 100).and(GOOD, "/", 1));
    for (number, (what, text, says)) in (1..).zip(breakages(&victim)) {
        println!("{what}");
        fleet.folder.write("victim.yaml", &text);
        fleet.folder.write("good.yaml", &good(number));
        fleet.answers(GOOD, "/", &stamp(number)).await;
        let problem = problem_in(&fleet, "victim.yaml").await;
        let text = problem.to_string();
        assert!(text.contains(says), "{what}: {problem:#}");
        fleet.answers(VICTIM, "/", &stamp(1_000)).await;
    }
    fleet.folder.write("victim.yaml", &victim);
    wait_until("no Problems", PATIENCE, || async {
        let problems = client::json(fleet.controller.admin, "/api/v2/problems")
            .await
            .map_err(|error| error.to_string())?;
        let left = list(&problems)
            .iter()
            .any(|problem| problem.to_string().contains("victim.yaml"));
        (!left).then_some(()).ok_or(format!("{problems:#}"))
    })
    .await;
    let outcomes = load.stop().await;
    assert_eq!(outcomes.failures().count(), 0, "{}", outcomes.summary());
}

/// The first error in this file, with a place and a fix.
async fn problem_in(fleet: &Fleet, file: &str) -> Value {
    let problem = wait_until("a Problem", PATIENCE, || async {
        let problems = client::json(fleet.controller.admin, "/api/v2/problems")
            .await
            .map_err(|error| error.to_string())?;
        let all = list(&problems);
        let of_file = all.iter().find(|problem| problem.to_string().contains(file));
        of_file.cloned().ok_or(format!("{problems:#}"))
    })
    .await;
    let fix = problem["fix"].as_str().unwrap_or_default();
    assert!(!fix.is_empty(), "{problem:#}");
    problem
}

fn list(problems: &Value) -> Vec<Value> {
    let list = problems.as_array().or_else(|| problems["problems"].as_array());
    list.cloned().unwrap_or_default()
}

/// Forty kinds at least, each with its golden text.
#[test]
fn forty_kinds_of_broken_manifests_have_their_exact_text() {
    let folder = repository::root().join("controller/tests/golden/cases");
    let count = fs::read_dir(folder).unwrap().flatten();
    let count = count
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "golden"))
        .count();
    assert!(count >= 40, "{count}");
}
