//! Client certificates over real sockets: who is let in, and that there is no way around it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

// The world and the client serve other tests as well, which use more of them.
#[allow(dead_code)]
#[path = "http2/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "proxy/world.rs"]
mod world;

use std::net::SocketAddr;
use std::sync::Arc;

use client::Good;
use http::{Request, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use sluice_dataplane::tls::certificate::Certificate;
use sluice_dataplane::tls::clients::Authorities;
use sluice_model::matching::{PathMatch, RouteMatch};
use sluice_model::unit::{
    CertificatePart, ClientAuth, ClientAuthMode, Http2, Listener, ListenerTls, PlainHttp, RouteUnit, Rule,
    RuleClientAuth, Unit,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use world::*;

/// A certificate and its key.
struct Identity(CertificateDer<'static>, Vec<u8>);

impl Identity {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.1.clone().into())
    }

    fn fingerprint(&self) -> String {
        sluice_model::Digest(Sha256::digest(&self.0).into()).to_string()
    }
}

/// Somebody who signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, hosts: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let signed = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        Identity(signed.der().clone(), key.serialize_der())
    }

    fn authorities(&self) -> Arc<Authorities> {
        Arc::new(Authorities::new(vec![self.0.der().clone()]).unwrap())
    }
}

/// A data plane with one certificate for all hosts, a port in TLS and one in the clear.
struct Site {
    world: World,
    servers: Authority,
    clients: Authority,
    tls: SocketAddr,
    plain: SocketAddr,
}

/// The route of this name asks its clients for certificates.
fn ask_clients(setup: &mut Setup, name: &str, ca: &str, mode: ClientAuthMode) {
    let key = key(&format!("ProxyRoute t/{name}"));
    let Some(Unit::Route(route)) = setup.config.get(&key).cloned() else {
        panic!("there is no {key}")
    };
    let ca = ca.parse().unwrap();
    let forwarded = [].into();
    let client_auth = Some(ClientAuth { ca, mode, forwarded });
    setup
        .config
        .insert(key, Unit::Route(RouteUnit { client_auth, ..route }));
}

/// `open.test` asks nobody, `closed.test` asks for a certificate, so do the paths below `/other`, of somebody else's;
/// `maybe.test` asks and does not insist.
async fn setup() -> Setup {
    let below = RouteMatch {
        path: PathMatch::prefix("/other").unwrap(),
        ..RouteMatch::default()
    };
    let other = Rule {
        matches: vec![below],
        ..Rule::to(key("Pool t/echo"))
    };
    let mut setup = Setup::default()
        .pool("echo", &[echo().await])
        .host("open", "open.test", "echo", &["t/all"])
        .host("closed", "closed.test", "echo", &["t/all"])
        .rules("other", "closed.test", vec![other])
        .host("maybe", "maybe.test", "echo", &["t/all"]);
    ask_clients(&mut setup, "closed", "t/clients", ClientAuthMode::Required);
    ask_clients(&mut setup, "other", "t/others", ClientAuthMode::Required);
    ask_clients(&mut setup, "maybe", "t/clients", ClientAuthMode::Optional);
    setup
}

async fn site() -> Site {
    let (servers, clients) = (Authority::new(), Authority::new());
    let world = World::start(setup().await).await;
    let Identity(leaf, key) = servers.issue(&["open.test", "closed.test", "maybe.test"]);
    let certificate = Certificate::new(vec![leaf], PrivateKeyDer::Pkcs8(key.into())).unwrap();
    let values = world.store.values();
    values
        .certificates
        .replace("t/all".parse().unwrap(), Arc::new(certificate));
    values
        .authorities
        .replace("t/clients".parse().unwrap(), clients.authorities());
    let https = Listener {
        tls: Some(ListenerTls {
            default_certificate: Some("t/all".parse().unwrap()),
            ..ListenerTls::default()
        }),
        ..listener("https", 443)
    };
    let http = Listener {
        http2: Http2::PriorKnowledge,
        ..listener("http", 80)
    };
    let listeners = world.handle.listeners();
    let prepared = listeners.prepare(&[https, http]).unwrap();
    listeners.commit(prepared).await.unwrap();
    let at = |name: &str| {
        listeners
            .addresses()
            .into_iter()
            .find(|(known, _)| known.as_str() == name)
            .unwrap()
            .1
    };
    let (tls, plain) = (at("https"), at("http"));
    Site {
        world,
        servers,
        clients,
        tls,
        plain,
    }
}

