//! The start: what is on disk is verified as if it had just arrived, and its stable revision is served.
//!
//! Never the candidate: the controller sends its order again when a stream opens, and then it comes back, unless it
//! brought the last process down.

use std::sync::Arc;

use sluice_model::limits::{MAX_ENVELOPE_OVERHEAD_BYTES, MAX_ORDER_BYTES};
use sluice_proto::LastEnd;

use super::target::{NewLive, Target};
use super::verify::{self, GenuineOrder};
use super::{Intake, LiveNow};

impl<T: Target> Intake<T> {
    pub(super) fn recall(&mut self) {
        match self.disk.heeded() {
            Ok(heeded) => self.heeded = heeded,
            Err(error) => tracing::error!(%error, "the last epoch is lost; the epoch of the last order counts"),
        }
        match self.disk.candidate() {
            Ok(crashed) => {
                self.last_end = crashed.as_ref().map_or(LastEnd::Harmless, |_| LastEnd::Crash);
                self.crashed = crashed;
            }
            Err(error) => tracing::error!(%error, "cannot tell whether the last run ended in good order"),
        }
        if let Some(candidate) = &self.crashed {
            tracing::warn!(
                candidate,
                "the last run ended uncleanly while it carried a candidate; starting on stable"
            );
        }
    }

    pub(super) fn restore(&mut self) {
        let order = match self.disk.order(MAX_ORDER_BYTES + MAX_ENVELOPE_OVERHEAD_BYTES) {
            Ok(None) => {
                tracing::info!(folder = %self.disk.path().display(), "nothing kept yet; waiting for the controller");
                return;
            }
            Ok(Some(envelope)) => verify::order(&self.identity, envelope).map_err(|refusal| refusal.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = order.and_then(|order| self.serve_kept(order)) {
            tracing::error!(
                error,
                folder = %self.disk.path().display(),
                "the last good configuration cannot be served; waiting for the controller, not ready until then"
            );
        }
        if let Some(heeded) = self.heeded {
            self.heed(heeded); // tells at once whether the folder can be written
        }
    }

    /// Serves the stable revision of the order kept. Never its candidate: the controller will order it again.
    fn serve_kept(&mut self, order: GenuineOrder) -> Result<(), String> {
        if self.heeded.is_none_or(|heeded| heeded.epoch < order.heeded.epoch) {
            self.heeded = Some(order.heeded);
        }
        let revision = order.order.stable;
        self.find_manifests(&order); // a candidate's too, so that it is not tidied away
        let missing = || format!("the manifest of revision {revision} is missing or damaged");
        let manifest = self.manifests.get(&revision).ok_or_else(missing)?;
        if let Some(section) = manifest.manifest.sections.iter().find(|s| !self.sections.ensure(s)) {
            return Err(format!(
                "section {} of revision {revision} is missing or damaged",
                section.digest
            ));
        }
        let side = self
            .build_stable(revision, &order.order.counted)
            .map_err(|refusal| refusal.to_string())?;
        let ports = self.target.prepare(side.snapshot.listeners())?;
        let live = NewLive {
            epoch: order.heeded.epoch,
            stable: Arc::clone(&side.built),
            candidate: None,
        };
        self.target.swap(ports, live);
        self.booted_epoch = order.heeded.epoch;
        self.now_live(LiveNow {
            order,
            stable: side,
            candidate: None,
            kept: true,
        });
        Ok(())
    }
}
