//! Leaf coverage: walks the CRD schemas and changes every leaf of the full example, one at a time, through the real
//! path: manifest, translate, compile, sections, build. Each change must be seen at the far end.
//!
//! A leaf of a ProxyRoute, a Pool or a Rollout's `dataPlane` must change the revision's digest *and* what the built
//! `Generation` does. The other leaves of a Rollout are the controller's own business and must change the parsed plan. A
//! leaf of the schema that this table does not know fails the test: a field that exists only in a struct cannot pass.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};
use sluice_controller::compile::Compiler;
use sluice_controller::source::folder::Folder;
use sluice_dataplane::live::{ActionEntry, Generation, LiveStore, Role};
use sluice_dataplane::middleware::modify;
use sluice_model::target::{Asked, Scheme};
use sluice_model::{Digest, RequestFacts, RevisionId};
use sluice_proto::live::{EndpointState, LiveEndpoint};

/// Where a change must be seen besides the digest.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// In what the built generation does with requests.
    Live,
    /// In the parsed plan; not in the digest.
    Plan,
    /// The object leaves this fleet.
    Gone,
}

/// A leaf of a schema (`[]` for any item, `{}` for any value of a mapping), where the full example has it, and what it is changed to.
struct Leaf(&'static str, &'static str, Value, Seen);

