//! What one change costs a controller that has many objects: with 10,000 routes it must stay far below what people notice.
//!
//! Ordinary runs have fewer objects and look at what is done, not at the clock. With figures:
//! `cargo test --release -p sluice-controller --test scale -- --ignored --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_controller::compile::{Compiler, FleetState, Output, Stable};
use sluice_controller::objects::{Object, Objects};
use sluice_controller::source::View;
use sluice_controller::source::cluster::{Cluster, Namespace};
use sluice_controller::source::kubernetes::read;
use sluice_model::{FleetName, Kind};
use sluice_proto::sections::{self, unit_digest};

const NAMESPACES: usize = 100;

fn object(kind: Kind, namespace: &str, name: &str, version: usize, spec: Value) -> Arc<Object> {
    let metadata = json!({
        "namespace": namespace, "name": name, "uid": format!("{kind} {name}"), "resourceVersion": version.to_string(),
        "generation": version, "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let object = json!({"metadata": metadata, "spec": spec});
    let (object, problems) = read::object(kind, &serde_json::from_value(object).unwrap()).unwrap();
    assert_eq!(problems, []);
    object
}

fn route(number: usize, version: usize) -> Arc<Object> {
    let spec = json!({
        "fleet": "edge", "hostnames": [format!("site-{number}.example.com")],
        "rules": [
            {"name": "api", "pool": "backend", "matches": [{"path": {"value": format!("/v{version}")}, "methods": ["GET", "POST"]}]},
            {"name": "rest", "pool": "backend"},
        ],
    });
    let namespace = format!("team-{}", number % NAMESPACES);
    object(Kind::ProxyRoute, &namespace, &format!("site-{number}"), version, spec)
}

fn objects(routes: usize) -> Objects {
    let pools = (0..NAMESPACES).map(|number| {
        let spec = json!({"endpoints": [{"address": format!("10.0.0.{number}"), "port": 8080}]});
        object(Kind::Pool, &format!("team-{number}"), "backend", 1, spec)
    });
    let spec = json!({"fleet": "edge", "dataPlane": {"listeners": [{"name": "http", "port": 8080}]}});
    let rollout = object(Kind::Rollout, "sluice-system", "edge", 1, spec);
    pools
        .chain([rollout])
        .chain((0..routes).map(|number| route(number, 1)))
        .collect()
}

fn view(objects: Objects) -> View {
    let namespaces = (0..NAMESPACES).map(|number| {
        let namespace = Namespace {
            created_at_seconds: Some(u64::try_from(number).unwrap()),
            ..Namespace::default()
        };
        (format!("team-{number}").parse().unwrap(), namespace)
    });
    View {
        objects,
        cluster: Some(Arc::new(Cluster {
            controller: "sluice-system".parse().unwrap(),
            namespaces: namespaces.collect(),
        })),
        ..View::default()
    }
}

fn compile(compiler: &mut Compiler, view: &View, stable: Option<Stable>) -> Output {
    let edge: FleetName = "edge".parse().unwrap();
    let state = FleetState {
        stable,
        ..FleetState::default()
    };
    compiler.compile(view, &BTreeMap::from([(edge, state)]))
}

/// How long each of some changes took to become a snapshot, and then sections.
fn changes(routes: usize) -> Vec<(Duration, Duration)> {
    let mut compiler = Compiler::new(unit_digest);
    let mut view = view(objects(routes));
    let first = compile(&mut compiler, &view, None);
    assert_eq!(first.problems, []);
    let compiled = &first.fleets[&"edge".parse().unwrap()];
    let mut known = sections::encode(compiled.snapshot.as_ref().unwrap()).unwrap();
    let stable = Stable {
        snapshot: Arc::new(compiled.snapshot.clone().unwrap()),
        sources: compiled.sources.clone(),
    };
    let mut took = Vec::new();
    for version in 2..8 {
        view.objects.insert(route(version * 7 % routes, version));
        let began = Instant::now();
        let output = compile(&mut compiler, &view, Some(stable.clone()));
        let compiled_in = began.elapsed();
        assert_eq!(output.problems, []);
        let compiled = &output.fleets[&"edge".parse().unwrap()];
        assert_eq!(compiled.changed.len(), version - 1);
        let began = Instant::now();
        let now = sections::encode(compiled.snapshot.as_ref().unwrap()).unwrap();
        took.push((compiled_in, began.elapsed()));
        let same = now
            .iter()
            .zip(&known)
            .filter(|(now, before)| now.digest == before.digest);
        assert!(
            now.len() == known.len() && same.count() + 1 >= known.len(),
            "one change, one section"
        );
        known = now;
    }
    took
}

#[test]
fn a_change_touches_one_section() {
    changes(500);
}

#[test]
#[ignore = "figures, of a release build"]
fn one_change_at_ten_thousand_routes() {
    let began = Instant::now();
    let all = objects(10_000);
    println!("read {} objects in {:?}", all.len(), began.elapsed());
    for (compiled, encoded) in changes(10_000) {
        println!("compiled in {compiled:?}, encoded in {encoded:?}");
        assert!(compiled + encoded < Duration::from_millis(100));
    }
}
