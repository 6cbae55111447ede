//! The one task that owns what is known: it takes in what the watches tell, one thing after the other, and shows what came
//! of it. Values are shown at once; views when objects are at rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kube::Client;
use sluice_model::CertificateRef;
use sluice_model::limits::{SOURCE_SIGHTINGS, SOURCE_VIEW_QUIET_MS};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::follow::{Line, Told};
use super::health::Health;
use super::keeper::Keeper;
use super::kinds::Watch;
use super::shown::Shown;
use super::{Scope, ask, follow};
use crate::debounce::Debounce;
use crate::live::{Values, Wanted};
use crate::rollout::Millis;
use crate::source::View;

/// How often time alone is looked at: what waits for it waits for seconds.
const LOOK_MS: u64 = 250;

/// Where it is shown what is known, and where it is said what is wanted.
pub(super) struct Shows {
    pub(super) views: watch::Sender<Option<Arc<View>>>,
    pub(super) values: watch::Sender<Arc<Values>>,
    pub(super) health: watch::Sender<Arc<Health>>,
    pub(super) shown: Shown,
    pub(super) wanted: watch::Receiver<Arc<Wanted>>,
}

/// See the file's comment.
pub(super) struct Run {
    keeper: Keeper,
    shows: Shows,
    line: Line,
    heard: mpsc::Receiver<Told>,
    anew: watch::Sender<u64>,
    newest: Arc<AtomicU64>,
    tasks: JoinSet<()>,
    secrets: BTreeMap<CertificateRef, AbortHandle>,
    beginnings: Arc<Semaphore>,
    debounce: Debounce,
    is_asking: bool,
    is_shown: bool,
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Run {
    /// Begins to watch what `scope` says.
    pub(super) fn begin(client: Client, scope: Scope, shows: Shows) -> Self {
        let (told, heard) = mpsc::channel(SOURCE_SIGHTINGS);
        let (anew, begin_anew) = watch::channel(0);
        let line = Line {
            client,
            told,
            anew: begin_anew,
        };
        let newest = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for watch in Watch::of(&scope) {
            tasks.spawn(follow::kind(line.clone(), watch));
        }
        tasks.spawn(ask::history(line.clone(), scope.controller.clone(), newest.clone()));
        Self {
            keeper: Keeper::begin(scope, shows.shown.clone(), now()),
            shows,
            line,
            heard,
            anew,
            newest,
            tasks,
            secrets: BTreeMap::new(),
            beginnings: follow::beginnings(),
            debounce: Debounce::new(SOURCE_VIEW_QUIET_MS),
            is_asking: false,
            is_shown: false,
        }
    }

    /// Works until `stop`, or until nobody looks any more. Everything that it began ends with it.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(Duration::from_millis(LOOK_MS));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.shows.views.is_closed() {
            let rest = self.debounce.left_ms(now());
            tokio::select! {
                () = stop.cancelled() => return,
                Some(told) = self.heard.recv() => self.take(told),
                wanted = self.shows.wanted.changed() => match wanted {
                    Ok(()) => self.keeper.want(self.shows.wanted.borrow_and_update().clone()),
                    Err(_) => return,
                },
                () = tokio::time::sleep(Duration::from_millis(rest.unwrap_or(0))), if rest.is_some() => {
                    self.show_view();
                }
                // Tasks end when nobody listens; those of Secrets also when they are not wanted any more.
                Some(_) = self.tasks.join_next() => {}
                _ = look.tick() => self.pass(),
            }
            self.look();
        }
    }

    /// Takes in what was told, and what else waits: one look is enough for all of it.
    fn take(&mut self, told: Told) {
        let mut next = Some(told);
        for _ in 0..SOURCE_SIGHTINGS {
            let Some(told) = next else { break };
            match told {
                Told::Watch(watch, heard) => self.keeper.take(&watch, heard, now()),
                Told::Secret(secret, heard) => self.keeper.take_secret(&secret, heard, now()),
                Told::SetBack => self.set_back(),
                Told::Served(asked_at, served) => {
                    self.is_asking = false;
                    if let Some(served) = served {
                        self.keeper.answered(&served, asked_at);
                    }
                }
            }
            next = self.heard.try_recv().ok();
        }
        self.newest.store(self.keeper.newest(), Ordering::Release);
    }

    fn pass(&mut self) {
        let now = now();
        self.keeper.pass(now);
        if self.keeper.looks_set_back(now) {
            self.set_back();
        }
    }

    fn set_back(&mut self) {
        tracing::warn!(
            "the API server's history was set back, as when its database is restored; everything is read anew"
        );
        self.keeper.set_back();
        self.anew.send_modify(|times| *times += 1);
    }

    /// Does and shows what follows from what is known now.
    fn look(&mut self) {
        let now = now();
        self.follow_secrets(now);
        self.ask(now);
        let values = self.keeper.values(now);
        self.shows.values.send_if_modified(|shown| {
            let differs = !Arc::ptr_eq(shown, &values);
            if differs {
                *shown = values;
            }
            differs
        });
        if self.keeper.is_settled(now) && self.keeper.is_changed(now) {
            self.debounce.note(now);
        }
        let health = self.keeper.health(self.is_shown, now);
        self.shows.health.send_if_modified(|shown| {
            let differs = **shown != health;
            if differs {
                *shown = Arc::new(health);
            }
            differs
        });
    }

    fn show_view(&mut self) {
        let now = now();
        if self.keeper.waits_for_shares(now) {
            return; // it is looked again in a moment
        }
        self.debounce.clear();
        self.shows.views.send_replace(Some(Arc::new(self.keeper.view(now))));
        self.is_shown = true;
    }

    fn follow_secrets(&mut self, now: Millis) {
        let secrets = self.keeper.secrets();
        self.secrets.retain(|secret, task| {
            let wanted = secrets.contains(secret);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for secret in self.keeper.follow(&secrets, now) {
            let task = follow::secret(self.line.clone(), secret.clone(), self.beginnings.clone());
            self.secrets.insert(secret, self.tasks.spawn(task));
        }
    }

    /// Asks whether the kinds of what is said to be deleted are still served.
    fn ask(&mut self, now: Millis) {
        if !self.is_asking && !self.keeper.doubted_kinds(now).is_empty() {
            self.is_asking = true;
            self.tasks.spawn(ask::served(self.line.clone(), now));
        }
    }
}
