//! The board: what the pipeline shows to whoever asks (the admin port, `sluice up`, metrics), so that questions never
//! wait for work and work never waits for questions. Written by the pipeline alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use sluice_model::limits::{STORY_BEHIND_LINES, STORY_LINES};
use sluice_model::{FleetName, InstanceId};
use tokio::sync::{broadcast, watch};

use super::situation::{FleetSituation, Situation, Written};
use super::story::{Happening, StoryLine, written};
use crate::problem::Problem;
use crate::rollout::{Millis, RolloutStatus};

/// One instance, as it is connected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// Who.
    pub instance: InstanceId,
    /// Of which fleet.
    pub fleet: FleetName,
    /// Its build.
    pub build: String,
    /// Whether its stream is up.
    pub connected: bool,
    /// The order it has acknowledged.
    pub epoch: u64,
    /// What it says that it serves.
    pub stable: Option<String>,
    /// What it says that it tries.
    pub candidate: Option<String>,
    /// Since when (RFC 3339).
    pub since: String,
    /// Why it is not connected, and what to do, as far as that is known.
    pub reason: Option<String>,
}

/// What serves in one fleet, in short.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigView {
    /// Which fleet.
    pub fleet: FleetName,
    /// The order in force.
    pub epoch: u64,
    /// The proven revision, with its whole digest.
    pub stable: Option<String>,
    /// The objects of the proven revision.
    pub objects: Arc<[String]>,
    /// The objects that do not serve as they are written.
    pub quarantined: Vec<String>,
}

/// Everything that is shown of one fleet.
#[derive(Clone, Debug)]
pub struct FleetShown {
    /// What serves, in short.
    pub config: ConfigView,
    /// Every instance that was connected since the controller started.
    pub instances: Vec<InstanceView>,
    /// What status is made of.
    pub situation: FleetSituation,
}

#[derive(Default)]
struct Shown {
    configs: BTreeMap<FleetName, ConfigView>,
    instances: BTreeMap<FleetName, Vec<InstanceView>>,
    problems: Arc<[Problem]>,
    lines: VecDeque<StoryLine>,
    told: u64,
}

/// See the file's comment.
pub struct Board {
    shown: Mutex<Shown>,
    story: broadcast::Sender<StoryLine>,
    told: watch::Sender<u64>,
    situation: watch::Sender<Arc<Situation>>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Board")
    }
}

impl Default for Board {
    fn default() -> Self {
        Self {
            shown: Mutex::default(),
            story: broadcast::channel(STORY_BEHIND_LINES).0,
            told: watch::channel(0).0,
            situation: watch::channel(Arc::default()).0,
        }
    }
}

impl Board {
    // What is shown is whole after every line that touches it, so a panic elsewhere spoils nothing.
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a line.
    pub(super) fn tell(&self, fleet: Option<&FleetName>, happening: Happening, now: Millis) {
        let mut shown = self.shown();
        shown.told += 1;
        let line = StoryLine {
            sequence: shown.told,
            at: written(now),
            fleet: fleet.cloned(),
            kind: happening.kind(),
            text: happening.to_string(),
            happening,
        };
        let fleet = line.fleet.as_ref().map(FleetName::as_str);
        tracing::info!(fleet, kind = line.kind, "{}", line.text);
        if shown.lines.len() >= STORY_LINES {
            shown.lines.pop_front();
        }
        shown.lines.push_back(line.clone());
        let _ = self.story.send(line); // nobody listens
        self.told.send_replace(shown.told);
    }

    /// Shows fleets, and the objects if they were compiled. Whoever follows the situation sees it change as a whole, and
    /// only if something did.
    pub(super) fn show(&self, fleets: Vec<FleetShown>, written: Option<&Arc<Written>>) {
        let mut situations = Vec::with_capacity(fleets.len());
        let mut shown = self.shown();
        for fleet in fleets {
            let name = fleet.config.fleet.clone();
            shown.configs.insert(name.clone(), fleet.config);
            shown.instances.insert(name.clone(), fleet.instances);
            situations.push((name, fleet.situation));
        }
        drop(shown);
        self.situation.send_if_modified(|now| {
            let is_known = |(name, situation): &(FleetName, FleetSituation)| {
                now.fleets.get(name).is_some_and(|known| known.is_same(situation))
            };
            let same_objects = written.map(Arc::as_ptr) == now.written.as_ref().map(Arc::as_ptr);
            if same_objects && situations.iter().all(is_known) {
                return false;
            }
            let now = Arc::make_mut(now);
            now.written = written.cloned();
            now.fleets.extend(situations);
            true
        });
    }

    /// Forgets the situation: a pipeline begins, and what one before it knew may be long past.
    pub(super) fn begin_anew(&self) {
        self.situation.send_replace(Arc::default());
    }

    /// Shows what is wrong; says whether that is news.
    pub(super) fn show_problems(&self, problems: &Arc<[Problem]>) -> bool {
        let mut shown = self.shown();
        if *shown.problems == **problems {
            return false;
        }
        shown.problems = problems.clone();
        true
    }

    /// The situation, for whoever follows it.
    pub fn situation(&self) -> watch::Receiver<Arc<Situation>> {
        self.situation.subscribe()
    }

    /// Every fleet's rollout, by name.
    pub fn rollouts(&self) -> Vec<RolloutStatus> {
        let situation = self.situation.borrow();
        situation
            .fleets
            .values()
            .map(|fleet| (*fleet.rollout).clone())
            .collect()
    }

    /// One fleet's rollout.
    pub fn rollout(&self, fleet: &FleetName) -> Option<RolloutStatus> {
        let situation = self.situation.borrow();
        situation.fleets.get(fleet).map(|fleet| (*fleet.rollout).clone())
    }

    /// What serves in every fleet.
    pub fn configs(&self) -> Vec<ConfigView> {
        self.shown().configs.values().cloned().collect()
    }

    /// Every instance that was connected since the controller started.
    pub fn instances(&self) -> Vec<InstanceView> {
        self.shown().instances.values().flatten().cloned().collect()
    }

    /// What is wrong with the objects, in the order of the files.
    pub fn problems(&self) -> Vec<Problem> {
        self.shown().problems.to_vec()
    }

    /// The lines after `seq` that are still known.
    pub fn lines_after(&self, seq: u64) -> Vec<StoryLine> {
        let shown = self.shown();
        shown.lines.iter().filter(|line| line.sequence > seq).cloned().collect()
    }

    /// Lines as they are told from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<StoryLine> {
        self.story.subscribe()
    }

    /// Changes with every line; for whoever waits.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_is_bounded_and_in_order() {
        let board = Board::default();
        for _ in 0..STORY_LINES + 5 {
            board.tell(None, Happening::Joined("i-1".parse().unwrap()), Millis(0));
        }
        let lines = board.lines_after(0);
        assert_eq!((lines.len(), lines[0].sequence), (STORY_LINES, 6));
        assert_eq!(board.lines_after(STORY_LINES as u64 + 4).len(), 1);
        assert_eq!(*board.told().borrow(), STORY_LINES as u64 + 5);
    }
}
