//! The rollout core, model-checked: the *real* step function between two controllers that may both believe they lead, a
//! record store with preconditions, and instances with disks, under every interleaving of crashes at every write, stale
//! reads, lost, late and reordered orders, a lost record, replaced instances and a revision that goes bad at any time.
//!
//! The rules of "what must hold in every state" are properties. For each rule there is a [`Mutant`]: a world in which
//! that rule is broken (by the store, the instances, or an edited record), and a test that it yields a counterexample. A
//! mutant that is not caught means that the model does not test the rule.
//!
//! Exhaustive search cannot afford every fault at once, so a [`Scope`] bounds how often each may happen, and each test
//! explores one combination completely. Liveness is not left to stateright's `eventually` (which misses cycles): from a
//! sample of all reachable states, a run without further faults must end with everybody on one revision.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use sluice_controller::rollout::record::{PastResult, Reached};
use sluice_controller::rollout::view::Link;
use sluice_controller::rollout::{
    Action as Effect, Beginning, Changed, Commit, Core, Counts, Event, Facts, Fault, Gate, InsteadOf, LastEnd, Limit,
    Members, Millis, PerMillion, Plan, RateLimit, Recipients, Record, Report, Role, ScopeId, Stage, Target, Timing,
    epoch, order,
};
use sluice_model::{Digest, InstanceId, RevisionId};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// How far apart the two controllers' clocks are, and how far apart the core is told that they may be.
const APART_SECONDS: u64 = 5;
const APART_MAX_SECONDS: u64 = 8;

/// A world with one rule taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    /// Everything is as it should be.
    None,
    /// The store takes writes without looking at the version.
    NoPrecondition,
    /// Orders leave before the record is written.
    OrderBeforeRecord,
    /// Instances take any order that arrives.
    NoEpochCheck,
    /// Instances forget their epoch when they restart.
    NoDisk,
    /// An instance that *serves* stable counts as having acknowledged the way back.
    RollbackByContent,
    /// The way back keeps the epoch of the order that it takes back.
    RollbackKeepsEpoch,
    /// Instances that a rollback could not reach are forgotten.
    ForgetsUnreached,
    /// A controller without a record goes on from what instances report, without the jump.
    NoJump,
    /// A replacement takes over the name of what it replaces.
    MembersBySlot,
    /// Silence counts as a report of no requests.
    SilenceIsIdle,
    /// A restarted controller believes that the stage has baked.
    RestartSkipsBake,
    /// A restarted controller chooses the members again.
    RestartChoosesAgain,
    /// A stage bakes although some member has not acknowledged it.
    NotReachedIsEnough,
    /// Members' failures are not reported.
    GatesAreBlind,
    /// A newcomer is put on the candidate although nobody listed it.
    NewcomersJoinCandidate,
    /// Orders are never sent again.
    NoResend,
    /// An instance that died says that it was ended in good order.
    CrashesAreHidden,
    /// An instance does not say how its last process ended.
    EndsAreNotTold,
    /// An instance that was started again is believed to carry the candidate still.
    StartsWithCandidate,
    /// That an instance lacks room is blamed on what was ordered.
    RoomIsBlamedOnTheOrder,
    /// The list of all instances has only those that are connected.
    RosterOfTheConnected,
}

/// How big the world is, and how often each fault may happen.
#[derive(Clone, Debug)]
struct Scope {
    mutant: Mutant,
    instances: u8,
    /// Percent and bake (in seconds) of each stage.
    stages: &'static [(u32, u64)],
    /// The greatest revision that is offered. 1 is stable; 2 may go bad.
    revisions: u64,
    seconds: u8,
    faults: Faults,
    harm: Harm,
    acks: Acks,
    leavers: Leavers,
    /// Every so many states, by hash, are continued without faults. 0: none.
    liveness_sample: u64,
}

/// When revision 2 does harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    /// Always, or never: two worlds to begin with.
    FromTheStart,
    /// From any moment on.
    AtAnyTime,
}

/// When acknowledgements arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Acks {
    /// At once, at every controller that has a stream.
    AtOnce,
    /// At each controller at any time.
    Late,
}

/// How controllers learn that an instance exists no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leavers {
    /// One by one.
    AreNamed,
    /// They are told who is left.
    AreNotOnTheRoster,
}

/// How often things may (still) happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Faults {
    /// A controller dies, between two events or between a write and the sending.
    crashes: u8,
    /// A controller starts with a record that is one version old.
    stale_starts: u8,
    /// The record is deleted.
    lost_records: u8,
    /// A process starts again, from its disk.
    restarts: u8,
    /// An instance is deleted, and another takes its place.
    replacements: u8,
    /// A stream ends although the instance goes on.
    partitions: u8,
    /// Members say nothing for a second.
    silences: u8,
    /// An instance has no room to keep an order, and refuses it.
    full_disks: u8,
    /// A controller writes what it merely observed.
    saves: u8,
    /// The author goes back to what is stable.
    withdrawals: u8,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            mutant: Mutant::None,
            instances: 3,
            stages: &[(34, 1), (100, 1)],
            revisions: 2,
            seconds: 2,
            faults: Faults::default(),
            harm: Harm::FromTheStart,
            acks: Acks::AtOnce,
            leavers: Leavers::AreNamed,
            liveness_sample: 64,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    store: Store,
    controllers: [Option<Shared<Controller>>; 2],
    instances: Vec<Instance>,
    flying: BTreeSet<Flying>,
    is_bad: bool,
    left: Faults,
    ghost: Shared<Ghost>,
}

/// A part that many worlds share. It is hashed once, not with every world that it is in: a world differs from the one
/// before it in few parts, and the search hashes every world that it meets.
#[derive(Debug)]
struct Shared<T> {
    part: Arc<T>,
    hash: u64,
}

