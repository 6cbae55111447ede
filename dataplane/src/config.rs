//! How configuration gets in: verify → decode → check → build → prepare listeners → keep → swap → ack.
//!
//! ```text
//!  delivery ──order──► verify ── epoch rule ── remember on disk ── pending ─┐
//!  (stream) ─manifest─► verify ────────────────────────────────────────────┤ all there?  no ──► want
//!           ─section──► digest, unpack, decode ────────────────────────────┘    │ yes
//!        ◄── ack ◄── swap ◄── keep on disk ◄── prepare listeners ◄── build ◄── check
//!        ◄── nack: at any step; what serves does not change
//! ```
//!
//! This file is that page, and the state behind it; the steps have a file each. It is synchronous and reads no clock:
//! `worker` runs it on a thread of its own, `delivery` connects it to the controller. Decisions taken here and their
//! reasons: `docs/decisions/instance-state.md`.

pub mod backoff;
pub mod build;
pub mod delivery;
pub mod epoch;
pub mod last_good;
pub mod manifests;
pub mod metrics;
pub mod refusal;
pub mod sections;
pub mod target;
pub mod verify;
pub mod worker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sluice_model::limits::MAX_ORDER_BYTES;
use sluice_model::snapshot::Snapshot;
use sluice_model::unit::Listener;
use sluice_model::{Digest, ObjectKey, RevisionId};
use sluice_proto::order::FULL_SHARE_MILLIONTHS;
use sluice_proto::report::ServedRole;
use sluice_proto::sections::SectionRef;

use crate::identity::Identity;

use epoch::{Heeded, Standing};
use last_good::{LastGood, StateError};
use manifests::Manifests;
use metrics::IntakeMetrics;
use refusal::Refusal;
use sections::Sections;
use target::{Blueprint, NewLive, Target};
use verify::{GenuineManifest, GenuineOrder};

/// What the controller delivers.
#[derive(Clone, Debug)]
pub enum Delivered {
    /// An envelope that should hold an order.
    Order(Bytes),
    /// An envelope that should hold a manifest.
    Manifest(Bytes),
    /// A section as it travels.
    Section {
        /// The digest it was asked for by.
        digest: Digest,
        /// Compressed.
        wire: Bytes,
    },
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The order is in effect here and kept on disk.
    Ack(Effect),
    /// It is not, or not in full.
    Nack {
        /// Of the order; 0 if what arrived cannot be attributed to one.
        epoch: u64,
        /// Why.
        refusal: Refusal,
    },
    /// Sections that are lacking.
    Want(Vec<Digest>),
}

/// What serves, by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// Of the order that is in effect; 0 without one.
    pub epoch: u64,
    /// The stable revision.
    pub stable: Option<RevisionId>,
    /// The candidate, if one is live here.
    pub candidate: Option<RevisionId>,
    /// The candidate that the order names, here or for other members of the fleet.
    pub fleet_candidate: Option<RevisionId>,
}

/// What an instance tells about itself when a stream opens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// What serves.
    pub effect: Effect,
    /// The last order heeded, which may be newer than the one in effect; 0 without one.
    pub heeded_epoch: u64,
    /// The envelope of the order in effect: proves what `effect` says.
    pub order: Option<Bytes>,
    /// The epoch in effect with which this process began from disk; 0 if it began with nothing.
    pub booted_epoch: u64,
    /// The candidate that was live when the process before this one died.
    pub crashed_after_swap: Option<String>,
    /// Sections that need not be sent.
    pub held_sections: Vec<Digest>,
}

/// One revision as it serves.
#[derive(Debug)]
struct Side<B> {
    revision: RevisionId,
    snapshot: Arc<Snapshot>,
    built: Arc<B>,
}

impl<B> Clone for Side<B> {
    fn clone(&self) -> Self {
        Self {
            revision: self.revision,
            snapshot: Arc::clone(&self.snapshot),
            built: Arc::clone(&self.built),
        }
    }
}

