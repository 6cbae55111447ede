//! What gates judge by: per role and revision, for the fleet and for each counted route, how requests ended and how
//! long their response heads took.
//!
//! Each worker counts in a block of its own per generation, so recording is a load and a store and every figure
//! belongs to exactly one revision. `drain` sums what was counted since the last drain.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use sluice_model::histogram::{BUCKETS, Histogram, bucket_of};
use sluice_model::{ObjectKey, RevisionId};

use crate::telemetry::counters::Counter;

/// Which of the two revisions an instance may hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the fleet trusts.
    Stable,
    /// What is being tried.
    Candidate,
}

impl Role {
    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Candidate => "candidate",
        }
    }
}

/// How a request ended, for those who judge a revision. Recorded when the response's head is sent or never will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Answered, by an upstream or on its behalf; `micros` until the head of the response.
    Answered(u64),
    /// Failed on the server's side: 5xx, timeout, no connection; `micros` until that was clear.
    Failed(u64),
    /// No route took it; `micros` until that was clear.
    NoRoute(u64),
    /// The client's own fault, or it went away.
    Client,
}

#[derive(Debug)]
struct ScopeCounters {
    requests: Counter,
    failures: Counter,
    client_failures: Counter,
    no_route: Counter,
    latency: [Counter; BUCKETS],
}

impl Default for ScopeCounters {
    fn default() -> Self {
        Self {
            requests: Counter::default(),
            failures: Counter::default(),
            client_failures: Counter::default(),
            no_route: Counter::default(),
            latency: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl ScopeCounters {
    fn record(&self, verdict: Verdict) {
        let latency = match verdict {
            Verdict::Client => {
                self.client_failures.add(1);
                return;
            }
            Verdict::Answered(micros) => micros,
            Verdict::Failed(micros) => {
                self.failures.add(1);
                micros
            }
            Verdict::NoRoute(micros) => {
                self.no_route.add(1);
                micros
            }
        };
        self.requests.add(1);
        if let Some(bucket) = self.latency.get(bucket_of(latency)) {
            bucket.add(1);
        }
    }

    fn read(&self) -> Counts {
        let latency: Vec<u64> = self.latency.iter().map(Counter::get).collect();
        Counts {
            requests: self.requests.get(),
            failures: self.failures.get(),
            client_failures: self.client_failures.get(),
            no_route: self.no_route.get(),
            latency,
        }
    }
}

/// The counters of one worker for one generation.
#[derive(Debug)]
pub struct Block {
    role: Role,
    revision: RevisionId,
    scopes: Vec<ObjectKey>,
    fleet: ScopeCounters,
    counted: Box<[ScopeCounters]>,
}

impl Block {
    /// Counts one request, for the fleet and for its counted route, if it is of one.
    pub fn record(&self, scope: Option<u16>, verdict: Verdict) {
        self.fleet.record(verdict);
        if let Some(counters) = self.scope(scope) {
            counters.record(verdict);
        }
    }

    /// Counts that a request that was answered turned out a failure: its body broke off on the upstream's side.
    pub fn broke(&self, scope: Option<u16>) {
        self.fleet.failures.add(1);
        if let Some(counters) = self.scope(scope) {
            counters.failures.add(1);
        }
    }

    fn scope(&self, scope: Option<u16>) -> Option<&ScopeCounters> {
        self.counted.get(usize::from(scope?))
    }

    /// What it counts, the fleet first.
    fn routes(&self) -> impl Iterator<Item = Option<ObjectKey>> + '_ {
        std::iter::once(None).chain(self.scopes.iter().cloned().map(Some))
    }

    /// All of that, with nothing counted.
    fn nothing_yet(&self) -> BTreeMap<Option<ObjectKey>, ScopeDelta> {
        let nothing = |route: Option<ObjectKey>| {
            let delta = ScopeDelta {
                route: route.clone(),
                ..ScopeDelta::default()
            };
            (route, delta)
        };
        self.routes().map(nothing).collect()
    }
}

#[derive(Clone, Default, Debug)]
struct Counts {
    requests: u64,
    failures: u64,
    client_failures: u64,
    no_route: u64,
    latency: Vec<u64>,
}

impl Counts {
    /// What `self` has more than `before`.
    fn since(&self, before: &Self) -> ScopeDelta {
        let mut buckets = before.latency.iter().copied().chain(std::iter::repeat(0));
        let latency: Vec<u64> = self
            .latency
            .iter()
            .map(|count| count.saturating_sub(buckets.next().unwrap_or_default()))
            .collect();
        ScopeDelta {
            route: None,
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
            client_failures: self.client_failures.saturating_sub(before.client_failures),
            no_route: self.no_route.saturating_sub(before.no_route),
            latency: Histogram::from_counts(&latency).unwrap_or_default(),
        }
    }
}

/// What was counted in one scope.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScopeDelta {
    /// The counted route; `None`: the whole fleet.
    pub route: Option<ObjectKey>,
    /// Requests that were answered or failed on the server's side; `failures` and `no_route` are parts of it.
    pub requests: u64,
    /// Failed on the server's side.
    pub failures: u64,
    /// Failed by the client's own doing; not part of `requests`.
    pub client_failures: u64,
    /// Taken by no route.
    pub no_route: u64,
    /// Until the head of the response, of `requests`.
    pub latency: Histogram,
}

impl ScopeDelta {
    fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.client_failures = self.client_failures.saturating_add(other.client_failures);
        self.no_route = self.no_route.saturating_add(other.no_route);
        self.latency.merge(&other.latency);
    }
}

