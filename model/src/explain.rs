//! Explains where a request goes: the match that takes it, and for every other that could have, why it did not.
//!
//! For people (`sluice explain`), through the slow matcher, so that it cannot disagree with the rules.

use std::fmt;

use serde::Serialize;

use crate::matcher::{Found, find, for_host};
use crate::matching::RouteMatch;
use crate::names::ObjectKey;
use crate::precedence::Criterion;
use crate::request::{RequestFacts, Unmet};
use crate::snapshot::Snapshot;

/// Where a request goes and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explanation {
    /// What takes it; `None`: nothing does, the answer is `no_route`.
    pub winner: Option<Candidate>,
    /// The other matches of routes for this host, the most precedent first.
    pub others: Vec<Loser>,
    /// Routes that are for other hosts.
    pub routes_for_other_hosts: usize,
}

/// One match of a rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Candidate {
    /// Whose.
    pub route: ObjectKey,
    /// Which rule, from 0.
    pub rule: usize,
    /// What the rule is called.
    pub rule_name: Option<String>,
    /// Which of its matches, from 0.
    pub matched: usize,
    /// Under which host of the route, for people.
    pub host: String,
    /// What it demands, for people.
    pub demands: String,
    /// Where its requests go.
    pub pool: ObjectKey,
}

/// A match that did not take the request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Loser {
    /// Which.
    pub candidate: Candidate,
    /// Why not.
    pub because: Because,
}

/// Why a match did not take a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub enum Because {
    /// The path is another; holds the demand.
    Path(String),
    /// The method is another; holds those it takes.
    Method(String),
    /// A header is not as demanded; holds the demand.
    Header(String),
    /// A query parameter is not as demanded; holds the demand.
    Query(String),
    /// It is met, and the winner stands before it.
    Precedence(Criterion),
}

/// Says which match takes `request` and why the others do not.
pub fn explain(snapshot: &Snapshot, request: &RequestFacts<'_>) -> Explanation {
    let winner = find(snapshot, request);
    let mut rest: Vec<_> = for_host(snapshot, request)
        .filter(|(found, _)| Some(found) != winner.as_ref())
        .collect();
    rest.sort_by(|(one, _), (other, _)| other.rank.cmp(&one.rank));
    let others = rest
        .into_iter()
        .filter_map(|(found, matched)| {
            let because = why_not(&found, matched, winner.as_ref(), request)?;
            Some(Loser {
                candidate: candidate(&found, matched),
                because,
            })
        })
        .collect();
    let for_others = |hosts: &[crate::host::HostPattern]| !hosts.iter().any(|host| host.matches(request.host));
    Explanation {
        winner: winner.and_then(|found| Some(candidate(&found, found.rule_unit.matches.get(found.matched)?))),
        others,
        routes_for_other_hosts: snapshot.routes().filter(|(_, route)| for_others(&route.hosts)).count(),
    }
}

fn candidate(found: &Found<'_>, matched: &RouteMatch) -> Candidate {
    Candidate {
        route: found.route.clone(),
        rule: found.rule,
        rule_name: found.rule_unit.name.as_deref().map(str::to_owned),
        matched: found.matched,
        host: found.host.to_string(),
        demands: matched.to_string(),
        pool: found.rule_unit.pool.clone(),
    }
}

fn why_not(
    found: &Found<'_>,
    matched: &RouteMatch,
    winner: Option<&Found<'_>>,
    request: &RequestFacts<'_>,
) -> Option<Because> {
    let because = match matched.first_unmet(request) {
        Some(Unmet::Path) => Because::Path(matched.path.to_string()),
        Some(Unmet::Method) => {
            let methods: Vec<_> = matched.methods.iter().map(http::Method::as_str).collect();
            Because::Method(methods.join(", "))
        }
        Some(Unmet::Header(index)) => {
            let header = matched.headers.get(index)?;
            Because::Header(format!("{}{}", header.name, header.value))
        }
        Some(Unmet::Query(index)) => {
            let query = matched.query.get(index)?;
            Because::Query(format!("{}{}", query.name, query.value))
        }
        None => Because::Precedence(winner?.rank.decided_by(&found.rank)?),
    };
    Some(because)
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules[{}]", self.route, self.rule)?;
        if let Some(name) = &self.rule_name {
            write!(f, " ({name})")?;
        }
        write!(f, " matches[{}]: host {}, {}", self.matched, self.host, self.demands)
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(demand) => write!(f, "the path is not {demand}"),
            Self::Method(methods) => write!(f, "the method is not one of {methods}"),
            Self::Header(demand) => write!(f, "header not as demanded: {demand}"),
            Self::Query(demand) => write!(f, "query parameter not as demanded: {demand}"),
            Self::Precedence(criterion) => write!(f, "the winner stands before it: {}", criterion.winner_has()),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.winner {
            Some(winner) => writeln!(f, "goes to {}\n  by {winner}", winner.pool)?,
            None => writeln!(f, "goes nowhere: 404 no_route")?,
        }
        for Loser { candidate, because } in &self.others {
            writeln!(f, "not by {candidate}\n  {because}")?;
        }
        match self.routes_for_other_hosts {
            0 => Ok(()),
            1 => writeln!(f, "1 route is for other hosts"),
            count => writeln!(f, "{count} routes are for other hosts"),
        }
    }
}
