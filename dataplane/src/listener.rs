//! Listeners: which addresses the fleet's configuration asks for, bound once per worker with `SO_REUSEPORT`.
//!
//! `prepare` binds everything that is new, for all workers, before anything changes, so that a port in use is an error
//! while the old configuration serves on. `commit` begins to accept and drains what is gone. Listeners that stay are
//! not touched: a swap of configuration is not a drain.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sluice_model::Name;
use sluice_model::limits::{CLIENT_UNSENT_BYTES, LISTEN_BACKLOG};
use sluice_model::network::Network;
use sluice_model::unit::{Http2, Listener, ListenerTls};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};

use crate::worker::Command;
use crate::worker::accept::Manner;

/// How long a worker may take to drain the accept queue of a listener that is gone.
const DRAIN: Duration = Duration::from_secs(2);

/// Who else may listen on the same addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sharing {
    /// Nobody: a port that anybody listens on is an error.
    #[default]
    Exclusive,
    /// Other instances of the same fleet on this machine. A stranger that shares its port on purpose too cannot be
    /// told from them; whoever starts the instances checks the address first.
    Fleet,
}

/// Where listeners bind.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The address of listeners without an override.
    pub ip: IpAddr,
    /// Addresses of listeners by name. Port 0 takes a free one.
    pub overrides: BTreeMap<String, SocketAddr>,
    /// Who else may listen there.
    pub sharing: Sharing,
}

impl Default for Binding {
    fn default() -> Self {
        Self {
            ip: IpAddr::from([0, 0, 0, 0]),
            overrides: BTreeMap::new(),
            sharing: Sharing::default(),
        }
    }
}

/// Why a listener cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refuses the address.
    #[error("listener {name:?} cannot listen on {address}: {}", explain(.source))]
    Bind {
        /// Which listener.
        name: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Overrides bring two listeners to the same address.
    #[error("listeners {one:?} and {other:?} are both bound to {address}: give each --bind an address of its own")]
    Twice {
        /// One.
        one: String,
        /// The other.
        other: String,
        /// Where.
        address: SocketAddr,
    },
}

fn explain(error: &std::io::Error) -> String {
    let kind = error.kind();
    if kind == ErrorKind::AddrInUse {
        "another program listens there; stop it, or choose another port (`ss -ltnp` shows who it is)".to_owned()
    } else if kind == ErrorKind::PermissionDenied {
        "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE".to_owned()
    } else if kind == ErrorKind::AddrNotAvailable {
        "this machine does not have that address".to_owned()
    } else {
        error.to_string()
    }
}

/// What tells one listening address from another: with port 0 the name does.
type Place = (SocketAddr, Option<String>);

#[derive(Debug)]
struct Open {
    id: u64,
    seen: OpenListener,
}

/// A listener that accepts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenListener {
    /// As configured.
    pub name: Name,
    /// Where it is.
    pub address: SocketAddr,
    /// How it speaks TLS; `None`: in the clear.
    pub tls: Option<ListenerTls>,
    /// Whether it speaks HTTP/2.
    pub http2: Http2,
    /// Whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<Network>,
}

impl OpenListener {
    /// As it is configured, at this address.
    fn of(listener: &Listener, address: SocketAddr) -> Self {
        let Listener {
            name,
            port: _,
            tls,
            http2,
            proxy_protocol_from,
        } = listener;
        Self {
            name: name.clone(),
            address,
            tls: tls.clone(),
            http2: *http2,
            proxy_protocol_from: proxy_protocol_from.clone(),
        }
    }

    /// Whether connections are met in the same way, whatever it is called and wherever it is.
    fn speaks_like(&self, other: &Self) -> bool {
        let Self {
            name: _,
            address: _,
            tls,
            http2,
            proxy_protocol_from,
        } = self;
        (tls, http2, proxy_protocol_from) == (&other.tls, &other.http2, &other.proxy_protocol_from)
    }
}

/// Sockets that are bound and do not listen yet. Dropping it gives them back.
#[derive(Debug)]
pub struct Prepared {
    wanted: Vec<(Place, Listener)>,
    new: BTreeMap<Place, (SocketAddr, Vec<Socket>)>,
}

