//! The sections an instance holds: verified, decoded, shared between the revisions that refer to them.
//!
//! A section is addressed by its content, so a one-object change brings one section, and units of unchanged sections are
//! the same `Arc`s in both revisions: `build` can tell by pointer what it need not compile again. Only sections that a
//! signed manifest names are taken, which bounds what is held by the limits of a few revisions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use sluice_model::limits::{MAX_SECTION_BYTES, MAX_SECTIONS_IN_MESSAGE};
use sluice_model::unit::Unit;
use sluice_model::{Digest, ObjectKey};
use sluice_proto::sections::{self, SectionRef};

use super::last_good::{Kept, LastGood, StateError};
use super::refusal::Refusal;

/// The units of one section.
pub type Units = Arc<[(ObjectKey, Arc<Unit>)]>;

#[derive(Debug)]
struct Held {
    units: Units,
    /// As it travels, until it is on disk.
    unsaved: Option<Bytes>,
}

/// All that is held, in memory and on disk.
#[derive(Debug)]
pub struct Sections {
    disk: LastGood,
    held: BTreeMap<Digest, Held>,
}

impl Sections {
    /// Of the instance with this last good.
    pub fn new(disk: LastGood) -> Self {
        let held = BTreeMap::new();
        Self { disk, held }
    }

    /// Whether the section is at hand, on disk if not in memory. What is damaged there is discarded: it will be asked
    /// for again.
    pub fn ensure(&mut self, section: &SectionRef) -> bool {
        if self.held.contains_key(&section.digest) {
            return true;
        }
        let read = self
            .disk
            .read(Kept::Section, &section.digest, section.wire_bytes as usize);
        let opened = match read {
            Ok(None) => return false,
            Ok(Some(wire)) => open(section, &wire).map_err(|refusal| refusal.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match opened {
            Ok(units) => {
                self.held.insert(section.digest, Held { units, unsaved: None });
                true
            }
            Err(error) => {
                tracing::error!(section = %section.digest, error, "a section on disk is damaged; asking for it again");
                self.disk.discard(Kept::Section, &section.digest);
                false
            }
        }
    }

    /// Takes a section that arrived, if it is what its manifest says.
    pub fn take(&mut self, section: &SectionRef, wire: Bytes) -> Result<(), Refusal> {
        let units = open(section, &wire)?;
        let unsaved = Some(wire);
        self.held.insert(section.digest, Held { units, unsaved });
        Ok(())
    }

    /// The units of a section that is at hand.
    pub fn units(&self, digest: &Digest) -> Option<&Units> {
        self.held.get(digest).map(|held| &held.units)
    }

    /// A section as it arrived, from memory or disk: for a controller that has lost it, and verifies it again.
    pub fn hand_back(&self, digest: &Digest) -> Option<Bytes> {
        let unsaved = self.held.get(digest).and_then(|held| held.unsaved.clone());
        match unsaved {
            Some(wire) => Some(wire),
            None => self.disk.read(Kept::Section, digest, MAX_SECTION_BYTES).ok()?,
        }
    }

    /// Writes those that are not yet on disk.
    pub fn save(&mut self, wanted: &[SectionRef]) -> Result<(), StateError> {
        for section in wanted {
            let Some(held) = self.held.get_mut(&section.digest) else {
                continue;
            };
            if let Some(wire) = &held.unsaved {
                self.disk.keep(Kept::Section, &section.digest, wire)?;
                held.unsaved = None;
            }
        }
        Ok(())
    }

    /// Forgets all but these, in memory and on disk.
    pub fn retain(&mut self, in_memory: &BTreeSet<Digest>, on_disk: &BTreeSet<Digest>) {
        self.held.retain(|digest, _| in_memory.contains(digest));
        self.disk.sweep(Kept::Section, on_disk);
    }

    /// The digests of what is held; what is on disk is not verified yet.
    pub fn digests(&self) -> Vec<Digest> {
        let mut digests: BTreeSet<Digest> = self.held.keys().copied().collect();
        digests.extend(self.disk.list(Kept::Section, MAX_SECTIONS_IN_MESSAGE));
        digests.into_iter().take(MAX_SECTIONS_IN_MESSAGE).collect()
    }
}

/// Verify, unpack within the signed size, verify again, decode: in this order.
fn open(section: &SectionRef, wire: &[u8]) -> Result<Units, Refusal> {
    let mismatch = |detail: String| Refusal::SectionMismatch {
        digest: section.digest,
        detail,
    };
    let raw = sections::unpack(section, wire).map_err(|error| mismatch(error.to_string()))?;
    let units = sections::decode(&raw).map_err(|error| mismatch(error.to_string()))?;
    if let Some((stray, _)) = units.iter().find(|(key, _)| sections::bucket_of(key) != section.bucket) {
        return Err(mismatch(format!(
            "{stray} does not belong into bucket {}",
            section.bucket
        )));
    }
    Ok(units.into())
}
