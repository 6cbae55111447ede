//! The chart and what stands beside it, as far as text can be wrong without a cluster: every value is documented and in
//! the schema, what is written twice is the same twice, and what is named exists.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sluice_e2e::repository;

const CHART: &str = "charts/sluice";

fn yaml(path: &str) -> Value {
    let read = serde_saphyr::from_str(&repository::read(path));
    read.unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn schema() -> Value {
    serde_json::from_str(&repository::read(&format!("{CHART}/values.schema.json"))).unwrap()
}

/// Every value that people can set, with its default: a map without named parts (labels, affinity) is one value.
fn leaves(path: &str, schema: &Value, value: &Value, found: &mut BTreeMap<String, Value>) {
    let parts = schema["properties"].as_object();
    match (parts, value.as_object()) {
        (Some(parts), Some(map)) => {
            for (name, value) in map {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let part = parts
                    .get(name)
                    .unwrap_or_else(|| panic!("values.schema.json lacks {below}"));
                leaves(&below, part, value, found);
            }
        }
        _ => {
            found.insert(path.to_owned(), value.clone());
        }
    }
}

fn defaults() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    leaves("", &schema(), &yaml(&format!("{CHART}/values.yaml")), &mut found);
    found
}

/// Rows of the README's tables: name and default as they are written.
fn documented() -> BTreeMap<String, String> {
    let text = repository::read(&format!("{CHART}/README.md"));
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        let default = cells.next()?.to_owned();
        let what = cells.next()?;
        assert!(what.len() > 10, "{name} is not explained: {what:?}");
        Some((name, default))
    });
    rows.collect()
}

/// Small defaults stand in the table; a list of stages would not fit.
fn as_written(value: &Value) -> String {
    let large = match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    if large {
        "see `values.yaml`".to_owned()
    } else {
        format!("`{value}`")
    }
}

#[test]
fn every_value_is_documented_with_its_default_and_no_other() {
    let (defaults, documented) = (defaults(), documented());
    assert!(defaults.len() > 50, "{}", defaults.len());
    for (name, value) in &defaults {
        let told = documented
            .get(name)
            .unwrap_or_else(|| panic!("{CHART}/README.md has no row for {name}"));
        assert_eq!(told, &as_written(value), "{CHART}/README.md, default of {name}");
    }
    for name in documented.keys() {
        assert!(
            defaults.contains_key(name),
            "{CHART}/README.md: there is no value {name}"
        );
    }
}

/// A value that the schema names and values.yaml does not would be known to nobody.
fn every_property_has_a_default(path: &str, schema: &Value, value: &Value) {
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        let below = format!("{path}.{name}");
        // What Helm adds to every subchart.
        if below == ".global" {
            continue;
        }
        let value = value.get(name).unwrap_or_else(|| panic!("values.yaml lacks {below}"));
        every_property_has_a_default(&below, part, value);
    }
}

#[test]
fn the_schema_is_closed_and_explains_everything() {
    let schema = schema();
    every_property_has_a_default("", &schema, &yaml(&format!("{CHART}/values.yaml")));
    closed("", &schema);
}

fn closed(path: &str, schema: &Value) {
    if let Some(parts) = schema["properties"].as_object() {
        assert_eq!(
            schema["additionalProperties"], false,
            "{path}: a misspelt name would be ignored"
        );
        for (name, part) in parts {
            let below = format!("{path}.{name}");
            assert!(part["description"].is_string(), "{below}: no description");
            closed(&below, part);
        }
    }
    if let Some(items) = schema.get("items") {
        closed(&format!("{path}[]"), items);
    }
}

/// What the chart passes on to a Rollout has the fields that a Rollout has.
#[test]
fn the_schema_knows_the_fields_of_a_rollout() {
    let schema = schema();
    let rollout = sluice_crds::generate::all()
        .unwrap()
        .into_iter()
        .find(|crd| crd.kind == "Rollout")
        .unwrap();
    let spec = &rollout.schema()["properties"]["spec"]["properties"];
    let ours = &schema["properties"]["rollout"]["properties"];
    for list in ["stages", "gates", "members"] {
        assert_same_fields(list, &ours[list]["items"], &spec[list]["items"]);
    }
    let listener = &schema["properties"]["gateway"]["properties"]["listeners"]["items"]["properties"];
    let theirs = &spec["dataPlane"]["properties"]["listeners"]["items"]["properties"];
    for part in ["tls", "proxyProtocol"] {
        assert_same_fields(part, &listener[part], &theirs[part]);
    }
    // Each has a default of the API's, which the chart leaves to it; so only their names are the schema's.
    let limits = &schema["properties"]["gateway"]["properties"]["limits"]["propertyNames"]["enum"];
    let limits: BTreeSet<&str> = limits.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let theirs = spec["dataPlane"]["properties"]["limits"]["properties"].as_object();
    assert_eq!(limits, theirs.unwrap().keys().map(String::as_str).collect());
    // The others are of the Rollout itself, of the chart, or further below.
    let apart = ["enabled", "name", "dataPlane"];
    assert_same_names("rollout", ours, spec, &apart);
}

/// And so have their parts, unless the chart passes them on as they are.
fn assert_same_fields(what: &str, ours: &Value, theirs: &Value) {
    let (ours, theirs) = (&ours["properties"], &theirs["properties"]);
    assert_same_names(what, ours, theirs, &[]);
    for (name, part) in ours.as_object().into_iter().flatten() {
        if part["properties"].is_object() {
            assert_same_fields(&format!("{what}.{name}"), part, &theirs[name]);
        }
    }
}

