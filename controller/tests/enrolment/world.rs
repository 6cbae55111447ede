//! A port of a controller with everything behind it that connecting and enrolling need, and clients of it.

#![allow(unreachable_pub)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use sluice_controller::enrol::review::{Review, ReviewError, Reviewed};
use sluice_controller::enrol::{Enrolment, Parts, Registrar};
use sluice_controller::keyring::Keyring;
use sluice_controller::keys::Keys;
use sluice_controller::pki::{self, Authority, Peer, Pki, Workload};
use sluice_controller::register::{Belonging, Existence, Register};
use sluice_controller::rollout::Millis;
use sluice_controller::stream::{self, Desk, Port, Post, StreamEvent};
use sluice_controller::telemetry::Telemetry;
use sluice_controller::trust::Trust;
use sluice_model::{InstanceId, Name};
use sluice_proto::pb::delivery_client::DeliveryClient;
use sluice_proto::pb::enrolment_client::EnrolmentClient;
use sluice_proto::{Downward, Hello, Report, Token, Upward, UpwardMessage, pb};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use x509_parser::pem::parse_x509_pem;

/// Longer than anything here takes on a busy machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Knows a few tokens.
#[derive(Debug, Default)]
struct Tokens {
    reviews: AtomicUsize,
}

#[tonic::async_trait]
impl Review for Tokens {
    async fn review(&self, token: &Token) -> Result<Reviewed, ReviewError> {
        self.reviews.fetch_add(1, Ordering::Relaxed);
        let pod = |namespace: &str, account: &str, name: &str| Reviewed {
            namespace: namespace.parse().unwrap(),
            service_account: account.parse().unwrap(),
            pod_name: name.parse().unwrap(),
            pod: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".parse().unwrap(),
        };
        let refused = |why: &str| Err(ReviewError::Refused(why.to_owned()));
        match token.expose() {
            "good" => Ok(pod("shop", "sluice-dataplane", "edge-7d9c")),
            "stranger" => Ok(pod("other", "default", "x")),
            "long-name" => Ok(pod("shop", "sluice-dataplane", &"x".repeat(150))),
            "api-server-away" => Err(ReviewError::Unavailable("the API server could not be asked".to_owned())),
            "other-audience" => refused("the token is not for the audience sluice-controller"),
            "deleted-pod" => refused("its pod is deleted"),
            _ => refused("it has ended"),
        }
    }
}

/// Says what it was told to say.
#[derive(Debug)]
pub struct Book {
    belonging: Mutex<Belonging>,
    existence: Mutex<Existence>,
}

impl Book {
    pub fn belongs(&self, belonging: Belonging) {
        *self.belonging.lock().unwrap() = belonging;
    }

    pub fn exists(&self, existence: Existence) {
        *self.existence.lock().unwrap() = existence;
    }
}

#[tonic::async_trait]
impl Register for Book {
    fn fleet_of(&self, namespace: &Name, service_account: &Name) -> Belonging {
        match (namespace.as_str(), service_account.as_str()) {
            ("shop", "sluice-dataplane") => self.belonging.lock().unwrap().clone(),
            _ => Belonging::Nowhere,
        }
    }

    async fn existence(&self, _: &InstanceId, _: &Workload) -> Existence {
        *self.existence.lock().unwrap()
    }
}

