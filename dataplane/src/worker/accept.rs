//! Accepting on one worker's sockets, and stopping without losing anyone: closing one socket of a `SO_REUSEPORT` group
//! resets the connections in its queue, so the queue is emptied first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_model::limits::LISTENER_DRAIN_MS;
use sluice_model::network::Network;
use sluice_model::unit::{Http2, Listener, ListenerTls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Worker, serve};

/// How long a worker waits before it tries again to accept, when the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(10);

/// What is spoken on the connections of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Speech {
    /// HTTP/1.1 in the clear.
    Clear,
    /// In the clear, HTTP/2 with who begins with its preface, HTTP/1.1 with everybody else.
    ClearEither,
    /// In TLS, HTTP/1.1 alone.
    Tls(Arc<ListenerTls>),
    /// In TLS, what the handshake agrees upon.
    TlsEither(Arc<ListenerTls>),
}

impl Speech {
    /// As the listener is configured.
    fn of(listener: &Listener) -> Self {
        match (&listener.tls, listener.http2) {
            (None, Http2::Negotiated | Http2::Off) => Self::Clear,
            (None, Http2::PriorKnowledge) => Self::ClearEither,
            (Some(tls), Http2::Off) => Self::Tls(Arc::new(tls.clone())),
            // Prior knowledge is refused with TLS when a revision is checked.
            (Some(tls), Http2::Negotiated | Http2::PriorKnowledge) => Self::TlsEither(Arc::new(tls.clone())),
        }
    }
}

/// How the connections of a listener are met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manner {
    /// Whose connections begin with a PROXY header.
    introducers: Arc<[Network]>,
    /// What is spoken after that.
    pub(super) speech: Speech,
}

impl Manner {
    /// As the listener is configured.
    pub(crate) fn of(listener: &Listener) -> Self {
        Self {
            introducers: listener.proxy_protocol_from.as_slice().into(),
            speech: Speech::of(listener),
        }
    }

    /// Whether a connection from `address` has to begin with a PROXY header. Of any other none is looked at.
    pub(super) fn wants_introduction(&self, address: IpAddr) -> bool {
        self.introducers.iter().any(|network| network.contains(address))
    }
}

/// An accepting task, as its worker sees it.
struct Accepting {
    stop: oneshot::Sender<oneshot::Sender<()>>,
    manner: Rc<RefCell<Manner>>,
}

/// The accepting tasks of one worker, by listener.
#[derive(Default)]
pub(super) struct Acceptors {
    tasks: HashMap<u64, Accepting>,
}

impl Acceptors {
    /// Begins accepting.
    pub(super) fn listen(&mut self, worker: &Rc<Worker>, id: u64, socket: std::net::TcpListener, manner: Manner) {
        match TcpListener::from_std(socket) {
            Ok(listener) => {
                let (stop, stopped) = oneshot::channel();
                let manner = Rc::new(RefCell::new(manner));
                tokio::task::spawn_local(accept(worker.clone(), listener, manner.clone(), stopped));
                self.tasks.insert(id, Accepting { stop, manner });
            }
            Err(error) => tracing::error!(%error, "a listening socket could not be registered"),
        }
    }

    /// Connections accepted from now on are met otherwise; those that are open go on.
    pub(super) fn retune(&mut self, id: u64, manner: Manner) {
        if let Some(task) = self.tasks.get(&id) {
            *task.manner.borrow_mut() = manner;
        }
    }

    /// Stops accepting; `done` hears when the socket is closed.
    pub(super) fn unlisten(&mut self, id: u64, done: oneshot::Sender<()>) {
        if let Some(task) = self.tasks.remove(&id) {
            // If the task is gone, `done` is dropped with the message, which whoever waits takes for an answer.
            drop(task.stop.send(done));
        }
    }
}

async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    manner: Rc<RefCell<Manner>>,
    mut stopped: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let done = loop {
        tokio::select! {
            done = &mut stopped => break done.ok(),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => serve::serve(&worker, stream, peer, &manner.borrow()),
                Err(error) => pause(&worker, &error).await,
            },
        }
    };
    drain(&worker, listener, &manner).await;
    if let Some(done) = done {
        // Nobody waits any more: fine.
        let _ = done.send(());
    }
}

/// A connection that died in the queue concerns nobody. Anything else (no file descriptors left, no memory) is nobody's fault who
/// waits there and passes as connections end; trying at once would only burn.
async fn pause(worker: &Worker, error: &io::Error) {
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    worker.counters.accept_failures.add(1);
    if worker.accept_failures.allows(Instant::now()) {
        tracing::warn!(%error, "accepting failed; connections wait in the kernel's queue. Out of file descriptors: raise \
                                the limit of this process, or lower limits.maxConnections");
    }
    tokio::time::sleep(PAUSE).await;
}

/// Serves who waits. Without file descriptors that takes until others end, and for so long only: a change waits for this.
async fn drain(worker: &Rc<Worker>, listener: TcpListener, manner: &RefCell<Manner>) {
    let Ok(listener) = listener.into_std() else { return };
    let patience = Instant::now() + Duration::from_millis(LISTENER_DRAIN_MS);
    loop {
        match next_in_queue(&listener) {
            Ok((stream, peer)) => serve::serve(worker, stream, peer, &manner.borrow()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || Instant::now() >= patience => return,
            Err(error) => pause(worker, &error).await,
        }
    }
}

fn next_in_queue(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}
