//! The core driven by hand, one rule at a time. Interleavings are the business of `tests/rollout_model.rs`, fleets that
//! of `tests/rollout_simulation.rs`.

use std::collections::{BTreeMap, BTreeSet};

use sluice_model::{Digest, ObjectKey, RevisionId};

use super::record::{PastResult, Reached};
use super::status::{Health, Phase};
use super::*;

const START: u64 = 1_800_000_000_000;

fn revision(number: u64) -> RevisionId {
    let byte = u8::try_from(number).unwrap();
    RevisionId {
        number,
        digest: Digest([byte; 32]),
    }
}

fn route(name: &str) -> ObjectKey {
    format!("ProxyRoute demo/{name}").parse().unwrap()
}

fn plan(stages: &[(u32, u64)]) -> Plan {
    let stages = stages.iter().map(|(percent, bake_ms)| Stage {
        name: format!("s{percent}"),
        fleet: PerMillion::percent(*percent),
        bake_ms: *bake_ms,
    });
    let gate = Gate {
        limit: Limit::ErrorRate(RateLimit {
            max: Some(PerMillion::percent(1)),
            max_increase: Some(PerMillion(5_000)),
        }),
        min_requests: 100,
    };
    Plan::new(stages.collect(), vec![gate]).unwrap()
}

/// What one instance observes in a second, given its role: requests and failures on the fleet and per route.
type Traffic = fn(Role) -> Vec<(ScopeId, u64, u64)>;

fn good(_: Role) -> Vec<(ScopeId, u64, u64)> {
    vec![
        (ScopeId::Fleet, 100, 0),
        (ScopeId::Route(route("shop")), 50, 0),
        (ScopeId::Route(route("other")), 50, 0),
    ]
}

fn shop_fails(role: Role) -> Vec<(ScopeId, u64, u64)> {
    match role {
        Role::Stable => good(role),
        Role::Candidate => vec![
            (ScopeId::Fleet, 100, 50),
            (ScopeId::Route(route("shop")), 50, 50),
            (ScopeId::Route(route("other")), 50, 0),
        ],
    }
}

fn nobody(_: Role) -> Vec<(ScopeId, u64, u64)> {
    vec![]
}

struct Bench {
    core: Core,
    now: u64,
    stories: Vec<String>,
    commits: usize,
    recompiles: usize,
    /// Epoch that each instance holds.
    instances: BTreeMap<InstanceId, u64>,
    deaf: BTreeSet<InstanceId>,
    mute: BTreeSet<InstanceId>,
}

impl Bench {
    /// A fleet of `count` instances on revision 1.
    fn of(count: usize, plan: Plan) -> Self {
        let core = Core::begin("edge".parse().unwrap(), plan, Beginning::NewFleet);
        let mut bench = Self {
            core,
            now: START,
            stories: vec![],
            commits: 0,
            recompiles: 0,
            instances: BTreeMap::new(),
            deaf: BTreeSet::new(),
            mute: BTreeSet::new(),
        };
        for at in 0..count {
            bench.connect(&format!("i-{at}"), Facts::default());
        }
        bench.offer(1, &[]);
        bench.step(Event::Tick);
        bench
    }

    fn step(&mut self, event: Event) -> Outcome {
        let before = self.core.record().clone();
        let ordered = order(&before);
        let outcome = self.core.step(event, Millis(self.now));
        let after = self.core.record();
        match outcome.commit {
            Commit::Nothing => assert_eq!(*after, before),
            Commit::Progress => assert_eq!(order(after), ordered, "an order must not depend on progress"),
            Commit::Required => self.commits += 1,
        }
        assert!(after.epoch >= before.epoch);
        assert!(
            order(after) == ordered || after.epoch > before.epoch,
            "one epoch, one order"
        );
        for action in &outcome.actions {
            match action {
                Action::Tell(story) => self.stories.push(story.to_string()),
                Action::Recompile => self.recompiles += 1,
                Action::SendOrder(_) | Action::Refuse { .. } => {}
            }
        }
        self.deliver(&outcome);
        outcome
    }

    fn deliver(&mut self, outcome: &Outcome) {
        let everybody: Vec<InstanceId> = self.instances.keys().cloned().collect();
        let epoch = self.core.record().epoch;
        for action in &outcome.actions {
            let to = match action {
                Action::SendOrder(Recipients::Everybody) => everybody.clone(),
                Action::SendOrder(Recipients::One(instance)) => vec![instance.clone()],
                Action::Tell(_) | Action::Recompile | Action::Refuse { .. } => vec![],
            };
            for instance in to {
                if self.deaf.contains(&instance) {
                    continue;
                }
                let held = self.instances.get_mut(&instance).unwrap();
                if *held < epoch {
                    *held = epoch;
                    self.step(Event::Ack { instance, epoch });
                }
            }
        }
    }

    fn connect(&mut self, name: &str, facts: Facts) {
        let instance: InstanceId = name.parse().unwrap();
        self.instances.insert(instance.clone(), facts.epoch);
        self.step(Event::Connected { instance, facts });
    }

    fn disconnect(&mut self, instance: &InstanceId) -> u64 {
        self.step(Event::Disconnected(instance.clone()));
        self.instances.remove(instance).unwrap()
    }

    fn target(&self, number: u64, changed: &[&str]) -> Target {
        let changed = changed.iter().map(|name| Changed {
            object: route(name),
            content: Some(Digest([u8::try_from(number).unwrap(); 32])),
        });
        let scope = |name| Scope {
            route: route(name),
            suspects: vec![route(name)],
        };
        Target {
            revision: revision(number),
            basis: self.core.record().basis(),
            changed: changed.collect(),
            scopes: vec![scope("shop"), scope("other")],
            unlisted: 0,
            still_held: self.core.record().held.iter().map(|held| held.object.clone()).collect(),
            instead_of: InsteadOf::Routes,
        }
    }

    fn offer(&mut self, number: u64, changed: &[&str]) -> Outcome {
        let target = self.target(number, changed);
        self.step(Event::NewTarget(target))
    }

