//! The requests of one worker that wait for a connection to a place that has as many as it may (`quota`).
//!
//! A connection that comes back is handed to the one that has waited longest in its own worker, so that it need not be opened
//! anew for each request; now and then it is closed instead, if others wait elsewhere, and its permit goes to who has waited
//! longest in the whole instance. So workers get connections in the measure in which their requests wait for them.
//!
//! It holds whatever a connection is (`Pending<C>`), as `pool::connections` does.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use sluice_model::limits::UPSTREAM_HAND_OVERS_MAX;
use tokio::sync::oneshot;

use super::http2::Slot;
use super::quota::{Permit, Quota};
use crate::pool::transport::Place;

/// How the wait of a request ends.
#[derive(Debug)]
pub(crate) enum Turn<C> {
    /// A connection was handed to it.
    Connection(C),
    /// It may open one.
    Permit(Permit),
    /// It has a stream of a connection that requests share.
    Stream(Slot),
}

/// What a request can begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wants {
    /// A stream of one that others share.
    Stream,
    /// A connection of its own.
    Own,
    /// One that was never used.
    Fresh,
}

/// Those of one place, in the order in which they came.
#[derive(Debug)]
struct Queue<C> {
    waiting: BTreeMap<u64, oneshot::Sender<C>>,
    /// Connections handed over since one was given up.
    handed_over: usize,
}

/// Requests that wait, by place.
#[derive(Debug)]
pub(crate) struct Pending<C> {
    queues: RefCell<HashMap<Place, Queue<C>>>,
    came: Cell<u64>,
}

impl<C> Default for Pending<C> {
    fn default() -> Self {
        Self {
            queues: RefCell::default(),
            came: Cell::new(0),
        }
    }
}

impl<C> Default for Queue<C> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            handed_over: 0,
        }
    }
}

impl<C> Queue<C> {
    /// Gives a connection to the one that has waited longest; here it is again if there is none.
    fn hand_over(&mut self, mut connection: C) -> Option<C> {
        while let Some((_, first)) = self.waiting.pop_first() {
            match first.send(connection) {
                Ok(()) => {
                    self.handed_over = self.handed_over.saturating_add(1);
                    return None;
                }
                Err(back) => connection = back,
            }
        }
        Some(connection)
    }
}

impl<C> Pending<C> {
    /// Until it is the turn of a request, which counts among those who wait. `None`: never.
    pub(crate) async fn turn(&self, place: Place, quota: &Arc<Quota>, wants: Wants) -> Option<Turn<C>> {
        if wants == Wants::Fresh {
            return quota.next_permit().await.map(Turn::Permit);
        }
        let (tell, told) = oneshot::channel();
        let _seat = self.sit(place, tell);
        let mut line = (wants == Wants::Stream).then(|| quota.lent.join());
        let stream = poll_fn(|cx| match &mut line {
            Some(line) => Pin::new(line).poll(cx),
            None => Poll::Pending,
        });
        tokio::select! {
            biased;
            Ok(connection) = told => Some(Turn::Connection(connection)),
            Some(slot) = stream => Some(Turn::Stream(slot)),
            permit = quota.next_permit() => permit.map(Turn::Permit),
        }
    }

    fn sit(&self, place: Place, tell: oneshot::Sender<C>) -> Seat<'_, C> {
        let number = self.came.get();
        self.came.set(number.wrapping_add(1));
        let mut queues = self.queues.borrow_mut();
        queues.entry(place).or_default().waiting.insert(number, tell);
        Seat {
            pending: self,
            place,
            number,
        }
    }

    /// What becomes of a connection that has had its request: it is handed over, closed for who waits elsewhere, or else
    /// here it is again, to rest.
    pub(crate) fn take_back(&self, place: Place, quota: &Quota, mut connection: C) -> Option<C> {
        let pending = quota.pending();
        if pending == 0 {
            return Some(connection);
        }
        if let Some(queue) = self.queues.borrow_mut().get_mut(&place) {
            let elsewhere = pending > queue.waiting.len();
            if elsewhere && queue.handed_over >= UPSTREAM_HAND_OVERS_MAX && quota.claim() {
                queue.handed_over = 0;
                return None;
            }
            connection = queue.hand_over(connection)?;
        }
        (!quota.claim()).then_some(connection)
    }
}

