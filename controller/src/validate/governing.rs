//! Which Rollout governs each fleet, and which namespaces' routes the fleet serves: two Rollouts for one fleet, fleets
//! without one, routes of namespaces that are not selected.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_model::{FleetName, Kind, Name, ObjectKey};

use super::{Route, Routes, Serving, Standing, route_unit};
use crate::objects::Object;
use crate::problem::{FieldPath, Problem, Severity};
use crate::selector::Selector;
use crate::source::schema::suggestion;
use crate::source::{Cluster, View};
use crate::translate::{Meaning, Translation};

/// See the file's comment.
#[derive(Debug)]
pub struct Governing<'a> {
    cluster: Option<&'a Cluster>,
    serving: &'a Serving<'a>,
    /// The readable Rollouts of each fleet, in the order in which they count.
    fleets: BTreeMap<&'a FleetName, Vec<Governs<'a>>>,
    /// Whether there is a Rollout that cannot be read: it may be the one that is missing.
    unreadable: bool,
    /// Whether Rollouts that would count cannot be seen.
    hidden: bool,
}

/// One readable Rollout.
#[derive(Debug)]
struct Governs<'a> {
    object: &'a Arc<Object>,
    namespaces: Option<&'a Selector>,
    standing: Standing,
}

/// Whether a fleet serves the routes of a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Serves {
    /// It does.
    Yes,
    /// Its Rollout selects others.
    No,
    /// Its Rollout or the namespace cannot be seen.
    Unknown,
}

/// Whether a Rollout governs a fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Governed {
    /// One does, or may.
    #[default]
    ByRollout,
    /// None does: it was deleted, or names another fleet. What serves, serves on; nothing new reaches the instances.
    ByNobody,
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

