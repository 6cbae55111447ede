//! Our kinds as the API server serves them, for checks that make or read many objects.

use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use sluice_crds::{API_VERSION, GROUP, VERSION};

/// The objects of one of our kinds in a namespace.
pub(crate) fn api(client: Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind));
    Api::namespaced_with(client, namespace, &resource)
}

/// An object with this spec.
pub(crate) fn object(kind: &str, name: &str, spec: &Value) -> anyhow::Result<DynamicObject> {
    let value = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
    Ok(serde_json::from_value(value)?)
}
