//! Compile: what all objects mean → for each fleet one checked `Snapshot`, with quarantine.
//!
//! Each object is handled on its own. One with an Error contributes its last good form from the stable revision, with
//! what that form refers to, or nothing if it never had one; so do a held content and an object that could not be
//! seen. Everything else goes through. What cannot be told apart so keeps stable as a whole: the last resort.

mod brake;
mod choice;
mod difference;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_model::unit::{PoolSource, Unit};
use sluice_model::{CheckError, Config, Digest, FleetName, Kind, ObjectKey, ServiceRef, Snapshot};

use crate::live::RemovalBrake;
use crate::members::{Memberships, members_seen};
use crate::problem::{Effect, FieldPath, Place, Problem, Severity};
use crate::rollout::{InsteadOf, Scope};
use crate::source::{Coverage, Trust, View};
use crate::translate::{FleetPlan, Meaning, Translation, translate};
use crate::validate::{Governed, Governing, ServingFleet, validate};

pub use brake::CONSENT_ANNOTATION;
pub use choice::{Quarantined, Reason};
pub use difference::{ChangedObject, Listed};

use choice::{Chooser, Form};

/// How often culprits are lifted out before the whole is given up. Each round lifts out at least one object.
const CHECK_ROUNDS: usize = 64;

/// Names the content of one unit: its encoding's digest.
pub type UnitDigest = fn(&ObjectKey, &Unit) -> Digest;

/// What serves a fleet now, and where it came from.
#[derive(Clone, Debug)]
pub struct Stable {
    /// The proven revision.
    pub snapshot: Arc<Snapshot>,
    /// Which file (or other source) its objects were read from, as far as that is known: a revision that was handed back
    /// comes without.
    pub sources: BTreeMap<ObjectKey, Arc<str>>,
}

impl Stable {
    fn serving<'a>(&'a self, view: &View) -> ServingFleet<'a> {
        let hidden = |key: &&ObjectKey| view.coverage.hides(key) && !view.objects.contains(key);
        ServingFleet {
            snapshot: &self.snapshot,
            unseen: self.snapshot.config().units.keys().filter(hidden).collect(),
        }
    }
}

/// What is gone from files that can be read, while others cannot: it may have moved there, so that its removal waits.
fn perhaps_moved(view: &View, stables: &BTreeMap<FleetName, Stable>) -> Option<Problem> {
    let Coverage::Except(files) = &view.coverage else {
        return None;
    };
    let gone = |(key, source): &(&ObjectKey, &Arc<str>)| !view.objects.contains(key) && !files.contains(*source);
    let sources = stables.values().flat_map(|stable| &stable.sources);
    let missing: BTreeMap<&ObjectKey, &Arc<str>> = sources.filter(gone).collect();
    let (object, source) = missing.first_key_value()?;
    let more = match missing.len() - 1 {
        0 => String::new(),
        more => format!(", as are {more} more from the folder,"),
    };
    Some(Problem::of_file(
        Severity::Warning,
        Place::file(files.first()?),
        format!("{object} is gone from {source}{more} and may have moved into this file, which cannot be read"),
        "mend this file or delete it: until then nothing is removed, and what is gone keeps serving",
    ))
}

/// What compile must know about a fleet.
#[derive(Clone, Debug, Default)]
pub struct FleetState {
    /// What serves now; `None` before the first revision.
    pub stable: Option<Stable>,
    /// Contents that a rollback holds back; `None` is the object's absence.
    pub held: BTreeSet<(ObjectKey, Option<Digest>)>,
}

/// What the objects of one fleet compile to.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What to serve; `None` while the fleet has nothing complete and never had, or while too little can be seen to say.
    pub snapshot: Option<Snapshot>,
    /// The objects whose content differs from stable's.
    pub changed: Vec<ChangedObject>,
    /// The routes to count on their own, with the changed objects that can affect them.
    pub scopes: Vec<Scope>,
    /// The held objects whose content is still the held one, or cannot be told.
    pub still_held: Vec<ObjectKey>,
    /// Whether stable serves any route.
    pub instead_of: InsteadOf,
    /// Which file (or other source) each object of the snapshot was read from.
    pub sources: BTreeMap<ObjectKey, Arc<str>>,
    /// The objects that do not serve as they are written, and why.
    pub quarantined: Vec<Quarantined>,
    /// The Rollout that says how the fleet listens, in whatever form; `None` if there is none.
    pub governing: Option<ObjectKey>,
    /// Whether there still is a Rollout for it: the form of one that was deleted goes on saying how the fleet listens.
    pub governed: Governed,
    /// How changes reach the fleet; `None` if its Rollout cannot be read or is missing: keep the plan there was.
    pub plan: Option<FleetPlan>,
}

