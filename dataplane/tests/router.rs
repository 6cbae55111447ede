//! The compiled router answers exactly as the slow matcher does, over random tables of up to 500 hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::select;
use sluice_dataplane::router::Router;
use sluice_model::config::Config;
use sluice_model::host::HostPattern;
use sluice_model::matching::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
use sluice_model::unit::{DataPlaneUnit, Http2, Listener, PoolUnit, RouteUnit, Rule, Unit};
use sluice_model::{RequestFacts, Snapshot, matcher};

const LABELS: [&str; 6] = ["a", "b", "shop", "api", "x1", "com"];
const SEGMENTS: [&str; 5] = ["a", "ab", "b", "v1", "x"];

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(select(&LABELS), 1..5).prop_map(|labels| labels.join("."))
}

fn host() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        6 => (name(), any::<bool>()).prop_map(|(name, upper)| {
            HostPattern::hostname(&if upper { name.to_uppercase() } else { name }).unwrap()
        }),
        3 => name().prop_map(|name| HostPattern::hostname(&format!("*.{name}")).unwrap()),
        2 => select(&["[a-z]+\\.com", "a\\..*", "(a|b)\\.com", ".*\\.com", "shop.*", "s[a-z]op\\.com"][..])
            .prop_map(|regex| HostPattern::regex(regex).unwrap()),
        1 => Just(HostPattern::Any),
    ]
}

fn path() -> impl Strategy<Value = String> {
    (prop::collection::vec(select(&SEGMENTS), 0..4), any::<bool>()).prop_map(|(segments, slash)| {
        let path = format!("/{}", segments.join("/"));
        if slash && path.len() > 1 { path + "/" } else { path }
    })
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        2 => path().prop_map(|path| PathMatch::exact(&path).unwrap()),
        4 => path().prop_map(|path| PathMatch::prefix(&path).unwrap()),
        1 => select(&["/a.*", "/[ab]/.*", ".*", "/b.*", "/(a|ab)"][..])
            .prop_map(|regex| PathMatch::regex(regex).unwrap()),
    ]
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        Just(ValueMatch::Present),
        Just(ValueMatch::exact("1").unwrap()),
        Just(ValueMatch::regex("[12]").unwrap()),
    ]
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let methods = prop::collection::vec(select(&[Method::GET, Method::POST][..]), 0..2);
    let headers = prop::collection::vec((select(&["x-a", "x-b"][..]), value()), 0..3);
    let query = prop::collection::vec((select(&["q", "r"][..]), value()), 0..2);
    (path_match(), methods, headers, query).prop_map(|(path, methods, headers, query)| RouteMatch {
        path,
        methods,
        headers: headers
            .into_iter()
            .map(|(name, value)| HeaderMatch::new(name, value).unwrap())
            .collect(),
        query: query
            .into_iter()
            .map(|(name, value)| QueryMatch::new(name, value).unwrap())
            .collect(),
    })
}

fn route(hosts: usize) -> impl Strategy<Value = RouteUnit> {
    let rules = prop::collection::vec(prop::collection::vec(route_match(), 1..4), 1..4);
    let created = prop::option::of(0_u64..3);
    (prop::collection::vec(host(), 1..=hosts), rules, created).prop_map(|(mut hosts, rules, created_at_seconds)| {
        hosts.sort();
        hosts.dedup();
        let rule = |matches| Rule {
            matches,
            ..Rule::to("Pool t/p".parse().unwrap())
        };
        RouteUnit {
            created_at_seconds,
            ..RouteUnit::of(hosts, rules.into_iter().map(rule).collect())
        }
    })
}

fn snapshot(routes: Vec<RouteUnit>) -> Option<Snapshot> {
    let mut config = Config::default();
    for (index, route) in routes.into_iter().enumerate() {
        let namespace = if index % 3 == 0 { "b" } else { "a" };
        config.insert(
            format!("ProxyRoute {namespace}/r{index}").parse().unwrap(),
            Unit::Route(route),
        );
    }
    let listeners = vec![Listener {
        name: "http".parse().unwrap(),
        port: 80,
        tls: None,
        http2: Http2::default(),
        proxy_protocol_from: vec![],
    }];
    config.insert("Pool t/p".parse().unwrap(), Unit::Pool(PoolUnit::of_endpoints(vec![])));
    config.insert(
        "Rollout t/f".parse().unwrap(),
        Unit::DataPlane(DataPlaneUnit::of(listeners)),
    );
    Snapshot::check(config).ok() // too many regular expressions in one route
}

#[derive(Debug, Clone)]
struct Asked {
    host: Option<String>,
    path: String,
    method: Method,
    headers: Vec<(&'static str, &'static str)>,
    query: Option<&'static str>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let headers = prop::collection::vec((select(&["x-a", "x-b"][..]), select(&["1", "2", "3"][..])), 0..3);
    let query = prop::option::of(select(&["q=1", "r=2&q=3", "q", "r=%31", ""][..]));
    let method = select(&[Method::GET, Method::POST, Method::PUT][..]);
    (prop::option::weighted(0.9, name()), path(), method, headers, query).prop_map(
        |(host, path, method, headers, query)| Asked {
            host,
            path,
            method,
            headers,
            query,
        },
    )
}

fn agree(snapshot: &Snapshot, router: &Router, asked: &Asked) {
    let mut headers = HeaderMap::new();
    for (name, value) in &asked.headers {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let facts = RequestFacts {
        host: asked.host.as_deref(),
        path: &asked.path,
        method: &asked.method,
        headers: &headers,
        query: asked.query,
    };
    let expected = matcher::find(snapshot, &facts).map(|found| (found.route.clone(), found.rule, found.matched));
    let found = router.find(&facts).map(|to| {
        let (key, _) = snapshot.routes().nth(to.route as usize).unwrap();
        (key.clone(), to.rule as usize, to.matched as usize)
    });
    assert_eq!(found, expected, "{asked:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// 600 small tables, 20 requests each: 12,000 cases, dense with overlaps and ties.
    #[test]
    fn small_tables(routes in prop::collection::vec(route(4), 1..8), requests in prop::collection::vec(asked(), 20)) {
        let Some(snapshot) = snapshot(routes) else { return Ok(()) };
        let router = Router::compile(&snapshot);
        requests.iter().for_each(|asked| agree(&snapshot, &router, asked));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Tables of up to 500 hosts, 100 requests each.
    #[test]
    fn large_tables(routes in prop::collection::vec(route(10), 40..50), requests in prop::collection::vec(asked(), 100)) {
        let Some(snapshot) = snapshot(routes) else { return Ok(()) };
        let router = Router::compile(&snapshot);
        requests.iter().for_each(|asked| agree(&snapshot, &router, asked));
    }
}
