//! What compile promises, on small sets of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::objects::{Object, Objects};
use crate::source::{Coverage, manifest, yaml};
use sluice_proto::sections::unit_digest;

mod cluster;

fn read(text: &str) -> Vec<Arc<Object>> {
    let read = manifest::read(&"a.yaml".into(), yaml::documents(text).unwrap());
    read.objects
}

fn view(text: &str) -> View {
    let read = manifest::read(&"a.yaml".into(), yaml::documents(text).unwrap());
    View {
        objects: read.objects.into_iter().collect(),
        problems: read.problems,
        coverage: if read.incomplete {
            Coverage::Except(["a.yaml".into()].into())
        } else {
            Coverage::Whole
        },
        ..View::default()
    }
}

fn doc(kind: &str, name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("shop", name));
    format!(
        "---\n{{apiVersion: sluice.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}\n"
    )
}

fn rollout() -> String {
    doc(
        "Rollout",
        "edge",
        "{fleet: edge, dataPlane: {listeners: [{name: http, port: 8080}]}}",
    )
}

fn pool(name: &str, port: u16) -> String {
    doc(
        "Pool",
        name,
        &format!("{{endpoints: [{{address: 10.0.0.1, port: {port}}}]}}"),
    )
}

fn route(name: &str, pool: &str) -> String {
    let host = name.replace('/', "-");
    doc(
        "ProxyRoute",
        name,
        &format!("{{fleet: edge, hostnames: [{host}.example.com], rules: [{{name: all, pool: {pool}}}]}}"),
    )
}

fn edge() -> FleetName {
    "edge".parse().unwrap()
}

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

/// A fleet over several compiles: what compiles becomes stable at once, unless the test says otherwise.
struct World {
    compiler: Compiler,
    state: FleetState,
}

impl World {
    fn new() -> Self {
        Self {
            compiler: Compiler::new(unit_digest),
            state: FleetState::default(),
        }
    }

    fn with(text: &str) -> Self {
        let mut world = Self::new();
        let (compiled, problems) = world.compile(&view(text));
        assert!(!problems.iter().any(Problem::is_error), "{problems:?}");
        world.promote(&compiled);
        world
    }

    fn compile(&mut self, view: &View) -> (Compiled, Vec<Problem>) {
        let mut out = self.compiler.compile(view, &[(edge(), self.state.clone())].into());
        (out.fleets.remove(&edge()).unwrap(), out.problems)
    }

    fn promote(&mut self, compiled: &Compiled) {
        let snapshot = Arc::new(compiled.snapshot.clone().expect("there is a snapshot"));
        self.state.stable = Some(Stable {
            snapshot,
            sources: compiled.sources.clone(),
        });
    }

    fn stable(&self) -> &Snapshot {
        &self.state.stable.as_ref().unwrap().snapshot
    }
}

fn changed(compiled: &Compiled) -> Vec<String> {
    compiled
        .changed
        .iter()
        .map(|changed| changed.object.to_string())
        .collect()
}

fn reasons(compiled: &Compiled) -> Vec<(String, Reason, Effect)> {
    compiled
        .quarantined
        .iter()
        .map(|q| (q.object.to_string(), q.reason, q.serving))
        .collect()
}

#[test]
fn a_first_revision_holds_what_routes_refer_to() {
    let world = World::with(&[rollout(), pool("api", 80), pool("spare", 81), route("shop", "api")].concat());
    let units: Vec<_> = world.stable().config().units.keys().map(ToString::to_string).collect();
    assert_eq!(units, ["ProxyRoute shop/shop", "Pool shop/api", "Rollout shop/edge"]);
}

