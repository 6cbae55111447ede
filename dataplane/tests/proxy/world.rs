//! A data plane with real sockets, upstreams that do as a test says, and a client that sees every byte.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_dataplane::listener::{Binding, Sharing};
use sluice_dataplane::live::values::LiveValues;
use sluice_dataplane::live::{Generation, Live, LiveStore, Role};
use sluice_dataplane::server::{DataPlane, Handle, Options};
use sluice_dataplane::telemetry::access_log::Target;
use sluice_model::client_limits::{Bounded, ClientLimits};
use sluice_model::config::Config;
use sluice_model::host::HostPattern;
use sluice_model::matching::{PathMatch, RouteMatch};
use sluice_model::pool_connections::{PoolConnections, Quota};
use sluice_model::unit::{
    Action, DataPlaneUnit, Endpoint, Forward, Http2, Listener, PlainHttp, PoolSource, PoolUnit, RouteUnit, Rule,
    TimeoutMillis, Timeouts, Transport, Unit, Weight,
};
use sluice_model::upgrade::UpgradeToken;
use sluice_model::{Digest, ObjectKey, RevisionId, Snapshot};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A configuration in the making.
#[derive(Default, Clone)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    /// Of a fleet whose listeners are said after this.
    pub(crate) limits: ClientLimits,
}

pub(crate) fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

impl Setup {
    pub(crate) fn pool(mut self, name: &str, endpoints: &[SocketAddr]) -> Self {
        let endpoint = |address: &SocketAddr| Endpoint {
            address: *address,
            weight: Weight::ONE,
        };
        let unit = PoolUnit::of_endpoints(endpoints.iter().map(endpoint).collect());
        self.config.insert(key(&format!("Pool t/{name}")), Unit::Pool(unit));
        self
    }

    /// What holds for the connections of a pool.
    pub(crate) fn connections(mut self, pool: &str, connections: PoolConnections) -> Self {
        let key = key(&format!("Pool t/{pool}"));
        let Some(Unit::Pool(unit)) = self.config.get(&key).cloned() else {
            panic!("no pool {pool}");
        };
        let transport = Arc::new(Transport {
            connections,
            ..Transport::clone(&unit.transport)
        });
        self.config.insert(key, Unit::Pool(PoolUnit { transport, ..unit }));
        self
    }

    /// A route of the name of its pool.
    pub(crate) fn route(mut self, prefix: &str, pool: &str, timeout_ms: Option<u64>) -> Self {
        let rule = Rule {
            matches: vec![RouteMatch {
                path: PathMatch::prefix(prefix).unwrap(),
                ..RouteMatch::default()
            }],
            action: Action::Forward(Forward {
                timeouts: Arc::new(Timeouts {
                    request: timeout_ms.and_then(TimeoutMillis::new),
                    ..Timeouts::default()
                }),
                ..Forward::to(key(&format!("Pool t/{pool}")))
            }),
            ..Rule::to(key(&format!("Pool t/{pool}")))
        };
        let unit = RouteUnit::of(vec![HostPattern::hostname("a.test").unwrap()], vec![rule]);
        self.config
            .insert(key(&format!("ProxyRoute t/{pool}")), Unit::Route(unit));
        self
    }

    /// A route of this name for one host, all of it to one pool, with certificates.
    pub(crate) fn host(mut self, name: &str, host: &str, pool: &str, certificates: &[&str]) -> Self {
        let rules = vec![Rule::to(key(&format!("Pool t/{pool}")))];
        let unit = RouteUnit {
            certificates: certificates.iter().map(|text| text.parse().unwrap()).collect(),
            ..RouteUnit::of(vec![HostPattern::hostname(host).unwrap()], rules)
        };
        self.config
            .insert(key(&format!("ProxyRoute t/{name}")), Unit::Route(unit));
        self
    }

    /// What clients of a route may go over to.
    pub(crate) fn upgrades(self, route: &str, tokens: &[&str]) -> Self {
        self.forward(route, |forward| {
            forward.upgrades = tokens.iter().map(|text| UpgradeToken::new(text).unwrap()).collect();
        })
    }