pub struct World {
    state: tempfile::TempDir,
    address: SocketAddr,
    trust: watch::Sender<Arc<Trust>>,
    tokens: Arc<Tokens>,
    pub register: Arc<Book>,
    pub post: watch::Sender<Post>,
    pub heard: mpsc::Receiver<StreamEvent>,
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
    /// The key of the request made last; each certificate here is for the one before it.
    keys: Mutex<Vec<KeyPair>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn trust(state: &Path) -> Arc<Trust> {
    Arc::new(Trust {
        pki: Pki::read(state, None).unwrap(),
        trusted: Keys::open(state).unwrap().trusted().clone(),
    })
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|registrar| Enrolment::ByToken(Arc::new(registrar)), Kubernetes::Yes).await
    }

    pub async fn start_standalone() -> Self {
        Self::start_with(|_| Enrolment::ByCommand, Kubernetes::No).await
    }

    async fn start_with(enrolment: impl FnOnce(Registrar) -> Enrolment, kubernetes: Kubernetes) -> Self {
        let state = tempfile::tempdir().unwrap();
        let keyring = Keyring::draw().unwrap();
        keyring.write(state.path()).unwrap();
        let (trust, trusting) = watch::channel(trust(state.path()));
        let (said, heard) = mpsc::channel(64);
        let (post, posted) = watch::channel(Post::Leads(said));
        let tokens = Arc::<Tokens>::default();
        let register = Arc::new(Book {
            belonging: Mutex::new(Belonging::To("edge".parse().unwrap())),
            existence: Mutex::new(Existence::Presumed),
        });
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let registrar = Registrar::new(Parts {
            cluster: keyring.cluster().clone(),
            trust: trusting.clone(),
            review: Arc::clone(&tokens) as Arc<dyn Review>,
            register: Arc::clone(&register) as Arc<dyn Register>,
            clock: Arc::new(|| Millis(unix_seconds() * 1_000)),
            telemetry: Arc::clone(&telemetry),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let desk = Desk {
            cluster: keyring.cluster().clone(),
            state: state.path().to_owned(),
            post: posted,
            register: match kubernetes {
                Kubernetes::Yes => Some(Arc::clone(&register) as Arc<dyn Register>),
                Kubernetes::No => None,
            },
            stop: stop.clone(),
            next: Arc::new(AtomicU64::new(1)),
        };
        let port = Port {
            listener,
            trust: trusting,
            telemetry: Arc::clone(&telemetry),
        };
        tokio::spawn(stream::serve(port, desk, enrolment(registrar), stop.clone()));
        Self {
            state,
            address,
            trust,
            tokens,
            register,
            post,
            heard,
            telemetry,
            stop,
            keys: Mutex::default(),
        }
    }

    pub fn state(&self) -> &Path {
        self.state.path()
    }

    pub fn now(&self) -> u64 {
        unix_seconds()
    }

    /// How many tokens were reviewed.
    pub fn reviews(&self) -> usize {
        self.tokens.reviews.load(Ordering::Relaxed)
    }

    /// The authorities that instances are told to believe.
    pub fn ca(&self) -> String {
        self.trust.borrow().pki.authority().bundle()
    }

    /// Other keys from now on, as after a look at the Secret.
    pub fn replace_keys(&self, keyring: &Keyring) {
        keyring.write(self.state()).unwrap();
        self.trust.send_replace(trust(self.state()));
    }

    /// How many connections did not get through TLS because of `reason`.
    pub fn tls_failures(&self, reason: &str) -> u64 {
        let text = String::from_utf8(self.telemetry.text().unwrap()).unwrap();
        let sample = format!("sluice_stream_tls_failures_total{{reason=\"{reason}\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&sample))
            .map_or(0, |count| count.parse().unwrap())
    }

    pub async fn told_of_tls_failure(&self, reason: &str) {
        let told = async {
            while self.tls_failures(reason) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told)
            .await
            .expect("the failure is counted");
    }

    fn channel(&self, ca: &str, shown: &Shown) -> Endpoint {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .domain_name(pki::SERVER_NAME);
        let tls = match shown {
            Shown::Nothing => tls,
            Shown::Pair(certificate, key) => tls.identity(Identity::from_pem(certificate, key)),
        };
        Endpoint::from_shared(format!("https://{}", self.address))
            .unwrap()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .tls_config(tls)
            .unwrap()
    }

    pub async fn enrol(&self, shown: Shown, asked: Asked) -> Result<pb::EnrolResponse, Status> {
        self.enrol_believing(&self.ca(), shown, asked).await
    }

    pub async fn enrol_believing(&self, ca: &str, shown: Shown, asked: Asked) -> Result<pb::EnrolResponse, Status> {
        let channel: Channel = self.channel(ca, &shown).connect_lazy();
        let given = EnrolmentClient::new(channel).enrol(asked.request).await?;
        self.keys.lock().unwrap().push(asked.key);
        Ok(given.into_inner())
    }

    /// What a pod shows that was given this.
    pub fn shown(&self, given: &pb::EnrolResponse) -> Shown {
        let keys = self.keys.lock().unwrap();
        let certificate = der(&given.certificate_pem);
        let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        let public = certificate.public_key().raw.to_vec();
        let is_its = |key: &&KeyPair| rcgen::PublicKeyData::subject_public_key_info(*key) == public;
        let key = keys.iter().find(is_its).unwrap();
        Shown::Pair(given.certificate_pem.clone(), key.serialize_pem())
    }

    /// A certificate of the controller's authority, made at `now`.
    pub fn certify(&self, peer: &Peer, now: u64) -> Shown {
        let trust = self.trust.borrow();
        self.certify_by(trust.pki.authority(), peer, now)
    }

    pub fn certify_by(&self, authority: &Authority, peer: &Peer, now: u64) -> Shown {
        let key = KeyPair::generate().unwrap();
        let certified = authority.certify(peer, &key, now).unwrap();
        Shown::Pair(certified.certificate, key.serialize_pem())
    }

    /// The server's own certificate, as if somebody had stolen it.
    pub fn servers(&self) -> Shown {
        let trust = self.trust.borrow();
        let server = trust.pki.server();
        Shown::Pair(server.certificate.clone(), server.key.clone())
    }

    /// Says hello as `instance`.
    pub async fn connect(&self, shown: &Shown, instance: &str) -> Result<Stream, Status> {
        let channel = self.channel(&self.ca(), shown).connect_lazy();
        let (up, said) = mpsc::channel(16);
        let instance: InstanceId = instance.parse().unwrap();
        let say = |message| {
            pb::Upward::from(&Upward {
                instance: instance.clone(),
                message,
            })
        };
        up.send(say(UpwardMessage::Hello(Hello::default()))).await.unwrap();
        let down = DeliveryClient::new(channel).connect(ReceiverStream::new(said)).await?;
        Ok(Stream {
            up,
            down: down.into_inner(),
            report: say(UpwardMessage::Report(Report {
                epoch: 0,
                sequence: 1,
                interval_ms: 1,
                roles: vec![],
                inflight: 0,
                uptime_ms: 0,
                rss_bytes: 0,
            })),
        })
    }
}

enum Kubernetes {
    Yes,
    No,
}

/// What a client shows.
#[derive(Clone)]
pub enum Shown {
    Nothing,
    /// A certificate and its key.
    Pair(String, String),
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    up: mpsc::Sender<pb::Upward>,
    down: tonic::Streaming<pb::Downward>,
    report: pb::Upward,
}

impl Stream {
    /// Says something, and waits long enough for it to be heard.
    pub async fn report(&mut self) {
        let _ = self.up.send(self.report.clone()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// Where the stream says to go instead; it ends then.
    pub async fn hint(mut self) -> Option<String> {
        let message = tokio::time::timeout(PATIENCE, self.down.message()).await.unwrap();
        let Downward::NotLeader { address } = Downward::try_from(message.unwrap().unwrap()).unwrap() else {
            panic!("no hint")
        };
        address
    }
}

/// With what a stream ended.
pub async fn ended(mut stream: Stream) -> Status {
    loop {
        match tokio::time::timeout(PATIENCE, stream.down.message()).await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended without a word"),
            Err(status) => return status,
        }
    }
}

/// A question about enrolment, and the key that it is for.
pub struct Asked {
    request: pb::EnrolRequest,
    key: KeyPair,
}

impl std::ops::Deref for Asked {
    type Target = pb::EnrolRequest;

    fn deref(&self) -> &pb::EnrolRequest {
        &self.request
    }
}

impl std::ops::DerefMut for Asked {
    fn deref_mut(&mut self) -> &mut pb::EnrolRequest {
        &mut self.request
    }
}

pub fn request(token: &str) -> Asked {
    request_for(token, |_| {}).0
}

pub fn request_for(token: &str, ask: impl FnOnce(&mut CertificateParams)) -> (Asked, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    ask(&mut params);
    // What a request cannot say is left out.
    params.not_after = CertificateParams::default().not_after;
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    let asked = Asked {
        request: pb::EnrolRequest {
            token: token.to_owned(),
            signing_request: request.clone().into(),
            build: "test".to_owned(),
        },
        key,
    };
    (asked, request)
}

pub fn der(pem: &str) -> Vec<u8> {
    parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

/// What a certificate says.
#[derive(Debug)]
pub struct Subject {
    pub is_ca: bool,
    pub is_client: bool,
    pub is_server: bool,
    pub names: Vec<String>,
    pub lasts_seconds: i64,
}

pub fn subject(pem: &str) -> Subject {
    let der = der(pem);
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let uses = certificate.extended_key_usage().unwrap().unwrap().value;
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let validity = certificate.validity();
    Subject {
        is_ca: certificate.is_ca(),
        is_client: uses.client_auth,
        is_server: uses.server_auth,
        names: names.value.general_names.iter().map(ToString::to_string).collect(),
        lasts_seconds: validity.not_after.timestamp() - validity.not_before.timestamp(),
    }
}
