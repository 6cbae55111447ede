//! Rollout → how its fleet listens, and the plan by which changes reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use regex::Regex;
use sluice_crds::{
    AddressRange, DataPlane, Gate as GateSpec, GateMetric, Http2 as Http2Spec, LabelExpression, LabelOperator,
    ListenerTls as ListenerTlsSpec, Member, NamespaceSelector, NumberOrText, OnIdle as OnIdleSpec,
    OnNoData as OnNoDataSpec, ProxyProtocol, RolloutSpec, Stage as StageSpec, TlsVersion as TlsVersionSpec,
};
use sluice_model::Name;
use sluice_model::network::Network;
use sluice_model::unit::{DataPlaneUnit, Http2, Listener, ListenerTls, TlsVersion, Unit};

use super::client_limits::client_limits;
use super::{Findings, FleetPlan, Meaning, certificate, fleet, quantity};
use crate::problem::FieldPath;
use crate::rollout::{
    Gate, LatencyLimit, Limit, OnIdle, OnNoData, PerMillion, Plan, PlanError, Progress, RateLimit, Stage,
};
use crate::selector::{Demand, Of, Selector};

/// Requests that a gate waits for unless it says otherwise. As in the built-in gates.
const MIN_REQUESTS_DEFAULT: u64 = 200;
/// The longest bake: a week. Longer is forgotten.
const BAKE_MAX_MILLIS: u64 = 168 * 3_600_000;

pub(super) fn translate(spec: &RolloutSpec, findings: &mut Findings<'_>) -> Option<Meaning> {
    let RolloutSpec {
        fleet: fleet_name,
        members,
        namespaces,
        data_plane,
        stages,
        gates,
        on_no_data,
        on_idle,
        paused,
        history_limit,
    } = spec;
    let field = FieldPath::root("spec");
    check_members(&field.field("members"), members, findings);
    let namespaces = namespaces
        .as_ref()
        .map(|spec| selector(&field.field("namespaces"), spec, findings));
    let unit = data_plane_of(&field.field("dataPlane"), data_plane, findings);
    let stages = stages_of(&field.field("stages"), stages, findings);
    let gates = gates_of(&field.field("gates"), gates, findings);
    let mut plan = match Plan::new(stages?, gates?) {
        Ok(plan) => plan,
        Err(error) => return refused(&error, findings),
    };
    plan.on_no_data = match on_no_data {
        OnNoDataSpec::Hold => OnNoData::Hold,
        OnNoDataSpec::Fail => OnNoData::Fail,
        OnNoDataSpec::Pass => OnNoData::Pass,
    };
    plan.on_idle = match on_idle {
        OnIdleSpec::Proceed => OnIdle::Proceed,
        OnIdleSpec::Hold => OnIdle::Hold,
    };
    plan.progress = if *paused { Progress::Paused } else { Progress::Running };
    Some(Meaning::Rollout {
        fleet: fleet(fleet_name, findings)?,
        unit: Arc::new(Unit::DataPlane(unit?)),
        plan: FleetPlan {
            plan,
            history_limit: *history_limit,
            namespaces: namespaces.flatten(),
        },
    })
}

/// A `PlanError` names its field below `spec`, what is wrong, and after a semicolon how to mend it.
fn refused(error: &PlanError, findings: &mut Findings<'_>) -> Option<Meaning> {
    let text = error.to_string();
    let (field, rest) = text.split_once(": ").unwrap_or(("", &text));
    let (message, fix) = rest.rsplit_once("; ").unwrap_or((rest, ""));
    findings.error(&FieldPath::root("spec").field(field), message, fix);
    None
}

/// Whom they mean is for `members` to say; here it is only that they can mean somebody.
fn check_members(field: &FieldPath, specs: &[Member], findings: &mut Findings<'_>) {
    for (index, spec) in specs.iter().enumerate() {
        let Member {
            namespace,
            service_account_name,
        } = spec;
        for (name, text) in [("namespace", namespace), ("serviceAccountName", service_account_name)] {
            findings.ok(&field.index(index).field(name), text.parse::<Name>(), "correct it");
        }
    }
}

/// The key of a label as the API server checks it; the schema cannot say it of the keys of a mapping.
static LABEL_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(sluice_crds::bounds::LABEL_KEY_PATTERN).ok());

fn selector(field: &FieldPath, spec: &NamespaceSelector, findings: &mut Findings<'_>) -> Option<Selector> {
    let NamespaceSelector {
        match_labels,
        match_expressions,
    } = spec;
    let mut demands = Vec::with_capacity(match_labels.len() + match_expressions.len());
    for (key, value) in match_labels {
        if !LABEL_KEY.as_ref().is_some_and(|pattern| pattern.is_match(key)) {
            let message = format!("{key:?} is not the key of a label");
            findings.error(
                &field.field("matchLabels"),
                message,
                "write it as team or example.com/team",
            );
        }
        demands.push(Demand {
            key: key.clone(),
            of_it: Of::In([value.clone()].into()),
        });
    }
    for (index, spec) in match_expressions.iter().enumerate() {
        demands.push(demand(&field.field("matchExpressions").index(index), spec, findings)?);
    }
    Some(Selector { demands })
}