/// The listeners of one process.
#[derive(Debug)]
pub struct Listeners {
    workers: Vec<mpsc::Sender<Command>>,
    binding: Binding,
    open: Mutex<BTreeMap<Place, Open>>,
    next_id: AtomicU64,
}

impl Listeners {
    /// None yet.
    pub(crate) fn new(workers: Vec<mpsc::Sender<Command>>, binding: Binding) -> Self {
        Self {
            workers,
            binding,
            open: Mutex::default(),
            next_id: AtomicU64::new(0),
        }
    }

    fn place(&self, listener: &Listener) -> Place {
        let name = listener.name.as_str();
        let address = self.binding.overrides.get(name).copied();
        let address = address.unwrap_or_else(|| SocketAddr::new(self.binding.ip, listener.port));
        (address, (address.port() == 0).then(|| name.to_owned()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Place, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds what is new, for all workers. Nothing changes yet, and on an error nothing has changed.
    pub fn prepare(&self, listeners: &[Listener]) -> Result<Prepared, ListenError> {
        let mut wanted: Vec<(Place, Listener)> = Vec::new();
        let mut new = BTreeMap::new();
        for listener in listeners {
            let place = self.place(listener);
            if let Some((_, other)) = wanted.iter().find(|(known, _)| *known == place) {
                return Err(ListenError::Twice {
                    one: other.name.to_string(),
                    other: listener.name.to_string(),
                    address: place.0,
                });
            }
            if !self.lock().contains_key(&place) {
                let bound = bind_all(place.0, self.workers.len(), self.binding.sharing);
                let bound = bound.map_err(|source| ListenError::Bind {
                    name: listener.name.to_string(),
                    address: place.0,
                    source,
                })?;
                new.insert(place.clone(), bound);
            }
            wanted.push((place, listener.clone()));
        }
        Ok(Prepared { wanted, new })
    }

    /// Begins to accept on what is new, then drains and closes what is gone. Connections that are open stay.
    pub async fn commit(&self, prepared: Prepared) -> Result<(), ListenError> {
        let Prepared { wanted, new } = prepared;
        let wanted: BTreeMap<Place, Listener> = wanted.into_iter().collect();
        for (place, (local, sockets)) in new {
            let Some(listener) = wanted.get(&place) else { continue };
            self.begin(place, listener, local, sockets).await?;
        }
        for (id, manner) in self.update(&wanted) {
            self.tell(|| Command::Retune {
                id,
                manner: manner.clone(),
            })
            .await;
        }
        let gone: Vec<u64> = {
            let mut open = self.lock();
            let gone: Vec<Place> = open
                .keys()
                .filter(|place| !wanted.contains_key(*place))
                .cloned()
                .collect();
            gone.iter()
                .filter_map(|place| open.remove(place))
                .map(|open| open.id)
                .collect()
        };
        self.end(&gone).await;
        Ok(())
    }

    /// Names those that stay as they are called now. Those that are to speak otherwise, with what.
    fn update(&self, wanted: &BTreeMap<Place, Listener>) -> Vec<(u64, Manner)> {
        let mut changed = Vec::new();
        for (place, Open { id, seen }) in self.lock().iter_mut() {
            let Some(listener) = wanted.get(place) else {
                continue;
            };
            let now = OpenListener::of(listener, seen.address);
            if !now.speaks_like(seen) {
                changed.push((*id, Manner::of(listener)));
            }
            *seen = now;
        }
        changed
    }

    async fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker that is gone accepts nothing anyway.
            let _ = worker.send(command()).await;
        }
    }

    async fn begin(
        &self,
        place: Place,
        listener: &Listener,
        local: SocketAddr,
        sockets: Vec<Socket>,
    ) -> Result<(), ListenError> {
        let seen = OpenListener::of(listener, local);
        let name = &seen.name;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        for socket in &sockets {
            socket.listen(LISTEN_BACKLOG).map_err(|source| ListenError::Bind {
                name: name.to_string(),
                address: place.0,
                source,
            })?;
        }
        for (worker, socket) in self.workers.iter().zip(sockets) {
            let (socket, manner) = (socket.into(), Manner::of(listener));
            if worker.send(Command::Listen { id, socket, manner }).await.is_err() {
                tracing::error!(listener = %name, "a worker is gone and does not accept");
            }
        }
        let (tls, http2, proxy_protocol_from) = (seen.tls.is_some(), seen.http2, &seen.proxy_protocol_from);
        tracing::info!(listener = %name, address = %local, tls, ?http2, ?proxy_protocol_from, "listening");
        self.lock().insert(place, Open { id, seen });
        Ok(())
    }

    async fn end(&self, ids: &[u64]) {
        let mut waiting = Vec::new();
        for id in ids {
            for worker in &self.workers {
                let (done, closed) = oneshot::channel();
                if worker.send(Command::Unlisten { id: *id, done }).await.is_ok() {
                    waiting.push(closed);
                }
            }
        }
        let all = async {
            for closed in waiting {
                // An error means that the worker is gone, and its socket with it.
                let _ = closed.await;
            }
        };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!("a worker took long to drain a listener that is gone");
        }
    }

