//! A fleet whose folder does not outlive its process: what counts is kept elsewhere, does not always answer, and is
//! written by others. And how much it is that is written.

use std::fs;

use sluice_model::Kind;
use sluice_model::limits::{MAX_CONFIG_MAP_BYTES, REMOVED_AT_ONCE};
use sluice_proto::sections::unit_digest;
use sluice_proto::{Ack, Downward, Order, Report, UpwardMessage, open_order};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::tests::{NOW, Sent, epochs, first_target, fleet, join, shared};
use super::*;
use crate::compile::{Compiled, Compiler};
use crate::keyring::Keyring;
use crate::live::Values;
use crate::objects::{Object, Origin, Spec, Stored};
use crate::revisions::Piece;
use crate::revisions::remote::memory::{Memory, Mood};
use crate::rollout::{Gate, PerMillion, Stage};
use crate::source::View;
use crate::stream::LinkId;

fn remote() -> (TempDir, Arc<Memory>, Shared) {
    let state = tempfile::tempdir().unwrap();
    let memory = Arc::new(Memory::default());
    let shared = Shared {
        remote: Some(memory.clone()),
        ..shared(state.path())
    };
    (state, memory, shared)
}

fn tick(fleet: &mut Fleet, seconds: u64) -> Next {
    fleet.happen(Event::Tick, Millis(NOW.0 + seconds * 1_000))
}

#[test]
fn the_record_is_kept_there_alone() {
    let (state, memory, shared) = remote();
    let mut first = fleet(&shared);
    let mut sent = join(&mut first);
    first.happen(first_target(&first), NOW);
    let epoch = first.core.record().epoch;
    assert_eq!(epochs(&first, &mut sent), [epoch]);
    assert_eq!(memory.state().records.len(), 1);
    assert!(!state.path().join("fleets/edge/record.json").exists());
    drop(first);
    assert_eq!(fleet(&shared).core.record().epoch, epoch);
}

#[test]
fn nothing_is_ordered_that_could_not_be_written() {
    let (_state, memory, shared) = remote();
    let mut first = fleet(&shared);
    let mut sent = join(&mut first);
    memory.state().mood = Mood::Away;
    first.happen(first_target(&first), NOW);
    assert_eq!(epochs(&first, &mut sent), [0_u64; 0]);
    assert!(first.last_refusal.as_ref().unwrap().contains("does not answer"));
    memory.state().mood = Mood::Answers;
    let mut sent = join(&mut first);
    first.happen(first_target(&first), NOW);
    assert_eq!(epochs(&first, &mut sent), [first.core.record().epoch]);
}

#[test]
fn what_was_written_although_no_answer_came_is_found_and_followed() {
    let (_state, memory, shared) = remote();
    let mut first = fleet(&shared);
    let mut sent = join(&mut first);
    memory.state().mood = Mood::AnswersAreLost;
    first.happen(first_target(&first), NOW);
    assert_eq!(
        epochs(&first, &mut sent),
        [0_u64; 0],
        "nobody knows that it was written"
    );
    memory.state().mood = Mood::Answers;
    let mut sent = join(&mut first);
    first.happen(first_target(&first), NOW);
    tick(&mut first, 1);
    let committed: serde_json::Value = {
        let state = memory.state();
        serde_json::from_slice(&state.records.values().next().unwrap().0).unwrap()
    };
    let epoch = committed["record"]["epoch"].as_u64().unwrap();
    assert_eq!(epochs(&first, &mut sent), [epoch], "what is written is what is ordered");
}

#[test]
fn observations_that_cannot_be_written_are_written_later() {
    let mut world = World::with(30, &[(100, 60_000)]);
    world.change(1);
    world.run(10);
    let observed = |world: &World| world.fleet.core.record().rollout.as_ref().unwrap().observed_ms;
    assert!(observed(&world) > 5_000);
    world.memory.state().mood = Mood::Away;
    let before = observed(&world);
    world.run(10);
    assert!(observed(&world) >= before + 8_000, "it goes on");
    world.memory.state().mood = Mood::Answers;
    world.run(6);
    let (record, _) = world.fleet.revisions.load_record().unwrap().unwrap();
    assert!(record.rollout.unwrap().observed_ms >= before + 10_000);
}

