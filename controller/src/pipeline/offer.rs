//! What a fleet's objects compiled to → a revision of it, kept and signed, and offered to the rollout core. Nothing is
//! signed that is already there under another number.

use std::sync::Arc;
use std::time::Instant;

use sluice_model::limits::REVISION_RETRY_MS;
use sluice_model::{RevisionId, Snapshot};
use sluice_proto::sections::revision_digest;
use sluice_proto::{Manifest, ObjectChange, OriginsRef, Provenance, SectionRef};

use super::fleet::{Fleet, Next};
use super::story::Happening;
use crate::compile::{ChangedObject, Compiled, Stable};
use crate::live::Values;
use crate::rollout::{Event, Millis, Target};

/// Why a revision could not be made.
#[derive(Debug, thiserror::Error)]
enum OfferError {
    #[error(transparent)]
    Bundle(#[from] crate::revisions::BundleError),
    #[error("it could not be signed: {0}")]
    Sign(#[from] crate::sign::SignError),
}

impl Fleet {
    /// Offers what the objects compile to. `values` is what is known of what they refer to.
    pub fn offer(&mut self, compiled: Compiled, values: &Values, now: Millis) -> Next {
        self.quarantined = compiled
            .quarantined
            .iter()
            .map(|quarantined| quarantined.object.clone())
            .collect();
        self.shared.telemetry.quarantined(&self.name, self.quarantined.len());
        self.note_chosen(&compiled);
        let Some(snapshot) = &compiled.snapshot else {
            return Next::Nothing;
        };
        self.note_written(snapshot);
        let features: Vec<String> = snapshot.features().iter().map(ToString::to_string).collect();
        if let Some((instances, feature)) = self.lacking(&features) {
            let what = format!("held: {instances} instances lack {feature}; upgrade them");
            if self.withheld.as_ref() != Some(&what) {
                self.tell(Happening::Trouble(what.clone()), now);
                self.withheld = Some(what);
            }
            return Next::Nothing;
        }
        self.withheld = None;
        if self.waits_for_values(snapshot, values, now) {
            return Next::Nothing;
        }
        let revision = match self.revision(snapshot, features, &compiled, now) {
            Ok(None) => return Next::Nothing, // compiled again when stable is back
            Ok(Some(revision)) => {
                self.retry_at = None;
                revision
            }
            Err(error) => {
                self.retry_at = Some(Millis(now.0.saturating_add(REVISION_RETRY_MS)));
                self.trouble(format!("no revision could be made: {error}"), now);
                return Next::Nothing;
            }
        };
        self.note_offered(revision);
        let listed = compiled.listed_changes();
        let target = Target {
            revision,
            basis: self.core.record().basis(),
            changed: listed.changed.iter().map(|changed| changed.to_rollout()).collect(),
            unlisted: listed.unlisted,
            scopes: compiled.scopes,
            still_held: compiled.still_held,
            instead_of: compiled.instead_of,
        };
        if let Some(snapshot) = compiled.snapshot {
            let content = Stable {
                snapshot: Arc::new(snapshot),
                sources: compiled.sources,
            };
            self.note_content(revision, content);
        }
        self.happen(Event::NewTarget(target), now)
    }

    /// The revision of this content: one that is in use and has it, or a new one, kept and signed. `None` while stable
    /// may still be handed back and this is something else.
    fn revision(
        &mut self,
        snapshot: &Snapshot,
        features: Vec<String>,
        compiled: &Compiled,
        now: Millis,
    ) -> Result<Option<RevisionId>, OfferError> {
        let sections = self.revisions.put_sections(snapshot)?;
        let digest = revision_digest(&sections);
        let is_stable = self.core.record().stable.map(|stable| stable.digest) == Some(digest);
        if self.awaits_stable() && !is_stable {
            return Ok(None);
        }
        let number = match self.known(digest) {
            // In use, and its manifest is here.
            Some(known) if self.revisions.manifest(&known)?.is_some() => {
                self.look_again(&known);
                return Ok(Some(known));
            }
            // In use, and its manifest is lost: it is made again.
            Some(known) => known.number,
            None => self.greatest_number().saturating_add(1),
        };
        let revision = RevisionId { number, digest };
        let origins = compiled.sources.iter();
        let origins = origins.map(|(object, source)| (object.clone(), source.to_string()));
        let origins = self.revisions.put_origins(origins.collect())?;
        let began = Instant::now();
        let manifest = self.manifest(revision, sections, features, now);
        let envelope = self.shared.signers.manifest(&manifest)?;
        let provenance = self.provenance(revision, compiled, origins);
        let provenance = self.shared.signers.provenance(&provenance)?;
        self.shared
            .telemetry
            .sign_seconds
            .observe(began.elapsed().as_secs_f64());
        self.revisions.put_manifest(revision, &envelope, Some(provenance))?;
        self.is_stored(revision);
        Ok(Some(revision))
    }

    /// A revision of this content that the record names.
    fn known(&self, digest: sluice_model::Digest) -> Option<RevisionId> {
        let record = self.core.record();
        let tried = record.rollout.iter().map(|rollout| rollout.target.revision);
        let queued = record.queued.iter().map(|target| target.revision);
        let blocked = record.blocked.iter().map(|blocked| blocked.revision);
        let mut known = record.stable.into_iter().chain(tried).chain(queued).chain(blocked);
        known.find(|revision| revision.digest == digest)
    }

    fn manifest(
        &self,
        revision: RevisionId,
        sections: Vec<SectionRef>,
        features: Vec<String>,
        now: Millis,
    ) -> Manifest {
        let mut quarantined = self.quarantined.clone();
        quarantined.sort();
        quarantined.dedup();
        Manifest {
            cluster: self.shared.cluster.clone(),
            fleet: self.name.clone(),
            revision,
            sections,
            features,
            controller_build: concat!("sluice-controller ", env!("CARGO_PKG_VERSION")).to_owned(),
            created_at_unix_ms: now.0,
            quarantined,
        }
    }

    fn provenance(&self, revision: RevisionId, compiled: &Compiled, origins: Vec<OriginsRef>) -> Provenance {
        let listed = compiled.listed_changes();
        let change = |change: &ChangedObject| ObjectChange {
            object: change.object.clone(),
            old: change.before,
            new: change.after,
        };
        let mut changed: Vec<ObjectChange> = listed.changed.into_iter().map(change).collect();
        changed.sort_by(|one, next| one.object.cmp(&next.object));
        Provenance {
            cluster: self.shared.cluster.clone(),
            fleet: self.name.clone(),
            revision,
            changed,
            unlisted: u64::try_from(listed.unlisted).unwrap_or(u64::MAX),
            origins,
        }
    }

    /// Whether a revision is held because connected instances do not understand it.
    pub fn is_withholding(&self) -> bool {
        self.withheld.is_some()
    }
}
