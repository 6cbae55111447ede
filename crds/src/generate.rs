//! The CRDs: what the derive makes, mended for API servers, and written as YAML under `yaml/`.
//!
//! `cargo run -p sluice-crds --bin crdgen` writes the files; a test here asserts that they are current.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::{GROUP, Pool, ProxyRoute, Rollout};

/// Formats that every API server knows. Servers from 1.36 on warn about others, such as `uint32`.
const KNOWN_FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// One generated CRD.
#[derive(Debug, Clone)]
pub struct GeneratedCrd {
    /// The kind it defines.
    pub kind: &'static str,
    /// Name of its file in `crds/yaml/`: `pools.sluice.dev.yaml`.
    pub file_name: String,
    /// The CustomResourceDefinition, as it is sent to an API server.
    pub manifest: Value,
}

impl GeneratedCrd {
    /// The schema of the objects themselves: `spec`, `status` and what every object has.
    pub fn schema(&self) -> &Value {
        self.manifest
            .pointer("/spec/versions/0/schema/openAPIV3Schema")
            .unwrap_or(&Value::Null)
    }

    /// The CRD as a YAML file.
    ///
    /// # Errors
    /// When the writer cannot say it in YAML, which no JSON value should cause.
    pub fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        let header = "# Generated from crds/src by `cargo run -p sluice-crds --bin crdgen`. Do not edit.\n";
        Ok(format!("{header}{}", serde_saphyr::to_string(&self.manifest)?))
    }
}

/// The CRDs of every kind.
///
/// # Errors
/// When a derived CRD is not JSON, which would be a bug in the derive.
pub fn all() -> Result<Vec<GeneratedCrd>, serde_json::Error> {
    [
        ("ProxyRoute", "proxyroutes", serde_json::to_value(ProxyRoute::crd())),
        ("Pool", "pools", serde_json::to_value(Pool::crd())),
        ("Rollout", "rollouts", serde_json::to_value(Rollout::crd())),
    ]
    .into_iter()
    .map(|(kind, plural, manifest)| {
        let mut manifest = manifest?;
        mend(&mut manifest);
        Ok(GeneratedCrd {
            kind,
            file_name: format!("{plural}.{GROUP}.yaml"),
            manifest,
        })
    })
    .collect()
}

/// Removes what API servers warn about or would not accept, wherever in the schema it is.
fn mend(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let foreign = |format: &str| !KNOWN_FORMATS.contains(&format);
            if map.get("format").and_then(Value::as_str).is_some_and(foreign) {
                map.remove("format");
            }
            // "nullable" would keep `field: null` apart from a field left out.
            if map.get("nullable") == Some(&json!(true)) {
                map.remove("nullable");
            }
            // int-or-string says it already; the derive empties the alternatives.
            if map.contains_key("x-kubernetes-int-or-string") {
                map.remove("anyOf");
            }
            for bound in ["minimum", "maximum"] {
                if let Some(number) = map.get_mut(bound) {
                    *number = whole(number);
                }
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            map.values_mut().for_each(mend);
        }
        Value::Array(items) => items.iter_mut().for_each(mend),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The schema type holds bounds as floats; `65535.0` would be written where people read `65535`.
fn whole(number: &Value) -> Value {
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 9.0e15 => json!(float as i64),
        Some(_) | None => number.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Walks every schema below `schema`, properties and items alike.
    fn walk(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
        visit(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, visit);
        }
        if let Some(items) = schema.get("items") {
            walk(&format!("{path}[]"), items, visit);
        }
    }

    fn own(path: &str) -> bool {
        path.starts_with(".spec") || path.starts_with(".status")
    }

    #[test]
    fn generated_files_are_current() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
        for crd in all().unwrap() {
            let file = folder.join(&crd.file_name);
            let found = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                found == crd.yaml().unwrap(),
                "{} is not current: run `cargo run -p sluice-crds --bin crdgen`",
                file.display()
            );
        }
        let found = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(found, 3, "one file for each kind, and no other");
    }

    #[test]
    fn the_yaml_says_what_was_meant() {
        for crd in all().unwrap() {
            let read: Value = serde_saphyr::from_str(&crd.yaml().unwrap()).unwrap();
            assert_eq!(read, crd.manifest);
        }
    }

    #[test]
    fn every_field_is_explained() {
        for crd in all().unwrap() {
            walk("", crd.schema(), &mut |path, schema| {
                let item = path.ends_with(']');
                assert!(
                    !own(path) || item || schema["description"].is_string(),
                    "{} {path}: no description",
                    crd.kind
                );
            });
        }
    }

    #[test]
    fn everything_is_bounded() {
        for crd in all().unwrap() {
            walk("", crd.schema(), &mut |path, schema| {
                if !own(path) {
                    return;
                }
                let bounded = match schema["type"].as_str() {
                    Some("array") => schema["maxItems"].is_number(),
                    Some("string") => schema["maxLength"].is_number() || schema["enum"].is_array(),
                    Some("integer") => schema["minimum"].is_number(),
                    Some("boolean") => true,
                    Some("object") => {
                        let map = &schema["additionalProperties"];
                        let bounded_map = map["maxLength"].is_number() && schema["maxProperties"].is_number();
                        schema["properties"].is_object() || bounded_map
                    }
                    other => other.is_none() && schema["x-kubernetes-int-or-string"] == true,
                };
                assert!(bounded, "{} {path}: {schema}", crd.kind);
            });
        }
    }

    #[test]
    fn no_floats_no_foreign_formats_no_defaults_in_list_items() {
        for crd in all().unwrap() {
            walk("", crd.schema(), &mut |path, schema| {
                assert_ne!(schema["type"], "number", "{} {path}", crd.kind);
                if let Some(format) = schema["format"].as_str() {
                    assert!(KNOWN_FORMATS.contains(&format), "{} {path}: {format}", crd.kind);
                }
                let in_list = path.contains("[]");
                assert!(
                    !in_list || schema.get("default").is_none(),
                    "{} {path}: default",
                    crd.kind
                );
            });
        }
    }

    #[test]
    fn small_enough_for_client_side_apply() {
        for crd in all().unwrap() {
            let size = serde_json::to_string(&crd.manifest).unwrap().len();
            assert!(size < 256 * 1024, "{}: {size} bytes", crd.kind);
        }
    }

    #[test]
    fn every_cel_rule_is_attached_somewhere() {
        let manifests: String = all().unwrap().iter().map(|crd| crd.manifest.to_string()).collect();
        for rule in crate::rules::ALL {
            let rule_text = json!(rule.cel).to_string();
            assert!(manifests.contains(&rule_text), "{} is in no CRD", rule.id);
        }
    }

    #[test]
    fn names_are_as_documented() {
        let names: Vec<_> = all()
            .unwrap()
            .iter()
            .map(|crd| {
                let names = &crd.manifest["spec"]["names"];
                format!(
                    "{} {} {}",
                    crd.manifest["metadata"]["name"], names["shortNames"], names["categories"]
                )
            })
            .collect();
        assert_eq!(
            names,
            [
                r#""proxyroutes.sluice.dev" ["prt"] ["sluice"]"#,
                r#""pools.sluice.dev" ["pol"] ["sluice"]"#,
                r#""rollouts.sluice.dev" ["slr"] ["sluice"]"#,
            ]
        );
    }
}
