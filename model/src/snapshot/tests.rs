//! What a snapshot lets pass, what it refuses and where, and what it demands of an instance.

use std::str::FromStr;
use std::sync::Arc;

use super::*;
use crate::client_limits::Bounded;
use crate::header_changes::{Field, HeaderChanges};
use crate::host::HostPattern;
use crate::limits::{MAX_LIVE_SUBJECTS, MAX_PROXY_PROTOCOL_SOURCES};
use crate::matching::{HeaderMatch, PathMatch, RouteMatch, ValueMatch};
use crate::pool_connections::PoolConnections;
use crate::reference::{CertificateRef, ServicePort, ServiceRef};
use crate::target::{PathChange, Redirect, RedirectStatus, Rewrite};
use crate::unit::{
    Action, CertificatePart, ClientAuth, ClientAuthMode, Endpoint, Forward, Http2, ListenerTls, Rule, RuleClientAuth,
    TlsVersion, Transport, UpstreamProtocol, UpstreamTls, Weight,
};

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
    let plane = DataPlaneUnit::of(vec![listener("http", 8080)]);
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
        let plane = DataPlaneUnit::of(listeners.clone());
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
    config.insert(key("Pool a/pool"), Unit::Pool(PoolUnit::of(source)));
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
        forwarded: [CertificatePart::Uri].into(),
    });
    with_route(|route| {
        route.client_auth.clone_from(&client_auth);
        route.rules[0].client_auth = RuleClientAuth::Required;
    })(&mut config);
    let snapshot = Snapshot::check(config).unwrap();
    for feature in [
        Feature::ClientCertificates,
        Feature::ForwardedClientCertificates,
        Feature::RuleClientCertificates,
    ] {
        assert!(snapshot.features().contains(&feature), "{feature}");
    }
    let clients = LiveSubject::Authorities(certificate("a/clients"));
    assert!(snapshot.live_subjects().contains(&clients));
}

#[test]
fn a_rule_asks_for_certificates_only_of_a_route_that_says_who_signs_them() {
    check(
        with_route(|route| route.rules[0].client_auth = RuleClientAuth::Required),
        &[
            "ProxyRoute a/route rules[0].client_auth: asks for a client certificate, and the route does not say who signs them",
        ],
    );
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
            config.insert(key("Pool a/pool"), Unit::Pool(PoolUnit::of(source)));
        },
        &["Pool a/pool service.port: must not be 0"],
    );
    let many = |config: &mut Config| {
        for index in 0..=MAX_LIVE_SUBJECTS {
            let source = PoolSource::Service(format!("a/s{index}:80").parse().unwrap());
            config.insert(key(&format!("Pool a/p{index}")), Unit::Pool(PoolUnit::of(source)));
        }
    };
    check(
        many,
        &["20001 services and certificates in one fleet; at most 20000 are allowed"],
    );
}

#[test]
fn an_instance_has_to_know_what_a_pool_says_of_its_connections() {
    let features = |connections: PoolConnections| {
        let mut config = good();
        let transport = Arc::new(Transport {
            connections,
            ..Transport::default()
        });
        let source = PoolSource::Static(vec![]);
        config.insert(key("Pool a/pool"), Unit::Pool(PoolUnit { source, transport }));
        Snapshot::check(config).unwrap().features()
    };
    assert!(!features(PoolConnections::default()).contains(&Feature::PoolConnections));
    let other = PoolConnections {
        idle_millis: Bounded::new(90_000).unwrap(),
        ..PoolConnections::default()
    };
    assert!(features(other).contains(&Feature::PoolConnections));
}

#[test]
fn what_chooses_in_a_handshake_needs_one() {
    let with = |protocol, tls: Option<UpstreamTls>| {
        move |config: &mut Config| {
            let source = PoolSource::Static(vec![]);
            let tls = tls.clone();
            let transport = Arc::new(Transport {
                protocol,
                tls,
                ..Transport::default()
            });
            config.insert(key("Pool a/pool"), Unit::Pool(PoolUnit { source, transport }));
        }
    };
    let tls = UpstreamTls {
        server_name: "api.test".parse().unwrap(),
        ca: Some(certificate("a/ca")),
        client_certificate: Some(certificate("a/client")),
    };
    check(
        with(UpstreamProtocol::Auto, None),
        &["Pool a/pool protocol: is Auto without tls, where nothing chooses"],
    );
    let mut config = good();
    with(UpstreamProtocol::Auto, Some(tls))(&mut config);
    let snapshot = Snapshot::check(config).unwrap();
    let features = snapshot.features();
    assert!(features.contains(&Feature::UpstreamTls) && features.contains(&Feature::UpstreamHttp2));
    let subjects = snapshot.live_subjects();
    for subject in [
        LiveSubject::Authorities(certificate("a/ca")),
        LiveSubject::Certificate(certificate("a/client")),
    ] {
        assert!(subjects.contains(&subject), "{subject:?}");
    }
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
    let second = || Unit::DataPlane(DataPlaneUnit::of(vec![listener("http", 80)]));
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
    let wrong = "ProxyRoute a/route rules[0].redirect.path: replaces a prefix, and not every match of the rule has one";
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
    let wrong = "ProxyRoute a/route rules[0].rewrite.path: replaces a prefix, and not every match of the rule has one";
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
