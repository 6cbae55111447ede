//! HTTP/2 over TLS: the handshake decides what is spoken, and exactly that is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Request;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sluice_dataplane::tls::certificate::Certificate;
use sluice_model::unit::{Http2, Listener, ListenerTls, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::*;
use super::world::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Site {
    pub(crate) world: World,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// `a.test`, `b.test` and `localhost` have a certificate together, `c.test` has none.
pub(crate) async fn site(http2: Http2) -> Site {
    site_with(http2, ListenerTls::default()).await
}

/// The same, of which only this version and later ones are spoken.
pub(crate) async fn site_from(min_version: TlsVersion) -> Site {
    let tls = ListenerTls {
        min_version,
        ..ListenerTls::default()
    };
    site_with(Http2::default(), tls).await
}

async fn site_with(http2: Http2, tls: ListenerTls) -> Site {
    let key = KeyPair::generate().unwrap();
    let names = ["a.test", "b.test", "localhost"].map(str::to_owned).to_vec();
    let mut params = CertificateParams::new(names).unwrap();
    // As public authorities make them: for less than 90 days, and with what says who signed it and what it is for.
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + 80 * DAY).into();
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let leaf = params.signed_by(&key, &authority).unwrap().der().clone();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let certificate = Arc::new(Certificate::new(vec![leaf], key).unwrap());
    let echo = echo().await;
    let setup = Setup::default().pool("p", &[echo]);
    let setup = setup
        .host("a", "a.test", "p", &["t/a"])
        .host("b", "b.test", "p", &["t/a"]);
    let mut world = World::start(
        setup
            .host("c", "c.test", "p", &[])
            .host("l", "localhost", "p", &["t/a"]),
    )
    .await;
    world
        .store
        .values()
        .certificates
        .replace("t/a".parse().unwrap(), certificate);
    let listener = Listener {
        name: "https".parse().unwrap(),
        port: 443,
        tls: Some(tls),
        http2,
        proxy_protocol_from: vec![],
    };
    world.address = world.listen(listener).await;
    Site { world, authority }
}

impl Site {
    /// Who signed its certificate.
    pub(crate) fn authority(&self) -> String {
        self.authority.pem()
    }

    async fn connect(&self, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.world.address).await?;
        let name = ServerName::try_from("a.test").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handshake_decides() {
    let site = site(Http2::default()).await;
    let stream = site.connect(&["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let good = Good::over(stream).await;
    let answer = within(good.ask(Request::get("https://a.test/x").body(()).unwrap(), None))
        .await
        .unwrap();
    assert!(answer.text().contains("x-forwarded-proto: https"), "{}", answer.text());
    let line = site.world.logged(|line| line["path"] == "/x").await;
    assert_eq!((&line["protocol"], &line["sni"]), (&"h2".into(), &"a.test".into()));

    for protocols in [&["http/1.1"][..], &[]] {
        let mut stream = site.connect(protocols).await.unwrap();
        assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_is_spoken_than_what_was_agreed_upon() {
    let site = site(Http2::default()).await;
    let mut stream = site.connect(&["h2"]).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    let mut raw = Raw(stream);
    let goaway = raw.next_of(GOAWAY).await.unwrap();
    assert_eq!((goaway.last(), goaway.code()), (0, 1));
    assert_eq!(raw.0.read(&mut [0; 8]).await.unwrap(), 0, "closed in order");
    site.world.logged(|line| line["refused_by"] == "h2_preface").await;

    let mut stream = site.connect(&["http/1.1"]).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 505"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn off_is_off() {
    let site = site(Http2::Off).await;
    let stream = site.connect(&["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let error = site.connect(&["h2"]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_serves_the_hosts_that_its_certificate_names() {
    let site = site(Http2::default()).await;
    let good = Good::over(site.connect(&["h2"]).await.unwrap()).await;
    for (host, status) in [("a.test", 200), ("b.test", 200), ("c.test", 421), ("a.test", 200)] {
        let request = Request::get(format!("https://{host}/")).body(()).unwrap();
        assert_eq!(
            within(good.ask(request, None)).await.unwrap().status(),
            status,
            "{host}"
        );
    }
    let request = Request::get("http://a.test/").body(()).unwrap();
    assert_eq!(
        within(good.ask(request, None)).await.unwrap().status(),
        400,
        "another scheme"
    );
    site.world.logged(|line| line["refused_by"] == "scheme").await;
}
