//! Objects → what each one means, and Problems. Never fails: an object that means nothing is reported and left out.
//!
//! Each object is translated on its own; what concerns several at once is `validate`'s. Every CEL rule of the CRDs has
//! its twin here, since CEL does not run in the directory source; `sluice_crds::rules::CASES` drives both.

mod address;
mod client_limits;
mod filters;
mod pool;
mod quantity;
mod rollout;
mod route;

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_crds::SecretReference;
use sluice_model::unit::Unit;
use sluice_model::{CertificateRef, FleetName, ObjectKey};

use crate::live::RemovalBrake;
use crate::objects::{Object, Objects, Spec};
use crate::problem::{FieldPath, Problem, Severity};
use crate::rollout::Plan;
use crate::selector::Selector;
use crate::source::Cluster;

pub use quantity::QuantityError;

/// What one object means.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// A route of one fleet.
    Route {
        /// The fleet that serves it.
        fleet: FleetName,
        /// Its unit.
        unit: Arc<Unit>,
    },
    /// A pool of every fleet whose routes refer to it.
    Pool {
        /// Its unit.
        unit: Arc<Unit>,
        /// How a sudden loss of its service's endpoints is doubted.
        brake: RemovalBrake,
    },
    /// A Rollout of one fleet.
    Rollout {
        /// The fleet that it governs.
        fleet: FleetName,
        /// How the fleet listens.
        unit: Arc<Unit>,
        /// How changes reach it.
        plan: FleetPlan,
    },
}

impl Meaning {
    /// The unit, whatever its kind.
    pub fn unit(&self) -> &Arc<Unit> {
        match self {
            Self::Route { unit, .. } | Self::Pool { unit, .. } | Self::Rollout { unit, .. } => unit,
        }
    }

    /// The one fleet that it belongs to; `None` for a pool.
    pub fn fleet(&self) -> Option<&FleetName> {
        match self {
            Self::Route { fleet, .. } | Self::Rollout { fleet, .. } => Some(fleet),
            Self::Pool { .. } => None,
        }
    }
}

/// What a Rollout says besides how the fleet listens: the controller's own business, not part of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FleetPlan {
    /// Stages and gates.
    pub plan: Plan,
    /// How many past revisions are kept.
    pub history_limit: u32,
    /// The namespaces whose routes the fleet serves; `None`: every one that is watched.
    pub namespaces: Option<Selector>,
}

/// What all objects mean, one by one.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// Every object, with its meaning if it has one.
    pub items: BTreeMap<ObjectKey, Item>,
}

impl Translation {
    /// What is wrong with single objects.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.items.values().flat_map(|item| &item.problems)
    }
}

/// One object and what it means.
#[derive(Clone, Debug)]
pub struct Item {
    /// The object.
    pub object: Arc<Object>,
    /// `None` if something is wrong with it; Problems say what.
    pub meaning: Option<Meaning>,
    /// What is wrong with it on its own.
    pub problems: Vec<Problem>,
}

/// Translates every object on its own. An object that `before` holds too is not translated again: regular expressions
/// are costly to compile, and most changes touch one object.
///
/// In a cluster only the controller's namespace has Rollouts that mean something.
pub fn translate(objects: &Objects, cluster: Option<&Cluster>, before: &Translation) -> Translation {
    let known = |object: &Arc<Object>| {
        before
            .items
            .get(&object.key)
            .filter(|item| Arc::ptr_eq(&item.object, object))
    };
    let items = objects
        .iter()
        .map(|object| known(object).cloned().unwrap_or_else(|| one(object, cluster)));
    Translation {
        items: items.map(|item| (item.object.key.clone(), item)).collect(),
    }
}

