//! Where the present content of an object stands: in service everywhere, tried at a stage, waiting, held back, in error.
//! Pure. What cannot be told at the moment is `None`, and whatever was said before stays.

use std::collections::BTreeMap;

use sluice_model::unit::Unit;
use sluice_model::{Digest, FleetName, Kind, ObjectKey, RevisionId};
use sluice_proto::sections::unit_digest;

use crate::compile::Reason as Why;
use crate::pipeline::situation::{Extent, Knowledge, Obstacle, Served, Situation, Spread, StableContent, Written};
use crate::problem::{Effect, Problem};
use crate::translate::{Item, Meaning};
use crate::validate::Governed;

/// See the file's comment. Later ones weigh more, where an object stands differently in several fleets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// Every instance that counts has acknowledged it.
    Live(RevisionId),
    /// Everybody is ordered to serve it; some have not acknowledged.
    Ordered(RevisionId),
    /// The instances of a stage try it.
    Carried {
        /// In which revision.
        revision: RevisionId,
        /// The stage's name.
        stage: String,
        /// Its number, from 1.
        index: usize,
        /// How many there are.
        of: usize,
    },
    /// No route refers to it.
    NotUsed,
    /// It waits.
    Waiting(Waiting),
    /// Its removal, or the removal of its hosts, awaits consent.
    AwaitsConsent,
    /// Something is wrong with it.
    Quarantined(Effect),
    /// It did harm.
    Held {
        /// In which revision.
        revision: RevisionId,
        /// What convicted it, and where.
        why: String,
    },
}

/// What a content waits for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Waiting {
    /// Nothing that keeps it from being next.
    Turn,
    /// An instance.
    NoInstances,
    /// Somebody to resume.
    Paused,
    /// Somebody to retry.
    Frozen,
    /// Another content: this revision failed, with no object to blame.
    Blocked(RevisionId),
    /// Something else, which this says.
    Withheld(String),
    /// A Rollout that is in order, for this fleet.
    NoRollout(FleetName),
    /// The Rollout of this fleet, which is gone. Instances serve on what they have.
    RolloutGone(FleetName),
}

/// Whether this content was in service everywhere when it was last looked at. Then it is as long as nobody is ordered to
/// serve another: instances that come later are not ready before they hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Before {
    /// It was.
    Live,
    /// It was not, or nobody knows.
    Other,
}

/// A situation, with what is asked of it for every object.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The situation.
    pub situation: &'a Situation,
    written: &'a Written,
    problems: BTreeMap<&'a ObjectKey, Vec<&'a Problem>>,
    /// Whether every route means something: a pool that none refers to is not used.
    all_is_read: bool,
}

impl<'a> Scene<'a> {
    /// `None` before anything was compiled.
    pub fn of(situation: &'a Situation) -> Option<Self> {
        let written = situation.written.as_deref()?;
        let mut problems: BTreeMap<&ObjectKey, Vec<&Problem>> = BTreeMap::new();
        for problem in written.problems.iter() {
            if let Some(object) = &problem.object {
                problems.entry(object).or_default().push(problem);
            }
        }
        let items = written.translation.items.values();
        let mut routes = items.filter(|item| item.object.key.kind == Kind::ProxyRoute);
        Some(Self {
            situation,
            written,
            problems,
            all_is_read: routes.all(|item| item.meaning.is_some()),
        })
    }

    /// The objects.
    pub fn items(&self) -> &'a BTreeMap<ObjectKey, Item> {
        &self.written.translation.items
    }

    /// What is wrong with an object.
    pub fn problems(&self, key: &ObjectKey) -> &[&'a Problem] {
        self.problems.get(key).map_or(&[], Vec::as_slice)
    }
}

