//! `Snapshot`: a `Config` that passed every check. One constructor, called by the controller after compile and by the
//! data plane after decode, so that nothing that serves ever meets an invalid configuration.
//!
//! All errors are reported, each with its object and field, so that the controller can quarantine exactly the culprits.

mod check;
mod features;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::client_limits::ClientLimits;
use crate::config::Config;
use crate::feature::Feature;
use crate::names::ObjectKey;
use crate::reference::LiveSubject;
use crate::unit::{DataPlaneUnit, Listener, PoolSource, PoolUnit, RouteUnit, Unit};

/// A configuration that can be served. Cheap to clone only behind an `Arc`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    config: Config,
}

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct CheckError {
    /// The culprit; `None` if it is the configuration as a whole.
    pub object: Option<ObjectKey>,
    /// Its field, as in `rules[0].pool`; empty if it is the object as a whole.
    pub field: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = [self.object.as_ref().map(ToString::to_string), Some(self.field.clone())];
        let place: Vec<String> = place.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        if place.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", place.join(" "), self.message)
    }
}

impl Snapshot {
    /// Checks everything that spans more than one value, and reports all that is wrong.
    pub fn check(config: Config) -> Result<Self, Vec<CheckError>> {
        let errors = check::errors_of(&config);
        if errors.is_empty() {
            Ok(Self { config })
        } else {
            Err(errors)
        }
    }

    /// What was checked.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Gives back what was checked, to be changed and checked again.
    pub fn into_config(self) -> Config {
        self.config
    }

    /// The unit of `key`.
    pub fn unit(&self, key: &ObjectKey) -> Option<&Unit> {
        self.config.get(key)
    }

    /// All routes, by key.
    pub fn routes(&self) -> impl Iterator<Item = (&ObjectKey, &RouteUnit)> {
        self.config.units.iter().filter_map(|(key, unit)| match unit.as_ref() {
            Unit::Route(route) => Some((key, route)),
            Unit::Pool(_) | Unit::DataPlane(_) => None,
        })
    }

    /// All pools, by key.
    pub fn pools(&self) -> impl Iterator<Item = (&ObjectKey, &PoolUnit)> {
        self.config.units.iter().filter_map(|(key, unit)| match unit.as_ref() {
            Unit::Pool(pool) => Some((key, pool)),
            Unit::Route(_) | Unit::DataPlane(_) => None,
        })
    }

    /// The pool of `key`.
    pub fn pool(&self, key: &ObjectKey) -> Option<&PoolUnit> {
        match self.unit(key) {
            Some(Unit::Pool(pool)) => Some(pool),
            Some(Unit::Route(_) | Unit::DataPlane(_)) | None => None,
        }
    }

    /// How the fleet listens. Always exactly one.
    pub fn data_planes(&self) -> impl Iterator<Item = (&ObjectKey, &DataPlaneUnit)> {
        data_planes(&self.config)
    }

    /// The fleet's listeners, never none.
    pub fn listeners(&self) -> &[Listener] {
        self.data_planes()
            .next()
            .map(|(_, plane)| plane.listeners.as_slice())
            .unwrap_or_default()
    }

    /// What each client may take of an instance.
    pub fn limits(&self) -> ClientLimits {
        self.data_planes()
            .next()
            .map(|(_, plane)| plane.limits)
            .unwrap_or_default()
    }

    /// The services and certificates that this refers to: whose values the live lane brings.
    pub fn live_subjects(&self) -> BTreeSet<LiveSubject> {
        live_subjects(&self.config)
    }

    /// What an instance has to understand to serve this.
    pub fn features(&self) -> BTreeSet<Feature> {
        self.config
            .units
            .values()
            .flat_map(|unit| features::of_unit(unit))
            .collect()
    }
}

fn live_subjects(config: &Config) -> BTreeSet<LiveSubject> {
    config.units.values().flat_map(|unit| subjects_of(unit)).collect()
}

/// The services and certificates that one unit refers to.
fn subjects_of(unit: &Unit) -> Vec<LiveSubject> {
    let secrets = |route: &RouteUnit| {
        let certificates = route.certificates.iter().cloned().map(LiveSubject::Certificate);
        let authorities = route.client_auth.iter().map(|auth| auth.ca.clone());
        certificates.chain(authorities.map(LiveSubject::Authorities)).collect()
    };
    match unit {
        Unit::Route(route) => secrets(route),
        Unit::Pool(PoolUnit { source, transport }) => {
            let service = match source {
                PoolSource::Static(_) => None,
                PoolSource::Service(service) => Some(LiveSubject::Service(service.clone())),
            };
            let tls = transport.tls.as_ref();
            let ca = tls.and_then(|tls| tls.ca.clone()).map(LiveSubject::Authorities);
            let shown = tls.and_then(|tls| tls.client_certificate.clone());
            let shown = shown.map(LiveSubject::Certificate);
            [service, ca, shown].into_iter().flatten().collect()
        }
        Unit::DataPlane(plane) => {
            let tls = plane.listeners.iter().filter_map(|listener| listener.tls.as_ref());
            let defaults = tls.filter_map(|tls| tls.default_certificate.clone());
            defaults.map(LiveSubject::Certificate).collect()
        }
    }
}

fn data_planes(config: &Config) -> impl Iterator<Item = (&ObjectKey, &DataPlaneUnit)> {
    config.units.iter().filter_map(|(key, unit)| match unit.as_ref() {
        Unit::DataPlane(plane) => Some((key, plane)),
        Unit::Route(_) | Unit::Pool(_) => None,
    })
}
