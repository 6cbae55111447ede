//! Situation → what every object's status is to say, of all of which anything can be told. Remembers what was live when it
//! last looked, so that an object stays so while others move.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::DynamicObject;
use sluice_crds::CommandStatus;
use sluice_model::{FleetName, Kind, ObjectKey};

use super::content::{self, Serves, Subject};
use super::desired::{Desired, Truth, Weight};
use super::fleet;
use super::reason::Reason;
use super::references;
use super::standing::{self, Before, Scene, Standing, Waiting, fleet_of};
use super::watched::{Watched, condition, status, text};
use crate::objects::Stored;
use crate::pipeline::Situation;
use crate::pipeline::situation::{FleetSituation, Knowledge};

/// See the file's comment.
#[derive(Default, Debug)]
pub struct Projection {
    remembered: BTreeMap<ObjectKey, Remembered>,
    /// What the routes and pools were looked at in.
    looked_at: Option<Situation>,
}

/// What statuses are to say.
#[derive(Default, Debug)]
pub struct Projected {
    /// Of routes and pools; `None`: as before, since nothing that they depend on changed.
    pub contents: Option<BTreeMap<ObjectKey, Desired>>,
    /// Of Rollouts.
    pub rollouts: BTreeMap<ObjectKey, Desired>,
}

/// Whether routes and pools stand where they stood. While a stage is watched, only the Rollout's figures move.
fn stands_still(before: &Situation, now: &Situation) -> bool {
    let written = |situation: &Situation| situation.written.as_ref().map(Arc::as_ptr);
    let same = |(name, fleet): (&FleetName, &FleetSituation)| {
        let known = before.fleets.get(name);
        known.is_some_and(|known| {
            Arc::ptr_eq(&known.served, &fleet.served) && Arc::ptr_eq(&known.rotation, &fleet.rotation)
        })
    };
    written(before) == written(now) && before.fleets.len() == now.fleets.len() && now.fleets.iter().all(same)
}

/// An object as it was at the last look.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Remembered {
    uid: Arc<str>,
    generation: i64,
    /// The revision with which its content came into service everywhere, if it is.
    live_in: Option<String>,
    /// The same of the last content that was, whichever this is: what serves while this one does not.
    last_live_in: Option<String>,
}

impl Projection {
    /// What statuses are to say in `situation`. `commands` are answers that are not in the statuses yet.
    pub fn project(
        &mut self,
        situation: &Situation,
        watched: &dyn Watched,
        commands: &BTreeMap<ObjectKey, CommandStatus>,
    ) -> Projected {
        let Some(scene) = Scene::of(situation) else {
            return Projected::default(); // nothing was compiled yet
        };
        let still = self
            .looked_at
            .as_ref()
            .is_some_and(|before| stands_still(before, situation));
        let contents = (!still).then(|| self.contents(&scene, watched));
        self.looked_at = Some(situation.clone());
        let rollouts = subjects(&scene).filter(|subject| subject.item.object.key.kind == Kind::Rollout);
        let rollouts = rollouts.filter_map(|subject| {
            let desired = rollout(&scene, subject, watched, commands)?;
            Some((subject.item.object.key.clone(), desired))
        });
        Projected {
            contents,
            rollouts: rollouts.collect(),
        }
    }

    fn contents(&mut self, scene: &Scene<'_>, watched: &dyn Watched) -> BTreeMap<ObjectKey, Desired> {
        let items = scene.items();
        self.remembered.retain(|key, _| items.contains_key(key));
        let mut all = BTreeMap::new();
        let mut crowds: BTreeMap<Option<&FleetName>, usize> = BTreeMap::new();
        for subject in subjects(scene).filter(|subject| subject.item.object.key.kind != Kind::Rollout) {
            let Some(desired) = self.content(scene, subject, watched) else {
                continue;
            };
            if let Weight::Passing { .. } = desired.weight {
                *crowds.entry(fleet_of(subject.item)).or_default() += 1;
            }
            all.insert(subject.item.object.key.clone(), desired);
        }
        // Says of everything that passes how much of its fleet passes with it.
        for (key, desired) in &mut all {
            if let (Weight::Passing { crowd }, Some(item)) = (&mut desired.weight, items.get(key)) {
                *crowd = crowds.get(&fleet_of(item)).copied().unwrap_or(0);
            }
        }
        all
    }

