//! All that a cluster has told, in one place: how each watch fares, our objects, and what they refer to. Pure; the watches
//! and the clock are `run`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_model::limits::SOURCE_SHARES_WAIT_MS;
use sluice_model::{CertificateRef, Kind, Name};

use super::Scope;
use super::assembly::{Assembly, Served, Standing};
use super::health::{self, Health, WatchHealth};
use super::kinds::{Watch, Watched};
use super::live::{Held, Live, Sights};
use super::shown::Shown;
use super::sight::{Heard, Sight, State};
use crate::live::{Lack, Values, Wanted};
use crate::problem::{Effect, Problem, Severity};
use crate::rollout::Millis;
use crate::source::shares::Sharing;
use crate::source::{Area, Coverage, Shares, View};

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Keeper {
    scope: Scope,
    sights: BTreeMap<Watch, Sight>,
    assembly: Assembly,
    live: Live,
    wanted: Arc<Wanted>,
    /// Since when it is waited to know whether Secrets are shared.
    asked_for_shares: Option<Millis>,
    /// What the last view said of what is out of sight.
    last: Option<(Coverage, Shares)>,
}

impl Keeper {
    /// Of nothing yet.
    pub(super) fn begin(scope: Scope, shown: Shown, now: Millis) -> Self {
        let watches = Watch::of(&scope).into_iter();
        Self {
            sights: watches.map(|watch| (watch, Sight::begin(now))).collect(),
            assembly: Assembly::new(scope.controller.clone(), shown),
            live: Live::default(),
            wanted: Arc::default(),
            asked_for_shares: None,
            last: None,
            scope,
        }
    }

    /// Takes in what `watch` tells. How it stands is told to people when that changes.
    pub(super) fn take(&mut self, watch: &Watch, heard: Heard, now: Millis) {
        if let Some(sight) = self.sights.get_mut(watch) {
            let before = sight.state(now);
            sight.note(&heard, now);
            tell(watch, &before, &sight.state(now));
        }
        match watch.watched {
            Watched::Namespace | Watched::Object(_) => self.assembly.take(watch, heard, now),
            Watched::Service | Watched::EndpointSlice => self.live.take(watch, heard, now),
        }
    }

    /// Takes in what the watch of one Secret tells.
    pub(super) fn take_secret(&mut self, secret: &CertificateRef, heard: Heard<Held>, now: Millis) {
        self.live.take_secret(secret, heard, now);
    }

    /// What is wanted from now on.
    pub(super) fn want(&mut self, wanted: Arc<Wanted>) {
        self.wanted = wanted.clone();
        self.live.want(wanted);
    }

    /// The Secrets that are to be followed: those that are wanted, and those that somebody has to share.
    pub(super) fn secrets(&self) -> BTreeSet<CertificateRef> {
        let mut secrets = self.assembly.foreign_secrets();
        secrets.extend(self.wanted.secrets().cloned());
        secrets.retain(|secret| self.scope.lacks_secrets_of(&secret.namespace).is_none());
        secrets
    }

    /// Follows exactly these Secrets; those that are new are returned.
    pub(super) fn follow(&mut self, secrets: &BTreeSet<CertificateRef>, now: Millis) -> Vec<CertificateRef> {
        self.live.follow(secrets, now)
    }

    /// The kinds of which it is to be asked whether they are still served.
    pub(super) fn doubted_kinds(&self, now: Millis) -> BTreeSet<Kind> {
        let is_seen = |kind| {
            let mut of_kind = self
                .sights
                .iter()
                .filter(|(watch, _)| watch.watched == Watched::Object(kind));
            of_kind.any(|(_, sight)| sight.state(now) == State::Seen)
        };
        self.assembly.doubted_kinds(is_seen, now)
    }

    /// The API server was asked at `asked_at` which kinds it serves, and says this.
    pub(super) fn answered(&mut self, served: &BTreeMap<Kind, Served>, asked_at: Millis) {
        for (kind, served) in served {
            self.assembly.answered(*kind, *served, asked_at);
        }
    }

    /// The greatest version that was seen of our kinds.
    pub(super) fn newest(&self) -> u64 {
        self.assembly.newest()
    }

    /// The API server's history was set back: it is all read anew.
    pub(super) fn set_back(&mut self) {
        self.assembly.set_back();
        self.live.set_back();
    }

    /// Whether it looks as if that had happened: lists show what is older than it is known, and nothing newer comes.
    pub(super) fn looks_set_back(&self, now: Millis) -> bool {
        self.assembly.looks_set_back(now) || self.live.looks_set_back(now)
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, now: Millis) {
        self.assembly.pass(now);
    }

    /// The values as they are now.
    pub(super) fn values(&mut self, now: Millis) -> Arc<Values> {
        let sights = At {
            sights: &self.sights,
            now,
        };
        self.live.values(&sights, &self.scope, now)
    }

    /// Whether every kind was seen, or it is known why not: before that there is no view.
    pub(super) fn is_settled(&self, now: Millis) -> bool {
        self.sights.values().all(|sight| sight.state(now) != State::Waiting)
    }

    /// Whether the view is another one than the last.
    pub(super) fn is_changed(&mut self, now: Millis) -> bool {
        let changed = self.assembly.take_changed();
        let now = (self.coverage(now), self.shares(now));
        changed || self.last.as_ref() != Some(&now)
    }

