//! The slow matcher: looks at every match of every rule of every route. Obviously correct, and the measure of every
//! faster one. `sluice lint` and `explain` use it; the data plane's router is compared with it.

use crate::host::HostPattern;
use crate::matching::RouteMatch;
use crate::names::ObjectKey;
use crate::precedence::Rank;
use crate::request::RequestFacts;
use crate::snapshot::Snapshot;
use crate::unit::{RouteUnit, Rule};

/// One match of a snapshot, under the most specific host of its route that fits the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// Whose.
    pub route: &'a ObjectKey,
    /// What it means.
    pub unit: &'a RouteUnit,
    /// Which of its rules, from 0.
    pub rule: usize,
    /// That rule.
    pub rule_unit: &'a Rule,
    /// Which of the rule's matches, from 0.
    pub matched: usize,
    /// Under which host.
    pub host: &'a HostPattern,
    /// Where it stands among others.
    pub rank: Rank,
}

/// The match that takes the request: the greatest rank among all that are met in full; `None`: no route.
pub fn find<'a>(snapshot: &'a Snapshot, request: &RequestFacts<'_>) -> Option<Found<'a>> {
    for_host(snapshot, request)
        .filter(|(_, matched)| matched.matches(request))
        .map(|(found, _)| found)
        .max_by(|one, other| one.rank.cmp(&other.rank))
}

/// Every match of every route that is for the request's host, whether it is met or not.
pub(crate) fn for_host<'a>(
    snapshot: &'a Snapshot,
    request: &RequestFacts<'_>,
) -> impl Iterator<Item = (Found<'a>, &'a RouteMatch)> {
    let host = request.host;
    snapshot
        .routes()
        .filter_map(move |(route, unit)| Some((route, unit, best_host(unit, host)?)))
        .flat_map(|(route, unit, host)| matches_of(route, unit, host))
}

fn matches_of<'a>(
    route: &'a ObjectKey,
    unit: &'a RouteUnit,
    host: &'a HostPattern,
) -> impl Iterator<Item = (Found<'a>, &'a RouteMatch)> {
    let rules = unit.rules.iter().enumerate();
    rules.flat_map(move |(rule, rule_unit)| {
        rule_unit.matches.iter().enumerate().map(move |(matched, route_match)| {
            let rank = Rank::of(host, route_match, route, unit, (rule, matched));
            (
                Found {
                    route,
                    unit,
                    rule,
                    rule_unit,
                    matched,
                    host,
                    rank,
                },
                route_match,
            )
        })
    })
}

/// The most specific of a route's hosts that the request's host fits.
fn best_host<'a>(unit: &'a RouteUnit, host: Option<&str>) -> Option<&'a HostPattern> {
    unit.hosts
        .iter()
        .filter(|pattern| pattern.matches(host))
        .max_by_key(|pattern| pattern.specificity())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use proptest::prelude::*;

    proptest! {
        // The matcher is the measure of others, so it is held against the words of Gateway API in another way: whoever
        // wins meets every demand, and nobody who does is ranked above.
        #[test]
        fn the_winner_is_met_and_nobody_who_is_met_stands_before_it(
            snapshot in arbitrary::snapshots(6),
            request in arbitrary::requests(),
        ) {
            let facts = request.facts();
            let found = find(&snapshot, &facts);
            for (key, route) in snapshot.routes() {
                for host in route.hosts.iter().filter(|host| host.matches(facts.host)) {
                    for (rule_index, rule) in route.rules.iter().enumerate() {
                        for (index, one) in rule.matches.iter().enumerate().filter(|(_, one)| one.matches(&facts)) {
                            let rank = Rank::of(host, one, key, route, (rule_index, index));
                            prop_assert!(found.as_ref().is_some_and(|found| found.rank >= rank));
                        }
                    }
                }
            }
            if let Some(found) = found {
                prop_assert!(found.unit.hosts.contains(found.host) && found.host.matches(facts.host));
                prop_assert_eq!(&found.unit.rules[found.rule], found.rule_unit);
                prop_assert!(found.rule_unit.matches[found.matched].matches(&facts));
            }
        }

        #[test]
        fn routing_does_not_depend_on_what_cannot_match(
            snapshot in arbitrary::snapshots(6),
            request in arbitrary::requests(),
        ) {
            let facts = request.facts();
            let winner = find(&snapshot, &facts).map(|found| (found.route.clone(), found.rule, found.matched));
            let mut config = snapshot.config().clone();
            config.units.retain(|key, unit| match unit.as_ref() {
                crate::unit::Unit::Route(_) => winner.as_ref().is_some_and(|(route, ..)| route == key),
                crate::unit::Unit::Pool(_) | crate::unit::Unit::DataPlane(_) => true,
            });
            let alone = Snapshot::check(config).unwrap();
            let again = find(&alone, &facts).map(|found| (found.route.clone(), found.rule, found.matched));
            prop_assert_eq!(winner, again);
        }
    }
}
