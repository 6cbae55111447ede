//! Where a request goes, how that is spoken to, and whether one more connection may be opened there.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use sluice_model::unit;
use tokio::time::{Instant, timeout_at};

use super::dial::Unreached;
use super::http2::Slot;
use super::quota::{Permit, Quota, Quotas};
use crate::pool::transport::Place;
use crate::worker::lane::Spoken;

/// What a request has waited for.
enum Kept {
    Permit(Permit),
    Slot(Slot),
}

/// Where a request goes.
pub(crate) struct Way {
    /// The endpoint.
    pub(crate) place: Place,
    /// How it is spoken to.
    pub(crate) transport: Rc<Spoken>,
    /// What it has waited for. In a box, since few do and a way is part of each request.
    kept: Cell<Option<Box<Kept>>>,
    /// When the try ends, if its rule bounds it.
    try_ends: Cell<Option<Instant>>,
}

impl Way {
    /// To this place.
    pub(crate) fn new(place: Place, transport: Rc<Spoken>) -> Self {
        Self {
            place,
            transport,
            kept: Cell::new(None),
            try_ends: Cell::new(None),
        }
    }

    /// A try begins that may last until then.
    pub(crate) fn try_until(&self, ends: Instant) {
        self.try_ends.set(Some(ends));
    }

    /// Does what nothing of a request is needed for within the time of the try, so that the request is still there when that
    /// is over.
    ///
    /// # Errors
    /// Those of `work`, or that it took too long.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = Result<T, Unreached>>) -> Result<T, Unreached> {
        match self.try_ends.get() {
            None => work.await,
            Some(ends) => timeout_at(ends, work).await.unwrap_or(Err(Unreached::TryOver)),
        }
    }

    /// What is configured.
    pub(crate) fn settings(&self) -> &unit::Transport {
        self.transport.settings()
    }

    /// The bound on its connections, if there is one.
    pub(crate) fn quota(&self, quotas: &Quotas) -> Option<Arc<Quota>> {
        let settings = self.settings().connections.quota?;
        Some(quotas.of(self.place, settings))
    }

    /// Keeps what the next connection needs.
    pub(crate) fn keep(&self, permit: Permit) {
        self.kept.set(Some(Box::new(Kept::Permit(permit))));
    }

    /// Keeps a stream that the request was handed.
    pub(crate) fn keep_slot(&self, slot: Slot) {
        self.kept.set(Some(Box::new(Kept::Slot(slot))));
    }

    /// The stream that was kept.
    pub(super) fn kept_slot(&self) -> Option<Slot> {
        match self.kept.take().map(|kept| *kept) {
            Some(Kept::Slot(slot)) => Some(slot),
            Some(kept @ Kept::Permit(_)) => {
                self.kept.set(Some(Box::new(kept)));
                None
            }
            None => None,
        }
    }

    /// Gives up what was kept and not needed.
    pub(crate) fn give_up(&self) {
        drop(self.kept.take());
    }

    /// What one more connection needs: nothing, where there is no bound.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub(crate) fn permit(&self, quotas: &Quotas) -> Result<Option<Permit>, Unreached> {
        match (self.kept.take().map(|kept| *kept), self.quota(quotas)) {
            (Some(Kept::Permit(permit)), _) => Ok(Some(permit)),
            (_, None) => Ok(None),
            (_, Some(quota)) => quota.try_permit().map(Some).ok_or(Unreached::Full),
        }
    }
}
