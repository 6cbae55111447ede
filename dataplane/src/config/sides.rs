//! The two sides of what serves: stable and, on a member, the candidate. Each is built anew only when its revision or
//! what is to be counted changed, and takes over from the one before it.

use std::sync::Arc;

use sluice_model::unit::Listener;
use sluice_model::{ObjectKey, RevisionId};
use sluice_proto::order::FULL_SHARE_MILLIONTHS;
use sluice_proto::report::ServedRole;

use super::refusal::Refusal;
use super::target::{Blueprint, Target};
use super::verify::GenuineOrder;
use super::{Intake, Side, Trial, build};

impl<T: Target> Intake<T> {
    pub(super) fn build_stable(&self, revision: RevisionId, counted: &[ObjectKey]) -> Result<Side<T::Built>, Refusal> {
        let live = self.live.as_ref();
        let same = live.filter(|live| live.stable.revision == revision && live.order.order.counted == counted);
        if let Some(live) = same {
            return Ok(live.stable.clone());
        }
        // A promoted candidate is taken over with what it learned.
        let promoted = live
            .and_then(|live| live.candidate.as_ref())
            .filter(|side| side.revision == revision);
        let previous = promoted.or_else(|| live.map(|live| &live.stable));
        self.build_side(revision, ServedRole::Stable, counted, previous)
    }

    pub(super) fn build_candidate(
        &self,
        order: &GenuineOrder,
        stable: &Side<T::Built>,
        counted: &[ObjectKey],
    ) -> Result<Option<Trial<T::Built>>, Refusal> {
        let Some(candidate) = order.candidate_for(&self.identity.instance) else {
            return Ok(None);
        };
        let share = candidate.share_millionths;
        let live = self.live.as_ref().filter(|live| live.order.order.counted == counted);
        let same = live
            .and_then(|live| live.candidate.as_ref())
            .filter(|side| side.revision == candidate.revision);
        if let Some(side) = same {
            return Ok(Some((side.clone(), share)));
        }
        let side = self.build_side(candidate.revision, ServedRole::Candidate, counted, Some(stable))?;
        Ok(Some((side, share)))
    }

    fn build_side(
        &self,
        revision: RevisionId,
        role: ServedRole,
        counted: &[ObjectKey],
        previous: Option<&Side<T::Built>>,
    ) -> Result<Side<T::Built>, Refusal> {
        let snapshot = match previous.filter(|side| side.revision == revision) {
            Some(side) => Arc::clone(&side.snapshot),
            None => {
                let manifest = self.manifests.get(&revision).ok_or_else(|| Refusal::Invalid {
                    revision,
                    detail: "its manifest is not at hand".to_owned(),
                })?;
                build::assemble(&manifest.manifest, &self.sections)?
            }
        };
        let blueprint = Blueprint {
            revision,
            role,
            snapshot: Arc::clone(&snapshot),
            counted,
            previous: previous.map(|side| side.built.as_ref()),
        };
        let built = build::build(&self.target, blueprint)?;
        Ok(Side {
            revision,
            snapshot,
            built,
        })
    }
}

/// Where the instance listens: as stable says, and as a candidate that gets every request says. What both name is the
/// candidate's; what only stable names stays open, so that rolling back never has to win a port again.
pub(super) fn listeners_of<B>(stable: &Side<B>, candidate: Option<&Side<B>>, share: Option<u32>) -> Vec<Listener> {
    let leading = candidate.filter(|_| share == Some(FULL_SHARE_MILLIONTHS));
    let mut listeners = leading
        .map(|side| side.snapshot.listeners().to_vec())
        .unwrap_or_default();
    for listener in stable.snapshot.listeners() {
        if !listeners
            .iter()
            .any(|l| l.name == listener.name || l.port == listener.port)
        {
            listeners.push(listener.clone());
        }
    }
    listeners
}
