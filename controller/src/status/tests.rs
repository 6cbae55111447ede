//! Where objects stand, and what their status says of it, as tables: out of real manifests and a real compile, with what a
//! fleet serves of them made up.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Value, json};
use sluice_crds::CommandStatus;
use sluice_model::{Digest, FleetName, Kind, ObjectKey, RevisionId, ServiceRef, Snapshot};
use sluice_proto::sections::unit_digest;

use super::desired::{Desired, Weight};
use super::projection::Projection;
use super::schedule::Write;
use super::watched::Watched;
use super::{patch, resource};
use crate::compile::{Compiler, FleetState, Output, Stable};
use crate::live::Presence;
use crate::objects::{Object, Stored};
use crate::pipeline::situation::{
    Chosen, Extent, FleetSituation, Knowledge, Obstacle, Served, Situation, Spread, StableContent, Tried, Written,
};
use crate::problem::{FieldPath, Severity};
use crate::rollout::record::Held;
use crate::rollout::status::{Hindrance, Phase};
use crate::rollout::{Beginning, Core, Failure, Millis, Plan, RolloutStatus};
use crate::source::{View, manifest, yaml};

pub(crate) const GOOD: &str = "
apiVersion: sluice.dev/v1alpha1
kind: Rollout
metadata: {name: edge, namespace: sluice-system}
spec: {fleet: edge, dataPlane: {listeners: [{name: http, port: 80}]}}
---
apiVersion: sluice.dev/v1alpha1
kind: Pool
metadata: {name: api, namespace: shop}
spec: {endpoints: [{address: 10.0.0.1, port: 80}, {address: 10.0.0.2, port: 80, weight: 0}]}
---
apiVersion: sluice.dev/v1alpha1
kind: ProxyRoute
metadata: {name: shop, namespace: shop}
spec: {fleet: edge, hostnames: [shop.example.com], rules: [{name: all, pool: api}]}
";

/// The same route with another host.
fn with_another_host() -> String {
    GOOD.replace("shop.example.com", "new.example.com")
}

fn revision(number: u8) -> RevisionId {
    RevisionId {
        number: number.into(),
        digest: Digest([number; 32]),
    }
}

pub(crate) fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn edge() -> FleetName {
    "edge".parse().unwrap()
}

/// The objects of `text` as an API server stores them at `generation`.
fn view(text: &str, generation: i64) -> View {
    let read = manifest::read(&"test".into(), yaml::documents(text).unwrap());
    let stored = |object: Arc<Object>| {
        let stored = Stored {
            uid: object.key.to_string().into(),
            generation,
            resource_version: "1".into(),
        };
        Arc::new(Object {
            stored: Some(stored),
            ..(*object).clone()
        })
    };
    View {
        objects: read.objects.into_iter().map(stored).collect(),
        problems: read.problems,
        ..View::default()
    }
}

/// A fleet, and objects that were compiled for it.
pub(crate) struct Bench {
    compiler: Compiler,
    view: View,
    output: Output,
    served: Served,
    rollout: RolloutStatus,
    projection: Projection,
    pub(crate) watched: BTreeMap<ObjectKey, Arc<DynamicObject>>,
    pub(crate) commands: BTreeMap<ObjectKey, CommandStatus>,
    services: BTreeMap<ServiceRef, Presence>,
}

impl Bench {
    /// `text` is in service everywhere, as revision 1.
    pub(crate) fn serving(text: &str) -> Self {
        let mut compiler = Compiler::new(unit_digest);
        let view = view(text, 1);
        let output = compiler.compile(&view, &BTreeMap::new());
        let core = Core::begin(edge(), Plan::built_in(), Beginning::NewFleet);
        let mut rollout = core.status(Millis(0));
        (rollout.phase, rollout.hindrance) = (Phase::Idle, None);
        let mut bench = Self {
            served: Served {
                knowledge: Knowledge::Complete,
                stable: None,
                tried: None,
                spread: Spread::Acknowledged,
                chosen: Arc::default(),
                held: Arc::new([]),
                obstacle: Obstacle::Turn,
            },
            compiler,
            view,
            output,
            rollout,
            projection: Projection::default(),
            watched: BTreeMap::new(),
            commands: BTreeMap::new(),
            services: BTreeMap::new(),
        };
        bench.choose();
        bench.promote(1);
        bench
    }

