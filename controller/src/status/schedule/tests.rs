//! Many writes in little time, on a clock of their own and against an API server that is a map.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::status::desired::{Fact, fields};
use crate::status::{patch, resource};
use sluice_crds::{
    CommandResult, CommandStatus, InstancesStatus, PoolStatus, ProxyRouteStatus, RolloutStatus, StageStatus,
};

/// An API server that is a map, with a watch that shows everything at once unless told otherwise.
struct Bench {
    schedule: Schedule,
    shown: BTreeMap<ObjectKey, Arc<DynamicObject>>,
    now: u64,
    version: u64,
    /// What was written: when, of which object, and what its `programmed` or `phase` says.
    writes: Vec<(u64, ObjectKey, String)>,
    answer: fn(&Write) -> Option<Answer>,
    watch: Watch,
}

#[derive(PartialEq, Eq)]
enum Watch {
    Follows,
    Hangs,
}

fn route(number: usize) -> ObjectKey {
    format!("ProxyRoute shop/r-{number}").parse().unwrap()
}

fn pool() -> ObjectKey {
    "Pool shop/api".parse().unwrap()
}

fn edge() -> ObjectKey {
    "Rollout sluice-system/edge".parse().unwrap()
}

/// A route that stands like this.
fn stands(word: &str, reason: Reason, weight: Weight) -> Desired {
    let truth = if word == "True" { Truth::True } else { Truth::False };
    let status = ProxyRouteStatus {
        programmed: Some(word.to_owned()),
        ..ProxyRouteStatus::default()
    };
    Desired {
        uid: "u".into(),
        generation: 1,
        fields: fields(&status),
        facts: vec![Fact::new("Programmed", truth, reason, "")],
        weight,
    }
}

fn live() -> Desired {
    stands("True", Reason::Programmed, Weight::Settled)
}

fn at_stage(stage: &str, crowd: usize) -> Desired {
    stands(stage, Reason::InStage, Weight::Passing { crowd })
}

fn broken() -> Desired {
    stands("False", Reason::Quarantined, Weight::Failing)
}

fn endpoints(text: &str) -> Desired {
    let status = PoolStatus {
        endpoints: Some(text.to_owned()),
        programmed: Some("True".to_owned()),
        ..PoolStatus::default()
    };
    let (truth, reason) = if text.starts_with("0/") {
        (Truth::False, Reason::NoEndpoints)
    } else {
        (Truth::True, Reason::InRotation)
    };
    Desired {
        fields: fields(&status),
        facts: vec![Fact::new("Healthy", truth, reason, "")],
        ..live()
    }
}

fn rollout(phase: &str, target: &str, change: impl FnOnce(&mut RolloutStatus)) -> Desired {
    let mut status = RolloutStatus {
        phase: Some(phase.to_owned()),
        target_revision: Some(target.to_owned()),
        ..RolloutStatus::default()
    };
    change(&mut status);
    Desired {
        fields: fields(&status),
        facts: vec![Fact::new("Ready", Truth::False, Reason::Progressing, "")],
        weight: Weight::Fleet,
        ..live()
    }
}

impl Bench {
    fn new() -> Self {
        Self {
            schedule: Schedule::new(Millis(0)),
            shown: BTreeMap::new(),
            now: 0,
            version: 1,
            writes: vec![],
            answer: |_| None,
            watch: Watch::Follows,
        }
    }

    fn create(&mut self, key: &ObjectKey, status: Value) {
        self.version += 1;
        let mut object = DynamicObject::new(key.name.as_str(), &resource(key.kind));
        object.metadata.uid = Some("u".to_owned());
        object.metadata.resource_version = Some(self.version.to_string());
        object.data = json!({"status": status});
        self.shown.insert(key.clone(), Arc::new(object));
    }

