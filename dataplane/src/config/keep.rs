//! What the intake writes down and when: everything before the swap; and what it does when the disk takes nothing.
//!
//! The reasons are in `docs/decisions/instance-state.md`.

use sluice_model::RevisionId;

use super::Intake;
use super::files::StateError;
use super::refusal::Refusal;
use super::target::Target;
use super::verify::GenuineOrder;

impl<T: Target> Intake<T> {
    /// Everything that a start with nobody there needs, before the swap: a swap that is forgotten could be undone by
    /// a restart. The candidate's note comes first: from then on an unclean end counts against the candidate.
    pub(super) fn keep(&mut self, order: &GenuineOrder, candidate: Option<RevisionId>) -> Result<(), StateError> {
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

    pub(super) fn must_be_remembered(&self, kept: Result<(), StateError>) -> Result<(), Refusal> {
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
    pub(super) fn only_takes_away(&self, order: &GenuineOrder) -> bool {
        let stays = self
            .live
            .as_ref()
            .is_some_and(|live| live.stable.revision == order.order.stable);
        stays && order.candidate_for(&self.identity.instance).is_none()
    }

    pub(super) fn note_writable(&self, written: Result<(), StateError>) {
        self.metrics.state_unwritable.set(i64::from(written.is_err()));
        if let Err(error) = written {
            tracing::error!(%error, "the state folder takes no writes");
        }
    }

    /// The order is in effect already. What the disk may have refused then is tried again; and if others vouch for it now,
    /// what they have signed takes the place of what was there: the keys of before are about to go.
    pub(super) fn keep_in_effect(&mut self, order: &GenuineOrder) -> Result<(), Refusal> {
        let candidate = order
            .candidate_for(&self.identity.instance)
            .map(|candidate| candidate.revision);
        let kept = match &self.live {
            Some(live) if !live.kept || live.order.envelope != order.envelope => self.keep(order, candidate),
            Some(_) | None => Ok(()),
        };
        let kept = self.must_be_remembered(kept);
        if let Some(live) = self.live.as_mut().filter(|_| kept.is_ok()) {
            live.kept = true;
            live.order.envelope = order.envelope.clone();
        }
        kept
    }
}