fn one(object: &Arc<Object>, cluster: Option<&Cluster>) -> Item {
    let mut findings = Findings {
        object,
        problems: vec![],
    };
    if let Some(cluster) = cluster.filter(|cluster| !cluster.governs(&object.key)) {
        findings.error(
            &FieldPath::root("metadata").field("namespace"),
            format!(
                "only Rollouts in namespace {}, the controller's, govern a fleet",
                cluster.controller
            ),
            "move it there",
        );
    }
    let meaning = match &object.spec {
        Spec::ProxyRoute(spec) => route::translate(object, spec, &mut findings),
        Spec::Pool(spec) => pool::translate(object, spec, &mut findings),
        Spec::Rollout(spec) => rollout::translate(spec, &mut findings),
        Spec::Unreadable => None,
    };
    let meaning = meaning.filter(|_| !findings.problems.iter().any(Problem::is_error));
    let mut problems = findings.problems;
    problems.extend(twice(object));
    Item {
        object: object.clone(),
        meaning,
        problems,
    }
}

/// An object that stands in two places: neither is better, so both are told.
fn twice(object: &Object) -> Vec<Problem> {
    let Some(here) = object.origin.place(&FieldPath::default()) else {
        return vec![];
    };
    let places = object.also_in.iter().map(|other| (other, &here));
    let first = object.also_in.first().map(|other| (&here, other));
    first
        .into_iter()
        .chain(places)
        .map(|(place, other)| Problem {
            place: Some(place.clone()),
            ..object.problem(
                Severity::Error,
                FieldPath::default(),
                format!("the same object is also in {other}"),
                "remove or rename one of the two",
            )
        })
        .collect()
}

/// Where findings about one object go.
struct Findings<'a> {
    object: &'a Object,
    problems: Vec<Problem>,
}

impl Findings<'_> {
    fn error(&mut self, field: &FieldPath, message: impl Into<String>, fix: impl Into<String>) {
        self.problems
            .push(self.object.problem(Severity::Error, field.clone(), message, fix));
    }

    /// The value, or an error about `field`.
    fn ok<T, E: ToString>(&mut self, field: &FieldPath, result: Result<T, E>, fix: &str) -> Option<T> {
        result.map_err(|error| self.error(field, error.to_string(), fix)).ok()
    }
}

/// A Secret in the namespace of the object, or in the one that is named. Whether that one shares it is `validate`'s.
fn certificate(field: &FieldPath, spec: &SecretReference, findings: &mut Findings<'_>) -> Option<CertificateRef> {
    let SecretReference { secret_name, namespace } = spec;
    let name = findings.ok(
        &field.field("secretName"),
        secret_name.parse(),
        "use the name of a Secret",
    );
    let namespace = match namespace {
        None => Some(findings.object.key.namespace.clone()),
        Some(text) => findings.ok(&field.field("namespace"), text.parse(), "use the name of a namespace"),
    };
    Some(CertificateRef {
        namespace: namespace?,
        name: name?,
    })
}

