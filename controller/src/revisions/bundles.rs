//! Revisions on disk: sections named by the digest of what they hold, and the signed manifests that refer to them.
//! Everything is immutable once written and verified when read, so that a damaged disk is noticed and never served.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sluice_model::{Digest, RevisionId, Snapshot};
use sluice_proto::sections::{self, Packed};
use sluice_proto::{Audience, KeySet, Manifest, SectionRef, assemble, open_manifest};

use crate::durable::{self, Access};
use crate::sign::Signers;

/// Why a revision could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file system.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is there but it is not what it was.
    #[error("{path}: damaged: {what}; restore it, or the keys, from a backup, or end the controller and remove {fleet}: it then begins anew with what the objects say", path = .path.display(), fleet = fleet_of(.path).display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// A revision as it was signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// What the manifest says.
    pub manifest: Manifest,
    /// The manifest as it is sent.
    pub envelope: Bytes,
}

/// What is missing of a revision, or damaged.
#[derive(Clone, Debug)]
pub enum Loss {
    /// Nothing: it can be sent and read.
    Nothing,
    /// Its manifest, and perhaps sections.
    Manifest,
    /// These sections of a manifest that is here.
    Sections(Box<Signed>, Vec<Digest>),
}

/// The revisions of one fleet.
#[derive(Clone, Debug)]
pub struct Bundles {
    manifests: PathBuf,
    sections: PathBuf,
    trusted: KeySet,
    audience: Audience,
}