#[test]
fn a_record_that_was_deleted_is_asked_back_from_instances() {
    let (_state, memory, shared) = remote();
    let mut first = fleet(&shared);
    let mut sent = join(&mut first);
    first.happen(first_target(&first), NOW);
    let ordered = epochs(&first, &mut sent);
    memory.state().records.clear();
    first.happen(Event::PlanChanged(plan(&[(100, 0)])), NOW);
    assert_eq!(first.core.record().beginning, Beginning::RecordMissing);
    assert_eq!(first.core.record().stable, None);
    assert!(
        first.instances.values().all(|seen| seen.link.is_none()),
        "they say hello again"
    );
    assert!(memory.state().records.is_empty() && ordered.len() == 1);
}

/// As after a restore of etcd: the record is an older one, and some of what was written since is gone.
#[test]
fn an_older_record_that_was_put_back_is_noticed_and_overtaken() {
    let mut world = World::with(30, &[(100, 0)]);
    let (old, stable) = (world.memory.state().records.clone(), world.stable());
    world.change(1);
    world.run(3);
    let newer = world.stable();
    assert_eq!((stable.number, newer.number), (1, 2));
    let epoch = world.fleet.core.record().epoch;
    {
        let mut state = world.memory.state();
        state.records = old;
        let manifest = |name: &crate::revisions::PieceName| format!("{name:?}").contains("number: 2");
        state.pieces.retain(|name, _| !manifest(name));
    }
    // The objects were put back as well; whatever comes next finds out.
    world
        .fleet
        .happen(Event::PlanChanged(plan(&[(50, 0), (100, 0)])), world.now);
    assert_eq!(world.stable(), stable);
    assert!(
        world.fleet.instances.values().all(|seen| seen.link.is_none()),
        "they are asked again"
    );
    world.connect();
    world.run(3);
    assert_eq!(world.stable(), newer, "what instances serve is what was proven");
    assert!(
        world.fleet.core.record().epoch >= epoch + (300 << 20),
        "past anything in flight"
    );
    world.fleet.pursue(world.now);
    let state = world.memory.state();
    let is_back = state
        .pieces
        .keys()
        .any(|name| format!("{name:?}").contains("number: 2"));
    assert!(is_back, "what the revision in force needs is kept again");
}

#[test]
fn what_is_not_needed_goes_there_and_here() {
    let mut world = World::with(30, &[(100, 0)]);
    for generation in 1..=15 {
        world.change(generation);
        world.run(3);
    }
    assert_eq!(world.stable().number, 16);
    world.run(20);
    world.memory.state().mood = Mood::Away;
    world.fleet.collect(world.now);
    assert_eq!(world.manifests(), 16, "what is not gone there stays here");
    world.memory.state().mood = Mood::Answers;
    world.fleet.collect(world.now);
    assert_eq!(world.manifests(), 10);
    let there: BTreeSet<_> = world.memory.state().pieces.keys().cloned().collect();
    let folder = crate::revisions::Folder::open(&world.state.path().join("fleets/edge")).unwrap();
    assert_eq!(folder.pieces().unwrap(), there);
    let needed = world.fleet.revisions.mend(&[world.stable()].into()).unwrap();
    assert_eq!(needed, 0, "nothing that is needed is gone");
}

/// Ten thousand routes that come in one by one leave thousands of pieces: no look takes longer for that.
#[test]
fn very_much_goes_a_part_at_a_time() {
    let mut world = World::with(100, &[(100, 0)]);
    for generation in 1..=15 {
        world.change_all(generation);
        world.run(3);
    }
    world.run(20);
    let mut left = vec![world.memory.state().pieces.len()];
    for _ in 0..100 {
        world.fleet.collect(world.now);
        left.push(world.memory.state().pieces.len());
    }
    assert!(left[0] - left[100] > 2 * REMOVED_AT_ONCE, "{left:?}");
    assert_eq!(left[0] - left[1], REMOVED_AT_ONCE, "{left:?}");
    assert_eq!(left[99], left[100], "{left:?}");
    assert_eq!(world.manifests(), 10);
}