    /// One second in which every instance serves and reports.
    fn second(&mut self, traffic: Traffic) {
        self.now += 1_000;
        for (instance, epoch) in self.instances.clone() {
            if self.mute.contains(&instance) {
                continue;
            }
            let role = match &self.core.record().rollout {
                Some(rollout) if rollout.members.contains(&instance) => Role::Candidate,
                Some(_) | None => Role::Stable,
            };
            let counts = traffic(role).into_iter().map(|(scope, requests, failures)| {
                let counts = Counts {
                    requests,
                    failures,
                    ..Counts::default()
                };
                ((role, scope), counts)
            });
            let report = Report {
                instance,
                epoch,
                interval_ms: 1_000,
                counts: counts.collect(),
            };
            self.step(Event::Report(report));
        }
        self.step(Event::Tick);
    }

    fn seconds(&mut self, count: u64, traffic: Traffic) {
        (0..count).for_each(|_| self.second(traffic));
    }

    fn record(&self) -> &Record {
        self.core.record()
    }

    fn stage(&self) -> Option<usize> {
        self.record().rollout.as_ref().map(|rollout| rollout.stage)
    }

    fn observed_ms(&self) -> u64 {
        self.record().rollout.as_ref().map_or(0, |rollout| rollout.observed_ms)
    }

    fn members(&self) -> BTreeSet<InstanceId> {
        match &self.record().rollout.as_ref().unwrap().members {
            Members::Listed(members) => members.clone(),
            Members::All => panic!("everybody"),
        }
    }

    fn command(&mut self, verb: Verb, number: u64) -> Outcome {
        self.command_called(None, verb, number)
    }

    fn command_called(&mut self, id: Option<&str>, verb: Verb, number: u64) -> Outcome {
        self.step(Event::Command(Command {
            verb,
            revision: revision(number),
            actor: "ada".to_owned(),
            reason: String::new(),
            id: id.map(str::to_owned),
        }))
    }

    fn phase(&self) -> Phase {
        self.core.status(Millis(self.now)).phase
    }

    fn last(&self) -> &PastResult {
        &self.record().history.back().unwrap().result
    }

    #[track_caller]
    fn told(&self, part: &str) {
        assert!(
            self.stories.iter().any(|story| story.contains(part)),
            "{:#?}",
            self.stories
        );
    }
}

fn three() -> Bench {
    Bench::of(3, plan(&[(1, 5_000), (70, 5_000), (100, 5_000)]))
}

#[test]
fn the_first_revision_is_adopted_at_once() {
    let bench = three();
    assert_eq!(bench.record().stable, Some(revision(1)));
    assert_eq!(bench.record().epoch, (START / 1_000) << 20);
    assert_eq!(bench.phase(), Phase::Idle);
    bench.told("1-01010101 is the fleet's first revision");
}

#[test]
fn a_good_change_goes_stage_by_stage_to_everybody() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    let canary = bench.members();
    assert_eq!(canary.len(), 1);
    bench.seconds(4, good);
    assert_eq!((bench.stage(), bench.phase()), (Some(0), Phase::Baking));
    bench.second(good);
    assert_eq!(bench.stage(), Some(1));
    assert!(bench.members().is_superset(&canary) && bench.members().len() == 2);
    bench.seconds(5, good);
    assert_eq!(order(bench.record()).unwrap().candidate.unwrap().members, Members::All);
    bench.seconds(5, good);
    assert_eq!((bench.record().stable, bench.stage()), (Some(revision(2)), None));
    assert_eq!(bench.phase(), Phase::Idle);
    for story in [
        "stage 1/3 s1: ordered onto i-",
        "baking 2s of 5s",
        "stage 3/3 s100: ordered onto everybody",
        "promoted",
    ] {
        bench.told(story);
    }
}

#[test]
fn a_bad_change_is_undone_and_its_culprit_held() {
    let mut bench = three();
    bench.offer(2, &["shop", "other"]);
    let before = bench.record().epoch;
    bench.second(shop_fails);
    assert!(bench.record().epoch > before && order(bench.record()).unwrap().candidate.is_none());
    let held: Vec<String> = bench.record().held.iter().map(|held| held.object.to_string()).collect();
    assert_eq!(held, ["ProxyRoute demo/shop"], "the other change is innocent");
    assert_eq!(bench.recompiles, 1, "the others go on");
    bench.told("ErrorRate on ProxyRoute demo/shop: candidate 100% of 50 requests against 0% of 100 requests on stable");
    bench.told("took 2-02020202 back: every reachable instance serves stable again; held ProxyRoute demo/shop");
    let status = bench.core.status(Millis(bench.now));
    assert_eq!((status.phase, status.health), (Phase::RolledBack, Health::Degraded));
    assert!(status.held[0].reason.contains("100% of 50 requests"), "{status:?}");

    bench.offer(3, &["other"]);
    bench.seconds(15, good);
    assert_eq!(bench.record().stable, Some(revision(3)));
    assert_eq!(bench.record().held.len(), 1, "still held");
    let mut mended = bench.target(4, &["shop"]);
    mended.still_held.clear();
    bench.step(Event::NewTarget(mended));
    assert!(bench.record().held.is_empty(), "a new content clears it");
}

#[test]
fn a_route_with_a_hundredth_of_the_traffic_is_convicted_long_before_min_requests() {
    fn small(role: Role) -> Vec<(ScopeId, u64, u64)> {
        let failures = if role == Role::Candidate { 7 } else { 0 };
        vec![
            (ScopeId::Fleet, 700, failures),
            (ScopeId::Route(route("shop")), 7, failures),
        ]
    }
    let mut bench = Bench::of(3, plan(&[(1, 60_000), (100, 60_000)]));
    bench.offer(2, &["shop", "other"]);
    bench.seconds(10, small);
    assert!(matches!(bench.last(), PastResult::RolledBack { culprits, .. } if *culprits == [route("shop")]));
}

/// Too little of one route to convict it, but the fleet is convicted, and only one route leans that way.
#[test]
fn a_fleet_that_is_convicted_does_not_take_the_harmless_changes_along() {
    fn few(role: Role) -> Vec<(ScopeId, u64, u64)> {
        let failures = if role == Role::Candidate { 1 } else { 0 };
        vec![
            (ScopeId::Fleet, 11, failures),
            (ScopeId::Route(route("shop")), 1, failures),
            (ScopeId::Route(route("other")), 10, 0),
        ]
    }
    let mut bench = Bench::of(3, plan(&[(1, 10_000), (100, 10_000)]));
    bench.offer(2, &["shop", "other"]);
    bench.seconds(12, few);
    assert!(matches!(bench.last(), PastResult::RolledBack { culprits, .. } if *culprits == [route("shop")]));
}

