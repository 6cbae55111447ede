//! The HTTP/2 connections of all workers to one place whose connections are bounded.
//!
//! A worker opens connections of its own as long as there may be more. When there may not, its requests take streams of those
//! that other workers have: a codec's handles belong to no thread, and its driver goes on where it began. So a bound that is
//! smaller than the number of workers costs a hop between two threads, and refuses nobody while a stream is free; nothing that
//! is in use has to be given up for anybody.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::http2::{Connection, Slot};

/// Connections of one place, as long as somebody has them.
#[derive(Default, Debug)]
pub(crate) struct Lent {
    known: Mutex<Vec<Weak<Connection>>>,
    /// One is told for each stream that ends while requests wait.
    freed: Notify,
}

impl Lent {
    /// One more was opened. All who wait may look.
    pub(super) fn add(&self, connection: &Arc<Connection>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push(Arc::downgrade(connection));
        drop(known);
        self.freed.notify_waiters();
    }

    /// A stream has ended: who has waited longest may look.
    pub(super) fn one_less(&self) {
        self.freed.notify_one();
    }

    /// Ready when it is this one's turn to look. One that is dropped after it was told has the next told.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// A stream of whichever has room; of `avoid` only if no other has. Those that take no more requests are let go of.
    pub(super) fn slot(&self, avoid: Option<&Arc<Connection>>) -> Option<Slot> {
        let (mut slot, mut avoided) = (None, None);
        self.each(|connection| {
            if avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, &connection)) {
                avoided = Some(connection);
            } else if slot.is_none() {
                slot = connection.slot();
            }
        });
        slot.or_else(|| avoided?.slot())
    }

    /// Whether one has room.
    pub(super) fn has_room(&self) -> bool {
        let mut room = false;
        self.each(|connection| room |= connection.has_room());
        room
    }

    fn each(&self, mut look: impl FnMut(Arc<Connection>)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|connection| match connection.upgrade() {
            Some(connection) if !connection.is_leaving() => {
                look(connection);
                true
            }
            Some(_) | None => false,
        });
    }
}
