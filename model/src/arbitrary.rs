//! Random units, snapshots and requests for property tests, here and in other crates (feature `arbitrary`).
//!
//! The alphabets are small on purpose: hosts, paths and headers meet often, so that precedence has to decide.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::client_limits::{Bounded, ClientLimits};
use crate::config::Config;
use crate::header_changes::{Field, FieldName, HeaderChanges};
use crate::host::HostPattern;
use crate::matching::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch, method};
use crate::names::{Kind, Name, ObjectKey};
use crate::network::Network;
use crate::pool_connections::{PerEndpoint, PoolConnections, Quota};
use crate::reference::{CertificateRef, ServicePort, ServiceRef};
use crate::request::RequestFacts;
use crate::snapshot::Snapshot;
use crate::target::{PathChange, Redirect, RedirectStatus, Rewrite, Scheme};
use crate::unit::{
    Action, CertificatePart, ClientAuth, ClientAuthMode, DataPlaneUnit, Endpoint, Forward, Http2, Listener,
    ListenerTls, PlainHttp, PoolSource, PoolUnit, RouteUnit, Rule, RuleClientAuth, TimeoutMillis, Timeouts, TlsVersion,
    Transport, Unit, UpstreamProtocol, UpstreamTls, Weight,
};
use crate::upgrade::UpgradeToken;

/// A value that a list above is known to make; what is wrong with it is a bug of the list.
fn known<T, E: std::fmt::Debug>(value: Result<T, E>) -> T {
    match value {
        Ok(value) => value,
        Err(error) => unreachable!("a strategy made an invalid value: {error:?}"),
    }
}

/// Object names.
pub fn names() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9]{0,3}".prop_map(|text| known(text.parse()))
}

/// Keys of one kind, in few namespaces.
pub fn keys(kind: Kind) -> impl Strategy<Value = ObjectKey> {
    let namespace = select(vec!["shop", "blog", "ops"]).prop_map(|text| known(text.parse::<Name>()));
    (namespace, names()).prop_map(move |(namespace, name)| ObjectKey::new(kind, namespace, name))
}

// Compiled once: in a debug build a regular expression costs more than a whole snapshot.
static HOST_REGEXES: LazyLock<Vec<HostPattern>> =
    LazyLock::new(|| compiled(["[a-z]+\\.test", "x\\..*", ".*"], HostPattern::regex));
static PATH_REGEXES: LazyLock<Vec<PathMatch>> = LazyLock::new(|| compiled(["/a.*", "/[ab]", ".*"], PathMatch::regex));
static VALUE_REGEXES: LazyLock<Vec<ValueMatch>> = LazyLock::new(|| compiled(["[0-9]", "1.*", ".*"], ValueMatch::regex));

fn compiled<T, E: std::fmt::Debug>(texts: [&str; 3], compile: fn(&str) -> Result<T, E>) -> Vec<T> {
    texts.into_iter().map(|text| known(compile(text))).collect()
}

/// Host patterns of every form.
pub fn hosts() -> impl Strategy<Value = HostPattern> {
    let names = vec![
        "a.test",
        "b.test",
        "x.a.test",
        "y.x.a.test",
        "*.test",
        "*.a.test",
        "*.x.a.test",
    ];
    prop_oneof![
        6 => select(names).prop_map(|text| known(HostPattern::hostname(text))),
        1 => select(HOST_REGEXES.as_slice()),
        1 => Just(HostPattern::Any),
    ]
}

const PATHS: [&str; 9] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/A", "/%2F"];

/// Path matches of every form.
pub fn paths() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        3 => select(&PATHS[..]).prop_map(|text| known(PathMatch::exact(text))),
        4 => select(&PATHS[..]).prop_map(|text| known(PathMatch::prefix(text))),
        1 => select(PATH_REGEXES.as_slice()),
    ]
}

/// Value matches of every form.
pub fn values() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        3 => select(vec!["", "1", "2", "1, 2", "a b"]).prop_map(|text| known(ValueMatch::exact(text))),
        1 => select(VALUE_REGEXES.as_slice()),
        1 => Just(ValueMatch::Present),
    ]
}

