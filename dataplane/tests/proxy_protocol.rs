//! The PROXY protocol over real sockets: the load balancer is 127.0.0.2, everybody else 127.0.0.1.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

// The world and the client serve other tests as well, which use more of them.
#[allow(dead_code)]
#[path = "http2/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "proxy/world.rs"]
mod world;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Good;
use http::Request;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sluice_dataplane::guard::rule::Rule;
use sluice_dataplane::tls::certificate::Certificate;
use sluice_model::limits::{PROXY_HEADER_MAX_BYTES, PROXY_HEADER_TIMEOUT_SECONDS};
use sluice_model::unit::{Http2, Listener, ListenerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use world::*;

const BALANCER: [u8; 4] = [127, 0, 0, 2];
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

fn introduced() -> Listener {
    Listener {
        proxy_protocol_from: vec!["127.0.0.2/32".parse().unwrap()],
        ..listener("http", 80)
    }
}

/// An upstream that says what it was asked, behind a listener that believes the balancer.
async fn world(listener: Listener) -> World {
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("a", "a.test", "echo", &["t/a"]);
    let mut world = World::start(setup).await;
    world.address = world.listen(listener).await;
    world
}

async fn from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::from(source), 0)).unwrap();
    let stream = socket.connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What comes back for this, sent by the balancer.
async fn ask(world: &World, parts: &[&[u8]]) -> String {
    let mut stream = from(BALANCER, world.address).await;
    for part in parts {
        // Who was refused half way need not take the rest.
        if stream.write_all(part).await.is_err() {
            break;
        }
    }
    read_all(&mut stream).await
}

/// Version 2, with this behind its addresses.
fn block(command: u8, family: u8, addresses: &[u8], more: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len() + more.len()).unwrap();
    let lead: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    [lead, &[command, family], &length.to_be_bytes(), addresses, more].concat()
}

fn tcp4() -> Vec<u8> {
    block(
        0x21,
        0x11,
        &[192, 0, 2, 7, 198, 51, 100, 1, 220, 4, 1, 187],
        b"\x04\0\x02ok",
    )
}

