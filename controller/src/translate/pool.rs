//! Pool → its unit.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sluice_crds::{
    PoolConnections as ConnectionsSpec, PoolProtocol, PoolSpec, PoolTls, RemovalBrake as BrakeSpec, SecretReference,
    ServiceReference,
};
use sluice_model::client_limits::Bounded;
use sluice_model::limits::{MAX_WEIGHT, REMOVAL_BRAKE_HOLD_MAX_MS};
use sluice_model::pool_connections::{PoolConnections, Quota};
use sluice_model::unit::{Endpoint, PoolSource, PoolUnit, Transport, Unit, UpstreamProtocol, UpstreamTls, Weight};
use sluice_model::{ServicePort, ServiceRef};

use super::client_limits::{number, time};
use super::filters::{given, new_host};
use super::{Findings, Meaning, address, certificate, quantity};
use crate::live::RemovalBrake;
use crate::objects::Object;
use crate::problem::FieldPath;

pub(super) fn translate(object: &Object, spec: &PoolSpec, findings: &mut Findings<'_>) -> Option<Meaning> {
    let PoolSpec {
        endpoints: written,
        service,
        removal_brake,
        protocol,
        tls,
        connections: written_connections,
    } = spec;
    let field = FieldPath::root("spec");
    let source = match (written.as_slice(), service) {
        (written, None) if !written.is_empty() => {
            PoolSource::Static(endpoints(&field.field("endpoints"), written, findings))
        }
        ([], Some(service)) => PoolSource::Service(service_of(object, &field.field("service"), service, findings)?),
        (written, _) => {
            neither_or_both(&field, written.is_empty(), findings);
            return None;
        }
    };
    let brake = match (removal_brake, service) {
        (None, _) => RemovalBrake::default(),
        (Some(spec), Some(_)) => brake(&field.field("removalBrake"), spec, findings)?,
        (Some(_), None) => {
            findings.error(
                &field.field("removalBrake"),
                "removalBrake is for pools with a service; endpoints that are written down change by rollout, not at once",
                "remove removalBrake, or use a service",
            );
            return None;
        }
    };
    let spoken = spoken(&field, *protocol, tls.as_ref(), findings);
    let connections = match written_connections {
        None => PoolConnections::default(),
        Some(spec) => connections(&field.field("connections"), spec, findings),
    };
    let (protocol, tls) = spoken?;
    let transport = Arc::new(Transport {
        protocol,
        tls,
        connections,
    });
    Some(Meaning::Pool {
        unit: Arc::new(Unit::Pool(PoolUnit { source, transport })),
        brake,
    })
}

/// In what endpoints are spoken to.
fn spoken(
    field: &FieldPath,
    protocol: Option<PoolProtocol>,
    tls: Option<&PoolTls>,
    findings: &mut Findings<'_>,
) -> Option<(UpstreamProtocol, Option<UpstreamTls>)> {
    let protocol = match protocol {
        None | Some(PoolProtocol::Http1) => UpstreamProtocol::Http1,
        Some(PoolProtocol::Http2) => UpstreamProtocol::Http2,
        Some(PoolProtocol::Auto) if tls.is_none() => {
            findings.error(
                &field.field("protocol"),
                "Auto is chosen in the TLS handshake, and there is none",
                "add tls, or say HTTP1 or HTTP2",
            );
            return None;
        }
        Some(PoolProtocol::Auto) => UpstreamProtocol::Auto,
    };
    let tls = match tls {
        None => None,
        Some(spec) => Some(upstream_tls(&field.field("tls"), spec, findings)?),
    };
    Some((protocol, tls))
}

/// What is out of its bounds is a Problem; what stands in its place here is never served.
fn connections(field: &FieldPath, spec: &ConnectionsSpec, findings: &mut Findings<'_>) -> PoolConnections {
    let ConnectionsSpec {
        max_per_endpoint,
        max_pending,
        idle_timeout,
        connect_timeout,
    } = spec;
    let idle = time(&field.field("idleTimeout"), idle_timeout.as_ref(), findings);
    let connect = time(&field.field("connectTimeout"), connect_timeout.as_ref(), findings);
    PoolConnections {
        quota: quota(field, max_per_endpoint.as_ref(), max_pending.as_ref(), findings),
        idle_millis: idle.unwrap_or_default(),
        connect_millis: connect.unwrap_or_default(),
    }
}

fn quota(
    field: &FieldPath,
    connections: Option<&u32>,
    pending: Option<&u32>,
    findings: &mut Findings<'_>,
) -> Option<Quota> {
    let pending_field = field.field("maxPending");
    if connections.is_none() && pending.is_some() {
        findings.error(
            &pending_field,
            "maxPending is for pools with maxPerEndpoint: without a bound no request waits for a connection",
            "add maxPerEndpoint, or remove maxPending",
        );
        return None;
    }
    let pending = number(&pending_field, pending, findings);
    Some(Quota {
        connections: number(&field.field("maxPerEndpoint"), connections, findings)?,
        pending: pending.unwrap_or_else(Bounded::default),
    })
}