impl Site {
    fn config(&self, identity: Option<&Identity>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.servers.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.0.clone()], identity.key())
                .unwrap(),
        }
    }

    async fn connect(&self, config: &ClientConfig, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.tls).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        within(TlsConnector::from(Arc::new(config.clone())).connect(name, stream)).await
    }

    /// The answer to one request on a connection for `name`; empty: there was none.
    async fn ask(&self, config: &ClientConfig, name: &str, host: &str, path: &str) -> String {
        let Ok(mut stream) = self.connect(config, name).await else {
            return String::new();
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        // Who is refused in TLS 1.3 learns it when it reads.
        let _ = stream.write_all(request.as_bytes()).await;
        read_all(&mut stream).await
    }

    async fn status(&self, config: &ClientConfig, name: &str, host: &str) -> String {
        status(&self.ask(config, name, host, "/").await)
    }
}

fn status(answer: &str) -> String {
    answer.split(' ').nth(1).unwrap_or("none").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_certificate_is_let_in_and_nobody_else() {
    let site = site().await;
    let mine = site.clients.issue(&["me.test"]);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let config = |identity: Option<&Identity>| {
            let mut config = site.config(identity);
            let provider = config.crypto_provider().clone();
            let builder = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(site.servers.0.der().clone()).unwrap();
            let builder = builder.with_root_certificates(roots);
            config = match identity {
                None => builder.with_no_client_auth(),
                Some(identity) => builder
                    .with_client_auth_cert(vec![identity.0.clone()], identity.key())
                    .unwrap(),
            };
            config
        };
        assert_eq!(
            site.status(&config(Some(&mine)), "closed.test", "closed.test").await,
            "200"
        );
        let refused = site.ask(&config(None), "closed.test", "closed.test", "/").await;
        assert!(
            refused.starts_with("HTTP/1.1 403") && refused.contains("\"client_certificate_required\""),
            "{refused}"
        );
        // Signed by somebody else, or by nobody: the handshake ends.
        let stranger = Authority::new().issue(&["me.test"]);
        assert_eq!(
            site.status(&config(Some(&stranger)), "closed.test", "closed.test")
                .await,
            "none"
        );
    }
    let failures = "proxy_tls_handshake_failures_total{reason=\"client_certificate\"}";
    site.world.metric_is(failures, 2).await;
    let line = site.world.logged(|line| line["status"] == 200).await;
    assert_eq!(line["client_certificate"], mine.fingerprint());
    let line = site.world.logged(|line| line["status"] == 403).await;
    assert_eq!(line.get("client_certificate"), None);
    assert_eq!(
        (&line["route"], &line["error_category"]),
        (&"t/closed".into(), &"client_certificate_required".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_way_around_it_by_another_name_or_another_host() {
    let site = site().await;
    let (mine, nobody) = (site.clients.issue(&["me.test"]), site.config(None));
    let me = site.config(Some(&mine));
    // Asked nothing, for another name of the same certificate: misdirected, also for who would have had one to show.
    for config in [&nobody, &me] {
        assert_eq!(site.status(config, "open.test", "closed.test").await, "421");
        assert_eq!(site.status(config, "open.test", "CLOSED.test.:443").await, "421");
        assert_eq!(site.status(config, "open.test", "open.test").await, "200");
    }
    let absolute = site
        .ask(&nobody, "open.test", "open.test", "https://closed.test/")
        .await;
    assert_ne!(status(&absolute), "200", "{absolute}");
    // Who has shown one to the host that asked may go on to others that ask for the same.
    assert_eq!(site.status(&me, "maybe.test", "closed.test").await, "200");
    assert_eq!(site.status(&nobody, "maybe.test", "closed.test").await, "421");
    // No name at all.
    for mut config in [nobody, me] {
        config.enable_sni = false;
        assert_eq!(site.status(&config, "closed.test", "closed.test").await, "421");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_way_around_it_in_http2() {
    let site = site().await;
    let mine = site.clients.issue(&["me.test"]);
    let connect = async |identity: Option<&Identity>, name: &str| {
        let mut config = site.config(identity);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Good::over(site.connect(&config, name).await.unwrap()).await
    };
    let status = async |good: &Good, host: &str| {
        let request = Request::get(format!("https://{host}/")).body(()).unwrap();
        within(good.ask(request, None)).await.unwrap().status()
    };
    // Clients share connections between the hosts of a certificate: here they are told to open another.
    let shared = connect(None, "open.test").await;
    for (host, expected) in [
        ("open.test", 200),
        ("closed.test", 421),
        ("open.test", 200),
        ("maybe.test", 200),
    ] {
        assert_eq!(status(&shared, host).await, expected, "{host}");
    }
    assert_eq!(status(&connect(None, "closed.test").await, "closed.test").await, 403);
    let known = connect(Some(&mine), "closed.test").await;
    for (host, expected) in [("closed.test", 200), ("open.test", 200), ("closed.test", 200)] {
        assert_eq!(status(&known, host).await, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_never_served_in_the_clear() {
    let site = site().await;
    for (host, expected) in [("closed.test", "403"), ("open.test", "200"), ("maybe.test", "200")] {
        let mut stream = TcpStream::connect(site.plain).await.unwrap();
        let request =
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(status(&read_all(&mut stream).await), expected, "{host}");
    }
    let good = Good::connect(site.plain).await;
    let request = Request::get("http://closed.test/").body(()).unwrap();
    assert_eq!(
        within(good.ask(request, None)).await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_route_says_of_requests_in_the_clear_comes_first() {
    let site = site().await;
    let https = Listener {
        tls: Some(ListenerTls::default()),
        ..listener("https", 443)
    };
    for (number, plain_http, expected) in [(2, PlainHttp::Redirect, "308"), (3, PlainHttp::Reject, "426")] {
        let setup = setup().await.plain_http("closed", plain_http);
        site.world
            .serve(number, setup.listeners(vec![listener("http", 80), https.clone()]));
        let mut stream = TcpStream::connect(site.plain).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: closed.test\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(status(&read_all(&mut stream).await), expected);
        assert_eq!(
            site.status(&site.config(None), "closed.test", "closed.test").await,
            "403"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_does_not_stand_in_for_a_certificate() {
    let site = site().await;
    let mine = site.clients.issue(&["me.test"]);
    let store = Resumption::in_memory_sessions(16);
    let (mut me, mut nobody) = (site.config(Some(&mine)), site.config(None));
    me.resumption = store.clone();
    nobody.resumption = store;
    for _ in 0..3 {
        assert_eq!(site.status(&me, "closed.test", "closed.test").await, "200");
        assert_eq!(site.status(&nobody, "closed.test", "closed.test").await, "403");
    }
    assert_eq!(site.world.metric("proxy_tls_resumed_total"), 0);
    // Nor does one that began when nobody was asked.
    site.world.serve(
        2,
        Setup::default()
            .pool("echo", &[echo().await])
            .host("closed", "closed.test", "echo", &["t/all"]),
    );
    assert_eq!(site.status(&nobody, "closed.test", "closed.test").await, "200");
    assert_eq!(site.status(&nobody, "closed.test", "closed.test").await, "200");
    site.world.metric_is("proxy_tls_resumed_total", 1).await;
    site.world.serve(3, setup().await);
    assert_eq!(site.status(&nobody, "closed.test", "closed.test").await, "403");
    assert_eq!(site.status(&me, "closed.test", "closed.test").await, "200");
    assert_eq!(site.world.metric("proxy_tls_resumed_total"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_route_trusts_is_asked_at_every_request() {
    let site = site().await;
    let mine = site.clients.issue(&["me.test"]);
    let me = site.config(Some(&mine));
    let mut stream = site.connect(&me, "closed.test").await.unwrap();
    let mut ask = async || {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: closed.test\r\n\r\n")
            .await
            .unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let end = if head.starts_with("HTTP/1.1 200") {
            "\r\n\r\n"
        } else {
            "}\n"
        };
        read_until(&mut stream, end).await;
        status(&head)
    };
    assert_eq!(ask().await, "200");
    // Somebody else signs now: this connection's certificate is worth nothing any more, and theirs is.
    let others = Authority::new();
    let authorities = &site.world.store.values().authorities;
    authorities.replace("t/clients".parse().unwrap(), others.authorities());
    assert_eq!(ask().await, "403");
    let theirs = others.issue(&["them.test"]);
    assert_eq!(
        site.status(&site.config(Some(&theirs)), "closed.test", "closed.test")
            .await,
        "200"
    );
    // And back.
    authorities.replace("t/clients".parse().unwrap(), site.clients.authorities());
    assert_eq!(ask().await, "200");
    // Nobody signs: nobody is let in.
    authorities.forget(&"t/clients".parse().unwrap());
    assert_eq!(ask().await, "403");
    assert_eq!(site.status(&me, "closed.test", "closed.test").await, "403");
    assert_eq!(site.status(&me, "open.test", "open.test").await, "200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_of_one_host_may_trust_different_people() {
    let site = site().await;
    let others = Authority::new();
    let authorities = &site.world.store.values().authorities;
    authorities.replace("t/others".parse().unwrap(), others.authorities());
    let me = site.config(Some(&site.clients.issue(&["me.test"])));
    let them = site.config(Some(&others.issue(&["them.test"])));
    for (config, path, expected) in [
        (&me, "/", "200"),
        (&me, "/other", "403"),
        (&me, "/other/../", "200"),
        (&me, "/x/../other", "403"),
        (&them, "/other", "200"),
        (&them, "/", "403"),
    ] {
        let answer = site.ask(config, "closed.test", "closed.test", path).await;
        assert_eq!(status(&answer), expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_only_asked_need_not_answer_but_must_not_lie() {
    let site = site().await;
    let mine = site.clients.issue(&["me.test"]);
    assert_eq!(site.status(&site.config(None), "maybe.test", "maybe.test").await, "200");
    assert_eq!(
        site.status(&site.config(Some(&mine)), "maybe.test", "maybe.test").await,
        "200"
    );
    site.world
        .logged(|line| line["client_certificate"] == mine.fingerprint())
        .await;
    let stranger = Authority::new().issue(&["me.test"]);
    assert_eq!(
        site.status(&site.config(Some(&stranger)), "maybe.test", "maybe.test")
            .await,
        "none"
    );
    // Who is not asked shows nothing.
    assert_eq!(
        site.status(&site.config(Some(&stranger)), "open.test", "open.test")
            .await,
        "200"
    );
}

/// `maybe.test` only asks, but insists below `/admin`, and tells its pool who comes.
fn tell(setup: &mut Setup) {
    let key = key("ProxyRoute t/maybe");
    let Some(Unit::Route(mut route)) = setup.config.get(&key).cloned() else {
        panic!("there is no {key}")
    };
    let admin = RouteMatch {
        path: PathMatch::prefix("/admin").unwrap(),
        ..RouteMatch::default()
    };
    route.rules.push(Rule {
        matches: vec![admin],
        client_auth: RuleClientAuth::Required,
        ..route.rules[0].clone()
    });
    if let Some(auth) = &mut route.client_auth {
        auth.forwarded = [CertificatePart::Hash, CertificatePart::Dns].into();
    }
    setup.config.insert(key, Unit::Route(route));
}

async fn telling() -> Site {
    let site = site().await;
    let mut setup = setup().await;
    tell(&mut setup);
    site.world.serve(2, setup);
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_insists_where_its_route_only_asks() {
    let site = telling().await;
    let me = site.config(Some(&site.clients.issue(&["me.test"])));
    let nobody = site.config(None);
    for (config, path, expected) in [
        (&nobody, "/", "200"),
        (&nobody, "/admin", "403"),
        (&nobody, "/x/../admin/y", "403"),
        (&nobody, "/administration", "200"),
        (&me, "/admin", "200"),
        (&me, "/", "200"),
    ] {
        let answer = site.ask(config, "maybe.test", "maybe.test", path).await;
        assert_eq!(status(&answer), expected, "{path}");
    }
    // Neither in the clear, nor by a connection that was opened for another host.
    let mut stream = TcpStream::connect(site.plain).await.unwrap();
    let request = b"GET /admin HTTP/1.1\r\nHost: maybe.test\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), "403");
    let answer = site.ask(&nobody, "open.test", "maybe.test", "/admin").await;
    assert_eq!(status(&answer), "421");
}

/// What the pool was told, out of the request that it answered with.
fn told(answer: &str) -> Vec<String> {
    let lines = answer.lines().map(str::to_ascii_lowercase);
    let of_client = lines.filter(|line| line.replace('_', "-").starts_with("x-forwarded-client-cert"));
    of_client.collect()
}

async fn forge(site: &Site, config: &ClientConfig, name: &str, host: &str) -> Vec<String> {
    let mut stream = site.connect(config, name).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Client-Cert: URI=spiffe://admin\r\n\
         x-forwarded-client-cert: Hash=0\r\nX_Forwarded_Client_Cert: DNS=admin\r\nConnection: close, x-forwarded-client-cert\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert_eq!(status(&answer), "200");
    told(&answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_told_what_was_proven_and_nothing_that_a_client_says() {
    let site = telling().await;
    let mine = site.clients.issue(&["me.test"]);
    let (me, nobody) = (site.config(Some(&mine)), site.config(None));
    let wanted = format!("x-forwarded-client-cert: hash={};dns=me.test", mine.fingerprint());
    assert_eq!(
        forge(&site, &me, "maybe.test", "maybe.test").await,
        std::slice::from_ref(&wanted)
    );
    assert_eq!(forge(&site, &nobody, "maybe.test", "maybe.test").await, [""; 0]);
    // Whose route does not ask for it is told nothing, and neither is anybody in the clear.
    assert_eq!(forge(&site, &me, "closed.test", "closed.test").await, [""; 0]);
    assert_eq!(forge(&site, &nobody, "open.test", "open.test").await, [""; 0]);
    let mut stream = TcpStream::connect(site.plain).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: maybe.test\r\nX-Forwarded-Client-Cert: Hash=0\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    assert_eq!(told(&read_all(&mut stream).await), [""; 0]);
    // Who has signed is asked at every request: what nobody vouches for any more is not told.
    let authorities = &site.world.store.values().authorities;
    let mut stream = site.connect(&me, "maybe.test").await.unwrap();
    let mut ask = async || {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: maybe.test\r\n\r\n")
            .await
            .unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(status(&head), "200");
        told(&read_until(&mut stream, "\r\n\r\n").await)
    };
    assert_eq!(ask().await, [wanted]);
    authorities.replace("t/clients".parse().unwrap(), Authority::new().authorities());
    assert_eq!(ask().await, [""; 0]);
}