    /// How the requests of a route go to their pool.
    pub(crate) fn forward(mut self, route: &str, change: impl Fn(&mut Forward)) -> Self {
        let key = key(&format!("ProxyRoute t/{route}"));
        let Some(Unit::Route(mut route)) = self.config.get(&key).cloned() else {
            panic!("no route {route}");
        };
        for rule in &mut route.rules {
            if let Action::Forward(forward) = &mut rule.action {
                change(forward);
            }
        }
        self.config.insert(key, Unit::Route(route));
        self
    }

    /// A route of this name for one host, with these rules.
    pub(crate) fn rules(mut self, name: &str, host: &str, rules: Vec<Rule>) -> Self {
        let unit = RouteUnit::of(vec![HostPattern::hostname(host).unwrap()], rules);
        self.config
            .insert(key(&format!("ProxyRoute t/{name}")), Unit::Route(unit));
        self
    }

    /// What becomes of the requests of the route of this name that come in the clear.
    pub(crate) fn plain_http(mut self, name: &str, plain_http: PlainHttp) -> Self {
        let key = key(&format!("ProxyRoute t/{name}"));
        let Some(Unit::Route(route)) = self.config.get(&key).cloned() else {
            panic!("no route {name}");
        };
        self.config.insert(key, Unit::Route(RouteUnit { plain_http, ..route }));
        self
    }

    /// What its revision says of listeners; who listens where is another matter here.
    pub(crate) fn listeners(mut self, listeners: Vec<Listener>) -> Self {
        let unit = Unit::DataPlane(DataPlaneUnit {
            listeners,
            limits: self.limits,
        });
        self.config.insert(key("Rollout t/fleet"), unit);
        self
    }

    /// A pool whose endpoints are those of a service.
    pub(crate) fn service(mut self, name: &str, service: &str) -> Self {
        let source = PoolSource::Service(service.parse().unwrap());
        self.config
            .insert(key(&format!("Pool t/{name}")), Unit::Pool(PoolUnit::of(source)));
        self
    }

    pub(crate) fn snapshot(mut self) -> Arc<Snapshot> {
        if self.config.get(&key("Rollout t/fleet")).is_none() {
            self = self.listeners(vec![listener("http", 80)]);
        }
        Arc::new(Snapshot::check(self.config).unwrap())
    }
}

pub(crate) fn listener(name: &str, port: u16) -> Listener {
    Listener {
        name: name.parse().unwrap(),
        port,
        tls: None,
        http2: Http2::default(),
        proxy_protocol_from: vec![],
    }
}

pub(crate) fn generation(number: u64, role: Role, setup: Setup, values: &LiveValues) -> Arc<Generation> {
    let revision = RevisionId {
        number,
        digest: Digest([number as u8; 32]),
    };
    let snapshot = setup.snapshot();
    let counted: Vec<ObjectKey> = snapshot.routes().map(|(key, _)| key.clone()).take(2).collect();
    Generation::build(revision, role, snapshot, &counted, values, None).unwrap()
}

pub(crate) fn live(number: u64, setup: Setup, values: &LiveValues) -> Arc<Live> {
    Arc::new(Live {
        epoch: number,
        stable: generation(number, Role::Stable, setup, values),
        candidate: None,
    })
}

/// A data plane that runs.
pub(crate) struct World {
    pub(crate) handle: Handle,
    pub(crate) store: LiveStore,
    pub(crate) address: SocketAddr,
    pub(crate) log: PathBuf,
    pub(crate) folder_kept: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start(setup: Setup) -> Self {
        let world = Self::start_empty().await;
        world.serve(1, setup);
        world
    }

    /// Swaps this in.
    pub(crate) fn serve(&self, number: u64, setup: Setup) {
        self.store.store(live(number, setup, self.store.values()));
    }

