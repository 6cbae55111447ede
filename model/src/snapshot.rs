//! `Snapshot`: a `Config` that passed every check. One constructor, called by the controller after compile and by the
//! data plane after decode, so that nothing that serves ever meets an invalid configuration.
//!
//! All errors are reported, each with its object and field, so that the controller can quarantine exactly the culprits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::config::Config;
use crate::feature::Feature;
use crate::header_changes::HeaderChanges;
use crate::host::HostPattern;
use crate::limits::{
    MAX_CERTIFICATES_PER_ROUTE, MAX_ENDPOINTS_PER_POOL, MAX_HEADER_CHANGES, MAX_HEADER_MATCHES,
    MAX_HOST_REGEXES_PER_ROUTE, MAX_HOSTNAMES_PER_ROUTE, MAX_LISTENERS, MAX_LIVE_SUBJECTS, MAX_MATCHES_PER_RULE,
    MAX_METHODS, MAX_PROXY_PROTOCOL_SOURCES, MAX_QUERY_MATCHES, MAX_RULE_NAME_BYTES, MAX_RULES_PER_ROUTE, MAX_UNITS,
    MAX_UPGRADES_PER_RULE,
};
use crate::matching::RouteMatch;
use crate::names::{Kind, ObjectKey};
use crate::reference::{LiveSubject, ServicePort, ServiceRef};
use crate::target::{PathChange, Redirect};
use crate::unit::{
    Action, DataPlaneUnit, Endpoint, Forward, Http2, Listener, ListenerTls, PlainHttp, PoolSource, PoolUnit, RouteUnit,
    Rule, TlsVersion, Unit,
};

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
        let mut errors = Errors::default();
        check_whole(&config, &mut errors);
        for (key, unit) in &config.units {
            errors.object = Some(key.clone());
            match (key.kind, unit.as_ref()) {
                (Kind::ProxyRoute, Unit::Route(route)) => check_route(&config, route, &mut errors),
                (Kind::Pool, Unit::Pool(pool)) => check_pool(pool, &mut errors),
                (Kind::Rollout, Unit::DataPlane(plane)) => check_data_plane(plane, &mut errors),
                (kind, Unit::Route(_) | Unit::Pool(_) | Unit::DataPlane(_)) => {
                    errors.add("", format!("a {kind} does not mean this kind of unit"));
                }
            }
        }
        if errors.found.is_empty() {
            Ok(Self { config })
        } else {
            Err(errors.found)
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

    /// The services and certificates that this refers to: whose values the live lane brings.
    pub fn live_subjects(&self) -> BTreeSet<LiveSubject> {
        live_subjects(&self.config)
    }

    /// What an instance has to understand to serve this.
    pub fn features(&self) -> BTreeSet<Feature> {
        self.config
            .units
            .values()
            .flat_map(|unit| unit_features(unit))
            .collect()
    }
}

