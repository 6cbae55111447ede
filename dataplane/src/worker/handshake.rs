//! The TLS handshake of one client connection: reads the hello, asks `tls` which certificate it gets, finishes or refuses,
//! and counts what came of it. Runs on the connection's worker, within one deadline.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::server::Acceptor;
use rustls::server::danger::ClientCertVerifier;
use sluice_model::limits::TLS_REFUSAL_LINGER_BYTES;
use sluice_model::unit::ListenerTls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::{StartHandshake, TlsStream};

use super::Worker;
use super::connection::{Closing, Connection};
use super::socket::ClientStream;
use crate::linger;
use crate::proxy;
use crate::proxy::failure::Failure;
use crate::tls::certificate::{Certificate, HTTP_2, Offer, Terms};
use crate::tls::clients::{self, Authorities};
use crate::tls::facts::Facts;
use crate::tls::failure::HandshakeFailure;
use crate::tls::{self, Asked, plain};

/// How a listener shakes hands.
pub(super) struct Shake {
    tls: Arc<ListenerTls>,
    offer: Offer,
}

impl Shake {
    /// With these certificates, offering these versions of HTTP.
    pub(super) fn new(tls: Arc<ListenerTls>, offer: Offer) -> Self {
        Self { tls, offer }
    }

    fn terms(&self) -> Terms {
        Terms {
            offer: self.offer,
            min_version: self.tls.min_version,
        }
    }

    /// Performs the handshake; `None`: it failed, and the client has been told as far as TLS has words for it.
    pub(super) async fn perform(
        &self,
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        stream: ClientStream,
    ) -> Option<Secured> {
        let began = Instant::now();
        let limit = Duration::from_millis(connection.limits().handshake_millis.get());
        let shaken = tokio::time::timeout(limit, self.shake(worker, connection, stream)).await;
        let (stream, facts) = match shaken.unwrap_or(Err(HandshakeFailure::Slow)) {
            Ok(done) => done,
            Err(failure) => {
                failed(worker, connection, failure);
                return None;
            }
        };
        worker.counters.tls.record(&facts, began.elapsed());
        connection.secured(facts);
        Some(Secured {
            stream,
            connection: connection.clone(),
        })
    }

    async fn shake(
        &self,
        worker: &Rc<Worker>,
        connection: &Connection,
        stream: ClientStream,
    ) -> Result<Shaken, HandshakeFailure> {
        let first = stream
            .peek_first()
            .await
            .map_err(|error| HandshakeFailure::of(&error))?;
        if first.ok_or(HandshakeFailure::ClientClosed).is_ok_and(plain::is_http) {
            say(stream, plain::SPEAK_HTTPS).await;
            return Err(HandshakeFailure::PlainHttp);
        }
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
        let hello = hello.map_err(|error| HandshakeFailure::of(&error))?;
        let name: Option<Box<str>> = hello.client_hello().server_name().map(normal);
        let Some(certificate) = choose(worker, connection, &self.tls, &hello, name.as_deref()) else {
            say(hello.io, plain::UNRECOGNIZED_NAME).await;
            return Err(HandshakeFailure::UnknownName);
        };
        let config = match asked_for(worker, connection, name.as_deref()) {
            None => certificate.config(self.terms()),
            Some(clients) => certificate
                .config_asking(self.terms(), clients)
                .map_err(|_| HandshakeFailure::Internal)?,
        };
        let stream = hello.into_stream(config).await;
        let stream = stream.map_err(|error| HandshakeFailure::of(&error))?;
        let facts = Facts::of(stream.get_ref().1, name, certificate);
        Ok((stream, facts))
    }
}

fn failed(worker: &Rc<Worker>, connection: &Connection, failure: HandshakeFailure) {
    worker.counters.tls.failed(failure);
    tracing::debug!(reason = failure.as_str(), client = ?connection.client, "a TLS handshake failed");
    if failure == HandshakeFailure::PlainHttp {
        // The one failure that is a request, and was answered as one.
        proxy::respond::refused_by_codec(worker, connection, Failure::BadRequest, None);
    }
}

type Shaken = (TlsStream<ClientStream>, Facts);

/// As certificates and routes write names.
fn normal(name: &str) -> Box<str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase().into()
}

/// By the generation that this client meets, as its requests will.
fn choose(
    worker: &Rc<Worker>,
    connection: &Connection,
    tls: &ListenerTls,
    hello: &StartHandshake<ClientStream>,
    name: Option<&str>,
) -> Option<Arc<Certificate>> {
    let serving = worker.serving()?;
    let hello = hello.client_hello();
    let asked = Asked {
        name,
        schemes: hello.signature_schemes(),
    };
    let names = &serving.lane(connection.cohort).generation.names;
    let held = &worker.store.values().certificates;
    tls::choose(names, held, tls.default_certificate.as_ref(), &asked)
}

/// Whose certificates the client is asked for: those of any route for this host, since a handshake does not know which it
/// will be.
fn asked_for(worker: &Rc<Worker>, connection: &Connection, name: Option<&str>) -> Option<Arc<dyn ClientCertVerifier>> {
    let serving = worker.serving()?;
    let wanted = &serving.lane(connection.cohort).generation.clients;
    let held = &worker.store.values().authorities;
    let mut all: Vec<Arc<Authorities>> = Vec::new();
    for authorities in wanted.candidates(name?).filter_map(|reference| held.get(reference)) {
        if !all.iter().any(|known| Arc::ptr_eq(known, &authorities)) {
            all.push(authorities);
        }
    }
    clients::verifier(&all)
}

/// Says the last word without TLS, and reads on for as long as a handshake may take.
async fn say(mut stream: ClientStream, word: &[u8]) {
    if linger::say(&mut stream, word).await.is_ok() {
        linger::read_on(&mut stream, TLS_REFUSAL_LINGER_BYTES).await;
    }
}

/// A client connection in TLS, closing as its connection says.
pub(super) struct Secured {
    stream: TlsStream<ClientStream>,
    connection: Rc<Connection>,
}

impl Secured {
    /// Whether the handshake agreed on HTTP/2. A client that asked for nothing speaks HTTP/1.1.
    pub(super) fn agreed_on_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.closing.get() == Closing::Reset {
            return Poll::Ready(Ok(())); // no close_notify: it would vouch for the end of the body
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