/// The place of a request in a queue, until this is dropped.
struct Seat<'a, C> {
    pending: &'a Pending<C>,
    place: Place,
    number: u64,
}

impl<C> Drop for Seat<'_, C> {
    fn drop(&mut self) {
        let mut queues = self.pending.queues.borrow_mut();
        if let Some(queue) = queues.get_mut(&self.place) {
            queue.waiting.remove(&self.number);
            if queue.waiting.is_empty() {
                queues.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use sluice_model::client_limits::Bounded;
    use sluice_model::pool_connections;

    use super::super::quota::Quotas;
    use super::*;
    use crate::pool::transport::Transports;

    fn place() -> Place {
        Place {
            address: ([127, 0, 0, 1], 80).into(),
            transport: Transports::default().get(&Arc::default()).id(),
        }
    }

    fn quota(connections: u64) -> Arc<Quota> {
        let settings = pool_connections::Quota {
            connections: Bounded::new(connections).unwrap(),
            pending: Bounded::new(100).unwrap(),
        };
        Quotas::new().of(place(), settings)
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_has_waited_longest_gets_what_comes_back() {
        let (pending, quota) = (Pending::default(), quota(1));
        let held = quota.try_permit().unwrap();
        assert_eq!(pending.take_back(place(), &quota, 1), Some(1), "nobody waits");
        let _both = (quota.enter().unwrap(), quota.enter().unwrap());
        let mut first = Box::pin(pending.turn(place(), &quota, Wants::Own));
        let mut second = pin!(pending.turn(place(), &quota, Wants::Own));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        assert_eq!(pending.take_back(place(), &quota, 2), None);
        assert!(poll(second.as_mut()).is_pending());
        assert!(matches!(poll(first.as_mut()), Poll::Ready(Some(Turn::Connection(2)))));
        drop(first);
        drop(held);
        assert!(matches!(poll(second.as_mut()), Poll::Ready(Some(Turn::Permit(_)))));
    }

    #[test]
    fn who_has_left_gets_nothing_and_is_forgotten() {
        let (pending, quota) = (Pending::default(), quota(1));
        let held = quota.try_permit().unwrap();
        let waiting = quota.enter().unwrap();
        let mut gone = Box::pin(pending.turn(place(), &quota, Wants::Own));
        assert!(poll(gone.as_mut()).is_pending());
        drop((gone, waiting));
        assert_eq!(pending.take_back(place(), &quota, 1), Some(1));
        assert!(pending.queues.borrow().is_empty());
        drop(held);
        assert!(quota.try_permit().is_some(), "its turn for a permit went with it");
    }

    #[test]
    fn one_that_wants_its_own_is_handed_none() {
        let (pending, quota) = (Pending::default(), quota(1));
        let held = quota.try_permit().unwrap();
        let _waiting = quota.enter().unwrap();
        let mut fresh = pin!(pending.turn(place(), &quota, Wants::Fresh));
        assert!(poll(fresh.as_mut()).is_pending());
        assert_eq!(pending.take_back(place(), &quota, 1), None, "closed for it");
        drop(held);
        assert!(matches!(poll(fresh.as_mut()), Poll::Ready(Some(Turn::Permit(_)))));
    }

    #[test]
    fn who_waits_elsewhere_gets_his_share() {
        let (pending, quota) = (Pending::default(), quota(1));
        let _held = quota.try_permit().unwrap();
        let _elsewhere = quota.enter().unwrap();
        let _own: Vec<_> = (0..20).map(|_| quota.enter().unwrap()).collect();
        let mut own: Vec<_> = (0..20)
            .map(|_| Box::pin(pending.turn(place(), &quota, Wants::Own)))
            .collect();
        assert!(own.iter_mut().all(|own| poll(own.as_mut()).is_pending()));
        for number in 0..=UPSTREAM_HAND_OVERS_MAX {
            assert_eq!(pending.take_back(place(), &quota, number), None);
        }
        let handed = own.iter_mut().filter_map(|own| match poll(own.as_mut()) {
            Poll::Ready(Some(Turn::Connection(number))) => Some(number),
            Poll::Ready(_) | Poll::Pending => None,
        });
        let handed: Vec<usize> = handed.collect();
        assert_eq!(
            handed,
            (0..UPSTREAM_HAND_OVERS_MAX).collect::<Vec<_>>(),
            "the one after them was closed"
        );
    }
}
