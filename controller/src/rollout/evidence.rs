//! What was observed: outcomes and latencies per role and scope, as instances counted them.
//!
//! Counts are sums and histograms, so that merging is addition. Failures that a client caused (it went away, sent
//! nonsense, was rate limited) are in `requests` only if they were answered as asked, and never in `failures`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sluice_model::{Histogram, ObjectKey};

use super::stored;

/// Which side of a comparison a request was served by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// The revision being tried.
    Candidate,
    /// The proven one.
    Stable,
}

/// What is counted on its own: everything, or one changed route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ScopeId {
    /// All requests.
    Fleet,
    /// The requests that this route took.
    Route(ObjectKey),
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("fleet"),
            Self::Route(route) => route.fmt(f),
        }
    }
}

impl FromStr for ScopeId {
    type Err = <ObjectKey as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "fleet" {
            return Ok(Self::Fleet);
        }
        text.parse().map(Self::Route)
    }
}

// As text, so that it can be the key of a JSON object.
impl Serialize for ScopeId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        stored::text::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for ScopeId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        stored::text::deserialize(from)
    }
}

/// Outcomes and latencies of some requests.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that were answered or failed on the server's side; the whole of which the others are parts.
    pub requests: u64,
    /// Of these, failed on the server's side: 5xx, timeouts, failed connections.
    pub failures: u64,
    /// Of these, taken by no route. Zero in a route's scope.
    pub no_route: u64,
    /// Their latencies.
    #[serde(with = "stored::histogram")]
    pub latency: Histogram,
}

impl Counts {
    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.no_route = self.no_route.saturating_add(other.no_route);
        self.latency.merge(&other.latency);
    }
}

/// What one role showed in one scope during a stage.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Pair {
    /// Under the candidate.
    pub candidate: Counts,
    /// Under stable, over the same time.
    pub stable: Counts,
    /// Requests of both when the current round of the bake began (a bake that holds goes on in rounds).
    pub at_round_start: u64,
    /// Whether the last complete round passed without a single request on either side.
    pub quiet: Quiet,
}

/// Whether a whole bake went by without a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Quiet {
    /// Not yet known, or there were requests.
    #[default]
    No,
    /// A whole bake without one.
    Yes,
}

impl Pair {
    fn of(&mut self, role: Role) -> &mut Counts {
        match role {
            Role::Candidate => &mut self.candidate,
            Role::Stable => &mut self.stable,
        }
    }

    fn requests(&self) -> u64 {
        self.candidate.requests.saturating_add(self.stable.requests)
    }
}

/// Evidence of one stage, by scope, with how many reports it comes from.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// By scope. Only scopes that the rollout counts.
    pub scopes: BTreeMap<ScopeId, Pair>,
    /// Reports from members.
    pub candidate_reports: u64,
    /// Reports from others.
    pub stable_reports: u64,
}

impl Evidence {
    /// Nothing seen yet in any of these scopes.
    pub fn over(scopes: impl IntoIterator<Item = ScopeId>) -> Self {
        Self {
            scopes: scopes.into_iter().map(|scope| (scope, Pair::default())).collect(),
            ..Self::default()
        }
    }

    /// Adds `counts`; a scope that nobody asked for is ignored.
    pub fn add(&mut self, role: Role, scope: &ScopeId, counts: &Counts) {
        if let Some(pair) = self.scopes.get_mut(scope) {
            pair.of(role).merge(counts);
        }
    }

    /// Ends a round of the bake: remembers which scopes saw nobody during it.
    pub fn end_round(&mut self) {
        for pair in self.scopes.values_mut() {
            let now = pair.requests();
            pair.quiet = if now == pair.at_round_start {
                Quiet::Yes
            } else {
                Quiet::No
            };
            pair.at_round_start = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(requests: u64) -> Counts {
        Counts {
            requests,
            ..Counts::default()
        }
    }

    #[test]
    fn only_asked_scopes_are_counted() {
        let mut evidence = Evidence::over([ScopeId::Fleet]);
        evidence.add(Role::Stable, &ScopeId::Fleet, &some(3));
        evidence.add(Role::Stable, &"ProxyRoute a/b".parse().unwrap(), &some(3));
        assert_eq!(evidence.scopes.len(), 1);
        assert_eq!(evidence.scopes[&ScopeId::Fleet].stable.requests, 3);
    }

    #[test]
    fn a_round_without_requests_is_quiet() {
        let mut evidence = Evidence::over([ScopeId::Fleet]);
        evidence.add(Role::Candidate, &ScopeId::Fleet, &some(3));
        evidence.end_round();
        assert_eq!(evidence.scopes[&ScopeId::Fleet].quiet, Quiet::No);
        evidence.end_round();
        assert_eq!(evidence.scopes[&ScopeId::Fleet].quiet, Quiet::Yes);
    }

    #[test]
    fn scopes_are_text() {
        for text in ["fleet", "ProxyRoute shop/api"] {
            let json = format!("{text:?}");
            let scope: ScopeId = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&scope).unwrap(), json);
        }
    }
}
