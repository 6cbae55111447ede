//! One worker's view of what serves: each generation with the worker's own cursors and counters beside it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::Worker;
use crate::live::{Endpoints, Generation, Live, PoolEntry};
use crate::pool::rotation::{EndpointEntry, Rotation};
use crate::pool::services::Feed;
use crate::pool::transport::Transport;
use crate::stats::Block;

/// A generation and what one worker keeps for it.
pub(crate) struct Lane {
    /// What is served.
    pub(crate) generation: Arc<Generation>,
    /// Where its gate statistics are counted.
    pub(crate) stats: Arc<Block>,
    /// In the order of the generation's pools.
    pools: Box<[Turns]>,
}

/// A rotation as one worker's requests hold it: counted by the worker alone, where all cores would share the `Arc`'s count.
struct Seen(Arc<Rotation>);

/// A transport, for the same reason.
#[derive(Debug)]
pub(crate) struct Spoken(Arc<Transport>);

impl Deref for Spoken {
    type Target = Arc<Transport>;

    fn deref(&self) -> &Arc<Transport> {
        &self.0
    }
}

/// One worker's turns through one pool.
struct Turns {
    cursor: Cell<u32>,
    /// The rotation that was used last. Of written endpoints there is no other.
    seen: RefCell<Rc<Seen>>,
    /// How its endpoints are spoken to; counted by the worker alone, too.
    transport: Rc<Spoken>,
}

/// The endpoint that a request goes to. Holds the rotation, which may have been replaced since.
#[derive(Clone)]
pub(crate) struct Chosen {
    rotation: Rc<Seen>,
    place: usize,
    transport: Rc<Spoken>,
}

impl Chosen {
    /// The endpoint.
    pub(crate) fn endpoint(&self) -> Option<&EndpointEntry> {
        self.rotation.0.endpoints().get(self.place)
    }

    /// How it is spoken to.
    pub(crate) fn transport(&self) -> &Rc<Spoken> {
        &self.transport
    }

    /// Where it is counted.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.rotation.0.slot(self.place)
    }
}

impl Turns {
    /// The cursor begins at random: workers do not all begin with the same endpoint, and frequent changes do not favour
    /// the first.
    fn new(pool: &PoolEntry, worker: &Worker) -> Self {
        Self {
            cursor: Cell::new(worker.chance.next() as u32),
            seen: RefCell::new(Rc::new(Seen(pool.rotation()))),
            transport: Rc::new(Spoken(pool.transport.clone())),
        }
    }

    /// The rotation of now. A pointer comparison while nothing changes.
    fn of_feed(&self, feed: &Feed) -> Rc<Seen> {
        let now = feed.load();
        let mut seen = self.seen.borrow_mut();
        if !Arc::ptr_eq(&seen.0, &now) {
            *seen = Rc::new(Seen(Arc::clone(&now)));
        }
        seen.clone()
    }
}

/// `Live` as one worker serves it.
pub(crate) struct Serving {
    /// What this was made of.
    pub(crate) live: Arc<Live>,
    stable: Rc<Lane>,
    candidate: Option<(Rc<Lane>, u32)>,
}

impl Lane {
    fn new(generation: &Arc<Generation>, worker: &Worker) -> Rc<Self> {
        let stats = worker.store.stats();
        Rc::new(Self {
            stats: stats.register(generation.role, generation.revision, &generation.counted),
            pools: generation.pools.iter().map(|pool| Turns::new(pool, worker)).collect(),
            generation: generation.clone(),
        })
    }

    /// The endpoint of `pool` whose turn it is; if that was `tried`, the next in order that was not.
    pub(crate) fn next_endpoint(&self, pool: u32, tried: &[SocketAddr]) -> Option<Chosen> {
        let turns = self.pools.get(pool as usize)?;
        let turn = turns.cursor.get();
        if tried.is_empty() {
            // What is tried again takes nobody's turn: else an endpoint that is gone would be first every time.
            turns.cursor.set(turn.wrapping_add(1));
        }
        let rotation = match &self.generation.pools.get(pool as usize)?.endpoints {
            Endpoints::Written(_) => turns.seen.borrow().clone(),
            Endpoints::Fed(_, feed) => turns.of_feed(feed),
        };
        let mut place = rotation.0.turn(turn)?;
        if !tried.is_empty() {
            place = rotation.0.from_place(place, |entry| !tried.contains(&entry.address))?;
        }
        Some(Chosen {
            rotation,
            place,
            transport: turns.transport.clone(),
        })
    }
}

impl Serving {
    /// Takes over the lanes of generations that go on.
    pub(super) fn new(live: Arc<Live>, before: Option<&Self>, worker: &Worker) -> Self {
        let lane = |generation: &Arc<Generation>| {
            let known = before.and_then(|before| before.lane_of(generation));
            known.unwrap_or_else(|| Lane::new(generation, worker))
        };
        Self {
            stable: lane(&live.stable),
            candidate: live
                .candidate
                .as_ref()
                .map(|(generation, share)| (lane(generation), *share)),
            live,
        }
    }

    fn lane_of(&self, generation: &Arc<Generation>) -> Option<Rc<Lane>> {
        let lanes = std::iter::once(&self.stable).chain(self.candidate.as_ref().map(|(lane, _)| lane));
        lanes
            .into_iter()
            .find(|lane| Arc::ptr_eq(&lane.generation, generation))
            .cloned()
    }

    /// The lane of a client whose place among all clients is `cohort`, in millionths.
    pub(crate) fn lane(&self, cohort: u32) -> &Rc<Lane> {
        match &self.candidate {
            Some((lane, share)) if cohort < *share => lane,
            Some(_) | None => &self.stable,
        }
    }
}
