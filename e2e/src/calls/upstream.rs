//! An endpoint of the service that is broken on purpose.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::service::{self, Seen};

/// What happens to all connections of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are reset.
    Reset,
    /// Each says `GOAWAY`, ends what it has begun, and closes.
    GoAway,
}

/// An endpoint; it runs until it is dropped.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Seen>,
    faults: broadcast::Sender<Fault>,
    accepting: Option<JoinHandle<()>>,
}

impl Upstream {
    /// On a free port of loopback.
    pub fn start(seen: Arc<Seen>) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), seen)
    }

    /// On a free port of this address.
    pub fn start_at(ip: IpAddr, seen: Arc<Seen>) -> Self {
        let listener = listen(SocketAddr::new(ip, 0));
        let mut upstream = Self {
            address: listener.local_addr().expect("an address"),
            seen,
            faults: broadcast::channel(16).0,
            accepting: None,
        };
        upstream.accept(listener);
        upstream
    }

    fn accept(&mut self, listener: TcpListener) {
        let (seen, faults) = (self.seen.clone(), self.faults.clone());
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection(socket, seen.clone(), faults.subscribe()));
            }
        }));
    }

    /// Does this to all of its connections. It goes on accepting.
    pub fn suffer(&self, fault: Fault) {
        // There may be no connection.
        let _ = self.faults.send(fault);
    }

    /// As when its process is killed: nobody listens, connections are reset.
    pub async fn kill(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        self.suffer(Fault::Reset);
    }

    /// Listens again, at the same address.
    pub fn restart(&mut self) {
        self.accept(listen(self.address));
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket option");
    socket.bind(address).expect("its address");
    socket.listen(1024).expect("a listener")
}

async fn connection(socket: TcpStream, seen: Arc<Seen>, mut faults: broadcast::Receiver<Fault>) {
    let _ = socket.set_nodelay(true);
    let Ok(handle) = socket2::SockRef::from(&socket).try_clone() else {
        return;
    };
    let broken = Arc::new(AtomicBool::new(false));
    let flag = broken.clone();
    let service = service_fn(move |request| service::answer(seen.clone(), flag.clone(), request));
    let serving =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            _ = &mut serving => return,
            fault = faults.recv() => match fault {
                Ok(Fault::GoAway) => serving.as_mut().graceful_shutdown(),
                Ok(Fault::Reset) | Err(_) => {
                    broken.store(true, Ordering::SeqCst);
                    // With bytes unread or without: the other side sees RST.
                    let _ = handle.set_linger(Some(Duration::ZERO));
                    return;
                }
            },
        }
    }
}
