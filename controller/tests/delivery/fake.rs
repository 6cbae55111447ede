//! A fake instance: a real tonic client over real mutual TLS that verifies, asks for sections, acknowledges or refuses,
//! and reports. It remembers what it holds between connections, as an instance does on disk.

#![allow(unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sluice_controller::pki;
use sluice_model::{Digest, Feature, InstanceId, LiveSubject, RevisionId};
use sluice_proto::pb::delivery_client::DeliveryClient;
use sluice_proto::{
    Ack, Audience, Downward, HAND_BACK, HeldValue, Hello, KeySet, LiveRefused, LiveUpdate, LiveValue, Manifest, Nack,
    Order, Refusal, Report, RoleReport, ScopeReport, ServedRole, Upward, UpwardMessage, open_live, open_manifest,
    open_order, sections,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// What an instance keeps.
#[derive(Default, Debug)]
pub struct Held {
    pub order: Option<(Order, Bytes)>,
    pub manifests: BTreeMap<RevisionId, Manifest>,
    pub envelopes: BTreeMap<RevisionId, Bytes>,
    pub sections: BTreeMap<Digest, Bytes>,
    /// Every epoch that was accepted, in order.
    pub epochs: Vec<u64>,
    pub last_status: Option<tonic::Status>,
    /// Live values, by subject.
    pub values: BTreeMap<LiveSubject, LiveUpdate>,
    /// What came over the present stream, in order.
    pub log: Vec<String>,
    /// What it was asked back, once a question.
    pub asked_back: Vec<Downward>,
}

pub struct Fake {
    pub id: InstanceId,
    pub identity: PathBuf,
    pub held: Arc<Mutex<Held>>,
    pub task: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn enroll(state: &Path, id: &str) -> Self {
        Self::enroll_in(state, "default", id)
    }

    pub fn enroll_in(state: &Path, fleet: &str, id: &str) -> Self {
        let id: InstanceId = id.parse().unwrap();
        let identity = pki::enroll(state, &fleet.parse().unwrap(), &id, None).unwrap();
        Self {
            id,
            identity,
            held: Arc::default(),
            task: None,
        }
    }

    /// Connects; `refuses` is answered with a nack once it is known to be a candidate.
    pub fn connect(&mut self, to: SocketAddr, manners: Manners) {
        self.disconnect();
        let (id, identity, held) = (self.id.clone(), self.identity.clone(), Arc::clone(&self.held));
        self.task = Some(tokio::spawn(async move {
            loop {
                if let Err(status) = converse(&id, &identity, to, &held, manners).await {
                    held.lock().unwrap().last_status = Some(status);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
    }

    pub fn disconnect(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    pub fn order(&self) -> Option<Order> {
        self.held.lock().unwrap().order.as_ref().map(|(order, _)| order.clone())
    }

    /// The value that it holds of `subject`.
    pub fn value(&self, subject: &str) -> Option<LiveValue> {
        let held = self.held.lock().unwrap();
        Some(held.values.get(&subject.parse().unwrap())?.value.clone())
    }

    /// What came over the present stream, in order.
    pub fn log(&self) -> Vec<String> {
        self.held.lock().unwrap().log.clone()
    }

    /// What it serves.
    pub fn serves(&self) -> Option<RevisionId> {
        let order = self.order()?;
        Some(
            order
                .candidate_for(&self.id)
                .map_or(order.stable, |candidate| candidate.revision),
        )
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// How an instance behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manners {
    Good,
    /// Refuses whatever has a candidate for it.
    RefusesCandidates,
    /// Says that it is somebody else.
    Impostor,
    /// Hands back manifests of another revision.
    HandsBackAnotherManifest,
    /// Hands back sections with a bit flipped.
    HandsBackOtherSections,
    /// Says nothing when it is asked to hand something back.
    KeepsToItself,
    /// Says that it holds nothing.
    HoldsNothing,
    /// Hands back what nobody asked for.
    Pushes,
    /// Refuses live values.
    RefusesValues,
    /// Is of a build that knows nothing of handing back: it would end its stream on the question.
    OfAnOlderBuild,
}

pub fn channel(identity: &Path, to: SocketAddr) -> Channel {
    let read = |name: &str| fs::read(identity.join(name)).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem")))
        .identity(Identity::from_pem(read("cert.pem"), read("key.pem")))
        .domain_name(pki::SERVER_NAME);
    endpoint(to).tls_config(tls).unwrap().connect_lazy()
}

pub fn endpoint(to: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("https://{to}"))
        .unwrap()
        .connect_timeout(Duration::from_secs(5))
}

async fn converse(
    id: &InstanceId,
    identity: &Path,
    to: SocketAddr,
    held: &Mutex<Held>,
    manners: Manners,
) -> Result<(), tonic::Status> {
    let about: serde_json::Value = serde_json::from_slice(&fs::read(identity.join("instance.json")).unwrap()).unwrap();
    let audience = Audience {
        cluster: about["cluster"].as_str().unwrap().parse().unwrap(),
        fleet: about["fleet"].as_str().unwrap().parse().unwrap(),
    };
    let trusted = KeySet::from_json(&fs::read_to_string(identity.join("trusted.json")).unwrap()).unwrap();
    let said = if manners == Manners::Impostor {
        "somebody-else".parse().unwrap()
    } else {
        id.clone()
    };
    let (up, said_up) = mpsc::channel(16);
    let say = |message: UpwardMessage| {
        let proto = (&Upward {
            instance: said.clone(),
            message,
        })
            .into();
        let up = up.clone();
        async move {
            up.send(proto)
                .await
                .map_err(|_| tonic::Status::aborted("the stream ended"))
        }
    };
    held.lock().unwrap().log.clear();
    say(hello(held, id, manners)).await?;
    let mut heard = DeliveryClient::new(channel(identity, to))
        .connect(ReceiverStream::new(said_up))
        .await?
        .into_inner();
    if manners == Manners::Pushes {
        let wire = Some(Bytes::from_static(b"push"));
        let digest = Digest([7; 32]);
        say(UpwardMessage::Section { digest, wire }).await?;
    }
    let mut waiting: Option<(Order, Bytes)> = None;
    let mut wanted_anew = false;
    let mut every = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            message = heard.message() => {
                let Some(proto) = message? else { return Ok(()) };
                match Downward::try_from(proto).unwrap() {
                    Downward::Manifest(bytes) => {
                        let manifest = open_manifest(&trusted, &audience, &bytes).unwrap();
                        let mut held = held.lock().unwrap();
                        held.envelopes.insert(manifest.revision, bytes);
                        held.manifests.insert(manifest.revision, manifest);
                    }
                    Downward::Order(bytes) => {
                        let order = open_order(&trusted, &audience, &bytes).unwrap();
                        held.lock().unwrap().log.push("order".to_owned());
                        let last = held.lock().unwrap().epochs.last().copied().unwrap_or(0);
                        if order.epoch > last {
                            waiting = Some((order, bytes));
                            wanted_anew = true;
                        }
                    }
                    Downward::Section { digest, wire } => {
                        held.lock().unwrap().sections.insert(digest, wire);
                    }
                    Downward::Live(bytes) => {
                        let update = open_live(&trusted, &audience, &bytes.0).unwrap();
                        let subject = update.value.subject();
                        held.lock().unwrap().log.push(subject.to_string());
                        if manners == Manners::RefusesValues {
                            say(UpwardMessage::LiveRefused(LiveRefused {
                                subject: Some(subject),
                                reason: Refusal::Check,
                                detail: "not liked".to_owned(),
                            }))
                            .await?;
                            continue;
                        }
                        let mut held = held.lock().unwrap();
                        if held.values.get(&subject).is_none_or(|known| known.stamp < update.stamp) {
                            held.values.insert(subject, update);
                        }
                    }
                    Downward::NotLeader { .. } => panic!("there is one controller"),
                    question @ (Downward::LostManifest(_) | Downward::LostSections(_)) => {
                        held.lock().unwrap().asked_back.push(question.clone());
                        for answer in hand_back(held, question, manners) {
                            say(answer).await?;
                        }
                    }
                }
                let lacks = waiting.as_ref().and_then(|(order, _)| missing(held, order, id));
                match lacks {
                    Some(lacks) if lacks.is_empty() => if let Some((order, bytes)) = waiting.take() {
                        say(settle(held, order, bytes, id, manners)).await?;
                    },
                    Some(lacks) if wanted_anew => {
                        wanted_anew = false;
                        say(UpwardMessage::Want(lacks)).await?;
                    }
                    Some(_) | None => {}
                }
            }
            _ = every.tick() => if let Some(report) = report(held, id) {
                say(UpwardMessage::Report(report)).await?;
            },
        }
    }
}

fn hello(held: &Mutex<Held>, id: &InstanceId, manners: Manners) -> UpwardMessage {
    let held = held.lock().unwrap();
    let order = held.order.as_ref();
    UpwardMessage::Hello(Hello {
        build: "fake".to_owned(),
        boot_id: "1".to_owned(),
        features: Feature::ALL
            .iter()
            .map(ToString::to_string)
            .chain((manners != Manners::OfAnOlderBuild).then(|| HAND_BACK.to_owned()))
            .collect(),
        epoch: order.map_or(0, |(order, _)| order.epoch),
        stable: order.map(|(order, _)| order.stable),
        candidate: order
            .and_then(|(order, _)| order.candidate_for(id))
            .map(|tried| tried.revision),
        held_sections: held.sections.keys().copied().collect(),
        order: order.map(|(_, bytes)| bytes.clone()),
        live_term: held.values.values().map(|update| update.stamp.term).max().unwrap_or(0),
        live_held: held.values.values().map(held_value).collect(),
        ..Hello::default()
    })
}

fn held_value(update: &LiveUpdate) -> HeldValue {
    HeldValue {
        subject: update.value.subject(),
        digest: update.value.digest(),
    }
}

fn wanted(order: &Order, id: &InstanceId) -> Vec<RevisionId> {
    let candidate = order.candidate_for(id).map(|candidate| candidate.revision);
    [Some(order.stable), candidate].into_iter().flatten().collect()
}

fn hand_back(held: &Mutex<Held>, question: Downward, manners: Manners) -> Vec<UpwardMessage> {
    let held = held.lock().unwrap();
    if manners == Manners::KeepsToItself {
        return vec![];
    }
    let holds = manners != Manners::HoldsNothing;
    match question {
        Downward::LostManifest(revision) => {
            let is_told = |other: &RevisionId| (*other == revision) != (manners == Manners::HandsBackAnotherManifest);
            let told = held.envelopes.iter().find(|(other, _)| is_told(other));
            let envelope = told.filter(|_| holds).map(|(_, envelope)| envelope.clone());
            vec![UpwardMessage::Manifest { revision, envelope }]
        }
        Downward::LostSections(digests) => {
            let answer = |digest| {
                let mut wire = held.sections.get(&digest).map(|wire| wire.to_vec());
                if let (Manners::HandsBackOtherSections, Some(wire)) = (manners, &mut wire) {
                    wire[0] ^= 1;
                }
                let wire = wire.filter(|_| holds).map(Bytes::from);
                UpwardMessage::Section { digest, wire }
            };
            digests.into_iter().map(answer).collect()
        }
        Downward::Order(_)
        | Downward::Manifest(_)
        | Downward::Section { .. }
        | Downward::Live(_)
        | Downward::NotLeader { .. } => vec![],
    }
}

/// The sections that are not here, each checked against its manifest if it is; `None` while a manifest is missing.
fn missing(held: &Mutex<Held>, order: &Order, id: &InstanceId) -> Option<Vec<Digest>> {
    let held = held.lock().unwrap();
    let manifests = wanted(order, id)
        .into_iter()
        .map(|revision| held.manifests.get(&revision))
        .collect::<Option<Vec<_>>>()?;
    let sections = manifests.into_iter().flat_map(|manifest| &manifest.sections);
    let is_missing = |reference: &&sluice_proto::SectionRef| match held.sections.get(&reference.digest) {
        Some(wire) => {
            sections::unpack(reference, wire).unwrap();
            false
        }
        None => true,
    };
    Some(sections.filter(is_missing).map(|reference| reference.digest).collect())
}

fn settle(held: &Mutex<Held>, order: Order, bytes: Bytes, id: &InstanceId, manners: Manners) -> UpwardMessage {
    let candidate = order.candidate_for(id).map(|candidate| candidate.revision);
    let epoch = order.epoch;
    if candidate.is_some() && manners == Manners::RefusesCandidates {
        return UpwardMessage::Nack(Nack {
            epoch,
            reason: Refusal::Build,
            detail: "the fake refuses".to_owned(),
        });
    }
    let stable = order.stable;
    let mut held = held.lock().unwrap();
    held.epochs.push(epoch);
    held.order = Some((order, bytes));
    UpwardMessage::Ack(Ack {
        epoch,
        stable: Some(stable),
        candidate,
    })
}

fn report(held: &Mutex<Held>, id: &InstanceId) -> Option<Report> {
    let held = held.lock().unwrap();
    let (order, _) = held.order.as_ref()?;
    let candidate = order
        .candidate_for(id)
        .map(|candidate| (ServedRole::Candidate, candidate.revision));
    let (role, revision) = candidate.unwrap_or((ServedRole::Stable, order.stable));
    let scope = |route| ScopeReport {
        route,
        requests: 100,
        latency_buckets: vec![(3, 100)],
        ..ScopeReport::default()
    };
    let scopes = std::iter::once(None)
        .chain(order.counted.iter().cloned().map(Some))
        .map(scope)
        .collect();
    Some(Report {
        epoch: order.epoch,
        sequence: 1,
        // Vouches for as much as a controller whose clock runs fast sees pass.
        interval_ms: 2_000,
        roles: vec![RoleReport { role, revision, scopes }],
        inflight: 0,
        uptime_ms: 1,
        rss_bytes: 1,
    })
}
