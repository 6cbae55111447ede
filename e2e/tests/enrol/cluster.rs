//! The parts of a controller as Kubernetes composes them: a keyring that is replaced, a port that enrols, and terms of
//! leadership. The API server is made up: it knows one good token, of whichever pod was asked about last.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sluice_controller::audit::Audit;
use sluice_controller::enrol::review::{Review, ReviewError, Reviewed};
use sluice_controller::enrol::{Enrolment, Parts, Registrar};
use sluice_controller::keyring::Keyring;
use sluice_controller::keys::Keys;
use sluice_controller::pipeline::{Board, Inputs, Pipeline, Settings, Shared};
use sluice_controller::pki::{Peer, Pki, Workload};
use sluice_controller::register::{Belonging, Existence, Register};
use sluice_controller::rollout::Millis;
use sluice_controller::source::{self, directory::Directory};
use sluice_controller::stream::{self, Desk, Port, Post};
use sluice_controller::telemetry::Telemetry;
use sluice_controller::trust::Trust;
use sluice_controller::trust::config_maps::Troubles;
use sluice_e2e::manifests::{self, FLEET, Folder};
use sluice_e2e::ports;
use sluice_model::{InstanceId, Name};
use sluice_proto::{KeySet, Token};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::pod::Pod;

/// One token is good; it is that of the pod `edge-a`.
#[derive(Debug, Default)]
struct Tokens(AtomicUsize);

#[tonic::async_trait]
impl Review for Tokens {
    async fn review(&self, token: &Token) -> Result<Reviewed, ReviewError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        if token.expose() != "good" {
            return Err(ReviewError::Refused("the token has ended".to_owned()));
        }
        Ok(Reviewed {
            namespace: "sluice-system".parse().unwrap(),
            service_account: "sluice-dataplane".parse().unwrap(),
            pod_name: "edge-a".parse().unwrap(),
            pod: "00000001-4e5f-6071-8293-a4b5c6d7e8f9".parse().unwrap(),
        })
    }
}

/// Everybody is a member, or nobody is; and there.
#[derive(Debug, Default)]
struct Everybody {
    are_sent_away: AtomicBool,
}

#[tonic::async_trait]
impl Register for Everybody {
    fn fleet_of(&self, _: &Name, _: &Name) -> Belonging {
        if self.are_sent_away.load(Ordering::Relaxed) {
            return Belonging::Nowhere;
        }
        Belonging::To(FLEET.parse().unwrap())
    }

    async fn existence(&self, _: &InstanceId, _: &Workload) -> Existence {
        Existence::Presumed
    }
}

/// One term of leadership.
struct Term {
    stop: CancellationToken,
    parts: Vec<JoinHandle<()>>,
}

pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    scratch: tempfile::TempDir,
    manifests: Folder,
    keyring: Keyring,
    trust: watch::Sender<Arc<Trust>>,
    post: watch::Sender<Post>,
    tokens: Arc<Tokens>,
    members: Arc<Everybody>,
    board: Arc<Board>,
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
    term: Option<Term>,
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Millis(u64::try_from(since.as_millis()).unwrap())
}

fn trust(state: &Path) -> Arc<Trust> {
    Arc::new(Trust {
        pki: Pki::read(state, None).unwrap(),
        trusted: Keys::open(state).unwrap().trusted().clone(),
    })
}

