//! The manifests an instance holds: those of revisions it serves or is about to serve, and a few before them.
//!
//! A manifest may arrive before the order that names it, so a few are held on trust in their signature alone; nothing
//! is built from one until an order names its revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sluice_model::limits::{MAX_ENVELOPE_OVERHEAD_BYTES, MAX_HELD_MANIFESTS, MAX_MANIFEST_BYTES};
use sluice_model::{Digest, RevisionId};

use crate::identity::Identity;

use super::last_good::{Kept, LastGood, StateError};
use super::verify::{self, GenuineManifest};

/// A manifest in its envelope.
const MAX_BYTES: usize = MAX_MANIFEST_BYTES + MAX_ENVELOPE_OVERHEAD_BYTES;

#[derive(Debug)]
struct Held {
    genuine: GenuineManifest,
    saved: bool,
    /// Counts arrivals: the oldest goes first.
    arrival: u64,
}

/// All that are held, in memory and on disk.
#[derive(Debug)]
pub struct Manifests {
    disk: LastGood,
    held: BTreeMap<RevisionId, Held>,
    arrivals: u64,
}

impl Manifests {
    /// Of the instance with this last good.
    pub fn new(disk: LastGood) -> Self {
        Self {
            disk,
            held: BTreeMap::new(),
            arrivals: 0,
        }
    }

    /// The manifest of a revision, if it is in memory.
    pub fn get(&self, revision: &RevisionId) -> Option<&GenuineManifest> {
        self.held.get(revision).map(|held| &held.genuine)
    }

    /// Holds one that arrived; the oldest that is not `needed` makes room.
    pub fn hold(&mut self, genuine: GenuineManifest, needed: &BTreeSet<RevisionId>) {
        self.insert(genuine, needed, false);
    }

    /// Whether the manifest is at hand, on disk if not in memory. One on disk is verified like one that arrives.
    pub fn ensure(&mut self, identity: &Identity, revision: &RevisionId, needed: &BTreeSet<RevisionId>) -> bool {
        if self.held.contains_key(revision) {
            return true;
        }
        let read = self.disk.read(Kept::Manifest, &revision.digest, MAX_BYTES);
        let genuine = match read {
            Ok(None) => return false,
            Ok(Some(envelope)) => verify::manifest(identity, envelope).map_err(|refusal| refusal.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match genuine {
            // Another number with the same content is another revision: its manifest will be sent.
            Ok(genuine) if genuine.manifest.revision != *revision => false,
            Ok(genuine) => {
                self.insert(genuine, needed, true);
                true
            }
            Err(error) => {
                tracing::error!(%revision, error, "a manifest on disk is damaged; it has to be sent again");
                self.disk.discard(Kept::Manifest, &revision.digest);
                false
            }
        }
    }

    /// The envelope as it arrived, from memory or disk: for a controller that has lost it, and verifies it again.
    pub fn hand_back(&self, revision: &RevisionId) -> Option<Bytes> {
        match self.held.get(revision) {
            Some(held) => Some(held.genuine.envelope.clone()),
            None => self.disk.read(Kept::Manifest, &revision.digest, MAX_BYTES).ok()?,
        }
    }

    /// Writes it, unless it is on disk.
    pub fn save(&mut self, revision: &RevisionId) -> Result<(), StateError> {
        match self.held.get_mut(revision) {
            Some(held) if !held.saved => {
                self.disk
                    .keep(Kept::Manifest, &revision.digest, &held.genuine.envelope)?;
                held.saved = true;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Removes from disk what is not held, and returns what is.
    pub fn tidy(&mut self) -> Vec<RevisionId> {
        let digests: BTreeSet<Digest> = self.held.keys().map(|revision| revision.digest).collect();
        self.disk.sweep(Kept::Manifest, &digests);
        self.held.keys().copied().collect()
    }

    fn insert(&mut self, genuine: GenuineManifest, needed: &BTreeSet<RevisionId>, saved: bool) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        let revision = genuine.manifest.revision;
        // One file per content: what another number left there is no longer on disk once this one is written.
        for (other, held) in &mut self.held {
            if other.digest == revision.digest {
                held.saved = false;
            }
        }
        self.held.insert(
            revision,
            Held {
                genuine,
                saved,
                arrival,
            },
        );
        while self.held.len() > MAX_HELD_MANIFESTS {
            let spare = self
                .held
                .iter()
                .filter(|(held, _)| !needed.contains(held) && **held != revision);
            let Some(oldest) = spare.min_by_key(|(_, held)| held.arrival).map(|(id, _)| *id) else {
                break; // all are needed: bounded by the revisions that two orders name
            };
            self.held.remove(&oldest);
        }
    }
}
