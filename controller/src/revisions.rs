//! Revisions of one fleet and its record: history, and what is so now. Store, load, prune.
//!
//! ```text
//!   fleets/FLEET/record.json                    who serves what, and how far a rollout is; versioned
//!   fleets/FLEET/manifests/42-c01d9a3f.dsse     signed; refers to
//!   fleets/FLEET/sections/DIGEST                as they travel
//!   fleets/FLEET/provenance/42-c01d9a3f.dsse    signed; what the revision changes, and
//!   fleets/FLEET/origins/DIGEST                 where its objects came from
//! ```
//!
//! Order of writes: sections, origins → provenance → manifest → record. So a record never names what is not there, and
//! what nothing names is swept later.
//!
//! In Kubernetes the folder does not outlive its pod: there is a [`Remote`] beside it, which is written first and holds
//! the record alone; the folder is a copy of the rest, for whoever sends it.

pub mod bundles;
pub mod config_map;
pub mod folder;
pub mod kubernetes;
mod owning;
pub mod piece;
pub mod pull;
pub mod record;
pub mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sluice_model::limits::{RECORD_PROGRESS_MS, REMOTE_PROGRESS_MS, REMOVED_AT_ONCE};
use sluice_model::{Digest, FleetName, ObjectKey, RevisionId, Snapshot};
use sluice_proto::{Audience, KeySet, Manifest, OriginsRef, SectionRef};

pub use bundles::{BundleError, Bundles, Loss, Signed};
pub use folder::Folder;
pub use kubernetes::ConfigMaps;
pub use piece::{ManifestName, Piece, PieceName};
pub use pull::{PullError, Pulled};
pub use record::{CommitError, LoadError, RecordFile, Version};
pub use remote::{Remote, RemoteError};

use crate::rollout::Record;
use crate::sign::Signers;
use remote::WriteError;

/// Everything kept about one fleet. Whoever stores or reads anything of it asks here.
#[derive(Clone, Debug)]
pub struct Revisions {
    fleet: FleetName,
    record: RecordFile,
    bundles: Bundles,
    remote: Option<Arc<dyn Remote>>,
    sweep: Sweep,
}

/// Whether a collection was begun and not carried to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sweep {
    Done,
    Due,
}

