//! Our kinds as the API server serves them, and short ways to write, apply and read them.

use std::time::Duration;

use anyhow::{Context, ensure};
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use sluice_crds::{API_VERSION, GROUP, VERSION};
use sluice_e2e::wait::wait_until;

use crate::world::World;

/// The objects of one of our kinds in a namespace.
pub(crate) fn api(client: Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind));
    Api::namespaced_with(client, namespace, &resource)
}

/// An object with this spec.
pub(crate) fn object(kind: &str, name: &str, spec: &Value) -> anyhow::Result<DynamicObject> {
    Ok(serde_json::from_value(written(kind, name, spec))?)
}

fn written(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A ProxyRoute with one rule for all paths of a host.
pub(crate) fn route(name: &str, host: &str, pool: &str) -> Value {
    routes(name, host, &[("/", pool)])
}

/// A ProxyRoute with one rule for each (path prefix, pool), named after the pool.
pub(crate) fn routes(name: &str, host: &str, rules: &[(&str, &str)]) -> Value {
    let rule =
        |(path, pool): &(&str, &str)| json!({"name": pool, "matches": [{"path": {"value": path}}], "pool": pool});
    let rules: Vec<_> = rules.iter().map(rule).collect();
    written("ProxyRoute", name, &json!({"hostnames": [host], "rules": rules}))
}

/// A Pool of the endpoints of a Service.
pub(crate) fn pool(name: &str, service: &str) -> Value {
    written("Pool", name, &json!({"service": {"name": service, "port": "http"}}))
}

/// A condition of an object's status.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// Whether a condition says `status` of the object as it is now, not as it once was.
pub(crate) fn says(object: &Value, kind: &str, status: &str) -> bool {
    condition(object, kind).is_some_and(|condition| {
        condition["status"] == status && condition["observedGeneration"] == object["metadata"]["generation"]
    })
}

impl World {
    /// `kubectl apply` of all of them at once, as somebody does who changes several things together.
    pub(crate) async fn apply(&self, namespace: &str, objects: &[Value]) -> anyhow::Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.kubectl_with(&list.to_string(), &["-n", namespace, "apply", "-f", "-"])
            .await?;
        Ok(())
    }

    /// One of our objects, as the API server has it.
    pub(crate) async fn object(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Value> {
        let found = api(self.client(), kind, namespace).get(name).await;
        Ok(serde_json::to_value(
            found.with_context(|| format!("{kind} {namespace}/{name}"))?,
        )?)
    }

    /// Waits until an object's condition is so, and gives the object.
    pub(crate) async fn when(&self, (kind, namespace, name): (&str, &str, &str), says_so: (&str, &str)) -> Value {
        let (condition, status) = says_so;
        let what = format!("{kind} {namespace}/{name} to be {condition}={status}");
        wait_until(&what, Duration::from_secs(90), || async {
            let object = self
                .object(kind, namespace, name)
                .await
                .map_err(|error| format!("{error:#}"))?;
            if says(&object, condition, status) {
                Ok(object)
            } else {
                Err(format!("{:#}", object["status"]))
            }
        })
        .await
    }

    /// Waits as people do: `kubectl wait --for=condition=Programmed`.
    pub(crate) async fn programmed(&self, namespace: &str, names: &[&str]) -> anyhow::Result<()> {
        let names: Vec<_> = names.iter().map(|name| format!("proxyroutes.{GROUP}/{name}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let wait = ["-n", namespace, "wait", "--for=condition=Programmed", "--timeout=90s"];
        let said = self.kubectl_raw("", &[&wait[..], &names].concat()).await?;
        ensure!(said.status.success(), "not programmed: {}{}", said.stdout, said.stderr);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_of_an_older_generation_says_nothing() {
        let condition = json!({"type": "Programmed", "status": "True", "observedGeneration": 1});
        let mut object = json!({"metadata": {"generation": 1}, "status": {"conditions": [condition]}});
        assert!(says(&object, "Programmed", "True"));
        assert!(!says(&object, "Programmed", "False") && !says(&object, "Accepted", "True"));
        object["metadata"]["generation"] = 2.into();
        assert!(!says(&object, "Programmed", "True"));
    }
}
