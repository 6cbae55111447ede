//! Our kinds as the API server has them: by their full name, so that another `rollouts` (Argo's) is not met, and read
//! leniently, since the controller may be newer than this command.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, ObjectList, TypeMeta};
use kube::{Api, Client};
use serde_json::{Value, json};
use sluice_crds::{API_VERSION, GROUP, VERSION};
use sluice_model::limits::KUBE_LIST_CHUNK;

use super::Cluster;
use super::refusal::Wish;
use crate::failure::Failure;

/// One of our kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// ProxyRoute.
    ProxyRoute,
    /// Pool.
    Pool,
    /// Rollout.
    Rollout,
}

impl Kind {
    /// As manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProxyRoute => "ProxyRoute",
            Self::Pool => "Pool",
            Self::Rollout => "Rollout",
        }
    }

    /// As kubectl has it, with the group.
    pub fn resource(self) -> &'static str {
        match self {
            Self::ProxyRoute => "proxyroutes.sluice.dev",
            Self::Pool => "pools.sluice.dev",
            Self::Rollout => "rollouts.sluice.dev",
        }
    }

    fn api_resource(self) -> ApiResource {
        let plural = self.resource().split('.').next().unwrap_or_default();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, self.as_str()), plural)
    }

    /// The objects of this kind in a namespace, or in all.
    pub fn api(self, client: Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &self.api_resource()),
            None => Api::all_with(client, &self.api_resource()),
        }
    }
}

impl Cluster {
    /// All objects of a kind in a namespace, or in all, and as of which version.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn list(&self, kind: Kind, namespace: Option<&str>) -> Result<ObjectList<DynamicObject>, Failure> {
        let api = kind.api(self.client(), namespace);
        let wish = Wish::list(kind.resource(), namespace);
        let mut whole: Option<ObjectList<DynamicObject>> = None;
        let mut params = ListParams::default().limit(KUBE_LIST_CHUNK);
        loop {
            let mut page = self.call(&wish, api.list(&params)).await?;
            let more = page.metadata.continue_.take().filter(|token| !token.is_empty());
            match &mut whole {
                Some(whole) => whole.items.append(&mut page.items),
                None => whole = Some(page),
            }
            match (more, &whole) {
                (Some(token), _) => params.continue_token = Some(token),
                (None, Some(_)) => break,
                (None, None) => break,
            }
        }
        let mut whole = whole.unwrap_or_else(|| ObjectList {
            types: TypeMeta::default(),
            metadata: kube::core::ListMeta::default(),
            items: Vec::new(),
        });
        // Items of a list do not say what they are, since the list does.
        for item in &mut whole.items {
            item.types.get_or_insert_with(|| TypeMeta {
                api_version: API_VERSION.to_owned(),
                kind: kind.as_str().to_owned(),
            });
        }
        Ok(whole)
    }

    /// One object.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<DynamicObject, Failure> {
        let api = kind.api(self.client(), Some(namespace));
        self.call(&Wish::get(kind.resource(), namespace, name), api.get(name))
            .await
    }
}

/// As `kubectl get -o json` shows one: without what only the API server needs.
pub fn shown(object: &DynamicObject) -> Value {
    let mut object = object.clone();
    object.metadata.managed_fields = None;
    serde_json::to_value(&object).unwrap_or_default()
}

/// As `kubectl get -o json` shows several.
pub fn list(objects: &[DynamicObject]) -> Value {
    let items: Vec<Value> = objects.iter().map(shown).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// A text in an object, by a JSON pointer; empty if there is none.
pub fn text<'a>(object: &'a DynamicObject, pointer: &str) -> &'a str {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The condition of this type, if it has one.
pub fn condition<'a>(object: &'a DynamicObject, kind: &str) -> Option<&'a Value> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    let is_it = |condition: &&Value| condition.get("type").and_then(Value::as_str) == Some(kind);
    conditions.iter().find(is_it)
}
