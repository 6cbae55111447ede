//! TLS with real sockets and real clients: who gets which certificate, what a replaced one disturbs, what is refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sluice_dataplane::tls::certificate::Certificate;
use sluice_model::unit::{Http2, Listener, ListenerTls, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::world::*;

/// Who vouches for all certificates here, and whom clients believe.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn issue(&self, hosts: &[&str]) -> (CertificateDer<'static>, Arc<Certificate>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let signed = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let leaf = signed.der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let certificate = Certificate::new(vec![leaf.clone()], key).unwrap();
        (leaf, Arc::new(certificate))
    }

    /// A client's settings: `versions` and protocols to offer.
    fn client(&self, versions: &[&'static rustls::SupportedProtocolVersion], protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    pub(super) fn usual_client(&self) -> Arc<ClientConfig> {
        self.client(rustls::ALL_VERSIONS, &["h2", "http/1.1"])
    }
}

pub(super) fn https(default: Option<&str>) -> Listener {
    Listener {
        name: "https".parse().unwrap(),
        port: 443,
        tls: Some(ListenerTls {
            default_certificate: default.map(|text| text.parse().unwrap()),
            ..ListenerTls::default()
        }),
        // These clients offer HTTP/2 too, and speak HTTP/1.1: what else there is to it is tested in http2.rs.
        http2: Http2::Off,
        proxy_protocol_from: vec![],
    }
}

pub(super) fn hold(world: &World, reference: &str, certificate: &Arc<Certificate>) {
    let certificates = &world.store.values().certificates;
    certificates.replace(reference.parse().unwrap(), certificate.clone());
}

pub(super) async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    within(TlsConnector::from(config.clone()).connect(name, stream)).await
}

