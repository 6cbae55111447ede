//! The objects of our kinds as the watches show them, status and all: what status is compared with before it is written.
//! Nothing that is decided from objects looks in here; that goes by views, which a status does not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::api::DynamicObject;
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;
use serde_json::json;
use sluice_model::{Kind, ObjectKey};

use super::kinds::{Watch, Watched};
use super::read;

/// See the file's comment.
#[derive(Debug, Default)]
pub struct Shown {
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    by_key: BTreeMap<ObjectKey, Arc<DynamicObject>>,
    /// What the list of a watch has shown so far, while one comes in.
    listing: BTreeMap<Watch, BTreeSet<ObjectKey>>,
}

impl Shown {
    // Whole after every line that touches it.
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object called `key` as it was seen last: its name, UID, generation and version, and its status.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<DynamicObject>> {
        self.objects().by_key.get(key).cloned()
    }

    /// Takes in what a watch of one of our kinds says.
    pub(super) fn note(&self, watch: &Watch, event: &Event<DynamicObject>) {
        let Watched::Object(kind) = watch.watched else { return };
        let mut objects = self.objects();
        match event {
            Event::Init => drop(objects.listing.insert(watch.clone(), BTreeSet::new())),
            Event::InitApply(object) => {
                let Some(key) = key(kind, object) else { return };
                if let Some(listing) = objects.listing.get_mut(watch) {
                    listing.insert(key.clone());
                }
                objects.by_key.insert(key, useful(object));
            }
            Event::InitDone => {
                let Some(listed) = objects.listing.remove(watch) else { return };
                let seen = |key: &ObjectKey| {
                    let elsewhere = watch.namespace.as_ref().is_some_and(|namespace| *namespace != key.namespace);
                    key.kind != kind || elsewhere || listed.contains(key)
                };
                objects.by_key.retain(|key, _| seen(key));
            }
            Event::Apply(object) => {
                if let Some(key) = key(kind, object) {
                    objects.by_key.insert(key, useful(object));
                }
            }
            Event::Delete(object) => {
                if let Some(key) = key(kind, object) {
                    objects.by_key.remove(&key);
                }
            }
        }
    }
}

fn key(kind: Kind, object: &DynamicObject) -> Option<ObjectKey> {
    let (namespace, name) = read::place(&object.metadata).ok()?;
    Some(ObjectKey::new(kind, namespace, name))
}

/// What of an object is kept: not its spec, which views have, nor who owns which field.
fn useful(object: &DynamicObject) -> Arc<DynamicObject> {
    let ObjectMeta {
        name,
        namespace,
        uid,
        generation,
        resource_version,
        ..
    } = object.metadata.clone();
    Arc::new(DynamicObject {
        types: None,
        metadata: ObjectMeta {
            name,
            namespace,
            uid,
            generation,
            resource_version,
            ..ObjectMeta::default()
        },
        data: json!({"status": object.data.get("status")}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": version, "labels": {"a": "b"}},
            "spec": {"endpoints": []},
            "status": {"endpoints": version},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_listed_is_there_and_what_is_not_is_gone() {
        let shown = Shown::default();
        let watch = |namespace: Option<&str>| Watch {
            watched: Watched::Object(Kind::Pool),
            namespace: namespace.map(|name| name.parse().unwrap()),
        };
        let list = |of: &Watch, pools: &[DynamicObject]| {
            shown.note(of, &Event::Init);
            pools.iter().for_each(|pool| shown.note(of, &Event::InitApply(pool.clone())));
            shown.note(of, &Event::InitDone);
        };
        let status = |name: &str| {
            let object = shown.get(&format!("Pool shop/{name}").parse().unwrap())?;
            assert_eq!(object.data.get("spec"), None);
            Some(object.data["status"]["endpoints"].as_str()?.to_owned())
        };
        list(&watch(None), &[pool("a", "1"), pool("b", "1")]);
        shown.note(&watch(None), &Event::Apply(pool("a", "2")));
        assert_eq!((status("a"), status("b")), (Some("2".to_owned()), Some("1".to_owned())));
        list(&watch(Some("other")), &[]);
        assert!(status("b").is_some(), "of another namespace");
        list(&watch(Some("shop")), &[pool("a", "3")]);
        assert_eq!((status("a"), status("b")), (Some("3".to_owned()), None));
        shown.note(&watch(None), &Event::Delete(pool("a", "4")));
        assert_eq!(status("a"), None);
    }
}
