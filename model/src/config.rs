//! `Config`: every unit of one fleet under the name of its object. A bag, not yet checked: `snapshot` does that.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::names::ObjectKey;
use crate::unit::Unit;

/// The units of one fleet. Ordered by key, so that equal configurations are equal in every way they can be walked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// What each object means.
    pub units: BTreeMap<ObjectKey, Arc<Unit>>,
}

impl Config {
    /// The unit of `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<&Unit> {
        self.units.get(key).map(Arc::as_ref)
    }

    /// Puts a unit in, in place of the one that `key` had.
    pub fn insert(&mut self, key: ObjectKey, unit: impl Into<Arc<Unit>>) -> Option<Arc<Unit>> {
        self.units.insert(key, unit.into())
    }
}

impl<U: Into<Arc<Unit>>> FromIterator<(ObjectKey, U)> for Config {
    fn from_iter<I: IntoIterator<Item = (ObjectKey, U)>>(units: I) -> Self {
        Self {
            units: units.into_iter().map(|(key, unit)| (key, unit.into())).collect(),
        }
    }
}
