//! Upstreams that say who they are: an echo server inside the test, so that a response proves which endpoint made it.
//!
//! One server listens on every loopback address at one port. Pools point at different addresses of it
//! (`127.1.0.7:PORT` for generation 7), and the address on which a connection arrived is the stamp in the answer: as
//! many endpoints as a test likes, for one socket.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 200.
    Well,
    /// This status.
    Failing(StatusCode),
    /// 200, after this long.
    Slow(Duration),
}

/// A running upstream, with a thread and a runtime of its own; it ends when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    port: u16,
    state: Arc<State>,
    // Dropping it ends the thread.
    _ending: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    modes: Mutex<BTreeMap<u16, Mode>>,
    served: Mutex<BTreeMap<u16, u64>>,
}

/// The highest generation that an address can carry.
const MAX_GENERATION: u16 = 50_000;

impl Upstream {
    /// Listens on a free port of all loopback addresses.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let (state, (ending, ended)) = (Arc::new(State::default()), oneshot::channel());
        let shared = Arc::clone(&state);
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = ended => {}
                }
            });
        };
        std::thread::Builder::new()
            .name("upstream".into())
            .spawn(body)
            .expect("a thread");
        Self {
            port,
            state,
            _ending: ending,
        }
    }

    /// The address whose answers carry the stamp `gen-<generation>`.
    pub fn endpoint(&self, generation: u16) -> SocketAddr {
        assert!(generation <= MAX_GENERATION, "as far as addresses go");
        let [high, low] = generation.to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)), self.port)
    }

    /// How `endpoint(generation)` answers from now on.
    pub fn set(&self, generation: u16, mode: Mode) {
        self.state.modes.lock().expect("a lock").insert(generation, mode);
    }

    /// How many requests `endpoint(generation)` has answered.
    pub fn served(&self, generation: u16) -> u64 {
        self.state
            .served
            .lock()
            .expect("a lock")
            .get(&generation)
            .copied()
            .unwrap_or_default()
    }
}

/// The stamp of a generation, as in names of rules and pools and in answers.
pub fn stamp(generation: u16) -> String {
    format!("gen-{generation}")
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let generation = socket.local_addr().map_or(0, generation_of);
        let _ = socket.set_nodelay(true);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&state, generation, request));
            // A connection that ends early is the test's doing.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

fn generation_of(address: SocketAddr) -> u16 {
    match address.ip() {
        IpAddr::V4(ip) => u16::from_be_bytes([ip.octets()[2], ip.octets()[3]]),
        IpAddr::V6(_) => 0,
    }
}

async fn answer(
    state: &State,
    generation: u16,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    *state.served.lock().expect("a lock").entry(generation).or_default() += 1;
    let mode = state
        .modes
        .lock()
        .expect("a lock")
        .get(&generation)
        .copied()
        .unwrap_or(Mode::Well);
    let status = match mode {
        Mode::Well => StatusCode::OK,
        Mode::Failing(status) => status,
        Mode::Slow(time) => {
            tokio::time::sleep(time).await;
            StatusCode::OK
        }
    };
    let body = format!("{} {}", stamp(generation), request.uri().path());
    let response = Response::builder()
        .status(status)
        .header("x-stamp", stamp(generation))
        .body(Full::from(body));
    Ok(response.expect("a response out of constants"))
}
