//! How configuration gets in: verify → decode → check → build → prepare listeners → keep → swap → ack.
//!
//! ```text
//!  delivery ──order──► verify ── epoch rule ── remember on disk ── pending ─┐
//!  (stream) ─manifest─► verify ────────────────────────────────────────────┤ all there?  no ──► want
//!           ─section──► digest, unpack, decode ────────────────────────────┘    │ yes
//!           ─live─────► verify ── newer? ── check ── in use ── keep on disk      │
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
pub mod files;
mod keep;
pub mod last_good;
mod live;
pub mod manifests;
pub mod metrics;
pub mod refusal;
mod restore;
mod search;
pub mod sections;
mod sides;
pub mod target;
pub mod verify;
pub mod worker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sluice_model::limits::HAND_BACK_SECTIONS_AT_ONCE;
use sluice_model::snapshot::Snapshot;
use sluice_model::{Digest, LiveSubject, RevisionId};
use sluice_proto::LastEnd;
use sluice_proto::keys::KeySet;
use sluice_proto::live::{HeldValue, SealedLive};
use sluice_proto::sections::SectionRef;

use crate::identity::Identity;

use epoch::{Heeded, Standing};
use last_good::LastGood;
use live::Values;
use manifests::Manifests;
use metrics::IntakeMetrics;
use refusal::Refusal;
use sections::Sections;
use target::{NewLive, Target};
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
    /// An envelope that should hold a live update.
    Live(SealedLive),
    /// The controller asks back a manifest that it has lost.
    LostManifest(RevisionId),
    /// The same for sections.
    LostSections(Vec<Digest>),
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
    /// A live update is not taken; the value in use stays.
    LiveRefused {
        /// Of what; `None` if not even that could be read.
        subject: Option<LiveSubject>,
        /// Why.
        refusal: Refusal,
    },
    /// A manifest that was asked back; `None` if it is not held.
    Manifest {
        /// Of which revision.
        revision: RevisionId,
        /// As it arrived.
        envelope: Option<Bytes>,
    },
    /// A section that was asked back; `None` if it is not held.
    Section {
        /// Which.
        digest: Digest,
        /// As it arrived.
        wire: Option<Bytes>,
    },
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
    /// How the process before this one ended.
    pub last_end: LastEnd,
    /// Sections that need not be sent.
    pub held_sections: Vec<Digest>,
    /// The highest term of a live value; 0 without one.
    pub live_term: u64,
    /// Live values that need not be sent.
    pub live_held: Vec<HeldValue>,
}

/// One revision as it serves.
#[derive(Debug)]
struct Side<B> {
    revision: RevisionId,
    snapshot: Arc<Snapshot>,
    built: Arc<B>,
}

/// A candidate and its share of requests in millionths.
type Trial<B> = (Side<B>, u32);

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
    values: Values,
    booted_epoch: u64,
    last_end: LastEnd,
    /// The candidate that was live when the process before this one died, until a newer order answers that.
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
            values: Values::default(),
            booted_epoch: 0,
            last_end: LastEnd::Unknown,
            crashed: None,
            disk,
        };
        intake.recall();
        // First: the first request of what is restored finds its endpoints.
        intake.restore_live();
        intake.restore();
        intake
    }

    /// Takes one delivery and answers it.
    pub fn take(&mut self, delivered: Delivered, now_unix_seconds: u64) -> Vec<Answer> {
        let taken = match delivered {
            Delivered::Order(envelope) => self.take_order(envelope, now_unix_seconds),
            Delivered::Manifest(envelope) => self.take_manifest(envelope),
            Delivered::Section { digest, wire } => self.take_section(digest, wire),
            Delivered::Live(sealed) => return self.take_live(&sealed, now_unix_seconds).into_iter().collect(),
            Delivered::LostManifest(revision) => return vec![self.hand_back_manifest(revision)],
            Delivered::LostSections(digests) => return self.hand_back_sections(&digests),
        };
        match taken {
            Ok(()) => self.advance(),
            Err((epoch, refusal)) => vec![self.refuse(epoch, refusal)],
        }
    }

    /// What to say when a stream opens. What was asked for on an earlier stream will be asked for again.
    pub fn introduce(&mut self) -> Introduction {
        self.asked.clear();
        self.tidy_live();
        Introduction {
            effect: self.effect(),
            heeded_epoch: self.heeded.map_or(0, |h| h.epoch),
            order: self.live.as_ref().map(|live| live.order.envelope.clone()),
            booted_epoch: self.booted_epoch,
            last_end: self.last_end,
            held_sections: self.sections.digests(),
            live_term: self.values.term(),
            live_held: self.values.told(),
        }
    }

    /// These keys may sign from now on, and no others. What serves was verified when it came, and goes on.
    pub fn trust(&mut self, keys: KeySet) {
        tracing::info!(keys = keys.iter().count(), "the keys that may sign have changed");
        Arc::make_mut(&mut self.identity).trusted = keys;
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

    /// The process was asked to end: its candidate did not bring it down.
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

    // --- handing back what the controller lost ---------------------------------------------------------------

    fn hand_back_manifest(&self, revision: RevisionId) -> Answer {
        let envelope = self.manifests.hand_back(&revision);
        Answer::Manifest { revision, envelope }
    }

    /// No more than may wait for the stream; whoever asks for more is answered about those alone.
    fn hand_back_sections(&self, digests: &[Digest]) -> Vec<Answer> {
        let asked = digests.iter().take(HAND_BACK_SECTIONS_AT_ONCE);
        let answer = |digest: &Digest| Answer::Section {
            digest: *digest,
            wire: self.sections.hand_back(digest),
        };
        asked.map(answer).collect()
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
        let listeners = sides::listeners_of(&stable, trial.as_ref(), share);
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

    fn in_effect(&self, order: &GenuineOrder) -> bool {
        let wanted = order
            .candidate_for(&self.identity.instance)
            .map(|candidate| candidate.revision);
        self.live.as_ref().is_some_and(|live| {
            live.order.heeded == order.heeded && live.candidate.as_ref().map(|side| side.revision) == wanted
        })
    }

    fn now_live(&mut self, live: LiveNow<T::Built>) {
        let candidate = live.candidate.as_ref().map(|side| side.revision.to_string());
        tracing::info!(epoch = live.order.heeded.epoch, stable = %live.stable.revision, candidate, "live");
        self.live = Some(live);
        self.say_lacking();
        self.tidy();
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
