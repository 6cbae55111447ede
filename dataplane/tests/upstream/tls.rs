//! Whom a pool with TLS believes, what it shows, and what renewed Secrets change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ServerConfig;
use sluice_model::unit::UpstreamProtocol;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

use super::server::*;
use super::world::*;

/// A server of HTTP/1.1 over TLS that answers every request with its head, and counts handshakes that were completed.
async fn https(config: Arc<ServerConfig>) -> (std::net::SocketAddr, Arc<AtomicU64>) {
    let handshakes = Arc::new(AtomicU64::new(0));
    let count = handshakes.clone();
    let address = upstream(move |stream, _| {
        let (config, count) = (config.clone(), count.clone());
        async move {
            let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else {
                return;
            };
            count.fetch_add(1, Ordering::Relaxed);
            loop {
                let head = read_until(&mut stream, "\r\n\r\n").await;
                if head.is_empty() || stream.write_all(reply(&head).as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (address, handshakes)
}

async fn check(world: &World, id: &str, expected: Result<(), &str>) {
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: {id}\r\nConnection: close\r\n\r\n");
    let answer = world.ask(&request).await;
    match expected {
        Ok(()) => assert!(answer.starts_with("HTTP/1.1 200"), "{id}: {answer}"),
        Err(reason) => {
            assert!(answer.contains("upstream_connect_failed"), "{id}: {answer}");
            let line = world.logged(|line| line["request_id"] == id).await;
            let told = line["upstream_error"].as_str().unwrap_or_default();
            assert!(told.contains(reason), "{id}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_name_of_the_right_authority_is_believed() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (address, _) = https(ours.server("api.test", &[], None)).await;
    let with =
        async |server_name, ca| world(&[address], UpstreamProtocol::Http1, Some(tls(server_name, ca, None))).await;
    let right = with("api.test", Some("t/ca")).await;
    check(&right, "none", Err("no authorities have come from Secret t/ca")).await;
    theirs.hold(&right, "t/ca");
    check(&right, "theirs", Err("invalid peer certificate")).await;
    ours.hold(&right, "t/ca");
    check(&right, "ours", Ok(())).await;
    let other = with("other.test", Some("t/ca")).await;
    ours.hold(&other, "t/ca");
    check(&other, "other", Err("not valid for name")).await;
    // Without authorities of its own the public ones, who do not know ours.
    let public = with("api.test", None).await;
    check(&public, "public", Err("UnknownIssuer")).await;
    // Plain HTTP where TLS is wanted.
    let plain = world(
        &[echo().await],
        UpstreamProtocol::Http1,
        Some(tls("api.test", None, None)),
    )
    .await;
    check(&plain, "plain", Err("TLS")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_shown_and_never_left_out() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let (address, _) = https(servers.server("api.test", &["http/1.1"], Some(&clients))).await;
    let shown = tls("api.test", Some("t/ca"), Some("t/edge"));
    let world = world(&[address], UpstreamProtocol::Http1, Some(shown)).await;
    servers.hold(&world, "t/ca");
    check(&world, "none", Err("no certificate has come from Secret t/edge")).await;
    clients.hold_certificate(&world, "t/edge");
    check(&world, "shown", Ok(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_authorities_count_for_new_connections_and_close_none() {
    let (old, new) = (Authority::new(), Authority::new());
    let (first, first_count) = https(old.server("api.test", &[], None)).await;
    let (second, _) = https(new.server("api.test", &[], None)).await;
    let both = Some(tls("api.test", Some("t/ca"), None));
    let setup = Setup::default().pool("first", &[first]).pool("second", &[second]);
    let setup = setup.spoken("first", UpstreamProtocol::Http1, both.clone());
    let setup = setup.spoken("second", UpstreamProtocol::Http1, both);
    let world = World::start(setup.route("/first", "first", None).route("/second", "second", None)).await;
    old.hold(&world, "t/ca");
    // One connection of a client stays with one worker.
    let mut client = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let mut ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let head = read_until(&mut client, "\r\n\r\n").await;
        let length: usize = head
            .to_lowercase()
            .split("content-length: ")
            .nth(1)
            .unwrap()
            .split("\r\n")
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let mut body = vec![0; length];
        within(tokio::io::AsyncReadExt::read_exact(&mut client, &mut body))
            .await
            .unwrap();
        head
    };
    assert!(ask("/first").await.starts_with("HTTP/1.1 200"));
    assert!(ask("/second").await.starts_with("HTTP/1.1 502"));
    new.hold(&world, "t/ca");
    assert!(ask("/second").await.starts_with("HTTP/1.1 200"));
    assert!(
        ask("/first").await.starts_with("HTTP/1.1 200"),
        "its connection is still open"
    );
    assert_eq!(first_count.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_handshake_goes_to_another_endpoint() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (good, _) = https(ours.server("api.test", &[], None)).await;
    let (bad, _) = https(theirs.server("api.test", &[], None)).await;
    let world = world(
        &[bad, good],
        UpstreamProtocol::Http1,
        Some(tls("api.test", Some("t/ca"), None)),
    )
    .await;
    ours.hold(&world, "t/ca");
    for _ in 0..6 {
        let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        assert!(world.ask(post).await.starts_with("HTTP/1.1 200"));
    }
    let unreached = format!("proxy_upstream_unreached_total{{pool=\"t/all\",endpoint=\"{bad}\"}}");
    assert!(world.metric(&unreached) >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handshake_decides_what_is_spoken() {
    let authority = Authority::new();
    let wanted = Some(tls("api.test", Some("t/ca"), None));
    let (http2, seen) = serve(
        Some(authority.server("api.test", &["h2", "http/1.1"], None)),
        usual,
        echo_http2,
    )
    .await;
    let (http1, handshakes) = https(authority.server("api.test", &["http/1.1"], None)).await;
    let (silent, _) = https(authority.server("api.test", &[], None)).await;
    for endpoint in [http2, http1, silent] {
        let world = world(&[endpoint], UpstreamProtocol::Auto, wanted.clone()).await;
        authority.hold(&world, "t/ca");
        for _ in 0..4 {
            assert!(world.get("/").await.starts_with("HTTP/1.1 200"), "{endpoint}");
        }
    }
    assert_eq!(seen.requests.load(Ordering::Relaxed), 4);
    assert!(seen.connections.load(Ordering::Relaxed) <= 2, "one for each worker");
    assert!(handshakes.load(Ordering::Relaxed) <= 4);
    // Who has to speak HTTP/2 and does not is not spoken to.
    for endpoint in [http1, silent] {
        let world = world(&[endpoint], UpstreamProtocol::Http2, wanted.clone()).await;
        authority.hold(&world, "t/ca");
        check(&world, "not-h2", Err("")).await;
    }
}