    /// As the schema fills it in.
    fn create_new(&mut self, key: &ObjectKey) {
        self.create(
            key,
            json!({"programmed": "Pending", "conditions": [{"type": "Programmed", "status": "Unknown", "reason": "Pending", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z"}]}),
        );
    }

    fn want(&mut self, all: impl IntoIterator<Item = (ObjectKey, Desired)>) {
        let kinds = [Kind::ProxyRoute, Kind::Pool, Kind::Rollout];
        self.schedule
            .want(&kinds, all.into_iter().collect(), &self.shown, Millis(self.now));
    }

    fn want_for(&mut self, ms: u64, all: impl IntoIterator<Item = (ObjectKey, Desired)>) {
        self.want(all);
        self.pass(ms);
    }

    /// Lets time pass; what is due is written, and answered at once.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 20;
            if self.now.is_multiple_of(10_000) {
                self.schedule.sweep(&self.shown, Millis(self.now));
            }
            for write in self.schedule.due(8, &self.shown, Millis(self.now)) {
                let answer = (self.answer)(&write).unwrap_or_else(|| self.apply(&write));
                self.schedule.wrote(&write, answer, &self.shown, Millis(self.now));
            }
        }
    }

    fn apply(&mut self, write: &Write) -> Answer {
        self.version += 1;
        let status = patch::body(write, "2026-11-23T10:00:00Z")["status"].clone();
        let word = status.get("programmed").or(status.get("phase")).and_then(Value::as_str);
        self.writes
            .push((self.now, write.object.clone(), word.unwrap_or_default().to_owned()));
        if self.watch == Watch::Follows {
            let object = self.shown.get_mut(&write.object).unwrap();
            let object = Arc::make_mut(object);
            object.data = json!({"status": status});
            object.metadata.resource_version = Some(self.version.to_string());
        }
        Answer::Written(self.version.to_string(), status)
    }

    fn words(&self) -> Vec<(u64, &str)> {
        self.writes.iter().map(|(at, _, word)| (*at, word.as_str())).collect()
    }
}

#[test]
fn a_thousand_new_routes_cost_one_write_each_however_long_they_bake() {
    for bake_ms in [0, 1_000, 30_000, 900_000] {
        let mut bench = Bench::new();
        // They come over ten seconds, and each batch begins the rollout anew.
        for batch in 0..10 {
            (batch * 100..batch * 100 + 100).for_each(|number| bench.create_new(&route(number)));
            let all = (0..(batch + 1) * 100).map(|number| (route(number), at_stage("canary", (batch + 1) * 100)));
            bench.want_for(1_000, all);
        }
        for stage in ["canary", "half"] {
            bench.want_for(
                bake_ms,
                (0..1_000).map(|number| (route(number), at_stage(stage, 1_000))),
            );
        }
        assert_eq!(bench.writes.len(), 0);
        bench.want((0..1_000).map(|number| (route(number), live())));
        bench.pass(22_000);
        assert_eq!(bench.writes.len(), 1_000, "baking {bake_ms} ms, and told within 22 s");
        bench.pass(300_000);
        assert_eq!(bench.writes.len(), 1_000, "and then nothing");
    }
}

#[test]
fn a_small_change_is_seen_at_every_stage_that_lasts() {
    let mut bench = Bench::new();
    bench.create_new(&route(1));
    bench.want_for(1_000, [(route(1), at_stage("canary", 1))]);
    bench.want_for(60_000, [(route(1), at_stage("half", 1))]);
    bench.want_for(60_000, [(route(1), live())]);
    assert_eq!(
        bench.words(),
        [(6_000, "half"), (61_020, "True")],
        "what was over in a second is not told"
    );
    // What was told and is not so any more is told again, in whatever crowd.
    let mut bench = Bench::new();
    bench.create_new(&route(1));
    bench.want_for(60_000, [(route(1), at_stage("canary", 1))]);
    bench.want_for(60_000, [(route(1), at_stage("half", 500))]);
    assert_eq!(bench.words(), [(5_000, "canary"), (65_000, "half")]);
}

#[test]
fn nothing_is_written_by_a_controller_that_finds_everything_said() {
    let mut bench = Bench::new();
    (0..100).for_each(|number| bench.create_new(&route(number)));
    let all = || (0..100).map(|number| (route(number), live()));
    bench.want_for(10_000, all());
    assert_eq!(bench.writes.len(), 100);
    bench.schedule = Schedule::new(Millis(bench.now));
    bench.want_for(300_000, all());
    assert_eq!(bench.writes.len(), 100);
}

#[test]
fn what_is_wrong_is_told_first_but_not_before_it_lasts() {
    let mut bench = Bench::new();
    (0..200).for_each(|number| bench.create_new(&route(number)));
    // Its pool comes a second later.
    bench.want_for(1_000, [(route(0), broken())]);
    bench.want_for(1_000, [(route(0), live())]);
    assert_eq!(bench.words(), [(1_020, "True")]);
    bench.want_for(1_000, [(route(1), broken())]);
    bench.want_for(
        2_000,
        (1..200).map(|number| (route(number), if number == 1 { broken() } else { live() })),
    );
    let place = bench.writes.iter().position(|(_, _, word)| word == "False").unwrap();
    let before = bench
        .writes
        .iter()
        .filter(|(at, ..)| *at < bench.writes[place].0)
        .count();
    assert_eq!(place, before, "of what is due at one moment it is the first");
}

#[test]
fn a_route_that_flaps_costs_little() {
    let mut bench = Bench::new();
    bench.create_new(&route(1));
    for _ in 0..300 {
        bench.want_for(100, [(route(1), broken())]);
        bench.want_for(100, [(route(1), live())]);
    }
    assert_eq!(bench.words(), [(120, "True")], "faster than anybody could act on");
    for _ in 0..10 {
        bench.want_for(3_000, [(route(1), broken())]);
        bench.want_for(3_000, [(route(1), live())]);
    }
    assert!(bench.writes.len() <= 21, "{}", bench.writes.len());
}

#[test]
fn endpoints_are_told_when_they_last_and_twice_a_minute_at_most() {
    let mut bench = Bench::new();
    bench.create(&pool(), json!({}));
    bench.want_for(60_000, [(pool(), endpoints("10/10"))]);
    assert_eq!(bench.writes.len(), 1);
    // One that comes and goes.
    for _ in 0..500 {
        bench.want_for(60, [(pool(), endpoints("9/10"))]);
        bench.want_for(60, [(pool(), endpoints("10/10"))]);
    }
    assert_eq!(bench.writes.len(), 1);
    // Endpoints that never rest.
    for round in 0..600 {
        bench.want_for(100, [(pool(), endpoints(&format!("{}/{}", round % 7, 7)))]);
    }
    assert!(bench.writes.len() <= 1 + 3, "{}", bench.writes.len());
    let before = bench.writes.len();
    bench.want_for(60_000, [(pool(), endpoints("0/7"))]);
    assert_eq!(bench.writes.len(), before + 1);
    // Where the content stands does not wait for that.
    let mut held = endpoints("7/7");
    held.fields.insert("programmed".to_owned(), "RolledBack".into());
    let now = bench.now;
    bench.want_for(1_000, [(pool(), held)]);
    assert_eq!(bench.writes.last().unwrap().0, now + 20);
}

#[test]
fn a_busy_repository_does_not_write_a_rollout_for_every_revision() {
    let mut bench = Bench::new();
    bench.create(&edge(), json!({}));
    for number in 0..60 {
        let target = number.to_string();
        bench.want_for(100, [(edge(), rollout("Progressing", &target, |_| ()))]);
        bench.want_for(900, [(edge(), rollout("Baking", &target, |_| ()))]);
    }
    assert!((10..=14).contains(&bench.writes.len()), "{}", bench.writes.len());
    bench.want_for(10_000, [(edge(), rollout("Baking", "60", |_| ()))]);
    let (before, now) = (bench.writes.len(), bench.now);
    bench.want_for(2_000, [(edge(), rollout("RolledBack", "60", |_| ()))]);
    assert_eq!(
        bench.writes[before..].iter().map(|write| write.0).collect::<Vec<_>>(),
        [now + 20],
        "a turn at once"
    );
}

#[test]
fn figures_are_told_once_a_minute_and_the_end_of_a_bake_when_it_moves() {
    let mut bench = Bench::new();
    bench.create(&edge(), json!({}));
    let baking = |second: u64| {
        rollout("Baking", "2", |status| {
            status.message = Some(format!("after {second}"));
            status.stage = Some(StageStatus {
                bake_until: Some(format!("2026-11-23T10:00:{:02}Z", second % 5)),
                ..StageStatus::default()
            });
        })
    };
    (0..600).for_each(|second| bench.want_for(1_000, [(edge(), baking(second))]));
    assert!((9..=12).contains(&bench.writes.len()), "{}", bench.writes.len());
    let later = rollout("Baking", "2", |status| {
        status.stage = Some(StageStatus {
            bake_until: Some("2026-11-23T10:01:00Z".to_owned()),
            ..StageStatus::default()
        });
    });
    let before = bench.writes.len();
    bench.want_for(6_000, [(edge(), later)]);
    assert_eq!(bench.writes.len(), before + 1);
}

#[test]
fn an_answer_does_not_wait() {
    let mut bench = Bench::new();
    bench.create(&edge(), json!({}));
    bench.want_for(1_000, [(edge(), rollout("Baking", "2", |_| ()))]);
    let answered = rollout("Baking", "2", |status| {
        status.instances = Some(InstancesStatus::default());
        status.command = Some(CommandStatus {
            id: "a".to_owned(),
            verb: "pause".to_owned(),
            revision: "2".to_owned(),
            by: "ada".to_owned(),
            result: CommandResult::Done,
            message: String::new(),
            at: String::new(),
        });
    });
    let now = bench.now;
    bench.want_for(100, [(edge(), answered)]);
    assert_eq!(bench.writes.last().unwrap().0, now + 20);
}

#[test]
fn a_watch_that_hangs_makes_nobody_write_twice() {
    let mut bench = Bench::new();
    bench.create_new(&route(1));
    bench.watch = Watch::Hangs;
    bench.want_for(60_000, [(route(1), live())]);
    assert_eq!(bench.writes.len(), 1);
    // What is news is written on top of what was written, not on top of what is shown.
    bench.want_for(10_000, [(route(1), broken())]);
    assert_eq!(bench.writes.len(), 2);
}

#[test]
fn what_somebody_else_undid_is_said_again() {
    let mut bench = Bench::new();
    bench.create_new(&route(1));
    bench.want_for(5_000, [(route(1), live())]);
    bench.create(&route(1), json!({"programmed": "nonsense"}));
    bench.pass(15_000);
    assert_eq!(bench.writes.len(), 2);
}

#[test]
fn what_cannot_be_told_any_more_is_not_written_and_comes_back() {
    let mut bench = Bench::new();
    bench.create_new(&route(1));
    bench.want_for(1_000, [(route(1), broken())]);
    bench.want_for(30_000, []);
    assert_eq!(bench.writes.len(), 0);
    bench.want_for(3_000, [(route(1), broken())]);
    assert_eq!(bench.writes.len(), 1);
}

#[test]
fn refusals_are_not_repeated_at_once() {
    let answers = [
        (Answer::Refused, 1..=2, 300_000),
        (Answer::Forbidden, 4..=6, 300_000),
        (Answer::Gone, 4..=6, 300_000),
        (Answer::Unavailable(None), 8..=20, 300_000),
        (Answer::Outdated, 8..=12, 300_000),
    ];
    for (answer, expected, ms) in answers {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        ASKED.store(0, Ordering::Relaxed);
        let mut bench = Bench::new();
        bench.create_new(&route(1));
        bench.answer = match answer {
            Answer::Refused => |_| count(Answer::Refused),
            Answer::Forbidden => |_| count(Answer::Forbidden),
            Answer::Gone => |_| count(Answer::Gone),
            Answer::Outdated => |_| count(Answer::Outdated),
            Answer::Unavailable(_) | Answer::Unmoved | Answer::Written(..) => |_| count(Answer::Unavailable(None)),
        };
        fn count(answer: Answer) -> Option<Answer> {
            ASKED.fetch_add(1, Ordering::Relaxed);
            Some(answer)
        }
        bench.want_for(ms, [(route(1), live())]);
        let asked = ASKED.load(Ordering::Relaxed);
        assert!(expected.contains(&asked), "{answer:?}: {asked}");
        // It is written when that is over.
        bench.answer = |_| None;
        bench.pass(301_000);
        assert_eq!(bench.writes.len(), 1, "{answer:?}");
    }
}

/// A field of a schema's default that nobody takes away, one that older CRDs drop: what cannot be said is said once.
#[test]
fn what_the_api_server_does_not_keep_is_written_once() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let mut bench = Bench::new();
    bench.create_new(&route(1));
    bench.answer = |_| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        Some(Answer::Unmoved)
    };
    let asked = || ASKED.load(Ordering::Relaxed);
    bench.want_for(300_000, [(route(1), live())]);
    assert_eq!(asked(), 1);
    // It may be kept when the object is another, or when something else is to be said.
    bench.create_new(&route(1));
    bench.pass(60_000);
    assert_eq!(asked(), 2);
    bench.want_for(60_000, [(route(1), broken())]);
    assert_eq!(asked(), 3);
    bench.answer = |_| None;
    bench.want_for(60_000, [(route(1), live())]);
    assert_eq!(bench.words().len(), 1);
}