    /// Stops accepting everywhere, having served what waited.
    pub async fn close_all(&self) {
        let ids: Vec<u64> = std::mem::take(&mut *self.lock())
            .into_values()
            .map(|open| open.id)
            .collect();
        self.end(&ids).await;
    }

    /// Where it listens, by name.
    pub fn addresses(&self) -> Vec<(Name, SocketAddr)> {
        self.open().into_iter().map(|open| (open.name, open.address)).collect()
    }

    /// The listeners that accept.
    pub fn open(&self) -> Vec<OpenListener> {
        self.lock().values().map(|open| open.seen.clone()).collect()
    }
}

fn bind_all(address: SocketAddr, workers: usize, sharing: Sharing) -> std::io::Result<(SocketAddr, Vec<Socket>)> {
    if sharing == Sharing::Exclusive && address.port() != 0 {
        // Without SO_REUSEPORT the system tells whether anybody is there, even one that would share.
        drop(bind(address, Reuse::Address)?);
    }
    let first = bind(address, Reuse::Port)?;
    let local = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(bind(local, Reuse::Port)?);
    }
    Ok((local, sockets))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reuse {
    /// Old connections of the port do not matter, listeners do.
    Address,
    /// Neither do listeners that also share.
    Port,
}

fn bind(address: SocketAddr, reuse: Reuse) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if reuse == Reuse::Port {
        socket.set_reuse_port(true)?;
    }
    // Connections have it from their listener. Without it the kernel takes megabytes, and says nothing until much of that is gone.
    socket.set_tcp_notsent_lowat(CLIENT_UNSENT_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str, port: u16) -> Listener {
        Listener {
            name: name.parse().unwrap(),
            port,
            tls: None,
            http2: Http2::default(),
            proxy_protocol_from: vec![],
        }
    }

    fn listeners(sharing: Sharing) -> Listeners {
        let binding = Binding {
            ip: IpAddr::from([127, 0, 0, 1]),
            overrides: BTreeMap::new(),
            sharing,
        };
        Listeners::new(vec![mpsc::channel(1).0; 2], binding)
    }

    #[test]
    fn a_port_in_use_is_an_error_that_says_what_to_do() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        for sharing in [Sharing::Exclusive, Sharing::Fleet] {
            let error = listeners(sharing)
                .prepare(&[listener("http", port)])
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("\"http\"") && error.contains("another program listens there"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_stranger_that_shares_is_one_too_unless_a_fleet_is_expected() {
        let any = "127.0.0.1:0".parse().unwrap();
        let shared = bind(any, Reuse::Port).unwrap();
        shared.listen(1).unwrap();
        let port = shared.local_addr().unwrap().as_socket().unwrap().port();
        assert!(
            listeners(Sharing::Exclusive)
                .prepare(&[listener("http", port)])
                .is_err()
        );
        let prepared = listeners(Sharing::Fleet).prepare(&[listener("http", port)]).unwrap();
        assert_eq!(prepared.new.values().next().unwrap().1.len(), 2);
    }

    #[test]
    fn two_listeners_on_one_address_are_refused() {
        let mut listeners = listeners(Sharing::Exclusive);
        let address = "127.0.0.1:1".parse().unwrap();
        listeners.binding.overrides = [("a".into(), address), ("b".into(), address)].into();
        let error = listeners.prepare(&[listener("a", 80), listener("b", 81)]);
        assert!(
            matches!(error, Err(ListenError::Twice { .. } | ListenError::Bind { .. })),
            "{error:?}"
        );
    }
}
