//! Schemas for kubeconform, made of what there is: the API server's own description of its kinds, and our CRDs. Closed,
//! so that a field which nothing knows is found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::world::World;

/// What kubeconform calls the file of a kind.
const FILE: &str = "{{ .ResourceKind }}{{ .KindSuffix }}.json";
/// Where definitions refer to each other.
const DEFINITIONS: &str = "#/definitions/";
/// Strings that YAML may also write as a number.
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
/// What every object has.
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A folder of them.
pub(super) struct Schemas(PathBuf);

impl Schemas {
    /// What to give to `-schema-location`.
    pub(super) fn location(&self) -> String {
        self.0.join(FILE).to_string_lossy().into_owned()
    }
}

/// Writes a file for every kind that the API server knows, and for ours.
pub(super) async fn write(world: &World) -> anyhow::Result<Schemas> {
    let request = http::Request::get("/openapi/v2").body(Vec::new())?;
    let openapi: Value = serde_json::from_str(&world.client().request_text(request).await?)?;
    let folder = world.folder().join("schemas");
    fs::create_dir_all(&folder)?;
    let mut definitions = openapi["definitions"].clone();
    for (name, definition) in definitions.as_object_mut().context("definitions")? {
        match name.as_str() {
            QUANTITY => *definition = json!({"type": ["string", "number"]}),
            INT_OR_STRING => *definition = json!({"type": ["string", "integer"]}),
            _ => close(definition),
        }
    }
    for (name, definition) in definitions.as_object().into_iter().flatten() {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        for kind in kinds.into_iter().flatten() {
            let text = |field: &str| kind[field].as_str().unwrap_or_default();
            let schema = json!({"$ref": format!("{DEFINITIONS}{name}")});
            store(
                &folder,
                text("group"),
                text("version"),
                text("kind"),
                schema,
                &definitions,
            )?;
        }
    }
    ours(&folder, &definitions)?;
    Ok(Schemas(folder))
}

/// Our kinds as the repository has them, whatever is installed.
fn ours(folder: &Path, definitions: &Value) -> anyhow::Result<()> {
    for crd in sluice_crds::generate::all()? {
        let mut schema = crd.schema().clone();
        let properties = schema["properties"].as_object_mut().context("properties")?;
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        properties.insert(
            "metadata".to_owned(),
            json!({"$ref": format!("{DEFINITIONS}{METADATA}")}),
        );
        close(&mut schema);
        store(
            folder,
            sluice_crds::GROUP,
            sluice_crds::VERSION,
            crd.kind,
            schema,
            definitions,
        )?;
    }
    Ok(())
}

/// Beside the schema stand the definitions that it leads to, and no others: all of them are megabytes.
fn store(
    folder: &Path,
    group: &str,
    version: &str,
    kind: &str,
    mut schema: Value,
    definitions: &Value,
) -> anyhow::Result<()> {
    let mut names = BTreeSet::new();
    reached(&schema, definitions, &mut names);
    let needed: Map<String, Value> = names
        .iter()
        .map(|name| (name.clone(), definitions[name].clone()))
        .collect();
    schema["definitions"] = needed.into();
    let group = match group.split('.').next().unwrap_or_default() {
        "" => String::new(),
        first => format!("{first}-"),
    };
    let file = format!("{}-{group}{version}.json", kind.to_lowercase());
    fs::write(folder.join(file), schema.to_string())?;
    Ok(())
}

fn reached(schema: &Value, definitions: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str);
            let name = name.and_then(|name| name.strip_prefix(DEFINITIONS));
            if let Some(name) = name.filter(|name| names.insert((*name).to_owned())) {
                reached(&definitions[name], definitions, names);
            }
            map.values().for_each(|value| reached(value, definitions, names));
        }
        Value::Array(items) => items.iter().for_each(|value| reached(value, definitions, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Lets an object have the fields that are named, wherever some are.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let free = ["additionalProperties", "x-kubernetes-preserve-unknown-fields"];
            // A field may be called so itself; then it is a schema, and not a list of fields.
            let named = map.get("properties").is_some_and(Value::is_object) && map.contains_key("type");
            if named && !free.iter().any(|key| map.contains_key(*key)) {
                map.insert("additionalProperties".to_owned(), false.into());
            }
            map.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_with_named_fields_are_closed_and_maps_are_not() {
        let mut schema = json!({"type": "object", "properties": {
            "a": {"type": "object", "additionalProperties": {"type": "string"}},
            "properties": {"type": "object", "additionalProperties": {"$ref": "#/definitions/x"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {}},
        }});
        close(&mut schema);
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["a"]["additionalProperties"]["type"], "string");
        assert!(schema["properties"].get("additionalProperties").is_none());
        assert!(schema["properties"]["free"].get("additionalProperties").is_none());
    }

    #[test]
    fn definitions_are_followed_round_in_a_ring() {
        let definitions = json!({"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}, "c": {}});
        let mut names = BTreeSet::new();
        reached(&json!({"$ref": "#/definitions/a"}), &definitions, &mut names);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
