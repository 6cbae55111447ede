//! What is wrong between objects: hosts with two owners, references to nothing, matches that can never win, two
//! Rollouts for one fleet, fleets without a Rollout.
//!
//! What wins among matches is decided in `sluice_model::precedence` alone; here the losers are told. Incumbents count:
//! between objects of equal age the one that serves already goes on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sluice_model::host::HostPattern;
use sluice_model::matching::RouteMatch;
use sluice_model::precedence::Rank;
use sluice_model::unit::{RouteUnit, Unit};
use sluice_model::{FleetName, Kind, Name, ObjectKey, Snapshot};

use crate::objects::Object;
use crate::problem::{FieldPath, Problem, Severity};
use crate::source::schema::suggestion;
use crate::translate::{Meaning, Translation};

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

/// Everything that is wrong between the objects of `translation`.
pub fn validate(translation: &Translation, serving: &Serving<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let routes = routes_by_fleet(translation);
    for (fleet, routes) in &routes {
        let strangers = host_owners(translation, routes, serving.get(fleet));
        problems.extend(matches_that_never_win(routes, &strangers));
        problems.extend(strangers);
        problems.extend(pool_references(translation, routes, serving.get(fleet)));
    }
    problems.extend(unused_pools(translation));
    problems.extend(rollouts(translation, &routes, serving));
    problems
}

/// One readable route.
struct Route<'a> {
    object: &'a Arc<Object>,
    unit: &'a RouteUnit,
}

type Routes<'a> = BTreeMap<&'a FleetName, Vec<Route<'a>>>;

fn routes_by_fleet(translation: &Translation) -> Routes<'_> {
    let mut routes: Routes<'_> = BTreeMap::new();
    for item in translation.items.values() {
        if let Some(Meaning::Route { fleet, unit }) = &item.meaning
            && let Unit::Route(unit) = unit.as_ref()
        {
            routes.entry(fleet).or_default().push(Route {
                object: &item.object,
                unit,
            });
        }
    }
    routes
}

/// How strong the claim to a host is; the least wins: the oldest object, of equals the one that serves already, then
/// the first namespace by name.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Claim<'a> {
    created: u64,
    standing: Standing,
    namespace: &'a Name,
    object: &'a ObjectKey,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Standing {
    Serves,
    New,
}

fn claim<'a>(key: &'a ObjectKey, unit: &RouteUnit, standing: Standing) -> Claim<'a> {
    let created = unit.created_at_seconds.unwrap_or(u64::MAX);
    Claim {
        created,
        standing,
        namespace: &key.namespace,
        object: key,
    }
}

fn named(unit: &RouteUnit) -> impl Iterator<Item = (usize, &HostPattern)> {
    let is_name = |host: &HostPattern| matches!(host, HostPattern::Exact(_) | HostPattern::Wildcard(_));
    unit.hosts.iter().enumerate().filter(move |(_, host)| is_name(host))
}

fn host_owners(translation: &Translation, routes: &[Route<'_>], serving: Option<&ServingFleet<'_>>) -> Vec<Problem> {
    let mut claims: BTreeMap<&HostPattern, Vec<Claim<'_>>> = BTreeMap::new();
    for route in routes {
        for (_, host) in named(route.unit) {
            let serves = serving.and_then(|fleet| route_unit(fleet.snapshot, &route.object.key));
            let serves = serves.is_some_and(|unit| unit.hosts.contains(host));
            let standing = if serves { Standing::Serves } else { Standing::New };
            claims
                .entry(host)
                .or_default()
                .push(claim(&route.object.key, route.unit, standing));
        }
    }
    // A route that is broken or out of sight at this moment has not given its hosts away.
    let unseen = |key| serving.is_some_and(|fleet| fleet.unseen.contains(key));
    for (key, unit) in serving.into_iter().flat_map(|fleet| fleet.snapshot.routes()) {
        if unseen(key) || translation.items.get(key).is_some_and(|item| item.meaning.is_none()) {
            for (_, host) in named(unit) {
                claims.entry(host).or_default().push(claim(key, unit, Standing::Serves));
            }
        }
    }
    let mut problems = Vec::new();
    for route in routes {
        for (index, host) in named(route.unit) {
            let owner = claims.get(host).and_then(|claims| claims.iter().min());
            let lost = owner.filter(|owner| *owner.namespace != route.object.key.namespace);
            problems.extend(lost.map(|owner| belongs_to(route.object, index, host, owner)));
        }
    }
    problems
}

fn route_unit<'a>(snapshot: &'a Snapshot, key: &ObjectKey) -> Option<&'a RouteUnit> {
    match snapshot.unit(key) {
        Some(Unit::Route(unit)) => Some(unit),
        Some(Unit::Pool(_) | Unit::DataPlane(_)) | None => None,
    }
}

