//! The endpoints of services, which come and go with pods and not with revisions. A registry under stable keys, beside the
//! immutable generations: a pool of a service holds a [`Feed`] of it, whose rotation is replaced whole.
//!
//! A feed is of one service and one pool name, so stable and candidate share it and it survives swaps; requests read it
//! without a lock. What left a rotation is told to the workers, which close their idle connections to it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use sluice_model::ServiceRef;
use sluice_model::limits::MAX_DEPARTED_ENDPOINTS;
use sluice_proto::live::{EndpointState, LiveEndpoint};

use super::rotation::Rotation;
use crate::telemetry::names::Names;

/// The endpoints of one service as they are now, for the pools of one name.
#[derive(Debug)]
pub struct Feed {
    pool: Arc<str>,
    now: ArcSwap<Rotation>,
}

impl Feed {
    /// For requests: no lock, and nothing is counted that cores share.
    pub fn load(&self) -> arc_swap::Guard<Arc<Rotation>> {
        self.now.load()
    }
}

#[derive(Debug, Default)]
struct Known {
    endpoints: Option<Arc<[LiveEndpoint]>>,
    feeds: Vec<Weak<Feed>>,
}

#[derive(Debug, Default)]
struct Departed {
    /// The youngest last.
    recent: VecDeque<SocketAddr>,
}

/// All services that anything refers to.
#[derive(Debug)]
pub struct Services {
    names: Arc<Names>,
    known: Mutex<BTreeMap<ServiceRef, Known>>,
    departed: Mutex<Departed>,
    /// How many departed so far, those that were forgotten too.
    departures: AtomicU64,
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In rotation are those that are ready. Only where none is, those that still serve while they terminate are better
/// than nothing.
fn in_rotation(endpoints: &[LiveEndpoint]) -> impl Iterator<Item = SocketAddr> + Clone {
    let any_ready = endpoints.iter().any(|endpoint| endpoint.state == EndpointState::Ready);
    let wanted = if any_ready {
        EndpointState::Ready
    } else {
        EndpointState::Draining
    };
    endpoints
        .iter()
        .filter(move |endpoint| endpoint.state == wanted)
        .map(|endpoint| endpoint.address)
}

impl Services {
    /// None yet.
    pub fn new(names: Arc<Names>) -> Self {
        Self {
            names,
            known: Mutex::default(),
            departed: Mutex::default(),
            departures: AtomicU64::new(0),
        }
    }

    /// The feed of `service` for the pools called `pool`: the one that there is, or a new one.
    pub fn feed(&self, service: &ServiceRef, pool: &Arc<str>) -> Arc<Feed> {
        let mut all = unpoisoned(&self.known);
        let known = all.entry(service.clone()).or_default();
        let mut feeds = known.feeds.iter().filter_map(Weak::upgrade);
        if let Some(feed) = feeds.find(|feed| feed.pool == *pool) {
            return feed;
        }
        let endpoints = known.endpoints.clone().unwrap_or_default();
        let feed = Arc::new(Feed {
            pool: pool.clone(),
            now: ArcSwap::new(self.rotation(pool, &endpoints)),
        });
        known.feeds.retain(|feed| feed.strong_count() > 0);
        known.feeds.push(Arc::downgrade(&feed));
        feed
    }

    fn rotation(&self, pool: &str, endpoints: &[LiveEndpoint]) -> Arc<Rotation> {
        let rotation = Rotation::even(in_rotation(endpoints));
        rotation.resolve_slots(|endpoint| self.names.endpoint(pool, endpoint));
        Arc::new(rotation)
    }

    /// From the next request on, `service` has these endpoints.
    pub fn replace(&self, service: ServiceRef, endpoints: Arc<[LiveEndpoint]>) {
        let mut all = unpoisoned(&self.known);
        let known = all.entry(service).or_default();
        known.feeds.retain(|feed| feed.strong_count() > 0);
        for feed in known.feeds.iter().filter_map(Weak::upgrade) {
            feed.now.store(self.rotation(&feed.pool, &endpoints));
        }
        let before = known.endpoints.replace(endpoints.clone()).unwrap_or_default();
        drop(all);
        let stay: std::collections::BTreeSet<SocketAddr> = in_rotation(&endpoints).collect();
        self.departed(in_rotation(&before).filter(|address| !stay.contains(address)));
    }

    /// Nothing refers to it any more; its endpoints are not kept.
    pub fn forget(&self, service: &ServiceRef) {
        let gone = unpoisoned(&self.known).remove(service);
        let endpoints = gone.and_then(|known| known.endpoints).unwrap_or_default();
        self.departed(in_rotation(&endpoints));
    }

