//! The ways in which a client asks, each over one kept connection, one request after the other: so nothing depends on how
//! many of them a worker finds ready when it looks.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/1.1 over TLS.
    Http1Tls,
    /// HTTP/2 over TLS.
    Http2Tls,
}

impl Way {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Http1Tls, Self::Http2Tls];

    /// What the budget calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http1Tls => "http1-tls",
            Self::Http2Tls => "http2-tls",
        }
    }
}

/// Where to ask, and for what.
pub(crate) struct Target {
    /// The listener in the clear.
    pub(crate) plain: SocketAddr,
    /// The listener with TLS.
    pub(crate) tls: SocketAddr,
    /// The host.
    pub(crate) host: &'static str,
    /// What its certificate is trusted by: itself.
    pub(crate) certificate: CertificateDer<'static>,
}

/// A connection, as far as it takes to ask.
pub(crate) enum Client {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Target {
    /// Connects in this way.
    pub(crate) async fn connect(&self, way: Way) -> anyhow::Result<Client> {
        Ok(match way {
            Way::Http1 => over_http1(TcpStream::connect(self.plain).await?).await?,
            Way::Http1Tls => over_http1(self.secured(b"http/1.1").await?).await?,
            Way::Http2Tls => {
                let stream = TokioIo::new(self.secured(b"h2").await?);
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                Client::Http2(sender)
            }
        })
    }

    async fn secured(&self, protocol: &[u8]) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.tls).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host)?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
    }
}

async fn over_http1<T>(stream: T) -> anyhow::Result<Client>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(Client::Http1(sender))
}

impl Client {
    /// Asks so many times; each answer must be 200.
    pub(crate) async fn ask(&mut self, host: &str, times: u64) -> anyhow::Result<()> {
        for _ in 0..times {
            let answer = match self {
                Self::Http1(sender) => {
                    sender.ready().await?;
                    let request = Request::get("/").header(header::HOST, host);
                    sender.send_request(request.body(Empty::new())?).await
                }
                Self::Http2(sender) => {
                    sender.ready().await?;
                    let request = Request::get(format!("https://{host}/")).version(Version::HTTP_2);
                    sender.send_request(request.body(Empty::new())?).await
                }
            };
            let answer = answer.context("no answer")?;
            ensure!(answer.status() == StatusCode::OK, "answered by {}", answer.status());
            answer.into_body().collect().await?;
        }
        Ok(())
    }
}