/// Matches with few demands of each sort.
pub fn matches() -> impl Strategy<Value = RouteMatch> {
    let methods = btree_set(select(vec!["GET", "POST", "PUT", "PURGE"]), 0..3);
    let headers = vec((select(vec!["x-a", "x-b"]), values()), 0..3);
    let query = vec((select(vec!["p", "q", "ä"]), values()), 0..3);
    (paths(), methods, headers, query).prop_map(|(path, methods, headers, query)| RouteMatch {
        path,
        methods: methods.into_iter().map(|text| known(method(text))).collect(),
        headers: headers
            .into_iter()
            .map(|(name, value)| known(HeaderMatch::new(name, value)))
            .collect(),
        query: query
            .into_iter()
            .map(|(name, value)| known(QueryMatch::new(name, value)))
            .collect(),
    })
}

/// Timeouts, often none.
pub fn timeouts() -> impl Strategy<Value = Timeouts> {
    let time = || option::weighted(0.3, 1_u64..=86_400_000).prop_map(|millis| millis.and_then(TimeoutMillis::new));
    (time(), time(), time()).prop_map(|(request, per_try, idle)| Timeouts { request, per_try, idle })
}

/// Protocols to go over to, often none.
pub fn upgrades() -> impl Strategy<Value = Arc<[UpgradeToken]>> {
    btree_set(select(vec!["websocket", "x-own"]), 0..2)
        .prop_map(|tokens| tokens.into_iter().map(|text| known(UpgradeToken::new(text))).collect())
}

/// Changes of a few header fields, often none.
pub fn header_changes() -> impl Strategy<Value = HeaderChanges> {
    let names = btree_set(select(vec!["x-a", "x-b", "x_c", "server"]), 0..4);
    let way = (0_u8..3, select(vec!["1", "a b", "max-age=5; x"]));
    let changes = (names, vec(way, 4)).prop_map(|(names, ways)| {
        let mut changes = HeaderChanges::default();
        for (name, (way, value)) in names.into_iter().zip(ways) {
            match way {
                0 => changes.set.push(known(Field::new(name, value))),
                1 => changes.add.push(known(Field::new(name, value))),
                _ => changes.remove.push(known(FieldName::new(name))),
            }
        }
        changes
    });
    option::weighted(0.3, changes).prop_map(Option::unwrap_or_default)
}

/// Ways to another place, for rules that match prefixes only or do not.
fn redirects() -> impl Strategy<Value = Redirect> {
    let scheme = option::of(select(vec![Scheme::Http, Scheme::Https]));
    let host = option::of(select(vec!["c.test", "www.a.test"]).prop_map(|text| known(text.parse())));
    let status = select(&RedirectStatus::ALL[..]);
    (scheme, host, option::of(any::<NonZeroU16>()), path_changes(), status).prop_map(
        |(scheme, host, port, path, status)| Redirect {
            scheme,
            host,
            port,
            path: Some(path),
            status,
        },
    )
}

fn rewrites() -> impl Strategy<Value = Rewrite> {
    let host = option::weighted(
        0.2,
        select(vec!["in.test", "www.a.test"]).prop_map(|text| known(text.parse())),
    );
    (host, option::weighted(0.2, path_changes())).prop_map(|(host, path)| Rewrite { host, path })
}

fn path_changes() -> impl Strategy<Value = PathChange> {
    let path = select(vec!["/", "/x", "/x/y/"]);
    (any::<bool>(), path).prop_map(|(whole, text)| match whole {
        true => known(PathChange::full(text)),
        false => known(PathChange::prefix(text)),
    })
}

/// A change that goes with these matches.
fn fitting(change: Option<PathChange>, matches: &[RouteMatch]) -> Option<PathChange> {
    let whole = || known(PathChange::full("/x"));
    change.map(|change| if change.fits(matches) { change } else { whole() })
}

