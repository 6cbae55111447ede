//! What others are shown of the fleet: compile its stable revision and held contents, people its state. And what of its
//! revisions nobody needs any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_model::RevisionId;

use super::{Connected, Fleet};
use crate::compile::{FleetState, Stable};
use crate::pipeline::board::{ConfigView, FleetShown};
use crate::pipeline::situation::FleetSituation;
use crate::revisions::BundleError;
use crate::rollout::record::Rollout;
use crate::rollout::{Millis, Record, RolloutStatus};

impl Fleet {
    /// What compile has to know.
    pub fn state(&mut self, now: Millis) -> FleetState {
        self.notice_losses(now);
        let held = self.core.record().held.iter();
        FleetState {
            held: held.map(|held| (held.object.clone(), held.content)).collect(),
            stable: self.stable(now),
        }
    }

    /// Whether it serves something, as far as its record says.
    pub fn has_a_revision(&self) -> bool {
        self.core.record().stable.is_some()
    }

    pub(super) fn stable(&mut self, now: Millis) -> Option<Stable> {
        let revision = self.core.record().stable?;
        if let Some((known, stable)) = &self.stable
            && *known == revision
        {
            return Some(stable.clone());
        }
        match self.read_stable(&revision) {
            Ok(Some(stable)) => {
                self.stable = Some((revision, stable.clone()));
                Some(stable)
            }
            Ok(None) => None,
            Err(error) => {
                self.trouble(error.to_string(), now);
                None
            }
        }
    }

    fn read_stable(&self, revision: &RevisionId) -> Result<Option<Stable>, BundleError> {
        if !self.whole.contains(revision) {
            return Ok(None); // it is being asked back
        }
        if let Some((_, stable)) = self.offered.as_ref().filter(|(offered, _)| offered == revision) {
            return Ok(Some(stable.clone()));
        }
        let Some(signed) = self.revisions.manifest(revision)? else {
            return Ok(None);
        };
        let snapshot = self.revisions.snapshot(&signed.manifest)?;
        let sources = self.revisions.origins(revision).unwrap_or_else(|error| {
            // What serves counts; where it came from is for people.
            tracing::warn!(%error, "where the objects came from is lost");
            BTreeMap::new()
        });
        Ok(Some(Stable {
            snapshot: Arc::new(snapshot),
            sources: sources
                .into_iter()
                .map(|(object, source)| (object, source.into()))
                .collect(),
        }))
    }

    /// Which connected instances do not understand all of `features`, and the first that is lacking.
    pub fn lacking(&self, features: &[String]) -> Option<(usize, String)> {
        let connected = self.instances.values().filter(|connected| connected.link.is_some());
        let lacks = |connected: &Connected| {
            let missing = features
                .iter()
                .find(|feature| !connected.hello.features.contains(feature));
            missing.cloned()
        };
        let missing: Vec<String> = connected.filter_map(lacks).collect();
        missing.first().map(|first| (missing.len(), first.clone()))
    }

    /// Removes revisions that nobody needs, but not before the instances that there are had time to say what they hold.
    /// While something is tried that waits, unless there are twice as many as are to be kept: a fleet whose objects change
    /// all the time is never at rest.
    pub fn collect(&mut self, now: Millis) {
        let record = self.core.record();
        // What is handed back has no manifest until all of it is here.
        if self.misses_something() || record.stable.is_none() || !self.core.has_settled() {
            return;
        }
        let limit = self.history_limit.max(1);
        let busy = record.rollout.is_some() || record.restoring.is_some();
        if busy && self.revisions.count() <= limit.saturating_mul(2) {
            return;
        }
        let reported = self
            .instances
            .values()
            .flat_map(|connected| connected.holds.iter().copied())
            .collect();
        let collected = self.revisions.collect(record, &reported, limit);
        if let Err(error) = collected {
            self.trouble(format!("old revisions could not be removed: {error}"), now);
        }
    }

    /// The greatest revision number ever used, as far as it is known.
    pub fn greatest_number(&self) -> u64 {
        let held = self
            .instances
            .values()
            .flat_map(|connected| connected.holds.iter().map(|revision| revision.number));
        let here = [self.revisions.greatest_number(), self.core.record().greatest_number()];
        held.chain(here).max().unwrap_or(0)
    }

    /// What the board shows of the fleet.
    pub fn shown(&mut self, now: Millis) -> FleetShown {
        let situation = FleetSituation {
            rollout: Arc::new(self.status(now)),
            served: self.served(now),
            rotation: self.rotation(),
        };
        let objects = self.listed();
        let record: &Record = self.core.record();
        FleetShown {
            config: ConfigView {
                fleet: self.name.clone(),
                epoch: record.epoch,
                stable: record
                    .stable
                    .map(|revision| format!("{}-{}", revision.number, revision.digest)),
                objects,
                quarantined: self.quarantined.iter().map(ToString::to_string).collect(),
            },
            instances: self.instance_views(now),
            situation,
        }
    }

    fn listed(&mut self) -> Arc<[String]> {
        let Some((revision, stable)) = &self.stable else {
            return Arc::default();
        };
        match &self.listed {
            Some((known, objects)) if known == revision => objects.clone(),
            Some(_) | None => {
                let objects: Arc<[String]> = stable.snapshot.config().units.keys().map(ToString::to_string).collect();
                self.listed = Some((*revision, objects.clone()));
                objects
            }
        }
    }

    /// Its rollout, as people are shown it. Of the bake they are shown what is recorded: no other controller, which may
    /// take over at any moment, will ever show less.
    pub fn status(&self, now: Millis) -> RolloutStatus {
        let mut status = self.core.status(now);
        let recorded = self.committed.as_ref().and_then(|record| record.rollout.as_ref());
        let same_stage = |recorded: &&Rollout| {
            let rollout = self.core.record().rollout.as_ref();
            rollout.is_some_and(|rollout| (rollout.began, rollout.stage) == (recorded.began, recorded.stage))
        };
        if let (Some(stage), Some(recorded)) = (&mut status.stage, recorded.filter(same_stage)) {
            stage.observed_ms = stage.observed_ms.min(recorded.observed_ms);
        }
        status
    }
}
