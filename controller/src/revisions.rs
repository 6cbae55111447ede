//! Revisions of one fleet as files in the state folder: history and the fleet's record. Store, load, prune.
//!
//! ```text
//!   fleets/FLEET/record.json            who serves what, and how far a rollout is; versioned
//!   fleets/FLEET/manifests/42-c01d9a3f.dsse   signed; refers to
//!   fleets/FLEET/sections/DIGEST        as they travel
//! ```
//!
//! Order of writes: sections → manifest → record. So a record never names what is not there, and what nothing names
//! is swept later.

pub mod bundles;
pub mod record;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sluice_model::{Digest, FleetName, RevisionId, Snapshot};
use sluice_proto::{Audience, KeySet, Manifest, SectionRef};

pub use bundles::{BundleError, Bundles, Loss, Signed};
pub use record::{CommitError, LoadError, RecordFile, Version};

use crate::rollout::Record;
use crate::sign::Signers;

/// Everything kept about one fleet. Whoever stores or reads anything of it asks here.
#[derive(Clone, Debug)]
pub struct Revisions {
    record: RecordFile,
    bundles: Bundles,
}

impl Revisions {
    /// Those of one fleet in the folder `state`.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn open(state: &Path, trusted: KeySet, audience: Audience) -> Result<Self, BundleError> {
        let dir = folder(state, &audience.fleet);
        let bundles = Bundles::open(&dir, trusted, audience)?;
        crate::durable::sweep_temporaries(&dir);
        Ok(Self {
            record: RecordFile::new(&dir),
            bundles,
        })
    }

    /// See [`RecordFile::load`].
    ///
    /// # Errors
    /// A record that is there but cannot be read is an error, never "none".
    pub fn load_record(&self) -> Result<Option<(Record, Version)>, LoadError> {
        self.record.load()
    }

    /// See [`RecordFile::commit`].
    ///
    /// # Errors
    /// [`CommitError::Stale`] if somebody else wrote since `expected`; nothing changed after any error.
    pub fn commit_record(&self, expected: Version, record: &Record) -> Result<Version, CommitError> {
        self.record.commit(expected, record)
    }

    /// See [`Bundles::put_sections`].
    ///
    /// # Errors
    /// When something could not be written.
    pub fn put_sections(&self, snapshot: &Snapshot) -> Result<Vec<SectionRef>, BundleError> {
        self.bundles.put_sections(snapshot)
    }

    /// See [`Bundles::put_section`].
    ///
    /// # Errors
    /// When it is not what `manifest` names, or could not be written.
    pub fn put_section(&self, manifest: &Manifest, digest: &Digest, wire: &[u8]) -> Result<(), BundleError> {
        self.bundles.put_section(manifest, digest, wire)
    }

    /// See [`Bundles::put_manifest`].
    ///
    /// # Errors
    /// When it could not be written.
    pub fn put_manifest(&self, revision: RevisionId, envelope: &[u8]) -> Result<(), BundleError> {
        self.bundles.put_manifest(revision, envelope)
    }

    /// See [`Bundles::manifest`].
    ///
    /// # Errors
    /// When it is here but damaged, or signed with a key that is not trusted any more.
    pub fn manifest(&self, revision: &RevisionId) -> Result<Option<Signed>, BundleError> {
        self.bundles.manifest(revision)
    }

    /// See [`Bundles::sign_anew`].
    ///
    /// # Errors
    /// The first manifest that could not be signed anew; the others are.
    pub fn sign_anew(&self, signers: &Signers) -> Result<usize, BundleError> {
        self.bundles.sign_anew(signers)
    }

    /// See [`Bundles::open_manifest`].
    ///
    /// # Errors
    /// When it is not a manifest of `revision` that is signed as it must be.
    pub fn open_manifest(&self, revision: &RevisionId, envelope: Bytes) -> Result<Signed, BundleError> {
        self.bundles.open_manifest(revision, envelope)
    }

    /// See [`Bundles::snapshot`].
    ///
    /// # Errors
    /// When a section is missing or damaged.
    pub fn snapshot(&self, manifest: &Manifest) -> Result<Snapshot, BundleError> {
        self.bundles.snapshot(manifest)
    }

    /// See [`Bundles::loss`].
    pub fn loss(&self, revision: &RevisionId) -> Loss {
        self.bundles.loss(revision)
    }

    /// See [`Bundles::lost_sections`].
    pub fn lost_sections(&self, manifest: &Manifest) -> Vec<Digest> {
        self.bundles.lost_sections(manifest)
    }

    /// The greatest number of a revision that is here; 0 without any.
    pub fn greatest_number(&self) -> u64 {
        let kept = self.bundles.list().unwrap_or_default();
        kept.iter().map(|(number, _)| *number).max().unwrap_or(0)
    }

    /// Removes what neither the record nor an instance needs, but for the newest `limit` revisions.
    ///
    /// # Errors
    /// When something cannot be listed or removed; what is to be kept is still there.
    pub fn collect(
        &self,
        record: &Record,
        reported: &BTreeSet<RevisionId>,
        limit: usize,
    ) -> Result<usize, BundleError> {
        let present = self.bundles.list()?;
        let keep = to_keep(&present, record, reported, limit);
        if keep.len() < present.len() {
            self.bundles.collect(&keep)
        } else {
            Ok(0)
        }
    }
}

