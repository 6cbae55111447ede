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