/// Helm installs the Rollout, and the first route comes some time after it.
#[test]
fn only_the_first_routes_take_the_place_of_nothing() {
    let base = [rollout(), pool("api", 80)].concat();
    let with = |names: &[&str]| {
        let routes: String = names.iter().map(|name| route(name, "api")).collect();
        view(&(base.clone() + &routes))
    };
    let mut world = World::with(&base);
    let (first, _) = world.compile(&with(&["a", "b"]));
    assert_eq!((first.instead_of, changed(&first).len()), (InsteadOf::Nothing, 3));
    world.promote(&first);
    let (second, _) = world.compile(&with(&["a", "b", "c"]));
    assert_eq!(second.instead_of, InsteadOf::Routes);
    let (nothing, _) = World::new().compile(&with(&["a"]));
    assert_eq!(
        nothing.instead_of,
        InsteadOf::Routes,
        "a first revision is adopted anyway"
    );
}

#[test]
fn a_bad_object_harms_only_itself() {
    let good = [rollout(), pool("api", 80), route("a", "api"), route("b", "api")].concat();
    let mut world = World::with(&good);
    let bad = [
        rollout(),
        pool("api", 81),
        route("a", "nothing"),
        route("b", "api"),
        route("c", "nothing"),
    ]
    .concat();
    let (compiled, problems) = world.compile(&view(&bad));
    assert_eq!(changed(&compiled), ["Pool shop/api"]);
    assert_eq!(compiled.scopes.len(), 2, "both routes use the changed pool");
    assert_eq!(
        reasons(&compiled),
        [
            ("ProxyRoute shop/a".into(), Reason::Error, Effect::LastGoodServes),
            ("ProxyRoute shop/c".into(), Reason::Error, Effect::NotServed),
        ]
    );
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(
        told[0].ends_with(
            "no Pool \"nothing\" in namespace shop; create Pool shop/nothing; its last good form keeps serving"
        ),
        "{told:?}"
    );
    assert!(told[1].ends_with("it is not served until then"), "{told:?}");
}

#[test]
fn a_deleted_pool_stays_for_the_route_that_needs_it() {
    let mut world = World::with(&[rollout(), pool("api", 80), route("a", "api")].concat());
    let (compiled, problems) = world.compile(&view(&[rollout(), route("a", "api")].concat()));
    assert_eq!(changed(&compiled), [""; 0]);
    assert!(problems.iter().any(|problem| problem.message.contains("no Pool")));
    assert_eq!(compiled.snapshot.as_ref(), Some(world.stable()));
}

#[test]
fn held_content_serves_its_last_good_form_until_it_changes() {
    let mut world = World::with(&[rollout(), pool("api", 80), route("a", "api"), route("b", "api")].concat());
    let bad = view(&[rollout(), pool("api", 66), route("a", "api"), route("b", "api")].concat());
    let (compiled, _) = world.compile(&bad);
    world
        .state
        .held
        .insert((key("Pool shop/api"), compiled.changed[0].after));
    let (compiled, _) = world.compile(&bad);
    assert_eq!(
        (changed(&compiled).len(), &compiled.still_held),
        (0, &vec![key("Pool shop/api")])
    );
    assert_eq!(
        reasons(&compiled),
        [("Pool shop/api".into(), Reason::Held, Effect::LastGoodServes)]
    );
    let (compiled, _) = world.compile(&view(
        &[rollout(), pool("api", 90), route("a", "api"), route("b", "api")].concat(),
    ));
    assert_eq!(
        (changed(&compiled), compiled.still_held.len()),
        (vec!["Pool shop/api".into()], 0)
    );
}

#[test]
fn a_new_route_that_is_held_is_left_out_and_a_held_removal_is_not_made() {
    let base = [rollout(), pool("api", 80), route("a", "api")].concat();
    let mut world = World::with(&base);
    let more = view(&[base.clone(), route("b", "api")].concat());
    let (compiled, _) = world.compile(&more);
    world
        .state
        .held
        .insert((key("ProxyRoute shop/b"), compiled.changed[0].after));
    let (compiled, _) = world.compile(&more);
    assert_eq!(changed(&compiled).len(), 0);
    assert_eq!(compiled.still_held, [key("ProxyRoute shop/b")]);

    let mut world = World::with(&[base.clone(), route("b", "api")].concat());
    world.state.held.insert((key("ProxyRoute shop/b"), None));
    let (compiled, _) = world.compile(&view(&base));
    assert_eq!(
        (changed(&compiled).len(), compiled.still_held),
        (0, vec![key("ProxyRoute shop/b")])
    );
}

