//! Routes that ask for TLS in a fleet whose listeners speak none: nobody could ever be served.

use sluice_model::FleetName;
use sluice_model::unit::{PlainHttp, Unit};

use super::Route;
use crate::problem::{FieldPath, Problem, Severity};
use crate::translate::{Meaning, Translation};

/// Warnings about such routes among those of `fleet`. A Rollout that cannot be read may have the listener that is missing.
pub(super) fn without_tls(translation: &Translation, fleet: &FleetName, routes: &[Route<'_>]) -> Vec<Problem> {
    let mut rollouts = translation.items.values().filter_map(|item| match &item.meaning {
        Some(Meaning::Rollout { fleet: of, unit, .. }) if of == fleet => Some(unit.as_ref()),
        Some(Meaning::Rollout { .. } | Meaning::Route { .. } | Meaning::Pool { .. }) | None => None,
    });
    let Some(first) = rollouts.next() else {
        return vec![];
    };
    if std::iter::once(first).chain(rollouts).any(speaks_tls) {
        return vec![];
    }
    let asking = routes.iter().filter(|route| route.unit.plain_http != PlainHttp::Allow);
    asking.map(|route| nobody_is_served(route, fleet)).collect()
}

fn speaks_tls(unit: &Unit) -> bool {
    match unit {
        Unit::DataPlane(plane) => plane.listeners.iter().any(|listener| listener.tls.is_some()),
        Unit::Route(_) | Unit::Pool(_) => false,
    }
}

fn nobody_is_served(route: &Route<'_>, fleet: &FleetName) -> Problem {
    route.object.problem(
        Severity::Warning,
        FieldPath::root("spec").field("tls").field("plainHttp"),
        format!("no listener of fleet {fleet} speaks TLS, so every request comes in the clear, and none is served"),
        "give a listener of its Rollout tls, or use plainHttp: Allow",
    )
}
