//! Revisions as they are kept: sections and origins named by the digest of what they hold, and the signed manifests that
//! refer to them. Everything is immutable once written and verified when read, so that a damaged disk is noticed and
//! never served.
//!
//! If there is a [`Remote`], it is written first and the folder is a copy of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use sluice_model::{Digest, ObjectKey, RevisionId, Snapshot};
use sluice_proto::provenance::{encode_origins, unpack_origins};
use sluice_proto::sections::{self, Packed, Section};
use sluice_proto::{
    Audience, KeySet, Manifest, OriginsRef, Provenance, SectionRef, assemble, open_manifest, open_provenance,
};

use super::folder::{FileError, Folder};
use super::piece::{ManifestName, Piece, PieceName};
use super::remote::{Kept, Remote, RemoteError};
use crate::sign::Signers;

/// Why a revision could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
    /// Where it is kept does not answer, or does not want to.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It is there but it is not what it was.
    #[error(
        "{place}: damaged: {what}; restore it, or the keys, from a backup, or end the controller and {forgetting}: it then begins anew with what the objects say"
    )]
    Damaged {
        /// Which file.
        place: String,
        /// What is wrong with it.
        what: String,
        /// How to have its fleet forgotten.
        forgetting: String,
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
    folder: Folder,
    remote: Option<Arc<dyn Remote>>,
    trusted: KeySet,
    audience: Audience,
    /// How to have the fleet forgotten.
    forgetting: String,
}