impl<'a> Governing<'a> {
    /// What the Rollouts among the objects of `view` say, which mean `translation`.
    pub fn of(translation: &'a Translation, view: &'a View, serving: &'a Serving<'a>) -> Self {
        let cluster = view.cluster.as_deref();
        let (mut fleets, mut unreadable): (BTreeMap<_, Vec<Governs<'_>>>, _) = (BTreeMap::new(), false);
        let rollouts = translation.items.iter().filter(|(key, _)| key.kind == Kind::Rollout);
        for (key, item) in rollouts.filter(|(key, _)| cluster.is_none_or(|cluster| cluster.governs(key))) {
            let Some(Meaning::Rollout { fleet, plan, .. }) = &item.meaning else {
                unreadable = true;
                continue;
            };
            let serves = serving
                .get(fleet)
                .is_some_and(|fleet| fleet.snapshot.unit(key).is_some());
            fleets.entry(fleet).or_default().push(Governs {
                object: &item.object,
                namespaces: plan.namespaces.as_ref(),
                standing: if serves { Standing::Serves } else { Standing::New },
            });
        }
        for rollouts in fleets.values_mut() {
            rollouts.sort_by(|a, b| a.order().cmp(&b.order()));
        }
        Self {
            cluster,
            serving,
            fleets,
            unreadable,
            hidden: cluster.is_some_and(|cluster| view.coverage.hides_some(Kind::Rollout, &cluster.controller)),
        }
    }

    /// Whether `fleet` serves the routes of `namespace`.
    pub fn serves(&self, fleet: &FleetName, namespace: &Name) -> Serves {
        let Some(cluster) = self.cluster else {
            return Serves::Yes; // a folder's namespaces have no labels
        };
        let selector = match (self.unseen(fleet), self.fleets.get(fleet).and_then(|all| all.first())) {
            (None, Some(governs)) => governs.namespaces,
            (Some(_), _) => return Serves::Unknown,
            (None, None) if self.unreadable => return Serves::Unknown,
            (None, None) => None,
        };
        match (selector, cluster.namespaces.get(namespace)) {
            (None, _) => Serves::Yes,
            (Some(_), None) => Serves::Unknown,
            (Some(selector), Some(namespace)) if selector.matches(&namespace.labels) => Serves::Yes,
            (Some(_), Some(_)) => Serves::No,
        }
    }

    /// Whether a Rollout governs `fleet`. One that cannot be seen or read at the moment still does.
    pub fn governs(&self, fleet: &FleetName) -> Governed {
        if self.hidden || self.unreadable || self.fleets.contains_key(fleet) || self.unseen(fleet).is_some() {
            Governed::ByRollout
        } else {
            Governed::ByNobody
        }
    }

    /// Why a route is not served by the fleet that it names, if it is not.
    pub(super) fn not_served(&self, fleet: &FleetName, route: &Object) -> Option<Problem> {
        let namespace = &route.key.namespace;
        let (message, fix) = match self.serves(fleet, namespace) {
            Serves::Yes => return None,
            Serves::No => (self.others_are_selected(fleet, namespace), SELECTED_FIX.to_owned()),
            // What serves was selected when it was last known.
            Serves::Unknown if self.is_in_stable(fleet, &route.key) => return None,
            // The fleet has never served, and no Rollout that can be read is for it: the route waits for one.
            Serves::Unknown if !self.fleets.contains_key(fleet) && !self.serving.contains_key(fleet) => return None,
            Serves::Unknown => (
                format!("whether fleet {fleet} serves namespace {namespace} cannot be told"),
                "mend its Rollout, or what keeps the controller from seeing it or the namespace: another Problem says how"
                    .to_owned(),
            ),
        };
        Some(route.problem(Severity::Error, FieldPath::root("spec").field("fleet"), message, fix))
    }

    fn others_are_selected(&self, fleet: &FleetName, namespace: &Name) -> String {
        let governs = self.fleets.get(fleet).and_then(|all| all.first());
        let by = governs.map(|governs| (&governs.object.key, governs.namespaces));
        match by {
            Some((rollout, Some(selector))) => format!(
                "fleet {fleet} does not serve namespace {namespace}: {rollout} selects namespaces with {selector}"
            ),
            Some((_, None)) | None => format!("fleet {fleet} does not serve namespace {namespace}"),
        }
    }

    fn is_in_stable(&self, fleet: &FleetName, route: &ObjectKey) -> bool {
        let serving = self.serving.get(fleet);
        serving.is_some_and(|fleet| route_unit(fleet.snapshot, route).is_some())
    }

    /// The Rollout that governs the fleet and cannot be seen at the moment.
    fn unseen(&self, fleet: &FleetName) -> Option<&'a ObjectKey> {
        let unseen = &self.serving.get(fleet)?.unseen;
        unseen.iter().find(|key| key.kind == Kind::Rollout).copied()
    }

    /// What is wrong with the Rollouts, and with fleets that have none.
    pub(super) fn problems(&self, routes: &Routes<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (fleet, rollouts) in &self.fleets {
            let (first, others) = match (self.unseen(fleet), rollouts.split_first()) {
                (Some(first), _) => (first, rollouts.as_slice()),
                (None, Some((first, others))) => (&first.object.key, others),
                (None, None) => continue,
            };
            problems.extend(others.iter().map(|other| governed(other.object, fleet, first)));
        }
        if self.cluster.is_none() {
            let all = self.fleets.values().flatten();
            let selecting = all.filter(|governs| governs.namespaces.is_some());
            problems.extend(selecting.map(|governs| without_labels(governs.object)));
        }
        if !self.unreadable {
            let fleets: Vec<_> = self.fleets.keys().map(|fleet| fleet.as_str()).collect();
            let alone = routes
                .iter()
                .filter(|(fleet, _)| !self.fleets.contains_key(*fleet) && self.unseen(fleet).is_none());
            problems.extend(alone.filter_map(|(fleet, routes)| {
                let first = routes.first()?;
                Some(ungoverned(fleet, routes.len(), first, &fleets))
            }));
        }
        problems
    }
}

const SELECTED_FIX: &str = "label the namespace so that it is selected, or name a fleet in spec.fleet that serves it";

fn without_labels(object: &Object) -> Problem {
    object.problem(
        Severity::Warning,
        FieldPath::root("spec").field("namespaces"),
        "namespaces in a folder have no labels, so that every one is served",
        "leave it out, or say it in a cluster, where namespaces have labels",
    )
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
    let place = route.object.origin.place(&field);
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
