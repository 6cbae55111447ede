//! A virtual address that lags, as a Service's does: a connection goes to an instance that was ready a while ago, whatever has
//! become of it since. What nobody accepts is refused to the client.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_e2e::client;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How often it looks who is ready.
const LOOK: Duration = Duration::from_millis(50);

/// Somebody behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Where connections in the clear and over TLS go.
    pub(super) serves: [SocketAddr; 2],
    /// Where it says whether it is ready.
    pub(super) admin: SocketAddr,
}

/// The virtual address; it runs until it is dropped.
pub(super) struct Balancer {
    /// In the clear, and over TLS.
    pub(super) addresses: [SocketAddr; 2],
    rotation: Arc<Mutex<Vec<Member>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Balancer {
    /// Learns of everything `lag` later than it happens.
    pub(super) async fn start(members: Vec<Member>, lag: Duration) -> Self {
        let rotation = Arc::new(Mutex::new(members.clone()));
        let mut addresses = Vec::new();
        let mut tasks = vec![tokio::spawn(watch(members, rotation.clone(), lag))];
        for kind in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            addresses.push(listener.local_addr().expect("an address"));
            tasks.push(tokio::spawn(accept(listener, kind, rotation.clone())));
        }
        Self {
            addresses: [addresses[0], addresses[1]],
            rotation,
            tasks,
        }
    }

    /// How many are in rotation.
    pub(super) fn members(&self) -> usize {
        self.rotation.lock().expect("a lock").len()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Takes each member in and out of rotation when it has been another way for so long.
async fn watch(members: Vec<Member>, rotation: Arc<Mutex<Vec<Member>>>, lag: Duration) {
    let mut changes: Vec<(bool, Instant)> = members.iter().map(|_| (true, Instant::now())).collect();
    loop {
        for (member, (ready, since)) in members.iter().zip(&mut changes) {
            let now = client::get(member.admin, "localhost", "/ready").await;
            let now = now.is_ok_and(|answer| answer.status == 200);
            if now != *ready {
                (*ready, *since) = (now, Instant::now());
            }
            if since.elapsed() < lag {
                continue;
            }
            let mut rotation = rotation.lock().expect("a lock");
            let there = rotation.iter().any(|other| other.admin == member.admin);
            match (*ready, there) {
                (true, false) => rotation.push(*member),
                (false, true) => rotation.retain(|other| other.admin != member.admin),
                (true, true) | (false, false) => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn accept(listener: TcpListener, kind: usize, rotation: Arc<Mutex<Vec<Member>>>) {
    let turn = AtomicUsize::new(0);
    while let Ok((mut socket, _)) = listener.accept().await {
        let to = {
            let rotation = rotation.lock().expect("a lock");
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            rotation
                .get(turn % rotation.len().max(1))
                .map(|member| member.serves[kind])
        };
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let reached = match to {
                Some(to) => TcpStream::connect(to).await.ok(),
                None => None,
            };
            match reached {
                Some(mut there) => {
                    let _ = there.set_nodelay(true);
                    // How it ends is seen at both ends.
                    let _ = copy_bidirectional(&mut socket, &mut there).await;
                }
                None => _ = socket.set_zero_linger(),
            }
        });
    }
}