#[test]
fn without_reports_nothing_bakes() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.mute = bench.members();
    bench.seconds(30, good);
    assert_eq!((bench.stage(), bench.observed_ms()), (Some(0), 0));
}

#[test]
fn a_silent_member_is_a_failure_after_a_minute() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.mute = bench.members();
    bench.seconds(61, good);
    assert!(matches!(
        bench.last(),
        PastResult::RolledBack {
            failure: Failure::Silent { .. },
            ..
        }
    ));
}

#[test]
fn a_member_that_never_acknowledges_is_a_failure_too() {
    let mut bench = three();
    bench.deaf = bench.instances.keys().cloned().collect();
    bench.offer(2, &["shop"]);
    bench.seconds(58, good);
    assert_eq!(bench.phase(), Phase::Progressing);
    bench.seconds(2, good);
    assert_eq!(
        bench.phase(),
        Phase::RollingBack,
        "and nobody has acknowledged the way back"
    );
    bench.deaf.clear();
    bench.seconds(6, good);
    assert_eq!(bench.phase(), Phase::RolledBack, "orders are sent again");
}

#[test]
fn a_clock_that_jumps_bakes_nothing_extra() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(2, good);
    bench.now += 3_600_000;
    bench.second(good);
    assert_eq!(bench.observed_ms(), 3_000);
    bench.now -= 7_200_000;
    bench.seconds(1, good);
    assert_eq!(bench.observed_ms(), 3_000, "backwards: the step is unknown");
    bench.seconds(2, good);
    assert_eq!(bench.stage(), Some(1));
}

#[test]
fn a_refusal_takes_the_candidate_back() {
    let mut bench = three();
    bench.deaf = bench.instances.keys().cloned().collect();
    bench.offer(2, &[]);
    let (instance, epoch) = (bench.members().first().unwrap().clone(), bench.record().epoch);
    bench.deaf.clear();
    let reason = "unknown feature".to_owned();
    bench.step(Event::Nack {
        instance,
        epoch,
        reason,
        fault: Fault::Order,
    });
    assert!(matches!(
        bench.last(),
        PastResult::RolledBack {
            failure: Failure::Refused { .. },
            ..
        }
    ));
    assert_eq!(
        bench.record().blocked.len(),
        1,
        "no object to blame: the digest is blocked"
    );
    bench.offer(2, &[]);
    assert_eq!(bench.stage(), None);
    bench.told("2-02020202 is not tried");
}

#[test]
fn a_member_without_room_convicts_nobody_and_is_waited_for() {
    let mut bench = three();
    bench.deaf = bench.instances.keys().cloned().collect();
    bench.offer(2, &["shop"]);
    let (instance, epoch) = (bench.members().first().unwrap().clone(), bench.record().epoch);
    let lacks_room = || Event::Nack {
        instance: instance.clone(),
        epoch,
        reason: "storage: the disk is full".to_owned(),
        fault: Fault::Instance,
    };
    for _ in 0..100 {
        bench.second(good);
        bench.step(lacks_room());
    }
    assert_eq!((bench.stage(), bench.record().held.len()), (Some(0), 0));
    let status = bench.core.status(Millis(bench.now));
    assert_eq!((status.phase, status.health), (Phase::Stalled, Health::Degraded));
    for part in [instance.as_str(), "the disk is full", "every 5s"] {
        assert!(status.message.contains(part), "{}", status.message);
    }
    assert_eq!(
        bench.stories.iter().filter(|story| story.contains("refuses")).count(),
        1
    );
    bench.deaf.clear();
    bench.seconds(6, good); // it is sent the order again
    assert!(bench.observed_ms() > 0 || bench.stage() == Some(1), "it goes on");
    bench.seconds(30, good);
    assert_eq!(bench.record().stable, Some(revision(2)));
}

#[test]
fn a_member_that_says_nothing_is_named() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(2, good);
    let status = bench.core.status(Millis(bench.now));
    assert!(status.stage.unwrap().bake_until.is_some());
    let member = bench.members().first().unwrap().clone();
    bench.mute.insert(member.clone());
    bench.seconds(12, good);
    let status = bench.core.status(Millis(bench.now));
    assert_eq!(
        status.message,
        format!("baking 2s of 5s; waits for {member}, silent for 13s")
    );
    assert_eq!((status.phase, status.health), (Phase::Baking, Health::Unknown));
    assert_eq!(status.stage.unwrap().bake_until, None);
    bench.disconnect(&member);
    let status = bench.core.status(Millis(bench.now));
    assert!(
        status.message.ends_with(&format!("{member}, not connected for 13s")),
        "{}",
        status.message
    );
}

#[test]
fn a_missing_record_is_called_missing() {
    let mut bench = three();
    let instances = std::mem::take(&mut bench.instances);
    bench.core = Core::begin("edge".parse().unwrap(), plan(&[(1, 5_000)]), Beginning::RecordMissing);
    let message = |bench: &Bench| bench.core.status(Millis(bench.now)).message;
    bench.step(Event::Tick);
    assert!(message(&bench).starts_with("the record of this fleet is missing, and no instance"));
    for (instance, epoch) in instances {
        let facts = Facts {
            epoch,
            stable: Some(revision(1)),
            ..Facts::default()
        };
        bench.connect(instance.as_str(), facts);
    }
    bench.seconds(5, good);
    assert_eq!(
        message(&bench),
        "the record of this fleet is missing: what the instances serve is listened to for 15s; traffic goes on"
    );
}

#[test]
fn two_in_a_row_without_a_suspect_freeze_until_retried() {
    let mut bench = three();
    for number in [2, 3] {
        bench.offer(number, &[]);
        bench.second(shop_fails);
    }
    assert_eq!(bench.phase(), Phase::Frozen);
    bench.offer(4, &["shop"]);
    assert_eq!(bench.stage(), None);
    bench.command(Verb::Retry, 3);
    bench.offer(4, &["shop"]);
    assert_eq!(bench.stage(), Some(0));
}