impl Cluster {
    /// One fleet, whose route for `host` leads to `endpoint`.
    pub(crate) async fn start(host: &str, endpoint: SocketAddr) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let manifests = Folder::new(scratch.path());
        let rollout = manifests::rollout(ports::free().port(), &[(100, "0s")], &[]);
        manifests.write("rollout.yaml", &rollout);
        let keyring = Keyring::draw().unwrap();
        let state = scratch.path().join("state");
        std::fs::create_dir(&state).unwrap();
        keyring.write(&state).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut cluster = Self {
            address: listener.local_addr().unwrap(),
            trust: watch::Sender::new(trust(&state)),
            post: watch::Sender::new(Post::Follows { leader: None }),
            tokens: Arc::default(),
            members: Arc::default(),
            board: Arc::default(),
            telemetry: Arc::new(Telemetry::new().unwrap()),
            stop: CancellationToken::new(),
            term: None,
            scratch,
            manifests,
            keyring,
        };
        cluster.route(host, endpoint);
        cluster.open(listener);
        cluster.lead();
        cluster
    }

    fn state(&self) -> std::path::PathBuf {
        self.scratch.path().join("state")
    }

    pub(crate) fn route(&self, host: &str, endpoint: SocketAddr) {
        let objects = [
            manifests::route("site", host, "site"),
            manifests::pool("site", &[endpoint]),
        ];
        self.manifests.write("site.yaml", &manifests::documents(&objects));
    }

    /// The port, which is open in every replica, whoever leads.
    fn open(&self, listener: TcpListener) {
        let register: Arc<dyn Register> = Arc::clone(&self.members) as Arc<dyn Register>;
        let registrar = Registrar::new(Parts {
            cluster: self.keyring.cluster().clone(),
            trust: self.trust.subscribe(),
            review: Arc::clone(&self.tokens) as Arc<dyn Review>,
            register: Arc::clone(&register),
            clock: Arc::new(now),
            telemetry: Arc::clone(&self.telemetry),
        });
        let desk = Desk {
            cluster: self.keyring.cluster().clone(),
            state: self.state(),
            post: self.post.subscribe(),
            register: Some(register),
            stop: self.stop.clone(),
            next: Arc::new(AtomicU64::new(1)),
        };
        let port = Port {
            listener,
            trust: self.trust.subscribe(),
            telemetry: Arc::clone(&self.telemetry),
        };
        let enrolment = Enrolment::ByToken(Arc::new(registrar));
        tokio::spawn(stream::serve(port, desk, enrolment, self.stop.clone()));
    }

    /// Begins a term with the keys as they are.
    fn lead(&mut self) {
        let keys = Keys::open(&self.state()).unwrap();
        let shared = Shared {
            trusted: keys.trusted().clone(),
            signers: Arc::new(keys.into_signers()),
            board: Arc::clone(&self.board),
            telemetry: Arc::clone(&self.telemetry),
            state: self.state(),
            remote: None,
            cluster: self.keyring.cluster().clone(),
        };
        let audit = Audit::open(&self.state()).unwrap();
        let pipeline = Pipeline::open(shared, Settings::default(), Arc::new(now), audit).unwrap();
        let source = Directory::watch(self.manifests.path()).unwrap();
        let (live, feeding) = source::core::feed(source.core());
        let (said, heard) = mpsc::channel(64);
        let (_commands, asked) = mpsc::channel(1);
        let inputs = Inputs {
            source,
            first: None,
            live,
            instances: heard,
            census: None,
            people: asked,
            untrusting: watch::channel(Troubles::new()).1,
        };
        let stop = CancellationToken::new();
        let parts = vec![tokio::spawn(pipeline.run(inputs, stop.clone())), tokio::spawn(feeding)];
        self.term = Some(Term { stop, parts });
        self.post.send_replace(Post::Leads(said));
    }

    async fn resign(&mut self) {
        self.post.send_replace(Post::Follows { leader: None });
        if let Some(Term { stop, parts }) = self.term.take() {
            stop.cancel();
            for part in parts {
                part.abort();
                let _ = part.await;
            }
        }
    }

    /// No controller any more.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        tokio::task::yield_now().await;
    }

    /// Nobody is a member any more, as when a Rollout is deleted.
    pub(crate) fn send_away(&self) {
        self.members.are_sent_away.store(true, Ordering::Relaxed);
    }

    /// Everybody is one again.
    pub(crate) fn let_in(&self) {
        self.members.are_sent_away.store(false, Ordering::Relaxed);
    }

    /// Whether the instance is listed as connected, and why not.
    pub(crate) fn listed(&self, instance: &str) -> Option<(bool, String)> {
        let all = self.board.instances();
        let view = all.into_iter().find(|view| view.instance.to_string() == instance)?;
        Some((view.connected, view.reason.unwrap_or_default()))
    }

    pub(crate) fn reviews(&self) -> usize {
        self.tokens.0.load(Ordering::Relaxed)
    }

    /// What the ConfigMap says.
    pub(crate) fn ca(&self) -> String {
        self.keyring.ca_bundle()
    }

    pub(crate) fn trusted(&self) -> KeySet {
        self.keyring.trusted().unwrap()
    }

    /// The next keys are made and believed; nothing is signed with them yet.
    pub(crate) fn begin_rotation(&mut self) {
        self.take(self.keyring.begin("test", 1).unwrap());
    }

    /// The next phase, and a term that begins with its keys.
    pub(crate) async fn next_phase(&mut self) {
        self.resign().await;
        self.take(self.keyring.next_phase(2));
        self.lead();
    }

    fn take(&mut self, keyring: Keyring) {
        keyring.write(&self.state()).unwrap();
        self.keyring = keyring;
        self.trust.send_replace(trust(&self.state()));
    }

    /// Gives the pod a certificate that ended the day before yesterday.
    pub(crate) fn end_certificate(&self, pod: &Pod) {
        let key = rcgen::KeyPair::generate().unwrap();
        let trust = self.trust.borrow();
        let now = now().seconds() - 3 * 24 * 3_600;
        let peer = Peer {
            identity: sluice_controller::pki::Identity {
                cluster: self.keyring.cluster().clone(),
                fleet: FLEET.parse().unwrap(),
                instance: pod.id.parse().unwrap(),
            },
            workload: None,
        };
        let certified = trust.pki.authority().certify(&peer, &key, now).unwrap();
        pod.put_pair(&format!("{}{}", certified.certificate, key.serialize_pem()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(Term { stop, .. }) = &self.term {
            stop.cancel();
        }
    }
}

/// Used by pods to see who has signed what they keep.
pub(crate) fn signed_by(envelope: &[u8]) -> Vec<String> {
    let envelope = sluice_proto::Envelope::open(envelope, envelope.len()).unwrap();
    envelope
        .signatures
        .iter()
        .map(|signature| signature.key_id.clone())
        .collect()
}

/// The keys that sign orders now.
impl Cluster {
    pub(crate) fn order_key(&self) -> String {
        let signers = Keyring::read(&self.state()).unwrap();
        let resting = signers.next_phase(9);
        let keys = resting.trusted().unwrap();
        let order = keys.iter().find(|key| key.role() == sluice_proto::Role::Order);
        order.unwrap().id().to_string()
    }
}
