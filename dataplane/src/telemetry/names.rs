//! Which routes, pools and endpoints keep their names in metrics. A bounded, sticky table: the first that are seen
//! keep their names for as long as the process lives, the rest share `other`, so no series ever changes its meaning
//! and their number is bounded whatever the configuration.
//!
//! Names are resolved to slots when a generation is published, never while a request waits.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The slot of everything that has no slot of its own.
pub const OTHER: u16 = 0;
/// The slot of requests that no route took.
pub const NONE: u16 = 1;
const RESERVED: [&str; 2] = ["other", "none"];

/// The two labels of a slot: route and pool, or pool and endpoint.
pub type Pair = (String, String);

/// One table of names.
#[derive(Debug)]
struct Table {
    slots: HashMap<Pair, u16>,
    labels: Vec<Pair>,
    capacity: usize,
}

impl Table {
    fn new(capacity: usize) -> Self {
        let labels = RESERVED.map(|name| (name.to_owned(), name.to_owned())).to_vec();
        Self {
            slots: HashMap::new(),
            labels,
            capacity: capacity.saturating_add(RESERVED.len()),
        }
    }

    fn slot(&mut self, pair: Pair) -> u16 {
        if let Some(slot) = self.slots.get(&pair) {
            return *slot;
        }
        match u16::try_from(self.labels.len()) {
            Ok(slot) if self.labels.len() < self.capacity => {
                self.labels.push(pair.clone());
                self.slots.insert(pair, slot);
                slot
            }
            Ok(_) | Err(_) => OTHER,
        }
    }
}

/// The names of one process: of (route, pool) and of (pool, endpoint).
#[derive(Debug)]
pub struct Names {
    routes: Mutex<Table>,
    endpoints: Mutex<Table>,
    slots: usize,
}

impl Names {
    /// Tables of `capacity` names each.
    pub fn new(capacity: usize) -> Self {
        Self {
            routes: Mutex::new(Table::new(capacity)),
            endpoints: Mutex::new(Table::new(capacity)),
            slots: capacity.saturating_add(RESERVED.len()),
        }
    }

    /// How many slots each table has at most.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The slot of the requests that `route` sends to `pool`.
    pub fn route(&self, route: &str, pool: &str) -> u16 {
        let mut table = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        table.slot((route.to_owned(), pool.to_owned()))
    }

    /// The slot of `endpoint` in `pool`.
    pub fn endpoint(&self, pool: &str, endpoint: &str) -> u16 {
        let mut table = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        table.slot((pool.to_owned(), endpoint.to_owned()))
    }

    /// The labels of all (route, pool) slots, in order.
    pub fn route_labels(&self) -> Vec<Pair> {
        self.routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .labels
            .clone()
    }

    /// The labels of all (pool, endpoint) slots, in order.
    pub fn endpoint_labels(&self) -> Vec<Pair> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .labels
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stick_and_are_bounded() {
        let names = Names::new(2);
        assert_eq!(
            (names.route("a", "p"), names.route("b", "p"), names.route("c", "p")),
            (2, 3, OTHER)
        );
        assert_eq!(names.route("a", "p"), 2);
        assert_eq!(names.route_labels().len(), names.slots());
    }
}