fn assert_same_names(what: &str, ours: &Value, theirs: &Value, apart: &[&str]) {
    let names = |value: &Value| -> BTreeSet<String> {
        let map = value.as_object().into_iter().flatten();
        map.map(|(name, _)| name.clone())
            .filter(|name| !apart.contains(&name.as_str()))
            .collect()
    };
    assert_eq!(names(ours), names(theirs), "{what}: the chart's schema and the CRD");
}

#[test]
fn the_chart_has_the_version_of_the_workspace() {
    let chart = yaml(&format!("{CHART}/Chart.yaml"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&version.into(), &version.into())
    );
}

/// Names of metrics in the text of an expression.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("proxy_") || word.starts_with("sluice_"))
        .collect()
}

#[test]
fn alerts_ask_for_metrics_that_exist() {
    let rules = repository::read(&format!("{CHART}/templates/monitoring/rules.yaml"));
    let documented = repository::read("docs/metrics.md");
    let known = metrics(&documented);
    let asked: BTreeSet<_> = metrics(&rules);
    assert!(asked.len() > 5, "{asked:?}");
    for metric in asked {
        assert!(known.contains(metric), "docs/metrics.md has no {metric}");
    }
}

#[test]
fn no_role_has_a_star() {
    for file in [
        "controller/_rules.tpl",
        "controller/permissions.yaml",
        "users/roles.yaml",
    ] {
        let text = repository::read(&format!("{CHART}/templates/{file}"));
        assert!(text.contains("verbs: ["), "{file} has no rules");
        let of_rules = ["apiGroups:", "resources:", "resourceNames:", "verbs:"];
        for line in text
            .lines()
            .filter(|line| of_rules.iter().any(|part| line.contains(part)))
        {
            assert!(!line.contains('*'), "{file}: {line}");
        }
    }
}

/// The list between the brackets of a `define` that is one.
fn defined(name: &str) -> Vec<String> {
    let text = repository::read(&format!("{CHART}/templates/admission/_lists.tpl"));
    let (_, rest) = text.split_once(&format!("define \"{name}\" -}}}}")).unwrap();
    let (list, _) = rest.split_once("{{- end }}").unwrap();
    serde_json::from_str(list).unwrap()
}

#[test]
fn admission_knows_the_commands_that_the_controller_knows() {
    use sluice_controller::pipeline::commands::FORGET;
    use sluice_controller::rollout::Verb;
    let verbs = [Verb::Pause, Verb::Resume, Verb::Promote, Verb::Abort, Verb::Retry];
    let known: Vec<_> = verbs.iter().map(|verb| verb.as_str()).chain([FORGET]).collect();
    assert_eq!(defined("sluice.verbs"), known);
    for key in defined("sluice.commandKeys") {
        assert!(key.starts_with("sluice.dev/command"), "{key}");
    }
}

/// A ConfigMap that the policy does not know could not be written, and the fleet would stand still.
#[test]
fn admission_knows_what_the_controller_writes() {
    use sluice_controller::keyring::secret;
    use sluice_controller::leader::LEASE;
    use sluice_controller::revisions::config_map::Part;
    use sluice_controller::trust::config_maps;
    let parts = Part::ALL.map(Part::as_str);
    assert_eq!(defined("sluice.parts"), parts);
    let policy = repository::read(&format!("{CHART}/templates/admission/accounts.yaml"));
    for name in [secret::NAME, config_maps::NAME, LEASE] {
        assert!(policy.contains(&format!("'{name}'")), "{name}");
    }
}

const CUSTOMIZATIONS: [(&str, &str); 3] = [("Rollout", "rollout"), ("ProxyRoute", "proxyroute"), ("Pool", "pool")];

#[test]
fn argo_cds_config_map_holds_the_lua_files() {
    let data = yaml("deploy/argocd/argocd-cm.yaml")["data"].clone();
    let stale = "deploy/argocd/argocd-cm.yaml is out of date: run `just deploy`";
    for (kind, folder) in CUSTOMIZATIONS {
        let key = format!("resource.customizations.health.sluice.dev_{kind}");
        let script = repository::read(&format!("deploy/argocd/{folder}/health.lua"));
        assert_eq!(data[&key].as_str(), Some(script.as_str()), "{stale}");
    }
    let actions = data["resource.customizations.actions.sluice.dev_Rollout"]
        .as_str()
        .unwrap();
    let actions: Value = serde_saphyr::from_str(actions).unwrap();
    let script = |name: &str| repository::read(&format!("deploy/argocd/rollout/actions/{name}.lua"));
    assert_eq!(
        actions["discovery.lua"].as_str(),
        Some(script("discovery").as_str()),
        "{stale}"
    );
    let definitions = actions["definitions"].as_array().unwrap();
    assert_eq!(definitions.len(), 3);
    for definition in definitions {
        let name = definition["name"].as_str().unwrap();
        assert_eq!(
            definition["action.lua"].as_str(),
            Some(script(name).as_str()),
            "{stale}"
        );
    }
}

/// What is meant to be copied can at least be read, and says what it is.
#[test]
fn examples_for_gitops_are_objects() {
    for file in [
        "deploy/argocd/application.yaml",
        "deploy/flux/sluice.yaml",
        "deploy/flux/routes.yaml",
    ] {
        let text = repository::read(file);
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert!(objects.len() >= 2, "{file}");
        for object in objects {
            assert!(
                object["kind"].is_string() && object["metadata"]["name"].is_string(),
                "{file}: {object}"
            );
        }
    }
}
