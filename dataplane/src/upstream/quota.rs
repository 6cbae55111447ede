//! How many connections an instance may have to each place whose pool bounds them. Shared by its workers, so that the bound
//! is exact whichever of them a client meets.
//!
//! It is asked when a connection is to be opened, never by a request that goes over one that rests; and of places without a
//! bound nothing is kept. A [`Permit`] is as long as its connection, from before it is opened. Permits go to those who wait
//! for one (`upstream/pending.rs`) in the order in which they came, across workers.
//!
//! A connection at rest holds a permit too. When a request begins to wait, all workers are called to give up one that rests
//! there: each that is given up is claimed, so that one who waits costs one connection. For each that rests one more may
//! wait: it is no queue, but the moment in which that connection changes hands, or is closed for one that can be trusted more.
//! Who has been given one counts no more among those who wait.
//!
//! Connections of HTTP/2 need not change hands: where there may not be another one, those of all workers are lent (`lent`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sluice_model::pool_connections;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::lent::Lent;
use crate::pool::transport::Place;

/// The bounds of one instance.
#[derive(Debug)]
pub(crate) struct Quotas {
    known: Mutex<HashMap<Place, Weak<Quota>>>,
    /// Changes when connections at rest are to be given up.
    call: watch::Sender<()>,
}

impl Quotas {
    /// Of an instance without connections.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            known: Mutex::default(),
            call: watch::Sender::new(()),
        })
    }

    /// That of a place: the one that there is, or a new one. Settings belong to the place, by its transport.
    pub(crate) fn of(&self, place: Place, settings: pool_connections::Quota) -> Arc<Quota> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(quota) = known.get(&place).and_then(Weak::upgrade) {
            return quota;
        }
        let quota = Arc::new(Quota {
            permits: Arc::new(Semaphore::new(settings.connections.count())),
            pending_most: settings.pending.count(),
            waiting: Counts::default(),
            resting: AtomicUsize::new(0),
            lent: Lent::default(),
            call: self.call.clone(),
        });
        known.insert(place, Arc::downgrade(&quota));
        quota
    }

    /// Told when connections at rest are to be given up.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.call.subscribe()
    }

    /// Forgets the places to which there is no connection any more.
    pub(crate) fn prune(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, quota| quota.strong_count() > 0);
    }
}

/// The bound of one place.
#[derive(Debug)]
pub(crate) struct Quota {
    permits: Arc<Semaphore>,
    pending_most: usize,
    waiting: Counts,
    /// Connections without a request.
    resting: AtomicUsize,
    /// Those of HTTP/2.
    pub(super) lent: Lent,
    call: watch::Sender<()>,
}

/// Who waits. In one word, so that nobody sees one number without the other.
#[derive(Default, Debug)]
struct Counts(AtomicU64);

/// What they are at a moment.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// Requests that wait.
    pending: u32,
    /// Those of them for whom nobody has given up a connection yet.
    wanted: u32,
}

impl Counts {
    fn get(&self) -> Count {
        Count::of(self.0.load(Ordering::SeqCst))
    }

    /// Changes them, unless there is nothing to change. They are what they were.
    fn change(&self, change: impl Fn(Count) -> Option<Count>) -> Option<Count> {
        let change = |word| change(Count::of(word)).map(Count::word);
        let changed = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
        changed.ok().map(Count::of)
    }
}

impl Count {
    fn of(word: u64) -> Self {
        Self {
            pending: (word >> 32) as u32,
            wanted: word as u32,
        }
    }

    fn word(self) -> u64 {
        u64::from(self.pending) << 32 | u64::from(self.wanted)
    }
}

impl Quota {
    /// For one more connection, if there may be one and nobody waits for it.
    pub(crate) fn try_permit(self: &Arc<Self>) -> Option<Permit> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        Some(self.permit(permit))
    }

    /// For one more connection, when there may be one.
    pub(super) async fn next_permit(self: &Arc<Self>) -> Option<Permit> {
        // Fails only when the semaphore is closed, which nobody does.
        let permit = self.permits.clone().acquire_owned().await.ok()?;
        Some(self.permit(permit))
    }

    fn permit(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Permit {
        Permit {
            quota: self.clone(),
            _permit: permit,
        }
    }

    /// A place among those who wait; `None`: they are as many as may.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Waiting> {
        let most = self.pending_most.saturating_add(self.resting.load(Ordering::SeqCst));
        let before = self.waiting.change(|Count { pending, wanted }| {
            ((wanted as usize) < most).then(|| Count {
                pending: pending.saturating_add(1),
                wanted: wanted.saturating_add(1),
            })
        })?;
        if before.wanted == 0 {
            // While some are wanted none is laid to rest, so that one call is enough.
            self.call();
        }
        Some(Waiting { quota: self.clone() })
    }

    /// One more connection rests, or one less.
    pub(super) fn rests(&self, rests: bool) {
        if rests {
            self.resting.fetch_add(1, Ordering::SeqCst);
        } else {
            self.resting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Requests that wait.
    pub(crate) fn pending(&self) -> usize {
        self.waiting.get().pending as usize
    }

    /// Whether a connection at rest is to be given up.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.get().wanted > 0
    }

    /// Whether the caller is to close a connection for one who waits.
    pub(crate) fn claim(&self) -> bool {
        let claimed = self.waiting.change(|Count { pending, wanted }| {
            let wanted = wanted.checked_sub(1)?;
            Some(Count { pending, wanted })
        });
        claimed.is_some()
    }

    /// Calls the workers to give up connections at rest.
    pub(crate) fn call(&self) {
        self.call.send_replace(());
    }
}

