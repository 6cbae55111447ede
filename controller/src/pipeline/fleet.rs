//! One fleet: its rollout core, its record and revisions, and the way to its instances. Carries out what the core asks,
//! in the one order that is safe: commit the record, then send.
//!
//! Here is what a fleet consists of and that order; writing the record, speaking with instances, the live lane, getting
//! back what was lost and showing it all have a file each.

mod delivery;
mod hand_back;
mod live;
mod record_keeping;
mod signatures;
mod standing;
mod turned_away;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use sluice_model::limits::TROUBLE_QUIET_MS;
use sluice_model::{Digest, FleetName, InstanceId, LiveSubject, ObjectKey, RevisionId};
use sluice_proto::{self as proto, Audience, Hello, KeySet};

use super::board::{Board, InstanceView};
use super::story::Happening;
use crate::compile::Stable;
use crate::live::Lane;
use crate::revisions::{BundleError, LoadError, Remote, Revisions, Version};
use crate::rollout::{Action, Beginning, Commit, Core, Event, Millis, Outcome, Plan, Recipients, Record, Story};
use crate::sign::Signers;
use crate::stream::Link;
use crate::telemetry::Telemetry;

use hand_back::Lost;
use standing::Standings;
use turned_away::TurnedAway;

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
    /// What outlives it, if it does not outlive this process.
    pub remote: Option<Arc<dyn Remote>>,
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
    /// What it holds of the live lane, or was sent.
    values: BTreeMap<LiveSubject, Digest>,
    view: InstanceView,
}

/// Whether what outlives the state folder is still what was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kept {
    /// As far as anybody knows.
    AsWritten,
    /// Somebody wrote or put back the record: the rest is looked for.
    Perhaps,
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
    /// Who would be connected, and is not let in.
    turned_away: TurnedAway,
    /// The order in force as it was signed.
    signed: Option<(proto::Order, Bytes)>,
    /// Content of stable, and where its objects came from.
    stable: Option<(RevisionId, Stable)>,
    /// Content of the revision that was offered last, in case it becomes stable: it need not be read again then, and
    /// shares with the objects what it has of them.
    offered: Option<(RevisionId, Stable)>,
    /// Revisions that orders may name and that are here in full.
    whole: BTreeSet<RevisionId>,
    /// Those that are not.
    lost: BTreeMap<RevisionId, Lost>,
    lane: Lane,
    /// What revisions in force refer to on the live lane.
    subjects: BTreeMap<RevisionId, BTreeSet<LiveSubject>>,
    /// What the objects refer to as they are written.
    written: BTreeSet<LiveSubject>,
    /// What the source is asked about.
    wanted: BTreeSet<LiveSubject>,
    /// That has changed since the lane was looked at.
    wants_anew: bool,
    /// Since when a revision waits for what it refers to.
    unanswered_since: Option<Millis>,
    progress_since: Option<Millis>,
    /// Why the record cannot be written, told once.
    unwritten: Option<String>,
    /// Whether what should outlive the state folder may have been taken away behind our back.
    kept: Kept,
    /// What else does not work, and when it was last met.
    troubles: BTreeMap<String, Millis>,
    /// When to make a revision again after that failed: a full disk has room again without any object changing.
    pub(super) retry_at: Option<Millis>,
    pub(super) history_limit: usize,
    pub(super) quarantined: Vec<ObjectKey>,
    /// Why what the objects compile to is not offered.
    pub(super) withheld: Option<String>,
    /// Why the last command was not carried out, until it is answered.
    pub(super) last_refusal: Option<String>,
    /// Whether the last command asked for what already was.
    pub(super) was_already_so: bool,
    /// Whether there was no record when this controller began with the fleet.
    began_here: bool,
    standings: Standings,
    /// The objects of a stable revision, as people are shown them.
    listed: Option<(RevisionId, Arc<[String]>)>,
}

impl Fleet {
    /// The fleet called `name`, with the record that it has, or as one that has none.
    ///
    /// # Errors
    /// A record that is there but cannot be read is an error, never "none".
    pub fn open(
        shared: Shared,
        name: FleetName,
        plan: Plan,
        beginning: Beginning,
        now: Millis,
    ) -> Result<Self, FleetError> {
        let audience = Audience {
            cluster: shared.cluster.clone(),
            fleet: name.clone(),
        };
        let lane = Lane::begin(audience.clone(), now);
        let revisions = Revisions::open(&shared.state, shared.trusted.clone(), audience, shared.remote.clone())?;
        let loaded = revisions.load_record()?;
        let began_here = loaded.is_none();
        let (core, version, committed) = match loaded {
            Some((record, version)) => (Core::resume(record.clone()), version, Some(record)),
            None => (Core::begin(name.clone(), plan, beginning), Version::default(), None),
        };
        let fleet = Self {
            shared,
            name,
            core,
            version,
            committed,
            revisions,
            instances: BTreeMap::new(),
            turned_away: TurnedAway::default(),
            signed: None,
            stable: None,
            offered: None,
            whole: BTreeSet::new(),
            lost: BTreeMap::new(),
            lane,
            subjects: BTreeMap::new(),
            written: BTreeSet::new(),
            wanted: BTreeSet::new(),
            wants_anew: false,
            unanswered_since: None,
            progress_since: None,
            unwritten: None,
            kept: Kept::AsWritten,
            troubles: BTreeMap::new(),
            retry_at: None,
            history_limit: 10,
            quarantined: vec![],
            withheld: None,
            last_refusal: None,
            was_already_so: false,
            began_here,
            standings: Standings::default(),
            listed: None,
        };
        fleet.sign_anew();
        Ok(fleet)
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
                Action::Tell(story) => {
                    self.was_already_so |= matches!(story, Story::AlreadySo(_));
                    self.tell(Happening::Rollout(story), now);
                }
                Action::Refuse { why, command: _ } => {
                    self.last_refusal = Some(why.clone());
                    self.tell(Happening::Refused(why), now);
                }
            }
        }
        next
    }

    /// Whether it is time to try again what failed.
    pub fn is_due(&self, now: Millis) -> bool {
        self.retry_at.is_some_and(|at| at <= now)
    }

    /// Says what does not work, once for as long as it goes on.
    pub(super) fn trouble(&mut self, trouble: String, now: Millis) {
        self.troubles.retain(|_, met| now.since(*met) < TROUBLE_QUIET_MS);
        if self.troubles.insert(trouble.clone(), now).is_none() {
            self.tell(Happening::Trouble(trouble), now);
        }
    }

    pub(super) fn tell(&self, happening: Happening, now: Millis) {
        self.shared.telemetry.count(&self.name, &happening);
        self.shared.board.tell(Some(&self.name), happening, now);
    }
}