fn fleet(text: &str, findings: &mut Findings<'_>) -> Option<FleetName> {
    findings.ok(
        &FieldPath::root("spec").field("fleet"),
        text.parse(),
        "use the name of a fleet",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{manifest, yaml};

    fn problems_of(kind: &str, spec: &str) -> Vec<Problem> {
        let text = format!("{{apiVersion: sluice.dev/v1alpha1, kind: {kind}, metadata: {{name: x}}, spec: {spec}}}");
        let read = manifest::read(&"x.yaml".into(), yaml::documents(&text).unwrap());
        assert_eq!(read.problems, [], "the schema alone must not refuse {spec}");
        translate(&read.objects.into_iter().collect(), None, &Translation::default())
            .problems()
            .cloned()
            .collect()
    }

    #[test]
    fn every_cel_rule_has_a_twin() {
        for case in sluice_crds::rules::CASES {
            let problems = problems_of(case.kind, case.spec);
            match case.refused_at {
                None => assert_eq!(problems, [], "{} accepts {}", case.rule.id, case.spec),
                Some(at) => {
                    let found: Vec<_> = problems
                        .iter()
                        .map(|problem| problem.field.as_str().to_owned())
                        .collect();
                    let points_there = |field: &String| field.starts_with(at);
                    assert!(
                        found.iter().any(points_there),
                        "{} refuses {} at {at}: {problems:?}",
                        case.rule.id,
                        case.spec
                    );
                    assert_eq!(
                        problems.len(),
                        1,
                        "nothing else is wrong with {}: {problems:?}",
                        case.spec
                    );
                }
            }
        }
    }

    #[test]
    fn the_bounds_of_the_api_are_the_models() {
        use sluice_crds::bounds as api;
        use sluice_model::limits as model;
        let size = |bound: u32| usize::try_from(bound).unwrap();
        for (api, model) in [
            (api::HOSTNAMES_MAX_ITEMS, model::MAX_HOSTNAMES_PER_ROUTE),
            (api::HOSTNAME_REGEXES_MAX_ITEMS, model::MAX_HOST_REGEXES_PER_ROUTE),
            (api::RULES_MAX_ITEMS, model::MAX_RULES_PER_ROUTE),
            (api::MATCHES_MAX_ITEMS, model::MAX_MATCHES_PER_RULE),
            (api::HEADERS_MAX_ITEMS, model::MAX_HEADER_MATCHES),
            (api::QUERY_PARAMS_MAX_ITEMS, model::MAX_QUERY_MATCHES),
            (api::METHODS_MAX_ITEMS, model::MAX_METHODS),
            (api::UPGRADES_MAX_ITEMS, model::MAX_UPGRADES_PER_RULE),
            (api::UPGRADE_MAX_BYTES, model::MAX_UPGRADE_TOKEN_BYTES),
            (api::HEADER_CHANGES_MAX_ITEMS, model::MAX_HEADER_CHANGES),
            (api::PATH_MAX_BYTES, model::MAX_PATH_MATCH_BYTES),
            (api::REGEX_MAX_BYTES, model::MAX_REGEX_BYTES),
            (api::HEADER_VALUE_MAX_BYTES, model::MAX_VALUE_MATCH_BYTES),
            (api::HEADER_NAME_MAX_BYTES, model::MAX_NAME_MATCH_BYTES),
            (api::LABEL_MAX_BYTES, model::MAX_RULE_NAME_BYTES),
            (api::CERTIFICATES_MAX_ITEMS, model::MAX_CERTIFICATES_PER_ROUTE),
            (api::ENDPOINTS_MAX_ITEMS, model::MAX_ENDPOINTS_PER_POOL),
            (api::LISTENERS_MAX_ITEMS, model::MAX_LISTENERS),
            (api::PER_ENDPOINT_MAX, model::UPSTREAM_CONNECTIONS_MOST as usize),
            (api::PENDING_MAX, model::UPSTREAM_PENDING_MOST as usize),
            (api::PROXY_PROTOCOL_SOURCES_MAX_ITEMS, model::MAX_PROXY_PROTOCOL_SOURCES),
            (api::STAGES_MAX_ITEMS, model::ROLLOUT_STAGES_MAX),
            (api::GATES_MAX_ITEMS, model::ROLLOUT_GATES_MAX),
        ] {
            assert_eq!(size(api), model);
        }
        assert_eq!(api::WEIGHT_MAX, model::MAX_WEIGHT);
    }

    #[test]
    fn the_fields_that_no_rule_may_change_are_the_models() {
        let cel = sluice_crds::rules::HEADER_MAY_CHANGE.cel;
        let (_, list) = cel.split_once('[').unwrap();
        let named: Vec<&str> = list.split('\'').skip(1).step_by(2).collect();
        assert_eq!(named, sluice_model::header_changes::OWNED);
    }

    #[test]
    fn a_rollout_that_names_no_stages_follows_the_built_in_ones() {
        let text = "{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: x}, spec: {dataPlane: {listeners: [{name: http, port: 80}]}}}";
        let read = manifest::read(&"x.yaml".into(), yaml::documents(text).unwrap());
        let translation = translate(&read.objects.into_iter().collect(), None, &Translation::default());
        let meaning = translation.items.values().next().unwrap().meaning.clone().unwrap();
        let Meaning::Rollout { plan, fleet, .. } = meaning else {
            panic!("not a Rollout")
        };
        assert_eq!(
            (plan.plan, plan.history_limit, fleet.as_str()),
            (Plan::built_in(), 10, "default")
        );
    }
}
