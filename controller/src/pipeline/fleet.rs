//! One fleet: its rollout core, its record and revisions, and the way to its instances. Carries out what the core asks,
//! in the one order that is safe: commit the record, then send.

mod hand_back;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use sluice_model::limits::{MAX_COUNTED_SCOPES, RECORD_PROGRESS_MS};
use sluice_model::{FleetName, InstanceId, ObjectKey, RevisionId};
use sluice_proto::{self as proto, Audience, Downward, Hello, KeySet, Manifest, UpwardMessage, open_order};

use super::board::{Board, ConfigView, InstanceView};
use super::story::{Happening, written};
use crate::compile::{FleetState, Stable};
use crate::revisions::{BundleError, CommitError, LoadError, Revisions, Version, to_keep};
use crate::rollout::{
    Action, Beginning, Commit, Core, Event, Facts, Members, Millis, Outcome, Plan, Recipients, Record, RolloutStatus,
    order,
};
use crate::sign::{SignError, Signers};
use crate::stream::{Link, LinkId};
use crate::telemetry::Telemetry;

use super::observed;
use hand_back::Lost;

/// Why a fleet cannot be governed.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Its record.
    #[error(transparent)]
    Record(#[from] LoadError),
    /// Its revisions.
    #[error(transparent)]
    Bundles(#[from] BundleError),
}

/// What all fleets share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// What signs.
    pub signers: Arc<Signers>,
    /// What instances verify with.
    pub trusted: KeySet,
    /// Where things are shown.
    pub board: Arc<Board>,
    /// Where things are measured.
    pub telemetry: Arc<Telemetry>,
    /// The state folder.
    pub state: std::path::PathBuf,
    /// Which cluster this is.
    pub cluster: sluice_model::ClusterId,
}

/// Whether the caller has to compile again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing more.
    Nothing,
    /// Compile the newest objects.
    Recompile,
}

impl Next {
    /// If either asks for it.
    pub fn or(self, other: Self) -> Self {
        if self == Self::Recompile { self } else { other }
    }
}

/// An instance that is or was connected.
struct Connected {
    link: Option<Link>,
    hello: Hello,
    holds: BTreeSet<RevisionId>,
    view: InstanceView,
}

/// One fleet.
pub struct Fleet {
    pub(super) shared: Shared,
    pub(super) name: FleetName,
    pub(super) core: Core,
    version: Version,
    /// The record as it was last read or written: what may be sent about.
    committed: Option<Record>,
    pub(super) revisions: Revisions,
    instances: BTreeMap<InstanceId, Connected>,
    /// The order in force as it was signed.
    signed: Option<(proto::Order, Bytes)>,
    /// Content of stable, and where its objects came from.
    stable: Option<(RevisionId, Stable)>,
    /// Revisions that orders may name and that are here in full.
    whole: BTreeSet<RevisionId>,
    /// Those that are not.
    lost: BTreeMap<RevisionId, Lost>,
    progress_since: Option<Millis>,
    /// Why the record cannot be written, told once.
    unwritten: Option<String>,
    /// What else does not work, told once.
    trouble: Option<String>,
    /// When to make a revision again after that failed: a full disk has room again without any object changing.
    pub(super) retry_at: Option<Millis>,
    pub(super) history_limit: usize,
    pub(super) quarantined: Vec<ObjectKey>,
    /// Why what the objects compile to is not offered.
    pub(super) withheld: Option<String>,
    /// Why the last command was not carried out, until it is answered.
    pub(super) last_refusal: Option<String>,
}

