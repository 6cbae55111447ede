//! What is wrong between objects: hosts with two owners, references to nothing or to what is not shared, matches that can
//! never win, two Rollouts for one fleet, fleets without a Rollout.
//!
//! What wins among matches is decided in `sluice_model::precedence` alone; here the losers are told. Incumbents count:
//! between objects of equal age the one that serves already goes on.

mod governing;
mod hosts;
mod plain_http;
pub(crate) mod reach;
mod shares;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sluice_model::host::HostPattern;
use sluice_model::matching::RouteMatch;
use sluice_model::precedence::Rank;
use sluice_model::unit::{RouteUnit, Rule, Unit};
use sluice_model::{FleetName, Kind, Name, ObjectKey, Snapshot};

use crate::members::Memberships;
use crate::objects::{Object, Spec};
use crate::problem::{FieldPath, Problem, Severity};
use crate::source::schema::suggestion;
use crate::source::{Coverage, View};
use crate::translate::{Meaning, Translation};

pub use governing::{Governed, Governing, Serves};

/// What serves in each fleet now. Empty for `lint`, which knows no past.
pub type Serving<'a> = BTreeMap<&'a FleetName, ServingFleet<'a>>;

/// What serves in one fleet now.
#[derive(Clone, Debug)]
pub struct ServingFleet<'a> {
    /// The stable revision.
    pub snapshot: &'a Snapshot,
    /// Those of its objects that cannot be seen at the moment: they are there, as they last were.
    pub unseen: BTreeSet<&'a ObjectKey>,
}

/// What is wrong between objects.
#[derive(Debug, Default)]
pub struct Validation {
    /// What to say.
    pub problems: Vec<Problem>,
    /// The pools that one fleet does not take as they are written, although they are in order for others.
    pub refused: BTreeMap<FleetName, BTreeSet<ObjectKey>>,
}

/// Everything that is wrong between the objects of `translation`, which are those of `view`. `members` are whose pods the
/// instances are; `None` outside of a cluster, where they are processes of the machine that the files are on.
pub fn validate(
    translation: &Translation,
    view: &View,
    serving: &Serving<'_>,
    governing: &Governing<'_>,
    members: Option<&Memberships>,
) -> Validation {
    let mut found = Validation::default();
    let problems = &mut found.problems;
    let (routes, not_served) = routes_by_fleet(translation, governing);
    for (fleet, routes) in &routes {
        let strangers = hosts::owned_by_others(translation, view, routes, serving.get(fleet));
        problems.extend(matches_that_never_win(routes, &strangers));
        problems.extend(strangers);
        problems.extend(plain_http::without_tls(translation, fleet, routes));
        problems.extend(pool_references(translation, view, routes, serving.get(fleet)));
    }
    problems.extend(not_served);
    problems.extend(shares::not_shared(translation, view));
    problems.extend(unused_pools(translation, view));
    problems.extend(governing.problems(&routes));
    if let Some(members) = members {
        reach::note_strangers(translation, &routes, members, &mut found);
    }
    found
}

/// One readable route.
struct Route<'a> {
    object: &'a Arc<Object>,
    unit: &'a RouteUnit,
}

/// Whether an object that might serve does already.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy, Debug)]
enum Standing {
    Serves,
    New,
}

type Routes<'a> = BTreeMap<&'a FleetName, Vec<Route<'a>>>;

/// The routes that each fleet serves, and why the others are not served.
fn routes_by_fleet<'a>(translation: &'a Translation, governing: &Governing<'_>) -> (Routes<'a>, Vec<Problem>) {
    let (mut routes, mut problems): (Routes<'_>, _) = (BTreeMap::new(), Vec::new());
    for item in translation.items.values() {
        if let Some(Meaning::Route { fleet, unit }) = &item.meaning
            && let Unit::Route(unit) = unit.as_ref()
        {
            match governing.not_served(fleet, &item.object) {
                Some(problem) => problems.push(problem),
                None => routes.entry(fleet).or_default().push(Route {
                    object: &item.object,
                    unit,
                }),
            }
        }
    }
    (routes, problems)
}

fn route_unit<'a>(snapshot: &'a Snapshot, key: &ObjectKey) -> Option<&'a RouteUnit> {
    match snapshot.unit(key) {
        Some(Unit::Route(unit)) => Some(unit),
        Some(Unit::Pool(_) | Unit::DataPlane(_)) | None => None,
    }
}

/// A match with its demands in one order, so that equal demands are equal.
fn normal(matched: &RouteMatch) -> RouteMatch {
    let mut matched = matched.clone();
    matched.methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    matched
        .headers
        .sort_by(|a, b| (a.name.as_str(), &a.value).cmp(&(b.name.as_str(), &b.value)));
    matched
        .query
        .sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    matched
}

/// Where a match stands in its route.
struct Spot<'a> {
    route: &'a Route<'a>,
    rule: usize,
    matched: usize,
    rank: Rank,
}

