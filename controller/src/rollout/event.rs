//! What can happen to a fleet, as told to the rollout core. Everything in here is authenticated by whoever tells it:
//! an instance's identity comes from its certificate, what it holds from the signed order that it shows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sluice_model::{Digest, InstanceId, ObjectKey, RevisionId};

use super::evidence::{Counts, Role, ScopeId};
use super::plan::Plan;
use super::stored;

/// Something happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The objects compile to this now. Offering the same target again is harmless.
    NewTarget(Target),
    /// The author's plan is this now. A running rollout keeps its stages and gates; `progress` applies at once.
    PlanChanged(Plan),
    /// An instance's stream began.
    Connected {
        /// Who.
        instance: InstanceId,
        /// What it holds.
        facts: Facts,
    },
    /// An instance's stream ended. It may come back.
    Disconnected(InstanceId),
    /// The instance exists no more (its pod is deleted): it leaves every count and list.
    Removed(InstanceId),
    /// These are all the instances that there are (the composition knows): every other is as good as removed.
    Roster(BTreeSet<InstanceId>),
    /// An instance has accepted and applied the order of `epoch`.
    Ack {
        /// Who.
        instance: InstanceId,
        /// Which order.
        epoch: u64,
    },
    /// An instance refuses the order of `epoch` and goes on as before.
    Nack {
        /// Who.
        instance: InstanceId,
        /// Which order.
        epoch: u64,
        /// Why, in its words.
        reason: String,
        /// Whose fault it is.
        fault: Fault,
    },
    /// What an instance observed.
    Report(Report),
    /// The content of stable is lost, and no connected instance holds it.
    StableLost,
    /// A second passed, more or less. Without it nothing bakes, fails by silence, or is sent again.
    Tick,
    /// A person wants something.
    Command(Command),
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// What was ordered cannot be followed: that convicts it.
    Order,
    /// The instance's own trouble: it lacks the room to keep anything. The order is not to blame; it is sent again until
    /// there is room.
    Instance,
}

/// What an instance holds when its stream begins, read from the signed order it shows; zeros and `None` if that
/// order's signature could not be verified.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Facts {
    /// The epoch of the last order it accepted; 0 if none.
    pub epoch: u64,
    /// The stable revision of that order.
    pub stable: Option<RevisionId>,
    /// The candidate that it carries, as it says itself. A process that starts is on stable, also if it is a member.
    pub carries: Option<RevisionId>,
    /// The epoch with which its process started from disk; 0 if it started with nothing. An instance whose process
    /// started with the running candidate's order has restarted after its swap.
    pub booted_epoch: u64,
    /// How the process before it ended.
    pub last_end: LastEnd,
}

/// How an instance's last process ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LastEnd {
    /// Nobody knows; it may have been the candidate that ended it.
    #[default]
    Unknown,
    /// In good order, or without a candidate: that is no evidence against any.
    Harmless,
    /// In any other way, while it carried a candidate.
    Crash,
}

/// What one instance observed over some time, all of it under the order of `epoch`. Counts are since the last report;
/// an instance starts a new count when it accepts an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Who.
    pub instance: InstanceId,
    /// The order in force during the whole interval.
    pub epoch: u64,
    /// How long, by the instance's monotonic clock, in milliseconds.
    pub interval_ms: u64,
    /// What it counted; a missing entry is a count of zero.
    pub counts: BTreeMap<(Role, ScopeId), Counts>,
}

/// A revision to roll out, with what it changes against stable.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Target {
    /// The revision. Its number is greater than any this fleet used before.
    #[serde(with = "stored::revision")]
    pub revision: RevisionId,
    /// What it was compiled against. A target compiled against something else than the record says is not used, and
    /// [`super::Action::Recompile`] asks for another.
    pub basis: Basis,
    /// The objects whose content differs from stable's; none when only the controller or shared settings changed. All of
    /// them if they could be held back one by one, else those that a counted route depends on.
    pub changed: Vec<Changed>,
    /// How many more objects differ.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: usize,
    /// The routes to count on their own: those that exist in the target and that any changed object can affect.
    pub scopes: Vec<Scope>,
    /// The held objects that still have the content that is held. Other holds are lifted.
    #[serde(with = "stored::texts")]
    pub still_held: Vec<ObjectKey>,
    /// Whether anybody has anything to lose.
    #[serde(default)]
    pub instead_of: InsteadOf,
}

/// What a target takes the place of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum InsteadOf {
    /// Something that serves.
    #[default]
    Routes,
    /// A stable revision without a single route: it answers nobody, so there is nothing to compare with and nothing to
    /// lose, as with the first revision of a fleet.
    Nothing,
}

// By reference, as serde wants it.
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What a target was compiled against; see [`super::Record::basis`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Basis {
    /// Content of the stable revision.
    #[serde(with = "stored::optional_text")]
    pub stable: Option<Digest>,
    /// Counts every change of the set of held contents that a rollback or a person made.
    pub held_generation: u64,
}

/// An object whose content differs from stable's.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// Which object.
    #[serde(with = "stored::text")]
    pub object: ObjectKey,
    /// Its new content; `None` if it was deleted.
    #[serde(with = "stored::optional_text")]
    pub content: Option<Digest>,
}

/// A route that is counted on its own.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Scope {
    /// The route.
    #[serde(with = "stored::text")]
    pub route: ObjectKey,
    /// The changed objects that can affect it: itself, its pools, ….
    #[serde(with = "stored::texts")]
    pub suspects: Vec<ObjectKey>,
}

/// What a person asks for, about one revision.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Command {
    /// What.
    pub verb: Verb,
    /// The revision it speaks about, as shown by status: the target if there is one, else stable.
    pub revision: RevisionId,
    /// Who asks, for the audit.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
    /// What the giver calls this command, if a lost answer may make it arrive again: it is carried out once.
    pub id: Option<String>,
}

/// The commands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Verb {
    /// Order nothing new until resumed. Gates still watch.
    Pause,
    /// End a pause made by command.
    Resume,
    /// Roll back and hold what the revision changed.
    Abort,
    /// Skip the rest of this stage's bake, and its verdict on missing data. A failing gate still rolls back.
    Promote,
    /// Lift holds, blocks and a freeze that this revision left behind.
    Retry,
}

impl Verb {
    /// The word that people type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Promote => "promote",
            Self::Retry => "retry",
        }
    }
}