impl Compiled {
    /// What is told and kept of what it changes: a bounded list.
    pub fn listed_changes(&self) -> Listed<'_> {
        difference::listed(&self.changed, &self.scopes)
    }
}

/// What all objects compile to.
#[derive(Clone, Debug)]
pub struct Output {
    /// Every fleet that an object names or that serves already.
    pub fleets: BTreeMap<FleetName, Compiled>,
    /// Everything that is wrong, in the order of the files.
    pub problems: Vec<Problem>,
    /// How a sudden loss of a service's endpoints is doubted, as the pools that use it say.
    pub brakes: BTreeMap<ServiceRef, RemovalBrake>,
}

/// Compiles views, one after the other; remembers the last one so that the cost of the next follows what changed.
#[derive(Debug)]
pub struct Compiler {
    digest: UnitDigest,
    translation: Arc<Translation>,
    /// Who belonged to which fleet when it last looked.
    memberships: Option<Memberships>,
}

impl Compiler {
    /// One that names contents by `digest`.
    pub fn new(digest: UnitDigest) -> Self {
        Self {
            digest,
            translation: Arc::default(),
            memberships: None,
        }
    }

    /// What the objects of `view` mean for every fleet, given what serves in `fleets` now. Never fails.
    pub fn compile(&mut self, view: &View, fleets: &BTreeMap<FleetName, FleetState>) -> Output {
        self.translation = Arc::new(translate(&view.objects, view.cluster.as_deref(), &self.translation));
        let stable = |(name, state): (&'_ FleetName, &'_ FleetState)| Some((name.clone(), state.stable.clone()?));
        let stables: BTreeMap<FleetName, Stable> = fleets.iter().filter_map(stable).collect();
        let serving = stables
            .iter()
            .map(|(name, stable)| (name, stable.serving(view)))
            .collect();
        let governing = Governing::of(&self.translation, view, &serving);
        if let Some(cluster) = &view.cluster {
            self.memberships = members_seen(view, &cluster.controller, self.memberships.as_ref());
        }
        let nobody = Memberships::default();
        let members = view
            .cluster
            .as_ref()
            .map(|_| self.memberships.as_ref().unwrap_or(&nobody));
        let mut problems: Vec<Problem> = view.problems.clone();
        problems.extend(perhaps_moved(view, &stables));
        problems.extend(self.translation.problems().cloned());
        problems.extend(
            members
                .into_iter()
                .flat_map(|members| members.problems().iter().cloned()),
        );
        let found = validate(&self.translation, view, &serving, &governing, members);
        problems.extend(found.problems);
        let unknown = FleetState::default();
        let mut out = BTreeMap::new();
        for name in self.fleets(fleets) {
            let state = fleets.get(&name).unwrap_or(&unknown);
            let chooser = Chooser::new(
                (&name, state),
                view,
                &self.translation,
                &governing,
                (&problems, found.refused.get(&name)),
                self.digest,
            );
            let (compiled, more) = compile_fleet(chooser);
            problems.extend(more);
            out.insert(name, trusted(view, state, compiled));
        }
        tell_effects(&mut problems, &out);
        problems.sort();
        problems.dedup();
        Output {
            fleets: out,
            problems,
            brakes: self.brakes(),
        }
    }

    /// What the objects compiled last mean, one by one.
    pub fn translation(&self) -> &Arc<Translation> {
        &self.translation
    }

    /// Who belonged to which fleet when it last looked; `None` before, and without a cluster.
    pub fn memberships(&self) -> Option<&Memberships> {
        self.memberships.as_ref()
    }

    fn brakes(&self) -> BTreeMap<ServiceRef, RemovalBrake> {
        let mut brakes: BTreeMap<ServiceRef, RemovalBrake> = BTreeMap::new();
        for item in self.translation.items.values() {
            if let Some(Meaning::Pool { unit, brake }) = &item.meaning
                && let Unit::Pool(pool) = unit.as_ref()
                && let PoolSource::Service(service) = &pool.source
            {
                let careful = brakes.get(service).map_or(*brake, |other| other.stricter(*brake));
                brakes.insert(service.clone(), careful);
            }
        }
        brakes
    }