/// Rules without a name that lead to one of these pools, or elsewhere.
pub fn rules(pools: Vec<ObjectKey>) -> impl Strategy<Value = Rule> {
    let limits = (timeouts(), option::weighted(0.2, bounded()));
    let forward = (select(pools), limits, upgrades(), header_changes(), rewrites());
    let forward = forward.prop_map(|(pool, (timeouts, max_body), upgrades, headers, rewrite)| {
        Action::Forward(Forward {
            pool,
            timeouts: Arc::new(timeouts),
            max_body,
            upgrades,
            request_headers: Arc::new(headers),
            rewrite: Arc::new(rewrite),
        })
    });
    let redirect = redirects().prop_map(|redirect| Action::Redirect(Arc::new(redirect)));
    let action = prop_oneof![4 => forward, 1 => redirect];
    (vec(matches(), 1..4), action, header_changes()).prop_map(|(matches, action, response_headers)| Rule {
        name: None,
        action: match action {
            Action::Forward(forward) => Action::Forward(Forward {
                rewrite: Arc::new(Rewrite {
                    path: fitting(forward.rewrite.path.clone(), &matches),
                    ..Rewrite::clone(&forward.rewrite)
                }),
                ..forward
            }),
            Action::Redirect(redirect) => Action::Redirect(Arc::new(Redirect {
                path: fitting(redirect.path.clone(), &matches),
                ..Redirect::clone(&redirect)
            })),
        },
        matches,
        response_headers: Arc::new(response_headers),
        client_auth: RuleClientAuth::AsRoute,
    })
}

/// Routes that are valid where these pools are (at least one).
pub fn routes(pools: Vec<ObjectKey>) -> impl Strategy<Value = RouteUnit> {
    let created = option::of(prop_oneof![0_u64..4, Just(u64::MAX), Just(1_800_000_000)]);
    let rules = vec((any::<bool>(), any::<bool>(), rules(pools)), 1..4);
    let shown = btree_set(certificates(), 0..2);
    let plain = prop_oneof![
        3 => Just(PlainHttp::Allow),
        1 => Just(PlainHttp::Redirect),
        1 => Just(PlainHttp::Reject),
    ];
    let parts = btree_set(select(CertificatePart::ALL.to_vec()), 0..=4);
    let asked = option::weighted(0.2, (certificates(), any::<bool>(), parts));
    (created, btree_set(hosts(), 1..4), rules, shown, plain, asked).prop_map(
        |(created_at_seconds, hosts, rules, certificates, plain_http, asked)| {
            let rule = |(index, (named, insists, rule)): (usize, (bool, bool, Rule))| Rule {
                name: named.then(|| Arc::from(format!("rule-{index}"))),
                client_auth: match insists && asked.is_some() {
                    true => RuleClientAuth::Required,
                    false => RuleClientAuth::AsRoute,
                },
                ..rule
            };
            let rules = rules.into_iter().enumerate().map(rule).collect();
            RouteUnit {
                created_at_seconds,
                hosts: hosts.into_iter().collect(),
                rules,
                certificates: certificates.into_iter().collect(),
                client_auth: asked.map(|(ca, is_required, forwarded)| ClientAuth {
                    ca,
                    mode: if is_required {
                        ClientAuthMode::Required
                    } else {
                        ClientAuthMode::Optional
                    },
                    forwarded,
                }),
                plain_http,
            }
        },
    )
}

/// Addresses of both families; port 0 never.
pub fn addresses() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(Into::into),
        any::<[u8; 16]>().prop_map(Into::into)
    ];
    (ip, 1_u16..).prop_map(|(ip, port): (std::net::IpAddr, u16)| SocketAddr::new(ip, port))
}

/// References to certificates.
pub fn certificates() -> impl Strategy<Value = CertificateRef> {
    keys(Kind::ProxyRoute).prop_map(|ObjectKey { namespace, name, .. }| CertificateRef { namespace, name })
}

/// References to services, by number and by name.
pub fn services() -> impl Strategy<Value = ServiceRef> {
    let port = prop_oneof![
        (1_u16..).prop_map(ServicePort::Number),
        select(vec!["http", "8-grpc"]).prop_map(|text| known(text.parse().map(ServicePort::Named))),
    ];
    (keys(Kind::Pool), port).prop_map(|(ObjectKey { namespace, name, .. }, port)| ServiceRef { namespace, name, port })
}

/// Pools of a few endpoints, or none, or of a service.
pub fn pools() -> impl Strategy<Value = PoolUnit> {
    let service = services().prop_map(|service| PoolUnit::of(PoolSource::Service(service)));
    let pool = prop_oneof![3 => static_pools(), 1 => service];
    (pool, transports()).prop_map(|(pool, transport)| PoolUnit { transport, ..pool })
}

