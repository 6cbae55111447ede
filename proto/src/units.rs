//! Conversions of units and of the entries that carry them.

use std::net::SocketAddr;
use std::sync::Arc;

use sluice_model::ObjectKey;
use sluice_model::client_limits::Bounded;
use sluice_model::unit::{
    Action, DataPlaneUnit, Endpoint, Forward, Http2, Listener, ListenerTls, PoolSource, PoolUnit, RouteUnit, Rule,
    TimeoutMillis, Timeouts, TlsVersion, Transport, Unit, UpstreamProtocol, UpstreamTls, Weight,
};
use sluice_model::upgrade::UpgradeToken;

use crate::canonical::{DecodeError, Wire, each, required, wrong};
use crate::client_auth::{client_auth_from, client_auth_to, rule_client_auth_from, rule_client_auth_to};
use crate::client_limits::{bounded, client_limits_from, client_limits_to};
use crate::filters::{
    header_changes_in, header_changes_to, plain_http_from, plain_http_to, redirect_from, redirect_to, rewrite_in,
    rewrite_to,
};
use crate::identity::{certificate_from, certificate_to, key_in, key_to, service_from, service_to, text};
use crate::matches::{host_from, host_to, match_from, match_to};
use crate::pb;
use crate::pool_connections::{pool_connections_from, pool_connections_to};

/// One object of a section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) key: ObjectKey,
    pub(crate) unit: Arc<Unit>,
}

impl Wire for Entry {
    type Proto = pb::Entry;

    fn to_proto(&self) -> pb::Entry {
        let Self { key, unit } = self;
        entry_to(key, unit)
    }

    fn from_proto(proto: pb::Entry) -> Result<Self, DecodeError> {
        let pb::Entry { key, unit } = proto;
        let key = key_in("key", key)?;
        let unit = match required("unit", unit)? {
            pb::entry::Unit::Route(route) => route_from(route).map(Unit::Route),
            pb::entry::Unit::Pool(pool) => pool_from(pool).map(Unit::Pool),
            pb::entry::Unit::DataPlane(plane) => data_plane_from(plane).map(Unit::DataPlane),
        };
        let unit = Arc::new(unit.map_err(|error| error.within(&key))?);
        Ok(Self { key, unit })
    }
}

/// An entry of borrowed parts.
pub(crate) fn entry_to(key: &ObjectKey, unit: &Unit) -> pb::Entry {
    let unit = match unit {
        Unit::Route(route) => pb::entry::Unit::Route(route_to(route)),
        Unit::Pool(pool) => pb::entry::Unit::Pool(pool_to(pool)),
        Unit::DataPlane(plane) => pb::entry::Unit::DataPlane(data_plane_to(plane)),
    };
    pb::Entry {
        key: Some(key_to(key)),
        unit: Some(unit),
    }
}

fn route_to(route: &RouteUnit) -> pb::Route {
    let RouteUnit {
        created_at_seconds,
        hosts,
        rules,
        certificates,
        client_auth,
        plain_http,
    } = route;
    pb::Route {
        created_at_seconds: *created_at_seconds,
        hosts: hosts.iter().map(host_to).collect(),
        rules: rules.iter().map(rule_to).collect(),
        certificates: certificates.iter().map(certificate_to).collect(),
        client_auth: client_auth.as_ref().map(client_auth_to),
        plain_http: plain_http_to(*plain_http).map(i32::from),
    }
}

fn route_from(route: pb::Route) -> Result<RouteUnit, DecodeError> {
    let pb::Route {
        created_at_seconds,
        hosts,
        rules,
        certificates,
        client_auth,
        plain_http,
    } = route;
    Ok(RouteUnit {
        created_at_seconds,
        hosts: each("hosts", hosts, host_from)?,
        rules: each("rules", rules, rule_from)?,
        certificates: each("certificates", certificates, certificate_from)?,
        client_auth: client_auth
            .map(client_auth_from)
            .transpose()
            .map_err(|error| error.within("client_auth"))?,
        plain_http: plain_http_from(plain_http)?,
    })
}

