//! The HTTP/2 connections of all workers to one place whose connections are bounded, and the line of requests that wait for a
//! stream of one.
//!
//! A worker opens connections of its own as long as there may be more. When there may not, its requests take streams of those
//! that other workers have: a codec's handles belong to no thread, and its driver goes on where it began. So a bound that is
//! smaller than the number of workers costs a hop between two threads, and refuses nobody while a stream is free; nothing that
//! is in use has to be given up for anybody.
//!
//! A stream that ends is handed to who has waited longest, and nobody who comes later takes it before. Whoever changes what
//! there is (a stream, a connection, what an endpoint allows) serves the line after it; whoever joins the line serves it too,
//! so that nothing which came free in between is missed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::http2::{Connection, Slot};
use super::multiplexed::Opening;

/// Those of one place.
#[derive(Default, Debug)]
pub(crate) struct Lent {
    inner: Mutex<Inner>,
    /// How many are in the line, to be read without the lock.
    waiting: AtomicUsize,
}

#[derive(Default, Debug)]
struct Inner {
    /// Connections, as long as somebody has them.
    known: Vec<Weak<Connection>>,
    /// The one that was begun to be opened last.
    opening: Option<Opening>,
    /// In the order in which they came.
    line: BTreeMap<u64, oneshot::Sender<Slot>>,
    came: u64,
}

/// A place in the line, until this is dropped.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    lent: &'a Lent,
    number: u64,
    served: oneshot::Receiver<Slot>,
}

impl Inner {
    /// A stream of whichever has room; of `avoid` only if no other has. Those that take no more requests are let go of.
    fn slot(&mut self, avoid: Option<&Arc<Connection>>) -> Option<Slot> {
        let (mut slot, mut avoided) = (None, None);
        self.known.retain(|connection| match connection.upgrade() {
            Some(connection) if !connection.is_leaving() => {
                if avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, &connection)) {
                    avoided = Some(connection);
                } else if slot.is_none() {
                    slot = connection.slot();
                }
                true
            }
            Some(_) | None => false,
        });
        slot.or_else(|| avoided?.slot())
    }
}

impl Lent {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One is begun to be opened, if `begin` may: whoever may not knows of the one that may.
    pub(super) fn opens<T, E>(&self, begin: impl FnOnce() -> Result<(T, Opening), E>) -> Result<(T, Opening), E> {
        let mut inner = self.inner();
        let begun = begin()?;
        inner.opening = Some(begun.1.clone());
        Ok(begun)
    }

    /// One that is being opened.
    pub(super) fn opening(&self) -> Option<Opening> {
        let opening = self.inner().opening.clone()?;
        // Its end is told, or dropped with the worker.
        let lasts = opening.borrow().is_none() && opening.has_changed().is_ok();
        lasts.then_some(opening)
    }

    /// One more was opened.
    pub(super) fn add(&self, connection: &Arc<Connection>) {
        self.inner().known.push(Arc::downgrade(connection));
        self.serve();
    }

    /// Whether requests are in the line: then who comes now joins it.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// A stream for one who comes, if nobody waits for it.
    pub(super) fn slot(&self, avoid: Option<&Arc<Connection>>) -> Option<Slot> {
        let mut inner = self.inner();
        if inner.line.is_empty() { inner.slot(avoid) } else { None }
    }

    /// Joins the line.
    pub(super) fn join(&self) -> Seat<'_> {
        let (tell, served) = oneshot::channel();
        let mut inner = self.inner();
        let number = inner.came;
        inner.came = number.wrapping_add(1);
        inner.line.insert(number, tell);
        self.waiting.store(inner.line.len(), Ordering::SeqCst);
        drop(inner);
        self.serve();
        Seat {
            lent: self,
            number,
            served,
        }
    }

    /// Hands what is free to those who have waited longest.
    pub(super) fn serve(&self) {
        if !self.is_waited_for() {
            return;
        }
        let mut inner = self.inner();
        let mut refused = None;
        while !inner.line.is_empty()
            && let Some(slot) = refused.take().or_else(|| inner.slot(None))
            && let Some((_, first)) = inner.line.pop_first()
        {
            self.waiting.store(inner.line.len(), Ordering::SeqCst);
            // By one who has left.
            refused = first.send(slot).err();
        }
        drop(inner);
        // A stream that ends serves the line, so not under the lock.
        drop(refused);
    }
}

impl Future for Seat<'_> {
    /// `None`: never; who is taken out of the line is served.
    type Output = Option<Slot>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Slot>> {
        Pin::new(&mut self.served).poll(cx).map(Result::ok)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut inner = self.lent.inner();
        inner.line.remove(&self.number);
        self.lent.waiting.store(inner.line.len(), Ordering::SeqCst);
        // What it was handed and has not taken ends with it, and goes to the next.
    }
}
