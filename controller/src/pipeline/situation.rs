//! The situation: what the pipeline knows of all objects and fleets at one moment, as one immutable value. The status
//! that users see is a projection of it (`crate::status`), made elsewhere, so that the pipeline never waits for that.
//!
//! Everything large is shared and made anew only when it changed: comparing two situations is comparing pointers.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_model::{Digest, FleetName, ObjectKey, RevisionId, ServiceRef, Snapshot};

use crate::compile::Quarantined;
use crate::live::{Presence, Rotation};
use crate::problem::Problem;
use crate::rollout::RolloutStatus;
use crate::rollout::record::Held;
use crate::translate::Translation;
use crate::validate::Governed;

/// See the file's comment.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    /// The objects; `None` until they were compiled for the first time.
    pub written: Option<Arc<Written>>,
    /// Every fleet that was begun.
    pub fleets: BTreeMap<FleetName, FleetSituation>,
}

/// The objects as they were compiled last.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// What each of them means.
    pub translation: Arc<Translation>,
    /// Everything that is wrong with them and with what they refer to.
    pub problems: Arc<[Problem]>,
    /// Whether the Services that pools name are there. One that is not here is not known.
    pub services: Arc<BTreeMap<ServiceRef, Presence>>,
}

/// One fleet.
#[derive(Clone, Debug)]
pub struct FleetSituation {
    /// Its rollout, as people are shown it.
    pub rollout: Arc<RolloutStatus>,
    /// What it serves of its objects.
    pub served: Arc<Served>,
    /// How many endpoints of each service take requests.
    pub rotation: Arc<BTreeMap<ServiceRef, Rotation>>,
}

/// What a fleet serves of its objects.
#[derive(Clone, Debug)]
pub struct Served {
    /// How well this controller knows the fleet's instances.
    pub knowledge: Knowledge,
    /// What is proven; `None` before the first revision.
    pub stable: Option<StableContent>,
    /// What is tried.
    pub tried: Option<Arc<Tried>>,
    /// How far what everybody is ordered to serve has got.
    pub spread: Spread,
    /// What the objects compiled to last.
    pub chosen: Arc<Chosen>,
    /// Contents that did harm.
    pub held: Arc<[Held]>,
    /// Why a content that is neither in stable nor tried waits.
    pub obstacle: Obstacle,
}

/// How well a controller knows a fleet's instances.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Knowledge {
    /// It has just begun: who is not connected may be about to.
    Gathering,
    /// As many as there were are connected.
    Counted,
    /// Whoever can reach it has.
    Complete,
}

/// The proven revision.
#[derive(Clone, Debug)]
pub struct StableContent {
    /// Which.
    pub revision: RevisionId,
    /// Its content; `None` while it is lost and being handed back.
    pub snapshot: Option<Arc<Snapshot>>,
}

/// A revision being tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tried {
    /// Which.
    pub revision: RevisionId,
    /// The name of its stage.
    pub stage: String,
    /// The stage's number, from 1.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// Who is ordered onto it.
    pub extent: Extent,
    /// The contents by which it differs from stable; `None` is a deletion.
    pub changed: BTreeMap<ObjectKey, Option<Digest>>,
}

/// How much of a fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// The members of a stage.
    Some,
    /// Everybody.
    All,
}

/// How far what everybody is ordered to serve has got. Who serves nothing yet does not count: it is not ready, and takes
/// no request before it holds what is ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spread {
    /// Every instance that counts has acknowledged it.
    Acknowledged,
    /// One has not, and may serve something else: it is silent, refuses, or was away and has not been heard of.
    Awaited,
    /// No instance counts.
    Nobody,
}

/// What a fleet's objects compiled to.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// The objects that it serves in any form, with where they were read.
    pub sources: BTreeMap<ObjectKey, Arc<str>>,
    /// Those that do not serve as they are written.
    pub quarantined: BTreeMap<ObjectKey, Quarantined>,
    /// The Rollout that says how the fleet listens.
    pub governing: Option<ObjectKey>,
    /// Whether it is still there.
    pub governed: Governed,
}

impl Chosen {
    /// The Rollout that governs, which is there.
    pub fn rollout(&self) -> Option<&ObjectKey> {
        let is_there = self.governed == Governed::ByRollout;
        self.governing.as_ref().filter(|_| is_there)
    }
}

/// Why a content waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// For its turn.
    Turn,
    /// For somebody to resume.
    Paused,
    /// For somebody to retry.
    Frozen,
    /// For another content: this one failed, with no object to blame.
    Blocked(RevisionId),
    /// For something else, which this says.
    Withheld(String),
    /// For an instance.
    NoInstances,
}

impl Served {
    /// Whether status would be the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let content = |served: &Self| {
            let stable = served.stable.as_ref();
            stable.map(|stable| (stable.revision, stable.snapshot.as_ref().map(Arc::as_ptr)))
        };
        let small = |served: &Self| (served.knowledge, served.spread, content(served));
        small(self) == small(other)
            && self.obstacle == other.obstacle
            && self.tried == other.tried
            && self.held == other.held
            && Arc::ptr_eq(&self.chosen, &other.chosen)
    }
}

impl FleetSituation {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = |one: &RolloutStatus, other: &RolloutStatus| one == other;
        same(&self.rollout, &other.rollout)
            && Arc::ptr_eq(&self.served, &other.served)
            && Arc::ptr_eq(&self.rotation, &other.rotation)
    }
}
