//! The stream over real sockets and real mutual TLS: a controller that is slow to come, goes away, moves or is an
//! impostor, and an instance that finds the right one and tells it the truth.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[allow(dead_code)] // shared with the tests of the intake, which use more of it
#[path = "intake/world.rs"]
mod world;

#[path = "stream/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sluice_dataplane::config::delivery::{Delivery, Observe};
use sluice_dataplane::config::last_good::LastGood;
use sluice_dataplane::config::metrics::IntakeMetrics;
use sluice_dataplane::config::worker::Worker;
use sluice_dataplane::config::{Effect, Intake};
use sluice_dataplane::dial::{CONTROLLER_NAME, Controller as Address};
use sluice_dataplane::identity::{self, Identity, TlsIdentity};
use sluice_proto::delivery::{Downward, Upward, UpwardMessage};
use sluice_proto::pb;
use sluice_proto::pb::delivery_server::{Delivery as Service, DeliveryServer};
use sluice_proto::report::Report;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity as Pem, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use world::{ME, Noting, Signers, config};

/// Longer than anything here takes on a busy machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate authority of one cluster.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn identity(&self, signers: &Signers) -> Arc<Identity> {
        let (cert_pem, key_pem) = self.issue(ME);
        Arc::new(Identity {
            instance: ME.parse().unwrap(),
            audience: signers.audience.clone(),
            trusted: signers.trusted(),
            tls: TlsIdentity {
                ca_pem: self.0.pem(),
                cert_pem,
                key_pem,
            },
            renew_at: None,
        })
    }
}

/// One stream as a controller sees it.
struct Connection {
    up: Streaming<pb::Upward>,
    down: mpsc::Sender<Result<pb::Downward, Status>>,
}

impl Connection {
    async fn hear(&mut self) -> UpwardMessage {
        let message = timeout(PATIENCE, self.up.message()).await.expect("in time");
        let upward = Upward::try_from(message.expect("a live stream").expect("a message")).unwrap();
        assert_eq!(upward.instance.as_str(), ME);
        upward.message
    }

    /// The next message that is not a report.
    async fn hear_answer(&mut self) -> UpwardMessage {
        loop {
            match self.hear().await {
                UpwardMessage::Report(_) => {}
                answer @ (UpwardMessage::Hello(_)
                | UpwardMessage::Ack(_)
                | UpwardMessage::Nack(_)
                | UpwardMessage::Want(_)
                | UpwardMessage::LiveRefused(_)
                | UpwardMessage::Manifest { .. }
                | UpwardMessage::Section { .. }) => return answer,
            }
        }
    }

    async fn say(&self, message: Downward) {
        self.down.send(Ok(pb::Downward::from(&message))).await.unwrap();
    }
}

/// An address where nobody listens; the kernel gives its port to no one else while the socket is held. Who is told it may
/// listen there, also with `SO_REUSEPORT`.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

struct Connections(mpsc::Sender<Connection>);

#[tonic::async_trait]
impl Service for Connections {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<pb::Downward, Status>> + Send>>;