/// What a change of one route costs the store, with stages that bake for a minute each.
#[test]
fn a_change_of_one_route_among_ten_or_twenty_thousand_is_small() {
    for routes in [10_000, 20_000] {
        let mut world = World::with(routes, &[(34, 60_000), (100, 60_000)]);
        let first = std::mem::take(&mut world.memory.state().sizes);
        let largest = first.iter().max().unwrap();
        assert!(*largest < MAX_CONFIG_MAP_BYTES / 2, "{routes} routes: {largest}");
        world.change(1);
        world.run(150);
        assert_eq!(world.stable().number, 2);
        let sizes = std::mem::take(&mut world.memory.state().sizes);
        let growth: usize = sizes.iter().sum();
        println!(
            "{routes} routes: first {} objects, {} KB, largest {largest}; a change {} writes, {growth} bytes: {sizes:?}",
            first.len(),
            first.iter().sum::<usize>() / 1_000,
            sizes.len(),
        );
        assert!(growth <= 100_000, "{routes} routes: {growth} bytes: {sizes:?}");
    }
}

/// Everything changes at once, as when a default does.
#[test]
fn a_change_of_all_routes_fits() {
    let mut world = World::with(10_000, &[(34, 60_000), (100, 60_000)]);
    world.memory.state().sizes.clear();
    world.change_all(1);
    world.run(10);
    let rollout = world.fleet.core.record().rollout.as_ref().unwrap();
    assert!(rollout.target.unlisted > 9_000 && !rollout.target.changed.is_empty());
    let sizes = std::mem::take(&mut world.memory.state().sizes);
    let largest = sizes.iter().max().unwrap();
    println!("all of 10000 routes: {} writes, largest {largest}", sizes.len());
    assert!(*largest < MAX_CONFIG_MAP_BYTES / 4, "{largest}");
}

fn plan(stages: &[(u32, u64)]) -> Plan {
    let stages = stages.iter().map(|(percent, bake_ms)| Stage {
        name: format!("s{percent}"),
        fleet: PerMillion::percent(*percent),
        bake_ms: *bake_ms,
    });
    Plan::new(
        stages.collect(),
        Plan::built_in_gates().into_iter().collect::<Vec<Gate>>(),
    )
    .unwrap()
}

/// A fleet of three instances that do what they are told, and its objects as an API server has them.
struct World {
    state: TempDir,
    memory: Arc<Memory>,
    fleet: Fleet,
    objects: Vec<Arc<Object>>,
    compiler: Compiler,
    instances: Vec<Obedient>,
    now: Millis,
}

struct Obedient {
    id: InstanceId,
    order: Option<(Order, Bytes)>,
    sent: Sent,
    link: LinkId,
}

impl World {
    /// With so many routes, all served.
    fn with(routes: usize, stages: &[(u32, u64)]) -> Self {
        let (state, memory, shared) = remote();
        let mut fleet = fleet(&shared);
        fleet.happen(Event::PlanChanged(plan(stages)), NOW);
        let mut world = Self {
            state,
            memory,
            fleet,
            objects: objects(routes),
            compiler: Compiler::new(unit_digest),
            instances: vec![],
            now: NOW,
        };
        world.connect();
        world.offer();
        world.run(20);
        assert_eq!(world.stable().number, 1);
        world
    }