#[test]
fn what_takes_the_place_of_nothing_goes_to_everybody_at_once_and_still_needs_their_consent() {
    let first_routes = |bench: &Bench| Target {
        instead_of: InsteadOf::Nothing,
        ..bench.target(2, &["shop"])
    };
    let mut bench = three();
    let slow: InstanceId = "i-1".parse().unwrap();
    bench.deaf.insert(slow.clone());
    let target = first_routes(&bench);
    bench.step(Event::NewTarget(target));
    let rollout = bench.record().rollout.as_ref().unwrap();
    assert_eq!((rollout.stages.len(), &rollout.members), (1, &Members::All));
    bench.seconds(3, nobody);
    assert_eq!(bench.record().stable, Some(revision(1)), "one has not acknowledged");
    bench.deaf.clear();
    let epoch = bench.record().epoch;
    bench.instances.insert(slow.clone(), epoch);
    bench.step(Event::Ack { instance: slow, epoch });
    assert_eq!(
        (bench.record().stable, bench.last()),
        (Some(revision(2)), &PastResult::Promoted)
    );

    // The next change waits for that, and goes stage by stage: there is something to lose now.
    let mut next = three();
    next.deaf.insert("i-1".parse().unwrap());
    let target = first_routes(&next);
    next.step(Event::NewTarget(target));
    let target = Target {
        revision: revision(3),
        ..first_routes(&next)
    };
    next.step(Event::NewTarget(target));
    let record = next.record();
    let tried = record.rollout.as_ref().map(|rollout| rollout.target.revision);
    assert_eq!((tried, record.queued.is_some()), (Some(revision(2)), true));
    // Who has fallen silent is not waited for, and takes nothing from the others.
    next.mute.insert("i-1".parse().unwrap());
    next.seconds(62, nobody);
    assert_eq!(
        (next.record().stable, next.last()),
        (Some(revision(2)), &PastResult::Promoted),
        "{:#?}",
        next.stories
    );
    assert!(next.recompiles > 0, "what waits was compiled against nothing");

    let mut refused = three();
    let [one, other] = ["i-0", "i-1"].map(|name| name.parse::<InstanceId>().unwrap());
    refused.deaf.extend([one.clone(), other]);
    let target = first_routes(&refused);
    refused.step(Event::NewTarget(target));
    let epoch = refused.record().epoch;
    refused.step(Event::Nack {
        instance: one,
        epoch,
        reason: "no".to_owned(),
        fault: Fault::Order,
    });
    let record = refused.record();
    assert!(record.rollout.is_none() && record.restoring.is_some(), "{record:?}");
    assert_eq!(record.stable, Some(revision(1)));
}

#[test]
fn more_changes_than_can_be_listed_are_held_one_by_one_or_blocked_as_a_whole() {
    let tried = || {
        let mut bench = three();
        let target = Target {
            unlisted: 5_000,
            ..bench.target(2, &["shop"])
        };
        bench.step(Event::NewTarget(target));
        bench
    };
    let mut attributed = tried();
    attributed.second(shop_fails);
    let held = &attributed.record().held;
    assert_eq!((held.len(), &held[0].object), (1, &route("shop")));
    assert_eq!(attributed.record().frozen, None);

    let mut unattributed = tried();
    unattributed.command(Verb::Abort, 2);
    let record = unattributed.record();
    assert_eq!(
        (record.held.len(), record.blocked.len()),
        (0, 1),
        "holding one would not do"
    );
    let why = record.frozen.as_ref().unwrap();
    assert!(why.contains("more objects than can be held one by one"), "{why}");
}

#[test]
fn a_member_that_crashes_after_its_swap_takes_the_candidate_back() {
    // One that does not say how it ended may be of an older build: it counts as one that crashed.
    for last_end in [LastEnd::Crash, LastEnd::Unknown] {
        let mut bench = three();
        bench.offer(2, &["shop"]);
        let member = bench.members().first().unwrap().clone();
        let epoch = bench.disconnect(&member);
        bench.connect(member.as_str(), started_again(epoch, last_end));
        assert!(matches!(
            bench.last(),
            PastResult::RolledBack {
                failure: Failure::Restarted { .. },
                ..
            }
        ));
    }
}

/// What a member tells whose process started from disk with the order that names it.
fn started_again(epoch: u64, last_end: LastEnd) -> Facts {
    Facts {
        epoch,
        stable: Some(revision(1)),
        carries: None,
        booted_epoch: epoch,
        last_end,
    }
}

#[test]
fn a_member_that_was_ended_in_good_order_is_no_evidence_and_the_bake_goes_on() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(2, good);
    let members = bench.members();
    let member = members.first().unwrap().clone();
    let epoch = bench.disconnect(&member);
    bench.seconds(3, good);
    assert_eq!(bench.observed_ms(), 2_000, "nobody carries it");
    bench.deaf.insert(member.clone());
    bench.connect(member.as_str(), started_again(epoch, LastEnd::Harmless));
    bench.seconds(3, good);
    assert_eq!(bench.observed_ms(), 2_000, "it is here, but serves stable");
    // It is sent the order again, and carries the candidate from then on.
    bench.deaf.clear();
    bench.step(Event::Ack {
        instance: member,
        epoch,
    });
    bench.seconds(2, good);
    assert_eq!((bench.stage(), bench.observed_ms()), (Some(0), 4_000));
    assert_eq!(bench.members(), members);
    bench.second(good);
    assert_eq!(bench.stage(), Some(1));
}

#[test]
fn a_member_that_was_started_again_is_sent_the_order_in_force_once_more() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    let member = bench.members().first().unwrap().clone();
    let epoch = bench.disconnect(&member);
    bench.instances.insert(member.clone(), epoch);
    let outcome = bench.step(Event::Connected {
        instance: member.clone(),
        facts: started_again(epoch, LastEnd::Harmless),
    });
    let again = Action::SendOrder(Recipients::One(member));
    assert!(outcome.actions.contains(&again), "{outcome:?}");
}

#[test]
fn a_broken_stream_is_not_a_restart() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    let member = bench.members().first().unwrap().clone();
    let epoch = bench.disconnect(&member);
    let facts = Facts {
        epoch,
        stable: Some(revision(1)),
        carries: Some(revision(2)),
        ..Facts::default()
    };
    bench.connect(member.as_str(), facts);
    bench.seconds(5, good);
    assert_eq!(bench.stage(), Some(1));
}

