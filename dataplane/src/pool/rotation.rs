//! `Rotation`: the endpoints of one pool and whose turn it is. Immutable; other endpoints are another rotation.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use sluice_model::unit::Endpoint;

use super::balancer::Schedule;

/// One endpoint of a pool.
#[derive(Debug)]
pub struct EndpointEntry {
    /// Where it listens.
    pub address: SocketAddr,
    /// The same, as text.
    pub text: Arc<str>,
    /// The same, as `Host` for requests that came without one.
    pub host: HeaderValue,
    /// Its weight.
    pub weight: u32,
}

/// Endpoints with their turns.
#[derive(Debug)]
pub struct Rotation {
    endpoints: Vec<EndpointEntry>,
    schedule: Schedule,
    /// Where each endpoint is counted.
    slots: OnceLock<Vec<u16>>,
}

impl Rotation {
    /// Of endpoints as they are written down.
    pub fn weighted(endpoints: &[Endpoint]) -> Self {
        Self::new(
            endpoints
                .iter()
                .map(|endpoint| (endpoint.address, endpoint.weight.get())),
        )
    }

    /// Of addresses that are all alike.
    pub fn even(addresses: impl Iterator<Item = SocketAddr>) -> Self {
        Self::new(addresses.map(|address| (address, 1)))
    }

    fn new(endpoints: impl Iterator<Item = (SocketAddr, u32)>) -> Self {
        let entry = |(address, weight): (SocketAddr, u32)| {
            let text = address.to_string();
            EndpointEntry {
                address,
                host: HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("")),
                text: text.into(),
                weight,
            }
        };
        let endpoints: Vec<EndpointEntry> = endpoints.map(entry).collect();
        let weights: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        Self {
            schedule: Schedule::new(&weights),
            endpoints,
            slots: OnceLock::new(),
        }
    }

    /// Finds out where each endpoint is counted; once, before anybody is served.
    pub fn resolve_slots(&self, slot_of: impl Fn(&str) -> u16) {
        self.slots
            .get_or_init(|| self.endpoints.iter().map(|endpoint| slot_of(&endpoint.text)).collect());
    }

    /// The endpoints; those without a turn too.
    pub fn endpoints(&self) -> &[EndpointEntry] {
        &self.endpoints
    }

    /// The place of the endpoint whose turn it is at `cursor`, which the caller counts up.
    pub fn turn(&self, cursor: u32) -> Option<usize> {
        self.schedule.turn(cursor)
    }

    /// The first place from `place` on, around the end, of an endpoint that has turns and `fits`.
    pub fn from_place(&self, place: usize, fits: impl Fn(&EndpointEntry) -> bool) -> Option<usize> {
        let entries = || self.endpoints.iter().enumerate();
        let (before, after) = (entries().take(place), entries().skip(place));
        after
            .chain(before)
            .find(|(_, entry)| entry.weight > 0 && fits(entry))
            .map(|(place, _)| place)
    }

    /// Where the endpoint in this place is counted.
    pub fn slot(&self, place: usize) -> Option<u16> {
        self.slots.get()?.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_place_is_one_with_turns() {
        let endpoint = |(port, weight)| Endpoint {
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            weight: sluice_model::unit::Weight::new(weight).unwrap(),
        };
        let rotation = Rotation::weighted(&[(1, 5), (2, 0), (3, 1)].map(endpoint));
        let from = |place, not: &[u16]| rotation.from_place(place, |entry| !not.contains(&entry.address.port()));
        assert_eq!((from(0, &[]), from(1, &[]), from(2, &[3])), (Some(0), Some(2), Some(0)));
        assert_eq!((from(9, &[1]), from(0, &[1, 3])), (Some(2), None));
    }

    #[test]
    fn slots_belong_to_places() {
        let addresses = ["10.0.0.1:80", "10.0.0.2:80"].map(|text| text.parse().unwrap());
        let rotation = Rotation::even(addresses.into_iter());
        assert_eq!(rotation.slot(0), None);
        rotation.resolve_slots(|text| if text == "10.0.0.2:80" { 7 } else { 3 });
        assert_eq!(
            (rotation.slot(0), rotation.slot(1), rotation.slot(2)),
            (Some(3), Some(7), None)
        );
        let turns: Vec<_> = (0..3).filter_map(|cursor| rotation.turn(cursor)).collect();
        assert_eq!(turns, [0, 1, 0]);
    }
}