    fn snapshot(&self) -> Option<Snapshot> {
        self.output.fleets.get(&edge())?.snapshot.clone()
    }

    fn choose(&mut self) {
        let Some(compiled) = self.output.fleets.get(&edge()) else {
            return;
        };
        let quarantined = compiled.quarantined.iter();
        self.served.chosen = Arc::new(Chosen {
            sources: compiled.sources.clone(),
            quarantined: quarantined.map(|one| (one.object.clone(), one.clone())).collect(),
            governing: compiled.governing.clone(),
            governed: compiled.governed,
        });
    }

    /// What the objects compile to is stable now.
    fn promote(&mut self, number: u8) {
        let snapshot = self.snapshot().map(Arc::new);
        self.served.stable = Some(StableContent {
            revision: revision(number),
            snapshot,
        });
        self.served.tried = None;
    }

    /// The author writes something else.
    pub(crate) fn write(&mut self, text: &str, generation: i64) {
        let stable = self.served.stable.as_ref().and_then(|stable| stable.snapshot.clone());
        let state = FleetState {
            stable: stable.map(|snapshot| Stable {
                snapshot,
                sources: self.served.chosen.sources.clone(),
            }),
            held: self
                .served
                .held
                .iter()
                .map(|held| (held.object.clone(), held.content))
                .collect(),
        };
        self.view = view(text, generation);
        self.output = self.compiler.compile(&self.view, &[(edge(), state)].into());
        self.choose();
    }

    /// What the objects compile to is tried as revision 2.
    fn try_out(&mut self, extent: Extent) {
        let changed = self.output.fleets[&edge()].changed.iter();
        self.served.tried = Some(Arc::new(Tried {
            revision: revision(2),
            stage: "canary".to_owned(),
            index: 1,
            of: 3,
            extent,
            changed: changed.map(|changed| (changed.object.clone(), changed.after)).collect(),
        }));
    }

    fn hold(&mut self, object: &str) {
        let object = key(object);
        let item = &self.compiler.translation().items[&object];
        let unit = item.meaning.as_ref().unwrap().unit();
        self.served.held = Arc::new([Held {
            content: Some(unit_digest(&object, unit)),
            object,
            revision: revision(2),
            stage: "canary".to_owned(),
            failure: Failure::Aborted {
                by: "ada".to_owned(),
                reason: String::new(),
            },
            at: Millis(0),
        }]);
        self.served.tried = None;
    }

    pub(crate) fn situation(&self) -> Situation {
        let fleet = FleetSituation {
            rollout: Arc::new(self.rollout.clone()),
            served: Arc::new(self.served.clone()),
            rotation: Arc::default(),
        };
        Situation {
            written: Some(Arc::new(Written {
                translation: self.compiler.translation().clone(),
                problems: self.output.problems.clone().into(),
                services: Arc::new(self.services.clone()),
            })),
            fleets: [(edge(), fleet)].into(),
        }
    }

    /// Something is wrong around an object.
    pub(crate) fn warn(&mut self, object: &str, field: &str, message: &str) {
        let item = &self.compiler.translation().items[&key(object)];
        let field = field.split('.').filter(|part| !part.is_empty());
        let field = field.fold(FieldPath::default(), |path, part| path.field(part));
        let problem = item.object.problem(Severity::Warning, field, message, "mend it");
        self.output.problems.push(problem);
    }

    fn desired(&mut self, object: &str) -> Option<Desired> {
        let situation = self.situation();
        let projected = self.projection.project(&situation, &self.watched, &self.commands);
        let key = key(object);
        let all = projected.contents.unwrap_or_default();
        all.get(&key).or(projected.rollouts.get(&key)).cloned()
    }