/// Where `item` stands, given what is wrong with it.
pub fn of(item: &Item, problems: &[&Problem], scene: &Scene<'_>, before: Before) -> Option<Standing> {
    let key = &item.object.key;
    if let Some(error) = problems.iter().find(|problem| problem.is_error()) {
        return Some(Standing::Quarantined(error.effect.unwrap_or(Effect::NotServed)));
    }
    let unit = item.meaning.as_ref()?.unit().as_ref();
    let in_fleet = |fleet: &FleetName, served: &Served| match served.chosen.governed {
        Governed::ByRollout => in_fleet(key, unit, served, before),
        Governed::ByNobody => Some(Standing::Waiting(Waiting::RolloutGone(fleet.clone()))),
    };
    match item.meaning.as_ref()?.fleet() {
        Some(fleet) => match scene.situation.fleets.get(fleet) {
            Some(known) => in_fleet(fleet, &known.served),
            None => Some(Standing::Waiting(Waiting::NoRollout(fleet.clone()))),
        },
        None => {
            let uses = |(_, served): &(&FleetName, &Served)| {
                served.chosen.sources.contains_key(key) || served.chosen.quarantined.contains_key(key)
            };
            let fleets = scene.situation.fleets.iter();
            let fleets = fleets.map(|(name, fleet)| (name, fleet.served.as_ref()));
            let mut used = fleets.filter(uses).peekable();
            if used.peek().is_none() {
                // As long as a route cannot be read, it may be the one.
                return scene.all_is_read.then_some(Standing::NotUsed);
            }
            let standings: Option<Vec<Standing>> = used.map(|(fleet, served)| in_fleet(fleet, served)).collect();
            standings?.into_iter().max()
        }
    }
}

fn in_fleet(key: &ObjectKey, unit: &Unit, served: &Served, before: Before) -> Option<Standing> {
    if let Some(held) = held(key, unit, served) {
        return Some(held);
    }
    if let Some(quarantined) = served.chosen.quarantined.get(key) {
        return match quarantined.reason {
            Why::AwaitsConsent => Some(Standing::AwaitsConsent),
            Why::Error | Why::Needed => Some(Standing::Quarantined(quarantined.serving)),
            Why::Unseen => None,
            // No longer held, or not yet compiled again.
            Why::Held => Some(waiting(served)),
        };
    }
    let Some(StableContent { revision, snapshot }) = &served.stable else {
        return Some(waiting(served));
    };
    let tried = served.tried.as_deref();
    if let Some((tried, content)) = tried.and_then(|tried| Some((tried, tried.changed.get(key)?))) {
        let is_it = *content == Some(unit_digest(key, unit));
        return match (is_it, tried.extent) {
            (false, _) => Some(waiting(served)),
            (true, Extent::All) => ordered(tried.revision, served, Before::Other),
            (true, Extent::Some) => Some(Standing::Carried {
                revision: tried.revision,
                stage: tried.stage.clone(),
                index: tried.index,
                of: tried.of,
            }),
        };
    }
    let is_stable = snapshot.as_ref()?.unit(key) == Some(unit);
    if is_stable {
        ordered(*revision, served, before)
    } else {
        Some(waiting(served))
    }
}

/// What everybody is ordered to serve. Of instances that are not known yet nothing is said.
fn ordered(revision: RevisionId, served: &Served, before: Before) -> Option<Standing> {
    match (before, served.knowledge, served.spread) {
        (Before::Live, _, _) | (_, Knowledge::Complete, Spread::Acknowledged) => Some(Standing::Live(revision)),
        (Before::Other, Knowledge::Gathering | Knowledge::Counted, _) => None,
        (Before::Other, Knowledge::Complete, Spread::Awaited) => Some(Standing::Ordered(revision)),
        (Before::Other, Knowledge::Complete, Spread::Nobody) => Some(Standing::Waiting(Waiting::NoInstances)),
    }
}

fn held(key: &ObjectKey, unit: &Unit, served: &Served) -> Option<Standing> {
    let mut of_object = served.held.iter().filter(|held| held.object == *key).peekable();
    of_object.peek()?;
    let content: Option<Digest> = Some(unit_digest(key, unit));
    let held = of_object.find(|held| held.content == content)?;
    Some(Standing::Held {
        revision: held.revision,
        why: format!("{} at stage {}", held.failure, held.stage),
    })
}

fn waiting(served: &Served) -> Standing {
    Standing::Waiting(match &served.obstacle {
        Obstacle::Turn => Waiting::Turn,
        Obstacle::Paused => Waiting::Paused,
        Obstacle::Frozen => Waiting::Frozen,
        Obstacle::Blocked(revision) => Waiting::Blocked(*revision),
        Obstacle::Withheld(why) => Waiting::Withheld(why.clone()),
        Obstacle::NoInstances => Waiting::NoInstances,
    })
}

/// The fleets that an object belongs to or is used by, for messages.
pub fn fleet_of(item: &Item) -> Option<&FleetName> {
    item.meaning.as_ref().and_then(Meaning::fleet)
}
