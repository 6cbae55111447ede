//! Opening a connection to an upstream: TCP, then TLS if the pool wants it, each within its time. Nothing of a request is
//! sent here, so that whatever fails, the request can go elsewhere.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use rustls::ClientConfig;
use sluice_model::limits::UPSTREAM_HANDSHAKE_TIMEOUT_MS;
use sluice_model::unit::UpstreamTls;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::quota::Permit;
use super::socket::{Socket, Stream};
use super::way::Way;
use crate::live::values::LiveValues;
use crate::pool::transport::{Transport, TransportId};
use crate::tls::certificate::HTTP_2;
use crate::tls::upstream::{Means, Offer, Unready, server_name};
use crate::worker::Worker;

/// Why there is no connection, for the log. Shared by all requests that waited for it, of whichever worker.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unreached {
    /// TCP.
    #[error("connect: {0}")]
    Connect(Arc<io::Error>),
    /// TCP, for want of something that this process lacks and no endpoint is to blame for.
    #[error("connect: nothing left to open a connection with: {0}")]
    Exhausted(Arc<io::Error>),
    /// TLS: the error names the certificate's fault, if it is that.
    #[error("TLS: {0}")]
    Tls(Arc<io::Error>),
    /// What TLS needs is not there.
    #[error("TLS: {0}")]
    Unready(#[from] Unready),
    /// HTTP/2 was the only offer, and was not taken.
    #[error("TLS: the endpoint does not speak HTTP/2 (ALPN)")]
    NoHttp2,
    /// It does not say that it takes extended `CONNECT`.
    #[error("HTTP/2: the endpoint does not offer WebSocket and its like (RFC 8441)")]
    NoConnect,
    /// It did not begin to speak HTTP/2.
    #[error("HTTP/2: {0}")]
    Http2(Arc<str>),
    /// There are as many connections as there may be. Nothing was tried.
    #[error("there are as many connections as connections.maxPerEndpoint allows")]
    Full,
    /// The time of one try is over (`timeouts.perTry`).
    #[error("no connection within the time of one try (timeouts.perTry)")]
    TryOver,
    /// It took too long.
    #[error("{0}: no answer within {1} ms")]
    Slow(&'static str, u64),
}

/// What is spoken on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What a worker keeps for its handshakes, by transport and offer.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    known: RefCell<HashMap<(TransportId, Offer), Known>>,
}

/// What the last handshake needed.
#[derive(Debug)]
struct Known {
    transport: Weak<Transport>,
    means: Means,
    config: Arc<ClientConfig>,
}

impl Handshakes {
    /// What the next handshake needs, by what is held now.
    fn config(
        &self,
        transport: &Arc<Transport>,
        tls: &UpstreamTls,
        offer: Offer,
        values: &LiveValues,
    ) -> Result<Arc<ClientConfig>, Unready> {
        let means = Means::of(tls, &values.authorities, &values.certificates)?;
        let key = (transport.id(), offer);
        let mut all = self.known.borrow_mut();
        if let Some(known) = all.get(&key).filter(|known| known.means.is_same(&means)) {
            return Ok(known.config.clone());
        }
        let config = means.config(offer)?;
        let known = Known {
            transport: Arc::downgrade(transport),
            means,
            config: config.clone(),
        };
        all.insert(key, known);
        Ok(config)
    }

    /// Forgets those of transports that no pool has any more.
    pub(crate) fn prune(&self) {
        self.known
            .borrow_mut()
            .retain(|_, known| known.transport.strong_count() > 0);
    }
}

async fn in_time<T>(
    what: &'static str,
    limit_ms: u64,
    work: impl Future<Output = io::Result<T>>,
    failed: impl Fn(Arc<io::Error>) -> Unreached,
) -> Result<T, Unreached> {
    match timeout(Duration::from_millis(limit_ms), work).await {
        Ok(done) => done.map_err(|error| failed(Arc::new(error))),
        Err(_) => Err(Unreached::Slow(what, limit_ms)),
    }
}

/// Why there is no TCP connection: whether something is missing there, or here.
fn not_connected(error: Arc<io::Error>) -> Unreached {
    match Errno::from_io_error(&error) {
        // Of this process, of the machine, of its ports; and memory.
        Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM) => {
            Unreached::Exhausted(error)
        }
        Some(_) | None => Unreached::Connect(error),
    }
}

/// A fresh connection, and what is spoken on it.
pub(crate) async fn open(worker: &Worker, way: &Way, offer: Offer) -> Result<(Socket, Spoken), Unreached> {
    let permit = way.permit(&worker.quotas)?;
    let opened = permitted(worker, way.place.address, &way.transport, permit, offer);
    way.in_time(opened).await
}

/// The same, where it is known that there may be one more.
pub(super) async fn permitted(
    worker: &Worker,
    address: SocketAddr,
    transport: &Arc<Transport>,
    permit: Option<Permit>,
    offer: Offer,
) -> Result<(Socket, Spoken), Unreached> {
    let settings = transport.settings();
    let (connect_ms, idle_ms) = (settings.connections.connect_millis, settings.connections.idle_millis);
    let idle_limit = Duration::from_millis(idle_ms.get());
    let connect = TcpStream::connect(address);
    let stream = in_time("connect", connect_ms.get(), connect, not_connected).await?;
    // Fails only on a dead connection; whoever uses it will tell.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &settings.tls else {
        let spoken = match offer {
            Offer::Http1 | Offer::Either => Spoken::Http1,
            Offer::Http2 => Spoken::Http2,
        };
        return Ok((Socket::new(Stream::Plain(stream), idle_limit, permit), spoken));
    };
    let config = worker.handshakes.config(transport, tls, offer, worker.store.values())?;
    let handshake = TlsConnector::from(config).connect(server_name(tls)?, stream);
    let stream = in_time("TLS", UPSTREAM_HANDSHAKE_TIMEOUT_MS, handshake, Unreached::Tls).await?;
    let chosen = stream.get_ref().1.alpn_protocol();
    let spoken = match (chosen == Some(HTTP_2), offer) {
        (true, _) => Spoken::Http2,
        (false, Offer::Http1 | Offer::Either) => Spoken::Http1,
        (false, Offer::Http2) => return Err(Unreached::NoHttp2),
    };
    let stream = Stream::Tls(Box::new(stream));
    Ok((Socket::new(stream, idle_limit, permit), spoken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_here_is_no_fault_of_an_endpoint() {
        let check = |errno: Errno, own: bool| {
            let reason = not_connected(Arc::new(errno.into()));
            assert_eq!(matches!(reason, Unreached::Exhausted(_)), own, "{reason}");
        };
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::ADDRNOTAVAIL,
            Errno::NOBUFS,
            Errno::NOMEM,
        ] {
            check(errno, true);
        }
        for errno in [
            Errno::CONNREFUSED,
            Errno::HOSTUNREACH,
            Errno::TIMEDOUT,
            Errno::CONNRESET,
        ] {
            check(errno, false);
        }
    }
}