/// Routes among `strangers` serve in another form than this one, so nothing is said about them.
fn matches_that_never_win(routes: &[Route<'_>], strangers: &[Problem]) -> Vec<Problem> {
    let strangers: BTreeSet<_> = strangers.iter().filter_map(|problem| problem.object.as_ref()).collect();
    let mut same: HashMap<(&HostPattern, RouteMatch), Vec<Spot<'_>>> = HashMap::new();
    for route in routes.iter().filter(|route| !strangers.contains(&route.object.key)) {
        for host in &route.unit.hosts {
            for (rule, unit) in route.unit.rules.iter().enumerate() {
                for (matched, one) in unit.matches.iter().enumerate() {
                    let rank = Rank::of(host, one, &route.object.key, route.unit, (rule, matched));
                    same.entry((host, normal(one))).or_default().push(Spot {
                        route,
                        rule,
                        matched,
                        rank,
                    });
                }
            }
        }
    }
    let mut problems = Vec::new();
    for ((host, _), mut spots) in same.into_iter().filter(|(_, spots)| spots.len() > 1) {
        spots.sort_by(|a, b| b.rank.cmp(&a.rank));
        let Some((winner, losers)) = spots.split_first() else {
            continue;
        };
        problems.extend(losers.iter().map(|loser| never_wins(host, winner, loser)));
    }
    problems.sort();
    problems
}

fn never_wins(host: &HostPattern, winner: &Spot<'_>, loser: &Spot<'_>) -> Problem {
    let rule = FieldPath::root("spec").field("rules").index(loser.rule);
    // A rule that writes no match has one, which matches everything.
    let field = if writes_matches(&loser.route.object.spec, loser.rule) {
        rule.field("matches").index(loser.matched)
    } else {
        rule
    };
    let why = winner
        .rank
        .decided_by(&loser.rank)
        .map_or("it comes first", |criterion| criterion.winner_has());
    loser.route.object.problem(
        Severity::Warning,
        field,
        format!(
            "never wins for host {host}: {} rules[{}] matches the same requests, and {why}",
            winner.route.object.key, winner.rule
        ),
        "remove one of the two, or make this one more specific",
    )
}

fn writes_matches(spec: &Spec, rule: usize) -> bool {
    match spec {
        Spec::ProxyRoute(spec) => spec.rules.get(rule).is_some_and(|rule| !rule.matches.is_empty()),
        Spec::Pool(_) | Spec::Rollout(_) | Spec::Unreadable => false,
    }
}

fn pool_references(
    translation: &Translation,
    view: &View,
    routes: &[Route<'_>],
    serving: Option<&ServingFleet<'_>>,
) -> Vec<Problem> {
    let unseen = |key| serving.is_some_and(|fleet| fleet.unseen.contains(key));
    let mut problems = Vec::new();
    for route in routes {
        for (index, rule) in route.unit.rules.iter().enumerate() {
            let Some(pool) = rule.pool() else { continue };
            if !translation.items.contains_key(pool) && !unseen(pool) {
                let field = FieldPath::root("spec").field("rules").index(index).field("pool");
                let (message, fix) = no_pool(translation, view, pool);
                problems.push(route.object.problem(Severity::Error, field, message, fix));
            }
        }
    }
    problems
}

fn no_pool(translation: &Translation, view: &View, pool: &ObjectKey) -> (String, String) {
    let (namespace, name) = (&pool.namespace, pool.name.as_str());
    match &view.coverage {
        // It may be there: then nothing is wrong with this route.
        Coverage::Without(_) if view.coverage.hides(pool) => (
            format!("the Pools of namespace {namespace} cannot be seen, and {name:?} was not seen before"),
            "mend that first: another Problem says how".to_owned(),
        ),
        Coverage::Whole | Coverage::Except(_) | Coverage::Without(_) | Coverage::Nothing => (
            format!("no Pool {name:?} in namespace {namespace}"),
            pool_fix(translation, pool),
        ),
    }
}

fn pool_fix(translation: &Translation, wanted: &ObjectKey) -> String {
    let pools = || translation.items.keys().filter(|key| key.kind == Kind::Pool);
    let here = pools()
        .filter(|key| key.namespace == wanted.namespace)
        .map(|key| key.name.as_str());
    let elsewhere = pools().find(|key| key.name == wanted.name).map(|key| &key.namespace);
    match (suggestion(wanted.name.as_str(), here), elsewhere) {
        (Some(near), _) => format!("did you mean {near:?}? Or create {wanted}"),
        (None, Some(namespace)) => {
            format!("there is one in namespace {namespace}; a route uses the pools of its own namespace")
        }
        (None, None) => format!("create {wanted}"),
    }
}

/// Pools that no route refers to. Where a route cannot be read or seen, nothing can be said about the pools beside it.
fn unused_pools(translation: &Translation, view: &View) -> Vec<Problem> {
    let mut used: BTreeSet<&ObjectKey> = BTreeSet::new();
    let mut unknown: BTreeSet<&Name> = BTreeSet::new();
    for (key, item) in translation.items.iter().filter(|(key, _)| key.kind == Kind::ProxyRoute) {
        match item.meaning.as_ref().map(|meaning| meaning.unit().as_ref()) {
            Some(Unit::Route(route)) => used.extend(route.rules.iter().filter_map(Rule::pool)),
            Some(Unit::Pool(_) | Unit::DataPlane(_)) | None => drop(unknown.insert(&key.namespace)),
        }
    }
    let pools = translation.items.iter().filter(|(key, _)| key.kind == Kind::Pool);
    let may_be_used = |pool: &ObjectKey| {
        unknown.contains(&pool.namespace) || view.coverage.hides_some(Kind::ProxyRoute, &pool.namespace)
    };
    pools
        .filter(|(key, item)| item.meaning.is_some() && !used.contains(key) && !may_be_used(key))
        .map(|(_, item)| {
            item.object.problem(
                Severity::Warning,
                FieldPath::default(),
                "no route refers to this pool, so it is not served",
                "remove it, or refer to it by spec.rules[].pool of a ProxyRoute in its namespace",
            )
        })
        .collect()
}