#[test]
fn where_nothing_may_be_written_everything_else_goes_on() {
    let mut bench = Bench::new();
    let elsewhere: ObjectKey = "ProxyRoute other/r".parse().unwrap();
    (0..500).for_each(|number| bench.create_new(&route(number)));
    bench.create_new(&elsewhere);
    bench.answer = |write| (write.object.namespace.as_str() == "shop").then_some(Answer::Forbidden);
    let all = (0..500).map(|number| (route(number), live()));
    bench.want_for(1_000, all.chain([(elsewhere.clone(), live())]));
    assert_eq!(
        bench.writes.iter().map(|write| &write.1).collect::<Vec<_>>(),
        [&elsewhere]
    );
}

#[test]
fn an_object_made_anew_under_its_name_is_another() {
    let mut bench = Bench::new();
    bench.create_new(&route(1));
    let mut other = live();
    other.uid = "v".into();
    bench.want_for(5_000, [(route(1), other.clone())]);
    assert_eq!(bench.writes.len(), 0, "the watch still shows the one before");
    Arc::make_mut(bench.shown.get_mut(&route(1)).unwrap()).metadata.uid = Some("v".to_owned());
    Arc::make_mut(bench.shown.get_mut(&route(1)).unwrap())
        .metadata
        .resource_version = Some("77".to_owned());
    bench.want_for(12_000, [(route(1), other)]);
    assert_eq!(bench.writes.len(), 1);
}
