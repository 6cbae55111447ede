//! The whole instance as a process: what the live lane brings serves real clients, and serves them again after `kill -9`
//! with nobody there.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sluice_model::Config;
use sluice_model::host::HostPattern;
use sluice_model::unit::{DataPlaneUnit, Http2, Listener, ListenerTls, PoolSource, PoolUnit, RouteUnit, Rule, Unit};
use sluice_proto::delivery::{Downward, Refusal, UpwardMessage};
use sluice_proto::live::{EndpointState, LiveEndpoint, LiveStamp, LiveUpdate, LiveValue, PrivateKeyBytes, seal_live};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::world::{ME, Revision, Signers};
use crate::{Authority, Connection, Controller, PATIENCE, nobody, real_epoch};

const HOST: &str = "shop.test";

/// The process; killed without a word when dropped.
struct Process(Child);

impl Process {
    fn start(state: &Path, controller: SocketAddr, https: SocketAddr) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-dataplane"))
            .args(["--controller", &controller.to_string(), "--admin", "127.0.0.1:0"])
            .arg("--state")
            .arg(state)
            .arg("--keys")
            .arg(state.join("elsewhere"))
            .args(["--bind", &format!("https={https}"), "--workers", "1"])
            .env("SLUICE_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn enrol(state: &Path, authority: &Authority, signers: &Signers) {
    let folder = state.join("identity");
    std::fs::create_dir(&folder).unwrap();
    let audience = &signers.audience;
    let instance = serde_json::json!({
        "cluster": audience.cluster.as_str(), "fleet": audience.fleet.as_str(), "instance": ME,
    });
    let (cert, key) = authority.issue(ME);
    for (name, text) in [
        ("instance.json", instance.to_string()),
        ("trusted.json", signers.trusted().to_json()),
        ("ca.pem", authority.0.pem()),
        ("cert.pem", cert),
        ("key.pem", key),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// One host over TLS, to a service.
fn configuration() -> Config {
    let mut config = Config::default();
    let listener = Listener {
        name: "https".parse().unwrap(),
        port: 443,
        tls: Some(ListenerTls::default()),
        http2: Http2::default(),
        proxy_protocol_from: vec![],
    };
    let plane = DataPlaneUnit::of(vec![listener]);
    let route = RouteUnit {
        certificates: vec!["shop/tls".parse().unwrap()],
        ..RouteUnit::of(
            vec![HostPattern::hostname(HOST).unwrap()],
            vec![Rule::to("Pool shop/api".parse().unwrap())],
        )
    };
    let source = PoolSource::Service("shop/api:http".parse().unwrap());
    config.insert("Rollout shop/edge".parse().unwrap(), Unit::DataPlane(plane));
    config.insert("ProxyRoute shop/api".parse().unwrap(), Unit::Route(route));
    config.insert("Pool shop/api".parse().unwrap(), Unit::Pool(PoolUnit::of(source)));
    config
}

async fn live(stream: &Connection, signers: &Signers, sequence: u64, value: LiveValue) {
    let update = LiveUpdate {
        audience: signers.audience.clone(),
        stamp: LiveStamp {
            term: real_epoch(0),
            sequence,
        },
        value,
    };
    stream.say(Downward::Live(seal_live(&[&signers.live], &update))).await;
}

fn pair() -> (CertificateDer<'static>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().der().clone(), key.serialize_der())
}

fn certificate(leaf: &CertificateDer<'static>, key: &[u8]) -> LiveValue {
    LiveValue::Certificate {
        certificate: "shop/tls".parse().unwrap(),
        chain: vec![Bytes::copy_from_slice(leaf)],
        key: PrivateKeyBytes::new(key.to_vec()),
    }
}

/// Orders `revision` and sends what is asked for.
async fn order(stream: &mut Connection, signers: &Signers, revision: &Revision) {
    let order = signers.order(real_epoch(0), revision, None);
    stream.say(Downward::Order(signers.seal_order(&order))).await;
    stream.say(Downward::Manifest(signers.seal_manifest(revision))).await;
    let UpwardMessage::Want(wanted) = stream.hear_answer().await else {
        panic!("no want")
    };
    for digest in wanted {
        let packed = revision.packed.iter().find(|packed| packed.reference.digest == digest);
        let wire = packed.unwrap().wire.clone();
        stream.say(Downward::Section { digest, wire }).await;
    }
    let answer = stream.hear_answer().await;
    assert!(matches!(answer, UpwardMessage::Ack(_)), "{answer:?}");
}

/// A request over TLS by a client that believes `leaf` alone; tried until it succeeds.
async fn get(address: SocketAddr, leaf: &CertificateDer<'static>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(leaf.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let attempt = async || {
        let stream = TcpStream::connect(address).await?;
        let mut stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok::<_, std::io::Error>(response)
    };
    let answered = async {
        loop {
            match attempt().await {
                Ok(response) => return response,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("in time")
}

/// Answers each connection's first request.
async fn upstream() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let said = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
                let _ = stream.write_all(said).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_instance_serves_the_same_certificates_and_endpoints_with_nobody_there() {
    let (authority, signers) = (Authority::new(), Signers::new(1));
    let mut controller = Controller::listen(&authority, "127.0.0.1:0").await;
    let state = tempfile::tempdir().unwrap();
    enrol(state.path(), &authority, &signers);
    let (_held, https) = nobody();
    let instance = Process::start(state.path(), controller.address, https);

    let mut stream = controller.accept().await;
    assert!(matches!(stream.hear().await, UpwardMessage::Hello(hello) if hello.live_held.is_empty()));
    let (leaf, key) = pair();
    let endpoints = LiveValue::Endpoints {
        service: "shop/api:http".parse().unwrap(),
        endpoints: vec![LiveEndpoint {
            address: upstream().await,
            state: EndpointState::Ready,
            zone: None,
        }],
    };
    live(&stream, &signers, 1, endpoints).await;
    live(&stream, &signers, 2, certificate(&leaf, &key)).await;
    let revision = signers.revision(1, configuration());
    order(&mut stream, &signers, &revision).await;
    let response = get(https, &leaf).await;
    assert!(response.ends_with("hello"), "{response}");

    // A certificate with a key of another is refused by name, and the one before serves.
    live(&stream, &signers, 3, certificate(&pair().0, &key)).await;
    let UpwardMessage::LiveRefused(refused) = stream.hear_answer().await else {
        panic!("not refused")
    };
    assert_eq!(refused.reason, Refusal::Check);
    assert_eq!(refused.subject.unwrap().to_string(), "Certificate shop/tls");
    assert!(get(https, &leaf).await.ends_with("hello"));

    drop(instance);
    controller.stop.cancel();
    drop(stream);
    let gone = controller.address;
    drop(controller);
    let _instance = Process::start(state.path(), gone, https);
    let response = get(https, &leaf).await;
    assert!(response.ends_with("hello"), "{response}");
    assert_eq!(std::fs::read_dir(state.path().join("elsewhere")).unwrap().count(), 1);
}
