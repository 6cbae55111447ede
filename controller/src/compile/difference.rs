//! What a snapshot changes against stable, and which routes that can be felt in.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sluice_model::{Digest, ObjectKey, Snapshot, limits};

use super::UnitDigest;
use super::choice::pools_of;
use crate::rollout::{Changed, Scope};

/// An object whose content differs from stable's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ChangedObject {
    /// Which object.
    pub object: ObjectKey,
    /// Its content in stable; `None` if it is new.
    pub before: Option<Digest>,
    /// Its content now; `None` if it is removed.
    pub after: Option<Digest>,
}

impl ChangedObject {
    /// As the rollout core takes it.
    pub fn to_rollout(&self) -> Changed {
        Changed {
            object: self.object.clone(),
            content: self.after,
        }
    }
}

/// What is told and kept of the objects that a revision changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed<'a> {
    /// These.
    pub changed: Vec<&'a ChangedObject>,
    /// And so many more.
    pub unlisted: usize,
}

/// All of `changed`, if they could be held back one by one. Of more than that nobody reads a list, and a failure that
/// cannot be attributed blocks the whole: then only what a counted route depends on is listed, since of that a single
/// object may be convicted.
pub(super) fn listed<'a>(changed: &'a [ChangedObject], scopes: &[Scope]) -> Listed<'a> {
    if changed.len() <= limits::HELD_CONTENTS_MAX {
        return Listed {
            changed: changed.iter().collect(),
            unlisted: 0,
        };
    }
    let suspects: BTreeSet<&ObjectKey> = scopes.iter().flat_map(|scope| &scope.suspects).collect();
    let suspected = changed.iter().filter(|changed| suspects.contains(&changed.object));
    let listed: Vec<&ChangedObject> = suspected.take(limits::HELD_CONTENTS_MAX).collect();
    Listed {
        unlisted: changed.len() - listed.len(),
        changed: listed,
    }
}

/// The objects that differ between `stable` and `snapshot`, by key.
pub(super) fn changed(stable: Option<&Snapshot>, snapshot: &Snapshot, digest: UnitDigest) -> Vec<ChangedObject> {
    let none = BTreeMap::new();
    let old = stable.map_or(&none, |stable| &stable.config().units);
    let new = &snapshot.config().units;
    let keys: BTreeSet<&ObjectKey> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .map(|key| (key, old.get(key), new.get(key)))
        .filter(|(_, before, after)| before != after)
        .map(|(key, before, after)| ChangedObject {
            object: key.clone(),
            before: before.map(|unit| digest(key, unit)),
            after: after.map(|unit| digest(key, unit)),
        })
        .collect()
}

/// The routes of `snapshot` that a changed object can affect: those that changed themselves first, at most as many as
/// are counted separately. The rest share the fleet's gates.
pub(super) fn scopes(snapshot: &Snapshot, changed: &[ChangedObject]) -> Vec<Scope> {
    let changed: BTreeSet<&ObjectKey> = changed.iter().map(|changed| &changed.object).collect();
    let mut scopes = Vec::new();
    for (key, unit) in snapshot
        .config()
        .units
        .iter()
        .filter(|(key, _)| key.kind == sluice_model::Kind::ProxyRoute)
    {
        let mut suspects: BTreeSet<&ObjectKey> = pools_of(unit).filter(|pool| changed.contains(pool)).collect();
        suspects.extend(changed.get(key).copied());
        if !suspects.is_empty() {
            scopes.push(Scope {
                route: key.clone(),
                suspects: suspects.into_iter().cloned().collect(),
            });
        }
    }
    scopes.sort_by_cached_key(|scope| (!scope.suspects.contains(&scope.route), scope.route.clone()));
    scopes.truncate(limits::MAX_COUNTED_SCOPES);
    scopes.sort_by(|a, b| a.route.cmp(&b.route));
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_changes_those_are_listed_that_could_be_convicted() {
        let key = |at: usize| -> ObjectKey { format!("ProxyRoute shop/r-{at:05}").parse().unwrap() };
        let changed = |count: usize| -> Vec<ChangedObject> {
            let object = |at| ChangedObject {
                object: key(at),
                before: None,
                after: Some(Digest([1; 32])),
            };
            (0..count).map(object).collect()
        };
        let scopes = [7, 2_000].map(|at| Scope {
            route: key(at),
            suspects: vec![key(at)],
        });
        let most = changed(limits::HELD_CONTENTS_MAX);
        let all = listed(&most, &scopes);
        assert_eq!((all.changed.len(), all.unlisted), (most.len(), 0));
        let many = changed(10_000);
        let few = listed(&many, &scopes);
        let names: Vec<&ObjectKey> = few.changed.iter().map(|changed| &changed.object).collect();
        assert_eq!((names, few.unlisted), (vec![&key(7), &key(2_000)], 9_998));
    }
}