    /// Whether a view had better wait: an object names a Secret of another namespace, and whether it may will be known in a
    /// moment.
    pub(super) fn waits_for_shares(&mut self, now: Millis) -> bool {
        let not_yet = self
            .shares(now)
            .known
            .into_values()
            .any(|sharing| sharing == Sharing::NotYet);
        if !not_yet {
            self.asked_for_shares = None;
            return false;
        }
        let since = *self.asked_for_shares.get_or_insert(now);
        now.since(since) < SOURCE_SHARES_WAIT_MS
    }

    /// What is seen, as it is now.
    pub(super) fn view(&mut self, now: Millis) -> View {
        let (coverage, shares) = (self.coverage(now), self.shares(now));
        self.last = Some((coverage.clone(), shares.clone()));
        let mut problems = self.assembly.problems();
        problems.extend(self.unseen(now));
        View {
            objects: self.assembly.objects().clone(),
            problems,
            coverage,
            cluster: Some(self.assembly.cluster().clone()),
            shares: Arc::new(shares),
        }
    }

    fn shares(&self, now: Millis) -> Shares {
        self.live.shares(&self.assembly.foreign_secrets(), &self.scope, now)
    }

    fn coverage(&self, now: Millis) -> Coverage {
        let lost = self.sights.iter().filter(|(_, sight)| sight.state(now) != State::Seen);
        let mut areas: BTreeSet<Area> = lost.filter_map(|(watch, _)| watch.area()).collect();
        let gone = Kind::ALL
            .into_iter()
            .filter(|kind| self.assembly.standing(*kind) == Standing::Gone);
        areas.extend(gone.map(|kind| Area { kind, namespace: None }));
        if areas.is_empty() {
            Coverage::Whole
        } else {
            Coverage::Without(areas)
        }
    }

    /// Why what cannot be seen cannot be seen, and what serves meanwhile.
    fn unseen(&self, now: Millis) -> Vec<Problem> {
        let of_watches = self.sights.iter().filter_map(|(watch, sight)| {
            let lack = lack(watch, sight, now)?;
            // Of a kind that is gone one Problem is enough, whatever its watches say.
            let is_gone = watch
                .area()
                .is_some_and(|area| self.assembly.standing(area.kind) == Standing::Gone);
            (!is_gone).then(|| cannot_be_seen(&watch.to_string(), lack))
        });
        let gone = Kind::ALL
            .into_iter()
            .filter(|kind| self.assembly.standing(*kind) == Standing::Gone);
        let gone = gone.map(|kind| {
            cannot_be_seen(
                &format!("{kind}s"),
                Lack::new(
                    "the API server has no such kind: its CRD is not installed, or is being deleted",
                    "install the CRDs: kubectl apply --server-side -f crds/; objects that were deleted with it have to be applied again",
                ),
            )
        });
        of_watches.chain(gone).collect()
    }

    /// How it all fares.
    pub(super) fn health(&self, is_shown: bool, now: Millis) -> Health {
        let watches = self.sights.iter().map(|(watch, sight)| WatchHealth {
            kind: watch.watched.plural(),
            namespace: watch.namespace.clone(),
            state: match (sight.state(now), lack(watch, sight, now)) {
                (State::Seen, _) => health::State::Seen,
                (State::Waiting, _) | (State::Lost(_), None) => health::State::Waiting,
                (State::Lost(_), Some(lack)) => health::State::Lost(lack),
            },
            objects: self.assembly.count(watch) + self.live.count(watch),
            heard_at: sight.heard_at(),
        });
        Health {
            is_ready: is_shown,
            watches: watches.collect(),
            secrets: self.live.secrets(),
        }
    }
}

/// How the watches stand at one moment.
struct At<'a> {
    sights: &'a BTreeMap<Watch, Sight>,
    now: Millis,
}

impl Sights for At<'_> {
    fn seen(&self, watched: Watched, namespace: &Name) -> Result<bool, Lack> {
        let watch = |namespace: Option<Name>| Watch { watched, namespace };
        let found = [watch(None), watch(Some(namespace.clone()))];
        let found = found
            .into_iter()
            .find_map(|watch| Some((self.sights.get(&watch)?, watch)));
        let Some((sight, watch)) = found else {
            return Err(Lack::new(
                format!("namespace {namespace} is not one that the controller watches"),
                "add it to the namespaces to watch",
            ));
        };
        match (sight.was_seen(), lack(&watch, sight, self.now)) {
            // What was seen is used as it was.
            (true, _) => Ok(true),
            (false, None) => Ok(false),
            (false, Some(lack)) => Err(Lack::new(format!("{watch} cannot be seen: {}", lack.message), lack.fix)),
        }
    }
}

fn lack(watch: &Watch, sight: &Sight, now: Millis) -> Option<Lack> {
    match sight.state(now) {
        State::Waiting | State::Seen => None,
        State::Lost(trouble) => Some(trouble.lack(watch)),
    }
}

fn cannot_be_seen(what: &str, lack: Lack) -> Problem {
    let problem = Problem::of_source(
        Severity::Error,
        format!("{what} cannot be seen: {}", lack.message),
        lack.fix,
    );
    Problem {
        effect: Some(Effect::FileAsBefore),
        ..problem
    }
}

fn tell(watch: &Watch, before: &State, now: &State) {
    if before == now {
        return;
    }
    match now {
        State::Waiting => {}
        State::Seen => tracing::info!(%watch, "seen"),
        State::Lost(trouble) => {
            let Lack { message, fix } = trouble.lack(watch);
            tracing::warn!(%watch, "cannot be seen: {message}; {fix}");
        }
    }
}
