//! What rules do to requests and responses besides choosing a pool, with real sockets.

use std::sync::Arc;

use sluice_model::header_changes::{Field, FieldName, HeaderChanges};
use sluice_model::unit::Rule;
use tokio::io::AsyncWriteExt;

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
        request_headers: Arc::new(HeaderChanges {
            set: vec![field("X-Env", "prod"), field("x-user", "none")],
            add: vec![field("accept", "text/html")],
            remove: vec![FieldName::new("x-internal-secret").unwrap()],
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
    let setup = Setup::default().pool("nobody", &[nobody().await]);
    let world = World::start(setup.rules("r", "a.test", vec![rule])).await;
    let response = world.get("/").await;
    assert!(response.starts_with("HTTP/1.1 502"), "{response}");
    assert!(
        response.contains("application/json") && !response.contains("x-up"),
        "{response}"
    );
}
