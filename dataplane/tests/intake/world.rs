//! What the intake's tests stand on: a controller's side that signs, and a target that notes what it was told to serve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prometheus::Registry;
use sluice_dataplane::config::last_good::LastGood;
use sluice_dataplane::config::metrics::IntakeMetrics;
use sluice_dataplane::config::target::{Blueprint, NewLive, NewValue, Target};
use sluice_dataplane::config::{Answer, Delivered, Intake};
use sluice_dataplane::identity::{Identity, TlsIdentity};
use sluice_model::unit::{DataPlaneUnit, Endpoint, Http2, Listener, PoolUnit, Unit, Weight};
use sluice_model::{Config, Digest, Kind, LiveSubject, ObjectKey, RevisionId, Snapshot};
use sluice_proto::keys::{KeySet, Role, Signer};
use sluice_proto::manifest::Manifest;
use sluice_proto::order::{Candidate, FULL_SHARE_MILLIONTHS, Members, Order};
use sluice_proto::report::ServedRole;
use sluice_proto::sections::{self, Packed, revision_digest};
use sluice_proto::signed::{Audience, seal_manifest, seal_order};

/// Seconds since 1970, by every clock in these tests.
pub const NOW: u64 = 1_800_000_000;

/// The epoch of the `n`th order.
pub fn epoch(n: u64) -> u64 {
    sluice_model::epoch::floor(NOW) + n
}

pub fn pool_key(name: &str) -> ObjectKey {
    format!("Pool shop/{name}").parse().unwrap()
}

/// A configuration that listens on `port` and has one pool per name.
pub fn config(port: u16, pools: &[&str]) -> Config {
    let mut config = Config::default();
    let listeners = vec![Listener {
        name: "http".parse().unwrap(),
        port,
        tls: None,
        http2: Http2::default(),
        proxy_protocol_from: vec![],
    }];
    let fleet: ObjectKey = "Rollout shop/edge".parse().unwrap();
    assert_eq!(fleet.kind, Kind::Rollout);
    config.insert(fleet, Unit::DataPlane(DataPlaneUnit::of(listeners)));
    for name in pools {
        let endpoints = vec![Endpoint {
            address: "127.0.0.1:7001".parse().unwrap(),
            weight: Weight::ONE,
        }];
        config.insert(pool_key(name), Unit::Pool(PoolUnit::of_endpoints(endpoints)));
    }
    config
}

/// A revision as the controller has it.
#[derive(Clone)]
pub struct Revision {
    pub id: RevisionId,
    pub manifest: Manifest,
    pub packed: Vec<Packed>,
}

/// The controller's side.
pub struct Signers {
    pub manifest: Signer,
    pub order: Signer,
    pub live: Signer,
    pub audience: Audience,
}

impl Signers {
    pub fn new(seed: u8) -> Self {
        Self {
            manifest: Signer::from_seed(&[seed; 32], Role::Manifest),
            order: Signer::from_seed(&[seed + 1; 32], Role::Order),
            live: Signer::from_seed(&[seed + 100; 32], Role::Live),
            audience: Audience {
                cluster: "test".parse().unwrap(),
                fleet: "edge".parse().unwrap(),
            },
        }
    }

    pub fn trusted(&self) -> KeySet {
        KeySet::new([self.manifest.trusted(), self.order.trusted(), self.live.trusted()]).unwrap()
    }

    pub fn revision(&self, number: u64, config: Config) -> Revision {
        let snapshot = Snapshot::check(config).unwrap();
        let packed: Vec<Packed> = sections::encode(&snapshot)
            .unwrap()
            .iter()
            .map(sections::pack)
            .collect();
        let features = snapshot.features().iter().map(ToString::to_string).collect();
        self.revision_of(number, packed, features)
    }

    pub fn revision_of(&self, number: u64, packed: Vec<Packed>, features: Vec<String>) -> Revision {
        let references: Vec<_> = packed.iter().map(|p| p.reference).collect();
        let id = RevisionId {
            number,
            digest: revision_digest(&references),
        };
        let manifest = Manifest {
            cluster: self.audience.cluster.clone(),
            fleet: self.audience.fleet.clone(),
            revision: id,
            sections: references,
            features,
            controller_build: "test".to_owned(),
            created_at_unix_ms: 0,
            quarantined: Vec::new(),
        };
        Revision { id, manifest, packed }
    }