#[test]
fn an_unreadable_file_keeps_its_objects_also_after_a_restart() {
    let mut world = World::with(&[rollout(), pool("api", 80), route("a", "api")].concat());
    world.compiler = Compiler::new(unit_digest); // a restart: only stable and its sources are known
    let unseen = View {
        coverage: Coverage::Except(["a.yaml".into()].into()),
        ..View::default()
    };
    let (compiled, _) = world.compile(&unseen);
    assert_eq!((changed(&compiled).len(), compiled.quarantined.len()), (0, 3));
    let (compiled, _) = world.compile(&View {
        coverage: Coverage::Nothing,
        ..View::default()
    });
    assert_eq!(compiled.snapshot.as_ref(), Some(world.stable()));
}

#[test]
fn removing_most_needs_consent_for_exactly_that() {
    let routes = |names: &[&str]| names.iter().map(|name| route(name, "api")).collect::<String>();
    let base = [rollout(), pool("api", 80)].concat();
    let mut world = World::with(&[base.clone(), routes(&["a", "b", "c", "d", "e"])].concat());

    let (two_gone, problems) = world.compile(&view(&[base.clone(), routes(&["a", "b", "c"])].concat()));
    assert_eq!((changed(&two_gone).len(), problems.len()), (2, 0), "everyday work");

    let few = [base.clone(), routes(&["a", "b"])].concat();
    let (braked, problems) = world.compile(&view(&few));
    assert_eq!(changed(&braked), [""; 0]);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .message
            .starts_with("3 of 5 routes and 3 of 5 hosts of fleet edge would go at once"),
        "{}",
        problems[0]
    );
    let token = problems[0].fix.split('"').nth(1).unwrap().to_owned();

    let consent = |token: &str| {
        few.replace(
            "name: edge, namespace: shop}",
            &format!("name: edge, namespace: shop, annotations: {{{CONSENT_ANNOTATION}: \"{token}\"}}}}"),
        )
    };
    assert_eq!(changed(&world.compile(&view(&consent("00000000"))).0), [""; 0]);
    let (gone, problems) = world.compile(&view(&consent(&token)));
    assert_eq!((changed(&gone).len(), problems.len()), (3, 0));
    let other = consent(&token).replace("name: a,", "name: z,");
    let (compiled, _) = world.compile(&view(&other));
    assert!(
        compiled.snapshot.unwrap().unit(&key("ProxyRoute shop/a")).is_some(),
        "consent is to one removal"
    );
}

#[test]
fn removing_the_last_route_needs_consent() {
    let mut world = World::with(&[rollout(), pool("api", 80), route("a", "api")].concat());
    let (compiled, problems) = world.compile(&view(&[rollout(), pool("api", 80)].concat()));
    assert_eq!(changed(&compiled), [""; 0]);
    assert!(problems.iter().any(|problem| problem.fix.contains(CONSENT_ANNOTATION)));
}

#[test]
fn the_older_rollout_counts_and_a_deleted_one_goes_on() {
    let second = rollout().replace("name: edge", "name: another").replace("8080", "9090");
    let base = [pool("api", 80), route("a", "api")].concat();
    let mut world = World::with(&[rollout(), base.clone()].concat());
    let (compiled, problems) = world.compile(&view(&[rollout(), second.clone(), base.clone()].concat()));
    assert_eq!(
        compiled.snapshot.unwrap().listeners()[0].port,
        8080,
        "it serves already"
    );
    assert_eq!(problems[0].object, Some(key("Rollout shop/another")));
    let (compiled, _) = world.compile(&view(&base));
    assert_eq!(compiled.snapshot.as_ref(), Some(world.stable()));
    let (compiled, _) = world.compile(&view(&[second, base].concat()));
    assert_eq!(compiled.snapshot.unwrap().listeners()[0].port, 9090);
}

