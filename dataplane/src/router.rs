//! The router: host, then path, then what else a match demands. Compiled from a `Snapshot`, immutable, pure.
//!
//! It answers exactly as `sluice_model::matcher::find` does (a property test holds the two together), at a cost that
//! follows the request's labels and segments and not the number of hosts. Hosts are tried from the most specific
//! kind down, and a host whose rules do not take the request lets the next one try.

mod paths;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sluice_model::RequestFacts;
use sluice_model::Snapshot;
use sluice_model::host::HostPattern;
use sluice_model::names::ObjectKey;
use sluice_model::pattern::Pattern;
use sluice_model::precedence::Rank;
use sluice_model::unit::RouteUnit;

use paths::{Candidate, Paths};

/// Which match took a request. Indices: of the route in `Snapshot::routes()`, of the rule in it, of the match in that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination {
    /// The route.
    pub route: u32,
    /// Its rule.
    pub rule: u32,
    /// The rule's match.
    pub matched: u32,
}

/// Regular expressions for hosts that are equally specific: several may match, and then their paths compete.
#[derive(Debug)]
struct RegexTier {
    hosts: Vec<(Pattern, Paths)>,
}

/// The compiled table.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, Paths>,
    /// By suffix, without the `*.`.
    wildcards: HashMap<Box<str>, Paths>,
    /// The most specific first.
    regexes: Vec<RegexTier>,
    any: Option<Paths>,
}

impl Router {
    /// Compiles all routes of a snapshot.
    pub fn compile(snapshot: &Snapshot) -> Self {
        let mut hosts: BTreeMap<&HostPattern, Paths> = BTreeMap::new();
        for (index, (key, route)) in (0_u32..).zip(snapshot.routes()) {
            add_route(&mut hosts, index, key, route);
        }
        let mut router = Self::default();
        let mut regexes: BTreeMap<usize, Vec<(Pattern, Paths)>> = BTreeMap::new();
        for (host, mut paths) in hosts {
            paths.seal();
            match host {
                HostPattern::Exact(host) => drop(router.exact.insert(host.as_str().into(), paths)),
                HostPattern::Wildcard(suffix) => drop(router.wildcards.insert(suffix.as_str().into(), paths)),
                HostPattern::Regex(pattern) => {
                    let tier = regexes.entry(pattern.as_str().len()).or_default();
                    tier.push((pattern.clone(), paths));
                }
                HostPattern::Any => router.any = Some(paths),
            }
        }
        router.regexes = regexes.into_values().rev().map(|hosts| RegexTier { hosts }).collect();
        router
    }

    /// The match that takes the request; `None`: no route.
    pub fn find(&self, request: &RequestFacts<'_>) -> Option<Destination> {
        let named = request.host.and_then(|host| self.find_named(host, request));
        named
            .or_else(|| self.any.as_ref()?.find(request))
            .map(|candidate| candidate.destination)
    }

    fn find_named(&self, host: &str, request: &RequestFacts<'_>) -> Option<&Candidate> {
        if let Some(found) = self.exact.get(host).and_then(|paths| paths.find(request)) {
            return Some(found);
        }
        if !self.wildcards.is_empty()
            && let Some(found) = self.find_wildcard(host, request)
        {
            return Some(found);
        }
        self.regexes.iter().find_map(|tier| tier.find(host, request))
    }

    /// The longest suffix first: from the second label on, since `*` stands for at least one.
    fn find_wildcard(&self, host: &str, request: &RequestFacts<'_>) -> Option<&Candidate> {
        host.match_indices('.')
            .filter(|(dot, _)| *dot > 0)
            .filter_map(|(dot, _)| host.get(dot.saturating_add(1)..))
            .find_map(|suffix| self.wildcards.get(suffix)?.find(request))
    }
}

impl RegexTier {
    fn find(&self, host: &str, request: &RequestFacts<'_>) -> Option<&Candidate> {
        self.hosts
            .iter()
            .filter(|(pattern, _)| pattern.matches(host))
            .filter_map(|(_, paths)| paths.find(request))
            .max_by(|one, other| one.rank.cmp(&other.rank))
    }
}

fn add_route<'a>(hosts: &mut BTreeMap<&'a HostPattern, Paths>, index: u32, key: &ObjectKey, route: &'a RouteUnit) {
    for (rule_index, rule) in route.rules.iter().enumerate() {
        for (match_index, one) in rule.matches.iter().enumerate() {
            let demands = Arc::new(one.clone());
            for host in &route.hosts {
                let place = |index: usize| u32::try_from(index).unwrap_or(u32::MAX); // MAX_RULES_PER_ROUTE is 64
                hosts.entry(host).or_default().add(Candidate {
                    rank: Rank::of(host, one, key, route, (rule_index, match_index)),
                    demands: demands.clone(),
                    destination: Destination {
                        route: index,
                        rule: place(rule_index),
                        matched: place(match_index),
                    },
                });
            }
        }
    }
}