#[derive(Debug)]
struct LiveNow<B> {
    order: GenuineOrder,
    stable: Side<B>,
    candidate: Option<Side<B>>,
    /// Whether all of it is on disk.
    kept: bool,
}

/// The state of the intake.
#[derive(Debug)]
pub struct Intake<T: Target> {
    identity: Arc<Identity>,
    target: T,
    disk: LastGood,
    metrics: IntakeMetrics,
    heeded: Option<Heeded>,
    /// Whether `heeded` is on disk too.
    remembered: bool,
    manifests: Manifests,
    sections: Sections,
    pending: Option<GenuineOrder>,
    asked: BTreeSet<Digest>,
    live: Option<LiveNow<T::Built>>,
    booted_epoch: u64,
    /// The candidate that was live when the process before this one died.
    crashed: Option<String>,
}

impl<T: Target> Intake<T> {
    /// Starts from what is on disk: afterwards it serves the last order's stable revision, or nothing if there is none
    /// or it is damaged, which is said in the log.
    pub fn start(identity: Arc<Identity>, target: T, disk: LastGood, metrics: IntakeMetrics) -> Self {
        let mut intake = Self {
            identity,
            target,
            metrics,
            heeded: None,
            remembered: false,
            manifests: Manifests::new(disk.clone()),
            sections: Sections::new(disk.clone()),
            pending: None,
            asked: BTreeSet::new(),
            live: None,
            booted_epoch: 0,
            crashed: None,
            disk,
        };
        intake.recall();
        intake.restore();
        intake
    }

    /// Takes one delivery and answers it.
    pub fn take(&mut self, delivered: Delivered, now_unix_seconds: u64) -> Vec<Answer> {
        let taken = match delivered {
            Delivered::Order(envelope) => self.take_order(envelope, now_unix_seconds),
            Delivered::Manifest(envelope) => self.take_manifest(envelope),
            Delivered::Section { digest, wire } => self.take_section(digest, wire),
        };
        match taken {
            Ok(()) => self.advance(),
            Err((epoch, refusal)) => vec![self.refuse(epoch, refusal)],
        }
    }

    /// What to say when a stream opens. What was asked for on an earlier stream will be asked for again.
    pub fn introduce(&mut self) -> Introduction {
        self.asked.clear();
        Introduction {
            effect: self.effect(),
            heeded_epoch: self.heeded.map_or(0, |h| h.epoch),
            order: self.live.as_ref().map(|live| live.order.envelope.clone()),
            booted_epoch: self.booted_epoch,
            crashed_after_swap: self.crashed.clone(),
            held_sections: self.sections.digests(),
        }
    }

    /// What serves.
    pub fn effect(&self) -> Effect {
        self.live.as_ref().map_or_else(Effect::default, |live| Effect {
            epoch: live.order.heeded.epoch,
            stable: Some(live.stable.revision),
            candidate: live.candidate.as_ref().map(|side| side.revision),
            fleet_candidate: live.order.order.candidate.as_ref().map(|candidate| candidate.revision),
        })
    }

    /// The process ends in good order: its candidate did not bring it down.
    pub fn stop(&mut self) {
        // A crash that no newer order has answered yet stays noted.
        if self.crashed.is_none()
            && let Err(error) = self.disk.forget_candidate()
        {
            tracing::warn!(%error, "the next start will look like one after a crash");
        }
    }

    // --- deliveries ------------------------------------------------------------------------------------------

    fn take_order(&mut self, envelope: Bytes, now_unix_seconds: u64) -> Result<(), (u64, Refusal)> {
        let order = verify::order(&self.identity, envelope).map_err(|refusal| (0, refusal))?;
        let epoch = order.heeded.epoch;
        let refused = |refusal| (epoch, refusal);
        let standing = epoch::judge(self.heeded.as_ref(), &order.heeded, now_unix_seconds).map_err(refused)?;
        match standing {
            Standing::Newer => self.heed(order.heeded),
            Standing::Same => {
                self.check_not_crashed(&order).map_err(refused)?;
                if !self.remembered {
                    self.heed(order.heeded);
                }
            }
        }
        self.asked.clear();
        self.pending = Some(order);
        Ok(())
    }

