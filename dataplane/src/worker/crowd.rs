//! All client connections of an instance: how many there are, and of whom. Shared by its workers, so that a bound is exact
//! whichever of them a client meets.
//!
//! It is asked when a connection is accepted and when it ends, never by a request. The count of all is one number; that of
//! each client stands in one of many tables, so that workers seldom meet at the same one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_model::limits::{CLIENT_TABLES, MAX_CONNECTIONS_PER_WORKER};

use crate::guard::rule::Rule;

/// Alone on its cache lines (two, since processors fetch them in pairs).
#[repr(align(128))]
#[derive(Debug, Default)]
struct Padded<T>(T);

/// Who counts as one client. Of IPv4 an address. Of IPv6 what one machine or household is given: it has a /64 to choose its
/// addresses from (RFC 4291 §2.5.1, RFC 6177), and would be as many clients as it likes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Client {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Client {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => Self::V6(((ip.to_bits() >> 64) as u64).to_be_bytes()),
        }
    }
}

/// How many connections each client has; who has none is not in it.
type Counts = HashMap<Client, u64>;

/// The connections of one instance.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// How many there may be unless somebody says otherwise.
    usual: u64,
    all: Padded<AtomicU64>,
    clients: Box<[Padded<Mutex<Counts>>]>,
    hasher: RandomState,
}

impl Crowd {
    /// Of an instance with so many workers.
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            usual: workers.saturating_mul(MAX_CONNECTIONS_PER_WORKER) as u64,
            all: Padded::default(),
            clients: (0..CLIENT_TABLES).map(|_| Padded::default()).collect(),
            hasher: RandomState::new(),
        })
    }

    /// A place for one more connection, if there are fewer than `most`.
    pub(super) fn enter(self: &Arc<Self>, most: Option<u64>) -> Result<Place, Rule> {
        let most = most.unwrap_or(self.usual);
        let one_more = |count: u64| (count < most).then(|| count.saturating_add(1));
        let entered = self.all.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.map_err(|_| Rule::Connections)?;
        Ok(Place {
            crowd: self.clone(),
            client: None,
        })
    }

    fn table(&self, client: Client) -> Option<MutexGuard<'_, Counts>> {
        let count = (self.clients.len() as u64).max(1);
        let table = self.clients.get((self.hasher.hash_one(client) % count) as usize)?;
        Some(table.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The place of one connection, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    client: Option<Client>,
}

impl Place {
    /// It is this client's, if he has fewer than `most`.
    pub(super) fn belongs_to(&mut self, ip: IpAddr, most: Option<u64>) -> Result<(), Rule> {
        let client = Client::of(ip);
        let Some(mut table) = self.crowd.table(client) else {
            return Ok(());
        };
        let count = table.get(&client).copied().unwrap_or(0);
        if most.is_some_and(|most| count >= most) {
            return Err(Rule::ConnectionsOfClient);
        }
        table.insert(client, count.saturating_add(1));
        drop(table);
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(client) = self.client
            && let Some(mut table) = self.crowd.table(client)
        {
            match table.get(&client).copied() {
                Some(count) if count > 1 => drop(table.insert(client, count.saturating_sub(1))),
                Some(_) | None => drop(table.remove(&client)),
            }
        }
        self.crowd.all.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_given_up_however_it_was_taken() {
        let crowd = Crowd::new(1);
        let enter = |of: &str| {
            let mut place = crowd.enter(Some(3))?;
            place.belongs_to(ip(of), Some(2)).map(|()| place)
        };
        let one = enter("10.0.0.1").unwrap();
        let two = enter("10.0.0.1").unwrap();
        assert_eq!(enter("10.0.0.1").err(), Some(Rule::ConnectionsOfClient));
        let three = enter("10.0.0.2").unwrap();
        assert_eq!(enter("10.0.0.3").err(), Some(Rule::Connections));
        drop((one, three));
        let again = enter("10.0.0.1").unwrap();
        drop((two, again));
        assert_eq!(crowd.all.0.load(Ordering::Relaxed), 0);
        assert!(
            crowd.clients.iter().all(|table| table.0.lock().unwrap().is_empty()),
            "nobody is remembered"
        );
    }

    #[test]
    fn one_client_is_an_address_or_a_network_of_64_bits() {
        let same = |one: &str, other: &str| Client::of(ip(one)) == Client::of(ip(other));
        assert!(same("2001:db8::1", "2001:db8:0:0:ffff::9"));
        assert!(same("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }

    #[test]
    fn a_bound_is_exact_whoever_comes_at_once() {
        let crowd = Crowd::new(2);
        let (most, each) = (1_000, 2_000);
        let start = std::sync::Barrier::new(4);
        let taken: Vec<Place> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        (0..each)
                            .filter_map(|_| crowd.enter(Some(most)).ok())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken.len() as u64, most);
    }
}
