//! What rules do to requests and responses besides choosing a pool, with real sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use sluice_model::header_changes::{Field, FieldName, HeaderChanges};
use sluice_model::matching::{PathMatch, RouteMatch};
use sluice_model::target::{PathChange, Redirect, RedirectStatus, Rewrite, Scheme};
use sluice_model::unit::{Action, Forward, Listener, PlainHttp, Rule};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::world::*;

fn field(name: &str, value: &str) -> Field {
    Field::new(name, value).unwrap()
}

fn to_pool(name: &str) -> Rule {
    Rule::to(key(&format!("Pool t/{name}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_changes_what_the_upstream_and_what_the_client_see() {
    // Shows both heads, and the trailers of the request.
    let both = upstream(|mut stream, _| async move {
        let mut seen = read_until(&mut stream, "\r\n\r\n").await;
        if seen.contains("chunked") {
            seen += &read_until(&mut stream, "\r\n\r\n").await;
        }
        let head = "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Up: 1\r\nCache-Control: private\r\n";
        let answer = format!("{head}Content-Length: {}\r\n\r\n{seen}", seen.len());
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let rule = Rule {
        action: Action::Forward(Forward {
            request_headers: Arc::new(HeaderChanges {
                set: vec![field("X-Env", "prod"), field("x-user", "none")],
                add: vec![field("accept", "text/html")],
                remove: vec![FieldName::new("x-internal-secret").unwrap()],
            }),
            ..Forward::to(key("Pool t/both"))
        }),
        response_headers: Arc::new(HeaderChanges {
            set: vec![field("cache-control", "no-store")],
            add: vec![field("x-up", "2")],
            remove: vec![FieldName::new("Server").unwrap()],
        }),
        ..to_pool("both")
    };
    let setup = Setup::default().pool("both", &[both]).rules("r", "a.test", vec![rule]);
    let world = World::start(setup).await;
    // A client may neither smuggle such a field in by another spelling or in trailers, nor have it taken out by Connection.
    let response = world
        .ask(
            "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close, x-env\r\nX-Env: test\r\nX_User: root\r\nX-User: me\r\n\
             Accept: */*\r\nX-Internal-Secret: 1\r\nx_internal_secret: 2\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
             0\r\nX-Sum: 7\r\nX-User: root\r\nx_internal-secret: 3\r\n\r\n",
        )
        .await;
    let (head, seen) = response.split_once("\r\n\r\n").unwrap();
    for there in [
        "x-env: prod",
        "x-user: none",
        "accept: */*\r\n",
        "accept: text/html",
        "x-sum: 7",
    ] {
        assert!(seen.to_lowercase().contains(there), "{there} is not in\n{seen}");
    }
    for gone in ["x-env: test", "root", "x-user: me", "secret"] {
        assert!(!seen.to_lowercase().contains(gone), "{gone} is in\n{seen}");
    }
    for there in ["cache-control: no-store", "x-up: 1", "x-up: 2", "x-request-id: "] {
        assert!(head.contains(there), "{there} is not in\n{head}");
    }
    for gone in ["server", "private"] {
        assert!(!head.contains(gone), "{gone} is in\n{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_answered_as_ever() {
    let rule = Rule {
        response_headers: Arc::new(HeaderChanges {
            set: vec![field("content-type", "text/html"), field("x-up", "1")],
            ..HeaderChanges::default()
        }),
        ..to_pool("nobody")
    };
    let setup = Setup::default().pool("nobody", &[nobody()]);
    let world = World::start(setup.rules("r", "a.test", vec![rule])).await;
    let response = world.get("/").await;
    assert!(response.starts_with("HTTP/1.1 502"), "{response}");
    assert!(
        response.contains("application/json") && !response.contains("x-up"),
        "{response}"
    );
}

/// The value of `Location` in a response.
fn location(response: &str) -> &str {
    let line = response.lines().find_map(|line| line.strip_prefix("location: "));
    line.unwrap_or_else(|| panic!("no Location in\n{response}"))
}

fn nowhere() -> Redirect {
    Redirect {
        scheme: None,
        host: None,
        port: None,
        path: None,
        status: RedirectStatus::Found,
    }
}

fn redirecting(prefix: &str, redirect: Redirect) -> Rule {
    Rule {
        matches: vec![RouteMatch {
            path: PathMatch::prefix(prefix).unwrap(),
            ..RouteMatch::default()
        }],
        action: Action::Redirect(Arc::new(redirect)),
        ..to_pool("none")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_sends_clients_elsewhere() {
    let www = Redirect {
        host: Some("www.a.test".parse().unwrap()),
        status: RedirectStatus::MovedPermanently,
        ..nowhere()
    };
    let moved = Redirect {
        path: Some(PathChange::prefix("/new").unwrap()),
        status: RedirectStatus::PermanentRedirect,
        ..nowhere()
    };
    let secure = Redirect {
        scheme: Some(Scheme::Https),
        ..nowhere()
    };
    let mut with_headers = redirecting("/secure", secure);
    with_headers.response_headers = Arc::new(HeaderChanges {
        set: vec![
            field("cache-control", "max-age=60"),
            field("location", "https://evil.test/"),
        ],
        ..HeaderChanges::default()
    });
    let rules = vec![redirecting("/", www), redirecting("/old", moved), with_headers];
    let world = World::start(Setup::default().rules("r", "a.test", rules)).await;

    // The query stays, the path is the normal one, the host is the client's without case, its port is kept.
    let ask = async |target: &str, host: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        world.ask(&request).await
    };
    let response = ask("/a/../b%2f%41?q=//evil.test&r=%0d%0a", "A.test:8080").await;
    assert!(response.starts_with("HTTP/1.1 301"), "{response}");
    assert_eq!(
        location(&response),
        "http://www.a.test:8080/b%2FA?q=//evil.test&r=%0d%0a"
    );
    assert!(
        response.contains("x-request-id: ") && response.contains("content-length: 0"),
        "{response}"
    );
    let response = ask("//evil.test/..//evil.test/x", "a.test").await;
    assert_eq!(location(&response), "http://www.a.test/evil.test/x");

    let response = ask("/old", "a.test:80").await;
    assert!(response.starts_with("HTTP/1.1 308"), "{response}");
    assert_eq!(location(&response), "http://a.test/new");
    assert_eq!(location(&ask("/old/x/?y", "a.test.").await), "http://a.test/new/x/?y");

    // Headers of the rule are on it, but none that would lead elsewhere.
    let response = ask("/secure/x", "a.test:8080").await;
    assert!(response.starts_with("HTTP/1.1 302"), "{response}");
    assert_eq!(location(&response), "https://a.test/secure/x");
    assert!(
        response.contains("cache-control: max-age=60") && !response.contains("evil"),
        "{response}"
    );

    // The absolute form, and the body of a request that nobody wants, on a connection that goes on.
    let two = "POST http://a.test/old/p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
               GET /old/q HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let responses = world.ask(two).await;
    let locations: Vec<&str> = responses.lines().filter(|line| line.starts_with("location")).collect();
    assert_eq!(
        locations,
        ["location: http://a.test/new/p", "location: http://a.test/new/q"]
    );

    let line = world.logged(|line| line["path"] == "/old/q").await;
    assert_eq!(
        (&line["status"], &line["rule"], &line["route"]),
        (&308.into(), &"1".into(), &"t/r".into())
    );
    assert_eq!((line.get("pool"), line.get("error_category")), (None, None));
    world
        .metric_is("proxy_requests_total{route=\"t/r\",pool=\"none\",status=\"301\"}", 2)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_to_itself_is_a_failure_and_not_a_circle() {
    let same = Redirect {
        host: Some("a.test".parse().unwrap()),
        ..nowhere()
    };
    let world = World::start(Setup::default().rules("r", "*.test", vec![redirecting("/", same)])).await;
    let response = world
        .ask("GET /x HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(location(&response), "http://a.test/x");
    let response = world.get("/x").await;
    assert!(
        response.starts_with("HTTP/1.1 508") && response.contains("\"redirect_loop\""),
        "{response}"
    );
    // HTTP/1.0 names no host: nowhere to go back to, unless the rule says where.
    let response = world.ask("GET /x HTTP/1.0\r\n\r\n").await;
    assert!(response.contains("\"no_route\""), "{response}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_sees_the_host_and_path_that_a_rule_wants() {
    let to = |prefix: &str, host: Option<&str>, path: Option<PathChange>| Rule {
        matches: vec![RouteMatch {
            path: PathMatch::prefix(prefix).unwrap(),
            ..RouteMatch::default()
        }],
        action: Action::Forward(Forward {
            rewrite: Arc::new(Rewrite {
                host: host.map(|host| host.parse().unwrap()),
                path,
            }),
            ..Forward::to(key("Pool t/echo"))
        }),
        ..to_pool("echo")
    };
    let change = |text: &str| Some(PathChange::prefix(text).unwrap());
    let rules = vec![
        to("/", Some("in.test"), None),
        to("/foo", None, change("/xyz")),
        to("/strip/", None, change("/")),
        to("/one", Some("in.test"), Some(PathChange::full("/whole").unwrap())),
        to("/long", None, change(&format!("/{}", "x".repeat(1000)))),
    ];
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .rules("r", "a.test", rules);
    let world = World::start(setup).await;
    let check = async |asked: &str, line: &str, host: &str| {
        let response = world.get(asked).await;
        let (_, seen) = response.split_once("\r\n\r\n").unwrap();
        assert!(seen.starts_with(&format!("GET {line} HTTP/1.1\r\n")), "{asked}: {seen}");
        assert!(seen.contains(&format!("host: {host}\r\n")), "{asked}: {seen}");
        assert!(seen.contains("x-forwarded-host: a.test\r\n"), "{asked}: {seen}");
        assert_eq!(seen.matches("host: ").count(), 2, "{seen}");
    };
    check("/a%2fb?c=%2f", "/a%2Fb?c=%2f", "in.test").await;
    check("/foo/bar?q", "/xyz/bar?q", "a.test").await;
    check("/foo", "/xyz", "a.test").await;
    check("/foo/", "/xyz/", "a.test").await;
    check("/foo/%2e%2e/foo/b%2Fc", "/xyz/b%2Fc", "a.test").await;
    check("/strip", "/", "a.test").await;
    check("/strip//x/", "/x/", "a.test").await;
    check("/one/two?three", "/whole?three", "in.test").await;
    // The log says what the client asked for.
    let line = world.logged(|line| line["path"] == "/strip/x/").await;
    assert_eq!((&line["host"], &line["status"]), (&"a.test".into(), &200.into()));
    // What would be too long for the guard is too long for the upstream.
    let response = world.get(&format!("/long/{}", "y".repeat(7500))).await;
    assert!(response.starts_with("HTTP/1.1 414"), "{response}");
}

/// One request in the clear, and the answer.
async fn plainly(address: SocketAddr, version: &str, host: &str, target: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} {version}\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_asks_for_tls_gets_no_request_in_the_clear() {
    let elsewhere = redirecting(
        "/old",
        Redirect {
            path: Some(PathChange::prefix("/new").unwrap()),
            ..nowhere()
        },
    );
    let secure = Listener {
        port: 8443,
        ..super::tls::https(None)
    };
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .listeners(vec![listener("http", 8080), secure])
        .rules("redirect", "a.test", vec![to_pool("echo"), elsewhere])
        .plain_http("redirect", PlainHttp::Redirect)
        .rules("reject", "b.test", vec![to_pool("echo")])
        .plain_http("reject", PlainHttp::Reject)
        .rules("allow", "c.test", vec![to_pool("echo")]);
    let world = World::start(setup).await;
    let address = world.address;
    let check = async |host: &str, target: &str, expected: &str| {
        let response = plainly(address, "HTTP/1.1", host, target).await;
        assert!(response.starts_with("HTTP/1.1 308"), "{host}{target}: {response}");
        assert_eq!(location(&response), expected, "{host}{target}");
    };
    // Without a port, or with one that something mapped, HTTPS is where it is by default; with the listener's own, beside it.
    check("A.test", "/x/../y?z=1", "https://a.test/y?z=1").await;
    check("a.test:80", "/", "https://a.test/").await;
    check("a.test:30080", "/", "https://a.test/").await;
    check("a.test:8080", "//b.test/", "https://a.test:8443/b.test/").await;
    // Before what the rule says: that too is served over TLS alone.
    check("a.test", "/old/x", "https://a.test/old/x").await;

    let response = plainly(address, "HTTP/1.1", "b.test", "/").await;
    assert!(
        response.starts_with("HTTP/1.1 426") && response.contains("\"tls_required\""),
        "{response}"
    );
    assert!(
        response.contains("upgrade: TLS/1.2, HTTP/1.1") && response.contains("connection: upgrade"),
        "{response}"
    );
    let response = plainly(address, "HTTP/1.0", "b.test", "/").await;
    assert!(
        response.starts_with("HTTP/1.0 426") && !response.contains("upgrade"),
        "{response}"
    );
    assert!(
        plainly(address, "HTTP/1.1", "c.test", "/")
            .await
            .starts_with("HTTP/1.1 200")
    );
    // A refusal is the client's, a redirect an answer: gates see no failure.
    let fleet = world.store.stats().drain().roles[0].scopes[0].clone();
    assert_eq!((fleet.failures, fleet.no_route, fleet.client_failures), (0, 0, 2));
    let line = world.logged(|line| line["error_category"] == "tls_required").await;
    assert_eq!((&line["route"], &line["status"]), (&"t/reject".into(), &426.into()));
    world
        .metric_is("proxy_errors_total{route=\"t/reject\",category=\"tls_required\"}", 2)
        .await;

    // Over TLS all of them are served.
    let authority = super::tls::Authority::new();
    super::tls::hold(&world, "t/tls", &authority.issue(&["a.test", "b.test"]).1);
    let address = world.listen(super::tls::https(Some("t/tls"))).await;
    for host in ["a.test", "b.test"] {
        let mut stream = super::tls::connect(address, &authority.usual_client(), host)
            .await
            .unwrap();
        assert!(super::tls::ask(&mut stream, host).await.starts_with("HTTP/1.1 200"));
    }
}