    pub(crate) async fn start_empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let store = LiveStore::new(24);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let options = Options {
            registry: prometheus::Registry::new(),
            instance: "i-1".into(),
            workers: Some(2),
            binding: Binding {
                ip: any.ip(),
                overrides: ["http", "more", "https"].map(|name| (name.into(), any)).into(),
                sharing: Sharing::Exclusive,
            },
            admin: Some(any),
            access_log: Target::File(log.clone()),
        };
        let handle = DataPlane::start(options, store.clone()).await.unwrap();
        let mut world = Self {
            handle,
            store,
            address: any,
            log,
            folder_kept: folder,
        };
        world.address = world.listen(listener("http", 80)).await;
        world
    }

    /// Listens here instead of anywhere else.
    pub(crate) async fn listen(&self, listener: Listener) -> SocketAddr {
        let listeners = self.handle.listeners();
        let prepared = listeners.prepare(&[listener]).unwrap();
        listeners.commit(prepared).await.unwrap();
        listeners.addresses()[0].1
    }

    /// The value of one metric; its name is written with all of its labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = self.handle.metrics().render();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{page}"))
            .parse()
            .unwrap()
    }

    /// Waits until a metric has this value.
    pub(crate) async fn metric_is(&self, name: &str, value: u64) {
        let reached = async {
            while self.metric(name) != value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(reached).await;
    }

    /// Sends one request on a connection of its own and returns everything that comes back.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    /// A GET of `a.test` that asks for the connection to be closed.
    pub(crate) async fn get(&self, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    pub(crate) async fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.handle.admin_address().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    /// The access-log line that `fits`, once it is there.
    pub(crate) async fn logged(&self, fits: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let found = async {
            loop {
                let text = std::fs::read_to_string(&self.log).unwrap();
                // The last line may be on its way.
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                let lines = whole.lines().map(|line| serde_json::from_str(line).expect(line));
                if let Some(line) = lines.into_iter().find(|line| fits(line)) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(found).await
    }
}

/// So many connections to an endpoint, and so many requests that wait for one, each for so long.
pub(crate) fn at_most(connections: u64, pending: u64, patience_ms: u64) -> PoolConnections {
    PoolConnections {
        quota: Some(Quota {
            connections: Bounded::new(connections).unwrap(),
            pending: Bounded::new(pending).unwrap(),
        }),
        connect_millis: Bounded::new(patience_ms).unwrap(),
        ..PoolConnections::default()
    }
}

/// Nothing in these tests takes ten seconds unless it hangs.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("took longer than 10 s")
}

/// Everything until the end of the connection, be it in order or not.
pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let reading = async {
        let mut chunk = [0; 4096];
        while let Ok(read) = stream.read(&mut chunk).await {
            if read == 0 {
                break;
            }
            all.extend_from_slice(&chunk[..read]);
        }
    };
    within(reading).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// Until and with `end`.
pub(crate) async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut all = Vec::new();
    let reading = async {
        while !all.ends_with(end.as_bytes()) {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                break;
            }
            all.push(byte[0]);
        }
    };
    within(reading).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// An upstream that treats every connection by `behave`.
pub(crate) async fn upstream<F, R>(behave: F) -> SocketAddr
where
    F: Fn(TcpStream, u64) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let count = AtomicU64::new(0);
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream, count.fetch_add(1, Ordering::Relaxed)));
        }
    });
    address
}

/// Answers every request with its own head as body, keeping the connection.
pub(crate) async fn echo() -> SocketAddr {
    upstream(|mut stream, _| async move {
        loop {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            if head.is_empty() {
                return;
            }
            if stream.write_all(reply(&head).as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

pub(crate) fn reply(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An upstream that answers every connection's first request with fixed bytes and closes.
pub(crate) async fn says(bytes: &'static str) -> SocketAddr {
    upstream(move |mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let _ = stream.write_all(bytes.as_bytes()).await;
        let _ = stream.shutdown().await;
    })
    .await
}

/// An address where nobody listens: connections to it are refused, and the kernel gives its port to nobody else, for
/// as long as this process runs. A test may listen there itself.
pub(crate) fn nobody() -> SocketAddr {
    static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    HELD.lock().unwrap().push(socket);
    address
}
