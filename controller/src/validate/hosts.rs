//! Who owns a host: one namespace, so that no team answers another's requests.
//!
//! In a cluster the oldest namespace that names a host owns it, of equals the first by name: the age of a namespace
//! cannot be had by writing a route again. In a folder, where namespaces have no age, it is the one with the oldest route;
//! of equals the one that serves already. A wildcard and a host below it are two hosts, as in Gateway API.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sluice_model::host::HostPattern;
use sluice_model::unit::RouteUnit;
use sluice_model::{Name, ObjectKey};

use super::{Route, ServingFleet, Standing, route_unit};
use crate::objects::Object;
use crate::problem::{FieldPath, Problem, Severity};
use crate::source::View;
use crate::translate::Translation;

/// How strong the claim to a host is; the least wins.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Claim<'a> {
    /// When the namespace was created, if that is known.
    namespace_created: u64,
    /// When the route was; only among namespaces of which that is not known.
    route_created: u64,
    standing: Standing,
    namespace: &'a Name,
    object: &'a ObjectKey,
}

fn claim<'a>(view: &View, key: &'a ObjectKey, unit: &RouteUnit, standing: Standing) -> Claim<'a> {
    let namespaces = view.cluster.as_ref().map(|cluster| &cluster.namespaces);
    let known = namespaces.and_then(|namespaces| namespaces.get(&key.namespace)?.created_at_seconds);
    match known {
        Some(namespace_created) => Claim {
            namespace_created,
            route_created: 0,
            standing: Standing::Serves,
            namespace: &key.namespace,
            object: key,
        },
        None => Claim {
            namespace_created: u64::MAX,
            route_created: unit.created_at_seconds.unwrap_or(u64::MAX),
            standing,
            namespace: &key.namespace,
            object: key,
        },
    }
}

fn named(unit: &RouteUnit) -> impl Iterator<Item = (usize, &HostPattern)> {
    let is_name = |host: &HostPattern| matches!(host, HostPattern::Exact(_) | HostPattern::Wildcard(_));
    unit.hosts.iter().enumerate().filter(move |(_, host)| is_name(host))
}

/// The strongest claim to each host.
#[derive(Default)]
struct Claims<'a>(HashMap<&'a HostPattern, Claim<'a>>);

impl<'a> Claims<'a> {
    fn lay(&mut self, host: &'a HostPattern, claim: Claim<'a>) {
        match self.0.entry(host) {
            Entry::Vacant(entry) => drop(entry.insert(claim)),
            Entry::Occupied(mut entry) if claim < *entry.get() => drop(entry.insert(claim)),
            Entry::Occupied(_) => {}
        }
    }
}

/// The hosts among those of `routes` that belong to other namespaces than the routes that name them.
pub(super) fn owned_by_others(
    translation: &Translation,
    view: &View,
    routes: &[Route<'_>],
    serving: Option<&ServingFleet<'_>>,
) -> Vec<Problem> {
    let mut claims = Claims::default();
    for route in routes {
        let key = &route.object.key;
        let serves = serving.and_then(|fleet| route_unit(fleet.snapshot, key));
        for (_, host) in named(route.unit) {
            let serves = serves.is_some_and(|unit| unit.hosts.contains(host));
            let standing = if serves { Standing::Serves } else { Standing::New };
            claims.lay(host, claim(view, key, route.unit, standing));
        }
    }
    // A route that is broken or out of sight at this moment has not given its hosts away.
    let unseen = |key| serving.is_some_and(|fleet| fleet.unseen.contains(key));
    for (key, unit) in serving.into_iter().flat_map(|fleet| fleet.snapshot.routes()) {
        if unseen(key) || translation.items.get(key).is_some_and(|item| item.meaning.is_none()) {
            for (_, host) in named(unit) {
                claims.lay(host, claim(view, key, unit, Standing::Serves));
            }
        }
    }
    let mut problems = Vec::new();
    for route in routes {
        for (index, host) in named(route.unit) {
            let owner = claims.0.get(host);
            let lost = owner.filter(|owner| *owner.namespace != route.object.key.namespace);
            problems.extend(lost.map(|owner| belongs_to(route.object, index, host, owner)));
        }
    }
    problems
}

fn belongs_to(object: &Object, index: usize, host: &HostPattern, owner: &Claim<'_>) -> Problem {
    let oldest = if owner.namespace_created == u64::MAX {
        "the namespace whose route is oldest owns a host"
    } else {
        "the oldest of the namespaces that name a host owns it"
    };
    object.problem(
        Severity::Error,
        FieldPath::root("spec").field("hostnames").index(index),
        format!("{host} belongs to namespace {}, by {}", owner.namespace, owner.object),
        format!("use another host, or move this route to that namespace: {oldest}"),
    )
}