impl Revisions {
    /// Those of one fleet in the folder `state`, of which `remote`, if there is one, has the original.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn open(
        state: &Path,
        trusted: KeySet,
        audience: Audience,
        remote: Option<Arc<dyn Remote>>,
    ) -> Result<Self, BundleError> {
        let dir = fleet_folder(state, &audience.fleet);
        Ok(Self {
            fleet: audience.fleet.clone(),
            record: RecordFile::new(&dir),
            bundles: Bundles::open(&dir, trusted, audience, remote.clone())?,
            remote,
            sweep: Sweep::Due,
        })
    }

    /// The record and its version; `None` if there is none.
    ///
    /// # Errors
    /// A record that is there but cannot be read is an error, never "none".
    pub fn load_record(&self) -> Result<Option<(Record, Version)>, LoadError> {
        let Some(remote) = &self.remote else {
            return self.record.load();
        };
        match remote.load_record(&self.fleet)? {
            Some((text, version)) => Ok(Some((record::decode(&remote.place(&self.fleet), &text)?, version))),
            None => Ok(None),
        }
    }

    /// Writes `record` if what is there is still at `expected`, and gives its new version.
    ///
    /// # Errors
    /// [`CommitError::Stale`] if somebody else wrote since `expected`.
    pub fn commit_record(&self, expected: &Version, record: &Record) -> Result<Version, CommitError> {
        let Some(remote) = &self.remote else {
            return self.record.commit(expected, record);
        };
        let text = record::encode(record)?;
        let written = remote.commit_record(&self.fleet, expected, &text);
        written.map_err(|error| match error {
            WriteError::Stale(found) => CommitError::Stale {
                expected: expected.clone(),
                found,
            },
            WriteError::Remote(error) => CommitError::Remote(error),
        })
    }

    /// How often observations are worth a write of their own, in milliseconds.
    pub fn progress_ms(&self) -> u64 {
        match self.remote {
            None => RECORD_PROGRESS_MS,
            Some(_) => REMOTE_PROGRESS_MS,
        }
    }

    /// See [`Bundles::put_sections`].
    ///
    /// # Errors
    /// When something could not be written.
    pub fn put_sections(&self, snapshot: &Snapshot) -> Result<Vec<SectionRef>, BundleError> {
        self.bundles.put_sections(snapshot)
    }

    /// See [`Bundles::put_origins`].
    ///
    /// # Errors
    /// When something could not be written.
    pub fn put_origins(&self, origins: BTreeMap<ObjectKey, String>) -> Result<Vec<OriginsRef>, BundleError> {
        self.bundles.put_origins(origins)
    }

    /// See [`Bundles::put_section`].
    ///
    /// # Errors
    /// When it is not what `manifest` names, or could not be written.
    pub fn put_section(&self, manifest: &Manifest, digest: &Digest, wire: Bytes) -> Result<(), BundleError> {
        self.bundles.put_section(manifest, digest, wire)
    }

    /// See [`Bundles::put_manifest`].
    ///
    /// # Errors
    /// When it could not be written.
    pub fn put_manifest(
        &self,
        revision: RevisionId,
        envelope: &Bytes,
        provenance: Option<Bytes>,
    ) -> Result<(), BundleError> {
        self.bundles.put_manifest(revision, envelope, provenance)
    }

    /// See [`Bundles::mend`].
    ///
    /// # Errors
    /// When it cannot be told what is missing, or not be put back.
    pub fn mend(&self, revisions: &BTreeSet<RevisionId>) -> Result<usize, BundleError> {
        self.bundles.mend(revisions)
    }

    /// See [`Bundles::origins`].
    ///
    /// # Errors
    /// When they are here but damaged.
    pub fn origins(&self, revision: &RevisionId) -> Result<BTreeMap<ObjectKey, String>, BundleError> {
        self.bundles.origins(revision)
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

    /// How many revisions are here.
    pub fn count(&self) -> usize {
        self.bundles.list().map_or(0, |kept| kept.len())
    }

    /// The greatest number of a revision that is here; 0 without any.
    pub fn greatest_number(&self) -> u64 {
        let kept = self.bundles.list().unwrap_or_default();
        kept.iter().map(|name| name.number).max().unwrap_or(0)
    }

    /// Removes what neither the record nor an instance needs, but for the newest `limit` revisions; of very much only a
    /// part, and the rest when asked again.
    ///
    /// # Errors
    /// When something cannot be listed or removed; what is to be kept is still there.
    pub fn collect(
        &mut self,
        record: &Record,
        reported: &BTreeSet<RevisionId>,
        limit: usize,
    ) -> Result<usize, BundleError> {
        let present = self.bundles.list()?;
        let keep = to_keep(&present, record, reported, limit);
        if present.is_subset(&keep) && self.sweep == Sweep::Done {
            return Ok(0);
        }
        self.sweep = Sweep::Due;
        let removed = self.bundles.collect(&keep, REMOVED_AT_ONCE)?;
        if removed < REMOVED_AT_ONCE {
            self.sweep = Sweep::Done;
        }
        Ok(removed)
    }
}

fn fleet_folder(state: &Path, fleet: &FleetName) -> PathBuf {
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
    let path = fleet_folder(state, fleet).join("sections").join(digest.to_string());
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
    present: &BTreeSet<ManifestName>,
    record: &Record,
    reported: &BTreeSet<RevisionId>,
    limit: usize,
) -> BTreeSet<ManifestName> {
    let newest = present.iter().rev().take(limit).cloned();
    let named = named_by(record).map(|revision| ManifestName::from(&revision));
    let reported = reported.iter().map(ManifestName::from);
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
        let present = (1..=40).map(|at| ManifestName::from(&revision(at))).collect();
        let mut record = Record::new("edge".parse().unwrap(), Plan::built_in(), Beginning::NewFleet);
        let numbers = |record: &Record, reported: &[u8]| {
            let reported = reported.iter().map(|at| revision(*at)).collect();
            let kept = to_keep(&present, record, &reported, 3);
            kept.into_iter().map(|name| name.number).collect::<Vec<_>>()
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