    /// The status of an object in one line: `programmed liveIn | condition=status/reason …`.
    fn says(&mut self, object: &str) -> String {
        match self.desired(object) {
            Some(desired) => in_short(&desired),
            None => "-".to_owned(),
        }
    }

    /// What is to be said is written, and a new controller begins.
    pub(crate) fn write_and_restart(&mut self) {
        let situation = self.situation();
        let projected = self.projection.project(&situation, &self.watched, &self.commands);
        for (key, desired) in projected
            .contents
            .unwrap_or_default()
            .into_iter()
            .chain(projected.rollouts)
        {
            let write = Write {
                object: key.clone(),
                desired,
                shown: Value::Null,
                version: "1".to_owned(),
            };
            let body = patch::body(&write, "2026-11-23T10:00:00Z");
            let mut object = DynamicObject::new(key.name.as_str(), &resource(key.kind));
            object.metadata.uid = Some(key.to_string());
            object.metadata.resource_version = Some("2".to_owned());
            object.data = json!({"status": body["status"]});
            self.watched.insert(key, Arc::new(object));
        }
        self.projection = Projection::default();
    }
}

fn in_short(desired: &Desired) -> String {
    let field = |name: &str| {
        desired
            .fields
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or("-")
            .to_owned()
    };
    let facts: Vec<String> = desired
        .facts
        .iter()
        .map(|fact| format!("{}={}/{}", fact.type_, fact.truth.as_str(), fact.reason.as_str()))
        .collect();
    let head = match (
        desired.fields.contains_key("phase"),
        desired.fields.contains_key("endpoints"),
    ) {
        (true, _) => field("phase"),
        (false, true) => format!("{} {}", field("programmed"), field("endpoints")),
        (false, false) => format!("{} {}", field("programmed"), field("liveIn")),
    };
    format!("{head} | {}", facts.join(" "))
}

const SHOP: &str = "ProxyRoute shop/shop";
const IN_ORDER: &str = "Accepted=True/Accepted ResolvedRefs=True/Resolved";

#[track_caller]
fn check(bench: &mut Bench, expected: &str) {
    assert_eq!(bench.says(SHOP), expected);
}

#[test]
fn a_route_is_programmed_when_everybody_who_counts_has_acknowledged_it() {
    let mut bench = Bench::serving(GOOD);
    bench.served.spread = Spread::Awaited; // one is frozen
    check(
        &mut bench,
        &format!("False - | {IN_ORDER} Programmed=False/NotAcknowledged"),
    );
    bench.served.spread = Spread::Nobody;
    check(
        &mut bench,
        &format!("False - | {IN_ORDER} Programmed=False/NoInstances"),
    );
    bench.served.spread = Spread::Acknowledged;
    let live = format!("True 1-01010101 | {IN_ORDER} Programmed=True/Programmed");
    check(&mut bench, &live);
    // From now on it is, whoever joins or goes away, and whatever becomes stable for the sake of others.
    bench.served.spread = Spread::Awaited;
    check(&mut bench, &live);
    bench.promote(9);
    check(&mut bench, &live);
}

#[test]
fn a_change_is_followed_from_stage_to_stage() {
    let mut bench = Bench::serving(GOOD);
    check(
        &mut bench,
        &format!("True 1-01010101 | {IN_ORDER} Programmed=True/Programmed"),
    );
    bench.write(&with_another_host(), 2);
    check(&mut bench, &format!("False - | {IN_ORDER} Programmed=False/Waiting"));
    bench.try_out(Extent::Some);
    check(&mut bench, &format!("canary - | {IN_ORDER} Programmed=False/InStage"));
    bench.try_out(Extent::All);
    bench.served.spread = Spread::Awaited;
    check(
        &mut bench,
        &format!("False - | {IN_ORDER} Programmed=False/NotAcknowledged"),
    );
    bench.served.spread = Spread::Acknowledged;
    let live = format!("True 2-02020202 | {IN_ORDER} Programmed=True/Programmed");
    check(&mut bench, &live);
    bench.promote(2);
    check(&mut bench, &live);
    // A pool that did not change stayed where it was.
    let pool = bench.says("Pool shop/api");
    assert_eq!(
        pool,
        format!("True 1/2 | {IN_ORDER} Programmed=True/Programmed Healthy=True/InRotation")
    );
}

