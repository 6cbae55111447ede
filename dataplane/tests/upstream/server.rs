//! Upstreams that speak TLS and HTTP/2, and the pools that lead to them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Ping, RecvStream};
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sluice_dataplane::tls::certificate::Certificate;
use sluice_dataplane::tls::clients::Authorities;
use sluice_model::unit::{Http2, Listener, PoolUnit, Transport, Unit, UpstreamProtocol, UpstreamTls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::world::*;

/// Who signs certificates here.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn issue(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.0).unwrap();
        (signed.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// What a server of this name says; with `clients`, it wants a certificate that they have signed.
    pub(crate) fn server(&self, name: &str, protocols: &[&str], clients: Option<&Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let (leaf, key) = self.issue(name);
        let mut config = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.root()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        }
        .with_single_cert(vec![leaf], key)
        .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// The certificate of a server of this name and its key, as PEM.
    pub(crate) fn pem(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Believed by whoever refers to this Secret.
    pub(crate) fn hold(&self, world: &World, secret: &str) {
        let authorities = Arc::new(Authorities::new(vec![self.root()]).unwrap());
        world
            .store
            .values()
            .authorities
            .replace(secret.parse().unwrap(), authorities);
    }

    /// A certificate of theirs, to be shown by whoever refers to this Secret.
    pub(crate) fn hold_certificate(&self, world: &World, secret: &str) {
        let (leaf, key) = self.issue("edge.test");
        let certificate = Arc::new(Certificate::new(vec![leaf], key).unwrap());
        world
            .store
            .values()
            .certificates
            .replace(secret.parse().unwrap(), certificate);
    }
}

/// TLS to a server of this name.
pub(crate) fn tls(server_name: &str, ca: Option<&str>, shown: Option<&str>) -> UpstreamTls {
    UpstreamTls {
        server_name: server_name.parse().unwrap(),
        ca: ca.map(|text| text.parse().unwrap()),
        client_certificate: shown.map(|text| text.parse().unwrap()),
    }
}

impl Setup {
    /// How a pool is spoken to.
    pub(crate) fn spoken(mut self, pool: &str, protocol: UpstreamProtocol, tls: Option<UpstreamTls>) -> Self {
        let key = key(&format!("Pool t/{pool}"));
        let Some(Unit::Pool(unit)) = self.config.get(&key).cloned() else {
            panic!("no pool {pool}");
        };
        let transport = Arc::new(Transport {
            protocol,
            tls,
            connections: unit.transport.connections,
        });
        self.config.insert(key, Unit::Pool(PoolUnit { transport, ..unit }));
        self
    }
}

/// A world with one pool for everything, which takes HTTP/2 in the clear as well as HTTP/1.1.
pub(crate) async fn world(endpoints: &[SocketAddr], protocol: UpstreamProtocol, tls: Option<UpstreamTls>) -> World {
    let setup = Setup::default().pool("all", endpoints).spoken("all", protocol, tls);
    let mut world = World::start(setup.route("/", "all", None)).await;
    world.address = world.listen(cleartext()).await;
    world
}

/// A listener that takes HTTP/2 in the clear.
pub(crate) fn cleartext() -> Listener {
    Listener {
        http2: Http2::PriorKnowledge,
        ..listener("http", 80)
    }
}

/// Connections and requests that a server saw.
#[derive(Default, Debug)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
}

/// A server of HTTP/2, over TLS if it is given what that needs, that answers each request by `answer`, with its number.
pub(crate) async fn serve<F, R>(
    tls: Option<Arc<ServerConfig>>,
    configure: fn(&mut h2::server::Builder),
    answer: F,
) -> (SocketAddr, Arc<Seen>)
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>, u64) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let counts = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counts.connections.fetch_add(1, Ordering::Relaxed);
            let (counts, answer) = (counts.clone(), answer.clone());
            match tls.clone() {
                None => drop(tokio::spawn(speak(stream, configure, answer, counts))),
                Some(config) => drop(tokio::spawn(async move {
                    if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                        speak(stream, configure, answer, counts).await;
                    }
                })),
            }
        }
    });
    (address, seen)
}

async fn speak<S, F, R>(stream: S, configure: fn(&mut h2::server::Builder), answer: F, seen: Arc<Seen>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<RecvStream>, SendResponse<Bytes>, u64) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let mut builder = h2::server::Builder::new();
    configure(&mut builder);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let _ = connection.ping_pong().map(|mut pings| pings.send_ping(Ping::opaque()));
    while let Some(Ok((request, respond))) = connection.accept().await {
        let number = seen.requests.fetch_add(1, Ordering::Relaxed);
        let told_to_leave = request.uri().path() == "/leave";
        tokio::spawn(answer(request, respond, number));
        if told_to_leave {
            connection.graceful_shutdown();
        }
    }
}

/// Nothing special.
pub(crate) fn usual(_: &mut h2::server::Builder) {}

/// Answers with the request's head, as lines, and its body and trailers after it.
pub(crate) async fn echo_http2(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _: u64) {
    let (parts, mut body) = request.into_parts();
    let mut text = format!("{} {}\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let Ok(mut send) = respond.send_response(Response::new(()), false) else {
        return;
    };
    let _ = send.send_data(text.into(), false);
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        if send_all(&mut send, data).await.is_err() {
            return;
        }
    }
    let _ = match body.trailers().await {
        Ok(Some(trailers)) => send.send_trailers(trailers),
        _ => send.send_data(Bytes::new(), true),
    };
}

/// Sends as the window allows.
pub(crate) async fn send_all(send: &mut h2::SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
        let room = room.ok_or(h2::Error::from(h2::Reason::CANCEL))??.min(data.len());
        send.send_data(data.split_to(room), false)?;
    }
    Ok(())
}