    fn content(&mut self, scene: &Scene<'_>, subject: Subject<'_>, watched: &dyn Watched) -> Option<Desired> {
        let key = &subject.item.object.key;
        let stored = subject.stored;
        let before = match self.remembered.get(key).filter(|known| known.uid == stored.uid) {
            Some(known) => Some(known.clone()),
            None => watched.object(key).and_then(|object| as_shown(&object)),
        };
        let last = before.as_ref().and_then(|before| before.last_live_in.clone());
        let before = before.filter(|before| before.generation == stored.generation);
        let live_since = before.and_then(|before| before.live_in);
        let latch = if live_since.is_some() {
            Before::Live
        } else {
            Before::Other
        };
        let standing = standing::of(subject.item, subject.problems, scene, latch)?;
        let resolved = references::resolved(subject, scene)?;
        let live_in = match &standing {
            Standing::Live(revision) => Some(live_since.unwrap_or_else(|| revision.to_string())),
            // Its instances are let in no more, and serve it on.
            Standing::Waiting(Waiting::RolloutGone(_)) => live_since,
            Standing::Ordered(_)
            | Standing::Carried { .. }
            | Standing::NotUsed
            | Standing::Waiting(_)
            | Standing::AwaitsConsent
            | Standing::Quarantined(_)
            | Standing::Held { .. } => None,
        };
        let last_live_in = live_in.clone().or(last);
        let now = Remembered {
            uid: stored.uid.clone(),
            generation: stored.generation,
            live_in: live_in.clone(),
            last_live_in: last_live_in.clone(),
        };
        self.remembered.insert(key.clone(), now);
        // What is in error, or did harm, says where the form is from that serves in its place.
        let shown = match content::serves(&standing) {
            Serves::LastGood => last_live_in,
            Serves::AsWritten | Serves::Nothing => live_in,
        };
        Some(match key.kind {
            Kind::Pool => {
                let rotation = content::rotation(subject.item, &standing, scene.situation);
                content::pool(subject, &standing, resolved, rotation)
            }
            Kind::ProxyRoute | Kind::Rollout => content::route(subject, &standing, resolved, shown),
        })
    }
}

/// The objects that an API server stores.
fn subjects<'a>(scene: &'a Scene<'a>) -> impl Iterator<Item = Subject<'a>> {
    scene.items().iter().filter_map(|(key, item)| {
        Some(Subject {
            item,
            stored: item.object.stored.as_ref()?,
            problems: scene.problems(key),
        })
    })
}

/// What an object was, as its status says; of one that was never written about nothing.
fn as_shown(object: &DynamicObject) -> Option<Remembered> {
    let status = status(object);
    let programmed = condition(status, "Programmed")?;
    // Of a pool it is not shown, and nothing depends on which it was.
    let live_in = text(status, "liveIn").unwrap_or_default();
    // Also while its fleet has no Rollout: who wrote that has not taken it away.
    let is_kept = text(programmed, "reason") == Some(Reason::NoRollout.as_str()) && !live_in.is_empty();
    let is_live = is_kept || text(programmed, "status") == Some(Truth::True.as_str());
    let shown = Some(live_in.to_owned());
    Some(Remembered {
        uid: object.metadata.uid.as_deref()?.into(),
        generation: programmed.get("observedGeneration")?.as_i64()?,
        live_in: shown.clone().filter(|_| is_live),
        last_live_in: shown.filter(|shown| !shown.is_empty()),
    })
}

fn rollout(
    scene: &Scene<'_>,
    subject: Subject<'_>,
    watched: &dyn Watched,
    commands: &BTreeMap<ObjectKey, CommandStatus>,
) -> Option<Desired> {
    let key = &subject.item.object.key;
    let command = commands.get(key).cloned().or_else(|| answered(&*watched.object(key)?));
    let governs = |fleet: &&FleetSituation| fleet.served.chosen.rollout() == Some(key);
    let fleets = &scene.situation.fleets;
    if let Some(fleet) = fleets.values().find(governs) {
        return match fleet.served.knowledge {
            // Who is missing may be about to connect: what was said stays, but a person is answered.
            Knowledge::Gathering => as_before(subject.stored, &*watched.object(key)?, commands.get(key)?),
            Knowledge::Counted | Knowledge::Complete => Some(fleet::governing(subject, fleet, command)),
        };
    }
    let governed = fleet_of(subject.item).and_then(|fleet| fleets.get(fleet));
    let by = governed.and_then(|fleet| fleet.served.chosen.rollout());
    let is_wrong = subject.problems.iter().any(|problem| problem.is_error());
    (by.is_some() || is_wrong).then(|| fleet::not_governing(subject, by, command))
}

/// The answer that a Rollout's status has.
pub fn answered(object: &DynamicObject) -> Option<CommandStatus> {
    serde_json::from_value(status(object).get("command")?.clone()).ok()
}

/// The status that is there, with another answer.
fn as_before(stored: &Stored, object: &DynamicObject, command: &CommandStatus) -> Option<Desired> {
    Desired::as_shown(stored, status(object), command)
}