    pub fn order(&self, epoch: u64, stable: &Revision, candidate: Option<(&Revision, &[&str])>) -> Order {
        Order {
            cluster: self.audience.cluster.clone(),
            fleet: self.audience.fleet.clone(),
            epoch,
            stable: stable.id,
            candidate: candidate.map(|(revision, members)| Candidate {
                revision: revision.id,
                members: Members::only(members.iter().map(|m| m.parse().unwrap())),
                share_millionths: FULL_SHARE_MILLIONTHS,
            }),
            counted: Vec::new(),
        }
    }

    pub fn seal_order(&self, order: &Order) -> Bytes {
        seal_order(&[&self.order], order)
    }

    pub fn seal_manifest(&self, revision: &Revision) -> Bytes {
        seal_manifest(&[&self.manifest], &revision.manifest)
    }
}

/// What the target was last told to serve.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Served {
    pub epoch: u64,
    pub stable: Option<RevisionId>,
    pub candidate: Option<RevisionId>,
    pub ports: Vec<u16>,
}

/// What the target saw and how it shall behave.
#[derive(Default)]
pub struct Notes {
    pub served: Served,
    pub swaps: u64,
    /// Values of the live lane by subject, as text.
    pub values: BTreeMap<LiveSubject, String>,
    pub sets: u64,
    pub builds: Vec<(RevisionId, ServedRole, Option<RevisionId>)>,
    /// Ports that somebody else has.
    pub taken: Vec<u16>,
    /// A pool of this name makes the builder panic.
    pub poison: Option<ObjectKey>,
}

/// A generation: which revision, under which role.
#[derive(Debug)]
pub struct Built {
    pub revision: RevisionId,
    pub role: ServedRole,
}

#[derive(Clone, Default)]
pub struct Noting(pub Arc<Mutex<Notes>>);

impl Target for Noting {
    type Built = Built;
    type Ports = Vec<u16>;

    fn build(&self, blueprint: Blueprint<'_, Built>) -> Result<Arc<Built>, String> {
        let Blueprint {
            revision,
            role,
            snapshot,
            previous,
            ..
        } = blueprint;
        let poison = self.0.lock().unwrap().poison.clone();
        assert!(poison.is_none_or(|key| snapshot.unit(&key).is_none()), "poisoned");
        let mut notes = self.0.lock().unwrap();
        notes.builds.push((revision, role, previous.map(|p| p.revision)));
        Ok(Arc::new(Built { revision, role }))
    }

    fn prepare(&self, listeners: &[Listener]) -> Result<Vec<u16>, String> {
        let ports: Vec<u16> = listeners.iter().map(|l| l.port).collect();
        match ports.iter().find(|port| self.0.lock().unwrap().taken.contains(port)) {
            Some(port) => Err(format!("port {port} is in use")),
            None => Ok(ports),
        }
    }

    fn swap(&self, ports: Vec<u16>, live: NewLive<Built>) {
        assert_eq!(live.stable.role, ServedRole::Stable);
        assert!(
            live.candidate
                .iter()
                .all(|(built, _)| built.role == ServedRole::Candidate)
        );
        let mut notes = self.0.lock().unwrap();
        notes.swaps += 1;
        notes.served = Served {
            epoch: live.epoch,
            stable: Some(live.stable.revision),
            candidate: live.candidate.map(|(built, _)| built.revision),
            ports,
        };
    }

    fn set(&self, value: NewValue) {
        let (subject, text) = match value {
            NewValue::Endpoints(service, endpoints) => (LiveSubject::Service(service), format!("{endpoints:?}")),
            NewValue::Certificate(reference, certificate) => (
                LiveSubject::Certificate(reference),
                format!("{}", certificate.fingerprint()),
            ),
            NewValue::Authorities(reference, authorities) => {
                (LiveSubject::Authorities(reference), format!("{authorities:?}"))
            }
        };
        let mut notes = self.0.lock().unwrap();
        notes.sets += 1;
        notes.values.insert(subject, text);
    }

    fn forget(&self, subject: &LiveSubject) {
        self.0.lock().unwrap().values.remove(subject).expect("it is there");
    }
}

/// One instance and the controller that speaks to it.
pub struct World {
    pub signers: Signers,
    pub target: Noting,
    pub intake: Intake<Noting>,
    pub state: PathBuf,
    pub metrics: IntakeMetrics,
    pub revisions: BTreeMap<RevisionId, Revision>,
    folder: Arc<tempfile::TempDir>,
}

pub const ME: &str = "edge-1";

fn identity(signers: &Signers) -> Arc<Identity> {
    let none = String::new;
    Arc::new(Identity {
        instance: ME.parse().unwrap(),
        audience: signers.audience.clone(),
        trusted: signers.trusted(),
        tls: TlsIdentity {
            ca_pem: none(),
            cert_pem: none(),
            key_pem: none(),
        },
        renew_at: None,
    })
}