impl Fleet {
    /// The fleet called `name`, with the record that it has, or as one that has none.
    ///
    /// # Errors
    /// A record that is there but cannot be read is an error, never "none".
    pub fn open(shared: Shared, name: FleetName, plan: Plan, beginning: Beginning) -> Result<Self, FleetError> {
        let audience = Audience {
            cluster: shared.cluster.clone(),
            fleet: name.clone(),
        };
        let revisions = Revisions::open(&shared.state, shared.trusted.clone(), audience)?;
        let (core, version, committed) = match revisions.record.load()? {
            Some((record, version)) => (Core::resume(record.clone()), version, Some(record)),
            None => (Core::begin(name.clone(), plan, beginning), Version::default(), None),
        };
        Ok(Self {
            shared,
            name,
            core,
            version,
            committed,
            revisions,
            instances: BTreeMap::new(),
            signed: None,
            stable: None,
            whole: BTreeSet::new(),
            lost: BTreeMap::new(),
            progress_since: None,
            unwritten: None,
            trouble: None,
            retry_at: None,
            history_limit: 10,
            quarantined: vec![],
            withheld: None,
            last_refusal: None,
        })
    }

    /// What the core makes of `event`: its record is written, then its actions are carried out.
    pub fn happen(&mut self, event: Event, now: Millis) -> Next {
        let Outcome { commit, actions } = self.core.step(event, now);
        let written = match commit {
            Commit::Nothing => self.save_old_progress(now),
            Commit::Progress => {
                self.progress_since.get_or_insert(now);
                self.save_old_progress(now)
            }
            Commit::Required => self.save(now),
        };
        match written {
            Ok(()) => self.act(actions, now),
            Err(error) => self.step_back(&error, now),
        }
    }

    fn save_old_progress(&mut self, now: Millis) -> Result<(), CommitError> {
        match self.progress_since {
            Some(since) if now.since(since) >= RECORD_PROGRESS_MS => self.save(now),
            Some(_) | None => Ok(()),
        }
    }

    fn save(&mut self, now: Millis) -> Result<(), CommitError> {
        self.version = self.revisions.record.commit(self.version, self.core.record())?;
        self.committed = Some(self.core.record().clone());
        self.progress_since = None;
        if self.unwritten.take().is_some() {
            self.tell(Happening::Mended("the record is written again".to_owned()), now);
        }
        Ok(())
    }

    /// Writes what was observed and not yet written; for a clean end.
    ///
    /// # Errors
    /// When it cannot be written; that much of the bake is observed again then.
    pub fn save_progress(&mut self, now: Millis) -> Result<(), CommitError> {
        match self.progress_since {
            Some(_) => self.save(now),
            None => Ok(()),
        }
    }

    /// The record could not be written: nothing is sent, and what the store holds counts.
    fn step_back(&mut self, error: &CommitError, now: Millis) -> Next {
        let trouble = format!("the record was not written, so nothing is ordered: {error}");
        if self.unwritten.as_ref() != Some(&trouble) {
            self.tell(Happening::Trouble(trouble.clone()), now);
            self.unwritten = Some(trouble);
        }
        self.progress_since = None;
        match self.revisions.record.load() {
            Ok(Some((record, version))) => {
                self.committed = Some(record.clone());
                self.core.reload(record);
                self.version = version;
            }
            Ok(None) => self.begin_again(),
            // It cannot be read either: back to what it last said.
            Err(_) => match self.committed.clone() {
                Some(record) => self.core.reload(record),
                None => self.begin_again(),
            },
        }
        Next::Nothing
    }