#[test]
fn a_fleet_without_a_rollout_serves_nothing_and_says_so() {
    let mut world = World::new();
    let (compiled, problems) = world.compile(&view(&[pool("api", 80), route("a", "api"), route("b", "api")].concat()));
    assert!(compiled.snapshot.is_none());
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .to_string()
            .contains("no Rollout says how fleet edge listens; 2 routes wait for it"),
        "{}",
        problems[0]
    );
}

#[test]
fn a_host_belongs_to_the_oldest_namespace_also_while_its_route_is_broken() {
    let old = |spec: &str| {
        doc("ProxyRoute", "zebra/a", spec).replace("name: a,", "name: a, creationTimestamp: \"2020-01-01T00:00:00Z\",")
    };
    let owned = "{fleet: edge, hostnames: [x.example.com], rules: [{name: all, pool: api}]}";
    let thief = doc("ProxyRoute", "ape/b", owned);
    let base = [
        rollout(),
        pool("zebra/api", 80),
        pool("ape/api", 80),
        route("ape/c", "api"),
    ]
    .concat();
    let mut world = World::with(&[base.clone(), old(owned)].concat());
    for broken in [owned.to_owned(), owned.replace("rules", "ruls")] {
        let (compiled, problems) = world.compile(&view(&[base.clone(), old(&broken), thief.clone()].concat()));
        assert_eq!(changed(&compiled), [""; 0], "{problems:?}");
        let told = problems
            .iter()
            .find(|problem| problem.object == Some(key("ProxyRoute ape/b")))
            .unwrap();
        assert_eq!(
            told.message,
            "x.example.com belongs to namespace zebra, by ProxyRoute zebra/a"
        );
        assert_eq!(told.field.as_str(), "spec.hostnames[0]");
    }
}

#[test]
fn an_object_in_two_places_serves_as_it_did() {
    let base = [rollout(), route("a", "api")].concat();
    let twice = [base.clone(), pool("api", 80), pool("api", 81)].concat();
    let first = |compiled: &Compiled| {
        let pool = compiled.snapshot.as_ref().unwrap().pool(&key("Pool shop/api"));
        match &pool.unwrap().source {
            PoolSource::Static(endpoints) => endpoints[0].address.port(),
            PoolSource::Service(service) => panic!("{service}"),
        }
    };
    let mut world = World::with(&[base.clone(), pool("api", 79)].concat());
    let (compiled, problems) = world.compile(&view(&twice));
    assert_eq!((first(&compiled), problems.len()), (79, 2), "{problems:?}");
    let (compiled, _) = World::new().compile(&view(&twice));
    assert_eq!(first(&compiled), 80, "it never served: the first in the file");
}