fn demand(field: &FieldPath, spec: &LabelExpression, findings: &mut Findings<'_>) -> Option<Demand> {
    let LabelExpression { key, operator, values } = spec;
    let set = || values.iter().cloned().collect();
    let of_it = match (operator, values.as_slice()) {
        (LabelOperator::In, [_, ..]) => Of::In(set()),
        (LabelOperator::NotIn, [_, ..]) => Of::NotIn(set()),
        (LabelOperator::Exists, []) => Of::Exists,
        (LabelOperator::DoesNotExist, []) => Of::DoesNotExist,
        (LabelOperator::In | LabelOperator::NotIn, []) => {
            findings.error(
                &field.field("values"),
                "there are no values to compare with",
                "add some, or use Exists or DoesNotExist",
            );
            return None;
        }
        (LabelOperator::Exists | LabelOperator::DoesNotExist, [_, ..]) => {
            findings.error(
                &field.field("values"),
                "this operator compares with no values",
                "leave them out, or use In or NotIn",
            );
            return None;
        }
    };
    Some(Demand {
        key: key.clone(),
        of_it,
    })
}

fn data_plane_of(field: &FieldPath, spec: &DataPlane, findings: &mut Findings<'_>) -> Option<DataPlaneUnit> {
    let DataPlane { listeners, limits } = spec;
    let limits = limits.as_ref();
    let limits = limits.map(|spec| client_limits(&field.field("limits"), spec, findings));
    Some(DataPlaneUnit {
        listeners: listeners_of(&field.field("listeners"), listeners, findings)?,
        limits: limits.unwrap_or_default(),
    })
}

fn listeners_of(
    field: &FieldPath,
    listeners: &[sluice_crds::Listener],
    findings: &mut Findings<'_>,
) -> Option<Vec<Listener>> {
    let mut ports: BTreeMap<u16, usize> = BTreeMap::new();
    let mut units = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.iter().enumerate() {
        let sluice_crds::Listener {
            name,
            port,
            tls,
            http2,
            proxy_protocol,
        } = listener;
        if let Some(first) = ports.get(port) {
            let what = format!("{} has port {port} too", field.index(*first));
            findings.error(
                &field.index(index).field("port"),
                what,
                "give each listener a port of its own",
            );
        } else {
            ports.insert(*port, index);
        }
        let name = findings.ok(&field.index(index).field("name"), name.parse(), "rename it")?;
        let tls = tls
            .as_ref()
            .map(|spec| listener_tls(&field.index(index).field("tls"), spec, findings));
        let http2 = listener_http2(&field.index(index).field("http2"), *http2, tls.as_ref(), findings);
        let field = field.index(index).field("proxyProtocol");
        let proxy_protocol_from = proxy_protocol
            .as_ref()
            .map(|spec| introducers(&field, spec, findings))
            .unwrap_or_default();
        units.push(Listener {
            name,
            port: *port,
            tls,
            http2,
            proxy_protocol_from,
        });
    }
    Some(units)
}

/// Those that cannot be read are an error, which holds the Rollout back: leaving one out would ask nothing of whom it means.
fn introducers(field: &FieldPath, spec: &ProxyProtocol, findings: &mut Findings<'_>) -> Vec<Network> {
    let ProxyProtocol { from } = spec;
    let field = field.field("from");
    let mut networks = BTreeSet::new();
    for (index, AddressRange(text)) in from.iter().enumerate() {
        let fix = "write it as 10.0.0.0/8, or 192.0.2.7/32 for one address";
        let Some(network) = findings.ok(&field.index(index), text.parse::<Network>(), fix) else {
            continue;
        };
        if !networks.insert(network) {
            findings.error(
                &field.index(index),
                format!("{network} is there twice"),
                "remove one of them",
            );
        }
    }
    networks.into_iter().collect()
}

fn listener_http2(
    field: &FieldPath,
    spec: Option<Http2Spec>,
    tls: Option<&ListenerTls>,
    findings: &mut Findings<'_>,
) -> Http2 {
    match (spec, tls) {
        (Some(Http2Spec::PriorKnowledge), Some(_)) => {
            findings.error(
                field,
                "this listener has tls, and with tls the handshake says what is spoken",
                "leave http2 out, or turn it Off",
            );
            Http2::Negotiated
        }
        (Some(Http2Spec::PriorKnowledge), None) => Http2::PriorKnowledge,
        (Some(Http2Spec::Off), Some(_)) => Http2::Off,
        // In the clear it is off anyway: no reason to ask for builds that know the field.
        (Some(Http2Spec::Off) | None, None) | (None, Some(_)) => Http2::Negotiated,
    }
}

