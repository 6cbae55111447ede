//! Our objects as the API server last showed them, with their status: for whoever writes status and compares first. It is
//! kept up by the watches that the source has anyway.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use sluice_model::ObjectKey;

/// See the file's comment.
#[derive(Clone, Debug, Default)]
pub struct Shown(Arc<RwLock<BTreeMap<ObjectKey, Arc<DynamicObject>>>>);

impl Shown {
    /// The object called `key`, if the API server has it: its identity, version and `status`, without the rest.
    pub fn object(&self, key: &ObjectKey) -> Option<Arc<DynamicObject>> {
        let objects = self.0.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(key).cloned()
    }

    pub(super) fn note(&self, key: ObjectKey, object: Arc<DynamicObject>) {
        let mut objects = self.0.write().unwrap_or_else(PoisonError::into_inner);
        objects.insert(key, object);
    }

    pub(super) fn forget(&self, key: &ObjectKey) {
        let mut objects = self.0.write().unwrap_or_else(PoisonError::into_inner);
        objects.remove(key);
    }
}

/// What of an object is kept.
pub(super) fn kept(metadata: &ObjectMeta, data: &Value) -> DynamicObject {
    let metadata = ObjectMeta {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        generation: metadata.generation,
        resource_version: metadata.resource_version.clone(),
        ..ObjectMeta::default()
    };
    let status = data
        .get("status")
        .map_or_else(|| json!({}), |status| json!({"status": status}));
    DynamicObject {
        types: None,
        metadata,
        data: status,
    }
}