fn refused(rule: Rule) -> String {
    format!("proxy_refused_requests_total{{rule=\"{}\"}}", rule.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_is_who_the_header_says() {
    let world = world(introduced()).await;
    let six = [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 31], &[7]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 9], &[0; 20]].concat();
    for (header, client) in [
        (LINE.to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::8 1 2\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.2"),
        (b"PROXY UNKNOWN 192.0.2.7 and so on\r\n".to_vec(), "127.0.0.2"),
        (tcp4(), "192.0.2.7"),
        (block(0x21, 0x21, &six, &[0; 500]), "2001:db8::"),
        (block(0x21, 0x21, &mapped, &[]), "192.0.2.9"),
        (block(0x20, 0x00, &[], &[]), "127.0.0.2"),
        (
            block(0x20, 0x11, &[192, 0, 2, 7, 1, 1, 1, 1, 0, 1, 0, 2], &[]),
            "127.0.0.2",
        ),
        (block(0x21, 0x00, &[], b"what ever"), "127.0.0.2"),
    ] {
        let answer = ask(&world, &[&[&header, GET].concat()]).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer.contains(&format!("x-forwarded-for: {client}\r\n")),
            "{client}: {answer}"
        );
        world.logged(|line| line["client"] == client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_the_client_of_every_request_of_the_connection() {
    let world = world(introduced()).await;
    let mut stream = from(BALANCER, world.address).await;
    stream.write_all(LINE).await.unwrap();
    for _ in 0..2 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n")
            .await
            .unwrap();
        // The head of the answer, and as its body the head that the upstream got.
        let answer = read_until(&mut stream, "\r\n\r\n").await + &read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.contains("x-forwarded-for: 10.9.9.9, 192.0.2.7\r\n"), "{answer}");
    }
    // A second header is no header.
    stream.write_all(LINE).await.unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_it_is_cut() {
    let world = world(introduced()).await;
    for header in [LINE.to_vec(), tcp4()] {
        let all = [&header, GET].concat();
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        let answer = ask(&world, &bytes).await;
        assert!(answer.contains("x-forwarded-for: 192.0.2.7\r\n"), "{answer}");
        for cut in 1..=header.len() + 1 {
            let (one, other) = all.split_at(cut);
            let mut stream = from(BALANCER, world.address).await;
            stream.write_all(one).await.unwrap();
            // The other side may have read it, or not.
            tokio::task::yield_now().await;
            stream.write_all(other).await.unwrap();
            let answer = read_all(&mut stream).await;
            assert!(answer.contains("x-forwarded-for: 192.0.2.7\r\n"), "{cut}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_header_is_closed_without_a_word_and_counts_against_nobody() {
    let world = world(introduced()).await;
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107));
    let large = block(0x21, 0x11, &[0; 12], &vec![0; PROXY_HEADER_MAX_BYTES]);
    let cases: [(&[u8], Rule); 8] = [
        (b"", Rule::ProxyMissing),
        (b"\x16\x03\x01\x02\0", Rule::ProxyMissing),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n", Rule::ProxyText),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n", Rule::ProxyText),
        (&block(0x21, 0x12, &[0; 12], &[]), Rule::ProxyBinary),
        (&block(0x31, 0x11, &[0; 12], &[]), Rule::ProxyBinary),
        (long.as_bytes(), Rule::ProxySize),
        (&large, Rule::ProxySize),
    ];
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for (header, rule) in cases {
        let answer = ask(&world, &[&[header, GET].concat()]).await;
        assert_eq!(answer, "", "{rule}");
        let count = counts.entry(rule.as_str()).or_default();
        *count += 1;
        // Counted before it is logged, so there to be looked at.
        let line = world.logged(|line| line["refused_by"] == rule.as_str()).await;
        world.metric_is(&refused(rule), *count).await;
        assert_eq!(line["client"], "127.0.0.2");
        assert_eq!(line.get("status"), None, "nothing was answered");
    }
    // Cut off within it.
    let mut stream = from(BALANCER, world.address).await;
    stream.write_all(&LINE[..20]).await.unwrap();
    drop(stream);
    world.logged(|line| line["refused_by"] == Rule::ProxyCut.as_str()).await;
    world.metric_is(&refused(Rule::ProxyCut), 1).await;
    // What no request was is in no figure that gates look at.
    let page = world.handle.metrics().render();
    let counted = page
        .lines()
        .find(|line| line.starts_with("proxy_requests_total") || line.starts_with("proxy_errors"));
    assert_eq!(counted, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_is_no_news_and_who_is_slow_is_cut_off() {
    let world = world(introduced()).await;
    let began = Instant::now();
    let mut slow = from(BALANCER, world.address).await;
    slow.write_all(&LINE[..10]).await.unwrap();
    for _ in 0..3 {
        drop(from(BALANCER, world.address).await);
    }
    // Each byte is in time; all of them are not.
    while slow.write_all(b"1").await.is_ok() && began.elapsed() < Duration::from_secs(3 * PROXY_HEADER_TIMEOUT_SECONDS)
    {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(read_all(&mut slow).await, "");
    assert!(began.elapsed() >= Duration::from_secs(PROXY_HEADER_TIMEOUT_SECONDS));
    assert!(began.elapsed() < Duration::from_secs(2 * PROXY_HEADER_TIMEOUT_SECONDS));
    world
        .logged(|line| line["refused_by"] == Rule::ProxySlow.as_str())
        .await;
    world.metric_is(&refused(Rule::ProxySlow), 1).await;
    world.metric_is("proxy_connections", 0).await;
    let page = world.handle.metrics().render();
    let refusals = page
        .lines()
        .filter(|line| line.starts_with("proxy_refused_requests_total{"));
    let others: Vec<&str> = refusals
        .filter(|line| !line.contains("proxy_slow") && !line.ends_with(" 0"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_is_believed() {
    let world = world(introduced()).await;
    let send = async |bytes: &[u8]| {
        let mut stream = from([127, 0, 0, 1], world.address).await;
        stream.write_all(bytes).await.unwrap();
        read_all(&mut stream).await
    };
    let answer = send(GET).await;
    assert!(answer.contains("x-forwarded-for: 127.0.0.1\r\n"), "{answer}");
    for header in [LINE.to_vec(), b"PROXY UNKNOWN\r\n".to_vec(), tcp4()] {
        let answer = send(&[&header, GET].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(!answer.contains("192.0.2.7"), "{answer}");
    }
    let line = world.logged(|line| line["status"] == 400).await;
    assert_eq!(line["refused_by"], "request_line");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_listener_believes_changes_with_its_revision() {
    let world = world(listener("http", 80)).await;
    let answer = ask(&world, &[LINE, GET]).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(world.listen(introduced()).await, world.address, "the socket stays");
    let page = world.admin("/api/v2/config/current").await;
    assert!(page.contains("\"127.0.0.2/32\""), "{page}");
    within(async {
        while !ask(&world, &[LINE, GET])
            .await
            .contains("x-forwarded-for: 192.0.2.7\r\n")
        {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_in_the_clear_comes_after_it() {
    let world = world(Listener {
        http2: Http2::PriorKnowledge,
        ..introduced()
    })
    .await;
    let mut stream = from(BALANCER, world.address).await;
    stream.write_all(&tcp4()).await.unwrap();
    let answer = within(Good::over(stream).await.get("/")).await.unwrap();
    assert!(
        answer.text().contains("x-forwarded-for: 192.0.2.7\r\n"),
        "{}",
        answer.text()
    );
    // And HTTP/1.1 as well.
    let answer = ask(&world, &[LINE, GET]).await;
    assert!(answer.contains("x-forwarded-for: 192.0.2.7\r\n"), "{answer}");
}

/// A world that speaks TLS, and its certificate.
async fn secured() -> (World, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let root = params.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let certificate = Arc::new(Certificate::new(vec![root.clone()], key).unwrap());
    let world = world(Listener {
        name: "https".parse().unwrap(),
        port: 443,
        tls: Some(ListenerTls::default()),
        ..introduced()
    })
    .await;
    let certificates = &world.store.values().certificates;
    certificates.replace("t/a".parse().unwrap(), certificate);
    (world, root)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_comes_after_it_and_not_before() {
    let (world, root) = secured().await;
    let connector = |protocol: &str| {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsConnector::from(Arc::new(config))
    };
    let name = || ServerName::try_from("a.test").unwrap();
    for header in [LINE.to_vec(), tcp4()] {
        let mut stream = from(BALANCER, world.address).await;
        stream.write_all(&header).await.unwrap();
        let mut stream = within(connector("http/1.1").connect(name(), stream)).await.unwrap();
        stream.write_all(GET).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.contains("x-forwarded-for: 192.0.2.7\r\n"), "{answer}");
        assert!(answer.contains("x-forwarded-proto: https\r\n"), "{answer}");

        let mut stream = from(BALANCER, world.address).await;
        stream.write_all(&header).await.unwrap();
        let stream = within(connector("h2").connect(name(), stream)).await.unwrap();
        let request = Request::get("https://a.test/").body(()).unwrap();
        let answer = within(Good::over(stream).await.ask(request, None)).await.unwrap();
        assert!(
            answer.text().contains("x-forwarded-for: 192.0.2.7\r\n"),
            "{}",
            answer.text()
        );
    }
    // Inside of TLS it is a request like any other: none.
    let mut stream = from(BALANCER, world.address).await;
    stream.write_all(LINE).await.unwrap();
    let mut stream = within(connector("http/1.1").connect(name(), stream)).await.unwrap();
    stream.write_all(LINE).await.unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 400"));
    // The balancer without one, and somebody else with one, have no handshake.
    let stream = from(BALANCER, world.address).await;
    within(connector("http/1.1").connect(name(), stream)).await.unwrap_err();
    world
        .logged(|line| line["refused_by"] == Rule::ProxyMissing.as_str())
        .await;
    world.metric_is(&refused(Rule::ProxyMissing), 1).await;
    let mut stream = from([127, 0, 0, 1], world.address).await;
    stream.write_all(&tcp4()).await.unwrap();
    within(connector("http/1.1").connect(name(), stream)).await.unwrap_err();
    // Somebody else without one has.
    let stream = from([127, 0, 0, 1], world.address).await;
    let mut stream = within(connector("http/1.1").connect(name(), stream)).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let mut first = [0; 12];
    within(stream.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
}
