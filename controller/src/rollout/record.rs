//! The record: everything about a fleet that must outlive a controller. Stored as JSON by whoever calls the core, with
//! a precondition on the version that was read, before anything it implies is sent.
//!
//! What can be asked of instances again (who is connected, what each has acknowledged) is not in here but in the
//! [`super::view`]. Everything is bounded by `limits.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use sluice_model::{Digest, FleetName, InstanceId, ObjectKey, RevisionId};

use super::event::{Basis, Target};
use super::evidence::{Counts, Evidence, ScopeId};
use super::failure::Failure;
use super::order::Members;
use super::plan::{Gate, OnIdle, OnNoData, Plan, Progress, Stage};
use super::stored;
use super::time::Millis;

/// What a controller knew when it made the record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Beginning {
    /// There never was a record: the signing key was just made, so that no instance can hold anything valid.
    NewFleet,
    /// A record may have been lost: instances are asked before anything is ordered.
    RecordMissing,
}

/// The record of one fleet.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Which fleet.
    #[serde(with = "stored::text")]
    pub fleet: FleetName,
    /// How the record came to be.
    pub beginning: Beginning,
    /// The epoch of the order in force; 0 before the first. Only ever grows.
    pub epoch: u64,
    /// Instances that were connected when a stage was last committed. A new controller waits for about as many.
    pub size: usize,
    /// The proven revision; `None` before the first.
    #[serde(with = "stored::optional_revision")]
    pub stable: Option<RevisionId>,
    /// What the author asks for now.
    pub plan: Plan,
    /// The rollout in progress. Never together with `restoring`.
    pub rollout: Option<Rollout>,
    /// Everybody is being ordered back.
    pub restoring: Option<Restoring>,
    /// Instances that may still carry a revision that was taken back, because they could not be reached. They leave
    /// the list by acknowledging the order in force, or with their pod.
    #[serde(with = "stored::texts")]
    pub unreached: BTreeSet<InstanceId>,
    /// What is to be rolled out next, when nothing stands in the way.
    pub queued: Option<Target>,
    /// Contents that did harm: compiled as their last good form until the object has another content.
    pub held: Vec<Held>,
    /// See [`Basis::held_generation`].
    pub held_generation: u64,
    /// Digests that failed without an object to blame.
    pub blocked: VecDeque<Blocked>,
    /// Rollouts without a suspect that failed one after the other. Two freeze the fleet.
    pub blamed_on_nobody: u32,
    /// Why nothing is rolled out until a person retries.
    pub frozen: Option<String>,
    /// A pause made by command; the author's is in the plan.
    pub paused: Option<Pause>,
    /// What became of past revisions, the latest last.
    pub history: VecDeque<Past>,
    /// Ids of the commands carried out last, the latest last: one that arrives again, because its answer was lost with a
    /// controller, is not carried out again. "Skip this stage's bake" twice would skip the next one's.
    #[serde(default)]
    pub carried_out: VecDeque<String>,
}

/// A revision being tried.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Rollout {
    /// What is tried.
    pub target: Target,
    /// When it began.
    pub began: Millis,
    /// When the oldest change in it, or in what it superseded, began to be tried.
    pub pending_since: Millis,
    /// The epoch of the first order that named it.
    pub first_epoch: u64,
    /// The stages as they were when it began.
    pub stages: Vec<Stage>,
    /// The gates as they were when it began.
    pub gates: Vec<Gate>,
    /// As it was when it began.
    pub on_no_data: OnNoData,
    /// As it was when it began.
    pub on_idle: OnIdle,
    /// Index of the stage.
    pub stage: usize,
    /// Stages just before this one that would have chosen the same members, and were passed over.
    pub collapsed: Vec<String>,
    /// How long this stage has to be observed: the longest bake of it and the collapsed ones.
    pub bake_ms: u64,
    /// Who carries it, as the order of this stage says. Never changes during a stage.
    pub members: Members,
    /// Every instance that was ordered onto it and still exists.
    #[serde(with = "stored::texts")]
    pub ordered: BTreeSet<InstanceId>,
    /// Whether every member has acknowledged this stage.
    pub reached: Reached,
    /// For how long all members were observed in this stage, in milliseconds.
    pub observed_ms: u64,
    /// Observed time since the last round of a bake that holds began.
    pub round_ms: u64,
    /// How long the rollout has been running, by ticks, in milliseconds.
    pub running_ms: u64,
    /// What was counted in this stage.
    pub evidence: Evidence,
    /// What stable showed before, for stages without a stable cohort.
    pub baseline: BTreeMap<ScopeId, Counts>,
    /// Whether an earlier stage had stable instances that reported beside its members.
    #[serde(default)]
    pub compared: Compared,
    /// Requests that its members served lately when this stage was ordered: whether any would come to them at all.
    #[serde(default)]
    pub served_before: u64,
    /// Over how long they did, in milliseconds.
    #[serde(default)]
    pub served_before_ms: u64,
    /// A person let this stage pass without more data.
    pub waved: Option<Pause>,
}