    fn connect(&mut self) {
        let held: Vec<_> = self.instances.drain(..).map(|instance| instance.order).collect();
        for at in 0..3 {
            let (queue, sent) = mpsc::channel(64);
            let link = LinkId(self.now.0 + at);
            let id: InstanceId = format!("gateway-6f7c9d5b7-{at}.0a1b2c3d").parse().unwrap();
            let order = held.get(usize::try_from(at).unwrap()).cloned().flatten();
            let hello = Hello {
                order: order.as_ref().map(|(_, bytes)| bytes.clone()),
                stable: order.as_ref().map(|(order, _)| order.stable),
                features: sluice_model::Feature::ALL.iter().map(ToString::to_string).collect(),
                ..Hello::default()
            };
            let stream = Link::new(link, queue, CancellationToken::new());
            self.fleet.opened(&id, hello, stream, self.now);
            self.instances.push(Obedient { id, order, sent, link });
        }
    }

    fn compile(&mut self) -> Compiled {
        let view = View {
            objects: self.objects.iter().cloned().collect(),
            ..View::default()
        };
        let states = [(self.fleet.name.clone(), self.fleet.state(self.now))].into();
        let mut output = self.compiler.compile(&view, &states);
        let error = output.problems.iter().find(|problem| problem.is_error());
        assert!(error.is_none(), "{error:?}");
        output.fleets.remove(&self.fleet.name).unwrap()
    }

    fn offer(&mut self) {
        let compiled = self.compile();
        self.fleet.offer(compiled, &Values::default(), self.now);
    }

    /// Another path in one route.
    fn change(&mut self, generation: usize) {
        let at = self.objects.len() - 7 - generation;
        self.objects[at] = route(at, &format!("/v{generation}"));
        self.offer();
    }

    fn change_all(&mut self, generation: usize) {
        for at in 0..self.objects.len() {
            if self.objects[at].key.kind == Kind::ProxyRoute {
                self.objects[at] = route(at, &format!("/v{generation}"));
            }
        }
        self.offer();
    }

    /// Lets seconds pass, in which every instance does as it was told last, and reports.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.obey();
            self.now = Millis(self.now.0 + 1_000);
            if self.fleet.happen(Event::Tick, self.now) == Next::Recompile {
                self.offer();
            }
        }
        self.obey();
    }

    fn obey(&mut self) {
        let audience = Audience {
            cluster: self.fleet.shared.cluster.clone(),
            fleet: self.fleet.name.clone(),
        };
        for instance in &mut self.instances {
            while let Ok(message) = instance.sent.try_recv() {
                if let Downward::Order(bytes) = Downward::try_from(message.unwrap()).unwrap() {
                    let order = open_order(&self.fleet.shared.trusted, &audience, &bytes).unwrap();
                    instance.order = Some((order, bytes));
                }
            }
            let Some((order, _)) = &instance.order else { continue };
            let ack = Ack {
                epoch: order.epoch,
                stable: Some(order.stable),
                candidate: order.candidate_for(&instance.id).map(|candidate| candidate.revision),
            };
            let report = Report {
                epoch: order.epoch,
                sequence: 1,
                interval_ms: 1_000,
                roles: vec![],
                inflight: 0,
                uptime_ms: 0,
                rss_bytes: 0,
            };
            for message in [UpwardMessage::Ack(ack), UpwardMessage::Report(report)] {
                self.fleet.said(&instance.id, instance.link, message, self.now);
            }
        }
    }

    fn stable(&self) -> RevisionId {
        self.fleet.core.record().stable.unwrap()
    }

    fn manifests(&self) -> usize {
        fs::read_dir(self.state.path().join("fleets/edge/manifests"))
            .unwrap()
            .count()
    }
}

const POOLS: usize = 99;

fn objects(routes: usize) -> Vec<Arc<Object>> {
    let rollout = object(
        0,
        "Rollout sluice-system/edge",
        Spec::Rollout(
            serde_json::from_value(serde_json::json!({
                "fleet": "edge", "dataPlane": {"listeners": [{"name": "http", "port": 8080}]},
            }))
            .unwrap(),
        ),
    );
    let pools = (1..=POOLS).map(|at| {
        let address = |last: usize| serde_json::json!({"address": format!("10.1.{at}.{last}"), "port": 8080});
        let spec = serde_json::json!({"endpoints": (1..=3).map(address).collect::<Vec<_>>()});
        let spec = Spec::Pool(serde_json::from_value(spec).unwrap());
        object(at, &format!("Pool team-{at}/backend"), spec)
    });
    let routes = (POOLS + 1..=POOLS + routes).map(|at| route(at, "/"));
    std::iter::once(rollout).chain(pools).chain(routes).collect()
}

