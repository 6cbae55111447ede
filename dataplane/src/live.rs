//! What serves: `Live`, the one or two generations of an instance, and the one `ArcSwap` that holds it.
//!
//! A `Generation` is a checked snapshot made ready: router compiled, references turned into indices, turns written
//! out. It never changes; a request sees exactly one. What it only refers to, by name, is in [`values`]. Its stamp stands in each of its parts and is compared wherever
//! one part leads to the next, so that a request that mixed two generations would be counted and not only be
//! impossible by argument.

mod generation;
pub mod values;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

pub use crate::stats::Role;
use crate::stats::Stats;
use crate::telemetry::names::Names;
pub use generation::{
    ActionEntry, BuildError, Endpoints, ForwardEntry, Generation, Https, PoolEntry, RouteEntry, RuleEntry, Slots, Stamp,
};
use values::LiveValues;

/// What an instance serves.
#[derive(Debug)]
pub struct Live {
    /// The order's epoch.
    pub epoch: u64,
    /// What the fleet trusts.
    pub stable: Arc<Generation>,
    /// What is being tried, and the share of clients that meet it, in millionths.
    pub candidate: Option<(Arc<Generation>, u32)>,
}

impl Live {
    /// Both generations.
    pub fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        std::iter::once(&self.stable).chain(self.candidate.as_ref().map(|(generation, _)| generation))
    }
}

#[derive(Debug)]
struct Shared {
    live: ArcSwapOption<Live>,
    /// What was replaced and may still be in use by workers: dropped here and not by them, since letting go of a
    /// large table takes longer than a request should wait.
    retired: Mutex<Vec<Arc<Live>>>,
    stats: Stats,
    names: Arc<Names>,
    values: LiveValues,
}

/// Holds what serves. Clones share it. Only configuration delivery stores.
#[derive(Clone, Debug)]
pub struct LiveStore {
    shared: Arc<Shared>,
}

impl LiveStore {
    /// Nothing serves yet; at most `metric_names` routes and endpoints keep their names in metrics.
    pub fn new(metric_names: usize) -> Self {
        let names = Arc::new(Names::new(metric_names));
        Self {
            shared: Arc::new(Shared {
                live: ArcSwapOption::empty(),
                retired: Mutex::default(),
                stats: Stats::default(),
                values: LiveValues::new(names.clone()),
                names,
            }),
        }
    }

    /// What serves now.
    pub fn load(&self) -> Option<Arc<Live>> {
        self.shared.live.load_full()
    }

    /// Replaces what serves: requests that begin from now on see `live`, those under way keep what they have.
    pub fn store(&self, live: Arc<Live>) {
        for generation in live.generations() {
            generation.resolve_slots(&self.shared.names);
        }
        let before = self.shared.live.swap(Some(live));
        let mut retired = self.shared.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.extend(before);
        retired.retain(|live| Arc::strong_count(live) > 1);
    }

    /// Drops what no worker uses any more.
    pub(crate) fn reap(&self) {
        let mut retired = self.shared.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|live| Arc::strong_count(live) > 1);
    }

    /// A request's way to what serves: a pointer comparison while nothing changes.
    pub(crate) fn cell(&self) -> &ArcSwapOption<Live> {
        &self.shared.live
    }

    /// What generations refer to, as it is now.
    pub fn values(&self) -> &LiveValues {
        &self.shared.values
    }

    /// What gates judge by.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// The names that metrics keep.
    pub(crate) fn names(&self) -> &Names {
        &self.shared.names
    }
}