/// Ways to speak to endpoints: mostly the usual one.
fn transports() -> impl Strategy<Value = Arc<Transport>> {
    let host = select(vec!["a.test", "api.shop.svc"]).prop_map(|text| known(text.parse()));
    let tls = (host, option::of(certificates()), option::of(certificates()));
    let tls = tls.prop_map(|(server_name, ca, client_certificate)| UpstreamTls {
        server_name,
        ca,
        client_certificate,
    });
    (option::weighted(0.2, tls), 0..6, pool_connections()).prop_map(|(tls, choice, connections)| {
        let protocol = match (choice, &tls) {
            (4, _) | (5, None) => UpstreamProtocol::Http2,
            (5, Some(_)) => UpstreamProtocol::Auto,
            (_, _) => UpstreamProtocol::Http1,
        };
        Arc::new(Transport {
            protocol,
            tls,
            connections,
        })
    })
}

/// Mostly as by default.
fn pool_connections() -> impl Strategy<Value = PoolConnections> {
    let connections = (1..=PerEndpoint::MOST).prop_map(|value| known(Bounded::new(value).ok_or(())));
    let quota = (connections, bounded()).prop_map(|(connections, pending)| Quota { connections, pending });
    (option::weighted(0.2, quota), bounded(), bounded()).prop_map(|(quota, idle_millis, connect_millis)| {
        PoolConnections {
            quota,
            idle_millis,
            connect_millis,
        }
    })
}

fn static_pools() -> impl Strategy<Value = PoolUnit> {
    let weight = prop_oneof![Just(0), Just(1), 0_u32..=1_000_000];
    vec((addresses(), weight), 0..5).prop_map(|endpoints| {
        let mut seen = BTreeSet::new();
        let endpoints = endpoints.into_iter().filter(|(address, _)| seen.insert(*address));
        let endpoint = |(address, weight)| Weight::new(weight).map(|weight| Endpoint { address, weight });
        PoolUnit::of_endpoints(endpoints.filter_map(endpoint).collect())
    })
}

/// Whether a listener speaks HTTP/2: `PriorKnowledge` only in the clear.
fn http2(tls: &Option<ListenerTls>, choice: u8) -> Http2 {
    match (choice % 3, tls) {
        (0, _) | (2, Some(_)) => Http2::Negotiated,
        (1, _) => Http2::Off,
        (_, None) => Http2::PriorKnowledge,
        (_, Some(_)) => Http2::Negotiated,
    }
}

/// Whence the PROXY protocol is expected: mostly from nowhere.
fn sources() -> impl Strategy<Value = Vec<Network>> {
    let some = proptest::sample::subsequence(vec!["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"], 1..=3);
    let some = some.prop_map(|texts| texts.into_iter().map(|text| known(text.parse())).collect());
    option::weighted(0.2, some).prop_map(Option::unwrap_or_default)
}

fn bounded<const USUAL: u64, const LEAST: u64, const MOST: u64>() -> impl Strategy<Value = Bounded<USUAL, LEAST, MOST>>
{
    let any = (LEAST..=MOST).prop_map(|value| known(Bounded::new(value).ok_or(())));
    option::weighted(0.3, any).prop_map(Option::unwrap_or_default)
}

/// Most of them as they are by default.
fn limits() -> impl Strategy<Value = ClientLimits> {
    let connections = (option::of(bounded()), option::of(bounded()), bounded());
    let body = option::weighted(0.2, bounded());
    let sizes = (bounded(), bounded(), bounded(), bounded(), body);
    let times = (
        bounded(),
        bounded(),
        bounded(),
        bounded(),
        bounded(),
        bounded(),
        bounded(),
    );
    (connections, sizes, times).prop_map(
        |(
            (connections, connections_per_client, streams),
            (header_bytes, header_field_bytes, header_fields, uri_bytes, body_bytes),
            (
                header_millis,
                handshake_millis,
                min_bytes_per_second,
                response_millis,
                idle_millis,
                http2_idle_millis,
                tunnel_idle_millis,
            ),
        )| ClientLimits {
            connections,
            connections_per_client,
            streams,
            header_bytes,
            header_field_bytes,
            header_fields,
            uri_bytes,
            body_bytes,
            header_millis,
            handshake_millis,
            min_bytes_per_second,
            response_millis,
            idle_millis,
            http2_idle_millis,
            tunnel_idle_millis,
        },
    )
}