    fn fleets(&self, states: &BTreeMap<FleetName, FleetState>) -> BTreeSet<FleetName> {
        let meanings = self.translation.items.values().filter_map(|item| item.meaning.as_ref());
        meanings
            .filter_map(Meaning::fleet)
            .chain(states.keys())
            .cloned()
            .collect()
    }
}

fn compile_fleet(mut chooser: Chooser<'_>) -> (Compiled, Vec<Problem>) {
    let mut problems = Vec::new();
    for _ in 0..CHECK_ROUNDS {
        let forms = chooser.choose(&mut problems);
        match Snapshot::check(config(&forms)) {
            Ok(snapshot) => return (finished(&chooser, &forms, Some(snapshot)), problems),
            Err(errors) if chooser.lift_out(&errors, &mut problems) => {}
            Err(errors) => return (given_up(&chooser, &errors, &mut problems), problems),
        }
    }
    (given_up(&chooser, &[], &mut problems), problems)
}

/// What may be signed of it: nothing is built on a view that lacks too much.
fn trusted(view: &View, state: &FleetState, compiled: Compiled) -> Compiled {
    match (view.coverage.trust(), &state.stable) {
        (Trust::Full, _) | (Trust::InPart, Some(_)) => compiled,
        (Trust::InPart, None) | (Trust::Nothing, _) => Compiled {
            snapshot: None,
            changed: vec![],
            scopes: vec![],
            ..compiled
        },
    }
}

fn config(forms: &BTreeMap<ObjectKey, Form>) -> Config {
    forms
        .iter()
        .map(|(key, form)| (key.clone(), form.unit.clone()))
        .collect()
}

/// Nothing could be blamed, so everything stays as it is.
fn given_up(chooser: &Chooser<'_>, errors: &[CheckError], problems: &mut Vec<Problem>) -> Compiled {
    let forms = chooser.stable_forms();
    let stable = chooser.stable_snapshot().cloned();
    // A fleet that has nothing yet is told about its missing Rollout by `validate`.
    if stable.is_some() {
        problems.extend(errors.iter().map(|error| of_fleet(chooser.fleet, error)));
    }
    finished(chooser, &forms, stable)
}

fn of_fleet(fleet: &FleetName, error: &CheckError) -> Problem {
    Problem {
        place: None,
        object: error.object.clone(),
        field: FieldPath::default(),
        severity: Severity::Error,
        message: format!("fleet {fleet} cannot be compiled: {}", error.message),
        fix: "mend it; until then the stable revision keeps serving as a whole".into(),
        effect: None,
    }
}

fn finished(chooser: &Chooser<'_>, forms: &BTreeMap<ObjectKey, Form>, snapshot: Option<Snapshot>) -> Compiled {
    let stable = chooser.stable_snapshot();
    let (changed, scopes) = match &snapshot {
        Some(snapshot) => {
            let changed = difference::changed(stable, snapshot, chooser.digest);
            let scopes = difference::scopes(snapshot, &changed);
            (changed, scopes)
        }
        None => (vec![], vec![]),
    };
    Compiled {
        sources: forms
            .iter()
            .map(|(key, form)| (key.clone(), form.source.clone()))
            .collect(),
        snapshot,
        changed,
        scopes,
        still_held: chooser.still_held(),
        instead_of: match stable {
            Some(stable) if stable.routes().next().is_none() => InsteadOf::Nothing,
            Some(_) | None => InsteadOf::Routes,
        },
        quarantined: chooser.quarantined(forms),
        governing: forms.keys().find(|key| key.kind == Kind::Rollout).cloned(),
        governed: chooser.governed(),
        plan: chooser.plan(),
    }
}

/// Says of every object with an Error what serves in its place.
fn tell_effects(problems: &mut [Problem], fleets: &BTreeMap<FleetName, Compiled>) {
    let mut effects: BTreeMap<&ObjectKey, Effect> = BTreeMap::new();
    for quarantined in fleets.values().flat_map(|compiled| &compiled.quarantined) {
        let effect = effects.entry(&quarantined.object).or_insert(quarantined.serving);
        *effect = (*effect).min(quarantined.serving);
    }
    for problem in problems.iter_mut().filter(|problem| problem.is_error()) {
        let Some(object) = &problem.object else { continue };
        // A pool that nobody uses and a Rollout without a fleet serve nowhere, and are in no fleet's list.
        let unlisted = if object.kind == Kind::Pool {
            None
        } else {
            Some(Effect::NotServed)
        };
        problem.effect = effects.get(object).copied().or(unlisted);
    }
}

#[cfg(test)]
mod tests;