/// One connection's place among those that there may be. Given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    quota: Arc<Quota>,
    _permit: OwnedSemaphorePermit,
}

impl Permit {
    /// What it is of.
    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }
}

/// A request that waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    quota: Arc<Quota>,
}

impl Waiting {
    /// What it waits for.
    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.quota.waiting.change(|Count { pending, wanted }| {
            let pending = pending.saturating_sub(1);
            // Served by a connection that ended by itself, it wants none any more.
            let wanted = wanted.min(pending);
            Some(Count { pending, wanted })
        });
    }
}

#[cfg(test)]
mod tests {
    use sluice_model::client_limits::Bounded;

    use super::*;
    use crate::pool::transport::Transports;

    fn place(port: u16) -> Place {
        Place {
            address: ([127, 0, 0, 1], port).into(),
            transport: Transports::default().get(&Arc::default()).id(),
        }
    }

    fn settings(connections: u64, pending: u64) -> pool_connections::Quota {
        pool_connections::Quota {
            connections: Bounded::new(connections).unwrap(),
            pending: Bounded::new(pending).unwrap(),
        }
    }

    #[test]
    fn a_place_has_one_bound_whoever_asks_and_it_is_forgotten_with_its_last_connection() {
        let quotas = Quotas::new();
        let of = |port| quotas.of(place(port), settings(2, 0));
        let (one, two) = (of(1).try_permit(), of(1).try_permit());
        assert!(one.is_some() && two.is_some());
        assert!(of(1).try_permit().is_none() && of(2).try_permit().is_some());
        drop(one);
        let again = of(1).try_permit();
        assert!(again.is_some() && of(1).try_permit().is_none());
        quotas.prune();
        assert_eq!(quotas.known.lock().unwrap().len(), 1, "nobody is at the other");
        drop((two, again));
        quotas.prune();
        assert!(quotas.known.lock().unwrap().is_empty());
    }

    #[test]
    fn so_many_wait_and_each_costs_one_connection() {
        let quotas = Quotas::new();
        let mut called = quotas.subscribe();
        let quota = quotas.of(place(1), settings(1, 2));
        assert!(!quota.claim(), "nobody waits");
        let (first, second) = (quota.enter().unwrap(), quota.enter().unwrap());
        assert!(quota.enter().is_none() && quota.pending() == 2);
        assert!(called.has_changed().unwrap());
        called.mark_unchanged();
        assert!(quota.claim() && quota.claim() && !quota.claim());
        let third = quota.enter().unwrap();
        assert!(called.has_changed().unwrap(), "the claimed ones were not for it");
        assert_eq!(quota.pending(), 3, "who has been given one is about to be served");
        drop((first, second, third));
        assert!(!quota.is_wanted() && quota.pending() == 0);
    }

    #[test]
    fn who_is_served_otherwise_wants_no_connection() {
        let quota = Quotas::new().of(place(1), settings(1, 9));
        let (first, second) = (quota.enter().unwrap(), quota.enter().unwrap());
        drop(first);
        assert!(quota.claim() && !quota.claim());
        drop(second);
    }

    #[test]
    fn one_more_waits_for_each_that_rests() {
        let quota = Quotas::new().of(place(1), settings(2, 0));
        assert!(quota.enter().is_none());
        quota.rests(true);
        let waiting = quota.enter();
        assert!(waiting.is_some() && quota.enter().is_none());
        quota.rests(false);
        drop(waiting);
        assert!(quota.enter().is_none());
    }

    #[tokio::test]
    async fn permits_go_to_who_waits_and_not_past_him() {
        let quota = Quotas::new().of(place(1), settings(1, 9));
        let held = quota.try_permit().unwrap();
        let mut first = std::pin::pin!(quota.next_permit());
        assert!(now(first.as_mut()).await.is_none());
        drop(held);
        assert!(quota.try_permit().is_none(), "it is the other's");
        let got = first.await;
        assert!(got.is_some());
        drop(got);
        assert!(quota.try_permit().is_some());
    }

    /// What a future has now.
    async fn now<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