fn upstream_tls(field: &FieldPath, spec: &PoolTls, findings: &mut Findings<'_>) -> Option<UpstreamTls> {
    let PoolTls {
        server_name,
        ca,
        client_certificate,
    } = spec;
    let server_name = new_host(&field.field("serverName"), server_name, findings);
    let mut secret = |name: &str, spec: &Option<SecretReference>| {
        let spec = spec.as_ref()?;
        Some(certificate(&field.field(name), spec, findings))
    };
    let ca = secret("ca", ca);
    let client_certificate = secret("clientCertificate", client_certificate);
    Some(UpstreamTls {
        server_name: server_name?,
        ca: given(ca)?,
        client_certificate: given(client_certificate)?,
    })
}

fn neither_or_both(field: &FieldPath, neither: bool, findings: &mut Findings<'_>) {
    if neither {
        findings.error(field, "there are neither endpoints nor a service", "add one of the two");
    } else {
        findings.error(
            &field.field("service"),
            "there are endpoints and a service",
            "remove one of the two",
        );
    }
}

fn service_of(
    object: &Object,
    field: &FieldPath,
    spec: &ServiceReference,
    findings: &mut Findings<'_>,
) -> Option<ServiceRef> {
    let ServiceReference { name, port } = spec;
    let name = findings.ok(
        &field.field("name"),
        name.parse(),
        "use the name of a Service in this namespace",
    );
    let port = findings.ok(
        &field.field("port"),
        port.0.to_string().parse::<ServicePort>(),
        "use the port's name, or its number without quotes",
    );
    Some(ServiceRef {
        namespace: object.key.namespace.clone(),
        name: name?,
        port: port?,
    })
}

fn brake(field: &FieldPath, spec: &BrakeSpec, findings: &mut Findings<'_>) -> Option<RemovalBrake> {
    let BrakeSpec {
        max_percent_at_once,
        for_,
    } = spec;
    let default = RemovalBrake::default();
    let field = field.field("for");
    let hold_ms = match for_ {
        None => default.hold_ms,
        Some(text) => {
            let hold = findings.ok(&field, quantity::millis(&text.0), "write it as 30s, 5m or 1h")?;
            let hold = Some(hold)
                .filter(|hold| *hold <= REMOVAL_BRAKE_HOLD_MAX_MS)
                .ok_or_else(|| format!("{text} is too long"));
            findings.ok(&field, hold, "use at most 1h")?
        }
    };
    Some(RemovalBrake {
        max_percent_at_once: max_percent_at_once.unwrap_or(default.max_percent_at_once),
        hold_ms,
    })
}

fn endpoints(field: &FieldPath, written: &[sluice_crds::Endpoint], findings: &mut Findings<'_>) -> Vec<Endpoint> {
    let mut units = Vec::with_capacity(written.len());
    let mut seen: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for (index, written) in written.iter().enumerate() {
        let Some(unit) = endpoint(&field.index(index), written, findings) else {
            continue;
        };
        // Two spellings of one IPv6 address pass the schema's uniqueness.
        match seen.get(&unit.address) {
            Some(first) => findings.error(
                &field.index(index),
                format!("{} is also {}", unit.address, field.index(*first)),
                "remove one of the two, or give one the sum of the weights",
            ),
            None => drop(seen.insert(unit.address, index)),
        }
        units.push(unit);
    }
    if !units.is_empty() && units.iter().all(|unit| unit.weight.get() == 0) {
        findings.error(
            field,
            "every endpoint has weight 0, so none gets a request",
            "give one a weight above 0",
        );
    }
    units
}

fn endpoint(field: &FieldPath, spec: &sluice_crds::Endpoint, findings: &mut Findings<'_>) -> Option<Endpoint> {
    let sluice_crds::Endpoint { address, port, weight } = spec;
    let ip = ip_of(&field.field("address"), address, findings)?;
    let weight = weight
        .map_or(Some(Weight::ONE), Weight::new)
        .ok_or("the weight is out of range");
    let weight = findings.ok(&field.field("weight"), weight, &format!("use 0 to {MAX_WEIGHT}"))?;
    Some(Endpoint {
        address: SocketAddr::new(ip, *port),
        weight,
    })
}

fn ip_of(field: &FieldPath, address: &str, findings: &mut Findings<'_>) -> Option<IpAddr> {
    let ip = address
        .parse::<IpAddr>()
        .map_err(|_| format!("{address:?} is not an IP address"));
    let ip = findings.ok(
        field,
        ip,
        "write an IPv4 or IPv6 address; host names are not looked up, since what they mean may change unseen",
    )?;
    if ip.to_canonical() != ip {
        let message = format!("{ip} is an IPv4 address in the form of an IPv6 one");
        findings.error(field, message, format!("write {}", ip.to_canonical()));
        return None;
    }
    if let Some(kind) = address::no_machine(ip) {
        findings.error(
            field,
            format!("{ip} is {kind}"),
            "write the address of one machine, the same for every instance",
        );
        return None;
    }
    Some(ip)
}