impl Rollout {
    /// The stage it is in; `None` only in a record that somebody edited.
    pub fn current_stage(&self) -> Option<&Stage> {
        self.stages.get(self.stage)
    }
}

/// Whether the candidate has stood beside stable, over the same minutes and the same traffic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Compared {
    /// Never: the first stage, or a fleet of one.
    #[default]
    No,
    /// In a stage that it has passed.
    Yes,
}

/// Whether a stage began to bake.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Reached {
    /// Some member has not acknowledged.
    NotYet,
    /// All have.
    Yes,
}

/// Everybody is being ordered back to stable.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Restoring {
    /// What was taken back; stable, when it was adopted from instances.
    #[serde(with = "stored::revision")]
    pub revision: RevisionId,
    /// The epoch that instances have to acknowledge.
    pub epoch: u64,
    /// Who has not yet.
    #[serde(with = "stored::texts")]
    pub waiting: BTreeSet<InstanceId>,
    /// How it ended.
    pub result: PastResult,
}

/// A content that did harm.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Whose.
    #[serde(with = "stored::text")]
    pub object: ObjectKey,
    /// Which; `None` for a deletion.
    #[serde(with = "stored::optional_text")]
    pub content: Option<Digest>,
    /// In which revision it was tried.
    #[serde(with = "stored::revision")]
    pub revision: RevisionId,
    /// In which stage.
    pub stage: String,
    /// What convicted it.
    pub failure: Failure,
    /// When.
    pub at: Millis,
}

/// A digest that failed without an object to blame.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Blocked {
    /// Which revision.
    #[serde(with = "stored::revision")]
    pub revision: RevisionId,
    /// What convicted it.
    pub failure: Failure,
    /// When.
    pub at: Millis,
}

/// Somebody asked for something.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Millis,
}

/// What became of a revision.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Past {
    /// Which.
    #[serde(with = "stored::revision")]
    pub revision: RevisionId,
    /// When it ended.
    pub at: Millis,
    /// How.
    pub result: PastResult,
}

/// How a revision ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PastResult {
    /// First of its fleet.
    Adopted,
    /// Found on the instances by a controller without a record.
    AdoptedFromInstances,
    /// It became stable.
    Promoted,
    /// It did harm.
    RolledBack {
        /// What convicted it.
        failure: Failure,
        /// The objects that were held for it; empty when the digest was blocked.
        #[serde(with = "stored::texts")]
        culprits: Vec<ObjectKey>,
    },
    /// A newer one took its place.
    Superseded,
    /// Its author took it back.
    Withdrawn,
}

impl Record {
    /// The record of a fleet that has none. Nothing is ordered until it holds a revision.
    pub fn new(fleet: FleetName, plan: Plan, beginning: Beginning) -> Self {
        Self {
            fleet,
            beginning,
            epoch: 0,
            size: 0,
            stable: None,
            plan,
            rollout: None,
            restoring: None,
            unreached: BTreeSet::new(),
            queued: None,
            held: Vec::new(),
            held_generation: 0,
            blocked: VecDeque::new(),
            blamed_on_nobody: 0,
            frozen: None,
            paused: None,
            history: VecDeque::new(),
            carried_out: VecDeque::new(),
        }
    }

    /// Whether nothing new is ordered: by somebody's command, or by the Rollout's author.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some() || self.plan.progress == Progress::Paused
    }

    /// The instances that something is waited for from, or that may carry what was taken back; some of them twice.
    pub fn mentioned(&self) -> impl Iterator<Item = &InstanceId> {
        let ordered = self.rollout.iter().flat_map(|rollout| &rollout.ordered);
        let waiting = self.restoring.iter().flat_map(|restoring| &restoring.waiting);
        ordered.chain(waiting).chain(&self.unreached)
    }

    /// What the next target has to be compiled against.
    pub fn basis(&self) -> Basis {
        Basis {
            stable: self.stable.map(|revision| revision.digest),
            held_generation: self.held_generation,
        }
    }

    /// The revision that a command speaks about: what is being tried, taken back or waiting, else stable.
    pub fn current(&self) -> Option<RevisionId> {
        let trying = self.rollout.as_ref().map(|rollout| rollout.target.revision);
        let restoring = || self.restoring.as_ref().map(|restoring| restoring.revision);
        let queued = || self.queued.as_ref().map(|target| target.revision);
        trying.or_else(restoring).or_else(queued).or(self.stable)
    }

    /// The greatest revision number that the record mentions; new revisions are numbered above it.
    pub fn greatest_number(&self) -> u64 {
        let past = self.history.iter().map(|past| past.revision.number);
        let held = self.held.iter().map(|held| held.revision.number);
        let queued = self.queued.iter().map(|target| target.revision.number);
        let known = self
            .stable
            .into_iter()
            .chain(self.current())
            .map(|revision| revision.number);
        past.chain(held).chain(queued).chain(known).max().unwrap_or(0)
    }
}