impl Bundles {
    /// Those in the folder `dir`, of which `remote`, if there is one, has the original.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn open(
        dir: &std::path::Path,
        trusted: KeySet,
        audience: Audience,
        remote: Option<Arc<dyn Remote>>,
    ) -> Result<Self, BundleError> {
        let forgetting = match &remote {
            Some(remote) => remote.forgetting(&audience.fleet),
            None => format!("remove {}", dir.display()),
        };
        Ok(Self {
            folder: Folder::open(dir)?,
            remote,
            trusted,
            audience,
            forgetting,
        })
    }

    /// Keeps what a snapshot consists of, and says how a manifest refers to it. A section that is there already is
    /// referred to as it was packed then, so that one digest never has two packings.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn put_sections(&self, snapshot: &Snapshot) -> Result<Vec<SectionRef>, BundleError> {
        let encoded = sections::encode(snapshot).map_err(|error| BundleError::Damaged {
            place: "the snapshot".to_owned(),
            what: error.to_string(),
            forgetting: self.forgetting.clone(),
        })?;
        let mut references = BTreeMap::new();
        let mut missing = Vec::new();
        for section in encoded {
            match self.kept(&section)? {
                Some(reference) => drop(references.insert(reference.bucket, reference)),
                // Compressing is most of the work, and a change makes one section of hundreds anew.
                None => missing.push(sections::pack(&section)),
            }
        }
        let pieces = missing.iter().map(|Packed { reference, wire }| Piece::Section {
            digest: reference.digest,
            wire: wire.clone(),
        });
        let kept = self.keep(pieces.collect())?;
        for (Packed { reference, .. }, kept) in missing.iter().zip(kept) {
            let reference = match kept {
                Piece::Section { wire, .. } => referring(reference, &wire).unwrap_or(*reference),
                Piece::Origins { .. } | Piece::Manifest { .. } => *reference,
            };
            references.insert(reference.bucket, reference);
        }
        Ok(references.into_values().collect())
    }

    /// How a section that may be here already is referred to; `None` if it is not, or damaged.
    fn kept(&self, section: &Section) -> Result<Option<SectionRef>, BundleError> {
        let wire = self.folder.bytes(&PieceName::Section(section.digest))?;
        Ok(wire.and_then(|wire| {
            let reference = section.travelling_as(&wire);
            sections::unpack(&reference, &wire).is_ok().then_some(reference)
        }))
    }

    /// How a section that is here is referred to.
    fn held(&self, reference: &SectionRef) -> Result<Option<SectionRef>, BundleError> {
        let wire = self.folder.bytes(&PieceName::Section(reference.digest))?;
        Ok(wire.and_then(|wire| referring(reference, &wire)))
    }

    /// Keeps where the objects of a revision came from, and says how its provenance refers to it.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn put_origins(&self, origins: BTreeMap<ObjectKey, String>) -> Result<Vec<OriginsRef>, BundleError> {
        let encoded = encode_origins(origins);
        let here = self.folder.pieces()?;
        let missing = encoded
            .iter()
            .filter(|origins| !here.contains(&PieceName::Origins(origins.reference.digest)));
        let pieces = missing.map(|origins| Piece::Origins {
            digest: origins.reference.digest,
            wire: origins.pack().wire,
        });
        self.keep(pieces.collect())?;
        Ok(encoded.iter().map(|origins| origins.reference).collect())
    }

    /// Keeps a signed manifest, whose sections are kept already, and where its revision came from, if that is known.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn put_manifest(
        &self,
        revision: RevisionId,
        envelope: &Bytes,
        provenance: Option<Bytes>,
    ) -> Result<(), BundleError> {
        let piece = Piece::Manifest {
            name: ManifestName::from(&revision),
            envelope: envelope.clone(),
            provenance,
        };
        self.keep(vec![piece]).map(drop)
    }

    /// Keeps pieces, first where they outlive the folder, and gives them as they are kept. What could be kept is, also if
    /// something else could not.
    fn keep(&self, pieces: Vec<Piece>) -> Result<Vec<Piece>, BundleError> {
        let Some(remote) = self.remote.as_ref().filter(|_| !pieces.is_empty()) else {
            pieces.iter().try_for_each(|piece| self.folder.write(piece))?;
            return Ok(pieces);
        };
        let answers = remote.keep(&self.audience.fleet, &pieces);
        let mut kept = Vec::new();
        let mut failed = None;
        for (piece, answer) in pieces.into_iter().zip(answers) {
            match answer.and_then(|answer| self.settle(remote.as_ref(), piece, answer)) {
                Ok(piece) => {
                    self.folder.write(&piece)?;
                    kept.push(piece);
                }
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(kept), |error| Err(error.into()))
    }

    /// Somebody was quicker: what they kept counts if it says the same, and is replaced if it does not.
    fn settle(&self, remote: &dyn Remote, piece: Piece, answer: Kept) -> Result<Piece, RemoteError> {
        match answer {
            Kept::ThisOne => Ok(piece),
            Kept::Another(theirs) if piece.says_the_same_as(&theirs) => Ok(theirs),
            Kept::Another(_) => {
                let fleet = &self.audience.fleet;
                remote.remove(fleet, &BTreeSet::from([piece.name()]))?;
                let again = remote.keep(fleet, std::slice::from_ref(&piece));
                again.into_iter().try_for_each(|answer| answer.map(drop))?;
                Ok(piece)
            }
        }
    }

    /// Puts back what has vanished from where it should outlive the folder, as far as `revisions` need it and it is here.
    /// Says how much that was.
    ///
    /// # Errors
    /// When it cannot be told, or not be put back.
    pub fn mend(&self, revisions: &BTreeSet<RevisionId>) -> Result<usize, BundleError> {
        let Some(remote) = &self.remote else {
            return Ok(0);
        };
        let mut needed = BTreeSet::new();
        for revision in revisions {
            if let Some(signed) = self.manifest(revision)? {
                needed.extend(self.pieces_of(&signed.manifest)?);
            }
        }
        let lacking = remote.lacking(&self.audience.fleet, &needed)?;
        let pieces: Result<Vec<_>, _> = lacking.iter().map(|name| self.folder.read(name)).collect();
        let pieces: Vec<Piece> = pieces?.into_iter().flatten().collect();
        Ok(self.keep(pieces)?.len())
    }

    /// What a revision consists of; its manifest comes last, as in every order of writes.
    fn pieces_of(&self, manifest: &Manifest) -> Result<Vec<PieceName>, BundleError> {
        let sections = manifest
            .sections
            .iter()
            .map(|section| PieceName::Section(section.digest));
        let origins = self.provenance(&manifest.revision)?.into_iter();
        let origins = origins.flat_map(|provenance| provenance.origins);
        let origins = origins.map(|origins| PieceName::Origins(origins.digest));
        let manifest = PieceName::Manifest(ManifestName::from(&manifest.revision));
        Ok(sections.chain(origins).chain([manifest]).collect())
    }

    /// The manifest of `revision`, verified; `None` if it is not here.
    ///
    /// # Errors
    /// When it is here but damaged, or signed with a key that is not trusted any more.
    pub fn manifest(&self, revision: &RevisionId) -> Result<Option<Signed>, BundleError> {
        match self.folder.bytes(&manifest_name(revision))? {
            Some(envelope) => self.open_manifest(revision, envelope).map(Some),
            None => Ok(None),
        }
    }

    /// The manifest of `revision` in an envelope that somebody else kept.
    ///
    /// # Errors
    /// When it is not signed by a trusted key, for another audience, or of another revision.
    pub fn open_manifest(&self, revision: &RevisionId, envelope: Bytes) -> Result<Signed, BundleError> {
        let name = manifest_name(revision);
        let manifest =
            open_manifest(&self.trusted, &self.audience, &envelope).map_err(|error| self.damaged(&name, &error))?;
        if manifest.revision != *revision {
            let what = format!("is the manifest of {}", manifest.revision);
            return Err(self.damaged(&name, &what));
        }
        Ok(Signed { manifest, envelope })
    }

    /// Has every manifest signed, and its provenance, that keys of before have signed and `signers` have not. Says how
    /// many.
    ///
    /// # Errors
    /// The first that could not be signed or written; the others are.
    pub fn sign_anew(&self, signers: &Signers) -> Result<usize, BundleError> {
        let (mut signed, mut failed) = (0, None);
        for name in self.folder.pieces()? {
            let PieceName::Manifest(_) = &name else { continue };
            match self.sign_one_anew(&name, signers) {
                Ok(count) => signed += count,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(signed), Err)
    }

    fn sign_one_anew(&self, name: &PieceName, signers: &Signers) -> Result<usize, BundleError> {
        let Some(Piece::Manifest {
            envelope, provenance, ..
        }) = self.folder.read(name)?
        else {
            return Ok(0);
        };
        if signers.have_signed(&envelope) {
            return Ok(0);
        }
        let manifest =
            open_manifest(&self.trusted, &self.audience, &envelope).map_err(|error| self.damaged(name, &error))?;
        let provenance = self.open_provenance(name, provenance)?;
        let signed = signers
            .manifest(&manifest)
            .map_err(|error| self.damaged(name, &error))?;
        let provenance = provenance.map(|provenance| signers.provenance(&provenance)).transpose();
        let provenance = provenance.map_err(|error| self.damaged(name, &error))?;
        self.put_manifest(manifest.revision, &signed, provenance)?;
        Ok(1)
    }

    /// Where the objects of `revision` came from, as far as that is here.
    ///
    /// # Errors
    /// When it is here but damaged.
    pub fn origins(&self, revision: &RevisionId) -> Result<BTreeMap<ObjectKey, String>, BundleError> {
        let mut all = BTreeMap::new();
        let provenance = self.provenance(revision)?;
        for reference in provenance.into_iter().flat_map(|provenance| provenance.origins) {
            let name = PieceName::Origins(reference.digest);
            if let Some(wire) = self.folder.bytes(&name)? {
                let origins = unpack_origins(&reference, &wire).map_err(|error| self.damaged(&name, &error))?;
                all.extend(origins.0);
            }
        }
        Ok(all)
    }

    fn provenance(&self, revision: &RevisionId) -> Result<Option<Provenance>, BundleError> {
        let name = manifest_name(revision);
        match self.folder.read(&name)? {
            Some(Piece::Manifest { provenance, .. }) => self.open_provenance(&name, provenance),
            Some(Piece::Section { .. } | Piece::Origins { .. }) | None => Ok(None),
        }
    }

    fn open_provenance(&self, name: &PieceName, envelope: Option<Bytes>) -> Result<Option<Provenance>, BundleError> {
        let open = |envelope: Bytes| open_provenance(&self.trusted, &self.audience, &envelope);
        let opened = envelope.map(open).transpose();
        opened.map_err(|error| self.damaged(name, &format!("its provenance: {error}")))
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
            let wire = self.folder.bytes(&PieceName::Section(reference.digest));
            let wire = wire.ok().flatten();
            wire.is_some_and(|wire| sections::unpack(reference, &wire).is_ok())
        };
        let lost = manifest.sections.iter().filter(|reference| !is_here(reference));
        lost.map(|reference| reference.digest).collect()
    }

    /// Keeps a section that somebody else kept, if it is what `manifest` says. Another packing of the same content
    /// stays: another manifest refers to it.
    ///
    /// # Errors
    /// [`BundleError::Damaged`] when it is something else, another when it could not be written.
    pub fn put_section(&self, manifest: &Manifest, digest: &Digest, wire: Bytes) -> Result<(), BundleError> {
        let name = PieceName::Section(*digest);
        let named = manifest.sections.iter().find(|reference| reference.digest == *digest);
        let reference = named.ok_or_else(|| self.damaged(&name, &"the manifest does not name it"))?;
        sections::unpack(reference, &wire).map_err(|error| self.damaged(&name, &error))?;
        if self.held(reference)?.is_some_and(|held| held != *reference) {
            return Err(self.damaged(&name, &"another revision has packed it otherwise"));
        }
        self.keep(vec![Piece::Section { digest: *digest, wire }]).map(drop)
    }

    /// What `manifest` says that its fleet serves.
    ///
    /// # Errors
    /// When a section is missing or damaged.
    pub fn snapshot(&self, manifest: &Manifest) -> Result<Snapshot, BundleError> {
        let mut raw = BTreeMap::new();
        for reference in &manifest.sections {
            let name = PieceName::Section(reference.digest);
            let wire = self.folder.bytes(&name)?;
            let wire = wire.ok_or_else(|| self.damaged(&name, &"it is missing"))?;
            let bytes = sections::unpack(reference, &wire).map_err(|error| self.damaged(&name, &error))?;
            raw.insert(reference.digest, bytes);
        }
        let name = manifest_name(&manifest.revision);
        let config =
            assemble(manifest, |digest| raw.get(digest).cloned()).map_err(|error| self.damaged(&name, &error))?;
        Snapshot::check(config).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            self.damaged(&name, &errors.join("; "))
        })
    }

    /// The revisions whose manifests are here.
    ///
    /// # Errors
    /// When the folder cannot be listed from end to end.
    pub fn list(&self) -> Result<BTreeSet<ManifestName>, BundleError> {
        Ok(self.folder.manifests()?)
    }

    /// Removes the manifests that are not in `keep`, and everything that no manifest left refers to. Removes nothing of
    /// that if any manifest left cannot be read: what it needs is then not known. At most `most` pieces at a time: whoever
    /// waits for this has other things to do. As many removed may mean that there are more.
    ///
    /// # Errors
    /// When something cannot be listed or removed; what is to be kept is still there.
    pub fn collect(&self, keep: &BTreeSet<ManifestName>, most: usize) -> Result<usize, BundleError> {
        let here = self.folder.manifests()?;
        let gone = here.difference(keep).take(most).cloned();
        let gone: BTreeSet<PieceName> = gone.map(PieceName::Manifest).collect();
        self.remove(&gone)?;
        if gone.len() == most {
            return Ok(most);
        }
        let mut needed = BTreeSet::new();
        for name in here.intersection(keep) {
            match self.needed_by(name)? {
                Some(names) => needed.extend(names),
                None => return Ok(gone.len()),
            }
        }
        let pieces = self.folder.pieces()?;
        let unneeded = pieces.into_iter().filter(|name| match name {
            PieceName::Section(_) | PieceName::Origins(_) => !needed.contains(name),
            PieceName::Manifest(_) => false,
        });
        let unneeded: BTreeSet<PieceName> = unneeded.take(most - gone.len()).collect();
        self.remove(&unneeded)?;
        Ok(gone.len() + unneeded.len())
    }

    /// What the manifest called `name` refers to; `None` if that cannot be told.
    fn needed_by(&self, name: &ManifestName) -> Result<Option<Vec<PieceName>>, BundleError> {
        let name = PieceName::Manifest(name.clone());
        let Some(Piece::Manifest {
            envelope, provenance, ..
        }) = self.folder.read(&name)?
        else {
            return Ok(None);
        };
        let manifest = open_manifest(&self.trusted, &self.audience, &envelope);
        let (Ok(manifest), Ok(provenance)) = (manifest, self.open_provenance(&name, provenance)) else {
            return Ok(None);
        };
        let sections = manifest
            .sections
            .iter()
            .map(|section| PieceName::Section(section.digest));
        let origins = provenance.into_iter().flat_map(|provenance| provenance.origins);
        let origins = origins.map(|origins| PieceName::Origins(origins.digest));
        Ok(Some(sections.chain(origins).collect()))
    }

    fn remove(&self, names: &BTreeSet<PieceName>) -> Result<(), BundleError> {
        if let Some(remote) = self.remote.as_ref().filter(|_| !names.is_empty()) {
            remote.remove(&self.audience.fleet, names)?;
        }
        Ok(names.iter().try_for_each(|name| self.folder.remove(name))?)
    }

    fn damaged(&self, name: &PieceName, what: &dyn std::fmt::Display) -> BundleError {
        BundleError::Damaged {
            place: self.folder.path(name).display().to_string(),
            what: what.to_string(),
            forgetting: self.forgetting.clone(),
        }
    }
}

fn manifest_name(revision: &RevisionId) -> PieceName {
    PieceName::Manifest(ManifestName::from(revision))
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
