//! An immutable, indexed bag of objects, as a source saw them at one moment.
//!
//! Ordered by key, so that equal bags give equal output whatever the order they were read in. Where an object was
//! written travels along for Problems, and never reaches the output.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_crds::{PoolSpec, ProxyRouteSpec, RolloutSpec};
use sluice_model::{Kind, ObjectKey};

use crate::problem::{FieldPath, Place, Problem, Severity};
use crate::source::yaml::Node;

/// Where an object was written.
#[derive(Clone, Debug)]
pub enum Origin {
    /// In a file.
    File {
        /// The file, relative to the folder.
        file: Arc<str>,
        /// The manifest, for places of fields.
        manifest: Arc<Node>,
    },
    /// In an API server, where an object's name is its place. Which of its versions, for provenance.
    Server(Arc<str>),
}

impl Origin {
    /// Where `field` was written, if that is somewhere in a file.
    pub fn place(&self, field: &FieldPath) -> Option<Place> {
        match self {
            Self::Server(_) => None,
            Self::File { file, manifest } => {
                let at = manifest.locate(field.as_str());
                Some(Place {
                    file: file.clone(),
                    line: at.line,
                    column: at.column,
                })
            }
        }
    }

    /// What a manifest says of where an object came from: the file, or the version that the API server gave it.
    pub fn provenance(&self) -> &Arc<str> {
        match self {
            Self::File { file, .. } => file,
            Self::Server(version) => version,
        }
    }
}

/// What an object says.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// A ProxyRoute.
    ProxyRoute(ProxyRouteSpec),
    /// A Pool.
    Pool(PoolSpec),
    /// A Rollout.
    Rollout(RolloutSpec),
    /// Something that its schema refuses: the object exists, its content does not. Problems say why.
    Unreadable,
}

/// What an API server says of an object that it stores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its UID: another one is another object, whatever its name.
    pub uid: Arc<str>,
    /// Counts the changes of its spec.
    pub generation: i64,
    /// Which of its versions this is: the one in which it came to say what it says here. Later ones that changed its status
    /// alone are not noted.
    pub resource_version: Arc<str>,
}

/// One object as its author wrote it.
#[derive(Clone, Debug)]
pub struct Object {
    /// Which object.
    pub key: ObjectKey,
    /// When it was created, in seconds since 1970, if its source knows.
    pub created_at_seconds: Option<u64>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its content.
    pub spec: Spec,
    /// What the API server says of it; `None` for one from a file.
    pub stored: Option<Stored>,
    /// Where it was written.
    pub origin: Origin,
    /// Where else it was written, which makes it ambiguous which content is meant.
    pub also_in: Vec<Place>,
}

impl Object {
    /// Which version of it this is, for whoever asks later where a revision came from: the file, or UID and generation,
    /// which another write of the same content (its status, a label) does not change.
    pub fn source(&self) -> Arc<str> {
        match &self.stored {
            None => self.origin.provenance().clone(),
            Some(Stored {
                uid,
                generation,
                resource_version: _,
            }) => format!("{uid}/{generation}").into(),
        }
    }

    /// A Problem of this object about `field`.
    pub fn problem(
        &self,
        severity: Severity,
        field: FieldPath,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        Problem {
            place: self.origin.place(&field),
            object: Some(self.key.clone()),
            field,
            severity,
            message: message.into(),
            fix: fix.into(),
            effect: None,
        }
    }
}

/// The objects that a source holds at one moment.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    by_key: BTreeMap<ObjectKey, Arc<Object>>,
}

impl Objects {
    /// The object called `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.by_key.get(key)
    }

    /// Whether there is an object called `key`, readable or not.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// All objects, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.by_key.values()
    }

    /// All objects of one kind, ordered by key.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.iter().filter(move |object| object.key.kind == kind)
    }

    /// Puts an object in, in place of one of the same key.
    pub fn insert(&mut self, object: Arc<Object>) {
        self.by_key.insert(object.key.clone(), object);
    }

    /// Takes the object called `key` out.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.by_key.remove(key);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl FromIterator<Arc<Object>> for Objects {
    /// Of several objects of one key the one written first, by file and line, is kept; the others' places are noted. (An
    /// API server has one object of a key.)
    fn from_iter<I: IntoIterator<Item = Arc<Object>>>(objects: I) -> Self {
        let mut sorted: Vec<_> = objects.into_iter().collect();
        sorted.sort_by_cached_key(|object| (object.key.clone(), object.origin.place(&FieldPath::default())));
        let mut by_key: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        for object in sorted {
            match by_key.get_mut(&object.key) {
                Some(first) => Arc::make_mut(first)
                    .also_in
                    .extend(object.origin.place(&FieldPath::default())),
                None => drop(by_key.insert(object.key.clone(), object)),
            }
        }
        Self { by_key }
    }
}
