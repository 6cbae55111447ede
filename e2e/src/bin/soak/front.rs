//! Clients of the four kinds that a data plane is spoken to by.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::Authority;
use crate::edge::{Edge, HOST};

/// A body that is sent.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// None of it.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/1.1 over TLS.
    Http1Tls,
    /// HTTP/2 over TLS.
    Http2Tls,
    /// HTTP/2 in the clear, begun without asking.
    H2c,
}

impl Front {
    pub(crate) const ALL: [Self; 4] = [Self::Http1, Self::Http1Tls, Self::Http2Tls, Self::H2c];

    /// In figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http1Tls => "HTTP/1.1 TLS",
            Self::Http2Tls => "HTTP/2 TLS",
            Self::H2c => "h2c",
        }
    }

    /// Whether over TLS.
    pub(crate) fn secure(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }

    /// Whether HTTP/2.
    pub(crate) fn two(self) -> bool {
        matches!(self, Self::Http2Tls | Self::H2c)
    }

    /// A request of it, without a body yet.
    pub(crate) fn request(self, method: &str, path: &str) -> http::request::Builder {
        self.request_of(HOST, method, path)
    }

    /// A request for another host.
    pub(crate) fn request_of(self, host: &str, method: &str, path: &str) -> http::request::Builder {
        let builder = Request::builder().method(method);
        if self.two() {
            let scheme = if self.secure() { "https" } else { "http" };
            builder.uri(format!("{scheme}://{host}{path}"))
        } else {
            builder.uri(path).header(header::HOST, host)
        }
    }

    /// What it takes to open such connections again and again.
    pub(crate) fn dialer(self, edge: &Edge) -> Dialer {
        let tls = self.secure().then(|| tls_config(self, &edge.authority));
        Dialer {
            front: self,
            address: if self.secure() { edge.tls } else { edge.fleet.http },
            tls,
        }
    }
}

fn tls_config(front: Front, authority: &Authority) -> Arc<ClientConfig> {
    authority.client(if front.two() { "h2" } else { "http/1.1" })
}

/// Opens connections of one kind.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) front: Front,
    pub(crate) address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// A new connection.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        self.connect_from(None).await
    }

    /// A new connection from this address, if there is one.
    pub(crate) async fn connect_from(&self, source: Option<SocketAddr>) -> anyhow::Result<Client> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind(source).context("binding")?;
        }
        let socket = socket.connect(self.address).await.context("connecting")?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => Client::over(self.front, socket).await,
            Some(config) => Client::over(self.front, handshake(config, HOST, socket).await?).await,
        }
    }
}

/// Speaks TLS with whoever is at the other end, for this name.
pub(crate) async fn handshake(
    config: &Arc<ClientConfig>,
    name: &str,
    socket: TcpStream,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(config.clone());
    let stream = connector.connect(name.to_owned().try_into()?, socket).await;
    stream.context("TLS handshake")
}

/// A connection that is open.
pub(crate) enum Client {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

impl Client {
    /// Begins to speak over a stream.
    pub(crate) async fn over(
        front: Front,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> anyhow::Result<Self> {
        let stream = TokioIo::new(stream);
        // What goes wrong with a connection is told to its requests.
        if front.two() {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            Ok(Self::Two(sender))
        } else {
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Ok(Self::One(sender))
        }
    }

    /// Sends a request when the connection can take one.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request; one that was not sent because the connection has closed comes back.
    pub(crate) async fn try_send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, (Option<Request<Body>>, hyper::Error)> {
        let ready = match self {
            Self::One(sender) => sender.ready().await,
            Self::Two(sender) => sender.ready().await,
        };
        if let Err(closed) = ready {
            return Err((Some(request), closed));
        }
        let sent = match self {
            Self::One(sender) => sender.try_send_request(request).await,
            Self::Two(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| (error.take_message(), error.into_error()))
    }

    /// Another handle on the same connection, if more than one request fits on it and it is open.
    pub(crate) fn share(&self) -> Option<Self> {
        match self {
            Self::Two(sender) if !sender.is_closed() => Some(Self::Two(sender.clone())),
            Self::One(_) | Self::Two(_) => None,
        }
    }
}