/// What was counted under one role and revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleDelta {
    /// As what it served.
    pub role: Role,
    /// What served.
    pub revision: RevisionId,
    /// The fleet first, then the counted routes by key. All of them, also those without a request.
    pub scopes: Vec<ScopeDelta>,
}

/// What was counted since the last drain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatsDelta {
    /// By role and revision. A revision that no longer serves is in it once more, with its last requests.
    pub roles: Vec<RoleDelta>,
}

#[derive(Debug)]
struct Registered {
    block: Arc<Block>,
    /// The fleet's, then those of the counted scopes.
    drained: Vec<Counts>,
}

/// The blocks of all workers. Clones share them.
#[derive(Clone, Default, Debug)]
pub struct Stats {
    blocks: Arc<Mutex<Vec<Registered>>>,
}

impl Stats {
    /// A new block for one worker and one generation.
    pub(crate) fn register(&self, role: Role, revision: RevisionId, scopes: &[ObjectKey]) -> Arc<Block> {
        let block = Arc::new(Block {
            role,
            revision,
            scopes: scopes.to_vec(),
            fleet: ScopeCounters::default(),
            counted: scopes.iter().map(|_| ScopeCounters::default()).collect(),
        });
        let registered = Registered {
            block: block.clone(),
            drained: vec![Counts::default(); scopes.len().saturating_add(1)],
        };
        self.lock().push(registered);
        block
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Registered>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted since the last drain, of all workers together.
    ///
    /// Orders about one revision may count other routes, and blocks of the one before live on for a moment. Of those only
    /// what the newest counts too is told by route, so that a report never holds the routes of two orders; for the fleet
    /// everything counts.
    pub fn drain(&self) -> StatsDelta {
        let mut blocks = self.lock();
        let mut sums: BTreeMap<(Role, RevisionId), BTreeMap<Option<ObjectKey>, ScopeDelta>> = BTreeMap::new();
        for Registered { block, .. } in blocks.iter() {
            sums.insert((block.role, block.revision), block.nothing_yet());
        }
        blocks.retain_mut(|registered| {
            // Looked at before reading: whoever counts holds the block, so nothing can be counted after this.
            let last = Arc::strong_count(&registered.block) == 1;
            let block = &registered.block;
            let scopes = sums.entry((block.role, block.revision)).or_default();
            let counters = std::iter::once(&block.fleet).chain(&block.counted);
            for ((route, counters), drained) in block.routes().zip(counters).zip(&mut registered.drained) {
                let counts = counters.read();
                let delta = counts.since(drained);
                *drained = counts;
                if let Some(sum) = scopes.get_mut(&route) {
                    sum.merge(&delta);
                }
            }
            !last
        });
        drop(blocks);
        let roles = sums.into_iter().map(|((role, revision), scopes)| RoleDelta {
            role,
            revision,
            scopes: scopes.into_values().collect(),
        });
        StatsDelta { roles: roles.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::Digest;

    #[test]
    fn drains_sum_workers_and_count_once() {
        let stats = Stats::default();
        let revision = RevisionId {
            number: 4,
            digest: Digest([4; 32]),
        };
        let key: ObjectKey = "ProxyRoute shop/api".parse().unwrap();
        let blocks = [(); 2].map(|()| stats.register(Role::Candidate, revision, std::slice::from_ref(&key)));
        blocks[0].record(Some(0), Verdict::Failed(900));
        blocks[1].record(None, Verdict::NoRoute(10));
        blocks[1].record(Some(0), Verdict::Answered(10));
        blocks[1].record(Some(0), Verdict::Client);
        blocks[1].broke(Some(0));
        let delta = stats.drain();
        let [role] = &delta.roles[..] else { panic!("{delta:?}") };
        let counts = |scope: &ScopeDelta| (scope.requests, scope.failures, scope.client_failures, scope.no_route);
        assert_eq!(counts(&role.scopes[0]), (3, 2, 1, 1));
        assert_eq!(
            (counts(&role.scopes[1]), role.scopes[1].route.as_ref()),
            ((2, 2, 1, 0), Some(&key))
        );
        assert_eq!(role.scopes[0].latency.total(), 3);

        blocks[0].record(None, Verdict::Answered(1));
        drop(blocks);
        assert_eq!(counts(&stats.drain().roles[0].scopes[0]), (1, 0, 0, 0));
        assert_eq!(stats.drain(), StatsDelta::default());
    }

    #[test]
    fn of_two_orders_about_one_revision_the_newer_says_which_routes_are_told() {
        let stats = Stats::default();
        let revision = RevisionId {
            number: 4,
            digest: Digest([4; 32]),
        };
        let [one, both, other] =
            ["a", "b", "c"].map(|name| format!("ProxyRoute shop/{name}").parse::<ObjectKey>().unwrap());
        let older = stats.register(Role::Stable, revision, &[one, both.clone()]);
        let newer = stats.register(Role::Stable, revision, &[both.clone(), other.clone()]);
        older.record(Some(0), Verdict::Answered(1));
        older.record(Some(1), Verdict::Answered(1));
        newer.record(Some(0), Verdict::Answered(1));
        let delta = stats.drain();
        let [role] = &delta.roles[..] else { panic!("{delta:?}") };
        let told: Vec<_> = role
            .scopes
            .iter()
            .map(|scope| (scope.route.clone(), scope.requests))
            .collect();
        assert_eq!(told, [(None, 3), (Some(both), 2), (Some(other), 0)]);
        // The older one's last requests are not counted twice, whoever was told of them.
        drop(older);
        assert_eq!(stats.drain().roles[0].scopes[0].requests, 0);
    }
}
