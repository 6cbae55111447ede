//! Precedence: which of several matches wins, as an order on a summary of each.
//!
//! Gateway API's rules, in one type: the more specific host, then path, then a method, then more headers, then more
//! query parameters; of equals the older route, then the one first by namespace and name, then the earlier rule, then
//! the earlier match. All full matches compete: a less specific host serves a request that no rule of a more specific
//! one takes.

use std::cmp::Reverse;

use crate::host::HostPattern;
use crate::matching::RouteMatch;
use crate::names::ObjectKey;
use crate::unit::RouteUnit;

/// The standing of one match of one rule of one route under one of its hosts. The greatest wins. Two are equal only
/// if they are the same match under hosts that are equally specific.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank {
    // The order of the fields is the order of the rules: `Ord` is derived from it.
    host: (u8, usize),
    path: (u8, usize),
    method: Demand,
    headers: usize,
    query: usize,
    created: Reverse<u64>,
    route: Reverse<ObjectKey>,
    rule: Reverse<usize>,
    matched: Reverse<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Demand {
    None,
    Some,
}

/// The rule by which one match stands before another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
pub enum Criterion {
    /// A more specific host.
    Host,
    /// A more specific path.
    Path,
    /// It names methods.
    Method,
    /// More header demands.
    Headers,
    /// More query demands.
    Query,
    /// The older route.
    Age,
    /// The route that is first by namespace and name.
    Name,
    /// The earlier rule of the same route.
    Rule,
    /// The earlier match of the same rule.
    Match,
}

impl Rank {
    /// The rank of `matched`, match number `match_index` of rule number `rule_index` (both from 0) of `route`, for
    /// requests that come in under `host`.
    pub fn of(
        host: &HostPattern,
        matched: &RouteMatch,
        key: &ObjectKey,
        route: &RouteUnit,
        (rule_index, match_index): (usize, usize),
    ) -> Self {
        Self {
            host: host.specificity(),
            path: matched.path.specificity(),
            method: if matched.methods.is_empty() {
                Demand::None
            } else {
                Demand::Some
            },
            headers: matched.headers.len(),
            query: matched.query.len(),
            created: Reverse(route.created_at_seconds.unwrap_or(u64::MAX)),
            route: Reverse(key.clone()),
            rule: Reverse(rule_index),
            matched: Reverse(match_index),
        }
    }

    /// The rule by which this stands before `other` or after it; `None` if they are equal.
    pub fn decided_by(&self, other: &Self) -> Option<Criterion> {
        let Self {
            host,
            path,
            method,
            headers,
            query,
            created,
            route,
            rule,
            matched,
        } = self;
        let differs = [
            (*host != other.host, Criterion::Host),
            (*path != other.path, Criterion::Path),
            (*method != other.method, Criterion::Method),
            (*headers != other.headers, Criterion::Headers),
            (*query != other.query, Criterion::Query),
            (*created != other.created, Criterion::Age),
            (*route != other.route, Criterion::Name),
            (*rule != other.rule, Criterion::Rule),
            (*matched != other.matched, Criterion::Match),
        ];
        differs
            .into_iter()
            .find(|(differs, _)| *differs)
            .map(|(_, criterion)| criterion)
    }
}