    fn take_manifest(&mut self, envelope: Bytes) -> Result<(), (u64, Refusal)> {
        match verify::manifest(&self.identity, envelope) {
            Ok(manifest) => {
                let needed = self.needed_revisions();
                self.manifests.hold(manifest, &needed);
                Ok(())
            }
            Err(refusal) => Err((self.give_up(), refusal)),
        }
    }

    fn take_section(&mut self, digest: Digest, wire: Bytes) -> Result<(), (u64, Refusal)> {
        let lacking = self.lacking();
        let Some(section) = lacking.into_iter().find(|section| section.digest == digest) else {
            return Err((0, Refusal::SectionUnwanted { digest }));
        };
        self.sections
            .take(&section, wire)
            .map_err(|refusal| (self.give_up(), refusal))
    }

    /// The pending order cannot be followed with what was delivered. Its epoch, 0 if none is pending.
    fn give_up(&mut self) -> u64 {
        self.pending.take().map_or(0, |order| order.heeded.epoch)
    }

    fn heed(&mut self, heeded: Heeded) {
        self.heeded = Some(heeded);
        self.metrics.epoch.set(i64::try_from(heeded.epoch).unwrap_or(i64::MAX));
        let written = self.disk.remember(&heeded);
        self.remembered = written.is_ok();
        self.note_writable(written);
    }

