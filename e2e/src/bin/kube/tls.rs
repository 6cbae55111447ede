//! TLS as clients of the gateway speak it: an authority of the check's own, and connections that tell which certificate
//! they were shown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who signs the certificates of a check, and whom its clients trust.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its private key.
pub(crate) struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this host, with a key of its own.
    pub(crate) fn issue(&self, host: &str) -> anyhow::Result<Issued> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![host.to_owned()])?.signed_by(&key, &self.0)?;
        Ok(Issued { certificate, key })
    }

    /// Its own certificate as a Secret, for who is to believe what it signs.
    pub(crate) fn signers(&self, name: &str) -> Value {
        let data = json!({"ca.crt": self.pem()});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
    }

    /// Opens a connection for this host.
    pub(crate) async fn connect(&self, address: SocketAddr, host: &str) -> anyhow::Result<Connection> {
        self.connect_as(address, host, None).await
    }

    /// The same, showing a certificate if one is asked for.
    pub(crate) async fn connect_as(
        &self,
        address: SocketAddr,
        host: &str,
        shown: Option<&Issued>,
    ) -> anyhow::Result<Connection> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone())?;
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::Pkcs8(issued.key.serialize_der().into());
                builder.with_client_auth_cert(vec![issued.certificate.der().clone()], key)?
            }
        };
        let opening = async {
            let socket = TcpStream::connect(address).await?;
            let name = ServerName::try_from(host.to_owned())?;
            let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let shown = shown.context("no certificate was shown")?.clone().into_owned();
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let host = host.to_owned();
            anyhow::Ok(Connection { sender, shown, host })
        };
        timeout(PATIENCE, opening).await.context("no handshake in time")?
    }
}

impl Issued {
    /// As a Secret.
    pub(crate) fn secret(&self, name: &str) -> Value {
        self.secret_with_key_of(self, name)
    }

    /// The same with the private key of another certificate, as after half a renewal.
    pub(crate) fn secret_with_key_of(&self, other: &Self, name: &str) -> Value {
        let data = json!({"tls.crt": self.certificate.pem(), "tls.key": other.key.serialize_pem()});
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": name},
            "stringData": data,
        })
    }

    /// Whether it is what a connection was shown.
    pub(crate) fn is(&self, connection: &Connection) -> bool {
        *self.certificate.der() == connection.shown
    }
}

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    shown: CertificateDer<'static>,
    host: String,
}

impl Connection {
    /// One request over it; fails when the connection was closed, or the answer is not 200.
    pub(crate) async fn get(&mut self) -> anyhow::Result<()> {
        let (status, _) = self.ask(&self.host.clone(), "/").await?;
        ensure!(status == 200, "the answer is {status}");
        Ok(())
    }

    /// The same for any host and path: status and body of the answer.
    pub(crate) async fn ask(&mut self, host: &str, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let request = Request::get(path).header(header::HOST, host).body(Empty::new())?;
        let exchange = async {
            self.sender.ready().await?;
            let (parts, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok((parts.status, String::from_utf8_lossy(&body).into_owned()))
        };
        timeout(PATIENCE, exchange).await.context("no answer in time")?
    }
}
