//! Follows the situation and writes what statuses are to say: projection → schedule → API server. A task of its own, so
//! that the pipeline never waits for an API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use sluice_crds::CommandStatus;
use sluice_model::limits::{STATUS_LOOK_MS, STATUS_SWEEP_MS, STATUS_WRITE_WAIT_MS, STATUS_WRITES_IN_FLIGHT};
use sluice_model::{Kind, ObjectKey};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::patch;
use super::projection::{Projected, Projection};
use super::schedule::{Answer, Schedule, Write};
use super::turn::{self, Turned};
use super::watched::Watched;
use crate::pipeline::story::written;
use crate::pipeline::{Clock, Situation};
use crate::rollout::Millis;

/// What the writer works with.
pub struct Writer {
    /// Where it writes.
    pub client: Client,
    /// What it follows.
    pub situation: watch::Receiver<Arc<Situation>>,
    /// What the API server shows.
    pub watched: Arc<dyn Watched>,
    /// Answers to commands, by Rollout.
    pub commands: watch::Receiver<BTreeMap<ObjectKey, CommandStatus>>,
    /// Where it tells what became of objects.
    pub turned: mpsc::Sender<Turned>,
    /// What time it is.
    pub clock: Clock,
}

type Done = (Write, Answer, Option<String>);

impl Writer {
    /// Works until `stop`. What is on its way then is given up: somebody else may lead.
    pub async fn run(mut self, stop: CancellationToken) {
        let began = Instant::now();
        let now = || Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let mut projection = Projection::default();
        let mut schedule = Schedule::new(now());
        let mut underway: JoinSet<Done> = JoinSet::new();
        let mut complaints = Complaints::default();
        let mut sweep = tokio::time::interval(Duration::from_millis(STATUS_SWEEP_MS));
        let mut look = Look::Due;
        loop {
            if look == Look::Due {
                look = Look::Rested(Instant::now());
                let situation = self.situation.borrow_and_update().clone();
                let commands = self.commands.borrow_and_update().clone();
                let Projected { contents, rollouts } = projection.project(&situation, &*self.watched, &commands);
                if let Some(contents) = contents {
                    schedule.want(&[Kind::ProxyRoute, Kind::Pool], contents, &*self.watched, now());
                }
                schedule.want(&[Kind::Rollout], rollouts, &*self.watched, now());
            }
            let room = STATUS_WRITES_IN_FLIGHT.saturating_sub(underway.len());
            for write in schedule.due(room, &*self.watched, now()) {
                underway.spawn(send(self.client.clone(), write, written((self.clock)())));
            }
            let has_room = underway.len() < STATUS_WRITES_IN_FLIGHT;
            let next = schedule.next_at(now()).filter(|_| has_room);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.situation.changed(), if look.is_news() => match changed {
                    Ok(()) => look = look.note(),
                    Err(_) => return, // the pipeline ended
                },
                Ok(()) = self.commands.changed(), if look.is_news() => look = look.note(),
                () = tokio::time::sleep_until(look.at()), if !look.is_news() => look = Look::Due,
                Some(Ok((write, answer, why))) = underway.join_next() => {
                    complaints.note(&write, &answer, why);
                    if let Answer::Written(..) = &answer {
                        for turned in turn::of(&write) {
                            let _ = self.turned.try_send(turned); // too much to tell: the statuses say it all
                        }
                    }
                    schedule.wrote(&write, answer, &*self.watched, now());
                }
                () = sleep(next, now()), if next.is_some() => {}
                _ = sweep.tick() => schedule.sweep(&*self.watched, now()),
            }
        }
    }
}

async fn sleep(until: Option<Millis>, now: Millis) {
    let wait = until.map_or(0, |until| until.since(now));
    // A moment at least: what cannot be written although it is due must not make this spin.
    tokio::time::sleep(Duration::from_millis(wait.max(20))).await;
}

async fn send(client: Client, write: Write, at: String) -> Done {
    let wait = Duration::from_millis(STATUS_WRITE_WAIT_MS);
    match tokio::time::timeout(wait, patch::send(&client, &write, &at)).await {
        Ok((answer, why)) => (write, answer, why),
        Err(_) => (write, Answer::Unavailable(None), Some("no answer in time".to_owned())),
    }
}

/// When the situation is looked at: at once when it changes, but not all the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    /// It is time.
    Due,
    /// It was looked at then, and has not changed since.
    Rested(Instant),
    /// It has changed, and is looked at then.
    At(Instant),
}

impl Look {
    /// It has changed.
    fn note(self) -> Self {
        match self {
            Self::Rested(last) => Self::At(last + Duration::from_millis(STATUS_LOOK_MS)),
            Self::Due | Self::At(_) => self,
        }
    }

    /// Whether a change would be news.
    fn is_news(self) -> bool {
        matches!(self, Self::Rested(_))
    }

    fn at(self) -> Instant {
        match self {
            Self::Due => Instant::now(),
            Self::Rested(at) | Self::At(at) => at,
        }
    }
}

/// What was said in the log, so that it is said once.
#[derive(Default)]
struct Complaints {
    told: BTreeSet<String>,
}

impl Complaints {
    fn note(&mut self, write: &Write, answer: &Answer, why: Option<String>) {
        let object = &write.object;
        let why = why.unwrap_or_default();
        let (about, what) = match answer {
            Answer::Written(..) => {
                self.told.remove(&object.to_string());
                self.told.remove("");
                return;
            }
            // It was deleted, or changed: the watch says so in a moment.
            Answer::Gone | Answer::Outdated => return,
            Answer::Unmoved => (
                object.kind.to_string(),
                "the API server keeps a part of what statuses are to say as it was: are the CRDs older than this controller?",
            ),
            Answer::Refused => (
                object.to_string(),
                "its status is refused; somebody else may own a part of it",
            ),
            Answer::Forbidden => (
                format!("{} in {}", object.kind, object.namespace),
                "statuses there may not be written: grant patch on them to the controller",
            ),
            Answer::Unavailable(_) => (String::new(), "statuses cannot be written at the moment"),
        };
        if self.told.insert(about.clone()) {
            tracing::warn!(%object, %why, "{what}");
        }
    }
}