fn rule_to(rule: &Rule) -> pb::Rule {
    let Rule {
        name,
        matches,
        action,
        response_headers,
        client_auth,
    } = rule;
    let (forward, redirect) = match action {
        Action::Forward(forward) => (Some(forward), None),
        Action::Redirect(redirect) => (None, Some(redirect_to(redirect))),
    };
    let timeouts = forward.map(|forward| &*forward.timeouts);
    pb::Rule {
        name: name.as_deref().map(str::to_owned),
        matches: matches.iter().map(match_to).collect(),
        pool: forward.map(|forward| key_to(&forward.pool)),
        timeouts: timeouts
            .filter(|timeouts| **timeouts != Timeouts::default())
            .map(timeouts_to),
        max_body_bytes: forward.and_then(|forward| forward.max_body).map(Bounded::get),
        request_headers: forward.and_then(|forward| header_changes_to(&forward.request_headers)),
        response_headers: header_changes_to(response_headers),
        redirect,
        rewrite: forward.and_then(|forward| rewrite_to(&forward.rewrite)),
        upgrades: forward
            .map(|forward| forward.upgrades.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        client_auth: rule_client_auth_to(*client_auth).map(i32::from),
    }
}

fn rule_from(rule: pb::Rule) -> Result<Rule, DecodeError> {
    let pb::Rule {
        name,
        matches,
        pool,
        timeouts,
        request_headers,
        response_headers,
        redirect,
        rewrite,
        upgrades,
        client_auth,
        max_body_bytes,
    } = rule;
    Ok(Rule {
        name: name.map(Arc::from),
        matches: each("matches", matches, match_from)?,
        action: match redirect {
            // What stands beside it would not come out again, and so is refused.
            Some(redirect) => Action::Redirect(Arc::new(
                redirect_from(redirect).map_err(|error| error.within("redirect"))?,
            )),
            None => Action::Forward(Forward {
                pool: key_in("pool", pool)?,
                timeouts: Arc::new(timeouts.map(timeouts_from).transpose()?.unwrap_or_default()),
                max_body: max_body_bytes
                    .map(|bytes| bounded("max_body_bytes", bytes))
                    .transpose()?,
                upgrades: each("upgrades", upgrades, upgrade_from)?.into(),
                request_headers: header_changes_in("request_headers", request_headers)?,
                rewrite: rewrite_in(rewrite)?,
            }),
        },
        response_headers: header_changes_in("response_headers", response_headers)?,
        client_auth: rule_client_auth_from(client_auth)?,
    })
}

fn upgrade_from(text: String) -> Result<UpgradeToken, DecodeError> {
    UpgradeToken::new(&text).map_err(|error| wrong("", error.to_string()))
}

fn timeouts_to(timeouts: &Timeouts) -> pb::Timeouts {
    let Timeouts { request, per_try, idle } = timeouts;
    pb::Timeouts {
        request_millis: request.map(TimeoutMillis::get),
        per_try_millis: per_try.map(TimeoutMillis::get),
        idle_millis: idle.map(TimeoutMillis::get),
    }
}

fn timeouts_from(timeouts: pb::Timeouts) -> Result<Timeouts, DecodeError> {
    let pb::Timeouts {
        request_millis,
        per_try_millis,
        idle_millis,
    } = timeouts;
    let time = |field: &str, millis: Option<u64>| match millis.map(|millis| (millis, TimeoutMillis::new(millis))) {
        None => Ok(None),
        Some((_, Some(time))) => Ok(Some(time)),
        Some((millis, None)) => Err(wrong(field, format!("{millis} ms is not between 1 ms and a day"))),
    };
    Ok(Timeouts {
        request: time("timeouts.request_millis", request_millis)?,
        per_try: time("timeouts.per_try_millis", per_try_millis)?,
        idle: time("timeouts.idle_millis", idle_millis)?,
    })
}

fn pool_to(pool: &PoolUnit) -> pb::Pool {
    let PoolUnit { source, transport } = pool;
    let Transport {
        protocol,
        tls,
        connections,
    } = &**transport;
    let (endpoints, service) = match source {
        PoolSource::Static(endpoints) => (endpoints.iter().map(endpoint_to).collect(), None),
        PoolSource::Service(service) => (vec![], Some(service_to(service))),
    };
    pb::Pool {
        endpoints,
        service,
        protocol: upstream_protocol_to(*protocol).into(),
        tls: tls.as_ref().map(upstream_tls_to),
        connections: pool_connections_to(connections),
    }
}

fn pool_from(pool: pb::Pool) -> Result<PoolUnit, DecodeError> {
    let pb::Pool {
        endpoints,
        service,
        protocol,
        tls,
        connections,
    } = pool;
    let source = match service {
        Some(_) if !endpoints.is_empty() => return Err(wrong("service", "is there beside endpoints")),
        Some(service) => PoolSource::Service(service_from(service).map_err(|error| error.within("service"))?),
        None => PoolSource::Static(each("endpoints", endpoints, endpoint_from)?),
    };
    let tls = tls.map(upstream_tls_from).transpose();
    let connections = connections.map(pool_connections_from).transpose();
    let transport = Transport {
        protocol: upstream_protocol_from(protocol)?,
        tls: tls.map_err(|error| error.within("tls"))?,
        connections: connections
            .map_err(|error| error.within("connections"))?
            .unwrap_or_default(),
    };
    Ok(PoolUnit {
        source,
        transport: Arc::new(transport),
    })
}

fn upstream_protocol_to(protocol: UpstreamProtocol) -> pb::UpstreamProtocol {
    match protocol {
        UpstreamProtocol::Http1 => pb::UpstreamProtocol::Unspecified,
        UpstreamProtocol::Http2 => pb::UpstreamProtocol::Http2,
        UpstreamProtocol::Auto => pb::UpstreamProtocol::Auto,
    }
}

fn upstream_protocol_from(protocol: i32) -> Result<UpstreamProtocol, DecodeError> {
    match pb::UpstreamProtocol::try_from(protocol) {
        Ok(pb::UpstreamProtocol::Unspecified) => Ok(UpstreamProtocol::Http1),
        Ok(pb::UpstreamProtocol::Http2) => Ok(UpstreamProtocol::Http2),
        Ok(pb::UpstreamProtocol::Auto) => Ok(UpstreamProtocol::Auto),
        Err(_) => Err(wrong("protocol", format!("{protocol} is none of its values"))),
    }
}

fn upstream_tls_to(tls: &UpstreamTls) -> pb::UpstreamTls {
    let UpstreamTls {
        server_name,
        ca,
        client_certificate,
    } = tls;
    pb::UpstreamTls {
        server_name: server_name.to_string(),
        ca: ca.as_ref().map(certificate_to),
        client_certificate: client_certificate.as_ref().map(certificate_to),
    }
}

fn upstream_tls_from(tls: pb::UpstreamTls) -> Result<UpstreamTls, DecodeError> {
    let pb::UpstreamTls {
        server_name,
        ca,
        client_certificate,
    } = tls;
    Ok(UpstreamTls {
        server_name: text("server_name", &server_name)?,
        ca: ca.map(certificate_from).transpose()?,
        client_certificate: client_certificate.map(certificate_from).transpose()?,
    })
}

fn endpoint_to(endpoint: &Endpoint) -> pb::Endpoint {
    let Endpoint { address, weight } = endpoint;
    pb::Endpoint {
        address: address.to_string(),
        weight: weight.get(),
    }
}

fn endpoint_from(endpoint: pb::Endpoint) -> Result<Endpoint, DecodeError> {
    let pb::Endpoint { address, weight } = endpoint;
    let address: SocketAddr = text("address", &address)?;
    let weight = Weight::new(weight).ok_or_else(|| wrong("weight", format!("{weight} is out of range")))?;
    Ok(Endpoint { address, weight })
}

fn data_plane_to(plane: &DataPlaneUnit) -> pb::DataPlane {
    let DataPlaneUnit { listeners, limits } = plane;
    pb::DataPlane {
        limits: client_limits_to(limits),
        listeners: listeners.iter().map(listener_to).collect(),
    }
}

fn data_plane_from(plane: pb::DataPlane) -> Result<DataPlaneUnit, DecodeError> {
    let pb::DataPlane { listeners, limits } = plane;
    Ok(DataPlaneUnit {
        limits: limits
            .map(client_limits_from)
            .transpose()
            .map_err(|error| error.within("limits"))?
            .unwrap_or_default(),
        listeners: each("listeners", listeners, listener_from)?,
    })
}

fn listener_to(listener: &Listener) -> pb::Listener {
    let Listener {
        name,
        port,
        tls,
        http2,
        proxy_protocol_from,
    } = listener;
    pb::Listener {
        name: name.to_string(),
        port: u32::from(*port),
        tls: tls.as_ref().map(tls_to),
        http2: http2_to(*http2).into(),
        proxy_protocol_from: proxy_protocol_from.iter().map(ToString::to_string).collect(),
    }
}

fn http2_to(http2: Http2) -> pb::Http2 {
    match http2 {
        Http2::Negotiated => pb::Http2::Unspecified,
        Http2::Off => pb::Http2::Off,
        Http2::PriorKnowledge => pb::Http2::PriorKnowledge,
    }
}

fn http2_from(http2: i32) -> Result<Http2, DecodeError> {
    match pb::Http2::try_from(http2) {
        Ok(pb::Http2::Unspecified) => Ok(Http2::Negotiated),
        Ok(pb::Http2::Off) => Ok(Http2::Off),
        Ok(pb::Http2::PriorKnowledge) => Ok(Http2::PriorKnowledge),
        Err(_) => Err(wrong("http2", format!("{http2} is none of its values"))),
    }
}

fn tls_to(tls: &ListenerTls) -> pb::ListenerTls {
    let ListenerTls {
        default_certificate,
        min_version,
    } = tls;
    let min_version = match min_version {
        TlsVersion::Tls12 => pb::TlsVersion::Unspecified,
        TlsVersion::Tls13 => pb::TlsVersion::TlsVersion13,
    };
    pb::ListenerTls {
        min_version: min_version.into(),
        default_certificate: default_certificate.as_ref().map(certificate_to),
    }
}

fn tls_from(tls: pb::ListenerTls) -> Result<ListenerTls, DecodeError> {
    let pb::ListenerTls {
        default_certificate,
        min_version,
    } = tls;
    let min_version = match pb::TlsVersion::try_from(min_version) {
        Ok(pb::TlsVersion::Unspecified) => TlsVersion::Tls12,
        Ok(pb::TlsVersion::TlsVersion13) => TlsVersion::Tls13,
        Err(_) => return Err(wrong("min_version", format!("{min_version} is none of its values"))),
    };
    Ok(ListenerTls {
        min_version,
        default_certificate: default_certificate.map(certificate_from).transpose()?,
    })
}

fn listener_from(listener: pb::Listener) -> Result<Listener, DecodeError> {
    let pb::Listener {
        name,
        port,
        tls,
        http2,
        proxy_protocol_from,
    } = listener;
    let port = u16::try_from(port).map_err(|_| wrong("port", format!("{port} is no port")))?;
    Ok(Listener {
        name: text("name", &name)?,
        port,
        tls: tls.map(tls_from).transpose().map_err(|error| error.within("tls"))?,
        http2: http2_from(http2)?,
        proxy_protocol_from: each("proxy_protocol_from", proxy_protocol_from, |range| {
            text("range", &range)
        })?,
    })
}