#[test]
fn unchanged_objects_are_not_translated_again() {
    let mut compiler = Compiler::new(unit_digest);
    let view = view(&[rollout(), pool("api", 80), route("a", "api")].concat());
    let unit = |compiler: &Compiler| {
        compiler.translation.items[&key("Pool shop/api")]
            .meaning
            .as_ref()
            .unwrap()
            .unit()
            .clone()
    };
    compiler.compile(&view, &BTreeMap::new());
    let before = unit(&compiler);
    compiler.compile(&view, &BTreeMap::new());
    assert!(Arc::ptr_eq(&before, &unit(&compiler)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn equal_objects_in_any_order_compile_to_the_same(
        docs in prop::collection::vec((0..6_usize, 0..4_usize, 0..3_u16), 1..20),
        order in prop::collection::vec(any::<u32>(), 40),
    ) {
        let mut texts = vec![rollout()];
        for (kind, name, variant) in docs {
            let namespace = ["shop", "store"][usize::from(variant) % 2];
            texts.push(match kind {
                0..3 => pool(&format!("{namespace}/p{name}"), 80 + variant),
                3..5 => route(&format!("{namespace}/r{name}"), &format!("p{variant}")),
                _ => doc("ProxyRoute", &format!("{namespace}/s{name}"), &format!("{{fleet: edge, rules: [{{name: x, pool: p{variant}}}]}}")),
            });
        }
        let objects = read(&texts.concat());
        // Of one object written twice the first counts, so which is first must not change.
        let distinct: BTreeMap<_, _> = objects.into_iter().rev().map(|object| (object.key.clone(), object)).collect();
        let mut shuffled: Vec<_> = distinct.values().cloned().zip(order).collect();
        shuffled.sort_by_key(|(_, at)| *at);
        let compile = |objects: Objects| {
            let (compiled, problems) = World::new().compile(&View { objects, ..View::default() });
            let units: Vec<_> = compiled.snapshot.iter().flat_map(|s| &s.config().units).map(|(key, unit)| (key.clone(), unit_digest(key, unit))).collect();
            (units, problems)
        };
        prop_assert_eq!(
            compile(distinct.into_values().collect()),
            compile(shuffled.into_iter().map(|(object, _)| object).collect())
        );
    }
}

#[test]
fn what_may_have_moved_into_an_unreadable_file_is_not_removed_until_that_is_known() {
    let others: String = ["c", "d", "e", "f", "g"].map(|name| route(name, "api")).concat();
    let rest = [rollout(), pool("api", 80), others].concat();
    let mut world = World::with(&[route("a", "api"), route("b", "api"), rest.clone()].concat());
    // a and b are cut out of their file and pasted into another, which is half written.
    let mut seen = view(&rest);
    seen.coverage = Coverage::Except(["new.yaml".into()].into());
    let (compiled, problems) = world.compile(&seen);
    assert_eq!(changed(&compiled), [""; 0], "{problems:?}");
    let told = problems[0].to_string();
    assert_eq!(problems.len(), 1, "{problems:?}");
    for part in [
        "new.yaml: warning: ProxyRoute shop/a is gone from",
        "1 more",
        "mend this file or delete it",
    ] {
        assert!(told.contains(part), "{told}");
    }
    seen.coverage = Coverage::Whole;
    let (compiled, problems) = world.compile(&seen);
    assert_eq!(
        changed(&compiled),
        ["ProxyRoute shop/a", "ProxyRoute shop/b"],
        "{problems:?}"
    );
}

#[test]
fn what_is_out_of_sight_is_still_there() {
    let base = [route("a", "api"), route("b", "api")].concat();
    let mut world = World::with(&[rollout(), base.clone(), pool("api", 80)].concat());
    // The file with the Rollout and the pool is half written; the one with the routes is edited.
    let stable = world.state.stable.as_mut().unwrap();
    for key in [key("Rollout shop/edge"), key("Pool shop/api")] {
        stable.sources.insert(key, "b.yaml".into());
    }
    let rival = doc(
        "Rollout",
        "rival",
        "{fleet: edge, dataPlane: {listeners: [{name: http, port: 9090}]}}",
    );
    let mut seen = view(&[base.replace("b.example.com", "c.example.com"), rival].concat());
    seen.coverage = Coverage::Except(["b.yaml".into()].into());
    let (compiled, problems) = world.compile(&seen);
    assert_eq!(changed(&compiled), ["ProxyRoute shop/b".to_owned()], "{problems:?}");
    assert_eq!(compiled.snapshot.unwrap().listeners()[0].port, 8080);
    assert_eq!(problems.len(), 1, "only the rival: {problems:?}");
}