fn folder(state: &Path, fleet: &FleetName) -> PathBuf {
    state.join("fleets").join(fleet.as_str())
}

/// The fleets that `state` knows.
pub fn fleets(state: &Path) -> BTreeSet<FleetName> {
    let Ok(entries) = fs::read_dir(state.join("fleets")) else {
        return BTreeSet::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// A section of one fleet as it travels; `None` if it is not here. Sections never change, so that whoever sends them
/// need not ask whoever writes them.
pub fn section(state: &Path, fleet: &FleetName, digest: &Digest) -> Option<Bytes> {
    let path = folder(state, fleet).join("sections").join(digest.to_string());
    fs::read(path).ok().map(Bytes::from)
}

/// Every revision that the record still needs.
fn named_by(record: &Record) -> impl Iterator<Item = RevisionId> {
    let tried = record.rollout.iter().map(|rollout| rollout.target.revision);
    let restoring = record.restoring.iter().map(|restoring| restoring.revision);
    let queued = record.queued.iter().map(|target| target.revision);
    record.stable.into_iter().chain(tried).chain(restoring).chain(queued)
}

/// What may not be removed: the newest `limit` revisions, whatever the record names, and whatever an instance
/// reported, connected or not.
fn to_keep(
    present: &BTreeSet<(u64, String)>,
    record: &Record,
    reported: &BTreeSet<RevisionId>,
    limit: usize,
) -> BTreeSet<(u64, String)> {
    let newest = present.iter().rev().take(limit).cloned();
    let named = named_by(record).map(|revision| bundles::name_of(&revision));
    let reported = reported.iter().map(bundles::name_of);
    newest.chain(named).chain(reported).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Beginning, Plan};

    fn revision(number: u8) -> RevisionId {
        RevisionId {
            number: number.into(),
            digest: Digest([number; 32]),
        }
    }

    #[test]
    fn what_somebody_needs_is_kept() {
        let present = (1..=40).map(|at| bundles::name_of(&revision(at))).collect();
        let mut record = Record::new("edge".parse().unwrap(), Plan::built_in(), Beginning::NewFleet);
        let numbers = |record: &Record, reported: &[u8]| {
            let reported = reported.iter().map(|at| revision(*at)).collect();
            let kept = to_keep(&present, record, &reported, 3);
            kept.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
        };
        let cases: [(Option<u8>, &[u8], &[u64]); 3] = [
            (None, &[], &[38, 39, 40]),
            (Some(7), &[], &[7, 38, 39, 40]),
            (Some(39), &[2, 5], &[2, 5, 38, 39, 40]),
        ];
        for (stable, reported, kept) in cases {
            record.stable = stable.map(revision);
            assert_eq!(numbers(&record, reported), kept);
        }
    }
}