fn route_leaves() -> Vec<Leaf> {
    vec![
        Leaf("fleet", "/fleet", json!("other"), Seen::Gone),
        Leaf("hostnames[]", "/hostnames/0", json!("changed.example.com"), Seen::Live),
        Leaf(
            "hostnameRegex[]",
            "/hostnameRegex/0",
            json!("changed[0-9]+"),
            Seen::Live,
        ),
        Leaf(
            "tls.certificates[].secretName",
            "/tls/certificates/0/secretName",
            json!("changed"),
            Seen::Live,
        ),
        Leaf("tls.plainHttp", "/tls/plainHttp", json!("Reject"), Seen::Live),
        // The other certificate of the route is of another namespace, which shares it.
        Leaf(
            "tls.certificates[].namespace",
            "/tls/certificates/1/namespace",
            json!("demo"),
            Seen::Live,
        ),
        Leaf(
            "tls.clientAuth.ca.secretName",
            "/tls/clientAuth/ca/secretName",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "tls.clientAuth.ca.namespace",
            "/tls/clientAuth/ca/namespace",
            json!("demo"),
            Seen::Live,
        ),
        Leaf(
            "tls.clientAuth.mode",
            "/tls/clientAuth/mode",
            json!("Required"),
            Seen::Live,
        ),
        Leaf(
            "tls.clientAuth.forward[]",
            "/tls/clientAuth/forward/0",
            json!("DNS"),
            Seen::Live,
        ),
        Leaf(
            "rules[].requireClientCertificate",
            "/rules/0/requireClientCertificate",
            json!(true),
            Seen::Live,
        ),
        Leaf("rules[].name", "/rules/0/name", json!("changed"), Seen::Live),
        Leaf("rules[].pool", "/rules/0/pool", json!("second"), Seen::Live),
        Leaf(
            "rules[].timeouts.request",
            "/rules/0/timeouts/request",
            json!("4s"),
            Seen::Live,
        ),
        Leaf(
            "rules[].timeouts.perTry",
            "/rules/0/timeouts/perTry",
            json!("2s"),
            Seen::Live,
        ),
        Leaf(
            "rules[].timeouts.idle",
            "/rules/0/timeouts/idle",
            json!("31s"),
            Seen::Live,
        ),
        Leaf(
            "rules[].maxRequestBody",
            "/rules/0/maxRequestBody",
            json!("11Mi"),
            Seen::Live,
        ),
        Leaf(
            "rules[].upgrades[]",
            "/rules/0/upgrades/0",
            json!("x-changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestHeaders.set[].name",
            "/rules/0/requestHeaders/set/0/name",
            json!("x-changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestHeaders.set[].value",
            "/rules/0/requestHeaders/set/0/value",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestHeaders.add[].name",
            "/rules/0/requestHeaders/add/0/name",
            json!("x-changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestHeaders.add[].value",
            "/rules/0/requestHeaders/add/0/value",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestHeaders.remove[]",
            "/rules/0/requestHeaders/remove/0",
            json!("x-changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].responseHeaders.set[].name",
            "/rules/0/responseHeaders/set/0/name",
            json!("x-changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].responseHeaders.set[].value",
            "/rules/0/responseHeaders/set/0/value",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].responseHeaders.add[].name",
            "/rules/0/responseHeaders/add/0/name",
            json!("x-changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].responseHeaders.add[].value",
            "/rules/0/responseHeaders/add/0/value",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].responseHeaders.remove[]",
            "/rules/0/responseHeaders/remove/0",
            json!("x-changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestRedirect.scheme",
            "/rules/3/requestRedirect/scheme",
            json!("http"),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestRedirect.hostname",
            "/rules/3/requestRedirect/hostname",
            json!("changed.example.com"),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestRedirect.port",
            "/rules/3/requestRedirect/port",
            json!(8444),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestRedirect.statusCode",
            "/rules/3/requestRedirect/statusCode",
            json!(308),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestRedirect.path.type",
            "/rules/3/requestRedirect/path",
            json!({"type": "ReplaceFullPath", "replaceFullPath": "/new"}),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestRedirect.path.replaceFullPath",
            "/rules/3/requestRedirect/path",
            json!({"type": "ReplaceFullPath", "replaceFullPath": "/changed"}),
            Seen::Live,
        ),
        Leaf(
            "rules[].requestRedirect.path.replacePrefixMatch",
            "/rules/3/requestRedirect/path/replacePrefixMatch",
            json!("/changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].urlRewrite.hostname",
            "/rules/1/urlRewrite/hostname",
            json!("changed.example.com"),
            Seen::Live,
        ),
        Leaf(
            "rules[].urlRewrite.path.type",
            "/rules/1/urlRewrite/path",
            json!({"type": "ReplaceFullPath", "replaceFullPath": "/new"}),
            Seen::Live,
        ),
        Leaf(
            "rules[].urlRewrite.path.replaceFullPath",
            "/rules/1/urlRewrite/path",
            json!({"type": "ReplaceFullPath", "replaceFullPath": "/changed"}),
            Seen::Live,
        ),
        Leaf(
            "rules[].urlRewrite.path.replacePrefixMatch",
            "/rules/1/urlRewrite/path/replacePrefixMatch",
            json!("/changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].matches[].path.type",
            "/rules/0/matches/0/path/type",
            json!("Exact"),
            Seen::Live,
        ),
        Leaf(
            "rules[].matches[].path.value",
            "/rules/0/matches/0/path/value",
            json!("/changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].matches[].methods[]",
            "/rules/0/matches/0/methods/0",
            json!("POST"),
            Seen::Live,
        ),
        Leaf(
            "rules[].matches[].headers[].name",
            "/rules/0/matches/0/headers/0/name",
            json!("x-changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].matches[].headers[].type",
            "/rules/0/matches/0/headers/0/type",
            json!("RegularExpression"),
            Seen::Live,
        ),
        Leaf(
            "rules[].matches[].headers[].value",
            "/rules/0/matches/0/headers/0/value",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].matches[].queryParams[].name",
            "/rules/0/matches/0/queryParams/0/name",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "rules[].matches[].queryParams[].type",
            "/rules/0/matches/0/queryParams/0/type",
            json!("RegularExpression"),
            Seen::Live,
        ),
        Leaf(
            "rules[].matches[].queryParams[].value",
            "/rules/0/matches/0/queryParams/0/value",
            json!("changed"),
            Seen::Live,
        ),
    ]
}

fn pool_leaves() -> Vec<Leaf> {
    vec![
        Leaf(
            "endpoints[].address",
            "/endpoints/0/address",
            json!("10.0.0.9"),
            Seen::Live,
        ),
        Leaf("endpoints[].port", "/endpoints/0/port", json!(8009), Seen::Live),
        Leaf("endpoints[].weight", "/endpoints/0/weight", json!(5), Seen::Live),
        Leaf("protocol", "/protocol", json!("HTTP2"), Seen::Live),
        Leaf(
            "tls.serverName",
            "/tls/serverName",
            json!("changed.example.com"),
            Seen::Live,
        ),
        Leaf("tls.ca.secretName", "/tls/ca/secretName", json!("changed"), Seen::Live),
        Leaf("tls.ca.namespace", "/tls/ca/namespace", json!("demo"), Seen::Live),
        Leaf(
            "tls.clientCertificate.secretName",
            "/tls/clientCertificate/secretName",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "tls.clientCertificate.namespace",
            "/tls/clientCertificate/namespace",
            json!("demo"),
            Seen::Live,
        ),
        Leaf(
            "connections.maxPerEndpoint",
            "/connections/maxPerEndpoint",
            json!(7),
            Seen::Live,
        ),
        Leaf(
            "connections.maxPending",
            "/connections/maxPending",
            json!(7),
            Seen::Live,
        ),
        Leaf(
            "connections.idleTimeout",
            "/connections/idleTimeout",
            json!("7s"),
            Seen::Live,
        ),
        Leaf(
            "connections.connectTimeout",
            "/connections/connectTimeout",
            json!("7s"),
            Seen::Live,
        ),
    ]
}

/// Of the pool that has a service in place of endpoints.
fn service_pool_leaves() -> Vec<Leaf> {
    vec![
        Leaf("service.name", "/service/name", json!("changed"), Seen::Live),
        Leaf("service.port", "/service/port", json!(8080), Seen::Live),
        Leaf(
            "removalBrake.maxPercentAtOnce",
            "/removalBrake/maxPercentAtOnce",
            json!(60),
            Seen::Plan,
        ),
        Leaf("removalBrake.for", "/removalBrake/for", json!("10s"), Seen::Plan),
    ]
}

fn rollout_leaves() -> Vec<Leaf> {
    vec![
        Leaf("fleet", "/fleet", json!("other"), Seen::Gone),
        Leaf(
            "dataPlane.listeners[].name",
            "/dataPlane/listeners/0/name",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.listeners[].port",
            "/dataPlane/listeners/0/port",
            json!(8081),
            Seen::Live,
        ),
        // In the clear: with TLS only `Off` differs from what is left out.
        Leaf(
            "dataPlane.listeners[].http2",
            "/dataPlane/listeners/0/http2",
            json!("PriorKnowledge"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.listeners[].proxyProtocol.from[]",
            "/dataPlane/listeners/0/proxyProtocol/from/0",
            json!("192.0.2.0/24"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.listeners[].tls.defaultCertificate.secretName",
            "/dataPlane/listeners/1/tls/defaultCertificate/secretName",
            json!("changed"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.listeners[].tls.defaultCertificate.namespace",
            "/dataPlane/listeners/1/tls/defaultCertificate/namespace",
            json!("demo"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.listeners[].tls.minVersion",
            "/dataPlane/listeners/1/tls/minVersion",
            json!("1.3"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.maxConnections",
            "/dataPlane/limits/maxConnections",
            json!(30000),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.maxConnectionsPerClient",
            "/dataPlane/limits/maxConnectionsPerClient",
            json!(300),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.maxStreamsPerConnection",
            "/dataPlane/limits/maxStreamsPerConnection",
            json!(129),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.maxHeaderBytes",
            "/dataPlane/limits/maxHeaderBytes",
            json!(8192),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.maxRequestBody",
            "/dataPlane/limits/maxRequestBody",
            json!("1025Mi"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.maxHeaderFieldBytes",
            "/dataPlane/limits/maxHeaderFieldBytes",
            json!("9Ki"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.maxHeaders",
            "/dataPlane/limits/maxHeaders",
            json!(81),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.maxUriBytes",
            "/dataPlane/limits/maxUriBytes",
            json!("5Ki"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.headerTimeout",
            "/dataPlane/limits/headerTimeout",
            json!("9s"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.handshakeTimeout",
            "/dataPlane/limits/handshakeTimeout",
            json!("6s"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.minBytesPerSecond",
            "/dataPlane/limits/minBytesPerSecond",
            json!(501),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.responseTimeout",
            "/dataPlane/limits/responseTimeout",
            json!("21s"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.idleTimeout",
            "/dataPlane/limits/idleTimeout",
            json!("61s"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.http2IdleTimeout",
            "/dataPlane/limits/http2IdleTimeout",
            json!("3m"),
            Seen::Live,
        ),
        Leaf(
            "dataPlane.limits.tunnelIdleTimeout",
            "/dataPlane/limits/tunnelIdleTimeout",
            json!("11m"),
            Seen::Live,
        ),
        Leaf(
            "members[].namespace",
            "/members/0/namespace",
            json!("changed"),
            Seen::Plan,
        ),
        Leaf(
            "members[].serviceAccountName",
            "/members/0/serviceAccountName",
            json!("changed"),
            Seen::Plan,
        ),
        Leaf(
            "namespaces.matchLabels{}",
            "/namespaces/matchLabels/edge",
            json!("changed"),
            Seen::Plan,
        ),
        Leaf(
            "namespaces.matchExpressions[].key",
            "/namespaces/matchExpressions/0/key",
            json!("changed"),
            Seen::Plan,
        ),
        Leaf(
            "namespaces.matchExpressions[].operator",
            "/namespaces/matchExpressions/0/operator",
            json!("NotIn"),
            Seen::Plan,
        ),
        Leaf(
            "namespaces.matchExpressions[].values[]",
            "/namespaces/matchExpressions/0/values/0",
            json!("changed"),
            Seen::Plan,
        ),
        Leaf("stages[].name", "/stages/0/name", json!("changed"), Seen::Plan),
        Leaf(
            "stages[].fleetPercent",
            "/stages/0/fleetPercent",
            json!("11%"),
            Seen::Plan,
        ),
        Leaf("stages[].bakeTime", "/stages/0/bakeTime", json!("6m"), Seen::Plan),
        Leaf("gates[].metric", "/gates/0/metric", json!("NoRouteRate"), Seen::Plan),
        Leaf("gates[].max", "/gates/0/max", json!("2%"), Seen::Plan),
        Leaf("gates[].maxIncrease", "/gates/0/maxIncrease", json!("0.6%"), Seen::Plan),
        Leaf("gates[].maxRatio", "/gates/1/maxRatio", json!("1.6"), Seen::Plan),
        Leaf("gates[].minRequests", "/gates/0/minRequests", json!(501), Seen::Plan),
        Leaf("onNoData", "/onNoData", json!("Fail"), Seen::Plan),
        Leaf("onIdle", "/onIdle", json!("Hold"), Seen::Plan),
        Leaf("paused", "/paused", json!(true), Seen::Plan),
        Leaf("historyLimit", "/historyLimit", json!(11), Seen::Plan),
    ]
}

/// Every field once. What the matches compare with is made so that a change of type alone makes a difference.
fn full_example() -> BTreeMap<&'static str, Value> {
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "demo"}, "spec": spec});
    let rule = json!({
        "name": "api", "pool": "first", "requireClientCertificate": false, "timeouts": {"request": "3s", "perTry": "1s", "idle": "30s"}, "maxRequestBody": "10Mi", "upgrades": ["websocket"],
        "matches": [{
            "path": {"type": "PathPrefix", "value": "/v1"}, "methods": ["GET"],
            "headers": [{"name": "x-version", "type": "Exact", "value": "v."}],
            "queryParams": [{"name": "preview", "type": "Exact", "value": "1."}],
        }],
        "requestHeaders": {
            "set": [{"name": "x-env", "value": "prod"}], "add": [{"name": "x-tag", "value": "a"}], "remove": ["x-secret"],
        },
        "responseHeaders": {
            "set": [{"name": "x-frame-options", "value": "DENY"}], "add": [{"name": "x-tag", "value": "b"}], "remove": ["server"],
        },
    });
    let rest = json!({
        "name": "rest", "pool": "second",
        "urlRewrite": {"hostname": "in.example.com", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/base"}},
    });
    let moved = json!({
        "name": "moved", "matches": [{"path": {"value": "/old"}}],
        "requestRedirect": {
            "scheme": "https", "hostname": "www.example.com", "port": 8443, "statusCode": 301,
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"},
        },
    });
    let route = json!({
        "fleet": "edge", "hostnames": ["a.example.com"], "hostnameRegex": ["b[0-9]+"],
        "rules": [rule, rest, {"name": "third", "pool": "third"}, moved],
        "tls": {"certificates": [{"secretName": "site"}, {"secretName": "common", "namespace": "shared"}], "plainHttp": "Redirect",
            "clientAuth": {"ca": {"secretName": "common", "namespace": "shared"}, "mode": "Optional", "forward": ["Hash", "URI"]}},
    });
    let rollout = json!({
        "fleet": "edge", "dataPlane": {"listeners": [
            {"name": "http", "port": 8080, "http2": "Off", "proxyProtocol": {"from": ["10.0.0.0/8"]}}, {"name": "https", "port": 8443, "tls": {"minVersion": "1.2", "defaultCertificate": {"secretName": "common", "namespace": "shared"}}},
        ], "limits": {
            "maxConnections": 20000, "maxConnectionsPerClient": 200, "maxStreamsPerConnection": 128, "maxHeaderBytes": "32Ki", "maxHeaderFieldBytes": "8Ki", "maxHeaders": 80,
            "maxUriBytes": "4Ki", "maxRequestBody": "1024Mi", "headerTimeout": "8s", "handshakeTimeout": "4s", "minBytesPerSecond": 500, "responseTimeout": "20s", "idleTimeout": "60s", "http2IdleTimeout": "2m", "tunnelIdleTimeout": "10m",
        }},
        "members": [{"namespace": "demo", "serviceAccountName": "sidecar"}],
        "namespaces": {
            "matchLabels": {"edge": "yes"}, "matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}],
        },
        "stages": [
            {"name": "canary", "fleetPercent": 10, "bakeTime": "5m"}, {"name": "all", "fleetPercent": 100, "bakeTime": "5m"},
        ],
        "gates": [
            {"metric": "ErrorRate", "max": "1%", "maxIncrease": "0.5%", "minRequests": 500},
            {"metric": "LatencyP95", "maxRatio": "1.5"},
        ],
        "onNoData": "Hold", "onIdle": "Proceed", "paused": false, "historyLimit": 10,
    });
    let first = json!({"endpoints": [
        {"address": "10.0.0.1", "port": 8001, "weight": 2}, {"address": "10.0.0.2", "port": 8002, "weight": 3},
    ], "protocol": "Auto", "tls": {
        "serverName": "api.demo.svc", "ca": {"secretName": "common", "namespace": "shared"},
        "clientCertificate": {"secretName": "common", "namespace": "shared"},
    }, "connections": {"maxPerEndpoint": 100, "maxPending": 50, "idleTimeout": "90s", "connectTimeout": "2s"}});
    let third = json!({
        "service": {"name": "api", "port": "http"}, "removalBrake": {"maxPercentAtOnce": 70, "for": "20s"},
    });
    let second = json!({"endpoints": [{"address": "10.0.0.3", "port": 8003}]});
    BTreeMap::from([
        ("ProxyRoute", object("ProxyRoute", "site", route)),
        ("Pool", object("Pool", "first", first)),
        ("second", object("Pool", "second", second)),
        ("third", object("Pool", "third", third)),
        ("Rollout", object("Rollout", "edge", rollout)),
        ("shared", shared_certificate("common")),
        ("other", shared_certificate("changed")),
    ])
}

/// A Secret that its namespace lets others use. What it holds does not matter here.
fn shared_certificate(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": "shared", "annotations": {"sluice.dev/share-with": "*"}},
        "stringData": {"tls.crt": "", "tls.key": ""},
    })
}

/// What all these objects become for the fleet `edge`.
struct Outcome {
    digest: Option<Vec<(u32, Digest)>>,
    live: Vec<String>,
    plan: String,
    errors: Vec<String>,
}

fn outcome(objects: &BTreeMap<&str, Value>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    for (name, object) in objects {
        fs::write(folder.path().join(format!("{name}.json")), object.to_string()).unwrap();
    }
    let mut source = Folder::new(folder.path());
    let listing = source.list();
    let view = source.view(&listing);
    let output = Compiler::new(sluice_proto::sections::unit_digest).compile(&view, &BTreeMap::new());
    let members = sluice_controller::members::members(&view.objects, "demo", None);
    let errors = output.problems.iter().filter(|problem| problem.is_error());
    let errors: Vec<String> = errors.map(|problem| format!("{problem:?}")).collect();
    let brakes = output.brakes;
    let edge = output.fleets.into_iter().find(|(name, _)| name.as_str() == "edge");
    let (snapshot, plan) = edge.map_or((None, None), |(_, compiled)| (compiled.snapshot, compiled.plan));
    // What a revision's digest is made of.
    let digest = snapshot.as_ref().map(|snapshot| {
        let sections = sluice_proto::sections::encode(snapshot).unwrap();
        sections
            .iter()
            .map(|section| (section.bucket, section.digest))
            .collect()
    });
    let live = snapshot.map(live).unwrap_or_default();
    Outcome {
        digest,
        live,
        plan: format!("{plan:?} {brakes:?} {members:?}"),
        errors,
    }
}

/// What the built generation does: with each probe, with its pools' turns, with hellos, and where it listens.
fn live(snapshot: sluice_model::Snapshot) -> Vec<String> {
    let revision = RevisionId {
        number: 1,
        digest: Digest([0; 32]),
    };
    let store = LiveStore::new(24);
    let api = LiveEndpoint {
        address: "10.0.0.7:8007".parse().unwrap(),
        state: EndpointState::Ready,
        zone: None,
    };
    let values = store.values();
    values.services.replace("demo/api:http".parse().unwrap(), [api].into());
    let generation = Generation::build(revision, Role::Stable, Arc::new(snapshot), &[], values, None).unwrap();
    let mut seen: Vec<String> = probes().iter().map(|probe| decide(&generation, probe)).collect();
    for pool in &generation.pools {
        let rotation = pool.rotation();
        let turn = |cursor| Some(&*rotation.endpoints().get(rotation.turn(cursor)?)?.text);
        let turns: Vec<&str> = (0..10).filter_map(turn).collect();
        seen.push(format!("{}: {turns:?} by {:?}", pool.text, pool.transport.settings()));
    }
    seen.push(format!("{:?} {:?}", generation.snapshot.listeners(), generation.limits));
    let certificates: Vec<_> = generation.names.candidates("a.example.com").collect();
    seen.push(format!("{certificates:?}"));
    let authorities: Vec<_> = generation.clients.candidates("a.example.com").collect();
    let asked: Vec<_> = generation.routes.iter().map(|route| &route.client_auth).collect();
    seen.push(format!("{authorities:?} {asked:?}"));
    seen
}

/// A request: host, path, method, header value, query.
type Probe = (&'static str, &'static str, http::Method, &'static str, &'static str);

fn probes() -> Vec<Probe> {
    let get = http::Method::GET;
    let base = ("a.example.com", "/v1/items", get.clone(), "v.", "preview=1.");
    vec![
        base.clone(),
        ("b7", base.1, get.clone(), base.3, base.4),
        (base.0, base.1, http::Method::POST, base.3, base.4),
        // Taken only once the header's or the parameter's value is a regular expression.
        (base.0, base.1, get.clone(), "v2", base.4),
        (base.0, base.1, get.clone(), base.3, "preview=12"),
        (base.0, "/old/items", get, base.3, base.4),
    ]
}

fn decide(generation: &Generation, probe: &Probe) -> String {
    let (host, path, method, header, query) = probe;
    let headers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("x-version"),
        http::HeaderValue::from_static(header),
    )]);
    let facts = RequestFacts {
        host: Some(host),
        path,
        method,
        headers: &headers,
        query: Some(query),
    };
    let Some(found) = generation.router.find(&facts) else {
        return "no route".to_owned();
    };
    let route = &generation.routes[found.route as usize];
    let rule = &route.rules[found.rule as usize];
    let forward = match &rule.action {
        ActionEntry::Forward(forward) => forward,
        ActionEntry::Redirect(redirect) => {
            let asked = Asked {
                scheme: Scheme::Http,
                host,
                port: None,
                path,
                query: None,
            };
            let location = redirect.location(&asked, rule.prefix(found.matched)).unwrap();
            return format!("{} -> {} {location}", rule.text, redirect.status.code());
        }
    };
    let pool = &generation.pools[forward.pool as usize];
    let path = forward.rewrite.path.as_ref();
    let path = path.map(|change| change.apply(probe.1, rule.prefix(found.matched)));
    let mut request = headers.clone();
    let mut response = http::HeaderMap::new();
    for name in ["x-secret", "server"] {
        request.insert(name, http::HeaderValue::from_static("1"));
        response.insert(name, http::HeaderValue::from_static("1"));
    }
    modify::apply(&forward.request_headers, &mut request);
    modify::apply(&rule.response_headers, &mut response);
    format!(
        "{} -> {} within {:?} and {:?} bytes, or over to {:?}: {:?}{path:?} {request:?} {response:?} {:?} {:?}",
        rule.text,
        pool.text,
        forward.timeouts,
        forward.max_body,
        forward.upgrades,
        forward.host,
        route.plain_http,
        rule.client_auth
    )
}

#[test]
fn every_leaf_changes_the_digest_and_something_observable() {
    let example = full_example();
    let before = outcome(&example);
    assert!(
        before.digest.is_some() && before.errors.is_empty(),
        "{:#?}",
        before.errors
    );
    let mut tabled: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (kind, leaves) in [
        ("ProxyRoute", route_leaves()),
        ("Pool", pool_leaves()),
        ("third", service_pool_leaves()),
        ("Rollout", rollout_leaves()),
    ] {
        let known = leaves.iter().map(|leaf| leaf.0.to_owned());
        let of_kind: &mut BTreeSet<String> = tabled.entry(if kind == "third" { "Pool" } else { kind }).or_default();
        of_kind.extend(known);
        for Leaf(path, pointer, value, seen) in leaves {
            let mut changed = example.clone();
            let place = changed.get_mut(kind).unwrap()["spec"].pointer_mut(pointer);
            let place = place.unwrap_or_else(|| panic!("the full example has no {kind} {path}"));
            assert_ne!(*place, value, "{kind} {path}");
            *place = value;
            check(kind, path, seen, &before, &outcome(&changed));
        }
    }
    for (kind, known) in tabled {
        assert_eq!(
            leaves_of_schema(kind),
            known,
            "the schema's leaves and this table's, of {kind}"
        );
    }
}

fn check(kind: &str, path: &str, seen: Seen, before: &Outcome, after: &Outcome) {
    assert!(
        after.errors.is_empty() || seen == Seen::Gone,
        "{kind} {path}: {:#?}",
        after.errors
    );
    let digest = before.digest != after.digest;
    let (live, plan) = (before.live != after.live, before.plan != after.plan);
    match seen {
        Seen::Live => assert!(
            digest && live,
            "{kind} {path}: digest {digest}, Live {live}\n{:#?}",
            after.live
        ),
        Seen::Plan => assert!(plan && !digest, "{kind} {path}: plan {plan}, digest {digest}"),
        Seen::Gone => assert!(digest && live, "{kind} {path}: it is still there"),
    }
}

/// The paths of all leaves of a kind's `spec`, out of its generated schema.
fn leaves_of_schema(kind: &str) -> BTreeSet<String> {
    let crds = sluice_crds::generate::all().unwrap();
    let crd = crds.iter().find(|crd| crd.kind == kind).unwrap();
    let spec = &crd.schema()["properties"]["spec"];
    let mut leaves = BTreeSet::new();
    walk(spec, String::new(), &mut leaves);
    leaves
}

fn walk(schema: &Value, path: String, leaves: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, schema) in properties {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            walk(schema, path, leaves);
        }
    } else if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], format!("{path}{{}}"), leaves);
    } else if schema["items"].is_object() {
        walk(&schema["items"], format!("{path}[]"), leaves);
    } else {
        leaves.insert(path);
    }
}
