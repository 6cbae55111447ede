//! What an instance has to understand to serve a unit.

use crate::client_limits::ClientLimits;
use crate::feature::Feature;
use crate::pool_connections::PoolConnections;
use crate::unit::{
    Action, ClientAuth, DataPlaneUnit, Http2, PlainHttp, PoolSource, PoolUnit, RouteUnit, Rule, RuleClientAuth,
    TlsVersion, Unit, UpstreamProtocol,
};

pub(super) fn of_unit(unit: &Unit) -> Vec<Feature> {
    match unit {
        Unit::Route(route) => route_features(route),
        Unit::Pool(pool) => pool_features(pool),
        Unit::DataPlane(plane) => data_plane_features(plane),
    }
}

fn pool_features(pool: &PoolUnit) -> Vec<Feature> {
    let PoolUnit { source, transport } = pool;
    let mut features = vec![Feature::Pools];
    match source {
        PoolSource::Static(endpoints) if endpoints.is_empty() => {}
        PoolSource::Static(_) => features.push(Feature::StaticEndpoints),
        PoolSource::Service(_) => features.push(Feature::ServicePools),
    }
    match transport.protocol {
        UpstreamProtocol::Http1 => {}
        UpstreamProtocol::Http2 | UpstreamProtocol::Auto => features.push(Feature::UpstreamHttp2),
    }
    if transport.tls.is_some() {
        features.push(Feature::UpstreamTls);
    }
    if transport.connections != PoolConnections::default() {
        features.push(Feature::PoolConnections);
    }
    features
}

fn route_features(route: &RouteUnit) -> Vec<Feature> {
    let changes_headers = |rule: &Rule| match &rule.action {
        _ if !rule.response_headers.is_empty() => true,
        Action::Forward(forward) => !forward.request_headers.is_empty(),
        Action::Redirect(_) => false,
    };
    let rewrites = |rule: &Rule| match &rule.action {
        Action::Forward(forward) => !forward.rewrite.is_empty(),
        Action::Redirect(_) => false,
    };
    let upgrades = |rule: &Rule| match &rule.action {
        Action::Forward(forward) => !forward.upgrades.is_empty(),
        Action::Redirect(_) => false,
    };
    let limits_bodies = |rule: &Rule| match &rule.action {
        Action::Forward(forward) => forward.max_body.is_some(),
        Action::Redirect(_) => false,
    };
    let has_fine_timeouts = |rule: &Rule| match &rule.action {
        Action::Forward(forward) => forward.timeouts.per_try.is_some() || forward.timeouts.idle.is_some(),
        Action::Redirect(_) => false,
    };
    let redirects = |rule: &Rule| matches!(rule.action, Action::Redirect(_));
    let asks = |rule: &Rule| rule.client_auth == RuleClientAuth::Required;
    let forwards = |auth: &ClientAuth| !auth.forwarded.is_empty();
    let uses = [
        (Feature::Routes, true),
        (Feature::TlsListeners, !route.certificates.is_empty()),
        (Feature::ClientCertificates, route.client_auth.is_some()),
        (
            Feature::ForwardedClientCertificates,
            route.client_auth.as_ref().is_some_and(forwards),
        ),
        (Feature::RuleClientCertificates, route.rules.iter().any(asks)),
        (Feature::PlainHttp, route.plain_http != PlainHttp::Allow),
        (Feature::HeaderModifiers, route.rules.iter().any(changes_headers)),
        (Feature::Redirects, route.rules.iter().any(redirects)),
        (Feature::Rewrites, route.rules.iter().any(rewrites)),
        (Feature::Upgrades, route.rules.iter().any(upgrades)),
        (Feature::RequestBodyLimits, route.rules.iter().any(limits_bodies)),
        (Feature::FineTimeouts, route.rules.iter().any(has_fine_timeouts)),
    ];
    uses.into_iter()
        .filter(|(_, used)| *used)
        .map(|(feature, _)| feature)
        .collect()
}

fn data_plane_features(plane: &DataPlaneUnit) -> Vec<Feature> {
    let mut features = vec![Feature::Listeners];
    if plane.listeners.iter().any(|listener| listener.tls.is_some()) {
        features.push(Feature::TlsListeners);
    }
    let mut tls = plane.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    if tls.any(|tls| tls.min_version != TlsVersion::default()) {
        features.push(Feature::TlsMinVersion);
    }
    if plane
        .listeners
        .iter()
        .any(|listener| listener.http2 != Http2::default())
    {
        features.push(Feature::Http2Listeners);
    }
    if plane
        .listeners
        .iter()
        .any(|listener| !listener.proxy_protocol_from.is_empty())
    {
        features.push(Feature::ProxyProtocol);
    }
    if plane.limits != ClientLimits::default() {
        features.push(Feature::ClientLimits);
    }
    if plane.limits.body_bytes.is_some() {
        features.push(Feature::RequestBodyLimits);
    }
    features
}