fn unit_features(unit: &Unit) -> Vec<Feature> {
    match unit {
        Unit::Route(route) => route_features(route),
        Unit::Pool(PoolUnit { source }) => match source {
            PoolSource::Static(endpoints) if endpoints.is_empty() => vec![Feature::Pools],
            PoolSource::Static(_) => vec![Feature::Pools, Feature::StaticEndpoints],
            PoolSource::Service(_) => vec![Feature::Pools, Feature::ServicePools],
        },
        Unit::DataPlane(plane) => data_plane_features(plane),
    }
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
    let redirects = |rule: &Rule| matches!(rule.action, Action::Redirect(_));
    let uses = [
        (Feature::Routes, true),
        (Feature::TlsListeners, !route.certificates.is_empty()),
        (Feature::ClientCertificates, route.client_auth.is_some()),
        (Feature::PlainHttp, route.plain_http != PlainHttp::Allow),
        (Feature::HeaderModifiers, route.rules.iter().any(changes_headers)),
        (Feature::Redirects, route.rules.iter().any(redirects)),
        (Feature::Rewrites, route.rules.iter().any(rewrites)),
        (Feature::Upgrades, route.rules.iter().any(upgrades)),
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
    features
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
        Unit::Pool(PoolUnit { source }) => match source {
            PoolSource::Static(_) => vec![],
            PoolSource::Service(service) => vec![LiveSubject::Service(service.clone())],
        },
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

/// Collects errors under the object being looked at.
#[derive(Default)]
struct Errors {
    object: Option<ObjectKey>,
    found: Vec<CheckError>,
}

impl Errors {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.found.push(CheckError {
            object: self.object.clone(),
            field: field.into(),
            message: message.into(),
        });
    }

    /// Between 1 and `max`, both included.
    fn count(&mut self, field: &str, count: usize, max: usize) {
        if count == 0 {
            self.add(field, "must not be empty");
        }
        self.at_most(field, count, max);
    }

    fn at_most(&mut self, field: &str, count: usize, max: usize) {
        if count > max {
            self.add(field, format!("has {count} entries; at most {max} are allowed"));
        }
    }
}

fn check_whole(config: &Config, errors: &mut Errors) {
    let units = config.units.len();
    if units > MAX_UNITS {
        errors.add(
            "",
            format!("{units} objects in one fleet; at most {MAX_UNITS} are allowed"),
        );
    }
    let subjects = live_subjects(config).len();
    if subjects > MAX_LIVE_SUBJECTS {
        errors.add(
            "",
            format!("{subjects} services and certificates in one fleet; at most {MAX_LIVE_SUBJECTS} are allowed"),
        );
    }
    let mut planes = data_planes(config).map(|(key, _)| key);
    let first = planes.next();
    if first.is_none() {
        errors.add(
            "",
            "no Rollout says how this fleet listens: add one with dataPlane.listeners",
        );
    }
    for other in planes {
        let also = first.map(ToString::to_string).unwrap_or_default();
        errors.object = Some(other.clone());
        errors.add(
            "",
            format!("a fleet has one Rollout, and {also} is it: remove one of them"),
        );
    }
    errors.object = None;
}

fn check_route(config: &Config, route: &RouteUnit, errors: &mut Errors) {
    let RouteUnit {
        created_at_seconds: _,
        hosts,
        rules,
        certificates,
        // Who signs is any name; whether there is one is the live lane's to find out.
        client_auth: _,
        plain_http: _,
    } = route;
    let is_regex = |host: &&HostPattern| matches!(host, HostPattern::Regex(_));
    let regexes = hosts.iter().filter(is_regex).count();
    if hosts.is_empty() {
        errors.add("hosts", "must not be empty");
    }
    errors.at_most("hosts", hosts.len().saturating_sub(regexes), MAX_HOSTNAMES_PER_ROUTE);
    errors.at_most("hosts (regular expressions)", regexes, MAX_HOST_REGEXES_PER_ROUTE);
    for host in duplicates(hosts) {
        errors.add("hosts", format!("{host} is there twice"));
    }
    errors.count("rules", rules.len(), MAX_RULES_PER_ROUTE);
    for (index, rule) in rules.iter().enumerate() {
        check_rule(config, &format!("rules[{index}]"), rule, errors);
    }
    let names: Vec<_> = rules.iter().filter_map(|rule| rule.name.as_ref()).collect();
    for name in duplicates(&names) {
        errors.add("rules", format!("two rules are called {name:?}"));
    }
    errors.at_most("certificates", certificates.len(), MAX_CERTIFICATES_PER_ROUTE);
    for certificate in duplicates(certificates) {
        errors.add("certificates", format!("{certificate} is there twice"));
    }
}

fn check_rule(config: &Config, place: &str, rule: &Rule, errors: &mut Errors) {
    let Rule {
        name,
        matches,
        action,
        response_headers,
    } = rule;
    if let Some(name) = name {
        let good = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !good || name.len() > MAX_RULE_NAME_BYTES {
            let wanted = format!("{name:?} is not a rule name: a-z, 0-9 and '-', at most {MAX_RULE_NAME_BYTES}");
            errors.add(format!("{place}.name"), wanted);
        }
    }
    errors.count(&format!("{place}.matches"), matches.len(), MAX_MATCHES_PER_RULE);
    for (index, one) in matches.iter().enumerate() {
        check_match(&format!("{place}.matches[{index}]"), one, errors);
    }
    check_header_changes(&format!("{place}.response_headers"), response_headers, errors);
    match action {
        Action::Forward(forward) => check_forward(config, place, forward, matches, errors),
        Action::Redirect(redirect) => check_redirect(&format!("{place}.redirect"), redirect, matches, errors),
    }
}

fn check_redirect(place: &str, redirect: &Redirect, matches: &[RouteMatch], errors: &mut Errors) {
    if redirect.is_empty() {
        errors.add(place, "says nothing, and so leads every request to itself");
    }
    if let Some(path) = &redirect.path {
        check_path_change(&format!("{place}.path"), path, matches, errors);
    }
}

fn check_path_change(place: &str, change: &PathChange, matches: &[RouteMatch], errors: &mut Errors) {
    if !change.fits(matches) {
        errors.add(place, "replaces a prefix, and not every match of the rule has one");
    }
}

fn check_forward(config: &Config, place: &str, forward: &Forward, matches: &[RouteMatch], errors: &mut Errors) {
    let Forward {
        pool,
        timeouts: _,
        upgrades,
        request_headers,
        rewrite,
    } = forward;
    if let Some(path) = &rewrite.path {
        check_path_change(&format!("{place}.rewrite.path"), path, matches, errors);
    }
    check_header_changes(&format!("{place}.request_headers"), request_headers, errors);
    errors.at_most(&format!("{place}.upgrades"), upgrades.len(), MAX_UPGRADES_PER_RULE);
    for token in duplicates(upgrades) {
        errors.add(format!("{place}.upgrades"), format!("{token} is there twice"));
    }
    match config.get(pool) {
        Some(Unit::Pool(_)) => {}
        Some(Unit::Route(_) | Unit::DataPlane(_)) => errors.add(format!("{place}.pool"), format!("{pool} is no Pool")),
        None => errors.add(format!("{place}.pool"), format!("there is no {pool}")),
    }
}

fn check_header_changes(place: &str, changes: &HeaderChanges, errors: &mut Errors) {
    let HeaderChanges { set, add, remove } = changes;
    for (part, count) in [("set", set.len()), ("add", add.len()), ("remove", remove.len())] {
        errors.at_most(&format!("{place}.{part}"), count, MAX_HEADER_CHANGES);
    }
    let names: Vec<_> = changes.names().map(ToString::to_string).collect();
    for name in duplicates(&names) {
        errors.add(place, format!("{name} is there twice"));
    }
}

fn check_match(place: &str, one: &RouteMatch, errors: &mut Errors) {
    let RouteMatch {
        path: _,
        methods,
        headers,
        query,
    } = one;
    errors.at_most(&format!("{place}.methods"), methods.len(), MAX_METHODS);
    errors.at_most(&format!("{place}.headers"), headers.len(), MAX_HEADER_MATCHES);
    errors.at_most(&format!("{place}.query"), query.len(), MAX_QUERY_MATCHES);
}

fn check_pool(pool: &PoolUnit, errors: &mut Errors) {
    let PoolUnit { source } = pool;
    match source {
        PoolSource::Static(endpoints) => check_endpoints(endpoints, errors),
        PoolSource::Service(ServiceRef { port, .. }) if *port == ServicePort::Number(0) => {
            errors.add("service.port", "must not be 0");
        }
        PoolSource::Service(_) => {}
    }
}

fn check_endpoints(endpoints: &[Endpoint], errors: &mut Errors) {
    errors.at_most("endpoints", endpoints.len(), MAX_ENDPOINTS_PER_POOL);
    for (index, endpoint) in endpoints.iter().enumerate() {
        if endpoint.address.port() == 0 {
            errors.add(format!("endpoints[{index}].port"), "must not be 0");
        }
    }
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    for address in duplicates(&addresses) {
        errors.add(
            "endpoints",
            format!("{address} is there twice; give it one entry with the sum of the weights"),
        );
    }
}

fn check_data_plane(plane: &DataPlaneUnit, errors: &mut Errors) {
    let DataPlaneUnit { listeners } = plane;
    errors.count("listeners", listeners.len(), MAX_LISTENERS);
    for (index, listener) in listeners.iter().enumerate() {
        let Listener {
            name,
            port,
            tls,
            http2,
            proxy_protocol_from,
        } = listener;
        // Which certificate there is by default is any name; whether there is one is the live lane's to find out.
        let (None
        | Some(ListenerTls {
            default_certificate: _,
            min_version: _,
        })) = tls;
        if *http2 == Http2::PriorKnowledge && tls.is_some() {
            let known = "with tls the handshake says what is spoken: leave http2 out, or turn it Off";
            errors.add(format!("listeners[{index}].http2"), known);
        }
        let sources = format!("listeners[{index}].proxyProtocol.from");
        errors.at_most(&sources, proxy_protocol_from.len(), MAX_PROXY_PROTOCOL_SOURCES);
        if !proxy_protocol_from.is_sorted_by(|one, other| one < other) {
            errors.add(sources, "must be in order, each once");
        }
        if *port == 0 {
            errors.add(format!("listeners[{index}].port"), "must not be 0");
        }
        if name.as_str().len() > MAX_RULE_NAME_BYTES || name.as_str().contains('.') {
            let label = format!(
                "{:?} is not a DNS label (no dots, at most {MAX_RULE_NAME_BYTES})",
                name.as_str()
            );
            errors.add(format!("listeners[{index}].name"), label);
        }
    }
    let names: Vec<_> = listeners.iter().map(|listener| &listener.name).collect();
    for name in duplicates(&names) {
        errors.add("listeners", format!("two listeners are called {name}"));
    }
    let ports: Vec<_> = listeners.iter().map(|listener| listener.port).collect();
    for port in duplicates(&ports) {
        errors.add("listeners", format!("two listeners have port {port}"));
    }
}

/// What is there more than once, each named once.
fn duplicates<T: Ord>(items: &[T]) -> Vec<&T> {
    let mut counts: BTreeMap<&T, usize> = BTreeMap::new();
    for item in items {
        let count = counts.entry(item).or_default();
        *count = count.saturating_add(1);
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(item, _)| item)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header_changes::Field;
    use crate::matching::{HeaderMatch, PathMatch, ValueMatch};
    use crate::reference::CertificateRef;
    use crate::target::{RedirectStatus, Rewrite};
    use crate::unit::{ClientAuth, ClientAuthMode, Weight};
    use std::str::FromStr;
    use std::sync::Arc;

    fn key(text: &str) -> ObjectKey {
        text.parse().unwrap()
    }

    fn route() -> RouteUnit {
        let rule = Rule {
            name: Some("all".into()),
            ..Rule::to(key("Pool a/pool"))
        };
        RouteUnit::of(vec![HostPattern::Any], vec![rule])
    }

    fn endpoint(address: &str) -> Endpoint {
        Endpoint {
            address: address.parse().unwrap(),
            weight: Weight::ONE,
        }
    }

    fn listener(name: &str, port: u16) -> Listener {
        Listener {
            name: name.parse().unwrap(),
            port,
            tls: None,
            http2: Http2::default(),
            proxy_protocol_from: vec![],
        }
    }

    fn good() -> Config {
        let pool = PoolUnit::of_endpoints(vec![endpoint("10.0.0.1:80")]);
        let plane = DataPlaneUnit {
            listeners: vec![listener("http", 8080)],
        };
        Config::from_iter([
            (key("ProxyRoute a/route"), Unit::Route(route())),
            (key("Pool a/pool"), Unit::Pool(pool)),
            (key("Rollout a/edge"), Unit::DataPlane(plane)),
        ])
    }

    /// `change` makes exactly these errors.
    fn check(change: impl Fn(&mut Config), expected: &[&str]) {
        let mut config = good();
        change(&mut config);
        let errors: Vec<_> = match Snapshot::check(config) {
            Ok(_) => vec![],
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(errors, expected);
    }

    fn with_route(change: impl Fn(&mut RouteUnit)) -> impl Fn(&mut Config) {
        move |config| {
            let mut unit = route();
            change(&mut unit);
            config.insert(key("ProxyRoute a/route"), Unit::Route(unit));
        }
    }

    fn with_endpoints(endpoints: Vec<Endpoint>) -> impl Fn(&mut Config) {
        move |config| {
            let pool = PoolUnit::of_endpoints(endpoints.clone());
            config.insert(key("Pool a/pool"), Unit::Pool(pool));
        }
    }

    fn with_listeners(listeners: Vec<Listener>) -> impl Fn(&mut Config) {
        move |config| {
            let plane = DataPlaneUnit {
                listeners: listeners.clone(),
            };
            config.insert(key("Rollout a/edge"), Unit::DataPlane(plane));
        }
    }

    #[test]
    fn a_good_one_passes_and_says_what_it_needs() {
        let snapshot = Snapshot::check(good()).unwrap();
        let features = [
            Feature::Listeners,
            Feature::Pools,
            Feature::Routes,
            Feature::StaticEndpoints,
        ];
        assert_eq!(snapshot.features(), features.into_iter().collect());
        assert_eq!(snapshot.live_subjects(), BTreeSet::new());
        assert_eq!(snapshot.listeners(), [listener("http", 8080)]);
        assert_eq!(
            (
                snapshot.routes().count(),
                snapshot.pools().count(),
                snapshot.data_planes().count()
            ),
            (1, 1, 1)
        );
        check(with_endpoints(vec![]), &[]);
    }

    fn certificate(text: &str) -> CertificateRef {
        text.parse().unwrap()
    }

    /// A service's endpoints, a route with a certificate, a listener with another.
    fn with_live_values(config: &mut Config) {
        let source = PoolSource::Service("a/api:http".parse().unwrap());
        config.insert(key("Pool a/pool"), Unit::Pool(PoolUnit { source }));
        with_route(|route| route.certificates.push(certificate("a/shop")))(config);
        let mut https = listener("https", 8443);
        https.tls = Some(ListenerTls {
            default_certificate: Some(certificate("a/default")),
            min_version: TlsVersion::default(),
        });
        with_listeners(vec![https])(config);
    }

    #[test]
    fn what_the_live_lane_brings_is_named_and_needs_its_features() {
        let mut config = good();
        with_live_values(&mut config);
        let snapshot = Snapshot::check(config).unwrap();
        let subjects: Vec<String> = snapshot.live_subjects().iter().map(ToString::to_string).collect();
        assert_eq!(
            subjects,
            ["Service a/api:http", "Certificate a/default", "Certificate a/shop"]
        );
        let features = snapshot.features();
        assert!(features.contains(&Feature::ServicePools) && features.contains(&Feature::TlsListeners));
        assert!(!features.contains(&Feature::Http2Listeners) && !features.contains(&Feature::ProxyProtocol));
        assert!(!features.contains(&Feature::StaticEndpoints) && !features.contains(&Feature::ClientCertificates));
        let mut config = snapshot.into_config();
        let ca = certificate("a/clients");
        let client_auth = Some(ClientAuth {
            ca,
            mode: ClientAuthMode::Optional,
        });
        with_route(|route| route.client_auth.clone_from(&client_auth))(&mut config);
        let snapshot = Snapshot::check(config).unwrap();
        assert!(snapshot.features().contains(&Feature::ClientCertificates));
        let clients = LiveSubject::Authorities(certificate("a/clients"));
        assert!(snapshot.live_subjects().contains(&clients));
    }

    #[test]
    fn a_higher_version_of_tls_needs_a_feature() {
        for (min_version, needed) in [(TlsVersion::Tls12, false), (TlsVersion::Tls13, true)] {
            let mut https = listener("https", 8443);
            https.tls = Some(ListenerTls {
                min_version,
                ..ListenerTls::default()
            });
            let mut config = good();
            with_listeners(vec![https])(&mut config);
            let features = Snapshot::check(config).unwrap().features();
            assert_eq!(features.contains(&Feature::TlsMinVersion), needed);
        }
    }

    #[test]
    fn whoever_introduces_clients_is_named_once_and_needs_a_feature() {
        let from = |texts: &[&str]| {
            let mut http = listener("http", 8080);
            http.proxy_protocol_from = texts.iter().map(|text| text.parse().unwrap()).collect();
            with_listeners(vec![http])
        };
        let mut config = good();
        from(&["10.0.0.0/8", "::/0"])(&mut config);
        let features = Snapshot::check(config).unwrap().features();
        assert!(features.contains(&Feature::ProxyProtocol));
        let place = "Rollout a/edge listeners[0].proxyProtocol.from";
        let order = format!("{place}: must be in order, each once");
        check(from(&["11.0.0.0/8", "10.0.0.0/8"]), &[&order]);
        check(from(&["10.0.0.0/8", "10.0.0.0/8"]), &[&order]);
        let many: Vec<String> = (0..=MAX_PROXY_PROTOCOL_SOURCES)
            .map(|index| format!("10.0.{index}.0/24"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let count = format!("{place}: has 65 entries; at most 64 are allowed");
        check(from(&many), &[&count]);
    }

    #[test]
    fn live_references_are_bounded_and_named_once() {
        check(
            with_route(|route| route.certificates = vec![certificate("a/shop"); 9]),
            &[
                "ProxyRoute a/route certificates: has 9 entries; at most 8 are allowed",
                "ProxyRoute a/route certificates: a/shop is there twice",
            ],
        );
        let zero = ServiceRef {
            port: ServicePort::Number(0),
            ..ServiceRef::from_str("a/api:http").unwrap()
        };
        check(
            move |config| {
                let source = PoolSource::Service(zero.clone());
                config.insert(key("Pool a/pool"), Unit::Pool(PoolUnit { source }));
            },
            &["Pool a/pool service.port: must not be 0"],
        );
        let many = |config: &mut Config| {
            for index in 0..=MAX_LIVE_SUBJECTS {
                let source = PoolSource::Service(format!("a/s{index}:80").parse().unwrap());
                config.insert(key(&format!("Pool a/p{index}")), Unit::Pool(PoolUnit { source }));
            }
        };
        check(
            many,
            &["20001 services and certificates in one fleet; at most 20000 are allowed"],
        );
    }

    #[test]
    fn an_empty_pool_needs_no_endpoints_feature() {
        let mut config = good();
        with_endpoints(vec![])(&mut config);
        assert!(
            !Snapshot::check(config)
                .unwrap()
                .features()
                .contains(&Feature::StaticEndpoints)
        );
    }

    #[test]
    fn references_and_kinds() {
        check(
            |config| drop(config.units.remove(&key("Pool a/pool"))),
            &["ProxyRoute a/route rules[0].pool: there is no Pool a/pool"],
        );
        check(
            with_route(|route| route.rules[0].action = Action::Forward(Forward::to(key("Rollout a/edge")))),
            &["ProxyRoute a/route rules[0].pool: Rollout a/edge is no Pool"],
        );
        check(
            |config| drop(config.insert(key("Pool a/wrong"), Unit::Route(route()))),
            &["Pool a/wrong: a Pool does not mean this kind of unit"],
        );
    }

    #[test]
    fn exactly_one_rollout() {
        check(
            |config| drop(config.units.remove(&key("Rollout a/edge"))),
            &["no Rollout says how this fleet listens: add one with dataPlane.listeners"],
        );
        let second = || {
            Unit::DataPlane(DataPlaneUnit {
                listeners: vec![listener("http", 80)],
            })
        };
        check(
            |config| drop(config.insert(key("Rollout b/edge"), second())),
            &["Rollout b/edge: a fleet has one Rollout, and Rollout a/edge is it: remove one of them"],
        );
    }

    #[test]
    fn routes() {
        check(
            with_route(|route| {
                route.hosts.clear();
                route.rules.clear();
            }),
            &[
                "ProxyRoute a/route hosts: must not be empty",
                "ProxyRoute a/route rules: must not be empty",
            ],
        );
        check(
            with_route(|route| route.rules[0].matches.clear()),
            &["ProxyRoute a/route rules[0].matches: must not be empty"],
        );
        check(
            with_route(|route| route.hosts.push(HostPattern::Any)),
            &["ProxyRoute a/route hosts: * is there twice"],
        );
        check(
            with_route(|route| route.rules.push(route.rules[0].clone())),
            &["ProxyRoute a/route rules: two rules are called \"all\""],
        );
        check(
            with_route(|route| route.rules[0].name = Some("A b".into())),
            &["ProxyRoute a/route rules[0].name: \"A b\" is not a rule name: a-z, 0-9 and '-', at most 63"],
        );
    }

    #[test]
    fn counts() {
        let header = HeaderMatch::new("x", ValueMatch::Present).unwrap();
        check(
            with_route(move |route| route.rules[0].matches[0].headers = vec![header.clone(); 17]),
            &["ProxyRoute a/route rules[0].matches[0].headers: has 17 entries; at most 16 are allowed"],
        );
        let one = RouteMatch {
            path: PathMatch::exact("/").unwrap(),
            ..RouteMatch::default()
        };
        check(
            with_route(move |route| route.rules[0].matches = vec![one.clone(); 65]),
            &["ProxyRoute a/route rules[0].matches: has 65 entries; at most 64 are allowed"],
        );
        let regexes = (0..9).map(|n| HostPattern::regex(&format!("a{n}")).unwrap());
        let hosts: Vec<_> = regexes.collect();
        check(
            with_route(move |route| route.hosts.clone_from(&hosts)),
            &["ProxyRoute a/route hosts (regular expressions): has 9 entries; at most 8 are allowed"],
        );
    }

    #[test]
    fn changes_of_headers_are_few_and_say_one_thing_of_each() {
        let field = |name: &str| Field::new(name, "1").unwrap();
        let many: Vec<_> = (0..17).map(|index| field(&format!("x-{index}"))).collect();
        check(
            with_route(move |route| {
                let changes = HeaderChanges {
                    set: many.clone(),
                    add: vec![field("x-3")],
                    remove: vec![],
                };
                route.rules[0].response_headers = Arc::new(changes);
            }),
            &[
                "ProxyRoute a/route rules[0].response_headers.set: has 17 entries; at most 16 are allowed",
                "ProxyRoute a/route rules[0].response_headers: x-3 is there twice",
            ],
        );
        let mut config = good();
        let add = vec![field("x-3")];
        let changes = HeaderChanges {
            add,
            ..HeaderChanges::default()
        };
        let forward = Forward {
            request_headers: Arc::new(changes),
            ..Forward::to(key("Pool a/pool"))
        };
        with_route(move |route| route.rules[0].action = Action::Forward(forward.clone()))(&mut config);
        let features = Snapshot::check(config).unwrap().features();
        assert!(features.contains(&Feature::HeaderModifiers));
    }

    #[test]
    fn redirects_lead_somewhere_and_replace_what_is_matched() {
        let nowhere = Redirect {
            scheme: None,
            host: None,
            port: None,
            path: None,
            status: RedirectStatus::Found,
        };
        let prefix = Redirect {
            path: Some(PathChange::prefix("/b").unwrap()),
            ..nowhere.clone()
        };
        let exact = RouteMatch {
            path: PathMatch::exact("/a").unwrap(),
            ..RouteMatch::default()
        };
        let with = |redirect: &Redirect, matches: Vec<RouteMatch>| {
            let action = Action::Redirect(Arc::new(redirect.clone()));
            with_route(move |route| {
                route.rules[0].action = action.clone();
                route.rules[0].matches.clone_from(&matches);
            })
        };
        let nothing = "ProxyRoute a/route rules[0].redirect: says nothing, and so leads every request to itself";
        check(with(&nowhere, vec![exact.clone()]), &[nothing]);
        let wrong =
            "ProxyRoute a/route rules[0].redirect.path: replaces a prefix, and not every match of the rule has one";
        check(with(&prefix, vec![RouteMatch::default(), exact]), &[wrong]);
        let rewrite = Rewrite {
            host: None,
            path: prefix.path.clone(),
        };
        let rewriting = |matches: Vec<RouteMatch>| {
            let action = Action::Forward(Forward {
                rewrite: Arc::new(rewrite.clone()),
                ..Forward::to(key("Pool a/pool"))
            });
            with_route(move |route| {
                route.rules[0].action = action.clone();
                route.rules[0].matches.clone_from(&matches);
            })
        };
        let exact = RouteMatch {
            path: PathMatch::exact("/a").unwrap(),
            ..RouteMatch::default()
        };
        let wrong =
            "ProxyRoute a/route rules[0].rewrite.path: replaces a prefix, and not every match of the rule has one";
        check(rewriting(vec![exact]), &[wrong]);
        let mut config = good();
        rewriting(vec![RouteMatch::default()])(&mut config);
        assert!(Snapshot::check(config).unwrap().features().contains(&Feature::Rewrites));
        let mut config = good();
        with(&prefix, vec![RouteMatch::default()])(&mut config);
        let features = Snapshot::check(config).unwrap().features();
        assert!(features.contains(&Feature::Redirects) && !features.contains(&Feature::HeaderModifiers));
    }

    #[test]
    fn endpoints_and_listeners() {
        check(
            with_endpoints(vec![
                endpoint("[::1]:0"),
                endpoint("10.0.0.1:1"),
                endpoint("10.0.0.1:1"),
            ]),
            &[
                "Pool a/pool endpoints[0].port: must not be 0",
                "Pool a/pool endpoints: 10.0.0.1:1 is there twice; give it one entry with the sum of the weights",
            ],
        );
        check(with_listeners(vec![]), &["Rollout a/edge listeners: must not be empty"]);
        check(
            with_listeners(vec![listener("a", 0), listener("b.c", 1), listener("a", 1)]),
            &[
                "Rollout a/edge listeners[0].port: must not be 0",
                "Rollout a/edge listeners[1].name: \"b.c\" is not a DNS label (no dots, at most 63)",
                "Rollout a/edge listeners: two listeners are called a",
                "Rollout a/edge listeners: two listeners have port 1",
            ],
        );
    }

    #[test]
    fn all_errors_are_reported_with_their_objects() {
        let mut config = good();
        config.units.remove(&key("Pool a/pool"));
        with_listeners(vec![listener("a", 0)])(&mut config);
        let errors = Snapshot::check(config).unwrap_err();
        let objects: Vec<_> = errors.into_iter().filter_map(|error| error.object).collect();
        assert_eq!(objects, [key("ProxyRoute a/route"), key("Rollout a/edge")]);
    }
}