#[cfg(test)]
mod remote_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{self, Keys};
    use crate::pipeline::commands::{self, Answer};
    use crate::rollout::{Command, InsteadOf, Target, Verb};
    use crate::stream::LinkId;
    use sluice_proto::{Downward, open_order, pb};
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    pub(super) const NOW: Millis = Millis(1_800_000_000_000);

    pub(super) fn shared(state: &std::path::Path) -> Shared {
        let keys = Keys::open(state).unwrap();
        Shared {
            trusted: keys.trusted().clone(),
            signers: Arc::new(keys.into_signers()),
            board: Arc::new(Board::default()),
            telemetry: Arc::new(Telemetry::new().unwrap()),
            state: state.to_owned(),
            remote: None,
            cluster: keys::cluster(state).unwrap(),
        }
    }

    pub(super) fn fleet(shared: &Shared) -> Fleet {
        let name = "edge".parse().unwrap();
        Fleet::open(shared.clone(), name, Plan::built_in(), Beginning::NewFleet, NOW).unwrap()
    }

    pub(super) type Sent = mpsc::Receiver<Result<pb::Downward, tonic::Status>>;

    pub(super) fn join(fleet: &mut Fleet) -> Sent {
        let (queue, sent) = mpsc::channel(64);
        let link = Link::new(LinkId(1), queue, CancellationToken::new());
        fleet.opened(&"i-1".parse().unwrap(), Hello::default(), link, NOW);
        sent
    }

    /// The epochs of the orders that were sent.
    pub(super) fn epochs(fleet: &Fleet, sent: &mut Sent) -> Vec<u64> {
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
            | Downward::Live(_)
            | Downward::LostManifest(_)
            | Downward::LostSections(_) => None,
        });
        orders.collect()
    }

    pub(super) fn first_target(fleet: &Fleet) -> Event {
        Event::NewTarget(Target {
            revision: RevisionId {
                number: 1,
                digest: Digest([1; 32]),
            },
            basis: fleet.core.record().basis(),
            changed: vec![],
            scopes: vec![],
            unlisted: 0,
            still_held: vec![],
            instead_of: InsteadOf::Routes,
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

    fn command(fleet: &mut Fleet, verb: Verb, revision: RevisionId) -> Answer {
        let command = Command {
            verb,
            revision,
            actor: "ada".to_owned(),
            reason: String::new(),
            id: None,
        };
        commands::command_fleet(fleet, command, NOW).0
    }

    #[test]
    fn a_command_that_could_not_be_written_is_not_done() {
        let state = tempfile::tempdir().unwrap();
        let shared = shared(state.path());
        let mut first = fleet(&shared);
        let _sent = join(&mut first);
        first.happen(first_target(&first), NOW);
        let revision = first.core.record().stable.unwrap();
        let command = |fleet: &mut Fleet, verb| command(fleet, verb, revision);
        // Somebody else writes the record meanwhile.
        let mut second = fleet(&shared);
        let paused = command(&mut second, Verb::Pause);
        assert!(matches!(paused, Answer::Done(_)), "{paused:?}");
        second.happen(Event::PlanChanged(Plan::built_in()), NOW);
        second.save(NOW).unwrap();
        let refused = command(&mut first, Verb::Pause);
        assert!(
            matches!(&refused, Answer::Refused(why) if why.contains("the record was not written")),
            "{refused:?}"
        );
        let resumed = command(&mut first, Verb::Resume);
        assert!(
            matches!(resumed, Answer::Done(_)),
            "what is written now is done: {resumed:?}"
        );
        assert!(first.core.record().paused.is_none());
    }

    #[test]
    fn a_command_that_changes_nothing_says_so() {
        let state = tempfile::tempdir().unwrap();
        let mut fleet = fleet(&shared(state.path()));
        let _sent = join(&mut fleet);
        fleet.happen(first_target(&fleet), NOW);
        let revision = fleet.core.record().stable.unwrap();
        let mut answer = |verb| command(&mut fleet, verb, revision);
        for (verb, expected) in [
            (
                Verb::Promote,
                "nothing to do: no rollout is in progress, and 1-01010101 is stable",
            ),
            (Verb::Resume, "nothing to do: it is not paused"),
            (Verb::Retry, "nothing to do: nothing is held or blocked"),
        ] {
            let said = answer(verb);
            assert!(
                matches!(&said, Answer::AlreadySo(_, why) if why == expected),
                "{said:?}"
            );
        }
        assert!(matches!(answer(Verb::Pause), Answer::Done(_)));
        let again = answer(Verb::Pause);
        assert!(
            matches!(&again, Answer::AlreadySo(_, why) if why == "nothing to do: it is paused already"),
            "{again:?}"
        );
        assert!(
            matches!(answer(Verb::Resume), Answer::Done(_)),
            "a refusal is not remembered"
        );
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