    async fn connect(&self, request: Request<Streaming<pb::Upward>>) -> Result<Response<Self::ConnectStream>, Status> {
        let (down, messages) = mpsc::channel(16);
        let up = request.into_inner();
        self.0
            .send(Connection { up, down })
            .await
            .map_err(|_| Status::unavailable("gone"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

/// A controller's listening side; its streams come out of the receiver.
struct Controller {
    address: SocketAddr,
    connections: mpsc::Receiver<Connection>,
    stop: CancellationToken,
}

impl Controller {
    async fn listen(authority: &Authority, address: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cert, key) = authority.issue(CONTROLLER_NAME);
        let tls = ServerTlsConfig::new()
            .identity(Pem::from_pem(cert, key))
            .client_ca_root(Certificate::from_pem(authority.0.pem()));
        let (sender, connections) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = Server::builder().tls_config(tls).unwrap().serve_with_incoming(
            DeliveryServer::new(Connections(sender)),
            TcpListenerStream::new(listener),
        );
        tokio::spawn(async move {
            tokio::select! {
                () = stopped => {}
                served = server => served.unwrap(),
            }
        });
        Self {
            address,
            connections,
            stop,
        }
    }

    async fn accept(&mut self) -> Connection {
        timeout(PATIENCE, self.connections.recv())
            .await
            .expect("in time")
            .expect("a stream")
    }
}

struct Quiet;

impl Observe for Quiet {
    fn observe(&mut self, under: &Effect) -> Option<Report> {
        under.stable?;
        Some(Report {
            epoch: under.epoch,
            sequence: 1,
            interval_ms: 1,
            roles: Vec::new(),
            inflight: 0,
            uptime_ms: 0,
            rss_bytes: 0,
        })
    }
}

struct Instance {
    target: Noting,
    stop: CancellationToken,
    worker: Worker,
    metrics: IntakeMetrics,
    _state: tempfile::TempDir,
}

impl Instance {
    fn start(identity: Arc<Identity>, controller: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let disk = LastGood::new(state.path());
        let target = Noting::default();
        let metrics = IntakeMetrics::register(&prometheus::Registry::new()).unwrap();
        let worker = {
            let (identity, target, metrics) = (identity.clone(), target.clone(), metrics.clone());
            Worker::spawn(move || Intake::start(identity, target, disk, metrics)).unwrap()
        };
        let stop = CancellationToken::new();
        let delivery = Delivery {
            identity: identity::fixed(identity),
            controller: Address {
                address: controller.to_owned(),
                name: None,
            },
            refused: Arc::default(),
            boot_id: "boot".to_owned(),
            worker: worker.clone(),
            metrics: metrics.clone(),
        };
        tokio::spawn(delivery.run(Quiet, stop.clone()));
        Self {
            target,
            stop,
            worker,
            metrics,
            _state: state,
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The clock of the worker is the real one.
fn real_epoch(n: u64) -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    sluice_model::epoch::floor(now.as_secs()) + n
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_order_want_ack_and_reports() {
    let (authority, signers) = (Authority::new(), Signers::new(1));
    let mut controller = Controller::listen(&authority, "127.0.0.1:0").await;
    let instance = Instance::start(authority.identity(&signers), &controller.address.to_string());
    let mut stream = controller.accept().await;
    let UpwardMessage::Hello(hello) = stream.hear().await else {
        panic!("no hello")
    };
    assert_eq!((hello.epoch, hello.stable, hello.boot_id.as_str()), (0, None, "boot"));
    assert!(hello.features.contains(&"routes/v1".to_owned()));

    let one = signers.revision(1, config(8080, &["a"]));
    let order = signers.order(real_epoch(0), &one, None);
    stream.say(Downward::Order(signers.seal_order(&order))).await;
    stream.say(Downward::Manifest(signers.seal_manifest(&one))).await;
    let UpwardMessage::Want(wanted) = stream.hear_answer().await else {
        panic!("no want")
    };
    let wires: BTreeMap<_, _> = one
        .packed
        .iter()
        .map(|p| (p.reference.digest, p.wire.clone()))
        .collect();
    assert_eq!(wanted.len(), wires.len());
    for digest in wanted {
        let wire = wires[&digest].clone();
        stream.say(Downward::Section { digest, wire }).await;
    }
    let UpwardMessage::Ack(ack) = stream.hear_answer().await else {
        panic!("no ack")
    };
    assert_eq!((ack.epoch, ack.stable), (order.epoch, Some(one.id)));
    assert_eq!(instance.target.0.lock().unwrap().served.stable, Some(one.id));
    assert_eq!(instance.worker.effect().stable, Some(one.id));

    let forged = Signers::new(80);
    let bad = forged.order(real_epoch(1), &one, None);
    stream.say(Downward::Order(forged.seal_order(&bad))).await;
    let UpwardMessage::Nack(nack) = stream.hear_answer().await else {
        panic!("no nack")
    };
    assert!(nack.detail.starts_with("signature: "), "{}", nack.detail);
    let UpwardMessage::Report(report) = stream.hear().await else {
        panic!("no report")
    };
    assert_eq!(report.epoch, order.epoch);
    assert_eq!(instance.metrics.connected.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_comes_back_when_the_controller_does_and_goes_where_it_is_sent() {
    let (authority, signers) = (Authority::new(), Signers::new(1));
    let mut first = Controller::listen(&authority, "127.0.0.1:0").await;
    let (_held, address) = nobody();
    let mut leader = Controller::listen(&authority, &address.to_string()).await;
    let _instance = Instance::start(authority.identity(&signers), &first.address.to_string());

    let mut stream = first.accept().await;
    assert!(matches!(stream.hear().await, UpwardMessage::Hello(_)));
    drop(stream); // the controller ends the stream
    let mut stream = first.accept().await;
    assert!(
        matches!(stream.hear().await, UpwardMessage::Hello(_)),
        "a new stream begins with a new hello"
    );
    let address = Some(leader.address.to_string());
    stream.say(Downward::NotLeader { address }).await;
    let mut stream = leader.accept().await;
    assert!(matches!(stream.hear().await, UpwardMessage::Hello(_)));

    // The leader dies without a word; its address answers nobody. The configured one is asked again.
    leader.stop.cancel();
    drop(stream);
    let mut stream = first.accept().await;
    assert!(matches!(stream.hear().await, UpwardMessage::Hello(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_a_controller_that_is_not_there_yet() {
    let (authority, signers) = (Authority::new(), Signers::new(1));
    let (_held, address) = nobody();
    let address = address.to_string();
    let _instance = Instance::start(authority.identity(&signers), &address);
    let mut controller = Controller::listen(&authority, &address).await;
    let mut stream = controller.accept().await;
    assert!(matches!(stream.hear().await, UpwardMessage::Hello(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_nothing_to_an_impostor() {
    let (ours, theirs, signers) = (Authority::new(), Authority::new(), Signers::new(1));
    let mut impostor = Controller::listen(&theirs, "127.0.0.1:0").await;
    let mut identity = (*ours.identity(&signers)).clone();
    // Its own certificate is one that the impostor would take.
    let (cert, key) = theirs.issue(ME);
    identity.tls.cert_pem = cert;
    identity.tls.key_pem = key;
    let instance = Instance::start(Arc::new(identity), &impostor.address.to_string());
    // Several attempts fit into this; none may get through to a stream.
    assert!(
        timeout(Duration::from_secs(2), impostor.connections.recv())
            .await
            .is_err()
    );
    assert_eq!(instance.metrics.connected.get(), 0);
    assert_eq!(instance.worker.effect().epoch, 0);
}