#[test]
fn a_rollback_waits_for_all_it_can_reach_and_lists_the_rest() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    let member = bench.members().first().unwrap().clone();
    bench.deaf.insert("i-0".parse().unwrap());
    bench.deaf.insert("i-1".parse().unwrap());
    bench.deaf.insert("i-2".parse().unwrap());
    bench.second(shop_fails);
    assert_eq!(bench.phase(), Phase::RollingBack);
    let held = bench.disconnect(&member);
    bench.deaf.clear();
    bench.seconds(20, good);
    assert_eq!(bench.phase(), Phase::RollingBack, "it may come back");
    bench.seconds(12, good);
    assert_eq!(bench.phase(), Phase::RolledBack);
    assert_eq!(bench.record().unreached, BTreeSet::from([member.clone()]));
    let facts = Facts {
        epoch: held,
        stable: Some(revision(1)),
        ..Facts::default()
    };
    bench.connect(member.as_str(), facts);
    assert!(
        bench.record().unreached.is_empty(),
        "it acknowledged the order in force"
    );
}

#[test]
fn a_deleted_instance_is_not_waited_for() {
    let mut bench = three();
    bench.seconds(15, good);
    bench.offer(2, &["shop"]);
    let member = bench.members().first().unwrap().clone();
    let epoch = bench.record().epoch;
    bench.instances.remove(&member);
    bench.step(Event::Removed(member.clone()));
    let others = bench.members();
    assert!(
        !others.contains(&member) && others.len() == 1,
        "the stage begins again with another"
    );
    assert!(bench.record().epoch > epoch);
}

#[test]
fn the_end_of_a_bake_is_told_in_utc() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(2, good);
    let status = bench.core.status(Millis(bench.now));
    let stage = status.stage.unwrap();
    let until = stage.bake_until.unwrap();
    assert!(until.ends_with('Z'), "{until}");
    let until: jiff::Timestamp = until.parse().unwrap();
    let left = stage.bake_ms - stage.observed_ms;
    assert_eq!(until.as_second(), i64::try_from((bench.now + left) / 1_000).unwrap());
}

/// A rollback that one instance missed because it was away.
fn with_one_unreached() -> (Bench, InstanceId) {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    let member = bench.members().first().unwrap().clone();
    bench.disconnect(&member);
    let command = Command {
        verb: Verb::Abort,
        revision: bench.record().current().unwrap(),
        actor: "ann".to_owned(),
        reason: String::new(),
        id: None,
    };
    bench.step(Event::Command(command));
    bench.seconds(35, good);
    assert_eq!(bench.record().unreached, BTreeSet::from([member.clone()]));
    assert_eq!(bench.core.status(Millis(bench.now)).health, Health::Degraded);
    (bench, member)
}

#[test]
fn an_instance_that_never_returns_leaves_the_list_when_it_is_removed() {
    let (mut bench, member) = with_one_unreached();
    let outcome = bench.step(Event::Removed(member.clone()));
    assert_eq!(outcome.commit, Commit::Required, "a restart must not bring it back");
    assert!(bench.record().unreached.is_empty());
    assert!(
        bench
            .stories
            .last()
            .unwrap()
            .contains(&format!("{member} exists no more"))
    );
    assert_eq!(bench.step(Event::Removed(member)).commit, Commit::Nothing, "told once");
}

#[test]
fn a_controller_that_knows_all_instances_waits_for_no_others() {
    let (bench, member) = with_one_unreached();
    let mut record = bench.record().clone();
    assert_eq!(record.size, 3);
    record.rollout = None;
    let mut core = Core::resume(record);
    let left: BTreeSet<InstanceId> = ["i-0", "i-1", "i-2"].map(|name| name.parse().unwrap()).into();
    let left: BTreeSet<InstanceId> = left.into_iter().filter(|name| *name != member).collect();
    let outcome = core.step(Event::Roster(left.clone()), Millis(bench.now));
    assert_eq!(outcome.commit, Commit::Required);
    assert!(core.record().unreached.is_empty());
    assert_eq!(core.record().size, 2, "the next stage does not wait for a third");
    assert_eq!(
        core.step(Event::Roster(left), Millis(bench.now)).commit,
        Commit::Nothing
    );
}

#[test]
fn a_member_that_is_not_on_the_roster_is_replaced() {
    let mut bench = three();
    bench.seconds(15, good);
    bench.offer(2, &["shop"]);
    let member = bench.members().first().unwrap().clone();
    bench.instances.remove(&member);
    let left = bench.instances.keys().cloned().collect();
    bench.step(Event::Roster(left));
    assert!(!bench.members().contains(&member) && bench.members().len() == 1);
}

#[test]
fn whoever_joins_serves_stable_until_the_last_stage() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    let members = bench.members();
    bench.connect("late", Facts::default());
    assert_eq!(bench.members(), members);
    bench.seconds(10, good);
    bench.connect("later", Facts::default());
    let ordered = &bench.record().rollout.as_ref().unwrap().ordered;
    assert!(
        ordered.contains(&"later".parse().unwrap()),
        "the last stage is everybody"
    );
}

#[test]
fn a_newer_revision_starts_over_until_the_change_is_too_old() {
    let mut plan = plan(&[(1, 5_000), (100, 5_000)]);
    plan.max_pending_age_ms = 8_000;
    let mut bench = Bench::of(3, plan);
    bench.offer(2, &["shop"]);
    bench.seconds(6, good);
    assert_eq!(bench.stage(), Some(1));
    bench.offer(3, &["shop"]);
    assert_eq!((bench.stage(), bench.observed_ms()), (Some(0), 0));
    bench.seconds(3, good);
    bench.offer(4, &["shop"]);
    bench.told("4-04040404 waits until the rollout before it ends");
    bench.seconds(7, good);
    assert_eq!(bench.record().stable, Some(revision(3)));
    assert_eq!(bench.recompiles, 1, "4 was compiled against what is no longer stable");
    bench.offer(4, &["shop"]);
    assert_eq!(bench.stage(), Some(0));
}

#[test]
fn going_back_to_stable_withdraws_without_holding_anything() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.second(good);
    bench.offer(1, &[]);
    assert_eq!(*bench.last(), PastResult::Withdrawn);
    assert!(bench.record().held.is_empty() && bench.phase() == Phase::Idle);
}