fn belongs_to(object: &Object, index: usize, host: &HostPattern, owner: &Claim<'_>) -> Problem {
    object.problem(
        Severity::Error,
        FieldPath::root("spec").field("hostnames").index(index),
        format!("{host} belongs to namespace {}, by {}", owner.namespace, owner.object),
        "use another host, or move this route to that namespace: the namespace whose route is oldest owns a host",
    )
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
    let written = loser
        .route
        .object
        .origin
        .manifest
        .locate(rule.field("matches").as_str());
    let whole = loser.route.object.origin.manifest.locate(rule.as_str());
    let field = if written == whole {
        rule
    } else {
        rule.field("matches").index(loser.matched)
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

fn pool_references(
    translation: &Translation,
    routes: &[Route<'_>],
    serving: Option<&ServingFleet<'_>>,
) -> Vec<Problem> {
    let unseen = |key| serving.is_some_and(|fleet| fleet.unseen.contains(key));
    let mut problems = Vec::new();
    for route in routes {
        for (index, rule) in route.unit.rules.iter().enumerate() {
            if !translation.items.contains_key(&rule.pool) && !unseen(&rule.pool) {
                let field = FieldPath::root("spec").field("rules").index(index).field("pool");
                let (namespace, name) = (&rule.pool.namespace, rule.pool.name.as_str());
                let message = format!("no Pool {name:?} in namespace {namespace}");
                problems.push(
                    route
                        .object
                        .problem(Severity::Error, field, message, pool_fix(translation, &rule.pool)),
                );
            }
        }
    }
    problems
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

/// Pools that no route refers to. Where a route cannot be read, nothing can be said about the pools beside it.
fn unused_pools(translation: &Translation) -> Vec<Problem> {
    let mut used: BTreeSet<&ObjectKey> = BTreeSet::new();
    let mut unknown: BTreeSet<&Name> = BTreeSet::new();
    for (key, item) in translation.items.iter().filter(|(key, _)| key.kind == Kind::ProxyRoute) {
        match item.meaning.as_ref().map(|meaning| meaning.unit().as_ref()) {
            Some(Unit::Route(route)) => used.extend(route.rules.iter().map(|rule| &rule.pool)),
            Some(Unit::Pool(_) | Unit::DataPlane(_)) | None => drop(unknown.insert(&key.namespace)),
        }
    }
    let pools = translation.items.iter().filter(|(key, _)| key.kind == Kind::Pool);
    pools
        .filter(|(key, item)| item.meaning.is_some() && !used.contains(key) && !unknown.contains(&key.namespace))
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

/// One readable Rollout.
struct Governs<'a> {
    object: &'a Arc<Object>,
    standing: Standing,
}

impl Governs<'_> {
    fn order(&self) -> (u64, Standing, &ObjectKey) {
        (
            self.object.created_at_seconds.unwrap_or(u64::MAX),
            self.standing,
            &self.object.key,
        )
    }
}

fn rollouts(translation: &Translation, routes: &Routes<'_>, serving: &Serving<'_>) -> Vec<Problem> {
    let mut governing: BTreeMap<&FleetName, Vec<Governs<'_>>> = BTreeMap::new();
    for item in translation.items.values() {
        if let Some(Meaning::Rollout { fleet, .. }) = &item.meaning {
            let serves = serving
                .get(fleet)
                .is_some_and(|fleet| fleet.snapshot.unit(&item.object.key).is_some());
            let standing = if serves { Standing::Serves } else { Standing::New };
            governing.entry(fleet).or_default().push(Governs {
                object: &item.object,
                standing,
            });
        }
    }
    let unseen = |fleet: &FleetName| {
        let unseen = serving
            .get(fleet)
            .into_iter()
            .flat_map(|fleet| fleet.unseen.iter().copied());
        unseen.into_iter().find(|key| key.kind == Kind::Rollout)
    };
    let mut problems = Vec::new();
    for (fleet, rollouts) in &mut governing {
        rollouts.sort_by(|a, b| a.order().cmp(&b.order()));
        let (first, others) = match (unseen(fleet), rollouts.split_first()) {
            (Some(first), _) => (first, rollouts.as_slice()),
            (None, Some((first, others))) => (&first.object.key, others),
            (None, None) => continue,
        };
        problems.extend(others.iter().map(|other| governed(other.object, fleet, first)));
    }
    // A Rollout that cannot be read may be the one that is missing.
    let unreadable = translation
        .items
        .iter()
        .any(|(key, item)| key.kind == Kind::Rollout && item.meaning.is_none());
    let fleets: Vec<_> = governing.keys().map(|fleet| fleet.as_str()).collect();
    for (fleet, routes) in routes
        .iter()
        .filter(|(fleet, _)| !governing.contains_key(*fleet) && unseen(fleet).is_none())
    {
        problems.extend(
            routes
                .first()
                .filter(|_| !unreadable)
                .map(|route| ungoverned(fleet, routes.len(), route, &fleets)),
        );
    }
    problems
}

fn governed(object: &Object, fleet: &FleetName, by: &ObjectKey) -> Problem {
    object.problem(
        Severity::Error,
        FieldPath::root("spec").field("fleet"),
        format!("fleet {fleet} is governed by {by} already"),
        "remove one of the two, or name another fleet: the older Rollout counts",
    )
}

fn ungoverned(fleet: &FleetName, count: usize, route: &Route<'_>, fleets: &[&str]) -> Problem {
    let near = suggestion(fleet.as_str(), fleets.iter().copied());
    let only = fleets.first().filter(|_| fleets.len() == 1).copied();
    let fix = match near.or(only) {
        Some(near) => format!("set spec.fleet to {near:?}, or add a Rollout with fleet: {fleet}"),
        None => format!("add a Rollout with fleet: {fleet} and dataPlane.listeners"),
    };
    let routes = if count == 1 { "route waits" } else { "routes wait" };
    let field = FieldPath::root("spec").field("fleet");
    let place = Some(route.object.origin.place(&field));
    let message = format!("no Rollout says how fleet {fleet} listens; {count} {routes} for it");
    // Of no object: the routes themselves are in order.
    Problem {
        place,
        object: None,
        field,
        severity: Severity::Error,
        message,
        fix,
        effect: None,
    }
}