impl World {
    pub fn new() -> Self {
        Self::start(Arc::new(tempfile::tempdir().unwrap()), BTreeMap::new(), Signers::new(1))
    }

    fn start(folder: Arc<tempfile::TempDir>, revisions: BTreeMap<RevisionId, Revision>, signers: Signers) -> Self {
        let target = Noting::default();
        let metrics = IntakeMetrics::register(&Registry::new()).unwrap();
        let state = folder.path().to_owned();
        let intake = Intake::start(
            identity(&signers),
            target.clone(),
            LastGood::new(&state),
            metrics.clone(),
        );
        Self {
            signers,
            target,
            intake,
            state,
            metrics,
            revisions,
            folder,
        }
    }

    /// The process ends without a word, and another begins with what is on disk.
    pub fn crash(self) -> Self {
        Self::start(self.folder, self.revisions, self.signers)
    }

    /// The same, and the one that begins trusts these keys alone, as its controller signs with them.
    pub fn crash_and_trust(self, signers: Signers) -> Self {
        Self::start(self.folder, self.revisions, signers)
    }

    /// The process ends in good order, and another begins.
    pub fn restart(mut self) -> Self {
        self.intake.stop();
        self.crash()
    }

    pub fn revision(&mut self, number: u64, config: Config) -> Revision {
        let revision = self.signers.revision(number, config);
        self.revisions.insert(revision.id, revision.clone());
        revision
    }

    pub fn served(&self) -> Served {
        self.target.0.lock().unwrap().served.clone()
    }

    pub fn values(&self) -> BTreeMap<LiveSubject, String> {
        self.target.0.lock().unwrap().values.clone()
    }

    pub fn last_good(&self) -> PathBuf {
        self.state.join("last-good")
    }

    pub fn take_order(&mut self, envelope: Bytes) -> Vec<Answer> {
        self.intake.take(Delivered::Order(envelope), NOW)
    }

    /// Delivers an order and whatever the instance asks for, as a controller would. The last answer.
    pub fn deliver(&mut self, order: &Order) -> Answer {
        let envelope = self.signers.seal_order(order);
        let mut answers = self.take_order(envelope);
        let named = std::iter::once(order.stable).chain(order.candidate.as_ref().map(|c| c.revision));
        for id in named {
            let manifest = self.signers.seal_manifest(&self.revisions[&id]);
            answers.extend(self.intake.take(Delivered::Manifest(manifest), NOW));
        }
        loop {
            let wanted: Vec<Digest> = answers
                .iter()
                .flat_map(|answer| match answer {
                    Answer::Want(digests) => digests.clone(),
                    Answer::Ack(_)
                    | Answer::Nack { .. }
                    | Answer::LiveRefused { .. }
                    | Answer::Manifest { .. }
                    | Answer::Section { .. } => Vec::new(),
                })
                .collect();
            if wanted.is_empty() {
                return answers.pop().expect("an answer");
            }
            answers.retain(|answer| !matches!(answer, Answer::Want(_)));
            for digest in wanted {
                let wire = self.wire(&digest);
                answers.extend(self.intake.take(Delivered::Section { digest, wire }, NOW));
            }
        }
    }

    /// A section as it travels.
    pub fn wire(&self, digest: &Digest) -> Bytes {
        let all = self.revisions.values().flat_map(|r| &r.packed);
        all.into_iter()
            .find(|p| p.reference.digest == *digest)
            .expect("a known section")
            .wire
            .clone()
    }
}

/// The reason of a nack, or `ack`.
pub fn reason(answer: &Answer) -> &'static str {
    match answer {
        Answer::Ack(_) => "ack",
        Answer::Want(_) => "want",
        Answer::Manifest { .. } | Answer::Section { .. } => "handed back",
        Answer::Nack { refusal, .. } | Answer::LiveRefused { refusal, .. } => refusal.reason(),
    }
}

/// Makes the state folder refuse every write: a file stands where a folder should be. (Permissions would not stop
/// tests that run as root.)
pub fn break_disk(last_good: &Path) {
    std::fs::rename(last_good, last_good.with_extension("away")).ok();
    std::fs::write(last_good, "in the way").unwrap();
}

/// Undoes [`break_disk`].
pub fn mend_disk(last_good: &Path) {
    std::fs::remove_file(last_good).unwrap();
    std::fs::rename(last_good.with_extension("away"), last_good).ok();
}
