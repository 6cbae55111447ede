//! What a cluster says besides its objects: whose Rollouts govern, and how old and how labelled the namespaces are. A
//! folder has nothing of it: there a namespace is no more than a word.

use std::collections::BTreeMap;

use sluice_model::{Kind, Name, ObjectKey};

/// See the file's comment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// The controller's own namespace: only Rollouts in it govern.
    pub controller: Name,
    /// Its namespaces. One that is not here is not known: it is new, or cannot be seen.
    pub namespaces: BTreeMap<Name, Namespace>,
}

/// What is known of one namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespace {
    /// When it was created, in seconds since 1970.
    pub created_at_seconds: Option<u64>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Cluster {
    /// Whether the object called `key` counts where it is: all do but Rollouts outside the controller's namespace.
    pub fn governs(&self, key: &ObjectKey) -> bool {
        match key.kind {
            Kind::Rollout => key.namespace == self.controller,
            Kind::ProxyRoute | Kind::Pool => true,
        }
    }
}