#[test]
fn what_is_taken_back_says_so_and_why() {
    let mut bench = Bench::serving(GOOD);
    bench.write(&with_another_host(), 2);
    bench.hold(SHOP);
    // At once, although it is compiled again only when everybody is back.
    let held = format!("RolledBack - | {IN_ORDER} Programmed=False/RolledBack");
    check(&mut bench, &held);
    bench.write(&with_another_host(), 2);
    check(&mut bench, &held);
    let desired = bench.desired(SHOP).unwrap();
    let message = &desired.facts[2].message;
    assert!(
        message.contains("2-02020202") && message.contains("aborted by ada at stage canary"),
        "{message}"
    );
    // Going back to what serves is in service at once, if everybody has followed the way back.
    bench.write(GOOD, 3);
    check(
        &mut bench,
        &format!("True 1-01010101 | {IN_ORDER} Programmed=True/Programmed"),
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_what_serves_instead() {
    let mut bench = Bench::serving(GOOD);
    let quarantined =
        "False 1-01010101 | Accepted=True/Accepted ResolvedRefs=False/PoolNotFound Programmed=False/Quarantined";
    check(
        &mut bench,
        "True 1-01010101 | Accepted=True/Accepted ResolvedRefs=True/Resolved Programmed=True/Programmed",
    );
    bench.write(&GOOD.replace("pool: api", "pool: apo"), 2);
    check(&mut bench, quarantined);
    // Whoever leads next says the same, and does not take it for being live.
    bench.write_and_restart();
    check(&mut bench, quarantined);
    let desired = bench.desired(SHOP).unwrap();
    assert_eq!(
        desired.facts[2].message,
        "spec.rules[0].pool: no Pool \"apo\" in namespace shop; did you mean \"api\"? Or create Pool shop/apo; its last good form keeps serving"
    );
    // Also where a reference should stand.
    for (right, wrong) in [
        ("name: all, pool: api", "name: all, pool: api, timeouts: {request: 0s}"),
        ("name: all, pool: api", "name: all, pool: [api]"),
        ("name: all, pool: api", "name: all"),
        ("rules: [{name: all, pool: api}]", "rules: these are none"),
    ] {
        let mut bench = Bench::serving(GOOD);
        assert!(GOOD.contains(right), "{right}");
        bench.write(&GOOD.replace(right, wrong), 2);
        check(
            &mut bench,
            "False - | Accepted=False/Invalid ResolvedRefs=Unknown/NotKnown Programmed=False/Quarantined",
        );
    }
}

#[test]
fn what_waits_says_for_what() {
    for (obstacle, reason) in [
        (Obstacle::Turn, "Waiting"),
        (Obstacle::Paused, "Paused"),
        (Obstacle::Frozen, "Frozen"),
        (Obstacle::Blocked(revision(2)), "Blocked"),
        (Obstacle::Withheld("held: 3 instances lack x".to_owned()), "Withheld"),
        (Obstacle::NoInstances, "NoInstances"),
    ] {
        let mut bench = Bench::serving(GOOD);
        bench.write(&with_another_host(), 2);
        bench.served.obstacle = obstacle;
        check(&mut bench, &format!("False - | {IN_ORDER} Programmed=False/{reason}"));
    }
    let mut bench = Bench::serving(GOOD);
    bench.write(&GOOD.replace("fleet: edge, hostnames", "fleet: other, hostnames"), 2);
    check(&mut bench, &format!("False - | {IN_ORDER} Programmed=False/NoRollout"));
    let spare = GOOD.split("---").nth(1).unwrap().replace("name: api", "name: spare");
    let mut bench = Bench::serving(&format!("{GOOD}\n---{spare}"));
    assert!(bench.says("Pool shop/spare").contains("Programmed=False/NotUsed"));
}

#[test]
fn without_its_rollout_a_fleet_serves_on_and_says_so() {
    let mut bench = Bench::serving(GOOD);
    let live = format!("True 1-01010101 | {IN_ORDER} Programmed=True/Programmed");
    check(&mut bench, &live);
    let orphaned = GOOD.split_once("---").unwrap().1;
    bench.write(orphaned, 1);
    // Its instances are not let in any more.
    bench.served.spread = Spread::Nobody;
    bench.served.obstacle = Obstacle::NoInstances;
    let gone = format!("False 1-01010101 | {IN_ORDER} Programmed=False/NoRollout");
    check(&mut bench, &gone);
    let desired = bench.desired(SHOP).unwrap();
    assert_eq!(
        desired.weight,
        Weight::Failing,
        "written however many there are: no Rollout speaks for them"
    );
    let message = &desired.facts[2].message;
    for part in ["fleet edge", "since revision 1-01010101", "apply one with fleet: edge"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(bench.says("Pool shop/api").contains("Programmed=False/NoRollout"));
    // Whoever leads next says the same.
    bench.write_and_restart();
    check(&mut bench, &gone);
    // A new content is served by nobody.
    bench.write(&orphaned.replace("shop.example.com", "new.example.com"), 2);
    check(&mut bench, &format!("False - | {IN_ORDER} Programmed=False/NoRollout"));
    // And when it is applied again, all is as it was.
    let mut bench = Bench::serving(GOOD);
    check(&mut bench, &live);
    bench.write(orphaned, 1);
    check(&mut bench, &gone);
    bench.write_and_restart();
    bench.write(GOOD, 1);
    bench.served.spread = Spread::Awaited;
    check(&mut bench, &live);
}

#[test]
fn a_pool_says_whether_its_service_is_there_also_while_nobody_uses_it() {
    let pool = "
apiVersion: sluice.dev/v1alpha1
kind: Pool
metadata: {name: spare, namespace: shop}
spec: {service: {name: api, port: 80}}
";
    let service: ServiceRef = "shop/api:80".parse().unwrap();
    let mut bench = Bench::serving(&format!("{GOOD}\n---{pool}"));
    let mut resolved = |presence: Presence| {
        bench.services = [(service.clone(), presence)].into();
        let says = bench.says("Pool shop/spare");
        assert!(says.contains("Programmed=False/NotUsed"), "{says}");
        let condition = says.split(' ').find_map(|word| word.strip_prefix("ResolvedRefs="));
        condition.unwrap().to_owned()
    };
    assert_eq!(resolved(Presence::Unseen), "Unknown/NotKnown");
    assert_eq!(resolved(Presence::Missing), "False/ServiceNotFound");
    assert_eq!(resolved(Presence::Unusable), "False/ServiceNotUsable");
    assert_eq!(resolved(Presence::Present), "True/Resolved");
    // Nothing is said in the moment before that is known.
    bench.services.clear();
    assert_eq!(bench.says("Pool shop/spare"), "-");
}

#[test]
fn a_route_says_what_its_pool_lacks_and_names_both() {
    let of_service = GOOD.replace(
        "endpoints: [{address: 10.0.0.1, port: 80}, {address: 10.0.0.2, port: 80, weight: 0}]",
        "service: {name: backend, port: 80}",
    );
    let service: ServiceRef = "shop/backend:80".parse().unwrap();
    let mut bench = Bench::serving(&of_service);
    bench.warn("Pool shop/api", "spec.service", "there is no Service shop/backend");
    let mut resolved = |presence: Presence| {
        bench.services = [(service.clone(), presence)].into();
        let fact = bench.desired(SHOP).unwrap().facts[1].clone();
        (
            format!("{}={}/{}", fact.type_, fact.truth.as_str(), fact.reason.as_str()),
            fact.message,
        )
    };
    let (fact, message) = resolved(Presence::Missing);
    assert_eq!(fact, "ResolvedRefs=False/ServiceNotFound");
    assert_eq!(
        message,
        "Pool shop/api: spec.service: there is no Service shop/backend; mend it"
    );
    assert_eq!(resolved(Presence::Unusable).0, "ResolvedRefs=False/ServiceNotUsable");
    assert_eq!(resolved(Presence::Unseen).0, "ResolvedRefs=Unknown/NotKnown");
    assert_eq!(resolved(Presence::Present).0, "ResolvedRefs=True/Resolved");
    // Nothing is said in the moment before that is known.
    bench.services.clear();
    check(&mut bench, "-");
}

#[test]
fn a_pool_in_error_is_told_on_its_route_and_is_healthy_only_if_its_last_good_form_serves() {
    let broken = GOOD.replace("address: 10.0.0.1", "address: 169.254.169.254");
    let mut bench = Bench::serving(GOOD);
    bench.write(&broken, 2);
    check(
        &mut bench,
        "True 1-01010101 | Accepted=True/Accepted ResolvedRefs=False/PoolNotUsable Programmed=True/Programmed",
    );
    let message = bench.desired(SHOP).unwrap().facts[1].message.clone();
    assert!(
        message.starts_with("Pool shop/api is in error: spec.endpoints"),
        "{message}"
    );
    assert!(message.ends_with("; its last good form keeps serving"), "{message}");
    let pool = bench.desired("Pool shop/api").unwrap();
    let healthy = |pool: &Desired| pool.facts[3].clone();
    assert_eq!(healthy(&pool).truth.as_str(), "True");
    assert!(healthy(&pool).message.contains("last good form"));
    assert_eq!(pool.fields["endpoints"], "1/2", "of the form that serves");
    // Where there is none, nothing of it is.
    let mut bench = Bench::serving(&broken);
    let pool = bench.desired("Pool shop/api").unwrap();
    assert_eq!(
        (healthy(&pool).truth.as_str(), healthy(&pool).reason.as_str()),
        ("False", "Quarantined")
    );
    assert!(!pool.fields.contains_key("endpoints"));
    check(
        &mut bench,
        "False - | Accepted=True/Accepted ResolvedRefs=False/PoolNotUsable Programmed=False/Quarantined",
    );
}

#[test]
fn a_new_leader_says_nothing_new_before_it_knows_the_fleet() {
    for knowledge in [Knowledge::Gathering, Knowledge::Counted] {
        let mut bench = Bench::serving(GOOD);
        bench.served.knowledge = knowledge;
        bench.served.spread = Spread::Awaited;
        check(&mut bench, "-");
        // Nobody is there yet: that is no reason either.
        bench.served.spread = Spread::Nobody;
        check(&mut bench, "-");
    }
    // What was said before the takeover stays, revision and all, also while nobody is connected.
    let mut bench = Bench::serving(GOOD);
    bench.write_and_restart();
    bench.served.knowledge = Knowledge::Gathering;
    bench.served.spread = Spread::Nobody;
    bench.promote(7);
    check(
        &mut bench,
        &format!("True 1-01010101 | {IN_ORDER} Programmed=True/Programmed"),
    );
    // Of another generation nothing was said.
    bench.write(GOOD, 2);
    check(&mut bench, "-");
    // While the content of stable is lost nothing can be told.
    bench.served.knowledge = Knowledge::Complete;
    bench.served.stable = Some(StableContent {
        revision: revision(7),
        snapshot: None,
    });
    check(&mut bench, "-");
}

#[test]
fn a_pool_of_several_fleets_is_where_it_is_worst() {
    let mut bench = Bench::serving(GOOD);
    let mut situation = bench.situation();
    let other = FleetSituation {
        served: Arc::new(Served {
            spread: Spread::Awaited,
            ..bench.served.clone()
        }),
        ..situation.fleets[&edge()].clone()
    };
    situation.fleets.insert("other".parse().unwrap(), other);
    let projected = bench.projection.project(&situation, &bench.watched, &bench.commands);
    let said = in_short(&projected.contents.unwrap()[&key("Pool shop/api")]);
    assert!(said.contains("Programmed=False/NotAcknowledged"), "{said}");
}

#[test]
fn every_phase_has_its_conditions() {
    use Hindrance::{DeadlinePassed, FleetIncomplete, InstanceTrouble, MissingEvidence, NoConfiguration, NoInstances};
    let stalled = |hindrance| (Phase::Stalled, Some(hindrance));
    let under_way = |reason: &str| {
        format!("Ready=False/{reason} Progressing=True/{reason} Degraded=False/Healthy Reconciling=True/{reason}")
    };
    let waits = |reason: &str| {
        format!("Ready=False/{reason} Progressing=False/{reason} Degraded=False/Healthy Reconciling=True/{reason}")
    };
    let needs_somebody = |reason: &str| {
        format!("Ready=False/{reason} Progressing=False/{reason} Degraded=False/Healthy Stalled=True/{reason}")
    };
    let at_rest = "Ready=True/Promoted Progressing=False/Idle Degraded=False/Healthy".to_owned();
    let table = [
        ((Phase::Idle, None), at_rest),
        ((Phase::Progressing, None), under_way("Progressing")),
        ((Phase::Baking, None), under_way("Baking")),
        ((Phase::RollingBack, None), under_way("RollingBack")),
        ((Phase::Paused, None), waits("Paused")),
        (stalled(NoInstances), waits("NoInstances")),
        (stalled(FleetIncomplete), waits("FleetIncomplete")),
        (stalled(NoConfiguration), waits("NoConfiguration")),
        (stalled(Hindrance::RecordMissing), waits("RecordMissing")),
        (stalled(MissingEvidence), waits("MissingEvidence")),
        (stalled(InstanceTrouble), waits("InstanceTrouble")),
        (stalled(DeadlinePassed), needs_somebody("DeadlinePassed")),
        ((Phase::Frozen, None), needs_somebody("Frozen")),
        ((Phase::RolledBack, None), needs_somebody("RolledBack")),
    ];
    for ((phase, hindrance), expected) in table {
        let mut bench = Bench::serving(GOOD);
        (bench.rollout.phase, bench.rollout.hindrance) = (phase, hindrance);
        bench.rollout.instances.total = 3;
        bench.rollout.health = crate::rollout::status::Health::Healthy;
        let said = bench.says("Rollout sluice-system/edge");
        assert_eq!(said, format!("{phase:?} | Accepted=True/Accepted {expected}"));
    }
}

#[test]
fn what_degrades_a_fleet_is_said_beside_its_phase() {
    use crate::rollout::status::{Health, HeldStatus};
    let degraded = |phase, change: fn(&mut RolloutStatus)| {
        let mut bench = Bench::serving(GOOD);
        bench.rollout.phase = phase;
        bench.rollout.health = Health::Degraded;
        bench.rollout.instances.total = 3;
        change(&mut bench.rollout);
        let said = bench.says("Rollout sluice-system/edge");
        said.split(' ')
            .find(|word| word.starts_with("Degraded"))
            .unwrap()
            .to_owned()
    };
    let hold = |rollout: &mut RolloutStatus| {
        rollout.held.push(HeldStatus {
            object: SHOP.to_owned(),
            content: "abc".to_owned(),
            revision: "2-02020202".to_owned(),
            reason: "x".to_owned(),
            at: String::new(),
        });
    };
    assert_eq!(degraded(Phase::Baking, hold), "Degraded=True/ContentsHeld");
    assert_eq!(
        degraded(Phase::Idle, |rollout| rollout.instances.refused = 1),
        "Degraded=True/OrderRefused"
    );
    assert_eq!(degraded(Phase::Idle, |_| ()), "Degraded=True/InstancesUnreached");
    assert_eq!(degraded(Phase::RollingBack, |_| ()), "Degraded=True/RollingBack");
    assert_eq!(degraded(Phase::Frozen, hold), "Degraded=True/Frozen");
    let mut bench = Bench::serving(GOOD);
    let nobody = bench.says("Rollout sluice-system/edge");
    assert!(
        nobody.contains("Ready=False/NoInstances") && nobody.contains("Reconciling=True"),
        "{nobody}"
    );
}

#[test]
fn a_rollout_that_does_not_govern_says_who_does() {
    let second = GOOD.replace(
        "name: edge, namespace: sluice-system",
        "name: second, namespace: sluice-system",
    );
    let second = second.split("---").next().unwrap();
    let mut bench = Bench::serving(GOOD);
    bench.write(&format!("{GOOD}\n---{second}"), 1);
    let refused = "Accepted=False/NotGoverning Ready=False/NotGoverning Stalled=True/NotGoverning";
    assert_eq!(
        bench.says("Rollout sluice-system/second"),
        format!("Stalled | {refused}")
    );
    // One that is in error says so, and goes on governing in its last good form.
    bench.write(&GOOD.replace("port: 80}]}}", "port: 80}, {name: b, port: 80}]}}"), 2);
    let said = bench.says("Rollout sluice-system/edge");
    assert!(said.starts_with("Idle | Accepted=False/Invalid"), "{said}");
    assert!(said.contains("Stalled=True/Invalid"), "{said}");
}

#[test]
fn what_is_wrong_around_a_fleet_leads_its_message() {
    let rollout = "Rollout sluice-system/edge";
    let mut bench = Bench::serving(GOOD);
    bench.rollout.phase = Phase::Stalled;
    bench.rollout.message = "no instance is connected".to_owned();
    bench.warn(rollout, "", "the keys are new");
    bench.warn(
        rollout,
        "spec.members",
        "pods in namespace shop cannot learn whom to trust",
    );
    let desired = bench.desired(rollout).unwrap();
    assert_eq!(
        desired.fields["message"],
        json!("the keys are new; mend it. no instance is connected")
    );
    let accepted = &desired.facts[0];
    assert_eq!(
        (accepted.type_, accepted.message.as_str()),
        (
            "Accepted",
            "it is in order, but: the keys are new; mend it (and 1 more)"
        )
    );
}

#[test]
fn a_person_is_answered_although_nothing_else_can_be_told() {
    let command = |id: &str| CommandStatus {
        id: id.to_owned(),
        verb: "pause".to_owned(),
        revision: "1-01010101".to_owned(),
        by: "ada".to_owned(),
        result: sluice_crds::CommandResult::Done,
        message: String::new(),
        at: String::new(),
    };
    let rollout = "Rollout sluice-system/edge";
    let mut bench = Bench::serving(GOOD);
    bench.rollout.phase = Phase::Baking;
    bench.commands.insert(key(rollout), command("a"));
    bench.write_and_restart();
    bench.served.knowledge = Knowledge::Gathering;
    bench.rollout.phase = Phase::Stalled;
    bench.commands.clear();
    assert_eq!(bench.says(rollout), "-");
    bench.commands.insert(key(rollout), command("b"));
    let desired = bench.desired(rollout).unwrap();
    assert_eq!(
        (&desired.fields["phase"], &desired.fields["command"]["id"]),
        (&json!("Baking"), &json!("b"))
    );
    // An answer stays until there is another.
    bench.commands.clear();
    bench.served.knowledge = Knowledge::Counted;
    let desired = bench.desired(rollout).unwrap();
    assert_eq!(
        (&desired.fields["phase"], &desired.fields["command"]["id"]),
        (&json!("Stalled"), &json!("a"))
    );
}

#[test]
fn statuses_fit_the_schema_and_the_types_of_the_api() {
    let mut bench = Bench::serving(GOOD);
    bench.write_and_restart();
    for (key, object) in &bench.watched {
        let status = object.data["status"].clone();
        let read = match key.kind {
            Kind::ProxyRoute => serde_json::from_value::<sluice_crds::ProxyRouteStatus>(status).map(drop),
            Kind::Pool => serde_json::from_value::<sluice_crds::PoolStatus>(status).map(drop),
            Kind::Rollout => serde_json::from_value::<sluice_crds::RolloutStatus>(status).map(drop),
        };
        assert!(read.is_ok(), "{key}: {read:?}");
    }
    assert!(bench.watched.object(&key(SHOP)).is_some());
}