    /// The record is gone: instances say hello again, so that stable can be taken from what they hold.
    fn begin_again(&mut self) {
        let lost_before_first_write = self.version == Version::default();
        let beginning = match self.core.record().beginning {
            Beginning::NewFleet if lost_before_first_write => Beginning::NewFleet,
            Beginning::NewFleet | Beginning::RecordMissing => Beginning::RecordMissing,
        };
        let plan = self.core.record().plan.clone();
        self.core = Core::begin(self.name.clone(), plan, beginning);
        self.version = Version::default();
        self.committed = None;
        self.signed = None;
        for connected in self.instances.values_mut() {
            if let Some(link) = connected.link.take() {
                link.cut();
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>, now: Millis) -> Next {
        let mut next = Next::Nothing;
        for action in actions {
            match action {
                Action::SendOrder(Recipients::Everybody) => {
                    let everybody: Vec<InstanceId> = self.instances.keys().cloned().collect();
                    everybody.iter().for_each(|instance| self.send_order(instance, now));
                }
                Action::SendOrder(Recipients::One(instance)) => self.send_order(&instance, now),
                Action::Recompile => next = Next::Recompile,
                Action::Tell(story) => self.tell(Happening::Rollout(story), now),
                Action::Refuse { why, command: _ } => {
                    self.last_refusal = Some(why.clone());
                    self.tell(Happening::Refused(why), now);
                }
            }
        }
        next
    }

    /// Sends the order in force, after the manifests that it names for this instance.
    fn send_order(&mut self, instance: &InstanceId, now: Millis) {
        let (order, envelope) = match self.order_in_force() {
            Ok(Some(signed)) => signed,
            Ok(None) => return,
            Err(error) => return self.trouble(format!("the order could not be signed: {error}"), now),
        };
        let candidate = order.candidate_for(instance).map(|candidate| candidate.revision);
        let Some(link) = self
            .instances
            .get(instance)
            .and_then(|connected| connected.link.clone())
        else {
            return;
        };
        for revision in [Some(order.stable), candidate].into_iter().flatten() {
            match self.revisions.bundles.manifest(&revision) {
                Ok(Some(signed)) => drop(link.send(&Downward::Manifest(signed.envelope))),
                // Asked back from instances with the next look.
                Ok(None) => self.doubt(),
                Err(error) => {
                    self.doubt();
                    self.trouble(error.to_string(), now);
                }
            }
        }
        let _ = link.send(&Downward::Order(envelope)); // cut off: it comes back, or not
    }

    fn order_in_force(&mut self) -> Result<Option<(proto::Order, Bytes)>, SignError> {
        // Nothing is signed that the record does not say, whatever the core has in mind.
        let Some(order) = self.committed.as_ref().and_then(order) else {
            return Ok(None);
        };
        let order = self.proto_order(order);
        if self.signed.as_ref().is_none_or(|(signed, _)| *signed != order) {
            let envelope = self.shared.signers.order(&order)?;
            self.signed = Some((order, envelope));
        }
        Ok(self.signed.clone())
    }

    fn proto_order(&self, order: crate::rollout::Order) -> proto::Order {
        let crate::rollout::Order {
            epoch,
            stable,
            candidate,
            counted,
        } = order;
        let counted: BTreeSet<ObjectKey> = counted.into_iter().take(MAX_COUNTED_SCOPES).collect();
        proto::Order {
            cluster: self.shared.cluster.clone(),
            fleet: self.name.clone(),
            epoch,
            stable,
            candidate: candidate.map(|candidate| proto::Candidate {
                revision: candidate.revision,
                members: match candidate.members {
                    Members::All => proto::Members::All,
                    Members::Listed(members) => proto::Members::only(members),
                },
                share_millionths: candidate.share.0,
            }),
            counted: counted.into_iter().collect(),
        }
    }

    /// An instance said hello. It replaces an older stream of the same instance.
    pub fn opened(&mut self, instance: &InstanceId, hello: Hello, link: Link, now: Millis) -> Next {
        let facts = self.facts(instance, &hello);
        let holds = hello.stable.into_iter().chain(hello.candidate).collect();
        let view = InstanceView {
            instance: instance.clone(),
            fleet: self.name.clone(),
            build: hello.build.clone(),
            connected: true,
            epoch: facts.epoch,
            stable: hello.stable.map(|revision| revision.to_string()),
            candidate: hello.candidate.map(|revision| revision.to_string()),
            since: written(now),
        };
        let connected = Connected {
            link: Some(link),
            hello,
            holds,
            view,
        };
        if let Some(older) = self.instances.insert(instance.clone(), connected)
            && let Some(link) = older.link
        {
            link.refuse(tonic::Status::aborted("another stream of this instance began"));
            link.cut();
        }
        self.may_be_asked_again(instance);
        self.tell(Happening::Joined(instance.clone()), now);
        self.happen(
            Event::Connected {
                instance: instance.clone(),
                facts,
            },
            now,
        )
    }

    /// What an instance holds, as far as the order that it shows proves it.
    fn facts(&self, instance: &InstanceId, hello: &Hello) -> Facts {
        let audience = Audience {
            cluster: self.shared.cluster.clone(),
            fleet: self.name.clone(),
        };
        let shown = hello
            .order
            .as_ref()
            .map(|bytes| open_order(&self.shared.trusted, &audience, bytes));
        match shown {
            None => Facts::default(),
            Some(Ok(order)) => Facts {
                epoch: order.epoch,
                stable: Some(order.stable),
                booted_epoch: hello.booted_epoch,
            },
            Some(Err(error)) => {
                tracing::warn!(%instance, %error, "shows an order that is not ours; nothing of it is believed");
                Facts::default()
            }
        }
    }

    /// An instance's stream ended. Word of a stream that was replaced changes nothing.
    pub fn closed(&mut self, instance: &InstanceId, link: LinkId, now: Millis) -> Next {
        let Some(connected) = self.instances.get_mut(instance) else {
            return Next::Nothing;
        };
        let current = connected.link.as_ref().map(Link::id);
        if current.is_some_and(|current| current != link) {
            return Next::Nothing;
        }
        connected.link = None;
        connected.view.connected = false;
        self.tell(Happening::Left(instance.clone()), now);
        self.happen(Event::Disconnected(instance.clone()), now)
    }

    /// An instance said something over the stream `link`.
    pub fn said(&mut self, instance: &InstanceId, link: LinkId, message: UpwardMessage, now: Millis) -> Next {
        let Some(connected) = self.instances.get_mut(instance) else {
            return Next::Nothing;
        };
        if connected.link.as_ref().map(Link::id) != Some(link) {
            return Next::Nothing; // of a stream that was replaced
        }
        let instance = instance.clone();
        match message {
            UpwardMessage::Ack(ack) => {
                connected.holds = ack.stable.into_iter().chain(ack.candidate).collect();
                connected.view.epoch = ack.epoch;
                connected.view.stable = ack.stable.map(|revision| revision.to_string());
                connected.view.candidate = ack.candidate.map(|revision| revision.to_string());
                let epoch = ack.epoch;
                self.happen(Event::Ack { instance, epoch }, now)
            }
            UpwardMessage::Nack(nack) => {
                let reason = format!("{}: {}", nack.reason.as_str(), nack.detail);
                let epoch = nack.epoch;
                self.happen(
                    Event::Nack {
                        instance,
                        epoch,
                        reason,
                    },
                    now,
                )
            }
            UpwardMessage::Report(report) => match observed::report(instance, report) {
                Some(report) => self.happen(Event::Report(report), now),
                None => Next::Nothing,
            },
            UpwardMessage::Manifest { revision, envelope } => {
                self.handed_manifest((&instance, link), revision, envelope, now)
            }
            UpwardMessage::Section { digest, wire } => self.handed_section((&instance, link), digest, wire, now),
            UpwardMessage::Hello(_) | UpwardMessage::Want(_) => Next::Nothing, // the stream's business
        }
    }

    /// What compile has to know.
    pub fn state(&mut self, now: Millis) -> FleetState {
        self.notice_losses(now);
        let held = self.core.record().held.iter();
        FleetState {
            held: held.map(|held| (held.object.clone(), held.content)).collect(),
            stable: self.stable(now),
        }
    }

    fn stable(&mut self, now: Millis) -> Option<Stable> {
        let revision = self.core.record().stable?;
        if let Some((known, stable)) = &self.stable
            && *known == revision
        {
            return Some(stable.clone());
        }
        match self.read_stable(&revision) {
            Ok(Some(stable)) => {
                self.stable = Some((revision, stable.clone()));
                Some(stable)
            }
            Ok(None) => None,
            Err(error) => {
                self.trouble(error.to_string(), now);
                None
            }
        }
    }

    fn read_stable(&self, revision: &RevisionId) -> Result<Option<Stable>, BundleError> {
        if !self.whole.contains(revision) {
            return Ok(None); // it is being asked back
        }
        let Some(signed) = self.revisions.bundles.manifest(revision)? else {
            return Ok(None);
        };
        let snapshot = self.revisions.bundles.snapshot(&signed.manifest)?;
        let Manifest { sources, .. } = signed.manifest;
        Ok(Some(Stable {
            snapshot: Arc::new(snapshot),
            sources: sources
                .into_iter()
                .map(|source| (source.object, source.origin.into()))
                .collect(),
        }))
    }

    /// Which connected instances do not understand all of `features`, and the first that is lacking.
    pub fn lacking(&self, features: &[String]) -> Option<(usize, String)> {
        let connected = self.instances.values().filter(|connected| connected.link.is_some());
        let lacks = |connected: &Connected| {
            let missing = features
                .iter()
                .find(|feature| !connected.hello.features.contains(feature));
            missing.cloned()
        };
        let missing: Vec<String> = connected.filter_map(lacks).collect();
        missing.first().map(|first| (missing.len(), first.clone()))
    }

    /// Removes revisions that nobody needs. Only while nothing is being tried.
    pub fn collect(&mut self, now: Millis) {
        let record = self.core.record();
        // What is handed back has no manifest until all of it is here.
        let busy = record.rollout.is_some() || record.restoring.is_some() || self.misses_something();
        if busy || record.stable.is_none() {
            return;
        }
        let reported = self
            .instances
            .values()
            .flat_map(|connected| connected.holds.iter().copied())
            .collect();
        let bundles = &self.revisions.bundles;
        let collected = bundles.list().and_then(|present| {
            let keep = to_keep(&present, record, &reported, self.history_limit.max(1));
            if keep.len() < present.len() {
                bundles.collect(&keep)
            } else {
                Ok(0)
            }
        });
        if let Err(error) = collected {
            self.trouble(format!("old revisions could not be removed: {error}"), now);
        }
    }

    /// The greatest revision number ever used, as far as it is known.
    pub fn greatest_number(&self) -> u64 {
        let kept = self.revisions.bundles.list().unwrap_or_default();
        let held = self
            .instances
            .values()
            .flat_map(|connected| connected.holds.iter().map(|revision| revision.number));
        let greatest = kept.iter().map(|(number, _)| *number).chain(held).max().unwrap_or(0);
        greatest.max(self.core.record().greatest_number())
    }

    /// Shows the fleet on the board.
    pub fn show(&mut self, now: Millis) {
        let record: &Record = self.core.record();
        let objects = self
            .stable
            .iter()
            .flat_map(|(_, stable)| stable.snapshot.config().units.keys());
        let config = ConfigView {
            fleet: self.name.clone(),
            epoch: record.epoch,
            stable: record
                .stable
                .map(|revision| format!("{}-{}", revision.number, revision.digest)),
            objects: objects.map(ToString::to_string).collect(),
            quarantined: self.quarantined.iter().map(ToString::to_string).collect(),
        };
        let instances = self
            .instances
            .values()
            .map(|connected| connected.view.clone())
            .collect();
        self.shared.board.show_fleet(self.status(now), config, instances);
    }

    /// Its rollout, as people are shown it.
    pub fn status(&self, now: Millis) -> RolloutStatus {
        self.core.status(now)
    }

    /// Whether it is time to try again what failed.
    pub fn is_due(&self, now: Millis) -> bool {
        self.retry_at.is_some_and(|at| at <= now)
    }

    pub(super) fn trouble(&mut self, trouble: String, now: Millis) {
        if self.trouble.as_ref() != Some(&trouble) {
            self.tell(Happening::Trouble(trouble.clone()), now);
            self.trouble = Some(trouble);
        }
    }

    pub(super) fn tell(&self, happening: Happening, now: Millis) {
        self.shared.telemetry.count(&self.name, &happening);
        self.shared.board.tell(Some(&self.name), happening, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{self, Keys};
    use crate::rollout::Target;
    use sluice_model::Digest;
    use sluice_proto::pb;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn shared(state: &std::path::Path) -> Shared {
        let keys = Keys::open(state).unwrap();
        Shared {
            trusted: keys.trusted().clone(),
            signers: Arc::new(keys.into_signers()),
            board: Arc::new(Board::default()),
            telemetry: Arc::new(Telemetry::new().unwrap()),
            state: state.to_owned(),
            cluster: keys::cluster(state).unwrap(),
        }
    }

    fn fleet(shared: &Shared) -> Fleet {
        let name = "edge".parse().unwrap();
        Fleet::open(shared.clone(), name, Plan::built_in(), Beginning::NewFleet).unwrap()
    }

    type Sent = mpsc::Receiver<Result<pb::Downward, tonic::Status>>;

    fn join(fleet: &mut Fleet) -> Sent {
        let (queue, sent) = mpsc::channel(64);
        let link = Link::new(LinkId(1), queue, CancellationToken::new());
        fleet.opened(&"i-1".parse().unwrap(), Hello::default(), link, NOW);
        sent
    }

    /// The epochs of the orders that were sent.
    fn epochs(fleet: &Fleet, sent: &mut Sent) -> Vec<u64> {
        let audience = Audience {
            cluster: fleet.shared.cluster.clone(),
            fleet: fleet.name.clone(),
        };
        let messages = std::iter::from_fn(|| sent.try_recv().ok());
        let messages = messages.map(|message| Downward::try_from(message.unwrap()).unwrap());
        let orders = messages.filter_map(|message| match message {
            Downward::Order(bytes) => Some(open_order(&fleet.shared.trusted, &audience, &bytes).unwrap().epoch),
            Downward::Manifest(_)
            | Downward::Section { .. }
            | Downward::NotLeader { .. }
            | Downward::LostManifest(_)
            | Downward::LostSections(_) => None,
        });
        orders.collect()
    }

    fn first_target(fleet: &Fleet) -> Event {
        Event::NewTarget(Target {
            revision: RevisionId {
                number: 1,
                digest: Digest([1; 32]),
            },
            basis: fleet.core.record().basis(),
            changed: vec![],
            scopes: vec![],
            still_held: vec![],
        })
    }

    #[test]
    fn a_crash_between_commit_and_send_is_made_good_with_the_committed_order() {
        let state = tempfile::tempdir().unwrap();
        let shared = shared(state.path());
        let mut first = fleet(&shared);
        let mut sent = join(&mut first);
        let event = first_target(&first);
        // What `happen` does, up to where the process dies.
        let outcome = first.core.step(event, NOW);
        assert!(
            outcome.actions.contains(&Action::SendOrder(Recipients::Everybody)),
            "{outcome:?}"
        );
        first.save(NOW).unwrap();
        let committed = first.core.record().epoch;
        assert!(committed > 0);
        assert_eq!(epochs(&first, &mut sent), [0_u64; 0], "it died before it sent anything");
        drop(first);

        let mut second = fleet(&shared);
        assert_eq!(second.core.record().epoch, committed);
        let mut sent = join(&mut second);
        second.happen(Event::Tick, Millis(NOW.0 + 1_000));
        assert_eq!(epochs(&second, &mut sent), [committed], "the committed order, once");
        assert_eq!(second.core.record().epoch, committed, "and no other");
    }

    #[test]
    fn a_crash_before_the_commit_leaves_nothing_to_send() {
        let state = tempfile::tempdir().unwrap();
        let shared = shared(state.path());
        let mut first = fleet(&shared);
        let mut sent = join(&mut first);
        let event = first_target(&first);
        first.core.step(event, NOW);
        // Even if somebody asked it to send: nothing is signed that is not committed.
        first.send_order(&"i-1".parse().unwrap(), NOW);
        assert_eq!(epochs(&first, &mut sent), [0_u64; 0]);
        drop(first);
        let mut second = fleet(&shared);
        assert_eq!(second.core.record().epoch, 0);
        let mut sent = join(&mut second);
        assert_eq!(epochs(&second, &mut sent), [0_u64; 0]);
    }
}
