//! What has to hold between the values of a configuration.

use std::collections::BTreeMap;

use super::{CheckError, data_planes, live_subjects};
use crate::config::Config;
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
use crate::reference::{ServicePort, ServiceRef};
use crate::target::{PathChange, Redirect};
use crate::unit::{
    Action, DataPlaneUnit, Endpoint, Forward, Http2, Listener, ListenerTls, PoolSource, PoolUnit, RouteUnit, Rule,
    RuleClientAuth, Unit, UpstreamProtocol,
};

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

/// All that is wrong with `config`.
pub(super) fn errors_of(config: &Config) -> Vec<CheckError> {
    let mut errors = Errors::default();
    check_whole(config, &mut errors);
    for (key, unit) in &config.units {
        errors.object = Some(key.clone());
        match (key.kind, unit.as_ref()) {
            (Kind::ProxyRoute, Unit::Route(route)) => check_route(config, route, &mut errors),
            (Kind::Pool, Unit::Pool(pool)) => check_pool(pool, &mut errors),
            (Kind::Rollout, Unit::DataPlane(plane)) => check_data_plane(plane, &mut errors),
            (kind, Unit::Route(_) | Unit::Pool(_) | Unit::DataPlane(_)) => {
                errors.add("", format!("a {kind} does not mean this kind of unit"));
            }
        }
    }
    errors.found
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
        client_auth,
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
        if rule.client_auth == RuleClientAuth::Required && client_auth.is_none() {
            let nobody = "asks for a client certificate, and the route does not say who signs them";
            errors.add(format!("rules[{index}].client_auth"), nobody);
        }
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
        client_auth: _,
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
        max_body: _,
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
    let PoolUnit { source, transport } = pool;
    match (transport.protocol, &transport.tls) {
        (UpstreamProtocol::Auto, None) => errors.add("protocol", "is Auto without tls, where nothing chooses"),
        (UpstreamProtocol::Auto, Some(_)) | (UpstreamProtocol::Http1 | UpstreamProtocol::Http2, _) => {}
    }
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
    // Each of the limits is within its bounds by construction, and none depends on another.
    let DataPlaneUnit { listeners, limits: _ } = plane;
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