    fn departed(&self, addresses: impl Iterator<Item = SocketAddr>) {
        let mut departed = unpoisoned(&self.departed);
        let mut count = 0_u64;
        for address in addresses {
            if departed.recent.len() >= MAX_DEPARTED_ENDPOINTS {
                departed.recent.pop_front();
            }
            departed.recent.push_back(address);
            count = count.saturating_add(1);
        }
        if count > 0 {
            self.departures.fetch_add(count, Ordering::Release);
        }
    }

    /// The addresses that left since there were `seen` departures, and how many there are now. Those that a slow reader
    /// missed are not told: their idle connections age out.
    pub fn departed_since(&self, seen: u64) -> (Vec<SocketAddr>, u64) {
        if self.departures.load(Ordering::Acquire) == seen {
            return (Vec::new(), seen);
        }
        let departed = unpoisoned(&self.departed);
        let now = self.departures.load(Ordering::Acquire);
        let news = usize::try_from(now.saturating_sub(seen)).unwrap_or(usize::MAX);
        let addresses = departed.recent.iter().rev().take(news).copied().collect();
        (addresses, now)
    }

    /// The services whose endpoints are known, with their endpoints.
    pub fn list(&self) -> Vec<(ServiceRef, Arc<[LiveEndpoint]>)> {
        let all = unpoisoned(&self.known);
        let known = all.iter();
        known
            .filter_map(|(service, known)| Some((service.clone(), known.endpoints.clone()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> Services {
        Services::new(Arc::new(Names::new(8)))
    }

    fn service(text: &str) -> ServiceRef {
        text.parse().unwrap()
    }

    /// `+` before an endpoint that is ready, `-` before one that drains.
    fn endpoints(texts: &[&str]) -> Arc<[LiveEndpoint]> {
        let endpoint = |text: &&str| LiveEndpoint {
            address: format!("10.0.0.{}:80", &text[1..]).parse().unwrap(),
            state: match &text[..1] {
                "+" => EndpointState::Ready,
                _ => EndpointState::Draining,
            },
            zone: None,
        };
        texts.iter().map(endpoint).collect()
    }

    fn addresses(feed: &Feed) -> Vec<String> {
        let now = feed.load();
        now.endpoints()
            .iter()
            .map(|endpoint| endpoint.text.to_string())
            .collect()
    }

    #[test]
    fn ready_ones_serve_and_draining_ones_only_without_them() {
        let services = services();
        let api = service("t/api:http");
        let feed = services.feed(&api, &"t/api".into());
        let check = |texts: &[&str], expected: &[&str]| {
            services.replace(api.clone(), endpoints(texts));
            assert_eq!(addresses(&feed), expected, "{texts:?}");
        };
        assert_eq!(addresses(&feed), [""; 0]);
        check(&["+1", "-2", "+3"], &["10.0.0.1:80", "10.0.0.3:80"]);
        check(&["-2"], &["10.0.0.2:80"]);
        check(&[], &[]);
    }

    #[test]
    fn feeds_are_shared_by_name_and_live_as_long_as_a_pool() {
        let services = services();
        let api = service("t/api:http");
        services.replace(api.clone(), endpoints(&["+1"]));
        let stable = services.feed(&api, &"t/api".into());
        let candidate = services.feed(&api, &"t/api".into());
        let other = services.feed(&api, &"t/other".into());
        assert!(Arc::ptr_eq(&stable, &candidate) && !Arc::ptr_eq(&stable, &other));
        services.replace(api.clone(), endpoints(&["+2"]));
        assert_eq!(addresses(&candidate), addresses(&other));
        // Each pool is counted under its own name.
        assert_ne!(stable.load().slot(0), other.load().slot(0));
        drop((stable, candidate));
        services.replace(api.clone(), endpoints(&["+3"]));
        assert_eq!(unpoisoned(&services.known)[&api].feeds.len(), 1);
        services.forget(&api);
        assert!(services.list().is_empty());
    }

    #[test]
    fn who_leaves_the_rotation_is_told_once() {
        let services = services();
        let api = service("t/api:http");
        services.replace(api.clone(), endpoints(&["+1", "+2", "-3"]));
        assert_eq!(services.departed_since(0), (vec![], 0));
        services.replace(api.clone(), endpoints(&["+2", "-1"]));
        let (gone, seen) = services.departed_since(0);
        assert_eq!((gone, seen), (vec!["10.0.0.1:80".parse().unwrap()], 1));
        assert_eq!(services.departed_since(seen), (vec![], 1));
        services.forget(&api);
        assert_eq!(services.departed_since(seen).0, ["10.0.0.2:80".parse().unwrap()]);
        for _ in 0..MAX_DEPARTED_ENDPOINTS {
            services.replace(api.clone(), endpoints(&["+5"]));
            services.replace(api.clone(), endpoints(&["+6"]));
        }
        assert_eq!(services.departed_since(0).0.len(), MAX_DEPARTED_ENDPOINTS);
    }
}