    /// The same order that a process before this one died under is not tried again: that would be a crash loop.
    fn check_not_crashed(&self, order: &GenuineOrder) -> Result<(), Refusal> {
        match (order.candidate_for(&self.identity.instance), &self.crashed) {
            (Some(candidate), Some(crashed)) if candidate.revision.to_string() == *crashed => {
                Err(Refusal::CrashedAfterSwap {
                    revision: candidate.revision,
                })
            }
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }

    // --- following the pending order -------------------------------------------------------------------------

    /// Does what can be done now: nothing, ask for sections, or activate.
    fn advance(&mut self) -> Vec<Answer> {
        let Some(order) = self.pending.clone() else {
            return Vec::new();
        };
        if !self.find_manifests(&order) {
            return Vec::new();
        }
        let lacking: Vec<Digest> = self.lacking().iter().map(|section| section.digest).collect();
        if !lacking.is_empty() {
            let news: Vec<Digest> = lacking
                .into_iter()
                .filter(|digest| self.asked.insert(*digest))
                .collect();
            return if news.is_empty() {
                Vec::new()
            } else {
                vec![Answer::Want(news)]
            };
        }
        self.pending = None;
        let epoch = order.heeded.epoch;
        match self.activate(order) {
            Ok(()) => vec![Answer::Ack(self.effect())],
            Err(refusal) => vec![self.refuse(epoch, refusal)],
        }
    }

    fn refuse(&self, epoch: u64, refusal: Refusal) -> Answer {
        self.metrics.refused(&refusal);
        tracing::warn!(epoch, reason = refusal.reason(), %refusal, "refused; what serves does not change");
        Answer::Nack { epoch, refusal }
    }

    /// Whether all manifests for this order are at hand, on disk if not in memory.
    fn find_manifests(&mut self, order: &GenuineOrder) -> bool {
        let revisions = order.revisions_for(&self.identity.instance);
        let mut needed = self.needed_revisions();
        needed.extend(&revisions);
        let found = revisions
            .iter()
            .filter(|id| self.manifests.ensure(&self.identity, id, &needed));
        found.count() == revisions.len()
    }

    /// The sections that the pending order still needs, once each.
    fn lacking(&mut self) -> Vec<SectionRef> {
        let Some(order) = &self.pending else { return Vec::new() };
        let revisions = order.revisions_for(&self.identity.instance);
        let manifests = revisions.iter().filter_map(|revision| self.manifests.get(revision));
        let mut seen = BTreeSet::new();
        let all = manifests
            .flat_map(|m| m.manifest.sections.iter())
            .filter(|s| seen.insert(s.digest));
        all.filter(|section| !self.sections.ensure(section)).copied().collect()
    }

    /// Everything is at hand: check, build, prepare, keep, swap. Up to the swap nothing that serves is touched.
    fn activate(&mut self, order: GenuineOrder) -> Result<(), Refusal> {
        if self.in_effect(&order) {
            return self.keep_in_effect(&order);
        }
        let began = Instant::now();
        let counted = order.order.counted.clone();
        let stable = self.build_stable(order.order.stable, &counted)?;
        let candidate = self.build_candidate(&order, &stable, &counted)?;
        let (trial, share) = candidate.unzip();
        let listeners = listeners_of(&stable, trial.as_ref(), share);
        let ports = self.target.prepare(&listeners).map_err(|detail| Refusal::Listen {
            revision: trial.as_ref().map_or(stable.revision, |side| side.revision),
            detail,
        })?;
        let kept = self.keep(&order, trial.as_ref().map(|side| side.revision));
        let kept = self.must_be_remembered(kept);
        if kept.is_err() && !self.only_takes_away(&order) {
            return kept;
        }
        let live = NewLive {
            epoch: order.heeded.epoch,
            stable: Arc::clone(&stable.built),
            candidate: trial.as_ref().map(|side| Arc::clone(&side.built)).zip(share),
        };
        self.target.swap(ports, live);
        self.metrics.apply_seconds.observe(began.elapsed().as_secs_f64());
        self.now_live(LiveNow {
            order,
            stable,
            candidate: trial,
            kept: kept.is_ok(),
        });
        kept
    }

    /// The order is in effect already; what the disk may have refused then is tried again.
    fn keep_in_effect(&mut self, order: &GenuineOrder) -> Result<(), Refusal> {
        let candidate = order
            .candidate_for(&self.identity.instance)
            .map(|candidate| candidate.revision);
        let kept = match &self.live {
            Some(live) if !live.kept => self.keep(order, candidate),
            Some(_) | None => Ok(()),
        };
        let kept = self.must_be_remembered(kept);
        if let Some(live) = &mut self.live {
            live.kept |= kept.is_ok();
        }
        kept
    }

    fn in_effect(&self, order: &GenuineOrder) -> bool {
        let wanted = order
            .candidate_for(&self.identity.instance)
            .map(|candidate| candidate.revision);
        self.live.as_ref().is_some_and(|live| {
            live.order.heeded == order.heeded && live.candidate.as_ref().map(|side| side.revision) == wanted
        })
    }

    fn build_stable(&self, revision: RevisionId, counted: &[ObjectKey]) -> Result<Side<T::Built>, Refusal> {
        let live = self.live.as_ref();
        let same = live.filter(|live| live.stable.revision == revision && live.order.order.counted == counted);
        if let Some(live) = same {
            return Ok(live.stable.clone());
        }
        // A promoted candidate is taken over with what it learned.
        let promoted = live
            .and_then(|live| live.candidate.as_ref())
            .filter(|side| side.revision == revision);
        let previous = promoted.or_else(|| live.map(|live| &live.stable));
        self.build_side(revision, ServedRole::Stable, counted, previous)
    }

    fn build_candidate(
        &self,
        order: &GenuineOrder,
        stable: &Side<T::Built>,
        counted: &[ObjectKey],
    ) -> Result<Option<(Side<T::Built>, u32)>, Refusal> {
        let Some(candidate) = order.candidate_for(&self.identity.instance) else {
            return Ok(None);
        };
        let share = candidate.share_millionths;
        let live = self.live.as_ref().filter(|live| live.order.order.counted == counted);
        let same = live
            .and_then(|live| live.candidate.as_ref())
            .filter(|side| side.revision == candidate.revision);
        if let Some(side) = same {
            return Ok(Some((side.clone(), share)));
        }
        let side = self.build_side(candidate.revision, ServedRole::Candidate, counted, Some(stable))?;
        Ok(Some((side, share)))
    }

    fn build_side(
        &self,
        revision: RevisionId,
        role: ServedRole,
        counted: &[ObjectKey],
        previous: Option<&Side<T::Built>>,
    ) -> Result<Side<T::Built>, Refusal> {
        let snapshot = match previous.filter(|side| side.revision == revision) {
            Some(side) => Arc::clone(&side.snapshot),
            None => {
                let manifest = self.manifests.get(&revision).ok_or_else(|| Refusal::Invalid {
                    revision,
                    detail: "its manifest is not at hand".to_owned(),
                })?;
                build::assemble(&manifest.manifest, &self.sections)?
            }
        };
        let blueprint = Blueprint {
            revision,
            role,
            snapshot: Arc::clone(&snapshot),
            counted,
            previous: previous.map(|side| side.built.as_ref()),
        };
        let built = build::build(&self.target, blueprint)?;
        Ok(Side {
            revision,
            snapshot,
            built,
        })
    }

    fn now_live(&mut self, live: LiveNow<T::Built>) {
        let candidate = live.candidate.as_ref().map(|side| side.revision.to_string());
        tracing::info!(epoch = live.order.heeded.epoch, stable = %live.stable.revision, candidate, "live");
        self.live = Some(live);
        self.tidy();
    }

    // --- the disk --------------------------------------------------------------------------------------------

    /// Everything that a start with nobody there needs, before the swap: a swap that is forgotten could be undone by
    /// a restart. The candidate's note comes first: from then on an unclean end counts against the candidate.
    fn keep(&mut self, order: &GenuineOrder, candidate: Option<RevisionId>) -> Result<(), StateError> {
        for revision in order.revisions_for(&self.identity.instance) {
            self.manifests.save(&revision)?;
            if let Some(manifest) = self.manifests.get(&revision) {
                self.sections.save(&manifest.manifest.sections)?;
            }
        }
        match candidate {
            Some(revision) => self.disk.note_candidate(&revision.to_string())?,
            None => self.disk.forget_candidate()?,
        }
        self.crashed = None;
        self.disk.keep_order(&order.envelope)
    }

    fn must_be_remembered(&self, kept: Result<(), StateError>) -> Result<(), Refusal> {
        let detail = match &kept {
            Ok(()) if self.remembered => None,
            Ok(()) => Some(format!(
                "the epoch could not be written to {}",
                self.disk.path().display()
            )),
            Err(error) => Some(error.to_string()),
        };
        if kept.is_err() || self.remembered {
            self.note_writable(kept);
        }
        detail.map_or(Ok(()), |detail| Err(Refusal::StateNotWritable { detail }))
    }

    /// Whether the order leaves here only what serves already: then it is obeyed even if it cannot be kept. A full disk
    /// must not keep a bad candidate alive.
    fn only_takes_away(&self, order: &GenuineOrder) -> bool {
        let stays = self
            .live
            .as_ref()
            .is_some_and(|live| live.stable.revision == order.order.stable);
        stays && order.candidate_for(&self.identity.instance).is_none()
    }

    fn note_writable(&self, written: Result<(), StateError>) {
        self.metrics.state_unwritable.set(i64::from(written.is_err()));
        if let Err(error) = written {
            tracing::error!(%error, "the state folder takes no writes");
        }
    }

    fn recall(&mut self) {
        match self.disk.heeded() {
            Ok(heeded) => self.heeded = heeded,
            Err(error) => tracing::error!(%error, "the last epoch is lost; the epoch of the last order counts"),
        }
        match self.disk.candidate() {
            Ok(crashed) => self.crashed = crashed,
            Err(error) => tracing::error!(%error, "cannot tell whether the last run ended in good order"),
        }
        if let Some(candidate) = &self.crashed {
            tracing::warn!(
                candidate,
                "the last run ended uncleanly while it carried a candidate; starting on stable"
            );
        }
    }

    fn restore(&mut self) {
        let order = match self.disk.order(MAX_ORDER_BYTES) {
            Ok(None) => {
                tracing::info!(folder = %self.disk.path().display(), "nothing kept yet; waiting for the controller");
                return;
            }
            Ok(Some(envelope)) => verify::order(&self.identity, envelope).map_err(|refusal| refusal.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = order.and_then(|order| self.serve_kept(order)) {
            tracing::error!(
                error,
                folder = %self.disk.path().display(),
                "the last good configuration cannot be served; waiting for the controller, not ready until then"
            );
        }
        if let Some(heeded) = self.heeded {
            self.heed(heeded); // tells at once whether the folder can be written
        }
    }

    /// Serves the stable revision of the order kept. Never its candidate: the controller will order it again.
    fn serve_kept(&mut self, order: GenuineOrder) -> Result<(), String> {
        if self.heeded.is_none_or(|heeded| heeded.epoch < order.heeded.epoch) {
            self.heeded = Some(order.heeded);
        }
        let revision = order.order.stable;
        self.find_manifests(&order); // a candidate's too, so that it is not tidied away
        let missing = || format!("the manifest of revision {revision} is missing or damaged");
        let manifest = self.manifests.get(&revision).ok_or_else(missing)?;
        if let Some(section) = manifest.manifest.sections.iter().find(|s| !self.sections.ensure(s)) {
            return Err(format!(
                "section {} of revision {revision} is missing or damaged",
                section.digest
            ));
        }
        let side = self
            .build_stable(revision, &order.order.counted)
            .map_err(|refusal| refusal.to_string())?;
        let ports = self.target.prepare(side.snapshot.listeners())?;
        let live = NewLive {
            epoch: order.heeded.epoch,
            stable: Arc::clone(&side.built),
            candidate: None,
        };
        self.target.swap(ports, live);
        self.booted_epoch = order.heeded.epoch;
        self.now_live(LiveNow {
            order,
            stable: side,
            candidate: None,
            kept: true,
        });
        Ok(())
    }

    fn needed_revisions(&self) -> BTreeSet<RevisionId> {
        let orders = self.live.iter().map(|live| &live.order).chain(self.pending.iter());
        orders
            .flat_map(|order| order.revisions_for(&self.identity.instance))
            .collect()
    }

    /// Forgets what neither the live nor the pending order names, but for a few revisions on disk.
    fn tidy(&mut self) {
        let needed = self.needed_revisions();
        let kept = self.manifests.tidy();
        let digests = |manifests: Vec<&GenuineManifest>| -> BTreeSet<Digest> {
            manifests
                .iter()
                .flat_map(|m| m.manifest.sections.iter().map(|s| s.digest))
                .collect()
        };
        let in_memory = digests(
            needed
                .iter()
                .filter_map(|revision| self.manifests.get(revision))
                .collect(),
        );
        let on_disk = digests(
            kept.iter()
                .filter_map(|revision| self.manifests.get(revision))
                .collect(),
        );
        self.sections.retain(&in_memory, &on_disk);
    }
}

/// Where the instance listens: as stable says, and as a candidate that gets every request says. What both name is the
/// candidate's; what only stable names stays open, so that rolling back never has to win a port again.
fn listeners_of<B>(stable: &Side<B>, candidate: Option<&Side<B>>, share: Option<u32>) -> Vec<Listener> {
    let leading = candidate.filter(|_| share == Some(FULL_SHARE_MILLIONTHS));
    let mut listeners = leading
        .map(|side| side.snapshot.listeners().to_vec())
        .unwrap_or_default();
    for listener in stable.snapshot.listeners() {
        if !listeners
            .iter()
            .any(|l| l.name == listener.name || l.port == listener.port)
        {
            listeners.push(listener.clone());
        }
    }
    listeners
}
