//! Accepting on one worker's sockets, and stopping without losing anyone: closing one socket of a `SO_REUSEPORT` group
//! resets the connections in its queue, so the queue is emptied first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sluice_model::limits::MAX_CONNECTIONS_PER_WORKER;
use sluice_model::unit::{Http2, Listener, ListenerTls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Worker, connection};

/// How long a worker waits before it tries again to accept, when it has its fill or the process has no file
/// descriptors left.
const PAUSE: Duration = Duration::from_millis(10);

/// What is spoken on the connections of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Speech {
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
    pub(crate) fn of(listener: &Listener) -> Self {
        match (&listener.tls, listener.http2) {
            (None, Http2::Negotiated | Http2::Off) => Self::Clear,
            (None, Http2::PriorKnowledge) => Self::ClearEither,
            (Some(tls), Http2::Off) => Self::Tls(Arc::new(tls.clone())),
            // Prior knowledge is refused with TLS when a revision is checked.
            (Some(tls), Http2::Negotiated | Http2::PriorKnowledge) => Self::TlsEither(Arc::new(tls.clone())),
        }
    }
}

/// An accepting task, as its worker sees it.
struct Accepting {
    stop: oneshot::Sender<oneshot::Sender<()>>,
    speech: Rc<RefCell<Speech>>,
}

/// The accepting tasks of one worker, by listener.
#[derive(Default)]
pub(super) struct Acceptors {
    tasks: HashMap<u64, Accepting>,
}

impl Acceptors {
    /// Begins accepting.
    pub(super) fn listen(&mut self, worker: &Rc<Worker>, id: u64, socket: std::net::TcpListener, speech: Speech) {
        match TcpListener::from_std(socket) {
            Ok(listener) => {
                let (stop, stopped) = oneshot::channel();
                let speech = Rc::new(RefCell::new(speech));
                tokio::task::spawn_local(accept(worker.clone(), listener, speech.clone(), stopped));
                self.tasks.insert(id, Accepting { stop, speech });
            }
            Err(error) => tracing::error!(%error, "a listening socket could not be registered"),
        }
    }

    /// Connections accepted from now on speak otherwise; those that are open go on.
    pub(super) fn retune(&mut self, id: u64, speech: Speech) {
        if let Some(task) = self.tasks.get(&id) {
            *task.speech.borrow_mut() = speech;
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
    speech: Rc<RefCell<Speech>>,
    mut stopped: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let done = loop {
        if worker.connection_count() >= MAX_CONNECTIONS_PER_WORKER {
            tokio::time::sleep(PAUSE).await;
            if let Ok(done) = stopped.try_recv() {
                break Some(done);
            }
            continue;
        }
        tokio::select! {
            done = &mut stopped => break done.ok(),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => connection::serve(&worker, stream, peer, &speech.borrow()),
                Err(error) => pause(&error).await,
            },
        }
    };
    drain(&worker, listener, &speech.borrow());
    if let Some(done) = done {
        // Nobody waits any more: fine.
        let _ = done.send(());
    }
}

/// A connection that died in the queue concerns nobody; without file descriptors, trying at once would only burn.
async fn pause(error: &std::io::Error) {
    if error.kind() != std::io::ErrorKind::ConnectionAborted {
        tracing::warn!(%error, "accepting failed");
        tokio::time::sleep(PAUSE).await;
    }
}

fn drain(worker: &Rc<Worker>, listener: TcpListener, speech: &Speech) {
    let Ok(listener) = listener.into_std() else { return };
    while let Some((stream, peer)) = next_in_queue(&listener) {
        connection::serve(worker, stream, peer, speech);
    }
}

fn next_in_queue(listener: &std::net::TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().ok()?;
    stream.set_nonblocking(true).ok()?;
    Some((TcpStream::from_std(stream).ok()?, peer))
}