/// One to three listeners, some with TLS.
pub fn data_planes() -> impl Strategy<Value = DataPlaneUnit> {
    let tls = option::weighted(0.3, option::of(certificates()));
    let ports = btree_map(1_u16.., (tls, any::<u8>(), sources()), 1..4);
    (ports, limits()).prop_map(|(ports, limits)| {
        type Said = (Option<Option<CertificateRef>>, u8, Vec<Network>);
        let listener = |(index, (port, (tls, choice, proxy_protocol_from))): (usize, (u16, Said))| {
            let min_version = match choice % 5 {
                0 => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            };
            let tls = tls.map(|default_certificate| ListenerTls {
                default_certificate,
                min_version,
            });
            Listener {
                name: known(format!("listener-{index}").parse()),
                port,
                http2: http2(&tls, choice),
                tls,
                proxy_protocol_from,
            }
        };
        DataPlaneUnit {
            listeners: ports.into_iter().enumerate().map(listener).collect(),
            limits,
        }
    })
}

/// Valid snapshots of up to `max_routes` routes.
pub fn snapshots(max_routes: usize) -> impl Strategy<Value = Snapshot> {
    let pools = proptest::collection::btree_map(keys(Kind::Pool), pools(), 1..5);
    let plane = (keys(Kind::Rollout), data_planes());
    (pools, plane)
        .prop_flat_map(move |(pools, plane)| {
            let names: Vec<_> = pools.keys().cloned().collect();
            let routes = proptest::collection::btree_map(keys(Kind::ProxyRoute), routes(names), 0..=max_routes);
            (Just(pools), Just(plane), routes)
        })
        .prop_map(|(pools, (plane_key, plane), routes)| {
            let pools = pools.into_iter().map(|(key, pool)| (key, Unit::Pool(pool)));
            let routes = routes.into_iter().map(|(key, route)| (key, Unit::Route(route)));
            let plane = std::iter::once((plane_key, Unit::DataPlane(plane)));
            let config: Config = pools.chain(routes).chain(plane).collect();
            known(Snapshot::check(config))
        })
}

/// A request that owns its parts.
#[derive(Clone, Debug)]
pub struct Request {
    /// See [`RequestFacts::host`].
    pub host: Option<String>,
    /// See [`RequestFacts::path`].
    pub path: String,
    /// See [`RequestFacts::method`].
    pub method: Method,
    /// See [`RequestFacts::headers`].
    pub headers: HeaderMap,
    /// See [`RequestFacts::query`].
    pub query: Option<String>,
}

impl Request {
    /// As the matcher takes it.
    pub fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            host: self.host.as_deref(),
            path: &self.path,
            method: &self.method,
            headers: &self.headers,
            query: self.query.as_deref(),
        }
    }
}

/// Requests that these routes often, but not always, take.
pub fn requests() -> impl Strategy<Value = Request> {
    let host = option::weighted(
        0.9,
        select(vec![
            "a.test",
            "b.test",
            "x.a.test",
            "y.x.a.test",
            "z.test",
            "test",
            "other.example",
        ]),
    );
    let path = select(vec![
        "/", "/a", "/a/", "/a/b", "/a/b/c", "/a/bc", "/ab", "/abc", "/b", "/A", "/%2F", "/z",
    ]);
    let method = select(vec!["GET", "POST", "PUT", "PURGE", "DELETE"]);
    let headers = vec((select(vec!["x-a", "x-b"]), select(vec!["", "1", "2", "a b"])), 0..4);
    let query = option::of(select(vec![
        "p=1",
        "p=2&q=1",
        "q",
        "p=1%2C+2",
        "%C3%A4=1&p=a+b",
        "p=%zz&&q=2",
        "",
    ]));
    (host, path, method, headers, query).prop_map(|(host, path, method, lines, query)| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Request {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            method: known(Method::from_bytes(method.as_bytes())),
            headers,
            query: query.map(str::to_owned),
        }
    })
}
