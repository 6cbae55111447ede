//! One worker's view of what serves: each generation with the worker's own cursors and counters beside it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::Worker;
use crate::live::{Generation, Live};
use crate::stats::Block;

/// A generation and what one worker keeps for it.
pub(crate) struct Lane {
    /// What is served.
    pub(crate) generation: Arc<Generation>,
    /// Where its gate statistics are counted.
    pub(crate) stats: Arc<Block>,
    /// One cursor per pool.
    cursors: Box<[Cell<u32>]>,
}

/// `Live` as one worker serves it.
pub(crate) struct Serving {
    /// What this was made of.
    pub(crate) live: Arc<Live>,
    stable: Rc<Lane>,
    candidate: Option<(Rc<Lane>, u32)>,
}

impl Lane {
    /// Every cursor begins at random: workers do not all begin with the same endpoint, and frequent changes do not
    /// favour the first.
    fn new(generation: &Arc<Generation>, worker: &Worker) -> Rc<Self> {
        let cursor = |_| Cell::new(worker.chance.next() as u32);
        let stats = worker.store.stats();
        Rc::new(Self {
            stats: stats.register(generation.role, generation.revision, &generation.counted),
            cursors: generation.pools.iter().map(cursor).collect(),
            generation: generation.clone(),
        })
    }

    /// The index of the endpoint of `pool` whose turn it is.
    pub(crate) fn next_endpoint(&self, pool: u32) -> Option<usize> {
        let cursor = self.cursors.get(pool as usize)?;
        let turn = cursor.get();
        cursor.set(turn.wrapping_add(1));
        self.generation.pools.get(pool as usize)?.schedule.turn(turn)
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