impl Criterion {
    /// Why the winner won, to be read after "lost to …: ".
    pub fn winner_has(self) -> &'static str {
        match self {
            Self::Host => "its host is more specific",
            Self::Path => "its path is more specific",
            Self::Method => "it names methods",
            Self::Headers => "it demands more headers",
            Self::Query => "it demands more query parameters",
            Self::Age => "its route is older",
            Self::Name => "its route is first by namespace and name",
            Self::Rule => "it is the earlier rule",
            Self::Match => "it is the earlier match of the rule",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::{HeaderMatch, PathMatch, QueryMatch, ValueMatch, method};

    /// A rank whose parts can be changed one at a time.
    struct Case {
        host: HostPattern,
        matched: RouteMatch,
        key: ObjectKey,
        created: Option<u64>,
        place: (usize, usize),
    }

    fn plain() -> Case {
        Case {
            host: HostPattern::hostname("*.test").unwrap(),
            matched: RouteMatch {
                path: PathMatch::prefix("/a").unwrap(),
                ..RouteMatch::default()
            },
            key: "ProxyRoute b/b".parse().unwrap(),
            created: Some(5),
            place: (1, 1),
        }
    }

    fn rank(case: &Case) -> Rank {
        let route = RouteUnit {
            created_at_seconds: case.created,
            ..RouteUnit::of(vec![], vec![])
        };
        Rank::of(&case.host, &case.matched, &case.key, &route, case.place)
    }

    /// `better` stands before a plain case that has everything that comes later in the list of rules, by `criterion`.
    fn check(criterion: Criterion, better: impl Fn(&mut Case)) {
        let mut winner = plain();
        better(&mut winner);
        let mut rich = plain();
        let present = || ValueMatch::Present;
        if criterion < Criterion::Path {
            rich.matched.path = PathMatch::exact("/a").unwrap();
        }
        if criterion < Criterion::Method {
            rich.matched.methods.push(method("GET").unwrap());
        }
        if criterion < Criterion::Headers {
            rich.matched.headers.push(HeaderMatch::new("x", present()).unwrap());
        }
        if criterion < Criterion::Query {
            rich.matched.query.push(QueryMatch::new("x", present()).unwrap());
        }
        if criterion < Criterion::Age {
            rich.created = Some(0);
        }
        if criterion < Criterion::Name {
            rich.key = "ProxyRoute a/a".parse().unwrap();
        }
        if criterion < Criterion::Rule {
            rich.place.0 = 0;
        }
        if criterion < Criterion::Match {
            rich.place.1 = 0;
        }
        let (winner, rich) = (rank(&winner), rank(&rich));
        assert!(winner > rich, "{criterion:?}");
        assert_eq!(winner.decided_by(&rich), Some(criterion));
        assert_eq!(rich.decided_by(&winner), Some(criterion));
        assert_eq!(winner.decided_by(&winner), None);
    }

    #[test]
    fn each_rule_outweighs_all_that_follow() {
        check(Criterion::Host, |case| {
            case.host = HostPattern::hostname("*.a.test").unwrap()
        });
        check(Criterion::Host, |case| case.host = HostPattern::hostname("t").unwrap());
        check(Criterion::Path, |case| {
            case.matched.path = PathMatch::prefix("/ab").unwrap()
        });
        check(Criterion::Path, |case| {
            case.matched.path = PathMatch::regex("/").unwrap()
        });
        check(Criterion::Path, |case| {
            case.matched.path = PathMatch::exact("/").unwrap()
        });
        check(Criterion::Method, |case| {
            case.matched.methods = vec![method("GET").unwrap()]
        });
        let header = || HeaderMatch::new("x", ValueMatch::Present).unwrap();
        check(Criterion::Headers, |case| case.matched.headers = vec![header()]);
        let query = || QueryMatch::new("x", ValueMatch::Present).unwrap();
        check(Criterion::Query, |case| case.matched.query = vec![query()]);
        check(Criterion::Age, |case| case.created = Some(4));
        check(Criterion::Name, |case| case.key = "ProxyRoute a/z".parse().unwrap());
        check(Criterion::Name, |case| case.key = "ProxyRoute b/a".parse().unwrap());
        check(Criterion::Rule, |case| case.place = (0, 1));
        check(Criterion::Match, |case| case.place = (1, 0));
    }

    #[test]
    fn a_route_without_an_age_is_younger_than_any() {
        let mut young = plain();
        young.created = None;
        assert!(rank(&plain()) > rank(&young));
    }

    #[test]
    fn two_methods_say_no_more_than_one() {
        let (mut one, mut two) = (plain(), plain());
        one.matched.methods = vec![method("GET").unwrap()];
        two.matched.methods = vec![method("GET").unwrap(), method("PUT").unwrap()];
        assert_eq!(rank(&one), rank(&two));
    }
}
