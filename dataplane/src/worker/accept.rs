//! Accepting on one worker's sockets, and stopping without losing anyone: closing one socket of a `SO_REUSEPORT` group
//! resets the connections in its queue, so the queue is emptied first.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use sluice_model::limits::MAX_CONNECTIONS_PER_WORKER;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Worker, connection};

/// How long a worker waits before it tries again to accept, when it has its fill or the process has no file
/// descriptors left.
const PAUSE: Duration = Duration::from_millis(10);

/// The accepting tasks of one worker, by listener.
#[derive(Default)]
pub(super) struct Acceptors {
    stops: HashMap<u64, oneshot::Sender<oneshot::Sender<()>>>,
}

impl Acceptors {
    /// Begins accepting.
    pub(super) fn listen(&mut self, worker: &Rc<Worker>, id: u64, socket: std::net::TcpListener) {
        match TcpListener::from_std(socket) {
            Ok(listener) => {
                let (stop, stopped) = oneshot::channel();
                self.stops.insert(id, stop);
                tokio::task::spawn_local(accept(worker.clone(), listener, stopped));
            }
            Err(error) => tracing::error!(%error, "a listening socket could not be registered"),
        }
    }

    /// Stops accepting; `done` hears when the socket is closed.
    pub(super) fn unlisten(&mut self, id: u64, done: oneshot::Sender<()>) {
        if let Some(stop) = self.stops.remove(&id) {
            // If the task is gone, `done` is dropped with the message, which whoever waits takes for an answer.
            drop(stop.send(done));
        }
    }
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, mut stopped: oneshot::Receiver<oneshot::Sender<()>>) {
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
                Ok((stream, peer)) => connection::serve(&worker, stream, peer),
                Err(error) => pause(&error).await,
            },
        }
    };
    drain(&worker, listener);
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

fn drain(worker: &Rc<Worker>, listener: TcpListener) {
    let Ok(listener) = listener.into_std() else { return };
    while let Some((stream, peer)) = next_in_queue(&listener) {
        connection::serve(worker, stream, peer);
    }
}

fn next_in_queue(listener: &std::net::TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().ok()?;
    stream.set_nonblocking(true).ok()?;
    Some((TcpStream::from_std(stream).ok()?, peer))
}
