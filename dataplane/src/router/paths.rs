//! The paths under one host pattern: exact ones and prefixes by hash, regular expressions in order.
//!
//! Each list is kept by falling rank, so the first full match in it is its best; the three kinds are tried in the
//! order of `PathMatch::specificity`: exact, regular expressions, prefixes from the longest.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_model::RequestFacts;
use sluice_model::matching::{PathMatch, RouteMatch};
use sluice_model::precedence::Rank;

use super::Destination;

/// One match of one rule under one host pattern.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Its standing.
    pub(super) rank: Rank,
    /// What it demands.
    pub(super) demands: Arc<RouteMatch>,
    /// Where it leads.
    pub(super) destination: Destination,
}

impl Candidate {
    /// Whether the request meets it, its path being known to fit.
    fn meets(&self, request: &RequestFacts<'_>) -> bool {
        let RouteMatch {
            path: _,
            methods,
            headers,
            query,
        } = &*self.demands;
        (methods.is_empty() && headers.is_empty() && query.is_empty()) || self.demands.matches(request)
    }
}

/// The candidates under one host pattern.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<Arc<str>, Vec<Candidate>>,
    regexes: Vec<Candidate>,
    prefixes: HashMap<Arc<str>, Vec<Candidate>>,
    longest_prefix_bytes: usize,
}

impl Paths {
    /// Puts one in. `seal` when all are there.
    pub(super) fn add(&mut self, candidate: Candidate) {
        match &candidate.demands.path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default().push(candidate),
            PathMatch::Regex(_) => self.regexes.push(candidate),
            PathMatch::Prefix(prefix) => {
                self.longest_prefix_bytes = self.longest_prefix_bytes.max(prefix.len());
                self.prefixes.entry(prefix.clone()).or_default().push(candidate);
            }
        }
    }

    /// Brings every list into the order of rank.
    pub(super) fn seal(&mut self) {
        let sort = |list: &mut Vec<Candidate>| list.sort_by(|one, other| other.rank.cmp(&one.rank));
        self.exact.values_mut().for_each(sort);
        self.prefixes.values_mut().for_each(sort);
        sort(&mut self.regexes);
    }

    /// The best candidate that the request meets in full.
    pub(super) fn find(&self, request: &RequestFacts<'_>) -> Option<&Candidate> {
        let first = |list: &'_ [Candidate]| list.iter().position(|candidate| candidate.meets(request));
        if !self.exact.is_empty()
            && let Some(list) = self.exact.get(request.path)
            && let Some(at) = first(list)
        {
            return list.get(at);
        }
        let regex = |candidate: &&Candidate| candidate.demands.matches(request);
        self.regexes.iter().find(regex).or_else(|| self.find_prefix(request))
    }

    /// The longest prefix first. The prefixes of a path are the path itself and what stands before each slash.
    fn find_prefix(&self, request: &RequestFacts<'_>) -> Option<&Candidate> {
        let path = request.path;
        let whole = std::iter::once(path.len());
        let ends = whole.chain(path.rmatch_indices('/').map(|(slash, _)| slash));
        ends.filter(|end| *end <= self.longest_prefix_bytes)
            .filter_map(|end| self.prefixes.get(path.get(..end)?))
            .find_map(|list| list.iter().find(|candidate| candidate.meets(request)))
    }
}