#[test]
fn going_back_to_stable_after_a_rollback_leaves_nothing_to_mend() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.command(Verb::Abort, 2);
    bench.second(good);
    assert_eq!(bench.phase(), Phase::RolledBack);
    let mut reverted = bench.target(1, &[]);
    reverted.still_held.clear();
    bench.step(Event::NewTarget(reverted));
    let status = bench.core.status(Millis(bench.now));
    assert_eq!((status.phase, status.health), (Phase::Idle, Health::Healthy));
}

#[test]
fn a_pause_while_nothing_is_tried_is_told() {
    let mut bench = three();
    bench.second(good);
    bench.command(Verb::Pause, 1);
    let status = bench.core.status(Millis(bench.now));
    assert_eq!(status.phase, Phase::Idle);
    assert!(status.message.ends_with("the next change waits"), "{}", status.message);
}

#[test]
fn a_target_compiled_against_something_else_is_asked_for_again() {
    let mut bench = three();
    let mut target = bench.target(2, &["shop"]);
    target.basis.held_generation += 1;
    let outcome = bench.step(Event::NewTarget(target));
    assert_eq!(outcome.actions, [Action::Recompile]);
}

#[test]
fn a_pause_orders_nothing_new_but_still_goes_back() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.command(Verb::Pause, 2);
    bench.seconds(10, good);
    assert_eq!((bench.stage(), bench.phase()), (Some(0), Phase::Paused));
    bench.offer(3, &["shop"]);
    bench.told("3-03030303 waits until the rollout is resumed");
    bench.second(shop_fails);
    assert!(matches!(bench.last(), PastResult::RolledBack { .. }));
    bench.offer(4, &["other"]);
    assert_eq!(bench.stage(), None);
    bench.command(Verb::Resume, 4);
    assert_eq!(bench.stage(), Some(0));
}

#[test]
fn commands_speak_of_one_revision_and_may_be_repeated() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    let refused = bench.command(Verb::Abort, 1);
    assert!(matches!(&refused.actions[..], [Action::Refuse { why, .. }] if why.contains("2-02020202 is: look again")));
    bench.command(Verb::Abort, 2);
    assert!(matches!(
        bench.last(),
        PastResult::RolledBack {
            failure: Failure::Aborted { .. },
            ..
        }
    ));
    assert_eq!(
        bench.record().held.len(),
        1,
        "the same content does not start again by itself"
    );
    let again = bench.command(Verb::Abort, 2);
    assert!(matches!(&again.actions[..], [Action::Tell(Story::AlreadySo(_))]));
    bench.command(Verb::Retry, 2);
    assert!(bench.record().held.is_empty());
    assert!(matches!(
        &bench.command(Verb::Pause, 9).actions[..],
        [Action::Refuse { .. }]
    ));
    bench.command(Verb::Pause, 1);
    let again = bench.command(Verb::Pause, 1);
    assert!(matches!(&again.actions[..], [Action::Tell(Story::AlreadySo(_))]));
}

#[test]
fn a_command_that_arrives_again_does_not_skip_the_next_stage_too() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    let first = bench.command_called(Some("a"), Verb::Promote, 2);
    assert_eq!(first.commit, Commit::Required, "a lost answer must not lose its id");
    bench.second(good);
    assert_eq!(bench.stage(), Some(1));
    // The controller ended before it had answered; another one is given the same command.
    bench.core = Core::resume(bench.record().clone());
    let again = bench.command_called(Some("a"), Verb::Promote, 2);
    assert!(matches!(&again.actions[..], [Action::Tell(Story::AlreadySo(_))]));
    assert!(bench.record().rollout.as_ref().unwrap().waved.is_none());
    bench.command_called(Some("b"), Verb::Promote, 2);
    assert!(bench.record().rollout.as_ref().unwrap().waved.is_some());
}

#[test]
fn retrying_the_present_revision_lifts_whatever_is_held() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.command(Verb::Abort, 2);
    bench.seconds(2, good);
    assert_eq!(bench.record().current(), Some(revision(1)));
    assert_eq!(bench.record().held.len(), 1);
    let done = bench.command(Verb::Retry, 1);
    assert!(done.actions.contains(&Action::Recompile));
    assert!(bench.record().held.is_empty());
    let again = bench.command(Verb::Retry, 1);
    assert!(matches!(&again.actions[..], [Action::Tell(Story::AlreadySo(_))]));
}

#[test]
fn idle_proceeds_after_the_bake_unless_told_to_hold() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(15, nobody);
    assert_eq!(bench.record().stable, Some(revision(2)));

    let mut plan = plan(&[(1, 5_000), (100, 5_000)]);
    plan.on_idle = OnIdle::Hold;
    let mut bench = Bench::of(3, plan);
    bench.offer(2, &["shop"]);
    bench.seconds(15, nobody);
    assert_eq!((bench.stage(), bench.phase()), (Some(0), Phase::Stalled));
    bench.command(Verb::Promote, 2);
    assert_eq!(bench.stage(), Some(1));
}

#[test]
fn too_few_requests_hold_until_there_are_enough_or_nobody_comes_any_more() {
    fn few(_: Role) -> Vec<(ScopeId, u64, u64)> {
        vec![(ScopeId::Fleet, 1, 0)]
    }
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(20, few);
    assert_eq!((bench.stage(), bench.phase()), (Some(0), Phase::Stalled));
    bench.seconds(6, nobody);
    assert_eq!(bench.stage(), Some(1), "a whole bake without a request is idle");

    for (on_no_data, stable) in [(OnNoData::Pass, 2), (OnNoData::Fail, 1)] {
        let mut plan = plan(&[(1, 5_000), (100, 5_000)]);
        plan.on_no_data = on_no_data;
        let mut bench = Bench::of(3, plan);
        bench.offer(2, &["shop"]);
        bench.seconds(12, few);
        assert_eq!(bench.record().stable, Some(revision(stable)), "{on_no_data:?}");
    }
}

#[test]
fn a_busy_stable_beside_an_idle_candidate_fails() {
    fn starved(role: Role) -> Vec<(ScopeId, u64, u64)> {
        if role == Role::Stable { good(role) } else { nobody(role) }
    }
    let mut bench = three();
    bench.seconds(10, good);
    bench.offer(2, &["shop"]);
    bench.seconds(6, starved);
    assert!(matches!(
        bench.last(),
        PastResult::RolledBack {
            failure: Failure::Starved { .. },
            ..
        }
    ));
}