impl Bundles {
    /// Those in the folder `dir`, which exists.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn open(dir: &Path, trusted: KeySet, audience: Audience) -> Result<Self, BundleError> {
        let (manifests, sections) = (dir.join("manifests"), dir.join("sections"));
        for folder in [&manifests, &sections] {
            fs::create_dir_all(folder).map_err(at(folder))?;
            durable::sweep_temporaries(folder);
        }
        Ok(Self {
            manifests,
            sections,
            trusted,
            audience,
        })
    }

    /// Keeps what a snapshot consists of, and says how a manifest refers to it. A section that is there already is
    /// referred to as it was packed then, so that one digest never has two packings.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn put_sections(&self, snapshot: &Snapshot) -> Result<Vec<SectionRef>, BundleError> {
        let encoded = sections::encode(snapshot).map_err(|error| BundleError::Damaged {
            path: self.sections.clone(),
            what: error.to_string(),
        })?;
        let mut references = Vec::new();
        for section in encoded {
            let path = self.section_path(&section.digest);
            let packed = sections::pack(&section);
            let held = fs::read(&path)
                .ok()
                .and_then(|wire| referring(&packed.reference, &wire));
            match held {
                Some(reference) => references.push(reference),
                None => {
                    let Packed { reference, wire } = packed;
                    durable::write(&path, &wire, Access::Everybody).map_err(at(&path))?;
                    references.push(reference);
                }
            }
        }
        Ok(references)
    }

    /// Keeps a signed manifest, whose sections are kept already.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn put_manifest(&self, revision: RevisionId, envelope: &[u8]) -> Result<(), BundleError> {
        let path = self.manifest_path(&revision);
        durable::write(&path, envelope, Access::Everybody).map_err(at(&path))
    }

    /// The manifest of `revision`, verified; `None` if it is not here.
    ///
    /// # Errors
    /// When it is here but damaged, or signed with a key that is not trusted any more.
    pub fn manifest(&self, revision: &RevisionId) -> Result<Option<Signed>, BundleError> {
        match read(&self.manifest_path(revision))? {
            Some(envelope) => self.open_manifest(revision, envelope).map(Some),
            None => Ok(None),
        }
    }

    /// The manifest of `revision` in an envelope that somebody else kept.
    ///
    /// # Errors
    /// When it is not signed by a trusted key, for another audience, or of another revision.
    pub fn open_manifest(&self, revision: &RevisionId, envelope: Bytes) -> Result<Signed, BundleError> {
        let path = self.manifest_path(revision);
        let manifest =
            open_manifest(&self.trusted, &self.audience, &envelope).map_err(|error| damaged(&path, &error))?;
        if manifest.revision != *revision {
            return Err(damaged(&path, &format!("is the manifest of {}", manifest.revision)));
        }
        Ok(Signed { manifest, envelope })
    }

    /// Has every manifest signed that keys of before have signed and `signers` have not. Says how many.
    ///
    /// # Errors
    /// The first that could not be signed or written; the others are.
    pub fn sign_anew(&self, signers: &Signers) -> Result<usize, BundleError> {
        let (mut signed, mut failed) = (0, None);
        for (number, short) in self.list()? {
            match self.sign_one_anew(&self.manifests.join(format!("{number}-{short}.dsse")), signers) {
                Ok(count) => signed += count,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(signed), Err)
    }

    fn sign_one_anew(&self, path: &Path, signers: &Signers) -> Result<usize, BundleError> {
        let Some(envelope) = read(path)?.filter(|envelope| !signers.have_signed(envelope)) else {
            return Ok(0);
        };
        let manifest =
            open_manifest(&self.trusted, &self.audience, &envelope).map_err(|error| damaged(path, &error))?;
        let signed = signers.manifest(&manifest).map_err(|error| damaged(path, &error))?;
        self.put_manifest(manifest.revision, &signed)?;
        Ok(1)
    }

    /// What is missing of `revision`. Reads all of it.
    pub fn loss(&self, revision: &RevisionId) -> Loss {
        match self.manifest(revision) {
            Ok(Some(signed)) => match self.lost_sections(&signed.manifest) {
                sections if sections.is_empty() => Loss::Nothing,
                sections => Loss::Sections(Box::new(signed), sections),
            },
            Ok(None) => Loss::Manifest,
            Err(error) => {
                tracing::warn!(%error, "the manifest has to be handed back");
                Loss::Manifest
            }
        }
    }

    /// The sections of `manifest` that are not here, or not what it says.
    pub fn lost_sections(&self, manifest: &Manifest) -> Vec<Digest> {
        let is_here = |reference: &SectionRef| {
            let wire = fs::read(self.section_path(&reference.digest));
            wire.is_ok_and(|wire| sections::unpack(reference, &wire).is_ok())
        };
        let lost = manifest.sections.iter().filter(|reference| !is_here(reference));
        lost.map(|reference| reference.digest).collect()
    }

    /// Keeps a section that somebody else kept, if it is what `manifest` says. Another packing of the same content
    /// stays: another manifest refers to it.
    ///
    /// # Errors
    /// [`BundleError::Damaged`] when it is something else, [`BundleError::File`] when it could not be written.
    pub fn put_section(&self, manifest: &Manifest, digest: &Digest, wire: &[u8]) -> Result<(), BundleError> {
        let path = self.section_path(digest);
        let named = manifest.sections.iter().find(|reference| reference.digest == *digest);
        let reference = named.ok_or_else(|| damaged(&path, &"the manifest does not name it"))?;
        sections::unpack(reference, wire).map_err(|error| damaged(&path, &error))?;
        let held = fs::read(&path).ok().and_then(|held| referring(reference, &held));
        if held.is_some_and(|held| held != *reference) {
            return Err(damaged(&path, &"another revision has packed it otherwise"));
        }
        durable::write(&path, wire, Access::Everybody).map_err(at(&path))
    }

    /// What `manifest` says that its fleet serves.
    ///
    /// # Errors
    /// When a section is missing or damaged.
    pub fn snapshot(&self, manifest: &Manifest) -> Result<Snapshot, BundleError> {
        let mut raw = BTreeMap::new();
        for reference in &manifest.sections {
            let path = self.section_path(&reference.digest);
            let wire = fs::read(&path).map_err(at(&path))?;
            let bytes = sections::unpack(reference, &wire).map_err(|error| damaged(&path, &error))?;
            raw.insert(reference.digest, bytes);
        }
        let path = self.manifest_path(&manifest.revision);
        let config = assemble(manifest, |digest| raw.get(digest).cloned()).map_err(|error| damaged(&path, &error))?;
        Snapshot::check(config).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            damaged(&path, &errors.join("; "))
        })
    }

    /// The revisions whose manifests are here, by the names of their files: number and the first digits of the digest.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn list(&self) -> Result<BTreeSet<(u64, String)>, BundleError> {
        let entries = fs::read_dir(&self.manifests).map_err(at(&self.manifests))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| parse_name(name.to_str()?)).collect())
    }

    /// Removes the manifests that are not in `keep`, and every section that no manifest left refers to. Removes no
    /// section if any manifest left cannot be read: what it needs is then not known.
    ///
    /// # Errors
    /// When something cannot be listed or removed; what is to be kept is still there.
    pub fn collect(&self, keep: &BTreeSet<(u64, String)>) -> Result<usize, BundleError> {
        let mut removed = 0;
        let mut needed = BTreeSet::new();
        let mut all_read = true;
        for (number, short) in self.list()? {
            let path = self.manifests.join(format!("{number}-{short}.dsse"));
            if !keep.contains(&(number, short)) {
                fs::remove_file(&path).map_err(at(&path))?;
                removed += 1;
                continue;
            }
            match read(&path)?.map(|bytes| open_manifest(&self.trusted, &self.audience, &bytes)) {
                Some(Ok(manifest)) => needed.extend(manifest.sections.iter().map(|section| section.digest.to_string())),
                Some(Err(_)) | None => all_read = false,
            }
        }
        if all_read {
            removed += self.sweep_sections(&needed)?;
        }
        Ok(removed)
    }

    fn sweep_sections(&self, needed: &BTreeSet<String>) -> Result<usize, BundleError> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.sections).map_err(at(&self.sections))?.flatten() {
            let unneeded = entry.file_name().to_str().is_some_and(|name| !needed.contains(name));
            if unneeded {
                fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn manifest_path(&self, revision: &RevisionId) -> PathBuf {
        self.manifests.join(format!("{revision}.dsse"))
    }

    fn section_path(&self, digest: &Digest) -> PathBuf {
        self.sections.join(digest.to_string())
    }
}

/// How `collect` names a revision.
pub fn name_of(revision: &RevisionId) -> (u64, String) {
    (revision.number, revision.digest.short())
}

fn parse_name(name: &str) -> Option<(u64, String)> {
    let (number, short) = name.strip_suffix(".dsse")?.split_once('-')?;
    Some((number.parse().ok()?, short.to_owned()))
}

/// `reference` for a section that was packed before as `wire`, if it really holds the same.
fn referring(reference: &SectionRef, wire: &[u8]) -> Option<SectionRef> {
    let held = SectionRef {
        wire_digest: sluice_proto::hash::sha256(wire),
        wire_bytes: u32::try_from(wire.len()).ok()?,
        ..*reference
    };
    sections::unpack(&held, wire).is_ok().then_some(held)
}

fn read(path: &Path) -> Result<Option<Bytes>, BundleError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(at(path)(source)),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::File {
        path: path.clone(),
        source,
    }
}

/// The folder of the fleet that the file at `path` belongs to.
fn fleet_of(path: &Path) -> &Path {
    path.ancestors().nth(2).unwrap_or(path)
}

fn damaged(path: &Path, what: &dyn std::fmt::Display) -> BundleError {
    BundleError::Damaged {
        path: path.to_owned(),
        what: what.to_string(),
    }
}