impl<T: Hash> Shared<T> {
    fn new(part: T) -> Self {
        let mut hasher = DefaultHasher::new();
        part.hash(&mut hasher);
        Self {
            part: Arc::new(part),
            hash: hasher.finish(),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut T))
    where
        T: Clone,
    {
        let mut part = T::clone(&self.part);
        change(&mut part);
        *self = Self::new(part);
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            part: Arc::clone(&self.part),
            hash: self.hash,
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.part
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.part == other.part
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Store {
    version: u8,
    record: Option<Shared<Record>>,
    previous: Option<(u8, Shared<Record>)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Controller {
    core: Core,
    /// The version it read or wrote last.
    version: u8,
    seconds: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Instance {
    name: InstanceId,
    /// Tells it from what had its name before.
    uid: u8,
    epoch: u64,
    stable: u64,
    serves: u64,
    booted: u64,
    /// How the process before this one ended.
    last_end: LastEnd,
    /// The epoch of the order that it follows: none, after a start of a member, which is on stable.
    follows: u64,
}

impl Instance {
    /// Whether an order does anything. The one in force does again after a start.
    fn heeds(&self, flying: &Flying) -> bool {
        flying.epoch > self.epoch || (flying.epoch == self.epoch && self.follows < self.epoch)
    }
}

/// An order on its way to one process.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Flying {
    uid: u8,
    epoch: u64,
    stable: u64,
    serves: u64,
}

/// What really happened, for the properties alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Ghost {
    /// What each epoch was committed to mean.
    committed: BTreeMap<u64, Meaning>,
    /// Seconds of each epoch in which every member really reported.
    watched: BTreeMap<u64, u64>,
    /// Revisions that were stable.
    proven: BTreeSet<u64>,
    /// To how many instances the widest stage committed so far entitles a revision.
    entitled: BTreeMap<u64, u64>,
    promoted: bool,
    rolled_back: bool,
    /// The first rule that an action broke.
    broken: Option<&'static str>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Meaning {
    stable: u64,
    candidate: Option<(u64, Members)>,
    /// The processes that existed when it was committed.
    uids: BTreeSet<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Move {
    /// A controller reads the record and begins.
    Start(usize),
    /// The same, but what it reads is one version old.
    StartStale(usize),
    Crash(usize),
    /// Something happens to a controller; what follows is written and sent.
    Step(usize, Happens),
    /// The same, but it dies between the write and the sending.
    StepAndDie(usize, Happens),
    /// A controller writes what it merely observed.
    Save(usize),
    Deliver(Flying),
    RestartInstance(usize, LastEnd),
    ReplaceInstance(usize),
    /// The record is deleted, and perhaps the leader with it.
    LoseRecord(Leader),
    GoBad,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leader {
    Lives,
    Dies,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Happens {
    /// It hears from an instance: a stream begins, or an acknowledgement arrives.
    Hears(usize),
    /// An instance's stream ends.
    Misses(usize),
    /// An instance cannot keep the order in force.
    LacksRoom(usize),
    /// It learns that an instance exists no more.
    Forgets(InstanceId),
    /// It learns which instances there are.
    HearsRoster,
    /// A second in which every connected instance reports.
    Second,
    /// A second in which members are silent.
    SilentSecond,
    Offer(u64),
}

fn revision(number: u64) -> RevisionId {
    RevisionId {
        number,
        digest: Digest([u8::try_from(number).unwrap(); 32]),
    }
}

fn share_of(stage: &(u32, u64)) -> PerMillion {
    PerMillion::percent(stage.0)
}

fn plan(scope: &Scope) -> Plan {
    let stages = scope.stages.iter().enumerate().map(|(at, stage)| Stage {
        name: at.to_string(),
        fleet: share_of(stage),
        bake_ms: stage.1 * 1_000,
    });
    let limit = RateLimit {
        max: Some(PerMillion::percent(1)),
        max_increase: None,
    };
    let gate = Gate {
        limit: Limit::ErrorRate(limit),
        min_requests: 10,
    };
    Plan::new(stages.collect(), vec![gate]).unwrap()
}

fn mentions(record: &Record, name: &InstanceId) -> bool {
    let ordered = record.rollout.iter().flat_map(|rollout| &rollout.ordered);
    let waiting = record.restoring.iter().flat_map(|restoring| &restoring.waiting);
    ordered
        .chain(waiting)
        .chain(&record.unreached)
        .any(|other| other == name)
}

// ---- controllers -------------------------------------------------------------------------------------------------

impl Scope {
    fn timing(&self) -> Timing {
        let is = |mutant| self.mutant == mutant;
        Timing {
            tick_max_ms: 1_000,
            report_credit_max_ms: 1_000,
            member_silence_ms: 2_000,
            unreachable_after_ms: 1_000,
            fleet_settle_ms: 0,
            adoption_wait_ms: 1_000,
            order_resend_ms: if is(Mutant::NoResend) { u64::MAX } else { 1_000 },
            baseline_slot_ms: 1_000_000,
            clock_difference_seconds: APART_MAX_SECONDS,
        }
    }

    /// Controller 1's clock is ahead.
    fn now(&self, at: usize, controller: &Controller) -> Millis {
        let ahead = if at == 1 { APART_SECONDS } else { 0 };
        Millis((1_000 + ahead + u64::from(controller.seconds)) * 1_000)
    }

    fn start(&self, world: &mut World, at: usize, stale: bool) -> Option<()> {
        if world.controllers[at].is_some() {
            return None;
        }
        let (version, record) = match &world.store.previous {
            Some((version, record)) if stale => (*version, Some(record)),
            _ if stale => return None,
            _ => (world.store.version, world.store.record.as_ref()),
        };
        let core = match record {
            Some(record) => Core::resume(self.as_read(world, record)),
            None => Core::begin("edge".parse().unwrap(), plan(self), Beginning::RecordMissing),
        };
        let mut controller = Controller {
            core: core.with_timing(self.timing()),
            version,
            seconds: 0,
        };
        // It has looked at its clock, so that the first second counts.
        let now = self.now(at, &controller);
        let mut looked = controller.clone();
        if looked.core.step(Event::Tick, now).commit != Commit::Required {
            controller = looked;
        }
        world.controllers[at] = Some(Shared::new(controller));
        Some(())
    }

    /// The record as a new controller understands it.
    fn as_read(&self, world: &World, record: &Record) -> Record {
        let mut record = record.clone();
        let Some(rollout) = record.rollout.as_mut() else {
            return record;
        };
        match self.mutant {
            Mutant::RestartSkipsBake => {
                rollout.observed_ms = rollout.bake_ms;
                rollout.evidence.candidate_reports = 1;
                rollout.evidence.stable_reports = 1;
            }
            Mutant::RestartChoosesAgain => {
                let mut names = world.instances.iter().map(|instance| &instance.name);
                if let Some(other) = names.find(|name| !rollout.members.contains(name)) {
                    rollout.ordered = BTreeSet::from([other.clone()]);
                    rollout.members = Members::Listed(rollout.ordered.clone());
                }
            }
            _ => {}
        }
        record
    }

    /// What happens, as the core is told. `None`: nothing new.
    fn events(&self, world: &World, controller: &Controller, happens: &Happens) -> Option<Vec<Event>> {
        let view = controller.core.view();
        let is_up = |name: &InstanceId| view.instances.get(name).is_some_and(|seen| seen.link == Link::Up);
        match happens {
            Happens::Hears(at) => self.hears(&world.instances[*at], controller).map(|event| vec![event]),
            Happens::Misses(at) => {
                let name = &world.instances[*at].name;
                is_up(name).then(|| vec![Event::Disconnected(name.clone())])
            }
            Happens::LacksRoom(at) => {
                let instance = &world.instances[*at];
                let epoch = controller.core.record().epoch;
                let behind = is_up(&instance.name) && instance.follows < epoch;
                let fault = match self.mutant {
                    Mutant::RoomIsBlamedOnTheOrder => Fault::Order,
                    _ => Fault::Instance,
                };
                behind.then(|| {
                    vec![Event::Nack {
                        instance: instance.name.clone(),
                        epoch,
                        reason: String::new(),
                        fault,
                    }]
                })
            }
            Happens::Forgets(name) => {
                let known = view.instances.contains_key(name) || mentions(controller.core.record(), name);
                known.then(|| vec![Event::Removed(name.clone())])
            }
            Happens::HearsRoster => {
                let all = world.instances.iter().map(|instance| instance.name.clone());
                let roster: BTreeSet<InstanceId> = match self.mutant {
                    Mutant::RosterOfTheConnected => view.connected(),
                    _ => all.collect(),
                };
                let mut known = view.instances.keys().chain(controller.core.record().mentioned());
                known
                    .any(|name| !roster.contains(name))
                    .then(|| vec![Event::Roster(roster)])
            }
            Happens::Second => self.second(world, controller, true),
            Happens::SilentSecond => self.second(world, controller, false),
            Happens::Offer(number) => Some(vec![Event::NewTarget(target(*number, controller.core.record()))]),
        }
    }

    /// One second: reports, then the tick.
    fn second(&self, world: &World, controller: &Controller, members_speak: bool) -> Option<Vec<Event>> {
        let (record, view) = (controller.core.record(), controller.core.view());
        let is_up = |name: &InstanceId| view.instances.get(name).is_some_and(|seen| seen.link == Link::Up);
        let connected: Vec<&Instance> = world
            .instances
            .iter()
            .filter(|instance| is_up(&instance.name))
            .collect();
        // Listening before adopting is only worth something if every instance that holds anything connects meanwhile:
        // the assumption under which a controller without a record is safe.
        if record.stable.is_none() && connected.len() < world.instances.len() {
            return None;
        }
        let forged = !members_speak && self.mutant == Mutant::SilenceIsIdle;
        let mut events = Vec::new();
        for instance in connected {
            let member = record
                .rollout
                .as_ref()
                .is_some_and(|rollout| rollout.ordered.contains(&instance.name));
            if members_speak || forged || !member {
                events.push(self.report(world, record, instance, forged && member));
            }
        }
        events.push(Event::Tick);
        Some(events)
    }

    fn report(&self, world: &World, record: &Record, instance: &Instance, forged: bool) -> Event {
        let tries = instance.serves != instance.stable;
        let fails = tries && world.is_bad && instance.serves == 2 && self.mutant != Mutant::GatesAreBlind;
        let counts = Counts {
            requests: if forged { 0 } else { 100 },
            failures: if fails && !forged { 100 } else { 0 },
            ..Counts::default()
        };
        let role = if tries { Role::Candidate } else { Role::Stable };
        Event::Report(Report {
            instance: instance.name.clone(),
            epoch: if forged { record.epoch } else { instance.epoch },
            interval_ms: 1_000,
            counts: BTreeMap::from([((role, ScopeId::Fleet), counts)]),
        })
    }

    /// Hands `happens` to controller `at`; writes, and sends unless it dies before.
    fn step(&self, world: &mut World, at: usize, happens: &Happens, dies: bool) -> Option<()> {
        let before = world.controllers[at].clone()?;
        let events = self.events(world, &before, happens)?;
        let mut controller = Controller::clone(&before);
        let heard_harm = *happens == Happens::Second && hears_harm(world, &controller);
        if matches!(happens, Happens::Second | Happens::SilentSecond) {
            if controller.seconds >= self.seconds || has_nothing_to_watch(&controller) {
                return None;
            }
            controller.seconds += 1;
        }
        if *happens == Happens::Second {
            self.watch(world, &controller);
        }
        let now = self.now(at, &controller);
        let told = learns_of_an_end(world, &controller, happens);
        let (mut effects, mut wrote, mut lost) = (Vec::new(), false, false);
        for event in events {
            let outcome = controller.core.step(event, now);
            self.mutate_core(world, &mut controller, now);
            if self.mutant == Mutant::OrderBeforeRecord {
                self.send(world, &controller, &outcome.actions);
            }
            if outcome.commit == Commit::Required {
                if dies && self.mutant == Mutant::OrderBeforeRecord {
                    world.controllers[at] = None;
                    return Some(());
                }
                wrote = true;
                if !self.write(world, &mut controller) {
                    effects.clear();
                    lost = true;
                    continue;
                }
            }
            effects.extend(outcome.actions);
        }
        if heard_harm && !lost && controller.core.record().rollout.is_some() {
            world.break_rule("a failing gate takes the candidate back");
        }
        let goes_on = controller.core.record().rollout.is_some();
        if let Happens::LacksRoom(full) = happens {
            let uid = world.instances[*full].uid;
            world.flying.retain(|flying| flying.uid != uid); // refused
            let tried = before.core.record().rollout.is_some();
            if tried && !goes_on && !lost {
                world.break_rule("a lack of room is blamed on nobody");
            }
        }
        match told {
            Some(LastEnd::Crash) if goes_on && !lost => world.break_rule("a crash takes the candidate back"),
            Some(LastEnd::Harmless) if !goes_on && !lost => world.break_rule("an end in good order is no evidence"),
            _ => {}
        }
        if dies {
            // Dying before the write is a crash without this event; after the sending, one with it.
            world.controllers[at] = None;
            return wrote.then_some(());
        }
        if controller == *before && effects.is_empty() {
            return None;
        }
        if self.mutant != Mutant::OrderBeforeRecord {
            self.send(world, &controller, &effects);
        }
        world.controllers[at] = Some(Shared::new(controller));
        Some(())
    }

    /// Mutants that think otherwise than the core.
    fn mutate_core(&self, world: &World, controller: &mut Controller, now: Millis) {
        if self.mutant == Mutant::None {
            return; // the others may be slow
        }
        let mut record = controller.core.record().clone();
        match self.mutant {
            Mutant::RollbackByContent => {
                let Some(restoring) = &record.restoring else { return };
                for instance in world
                    .instances
                    .iter()
                    .filter(|instance| instance.serves == instance.stable)
                {
                    if restoring.waiting.contains(&instance.name) {
                        let (instance, epoch) = (instance.name.clone(), restoring.epoch);
                        controller.core.step(Event::Ack { instance, epoch }, now);
                    }
                }
                return;
            }
            Mutant::RollbackKeepsEpoch => {
                let stored = world.store.record.as_ref().filter(|stored| stored.rollout.is_some());
                let (Some(restoring), Some(stored)) = (record.restoring.as_mut(), stored) else {
                    return;
                };
                restoring.epoch = stored.epoch;
                record.epoch = stored.epoch;
            }
            Mutant::ForgetsUnreached => record.unreached.clear(),
            Mutant::NoJump => {
                let reported = controller.core.view().reported_epoch;
                if record.epoch == epoch::jump(0, reported, now, APART_MAX_SECONDS) {
                    record.epoch = epoch::next(0, reported, now);
                    record
                        .restoring
                        .iter_mut()
                        .for_each(|restoring| restoring.epoch = record.epoch);
                }
            }
            Mutant::NotReachedIsEnough => {
                let Some(rollout) = record.rollout.as_mut() else { return };
                rollout.reached = Reached::Yes;
                if rollout.evidence.stable_reports > 0 {
                    rollout.observed_ms = rollout.bake_ms;
                    rollout.evidence.candidate_reports = 1;
                    for pair in rollout.evidence.scopes.values_mut() {
                        pair.candidate = pair.stable.clone();
                    }
                }
            }
            _ => return,
        }
        if record != *controller.core.record() {
            controller.core.reload(record);
        }
    }

    /// Writes the record if its version is the one that was read; else reads it again.
    fn write(&self, world: &mut World, controller: &mut Controller) -> bool {
        if controller.version == world.store.version || self.mutant == Mutant::NoPrecondition {
            let record = Shared::new(controller.core.record().clone());
            world.notice_write(self, &record);
            let version = world.store.version;
            let previous = world.store.record.replace(record).map(|previous| (version, previous));
            // What nobody can read any more must not tell states apart.
            world.store.previous = previous.filter(|_| world.left.stale_starts > 0);
            world.store.version += 1;
            controller.version = world.store.version;
            return true;
        }
        controller.version = world.store.version;
        match world.store.record.clone() {
            Some(record) => controller.core.reload(Record::clone(&record)),
            None => {
                let begun = Core::begin("edge".parse().unwrap(), plan(self), Beginning::RecordMissing);
                controller.core = begun.with_timing(self.timing());
            }
        }
        false
    }

    fn send(&self, world: &mut World, controller: &Controller, effects: &[Effect]) {
        for effect in effects {
            let (Effect::SendOrder(to), Some(order)) = (effect, order(controller.core.record())) else {
                continue;
            };
            let meaning = order
                .candidate
                .as_ref()
                .map(|tried| (tried.revision.number, tried.members.clone()));
            let committed = world.ghost.committed.get(&order.epoch);
            if committed.is_none_or(|c| c.stable != order.stable.number || c.candidate != meaning) {
                world.break_rule("record before order, and one meaning for each epoch");
            }
            let connected = controller.core.view().connected();
            for instance in &world.instances {
                let addressed = match to {
                    Recipients::Everybody => connected.contains(&instance.name),
                    Recipients::One(name) => *name == instance.name,
                };
                let newcomer = self.mutant == Mutant::NewcomersJoinCandidate && instance.epoch == 0;
                let serves = match &order.candidate {
                    Some(candidate) if newcomer => candidate.revision.number,
                    _ => order.serves(&instance.name).number,
                };
                let flying = Flying {
                    uid: instance.uid,
                    epoch: order.epoch,
                    stable: order.stable.number,
                    serves,
                };
                // What it already holds can do nothing; leaving it out keeps the search small.
                if addressed && instance.heeds(&flying) {
                    world.flying.insert(flying);
                }
            }
        }
    }

    /// Notes a second in which all members of the order in force really reported.
    fn watch(&self, world: &mut World, controller: &Controller) {
        let record = controller.core.record();
        let Some(rollout) = &record.rollout else { return };
        let view = controller.core.view();
        let speaks = |name: &InstanceId| {
            let up = view.instances.get(name).is_some_and(|seen| seen.link == Link::Up);
            let mut named = world.instances.iter().filter(|instance| instance.name == *name);
            up && named.any(|instance| instance.follows == record.epoch)
        };
        if !rollout.ordered.is_empty() && rollout.ordered.iter().all(speaks) {
            let most = self.stages.iter().map(|(_, bake)| *bake).max().unwrap_or(0);
            world.ghost.change(|ghost| {
                let watched = ghost.watched.entry(record.epoch).or_default();
                *watched = (*watched + 1).min(most);
            });
        }
    }
}

/// Whether time would pass without anything to come of it.
fn has_nothing_to_watch(controller: &Controller) -> bool {
    let (record, view) = (controller.core.record(), controller.core.view());
    let follows = view
        .connected()
        .iter()
        .all(|name| view.has_acknowledged(name, record.epoch));
    let settled = record.rollout.is_none() && record.restoring.is_none() && record.unreached.is_empty();
    settled && record.stable.is_some() && follows
}

impl Scope {
    fn hears(&self, instance: &Instance, controller: &Controller) -> Option<Event> {
        let (name, epoch) = (instance.name.clone(), instance.follows);
        let tried = controller.core.record().rollout.as_ref();
        let carries = (instance.serves != instance.stable).then(|| revision(instance.serves));
        let facts = Facts {
            epoch: instance.epoch,
            stable: (instance.stable > 0).then(|| revision(instance.stable)),
            carries: match self.mutant {
                Mutant::StartsWithCandidate => tried.map(|rollout| rollout.target.revision),
                _ => carries,
            },
            booted_epoch: instance.booted,
            last_end: match self.mutant {
                Mutant::CrashesAreHidden => LastEnd::Harmless,
                Mutant::EndsAreNotTold => LastEnd::Unknown,
                _ => instance.last_end,
            },
        };
        match controller.core.view().instances.get(&name) {
            Some(seen) if seen.link == Link::Up && seen.epoch >= epoch => None,
            Some(seen) if seen.link == Link::Up => Some(Event::Ack { instance: name, epoch }),
            _ => Some(Event::Connected { instance: name, facts }),
        }
    }
}

/// How a process of a member ended that had begun to serve the candidate, if that is what the controller is about to be
/// told.
fn learns_of_an_end(world: &World, controller: &Controller, happens: &Happens) -> Option<LastEnd> {
    let Happens::Hears(at) = happens else { return None };
    let instance = &world.instances[*at];
    let seen = controller.core.view().instances.get(&instance.name);
    let rollout = controller.core.record().rollout.as_ref()?;
    let is_new = seen.is_none_or(|seen| seen.link == Link::Away);
    let was_member = rollout.ordered.contains(&instance.name) && instance.booted >= rollout.first_epoch;
    (is_new && was_member).then_some(instance.last_end)
}

fn target(number: u64, record: &Record) -> Target {
    Target {
        revision: revision(number),
        basis: record.basis(),
        changed: vec![Changed {
            object: "ProxyRoute a/b".parse().unwrap(),
            content: Some(revision(number).digest),
        }],
        scopes: vec![],
        unlisted: 0,
        still_held: record.held.iter().map(|held| held.object.clone()).collect(),
        instead_of: InsteadOf::Routes,
    }
}

/// Whether a member is about to report failures, under the order in force, to this controller.
fn hears_harm(world: &World, controller: &Controller) -> bool {
    let record = controller.core.record();
    let is_tried = record
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.target.revision.number == 2);
    let view = controller.core.view();
    let reports = |instance: &Instance| {
        let seen = view.instances.get(&instance.name);
        let up = seen.is_some_and(|seen| seen.link == Link::Up && seen.epoch == record.epoch);
        up && instance.epoch == record.epoch && instance.serves == 2
    };
    world.is_bad && is_tried && world.instances.iter().any(reports)
}

// ---- instances ---------------------------------------------------------------------------------------------------

impl Scope {
    fn name(&self, slot: u8, generation: u8) -> InstanceId {
        let generation = if self.mutant == Mutant::MembersBySlot {
            0
        } else {
            generation
        };
        format!("i{slot}-{generation}").parse().unwrap()
    }

    fn deliver(&self, world: &mut World, flying: &Flying) -> Option<()> {
        world.flying.remove(flying);
        let meaning = world.ghost.committed.get(&flying.epoch);
        let listed = meaning.is_some_and(|meaning| matches!(meaning.candidate, Some((_, Members::Listed(_)))));
        let inherited = listed && meaning.is_some_and(|meaning| !meaning.uids.contains(&flying.uid));
        let instance = world.instances.iter_mut().find(|instance| instance.uid == flying.uid)?;
        if !instance.heeds(flying) && self.mutant != Mutant::NoEpochCheck {
            return Some(());
        }
        let goes_back = flying.epoch < instance.epoch;
        instance.epoch = flying.epoch;
        instance.stable = flying.stable;
        instance.serves = flying.serves;
        instance.follows = flying.epoch;
        if goes_back {
            world.break_rule("an instance's epoch never goes back");
        }
        if inherited && flying.serves != flying.stable {
            world.break_rule("an instance does not inherit what was ordered onto another");
        }
        let at = world.instances.iter().position(|instance| instance.uid == flying.uid)?;
        for leads in 0..2 {
            let name = &world.instances[at].name;
            let controller = world.controllers[leads].as_ref().filter(|_| self.acks == Acks::AtOnce);
            let seen = controller.and_then(|controller| controller.core.view().instances.get(name));
            if seen.is_some_and(|seen| seen.link == Link::Up) {
                self.step(world, leads, &Happens::Hears(at), false);
            }
        }
        Some(())
    }

    /// A start is on stable. An order that says nothing else is followed at once.
    fn restart(&self, world: &mut World, at: usize, last_end: LastEnd) {
        let instance = &mut world.instances[at];
        let before = instance.epoch;
        if self.mutant == Mutant::NoDisk {
            instance.epoch = 0;
        }
        instance.booted = instance.epoch;
        if instance.serves != instance.stable {
            instance.serves = instance.stable;
            instance.follows = 0;
            instance.last_end = last_end;
        } else if instance.follows == instance.epoch {
            instance.last_end = LastEnd::Harmless; // else what was noted of the end before stays
        }
        if instance.epoch < before {
            world.break_rule("an instance's epoch never goes back");
        }
        self.hang_up(world, at);
    }

    fn replace(&self, world: &mut World, at: usize) {
        self.hang_up(world, at);
        let old = world.instances[at].uid;
        let uid = old + self.instances;
        world.flying.retain(|flying| flying.uid != old);
        world.instances[at] = Instance {
            name: self.name(u8::try_from(at).unwrap(), uid / self.instances),
            uid,
            epoch: 0,
            stable: 0,
            serves: 0,
            booted: 0,
            last_end: LastEnd::Harmless,
            follows: 0,
        };
    }

    /// A process that dies takes its streams with it: whoever held one notices at once.
    fn hang_up(&self, world: &mut World, at: usize) {
        let name = world.instances[at].name.clone();
        for leads in 0..2 {
            let controller = world.controllers[leads].as_ref();
            let seen = controller.and_then(|controller| controller.core.view().instances.get(&name));
            if seen.is_some_and(|seen| seen.link == Link::Up) {
                self.step(world, leads, &Happens::Misses(at), false);
            }
        }
    }
}

// ---- what must hold ----------------------------------------------------------------------------------------------

impl World {
    fn break_rule(&mut self, rule: &'static str) {
        self.ghost.change(|ghost| ghost.broken = ghost.broken.or(Some(rule)));
    }

    /// What a write of the record means, and whether it may mean that.
    fn notice_write(&mut self, scope: &Scope, new: &Record) {
        if let Some(old) = self.store.record.clone() {
            self.notice_going_on(scope, &old, new);
        }
        let Some(order) = order(new) else { return };
        let meaning = Meaning {
            stable: order.stable.number,
            candidate: order
                .candidate
                .map(|candidate| (candidate.revision.number, candidate.members)),
            uids: self.instances.iter().map(|instance| instance.uid).collect(),
        };
        let (mut differs, mut unproven) = (false, false);
        self.ghost.change(|ghost| {
            if let Some(rollout) = &new.rollout {
                let entitled = ghost.entitled.entry(rollout.target.revision.number).or_default();
                *entitled = scope.entitles(rollout.stage).max(*entitled);
            }
            ghost.watched.retain(|epoch, _| *epoch >= order.epoch);
            ghost.promoted |= meaning.stable > 1;
            ghost.rolled_back |= new
                .history
                .iter()
                .any(|past| matches!(past.result, PastResult::RolledBack { .. }));
            unproven = !ghost.proven.contains(&meaning.stable);
            let before = ghost.committed.entry(order.epoch).or_insert_with(|| meaning.clone());
            differs = before.stable != meaning.stable || before.candidate != meaning.candidate;
        });
        if differs {
            self.break_rule("record before order, and one meaning for each epoch");
        }
        if unproven {
            self.break_rule("only what has baked everywhere is called stable");
        }
    }

    /// A wider stage, and the promotion, need the bake before them to have been observed with everybody on board.
    fn notice_going_on(&mut self, scope: &Scope, old: &Record, new: &Record) {
        if new.epoch < old.epoch {
            self.break_rule("a committed epoch never goes back");
        }
        let Some(rollout) = &old.rollout else { return };
        let tried = rollout.target.revision;
        let next = new.rollout.as_ref().filter(|next| next.target.revision == tried);
        let wider = next.is_some_and(|next| next.stage > rollout.stage);
        let restoring = new.restoring.as_ref();
        let adopted = restoring.is_some_and(|restoring| restoring.result == PastResult::AdoptedFromInstances);
        let promoted = new.stable == Some(tried) && old.stable != new.stable && !adopted;
        if !wider && !promoted {
            return;
        }
        let watched = self.ghost.watched.get(&old.epoch).copied().unwrap_or(0);
        if watched < scope.stages[rollout.stage].1 {
            self.break_rule("a stage is left only after its bake was observed");
        }
        if promoted {
            self.ghost.change(|ghost| _ = ghost.proven.insert(tried.number));
        }
    }

    /// Processes that carry `number`, or may yet come to by an order that is on its way.
    fn carriers(&self, number: u64) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(move |instance| {
            let may = |flying: &Flying| flying.uid == instance.uid && flying.serves == number && instance.heeds(flying);
            instance.serves == number || self.flying.iter().any(may)
        })
    }

    /// Not counted are those that a rollback could not reach, which the record lists.
    fn blast_radius_holds(&self, scope: &Scope) -> bool {
        let record = self.store.record.as_ref();
        let is_listed = |instance: &&Instance| record.is_some_and(|record| record.unreached.contains(&instance.name));
        (2..=scope.revisions).all(|number| {
            let entitled = self.ghost.entitled.get(&number).copied().unwrap_or(0);
            let carriers = self.carriers(number).filter(|instance| !is_listed(instance)).count() as u64;
            self.ghost.proven.contains(&number) || carriers <= entitled
        })
    }

    fn rolled_back_is_gone(&self) -> bool {
        let Some(record) = &self.store.record else { return true };
        let tried = record.rollout.as_ref().map(|rollout| rollout.target.revision);
        let taken_back = record.history.iter().filter(|past| {
            let back = matches!(past.result, PastResult::RolledBack { .. } | PastResult::Withdrawn);
            back && tried != Some(past.revision) && record.stable != Some(past.revision)
        });
        let mut carriers = taken_back.flat_map(|past| self.carriers(past.revision.number));
        carriers.all(|instance| record.unreached.contains(&instance.name))
    }

    /// Whether everybody serves stable, and the record says that nothing is going on.
    fn has_converged(&self) -> bool {
        let Some(record) = &self.store.record else { return false };
        let settled = record.rollout.is_none() && record.restoring.is_none() && record.unreached.is_empty();
        let follows = |instance: &Instance| {
            let stable = record.stable.map(|stable| stable.number);
            instance.epoch == record.epoch && Some(instance.serves) == stable && Some(instance.stable) == stable
        };
        settled && self.instances.iter().all(follows)
    }

    /// From here on nothing goes wrong: one controller leads, which is the one that knows the record if there is one, else
    /// a new one; every stream is up, and every order is delivered in some order.
    fn converges(&self, scope: &Scope) -> bool {
        let mut calm = scope.clone();
        calm.seconds = u8::MAX;
        let mut world = self.clone();
        let knows = |controller: &Option<Shared<Controller>>| {
            controller
                .as_ref()
                .is_some_and(|controller| controller.version == self.store.version)
        };
        let leads = world.controllers.iter().position(knows).unwrap_or(0);
        world.controllers[1 - leads] = None;
        if !knows(&world.controllers[leads]) {
            world.controllers[leads] = None;
            calm.start(&mut world, leads, false);
        }
        if scope.mutant == Mutant::NoResend {
            world.flying.clear(); // lost
        }
        for round in 0..80 {
            let oldest = world.flying.iter().min_by_key(|flying| flying.epoch).cloned();
            if let Some(flying) = oldest {
                calm.deliver(&mut world, &flying);
            }
            for name in calm.dead(&world) {
                calm.step(&mut world, leads, &Happens::Forgets(name), false);
            }
            for at in 0..world.instances.len() {
                calm.step(&mut world, leads, &Happens::Hears(at), false);
            }
            if round % 4 == 3 {
                calm.step(&mut world, leads, &Happens::Second, false);
            }
            if world.flying.is_empty() && world.has_converged() {
                return true;
            }
        }
        false
    }
}

// ---- the search --------------------------------------------------------------------------------------------------

impl Scope {
    /// Names that no process has any more.
    fn dead(&self, world: &World) -> Vec<InstanceId> {
        let first = (0..self.instances).map(|slot| self.name(slot, 0));
        first
            .filter(|name| world.instances.iter().all(|instance| instance.name != *name))
            .collect()
    }

    /// How many instances the stage at `index` may have.
    fn entitles(&self, index: usize) -> u64 {
        (u64::from(self.stages[index].0) * u64::from(self.instances) / 100).max(1)
    }

    /// What can happen to controller `at`.
    fn happenings(&self, world: &World, at: usize) -> Vec<Happens> {
        let everybody = || 0..world.instances.len();
        let mut all: Vec<Happens> = everybody().map(Happens::Hears).collect();
        let record = world.controllers[at].as_ref().unwrap().core.record();
        let next = record.greatest_number() + 1;
        if (2..=self.revisions).contains(&next) {
            all.push(Happens::Offer(next));
        }
        if world.left.withdrawals > 0 && record.rollout.is_some() && record.stable == Some(revision(1)) {
            all.push(Happens::Offer(1));
        }
        if world.left.partitions > 0 {
            all.extend(everybody().map(Happens::Misses));
        }
        if world.left.full_disks > 0 {
            all.extend(everybody().map(Happens::LacksRoom));
        }
        if world.left.silences > 0 {
            all.push(Happens::SilentSecond);
        }
        match self.leavers {
            Leavers::AreNamed => all.extend(self.dead(world).into_iter().map(Happens::Forgets)),
            Leavers::AreNotOnTheRoster => all.push(Happens::HearsRoster),
        }
        all.push(Happens::Second);
        all
    }
}

impl Faults {
    /// What is left after `next`.
    fn spend(&mut self, next: &Move) {
        match next {
            Move::StartStale(_) => self.stale_starts -= 1,
            Move::Crash(_) | Move::StepAndDie(..) => self.crashes -= 1,
            Move::Save(_) => self.saves -= 1,
            Move::RestartInstance(..) => self.restarts -= 1,
            Move::ReplaceInstance(_) => self.replacements -= 1,
            Move::LoseRecord(_) => self.lost_records -= 1,
            Move::Step(_, Happens::Misses(_)) => self.partitions -= 1,
            Move::Step(_, Happens::SilentSecond) => self.silences -= 1,
            Move::Step(_, Happens::LacksRoom(_)) => self.full_disks -= 1,
            Move::Step(_, Happens::Offer(1)) => self.withdrawals -= 1,
            Move::Start(_) | Move::Step(..) | Move::Deliver(_) | Move::GoBad => {}
        }
    }
}

impl Model for Scope {
    type State = World;
    type Action = Move;

    /// A fleet on revision 1, whose leader has heard from everybody: what came before is the same in every run.
    fn init_states(&self) -> Vec<World> {
        let mut record = Record::new("edge".parse().unwrap(), plan(self), Beginning::NewFleet);
        record.epoch = 1;
        record.stable = Some(revision(1));
        record.size = usize::from(self.instances);
        let instance = |slot| Instance {
            name: self.name(slot, 0),
            uid: slot,
            epoch: 1,
            stable: 1,
            serves: 1,
            booted: 0,
            last_end: LastEnd::Harmless,
            follows: 1,
        };
        let mut world = World {
            store: Store::default(),
            controllers: [None, None],
            instances: (0..self.instances).map(instance).collect(),
            flying: BTreeSet::new(),
            is_bad: false,
            left: self.faults,
            ghost: Shared::new(Ghost {
                proven: BTreeSet::from([1]),
                ..Ghost::default()
            }),
        };
        world.notice_write(self, &record);
        world.store.record = Some(Shared::new(record));
        world.store.version = 1;
        // Who may lose the record is the one whose clock is ahead.
        let leads = usize::from(self.faults.lost_records > 0);
        self.start(&mut world, leads, false).unwrap();
        for at in 0..world.instances.len() {
            self.step(&mut world, leads, &Happens::Hears(at), false).unwrap();
        }
        let mut harmful = world.clone();
        harmful.is_bad = true;
        match self.harm {
            Harm::FromTheStart => vec![world, harmful],
            Harm::AtAnyTime => vec![world],
        }
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        if world.ghost.broken.is_some() {
            return; // found
        }
        let left = &world.left;
        for at in 0..2 {
            if world.controllers[at].is_none() {
                // Two at a time only where that is the question: after a start with an old record.
                if world.controllers[1 - at].is_none() {
                    moves.push(Move::Start(at));
                }
                if left.stale_starts > 0 {
                    moves.push(Move::StartStale(at));
                }
                continue;
            }
            for happens in self.happenings(world, at) {
                if left.crashes > 0 {
                    moves.push(Move::StepAndDie(at, happens.clone()));
                }
                moves.push(Move::Step(at, happens));
            }
            if left.crashes > 0 {
                moves.push(Move::Crash(at));
            }
            if left.saves > 0 {
                moves.push(Move::Save(at));
            }
        }
        moves.extend(world.flying.iter().cloned().map(Move::Deliver));
        for at in 0..world.instances.len() {
            if left.restarts > 0 && world.instances[at].booted != world.instances[at].epoch {
                moves.extend([LastEnd::Harmless, LastEnd::Crash].map(|end| Move::RestartInstance(at, end)));
            }
            if left.replacements > 0 {
                moves.push(Move::ReplaceInstance(at));
            }
        }
        if left.lost_records > 0 && world.store.record.is_some() {
            moves.extend([Leader::Lives, Leader::Dies].map(Move::LoseRecord));
        }
        if self.harm == Harm::AtAnyTime && !world.is_bad {
            moves.push(Move::GoBad);
        }
    }

    fn next_state(&self, last: &World, next: Move) -> Option<World> {
        let mut world = last.clone();
        match &next {
            Move::Start(at) => self.start(&mut world, *at, false)?,
            Move::StartStale(at) => self.start(&mut world, *at, true)?,
            Move::Crash(at) => world.controllers[*at] = None,
            Move::Step(at, happens) => self.step(&mut world, *at, happens, false)?,
            Move::StepAndDie(at, happens) => self.step(&mut world, *at, happens, true)?,
            Move::Save(at) => {
                let mut controller = Controller::clone(world.controllers[*at].as_ref()?);
                if world.store.record.as_deref() == Some(controller.core.record()) {
                    return None;
                }
                self.write(&mut world, &mut controller);
                world.controllers[*at] = Some(Shared::new(controller));
            }
            Move::Deliver(flying) => self.deliver(&mut world, flying)?,
            Move::RestartInstance(at, end) => self.restart(&mut world, *at, *end),
            Move::ReplaceInstance(at) => self.replace(&mut world, *at),
            Move::LoseRecord(leader) => {
                if *leader == Leader::Dies {
                    world.controllers = [None, None];
                }
                world.store.record = None;
                world.store.previous = None;
                world.store.version += 1;
            }
            Move::GoBad => world.is_bad = true,
        }
        world.left.spend(&next);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no move breaks a rule", |_, world: &World| world.ghost.broken.is_none()),
            Property::always("blast radius", |scope: &Scope, world: &World| {
                world.blast_radius_holds(scope)
            }),
            Property::always("rolled back means gone", |_, world: &World| world.rolled_back_is_gone()),
            Property::always(
                "converges when nothing more goes wrong",
                |scope: &Scope, world: &World| {
                    let mut hasher = DefaultHasher::new();
                    world.hash(&mut hasher);
                    let sampled = hasher.finish().checked_rem(scope.liveness_sample) == Some(0);
                    !sampled || world.converges(scope)
                },
            ),
            // That the search gets anywhere at all.
            Property::sometimes("promotes", |_, world: &World| world.ghost.promoted),
            Property::sometimes("rolls back", |_, world: &World| world.ghost.rolled_back),
        ]
    }
}

/// Explores everything; the violated properties, and how many states there are.
fn explore(scope: Scope) -> (Vec<&'static str>, usize) {
    let started = Instant::now();
    let mutant = scope.mutant;
    let checker = scope
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut violated = Vec::new();
    for (name, path) in checker.discoveries() {
        if name == "promotes" || name == "rolls back" {
            continue;
        }
        let broken = path.last_state().ghost.broken;
        let moves: Vec<String> = path.into_actions().iter().map(|next| format!("{next:?}")).collect();
        println!("{mutant:?}: {name}: {broken:?} after {} moves", moves.len());
        if mutant == Mutant::None {
            println!("  {}", moves.join("\n  "));
        }
        violated.push(name);
    }
    let states = checker.unique_state_count();
    println!(
        "{mutant:?}: {states} states, {} visits, {:?}",
        checker.state_count(),
        started.elapsed()
    );
    if mutant == Mutant::None && violated.is_empty() {
        checker.assert_any_discovery("promotes");
        checker.assert_any_discovery("rolls back");
    }
    (violated, states)
}

#[track_caller]
fn holds(scope: Scope) {
    let (violated, states) = explore(scope);
    assert!(violated.is_empty(), "{violated:?} among {states} states");
}

#[track_caller]
fn is_caught(mutant: Mutant, scope: Scope) {
    let (violated, states) = explore(Scope { mutant, ..scope });
    assert!(!violated.is_empty(), "{mutant:?} is not noticed in {states} states");
}

const NO_FAULTS: Faults = Faults {
    crashes: 0,
    stale_starts: 0,
    lost_records: 0,
    restarts: 0,
    replacements: 0,
    partitions: 0,
    silences: 0,
    full_disks: 0,
    saves: 0,
    withdrawals: 0,
};

/// Two instances: enough for an order to be in flight to one while the other has moved.
fn two() -> Scope {
    Scope {
        instances: 2,
        stages: &[(50, 1), (100, 1)],
        ..Scope::default()
    }
}

fn four_instances_three_stages() -> Scope {
    Scope {
        instances: 4,
        stages: &[(25, 1), (50, 1), (100, 0)],
        ..Scope::default()
    }
}

fn late_acknowledgements() -> Scope {
    Scope {
        acks: Acks::Late,
        harm: Harm::AtAnyTime,
        ..Scope::default()
    }
}

fn crashes() -> Scope {
    Scope {
        faults: Faults {
            crashes: 1,
            ..NO_FAULTS
        },
        ..two()
    }
}

fn resumed_bakes() -> Scope {
    Scope {
        stages: &[(50, 2), (100, 1)],
        faults: Faults {
            crashes: 1,
            saves: 1,
            ..NO_FAULTS
        },
        ..two()
    }
}

fn two_controllers() -> Scope {
    Scope {
        faults: Faults {
            stale_starts: 1,
            ..NO_FAULTS
        },
        liveness_sample: 512,
        ..two()
    }
}

fn lost_record() -> Scope {
    Scope {
        faults: Faults {
            lost_records: 1,
            ..NO_FAULTS
        },
        liveness_sample: 512,
        ..two()
    }
}

fn replaced_instances() -> Scope {
    Scope {
        faults: Faults {
            replacements: 1,
            ..NO_FAULTS
        },
        ..two()
    }
}

fn restarted_instances() -> Scope {
    Scope {
        faults: Faults {
            restarts: 1,
            ..NO_FAULTS
        },
        ..two()
    }
}

fn partitions() -> Scope {
    Scope {
        seconds: 3,
        faults: Faults {
            partitions: 1,
            silences: 2,
            ..NO_FAULTS
        },
        ..two()
    }
}

fn rosters() -> Scope {
    Scope {
        leavers: Leavers::AreNotOnTheRoster,
        ..replaced_instances()
    }
}

fn rosters_and_somebody_away() -> Scope {
    Scope {
        leavers: Leavers::AreNotOnTheRoster,
        faults: Faults {
            partitions: 1,
            ..NO_FAULTS
        },
        liveness_sample: 0,
        ..two()
    }
}

fn full_disks() -> Scope {
    Scope {
        seconds: 3,
        faults: Faults {
            full_disks: 2,
            ..NO_FAULTS
        },
        ..two()
    }
}

fn superseded_and_withdrawn() -> Scope {
    Scope {
        revisions: 3,
        faults: Faults {
            withdrawals: 1,
            ..NO_FAULTS
        },
        ..two()
    }
}

macro_rules! hold {
    ($($name:ident: $scope:expr;)*) => {$(
        #[test]
        fn $name() {
            holds($scope);
        }
    )*};
}

macro_rules! caught {
    ($($name:ident: $mutant:ident in $scope:expr;)*) => {$(
        #[test]
        fn $name() {
            is_caught(Mutant::$mutant, $scope);
        }
    )*};
}

hold! {
    holds_with_four_instances_and_three_stages: four_instances_three_stages();
    holds_when_acknowledgements_are_late_and_harm_begins_at_any_time: late_acknowledgements();
    holds_when_controllers_crash_at_any_write: crashes();
    holds_when_a_bake_is_resumed: resumed_bakes();
    holds_with_two_controllers_and_stale_reads: two_controllers();
    holds_when_the_record_is_lost: lost_record();
    holds_when_instances_are_replaced: replaced_instances();
    holds_when_instances_restart: restarted_instances();
    holds_when_streams_break_and_members_are_silent: partitions();
    holds_when_rosters_are_told: rosters();
    holds_when_disks_are_full: full_disks();
    holds_when_revisions_are_superseded_and_withdrawn: superseded_and_withdrawn();
}

caught! {
    needs_the_precondition: NoPrecondition in two_controllers();
    needs_the_record_before_the_order: OrderBeforeRecord in crashes();
    needs_the_epoch_check: NoEpochCheck in Scope::default();
    needs_the_epoch_on_disk: NoDisk in restarted_instances();
    needs_rollbacks_by_epoch: RollbackByContent in late_acknowledgements();
    needs_a_new_epoch_for_the_way_back: RollbackKeepsEpoch in Scope::default();
    needs_the_list_of_unreached: ForgetsUnreached in partitions();
    needs_the_jump: NoJump in lost_record();
    needs_members_by_id: MembersBySlot in replaced_instances();
    needs_reports_to_bake: SilenceIsIdle in partitions();
    needs_the_observed_bake: RestartSkipsBake in crashes();
    needs_the_committed_members: RestartChoosesAgain in crashes();
    needs_every_acknowledgement: NotReachedIsEnough in Scope::default();
    needs_gates: GatesAreBlind in Scope::default();
    needs_newcomers_on_stable: NewcomersJoinCandidate in replaced_instances();
    needs_everybody_on_the_roster: RosterOfTheConnected in rosters_and_somebody_away();
    needs_to_know_whose_fault_a_refusal_is: RoomIsBlamedOnTheOrder in full_disks();
    needs_crashes_to_be_told: CrashesAreHidden in restarted_instances();
    needs_ends_in_good_order_to_be_told: EndsAreNotTold in restarted_instances();
    needs_the_candidate_after_a_start: StartsWithCandidate in restarted_instances();
    needs_orders_to_be_sent_again: NoResend in Scope { liveness_sample: 1, ..Scope::default() };
}
