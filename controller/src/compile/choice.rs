//! Which form of each object a fleet serves: the one that is written, the last good one, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use sluice_model::unit::{Rule, Unit};
use sluice_model::{CheckError, Digest, FleetName, Kind, ObjectKey, Snapshot};

use super::{FleetState, UnitDigest, brake};
use crate::problem::{Effect, FieldPath, Problem, Severity};
use crate::source::View;
use crate::translate::{FleetPlan, Item, Meaning, Translation};
use crate::validate::{Governed, Governing, Serves};

/// The form of an object that is served.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub(super) unit: Arc<Unit>,
    pub(super) source: Arc<str>,
    /// Why it is the last good one; `None` if it is as written.
    pub(super) instead: Option<Reason>,
}

/// Why an object does not serve as it is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum Reason {
    /// Something is wrong with it; Problems say what.
    Error,
    /// A rollback holds its present content back.
    Held,
    /// It could not be seen: a file that is not readable at the moment holds it, or may.
    Unseen,
    /// What the last good form of another object refers to.
    Needed,
    /// Its removal, or the removal of its hosts, awaits consent.
    AwaitsConsent,
}

/// An object that does not serve as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Quarantined {
    /// Which object.
    pub object: ObjectKey,
    /// Why.
    pub reason: Reason,
    /// What serves instead.
    pub serving: Effect,
}

/// How far an object has been pushed back because it did not fit the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lifted {
    ToLastGood,
    Out,
}

/// Chooses the forms of one fleet's objects.
pub(super) struct Chooser<'a> {
    pub(super) fleet: &'a FleetName,
    pub(super) digest: UnitDigest,
    state: &'a FleetState,
    view: &'a View,
    translation: &'a Translation,
    governing: &'a Governing<'a>,
    /// Objects with an Error, and those that this fleet alone does not take.
    errors: BTreeSet<&'a ObjectKey>,
    /// The pools that this fleet alone does not take.
    refused: Option<&'a BTreeSet<ObjectKey>>,
    /// Objects that did not fit the others.
    lifted: BTreeMap<ObjectKey, Lifted>,
    /// Objects whose removal awaits consent.
    braked: BTreeSet<ObjectKey>,
}

