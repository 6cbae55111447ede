//! Idle upstream connections of one worker, by address and transport. Last in, first out: the connection used most recently is the
//! least likely to be about to be closed, and the rest age out together.
//!
//! It holds whatever a connection is (`Idle<C>`); opening and judging them is the proxy's business.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_model::limits::{MAX_IDLE_PER_ENDPOINT, MAX_IDLE_PER_WORKER};

use super::transport::Place;

/// Idle connections by place.
#[derive(Debug)]
pub struct Idle<C> {
    by_place: HashMap<Place, Vec<(C, Instant)>>,
    count: usize,
}

impl<C> Default for Idle<C> {
    fn default() -> Self {
        Self {
            by_place: HashMap::new(),
            count: 0,
        }
    }
}

impl<C> Idle<C> {
    /// The connection to `place` that has rested least, with the time since when it rests.
    pub fn take(&mut self, place: Place) -> Option<(C, Instant)> {
        let taken = self.by_place.get_mut(&place)?.pop();
        if taken.is_some() {
            self.count = self.count.saturating_sub(1);
        }
        taken
    }

    /// Keeps a connection for later, unless there are enough: then it is given back, to be closed.
    pub fn put(&mut self, place: Place, connection: C, now: Instant) -> Option<C> {
        let list = self.by_place.entry(place).or_default();
        if list.len() >= MAX_IDLE_PER_ENDPOINT || self.count >= MAX_IDLE_PER_WORKER {
            return Some(connection);
        }
        list.push((connection, now));
        self.count = self.count.saturating_add(1);
        None
    }

    /// Lets go of connections, each of which `stays` is told for how long it has rested.
    pub fn prune(&mut self, now: Instant, stays: impl Fn(&C, Duration) -> bool) {
        self.by_place.retain(|_, list| {
            list.retain(|(connection, since)| stays(connection, now.saturating_duration_since(*since)));
            !list.is_empty()
        });
        self.count = self.by_place.values().map(Vec::len).sum();
    }

    /// Lets go of those that are `wanted` elsewhere, the ones first that have rested longest; each is asked for once, until
    /// one of its place is not.
    pub fn give_up(&mut self, wanted: impl Fn(&C) -> bool) {
        for list in self.by_place.values_mut() {
            let count = list.iter().take_while(|(connection, _)| wanted(connection)).count();
            drop(list.drain(..count));
        }
        self.count = self.by_place.values().map(Vec::len).sum();
    }

    /// Lets go of those to one address, which is out of service.
    pub fn forget(&mut self, address: &SocketAddr) {
        self.by_place.retain(|place, _| place.address != *address);
        self.count = self.by_place.values().map(Vec::len).sum();
    }

    /// Lets go of all.
    pub fn clear(&mut self) {
        self.by_place.clear();
        self.count = 0;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::transport::Transports;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn last_in_first_out_bounded_and_aging() {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let transport = Transports::default().get(&Arc::default()).id();
        let place = Place { address, transport };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut idle = Idle::default();
        for number in 0..3_u64 {
            assert_eq!(idle.put(place, number, at(number)), None);
        }
        assert_eq!(idle.take(place), Some((2, at(2))));
        idle.prune(at(11), |_, rested| rested < Duration::from_secs(11));
        assert_eq!(
            (idle.take(place), idle.take(place), idle.len()),
            (Some((1, at(1))), None, 0)
        );
        for number in 0..MAX_IDLE_PER_ENDPOINT as u64 {
            assert_eq!(idle.put(place, number, start), None);
        }
        assert_eq!(idle.put(place, 999, start), Some(999));
        idle.prune(start, |number, _| *number <= 9);
        assert_eq!(idle.len(), 10);
        idle.forget(&address);
        assert_eq!((idle.take(place), idle.len()), (None, 0));
    }
}
