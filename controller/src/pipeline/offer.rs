//! What a fleet's objects compiled to → a revision of it, kept and signed, and offered to the rollout core. Nothing is
//! signed that is already there under another number.

use std::time::Instant;

use sluice_model::limits::REVISION_RETRY_MS;
use sluice_model::{RevisionId, Snapshot};
use sluice_proto::sections::revision_digest;
use sluice_proto::{Manifest, ObjectChange, SectionRef, SourceRef};

use super::fleet::{Fleet, Next};
use super::story::Happening;
use crate::compile::Compiled;
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
        let target = Target {
            revision,
            basis: self.core.record().basis(),
            changed: compiled
                .changed
                .iter()
                .map(crate::compile::ChangedObject::to_rollout)
                .collect(),
            scopes: compiled.scopes,
            still_held: compiled.still_held,
        };
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
        let began = Instant::now();
        let manifest = self.manifest(revision, sections, features, compiled, now);
        let envelope = self.shared.signers.manifest(&manifest)?;
        self.shared
            .telemetry
            .sign_seconds
            .observe(began.elapsed().as_secs_f64());
        self.revisions.put_manifest(revision, &envelope)?;
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
        compiled: &Compiled,
        now: Millis,
    ) -> Manifest {
        let mut changed: Vec<ObjectChange> = compiled
            .changed
            .iter()
            .map(|change| ObjectChange {
                object: change.object.clone(),
                old: change.before,
                new: change.after,
            })
            .collect();
        changed.sort_by(|one, next| one.object.cmp(&next.object));
        let units = compiled.snapshot.iter().flat_map(|snapshot| &snapshot.config().units);
        let sources = units.filter_map(|(object, unit)| {
            Some(SourceRef {
                object: object.clone(),
                content: sluice_proto::sections::unit_digest(object, unit),
                origin: compiled.sources.get(object)?.to_string(),
            })
        });
        let mut quarantined = self.quarantined.clone();
        quarantined.sort();
        quarantined.dedup();
        Manifest {
            cluster: self.shared.cluster.clone(),
            fleet: self.name.clone(),
            revision,
            sections,
            features,
            changed,
            sources: sources.collect(),
            controller_build: concat!("sluice-controller ", env!("CARGO_PKG_VERSION")).to_owned(),
            created_at_unix_ms: now.0,
            quarantined,
        }
    }

    /// Whether a revision is held because connected instances do not understand it.
    pub fn is_withholding(&self) -> bool {
        self.withheld.is_some()
    }
}