/// What is written about an object, and whether it counts.
enum Written<'a> {
    /// This.
    Counts(&'a Item, &'a Arc<Unit>),
    /// Something that does not count.
    Not(Reason),
    /// Nothing, or something for another fleet.
    Nothing,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(
        (fleet, state): (&'a FleetName, &'a FleetState),
        view: &'a View,
        translation: &'a Translation,
        governing: &'a Governing<'a>,
        (problems, refused): (&[Problem], Option<&'a BTreeSet<ObjectKey>>),
        digest: UnitDigest,
    ) -> Self {
        let wrong: BTreeSet<&ObjectKey> = problems
            .iter()
            .filter(|problem| problem.is_error())
            .filter_map(|problem| problem.object.as_ref())
            .collect();
        let wrong = translation.items.keys().filter(|key| wrong.contains(key));
        let errors = wrong.chain(refused.into_iter().flatten()).collect();
        Self {
            fleet,
            digest,
            state,
            view,
            translation,
            governing,
            errors,
            refused,
            lifted: BTreeMap::new(),
            braked: BTreeSet::new(),
        }
    }

    /// Whether the objects are a cluster's.
    pub(super) fn is_in_cluster(&self) -> bool {
        self.view.cluster.is_some()
    }

    pub(super) fn stable_snapshot(&self) -> Option<&'a Snapshot> {
        self.state.stable.as_ref().map(|stable| stable.snapshot.as_ref())
    }

    pub(super) fn rollouts(&self) -> impl Iterator<Item = &'a Item> {
        let fleet = self.fleet;
        let governs = move |item: &&Item| match &item.meaning {
            Some(Meaning::Rollout { fleet: governed, .. }) => governed == fleet,
            Some(Meaning::Route { .. } | Meaning::Pool { .. }) | None => false,
        };
        self.translation.items.values().filter(governs)
    }

    /// Whether there is a Rollout for the fleet.
    pub(super) fn governed(&self) -> Governed {
        self.governing.governs(self.fleet)
    }

    /// The plan of the Rollout that governs. Its stages may be mended while its listeners are held back.
    pub(super) fn plan(&self) -> Option<FleetPlan> {
        let good = |item: &&Item| !self.errors.contains(&item.object.key);
        match &self.rollouts().find(good)?.meaning {
            Some(Meaning::Rollout { plan, .. }) => Some(plan.clone()),
            Some(Meaning::Route { .. } | Meaning::Pool { .. }) | None => None,
        }
    }

    /// The forms to serve, pools included.
    pub(super) fn choose(&mut self, problems: &mut Vec<Problem>) -> BTreeMap<ObjectKey, Form> {
        let mut forms = self.forms_without_pools();
        self.braked.clear();
        if let Some(told) = brake::apply(self, &mut forms) {
            self.braked = told.kept;
            problems.retain(|problem| !told.problems.contains(problem));
            problems.extend(told.problems);
        }
        loop {
            match self.add_pools(&forms) {
                Ok(pools) => {
                    forms.extend(pools);
                    return forms;
                }
                Err((route, pool)) => self.push_back(&route, &pool, &mut forms, problems),
            }
        }
    }

    fn forms_without_pools(&self) -> BTreeMap<ObjectKey, Form> {
        let written = self.translation.items.keys();
        let served = self
            .stable_snapshot()
            .into_iter()
            .flat_map(|snapshot| snapshot.config().units.keys());
        let keys: BTreeSet<&ObjectKey> = written.chain(served).filter(|key| key.kind != Kind::Pool).collect();
        let (rollouts, routes): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.kind == Kind::Rollout);
        let mut forms: BTreeMap<ObjectKey, Form> = routes
            .into_iter()
            .filter_map(|key| Some((key.clone(), self.form(key)?)))
            .collect();
        forms.extend(self.governing(&rollouts));
        forms
    }

    /// A fleet listens as one Rollout says: the written one that counts, or else as it did.
    fn governing(&self, keys: &[&ObjectKey]) -> Option<(ObjectKey, Form)> {
        let forms = || keys.iter().filter_map(|key| Some(((*key).clone(), self.form(key)?)));
        let deleted = || {
            keys.iter()
                .filter_map(|key| Some(((*key).clone(), self.last_good(key, Reason::Needed)?)))
        };
        forms()
            .find(|(_, form)| form.instead.is_none())
            .or_else(|| forms().next())
            .or_else(|| deleted().next())
    }

    /// The form of one object, or `None` if it serves in no form.
    fn form(&self, key: &ObjectKey) -> Option<Form> {
        match (self.lifted.get(key), self.written(key)) {
            (Some(Lifted::Out), _) | (None, Written::Nothing) => None,
            (Some(Lifted::ToLastGood), _) => self.last_good(key, Reason::Error),
            (None, Written::Not(reason)) => self.last_good(key, reason),
            (None, Written::Counts(item, unit)) => Some(Form {
                unit: unit.clone(),
                source: item.object.source(),
                instead: None,
            }),
        }
    }

    fn written(&self, key: &ObjectKey) -> Written<'a> {
        let Some(item) = self.translation.items.get(key) else {
            return self.absent(key);
        };
        let Some(meaning) = &item.meaning else {
            return Written::Not(Reason::Error);
        };
        if self.is_elsewhere(item) {
            return self.removed(key);
        }
        // Of an object that stands in two places the first serves as long as there is no last good form.
        let ambiguous = item
            .problems
            .iter()
            .all(|problem| !problem.is_error() || !item.object.also_in.is_empty());
        let only_ambiguous =
            ambiguous && !item.object.also_in.is_empty() && self.last_good(key, Reason::Error).is_none();
        if self.errors.contains(key) && !only_ambiguous {
            return Written::Not(Reason::Error);
        }
        match self.is_held(key, Some(meaning.unit())) {
            true => Written::Not(Reason::Held),
            false => Written::Counts(item, meaning.unit()),
        }
    }

    fn absent(&self, key: &ObjectKey) -> Written<'a> {
        let was_there = self.stable_snapshot().is_some_and(|stable| stable.unit(key).is_some());
        if was_there && self.view.coverage.hides(key) {
            return Written::Not(Reason::Unseen);
        }
        self.removed(key)
    }

    /// An object that this fleet has no more.
    fn removed(&self, key: &ObjectKey) -> Written<'a> {
        if self.is_held(key, None) {
            Written::Not(Reason::Held)
        } else {
            Written::Nothing
        }
    }

    /// Whether it is an object of another fleet, or a route of a namespace that this one's Rollout does not select.
    fn is_elsewhere(&self, item: &Item) -> bool {
        match &item.meaning {
            Some(Meaning::Route { fleet, .. }) if fleet == self.fleet => {
                self.governing.serves(fleet, &item.object.key.namespace) == Serves::No
            }
            Some(Meaning::Route { fleet, .. } | Meaning::Rollout { fleet, .. }) => fleet != self.fleet,
            Some(Meaning::Pool { .. }) | None => false,
        }
    }

    /// Held is what an object *means* (its unit's digest), not how its author spelt it: the unit is what was served and
    /// did harm. So another spelling of the same stays held, and what means something else is another content, also when
    /// a newer controller makes it of the same text. That is a change of its own, and is tried stage by stage like any.
    fn is_held(&self, key: &ObjectKey, unit: Option<&Arc<Unit>>) -> bool {
        let mut held = self.state.held.iter().filter(|(held, _)| held == key).peekable();
        if held.peek().is_none() {
            return false;
        }
        let content: Option<Digest> = unit.map(|unit| (self.digest)(key, unit));
        held.any(|(_, held)| *held == content)
    }

    /// The last good form of an object, if it has one.
    pub(super) fn last_good(&self, key: &ObjectKey, reason: Reason) -> Option<Form> {
        let stable = self.state.stable.as_ref()?;
        let unit = stable.snapshot.config().units.get(key)?;
        let source = stable.sources.get(key).cloned().unwrap_or_else(|| "".into());
        Some(Form {
            unit: unit.clone(),
            source,
            instead: Some(reason),
        })
    }

    /// Everything as it is served now.
    pub(super) fn stable_forms(&self) -> BTreeMap<ObjectKey, Form> {
        let units = self
            .stable_snapshot()
            .into_iter()
            .flat_map(|snapshot| snapshot.config().units.keys());
        units
            .filter_map(|key| Some((key.clone(), self.last_good(key, Reason::Needed)?)))
            .collect()
    }

    /// The pools that the routes in `forms` refer to, or the first route that refers to one that has no form.
    fn add_pools(
        &self,
        forms: &BTreeMap<ObjectKey, Form>,
    ) -> Result<BTreeMap<ObjectKey, Form>, (ObjectKey, ObjectKey)> {
        let mut pools = BTreeMap::new();
        for (key, form) in forms {
            for pool in pools_of(&form.unit) {
                if !pools.contains_key(pool) {
                    let form = self.form(pool).or_else(|| self.last_good(pool, Reason::Needed));
                    pools.insert(pool.clone(), form.ok_or_else(|| (key.clone(), pool.clone()))?);
                }
            }
        }
        Ok(pools)
    }

    /// A route whose pool has no form that could serve falls back to its own last good form, or out.
    fn push_back(
        &mut self,
        route: &ObjectKey,
        pool: &ObjectKey,
        forms: &mut BTreeMap<ObjectKey, Form>,
        problems: &mut Vec<Problem>,
    ) {
        let message = format!("{pool} has no form that can be served");
        self.lift(route, "spec.rules", message, &format!("mend {pool}"), problems);
        match self.form(route) {
            Some(form) => drop(forms.insert(route.clone(), form)),
            None => drop(forms.remove(route)),
        }
    }

    /// Pushes back what `errors` blame. `false` if they blame nothing that could be pushed back.
    pub(super) fn lift_out(&mut self, errors: &[CheckError], problems: &mut Vec<Problem>) -> bool {
        let mut lifted = false;
        for error in errors {
            let Some(object) = &error.object else { continue };
            if self.lifted.get(object) != Some(&Lifted::Out) {
                let field = format!("spec.{}", error.field);
                self.lift(object, field.trim_end_matches('.'), error.message.clone(), "", problems);
                lifted = true;
            }
        }
        lifted
    }

    fn lift(&mut self, key: &ObjectKey, field: &str, message: String, fix: &str, problems: &mut Vec<Problem>) {
        let was_last_good = self.form(key).is_none_or(|form| form.instead.is_some());
        let further = if was_last_good { Lifted::Out } else { Lifted::ToLastGood };
        self.lifted.insert(key.clone(), further);
        if let Some(item) = self.translation.items.get(key).filter(|_| !self.errors.contains(key)) {
            problems.push(
                item.object
                    .problem(Severity::Error, FieldPath::root(field), message, fix),
            );
        }
    }

    /// The held objects whose content is still the held one, or cannot be told at the moment.
    pub(super) fn still_held(&self) -> Vec<ObjectKey> {
        let still = |(key, content): &&(ObjectKey, Option<Digest>)| match self.translation.items.get(key) {
            Some(item) if self.is_elsewhere(item) => content.is_none(),
            Some(Item {
                meaning: Some(meaning), ..
            }) => *content == Some((self.digest)(key, meaning.unit())),
            Some(Item { meaning: None, .. }) => true,
            None => match self.absent(key) {
                Written::Not(Reason::Unseen) => true,
                Written::Not(_) | Written::Counts(..) | Written::Nothing => content.is_none(),
            },
        };
        self.state
            .held
            .iter()
            .filter(still)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The objects of this fleet that do not serve as written in `forms`.
    pub(super) fn quarantined(&self, forms: &BTreeMap<ObjectKey, Form>) -> Vec<Quarantined> {
        let last_good = forms.iter().filter_map(|(key, form)| {
            let reason = if self.braked.contains(key) {
                Reason::AwaitsConsent
            } else {
                form.instead?
            };
            Some(Quarantined {
                object: key.clone(),
                reason,
                serving: Effect::LastGoodServes,
            })
        });
        let not_served = self.translation.items.values().filter_map(|item| {
            let key = &item.object.key;
            let meaning = item.meaning.as_ref();
            let own = meaning.is_some_and(|meaning| meaning.fleet() == Some(self.fleet))
                || self.refused.is_some_and(|refused| refused.contains(key));
            let reason = match self.written(key) {
                Written::Not(reason) => Some(reason),
                Written::Counts(..) => self.lifted.get(key).map(|_| Reason::Error),
                Written::Nothing => None,
            };
            let reason = reason.filter(|_| own && !forms.contains_key(key))?;
            Some(Quarantined {
                object: key.clone(),
                reason,
                serving: Effect::NotServed,
            })
        });
        last_good.chain(not_served).collect()
    }
}

/// The pools that a unit refers to.
pub(super) fn pools_of(unit: &Unit) -> impl Iterator<Item = &ObjectKey> {
    let rules = match unit {
        Unit::Route(route) => route.rules.as_slice(),
        Unit::Pool(_) | Unit::DataPlane(_) => &[],
    };
    rules.iter().filter_map(Rule::pool)
}