/// One request and the head of its answer; the connection stays.
pub(super) async fn ask(stream: &mut TlsStream<TcpStream>, host: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(stream, "\r\n\r\n").await;
    let length = head.to_lowercase();
    let length = length
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap())];
    within(stream.read_exact(&mut body)).await.unwrap();
    format!("{head}{}", String::from_utf8_lossy(&body))
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_100_hosts_gets_its_certificate() {
    let authority = Authority::new();
    let mut setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("wild", "*.wild.test", "echo", &["t/wild"]);
    let mut issued = Vec::new();
    for index in 0..100 {
        let (name, host) = (format!("c{index}"), format!("h{index}.test"));
        setup = setup.host(&name, &host, "echo", &[&format!("t/{name}")]);
        issued.push((name, host.clone(), authority.issue(&[&host])));
    }
    let world = World::start(setup).await;
    let wild = authority.issue(&["*.wild.test"]);
    hold(&world, "t/wild", &wild.1);
    for (name, _, (_, certificate)) in &issued {
        hold(&world, &format!("t/{name}"), certificate);
    }
    let address = world.listen(https(None)).await;
    let client = authority.usual_client();
    for (_, host, (leaf, _)) in &issued {
        let mut stream = connect(address, &client, host).await.unwrap();
        assert_eq!(shown(&stream), *leaf, "{host}");
        assert!(ask(&mut stream, host).await.starts_with("HTTP/1.1 200"));
    }
    let stream = connect(address, &client, "x.wild.test").await.unwrap();
    assert_eq!(shown(&stream), wild.0);
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));

    // Without a default, an unknown name is refused by its own alert.
    let error = connect(address, &client, "stranger.test").await.unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    let failures = "proxy_tls_handshake_failures_total{reason=\"unknown_name\"}";
    world.metric_is(failures, 1).await;
    // With one it gets the default, from the next handshake on; the socket is the same.
    let default = authority.issue(&["stranger.test"]);
    hold(&world, "t/default", &default.1);
    assert_eq!(world.listen(https(Some("t/default"))).await, address);
    let stream = within(async {
        loop {
            if let Ok(stream) = connect(address, &client, "stranger.test").await {
                return stream;
            }
        }
    });
    assert_eq!(shown(&stream.await), default.0);
    let page = world.admin("/api/v2/certificates").await;
    assert!(
        page.contains("t/c42") && page.contains("h42.test") && page.contains("not_after"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_handshakes_and_no_connection_notices() {
    let authority = Authority::new();
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("a", "a.test", "echo", &["t/a"]);
    let world = World::start(setup).await;
    let mut issued = authority.issue(&["a.test"]);
    hold(&world, "t/a", &issued.1);
    let address = world.listen(https(None)).await;
    let client = authority.usual_client();
    let mut old = connect(address, &client, "a.test").await.unwrap();
    assert!(ask(&mut old, "a.test").await.starts_with("HTTP/1.1 200"));

    let stop = Arc::new(AtomicBool::new(false));
    let clients = [(); 2].map(|()| {
        let (stop, client) = (stop.clone(), authority.usual_client());
        tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut stream = connect(address, &client, "a.test").await.unwrap();
                assert!(ask(&mut stream, "a.test").await.starts_with("HTTP/1.1 200"));
                count += 1;
            }
            count
        })
    });
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        issued = authority.issue(&["a.test"]);
        hold(&world, "t/a", &issued.1);
        // Whoever connects now is shown this one.
        let fresh = connect(address, &authority.usual_client(), "a.test").await.unwrap();
        assert_eq!(shown(&fresh), issued.0);
        assert!(ask(&mut old, "a.test").await.starts_with("HTTP/1.1 200"));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_resumed_only_under_the_certificate_it_began_with() {
    let authority = Authority::new();
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("a", "a.test", "echo", &["t/a"]);
    let world = World::start(setup).await;
    hold(&world, "t/a", &authority.issue(&["a.test"]).1);
    let address = world.listen(https(None)).await;
    for (version, text) in [
        (&rustls::version::TLS12, "TLSv1.2"),
        (&rustls::version::TLS13, "TLSv1.3"),
    ] {
        let client = authority.client(&[version], &[]);
        let before = world.metric("proxy_tls_resumed_total");
        for _ in 0..3 {
            let mut stream = connect(address, &client, "a.test").await.unwrap();
            assert!(ask(&mut stream, "a.test").await.starts_with("HTTP/1.1 200"));
        }
        world.metric_is("proxy_tls_resumed_total", before + 2).await;
        let fresh = authority.issue(&["a.test"]);
        hold(&world, "t/a", &fresh.1);
        let mut stream = connect(address, &client, "a.test").await.unwrap();
        assert!(ask(&mut stream, "a.test").await.starts_with("HTTP/1.1 200"));
        assert_eq!(shown(&stream), fresh.0);
        let handshakes = format!("proxy_tls_handshakes_total{{version=\"{text}\"}}");
        world.metric_is(&handshakes, 4).await;
        assert_eq!(world.metric("proxy_tls_resumed_total"), before + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_resumed_by_whichever_worker_the_client_meets() {
    let authority = Authority::new();
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("a", "a.test", "echo", &["t/a"]);
    let world = World::start(setup).await;
    hold(&world, "t/a", &authority.issue(&["a.test"]).1);
    let address = world.listen(https(None)).await;
    assert_eq!(world.metric("proxy_workers"), 2);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = authority.client(&[version], &[]);
        let before = world.metric("proxy_tls_resumed_total");
        // Each goes to a worker by the hash of its port: that 41 meet the same one happens once in 2⁴⁰ times.
        for _ in 0..41 {
            let mut stream = connect(address, &client, "a.test").await.unwrap();
            assert!(ask(&mut stream, "a.test").await.starts_with("HTTP/1.1 200"));
        }
        world.metric_is("proxy_tls_resumed_total", before + 40).await;
    }
}

/// The listener, with the lowest version that it speaks.
fn at_least(min_version: TlsVersion) -> Listener {
    let mut listener = https(None);
    listener.tls = Some(ListenerTls {
        min_version,
        ..ListenerTls::default()
    });
    listener
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_version_than_the_listener_speaks_is_refused_even_to_old_sessions() {
    let authority = Authority::new();
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("a", "a.test", "echo", &["t/a"]);
    let world = World::start(setup).await;
    hold(&world, "t/a", &authority.issue(&["a.test"]).1);
    let address = world.listen(at_least(TlsVersion::Tls12)).await;
    let old = authority.client(&[&rustls::version::TLS12], &[]);
    let new = authority.client(&[&rustls::version::TLS13], &[]);
    for client in [&old, &new] {
        let mut stream = connect(address, client, "a.test").await.unwrap();
        assert!(ask(&mut stream, "a.test").await.starts_with("HTTP/1.1 200"));
    }
    // The old client has a ticket of this certificate now, and it does not help.
    assert_eq!(
        world.listen(at_least(TlsVersion::Tls13)).await,
        address,
        "the socket stays"
    );
    let error = within(async {
        loop {
            if let Err(error) = connect(address, &old, "a.test").await {
                return error;
            }
        }
    });
    assert!(error.await.to_string().contains("ProtocolVersion"));
    world
        .metric_is("proxy_tls_handshake_failures_total{reason=\"incompatible\"}", 1)
        .await;
    let resumed = world.metric("proxy_tls_resumed_total");
    let both = authority.usual_client();
    for client in [&new, &both, &both] {
        let mut stream = connect(address, client, "a.test").await.unwrap();
        assert!(ask(&mut stream, "a.test").await.starts_with("HTTP/1.1 200"));
        let version = stream.get_ref().1.protocol_version();
        assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_3));
    }
    world.metric_is("proxy_tls_resumed_total", resumed + 2).await;
    let page = world.admin("/api/v2/config/current").await;
    assert!(page.contains("\"tls_min_version\": \"1.3\""), "{page}");
    // And back.
    world.listen(at_least(TlsVersion::Tls12)).await;
    within(async { while connect(address, &old, "a.test").await.is_err() {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_tls_say_so_and_keep_to_their_host() {
    let authority = Authority::new();
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("a", "a.test", "echo", &["t/a"])
        .host("b", "b.test", "echo", &["t/a"])
        .host("c", "c.test", "echo", &[]);
    let world = World::start(setup).await;
    hold(&world, "t/a", &authority.issue(&["a.test", "b.test"]).1);
    let address = world.listen(https(None)).await;
    let client = authority.usual_client();
    let mut stream = connect(address, &client, "a.test").await.unwrap();
    let seen = ask(&mut stream, "A.test:443").await;
    assert!(seen.contains("x-forwarded-proto: https"), "{seen}");
    // Another host of the same certificate may share the connection; one that it does not name may not.
    assert!(ask(&mut stream, "b.test").await.starts_with("HTTP/1.1 200"));
    let refused = ask(&mut stream, "c.test").await;
    assert!(
        refused.starts_with("HTTP/1.1 421") && refused.contains("\"misdirected\""),
        "{refused}"
    );
    // The absolute form has to be of the scheme that is spoken.
    for (target, status) in [("https://a.test/", "200"), ("http://a.test/", "400")] {
        let mut stream = connect(address, &client, "a.test").await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = read_all(&mut stream).await;
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}")),
            "{target}: {response}"
        );
    }
    let line = world.logged(|line| line["status"] == 421).await;
    assert_eq!((&line["host"], &line["sni"]), (&"c.test".into(), &"a.test".into()));
    assert_eq!(line["tls"], "TLSv1.3");
    assert!(line["tls_cipher"].as_str().unwrap().starts_with("TLS13_"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_handshake_is_refused_clearly() {
    let authority = Authority::new();
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("a", "a.test", "echo", &["t/a"]);
    let world = World::start(setup).await;
    hold(&world, "t/a", &authority.issue(&["a.test"]).1);
    let address = world.listen(https(None)).await;
    let failures = |reason: &str| format!("proxy_tls_handshake_failures_total{{reason=\"{reason}\"}}");

    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    let said = read_until(&mut plain, "}\n").await;
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("https://"), "{said}");
    assert_eq!(plain.read(&mut [0; 8]).await.unwrap(), 0, "closed in order");
    drop(plain);
    world.metric_is(&failures("plain_http"), 1).await;

    let mut nonsense = TcpStream::connect(address).await.unwrap();
    nonsense.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    read_all(&mut nonsense).await;
    world.metric_is(&failures("malformed"), 1).await;

    let only_h2 = authority.client(rustls::ALL_VERSIONS, &["h2"]);
    let error = connect(address, &only_h2, "a.test").await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    world.metric_is(&failures("incompatible"), 1).await;

    let stranger = Authority::new().usual_client();
    connect(address, &stranger, "a.test").await.unwrap_err();
    world.metric_is(&failures("refused_by_client"), 1).await;

    drop(TcpStream::connect(address).await.unwrap());
    world.metric_is(&failures("client_closed"), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handshake_is_cut() {
    let authority = Authority::new();
    let world = World::start(Setup::default().pool("p", &[]).host("a", "a.test", "p", &["t/a"])).await;
    hold(&world, "t/a", &authority.issue(&["a.test"]).1);
    let address = world.listen(https(None)).await;
    let began = Instant::now();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(&[22, 3, 1]).await.unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    for stream in [&mut slow, &mut silent] {
        let ended = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut [0; 8])).await;
        assert!(matches!(ended.expect("cut in time"), Ok(0) | Err(_)));
    }
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    let failures = "proxy_tls_handshake_failures_total{reason=\"slow\"}";
    world.metric_is(failures, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_does_not_end_in_order() {
    let authority = Authority::new();
    let half = says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    let setup = Setup::default()
        .pool("half", &[half])
        .host("a", "a.test", "half", &["t/a"]);
    let world = World::start(setup).await;
    hold(&world, "t/a", &authority.issue(&["a.test"]).1);
    let address = world.listen(https(None)).await;
    let mut stream = connect(address, &authority.usual_client(), "a.test").await.unwrap();
    // Of HTTP/1.0 the end of the connection is the end of the body.
    stream
        .write_all(b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    let mut all = Vec::new();
    let ended = within(stream.read_to_end(&mut all)).await;
    assert!(ended.is_err(), "{}", String::from_utf8_lossy(&all));
}

/// The port stays the same: what is accepted from now on speaks TLS, and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_changes_its_speech_without_closing_anything() {
    let authority = Authority::new();
    let setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("a", "a.test", "echo", &["t/a"]);
    let world = World::start(setup).await;
    hold(&world, "t/a", &authority.issue(&["a.test"]).1);
    let mut clear = https(None);
    clear.tls = None;
    let address = world.listen(clear.clone()).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    open.write_all(request).await.unwrap();
    assert!(read_until(&mut open, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    read_until(&mut open, "\r\n\r\n").await; // the echoed head
    assert_eq!(world.listen(https(None)).await, address);
    let client = authority.usual_client();
    within(async {
        // Both workers have to hear of it.
        let mut in_a_row = 0;
        while in_a_row < 20 {
            match connect(address, &client, "a.test").await {
                Ok(_) => in_a_row += 1,
                Err(_) => in_a_row = 0,
            }
        }
    })
    .await;
    open.write_all(request).await.unwrap();
    assert!(read_until(&mut open, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.listen(clear).await, address);
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(request).await.unwrap();
    assert!(read_until(&mut plain, "\r\n\r\n").await.starts_with("HTTP/1.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_ends_over_tls_as_it_does_in_the_clear() {
    let grants = upstream(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let grant = b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello, ";
        stream.write_all(grant).await.unwrap();
        let mut all = Vec::new();
        // An end in order comes as one, and a break as an error.
        let end = stream.read_to_end(&mut all).await;
        let _ = stream
            .write_all(format!("{} bytes, {end:?}", all.len()).as_bytes())
            .await;
    })
    .await;
    let authority = Authority::new();
    let setup = Setup::default()
        .pool("ws", &[grants])
        .host("ws", "a.test", "ws", &["t/a"])
        .upgrades("ws", &["websocket"]);
    let world = World::start(setup).await;
    hold(&world, "t/a", &authority.issue(&["a.test"]).1);
    let address = world.listen(https(None)).await;
    let mut stream = connect(address, &authority.usual_client(), "a.test").await.unwrap();
    let ask = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (mut reading, mut writing) = tokio::io::split(stream);
    writing.write_all(&vec![7; 1 << 20]).await.unwrap();
    writing.shutdown().await.unwrap();
    assert_eq!(read_all(&mut reading).await, "hello, 1048581 bytes, Ok(1048581)");
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(
        (&line["tunnel_end"], &line["sni"]),
        (&"complete".into(), &"a.test".into()),
        "{line}"
    );
}