fn listener_tls(field: &FieldPath, spec: &ListenerTlsSpec, findings: &mut Findings<'_>) -> ListenerTls {
    let ListenerTlsSpec {
        default_certificate,
        min_version,
    } = spec;
    let field = field.field("defaultCertificate");
    ListenerTls {
        default_certificate: default_certificate
            .as_ref()
            .and_then(|spec| certificate(&field, spec, findings)),
        min_version: match min_version {
            Some(TlsVersionSpec::Tls13) => TlsVersion::Tls13,
            Some(TlsVersionSpec::Tls12) | None => TlsVersion::Tls12,
        },
    }
}

fn stages_of(field: &FieldPath, specs: &[StageSpec], findings: &mut Findings<'_>) -> Option<Vec<Stage>> {
    if specs.is_empty() {
        return Some(Plan::built_in().stages().to_vec());
    }
    let numbered = specs.iter().enumerate();
    numbered
        .map(|(index, spec)| stage(&field.index(index), spec, findings))
        .collect()
}

fn stage(field: &FieldPath, spec: &StageSpec, findings: &mut Findings<'_>) -> Option<Stage> {
    let StageSpec {
        name,
        fleet_percent,
        bake_time,
    } = spec;
    let share = percent(&field.field("fleetPercent"), &fleet_percent.0, findings);
    let field = field.field("bakeTime");
    let bake = findings.ok(&field, quantity::millis(&bake_time.0), "write it as 30s, 5m or 1h30m")?;
    let bake = Some(bake)
        .filter(|bake| *bake <= BAKE_MAX_MILLIS)
        .ok_or_else(|| format!("{bake_time} is too long"));
    let bake_ms = findings.ok(&field, bake, "use at most 168h")?;
    Some(Stage {
        name: name.clone(),
        fleet: share?,
        bake_ms,
    })
}

fn percent(field: &FieldPath, value: &NumberOrText, findings: &mut Findings<'_>) -> Option<PerMillion> {
    findings.ok(field, quantity::percent(value), "use 0 to 100, such as 10 or \"0.5%\"")
}

fn gates_of(field: &FieldPath, specs: &[GateSpec], findings: &mut Findings<'_>) -> Option<Vec<Gate>> {
    if specs.is_empty() {
        return Some(Plan::built_in_gates());
    }
    let numbered = specs.iter().enumerate();
    numbered
        .map(|(index, spec)| gate(&field.index(index), spec, findings))
        .collect()
}

fn gate(field: &FieldPath, spec: &GateSpec, findings: &mut Findings<'_>) -> Option<Gate> {
    let GateSpec {
        metric,
        max,
        max_increase,
        max_ratio,
        min_requests,
    } = spec;
    let limit = match metric {
        GateMetric::ErrorRate => Limit::ErrorRate(rate_limit(field, spec, findings)?),
        GateMetric::NoRouteRate => Limit::NoRouteRate(rate_limit(field, spec, findings)?),
        GateMetric::LatencyP95 => {
            if max_increase.is_some() {
                findings.error(
                    &field.field("maxIncrease"),
                    "LatencyP95 has no percentage points",
                    "use maxRatio",
                );
                return None;
            }
            let max_micros = match max {
                Some(limit) => Some(latency(&field.field("max"), &limit.0, findings)?),
                None => None,
            };
            let max_ratio_thousandths = match max_ratio {
                Some(ratio) => Some(findings.ok(
                    &field.field("maxRatio"),
                    quantity::thousandths(&ratio.0),
                    "write it as \"1.5\"",
                )?),
                None => None,
            };
            Limit::LatencyP95(LatencyLimit {
                max_micros,
                max_ratio_thousandths,
            })
        }
    };
    Some(Gate {
        limit,
        min_requests: min_requests.map_or(MIN_REQUESTS_DEFAULT, u64::from),
    })
}

fn rate_limit(field: &FieldPath, spec: &GateSpec, findings: &mut Findings<'_>) -> Option<RateLimit> {
    if spec.max_ratio.is_some() {
        findings.error(
            &field.field("maxRatio"),
            "ratios of rates near zero mean nothing",
            "use maxIncrease",
        );
        return None;
    }
    let max = spec
        .max
        .as_ref()
        .map(|limit| percent(&field.field("max"), &limit.0, findings));
    let increase = spec.max_increase.as_ref();
    let increase = increase.map(|limit| percent(&field.field("maxIncrease"), &limit.0, findings));
    Some(RateLimit {
        max: all_or_nothing(max)?,
        max_increase: all_or_nothing(increase)?,
    })
}

/// A limit that was given and is wrong must not become a limit that was not given.
fn all_or_nothing<T>(limit: Option<Option<T>>) -> Option<Option<T>> {
    match limit {
        Some(None) => None,
        Some(Some(limit)) => Some(Some(limit)),
        None => Some(None),
    }
}

fn latency(field: &FieldPath, limit: &NumberOrText, findings: &mut Findings<'_>) -> Option<u64> {
    let millis = quantity::millis(&limit.to_string());
    let millis = findings.ok(field, millis, "for LatencyP95 write a duration, such as 500ms")?;
    Some(millis.saturating_mul(1_000))
}