/// One client with one connection: all that it sends goes to one instance, before the change and after it.
#[test]
fn a_candidate_to_whom_nobody_came_before_is_not_starved() {
    fn elsewhere(role: Role) -> Vec<(ScopeId, u64, u64)> {
        if role == Role::Stable { good(role) } else { nobody(role) }
    }
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(20, elsewhere);
    assert_eq!((bench.stage(), bench.phase()), (Some(0), Phase::Stalled));
    bench.told("too few requests on ProxyRoute demo/shop for ErrorRate: candidate 0, stable 500");
    bench.seconds(30, good);
    assert_eq!(
        bench.record().stable,
        Some(revision(2)),
        "and goes on when somebody comes"
    );
}

/// Somebody who asks one instance after the other, slowly: that nobody asks the candidate for some seconds says nothing.
#[test]
fn a_candidate_is_starved_only_of_what_comes_in_the_time_of_a_bake() {
    fn slow(_: Role) -> Vec<(ScopeId, u64, u64)> {
        vec![(ScopeId::Fleet, 3, 0)]
    }
    fn elsewhere(role: Role) -> Vec<(ScopeId, u64, u64)> {
        if role == Role::Stable { good(role) } else { nobody(role) }
    }
    let mut bench = three();
    bench.seconds(60, slow);
    bench.offer(2, &["shop"]);
    bench.seconds(6, elsewhere);
    assert_eq!(
        bench.phase(),
        Phase::Stalled,
        "15 were due in 5 s: {:#?}",
        bench.stories
    );
    bench.seconds(6, elsewhere);
    assert!(
        matches!(
            bench.last(),
            PastResult::RolledBack {
                failure: Failure::Starved { .. },
                ..
            }
        ),
        "30 were due in 10 s"
    );
}

/// The change makes a route miss what it took: the candidate serves, but not on it.
#[test]
fn a_route_that_gets_nothing_of_the_candidates_traffic_is_starved() {
    fn missed(role: Role) -> Vec<(ScopeId, u64, u64)> {
        match role {
            Role::Stable => good(role),
            Role::Candidate => vec![(ScopeId::Fleet, 100, 0)],
        }
    }
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(6, missed);
    let PastResult::RolledBack { failure, .. } = bench.last() else {
        panic!("{:#?}", bench.stories);
    };
    assert!(
        matches!(
            failure,
            Failure::Starved {
                scope: ScopeId::Route(_),
                ..
            }
        ),
        "{failure}"
    );
}

#[test]
fn a_load_that_ends_when_everybody_carries_the_candidate_convicts_nobody() {
    let mut bench = three();
    bench.seconds(10, good);
    bench.offer(2, &["shop"]);
    while bench.stage() != Some(1) || bench.observed_ms() < 4_000 {
        bench.second(good);
    }
    while bench.stage() != Some(2) {
        bench.second(nobody);
    }
    bench.seconds(7, nobody);
    assert_eq!(
        bench.record().stable,
        Some(revision(2)),
        "a whole bake in which nobody came is idle: {:#?}",
        bench.stories
    );
}

#[test]
fn a_fleet_of_one_that_nobody_reaches_any_more_is_taken_back() {
    let mut bench = Bench::of(1, plan(&[(1, 5_000), (100, 5_000)]));
    bench.seconds(10, good);
    bench.offer(2, &["shop"]);
    bench.seconds(6, nobody);
    assert!(matches!(
        bench.last(),
        PastResult::RolledBack {
            failure: Failure::Starved { .. },
            ..
        }
    ));
}

#[test]
fn an_outage_of_both_condemns_nobody_and_promotes_nothing() {
    fn outage(_: Role) -> Vec<(ScopeId, u64, u64)> {
        vec![
            (ScopeId::Fleet, 100, 60),
            (ScopeId::Route(route("shop")), 50, 30),
            (ScopeId::Route(route("other")), 50, 30),
        ]
    }
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(12, outage);
    assert_eq!((bench.stage(), bench.record().history.len()), (Some(0), 1));
    bench.told("the cause is shared, baking again");
    bench.seconds(8, good);
    assert_eq!(bench.stage(), Some(1), "and when it is over, the stage bakes in full");
}

#[test]
fn a_fleet_of_one_is_compared_with_what_stable_showed_before() {
    fn slow_leak(role: Role) -> Vec<(ScopeId, u64, u64)> {
        let failures = if role == Role::Candidate { 9 } else { 0 };
        vec![(ScopeId::Fleet, 1_000, failures)]
    }
    let mut bench = Bench::of(1, plan(&[(1, 5_000), (100, 5_000)]));
    bench.seconds(10, slow_leak);
    bench.offer(2, &["shop"]);
    bench.seconds(10, slow_leak);
    let PastResult::RolledBack { failure, .. } = bench.last() else {
        panic!("{:#?}", bench.stories);
    };
    assert!(failure.to_string().contains("against 0% of"), "{failure}");
}

#[test]
fn stages_with_the_same_members_are_collapsed_but_never_into_everybody() {
    let mut bench = Bench::of(1, plan(&[(1, 3_000), (50, 5_000), (100, 5_000)]));
    bench.offer(2, &["shop"]);
    let rollout = bench.record().rollout.as_ref().unwrap();
    assert_eq!(
        (rollout.stage, rollout.bake_ms, &rollout.collapsed[..]),
        (1, 5_000, &["s1".to_owned()][..])
    );
    assert_ne!(rollout.members, Members::All);
}

#[test]
fn no_bake_passes_on_acknowledgements_alone() {
    let mut bench = Bench::of(3, plan(&[(100, 0)]));
    bench.offer(2, &["shop"]);
    assert_eq!(bench.record().stable, Some(revision(2)), "within the same instant");
}

#[test]
fn a_controller_that_restarts_goes_on_where_the_record_is() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.seconds(3, good);
    let json = serde_json::to_string(bench.record()).unwrap();
    let read: Record = serde_json::from_str(&json).unwrap();
    assert_eq!(read, *bench.record());
    assert_eq!(order(&read), order(bench.record()));
    bench.core = Core::resume(read);
    bench.seconds(30, good);
    assert_eq!(bench.observed_ms(), 3_000, "nobody is connected: nothing is observed");
    for (instance, epoch) in bench.instances.clone() {
        let facts = Facts {
            epoch,
            stable: Some(revision(1)),
            carries: Some(revision(2)),
            ..Facts::default()
        };
        bench.connect(instance.as_str(), facts);
    }
    bench.second(good);
    assert_eq!((bench.stage(), bench.observed_ms()), (Some(0), 4_000));
    bench.second(good);
    assert_eq!(bench.stage(), Some(1));
}