fn route(at: usize, path: &str) -> Arc<Object> {
    let spec = serde_json::json!({
        "fleet": "edge",
        "hostnames": [format!("service-{at}.example.com")],
        "rules": [{"name": "all", "pool": "backend", "matches": [{"path": {"type": "PathPrefix", "value": path}}]}],
    });
    let key = format!("ProxyRoute team-{}/service-{at}", 1 + at % POOLS);
    object(at, &key, Spec::ProxyRoute(serde_json::from_value(spec).unwrap()))
}

fn object(at: usize, key: &str, spec: Spec) -> Arc<Object> {
    // UIDs are random, and a change is another generation.
    let uid = sluice_proto::hash::sha256(format!("{key} {at}").as_bytes()).to_string();
    let generation = i64::try_from(format!("{spec:?}").len()).unwrap();
    Arc::new(Object {
        key: key.parse().unwrap(),
        created_at_seconds: Some(1_790_000_000 + u64::try_from(at).unwrap()),
        annotations: BTreeMap::new(),
        spec,
        stored: Some(Stored {
            uid: format!(
                "{}-{}-4{}-8{}-{}",
                &uid[..8],
                &uid[8..12],
                &uid[13..16],
                &uid[17..20],
                &uid[20..32]
            )
            .into(),
            generation,
            resource_version: "1".into(),
        }),
        origin: Origin::Server("resourceVersion 1".into()),
        also_in: vec![],
    })
}

/// A controller begins with the keys of `keyring`; the instances say hello to it with what they hold.
fn begin_with(world: &mut World, keyring: &Keyring) {
    keyring.write(world.state.path()).unwrap();
    let shared = Shared {
        remote: Some(world.memory.clone()),
        ..shared(world.state.path())
    };
    world.fleet = fleet(&shared);
    world.connect();
    world.run(20);
}

#[test]
fn what_is_kept_is_signed_anew_when_keys_are_replaced() {
    let mut world = World::with(30, &[(100, 0)]);
    world.change(1);
    world.run(10);
    let (stable, epoch) = (world.stable(), world.fleet.core.record().epoch);
    let unsigned = |world: &World| {
        let kept = world.memory.state();
        let manifests = kept.pieces.values().filter_map(|piece| match piece {
            Piece::Manifest { envelope, .. } => Some(envelope.clone()),
            Piece::Section { .. } | Piece::Origins { .. } => None,
        });
        let orders = world
            .instances
            .iter()
            .map(|instance| &instance.order.as_ref().unwrap().1);
        let signers = &world.fleet.shared.signers;
        let all: Vec<Bytes> = manifests.chain(orders.cloned()).collect();
        assert!(all.len() >= 5, "two manifests and three orders");
        all.iter().filter(|envelope| !signers.have_signed(envelope)).count()
    };
    crate::pki::Pki::open(world.state.path(), None).unwrap();
    let announced = Keyring::read(world.state.path()).unwrap().begin("test", 1).unwrap();
    begin_with(&mut world, &announced);
    assert_eq!(unsigned(&world), 0, "they sign as before");
    let signing = announced.next_phase(2);
    begin_with(&mut world, &signing);
    assert_eq!(unsigned(&world), 0, "by both, on the instances too");
    begin_with(&mut world, &signing.next_phase(3));
    assert_eq!(unsigned(&world), 0);
    assert_eq!(
        (world.stable(), world.fleet.core.record().epoch),
        (stable, epoch),
        "nothing else is new"
    );
    assert!(world.fleet.lost.is_empty());
    let acknowledged = world.fleet.instances.values().filter(|seen| seen.view.epoch == epoch);
    assert_eq!(acknowledged.count(), 3, "what they show is believed");
    world.change(2);
    world.run(20);
    assert_ne!(world.stable(), stable, "and they follow");
}