#[test]
fn a_new_controller_does_not_size_a_stage_by_the_quickest_instance() {
    let mut bench = three();
    let record = bench.record().clone();
    let instances = std::mem::take(&mut bench.instances);
    bench.core = Core::resume(record);
    let facts = |epoch: &u64| Facts {
        epoch: *epoch,
        stable: Some(revision(1)),
        ..Facts::default()
    };
    bench.connect("i-0", facts(&instances[&"i-0".parse().unwrap()]));
    bench.offer(2, &["shop"]);
    assert_eq!(bench.stage(), None);
    bench.told("2-02020202 waits until the fleet's instances are connected");
    for (instance, epoch) in &instances {
        bench.connect(instance.as_str(), facts(epoch));
    }
    assert_eq!((bench.stage(), bench.record().size), (Some(0), 3));
}

/// Another controller takes over, and whoever is left connects to it.
fn take_over(bench: &mut Bench, stable: RevisionId) {
    bench.core = Core::resume(bench.record().clone());
    for (instance, epoch) in std::mem::take(&mut bench.instances) {
        let facts = Facts {
            epoch,
            stable: Some(stable),
            ..Facts::default()
        };
        bench.connect(instance.as_str(), facts);
    }
}

#[test]
fn an_instance_that_is_gone_is_not_waited_for_by_the_next_controller() {
    let began_at_once = |gone: &[&str], takeovers: usize| {
        let mut bench = three();
        bench.seconds(30, good);
        (1..takeovers).for_each(|_| take_over(&mut bench, revision(1)));
        for instance in gone.iter().map(|name| name.parse::<InstanceId>().unwrap()) {
            bench.disconnect(&instance);
            bench.instances.remove(&instance);
            bench.step(Event::Removed(instance));
        }
        take_over(&mut bench, revision(1));
        bench.offer(2, &["shop"]);
        (bench.stage().is_some(), bench.record().size)
    };
    assert_eq!(began_at_once(&[], 1), (true, 3));
    assert_eq!(began_at_once(&["i-1"], 1), (true, 2));
    assert_eq!(began_at_once(&["i-1", "i-2"], 1), (true, 1));
    // Removed by a controller that had just begun itself.
    assert_eq!(began_at_once(&["i-1"], 2), (true, 2));
}

#[test]
fn a_controller_without_a_record_adopts_what_instances_serve_and_jumps() {
    let mut bench = three();
    let old = bench.record().epoch;
    let instances = std::mem::take(&mut bench.instances);
    bench.core = Core::begin("edge".parse().unwrap(), plan(&[(1, 5_000)]), Beginning::RecordMissing);
    bench.offer(9, &["shop"]);
    for (instance, epoch) in instances {
        let facts = Facts {
            epoch,
            stable: Some(revision(1)),
            ..Facts::default()
        };
        bench.connect(instance.as_str(), facts);
    }
    bench.seconds(14, good);
    assert_eq!(bench.record().stable, None, "it listens first");
    bench.seconds(2, good);
    assert_eq!(bench.record().stable, Some(revision(1)));
    assert!(
        bench.record().epoch >= old + (300 << 20),
        "past anything still in flight"
    );
    assert_eq!((bench.stage(), bench.recompiles), (None, 1));
    bench.offer(9, &["shop"]);
    assert_eq!(bench.stage(), Some(0));
}

#[test]
fn a_record_from_a_backup_is_noticed() {
    let mut bench = three();
    let backup = bench.record().clone();
    bench.offer(2, &["shop"]);
    bench.seconds(15, good);
    let epoch = bench.record().epoch;
    bench.core = Core::resume(backup);
    let facts = Facts {
        epoch,
        stable: Some(revision(2)),
        ..Facts::default()
    };
    bench.connect("i-0", facts);
    assert_eq!(bench.record().stable, Some(revision(2)));
    assert!(bench.record().epoch > epoch);
}

#[test]
fn an_impossible_epoch_is_not_followed() {
    let mut bench = three();
    let facts = Facts {
        epoch: u64::MAX,
        stable: Some(revision(7)),
        ..Facts::default()
    };
    let instance: InstanceId = "liar".parse().unwrap();
    bench.deaf.insert(instance.clone());
    bench.instances.insert(instance.clone(), u64::MAX);
    bench.step(Event::Connected { instance, facts });
    assert_eq!(bench.record().stable, Some(revision(1)));
    bench.told("liar says that it holds order 18446744073709551615");
}

#[test]
fn a_reload_asks_for_a_target_again() {
    let mut bench = three();
    let record = bench.record().clone();
    bench.core.reload(record);
    bench.second(good);
    assert_eq!(bench.recompiles, 1);
}

#[test]
fn the_author_of_the_plan_changes_what_comes_next_not_what_runs() {
    let mut bench = three();
    bench.offer(2, &["shop"]);
    bench.step(Event::PlanChanged(plan(&[(100, 0)])));
    assert_eq!(bench.record().rollout.as_ref().unwrap().stages.len(), 3);
    assert_eq!(bench.record().rollout.as_ref().unwrap().reached, Reached::Yes);
    bench.seconds(15, good);
    bench.offer(3, &["shop"]);
    assert_eq!(bench.record().stable, Some(revision(3)), "one stage, no bake");
}

#[test]
fn who_follows_is_counted_of_the_revision_that_is_shown() {
    let mut bench = Bench::of(3, plan(&[(100, 0)]));
    assert_eq!(bench.core.status(Millis(bench.now)).instances.label, "3/3");
    bench.command(Verb::Pause, 1);
    bench.offer(2, &["a"]);
    let status = bench.core.status(Millis(bench.now));
    assert_eq!(status.phase, Phase::Paused);
    assert_eq!(status.target_revision, status.queued_revision);
    assert_eq!(status.instances.label, "0/3", "nobody has what waits");
    assert_eq!((status.instances.target, status.instances.total), (0, 3));
}
