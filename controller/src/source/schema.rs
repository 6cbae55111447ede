//! The CRD schema, applied to a manifest as the API server would apply it, but with places and advice.
//!
//! Built from the generated CRDs, so that every bound, pattern and enum of the API holds in the directory source
//! without being written twice. CEL rules are not run here: their twins are in `translate`.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value as Json;

use super::yaml::{Node, Position, Value};
use crate::problem::FieldPath;

/// What one value may be.
#[derive(Debug)]
pub struct Schema {
    shape: Shape,
    description: String,
}

#[derive(Debug)]
enum Shape {
    Object {
        properties: BTreeMap<String, Schema>,
        required: Vec<String>,
    },
    /// A mapping whose keys are the author's.
    Map {
        values: Box<Schema>,
        max: usize,
    },
    List {
        items: Box<Schema>,
        min: usize,
        max: usize,
        unique: Unique,
    },
    Text {
        min: usize,
        max: usize,
        pattern: Option<Pattern>,
        choices: Vec<String>,
    },
    Integer {
        min: i128,
        max: i128,
    },
    IntegerOrText {
        min: i128,
        max: i128,
        pattern: Option<Pattern>,
    },
    Boolean,
    /// Not described further.
    Any,
}

/// What must not stand in a list twice.
#[derive(Debug)]
enum Unique {
    /// Anything may.
    No,
    /// A value.
    Values,
    /// Items that agree in these fields.
    Keys(Vec<String>),
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    meaning: String,
}

/// One thing that a schema has against a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field.
    pub field: FieldPath,
    /// Where it was written.
    pub at: Position,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub fix: String,
}

impl Schema {
    /// The schema that `json` (an OpenAPI v3 schema of a CRD) says.
    pub fn new(json: &Json) -> Self {
        let description = json
            .get("description")
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned();
        Self {
            shape: shape(json),
            description,
        }
    }

    /// The field called `name` of this object.
    pub fn property(&self, name: &str) -> Option<&Schema> {
        match &self.shape {
            Shape::Object { properties, .. } => properties.get(name),
            Shape::Map { .. }
            | Shape::List { .. }
            | Shape::Text { .. }
            | Shape::Integer { .. }
            | Shape::IntegerOrText { .. }
            | Shape::Boolean
            | Shape::Any => None,
        }
    }

    /// Appends to `findings` what is wrong with `node`, which is the value of `field`.
    pub fn check(&self, field: &FieldPath, node: &Node, findings: &mut Vec<Finding>) {
        let mut report = Report { field, node, findings };
        match (&self.shape, &node.value) {
            (Shape::Any, _) | (Shape::Boolean, Value::Bool(_)) => {}
            (Shape::Object { properties, required }, Value::Map(_)) => object(properties, required, &mut report),
            (Shape::Map { values, max }, Value::Map(_)) => map(values, *max, &mut report),
            (
                Shape::List {
                    items,
                    min,
                    max,
                    unique,
                },
                Value::List(_),
            ) => {
                list_size(*min, *max, &mut report);
                duplicates(unique, &mut report);
                for (index, item) in node.items().iter().enumerate() {
                    items.check(&field.index(index), item, report.findings);
                }
            }
            (
                Shape::Text {
                    min,
                    max,
                    pattern,
                    choices,
                },
                Value::Text(text),
            ) => {
                report.text(text, (*min, *max), pattern.as_ref(), choices);
            }
            (Shape::Integer { min, max } | Shape::IntegerOrText { min, max, .. }, Value::Integer(number)) => {
                if number < min || number > max {
                    report.add(
                        format!("{number} is out of range"),
                        format!("use a number from {min} to {max}"),
                    );
                }
            }
            (Shape::IntegerOrText { pattern, .. }, Value::Text(text)) => {
                report.text(text, (1, usize::MAX), pattern.as_ref(), &[]);
            }
            (_, Value::Null) => report.add(
                "no value is given".into(),
                format!("give it one: {}", first_sentence(&self.description)),
            ),
            (
                Shape::Object { .. }
                | Shape::Map { .. }
                | Shape::List { .. }
                | Shape::Text { .. }
                | Shape::Integer { .. }
                | Shape::IntegerOrText { .. }
                | Shape::Boolean,
                value,
            ) => report.wrong_type(&self.shape, value),
        }
    }
}

fn shape(json: &Json) -> Shape {
    let size = |key: &str| {
        json.get(key)
            .and_then(Json::as_u64)
            .and_then(|n| usize::try_from(n).ok())
    };
    let number = |key: &str| json.get(key).and_then(Json::as_i64).map(i128::from);
    let texts = |key: &str| -> Vec<String> {
        let values = json.get(key).and_then(Json::as_array);
        values
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .map(str::to_owned)
            .collect()
    };
    let (min, max) = (
        number("minimum").unwrap_or(i64::MIN.into()),
        number("maximum").unwrap_or(i64::MAX.into()),
    );
    if json.get("x-kubernetes-int-or-string") == Some(&Json::Bool(true)) {
        return Shape::IntegerOrText {
            min,
            max,
            pattern: pattern(json),
        };
    }
    match json.get("type").and_then(Json::as_str) {
        Some("object") => match json.get("properties").and_then(Json::as_object) {
            Some(properties) => Shape::Object {
                properties: properties
                    .iter()
                    .map(|(name, schema)| (name.clone(), Schema::new(schema)))
                    .collect(),
                required: texts("required"),
            },
            None => match json.get("additionalProperties") {
                Some(values) if values.is_object() => Shape::Map {
                    values: Box::new(Schema::new(values)),
                    max: size("maxProperties").unwrap_or(usize::MAX),
                },
                Some(_) | None => Shape::Any,
            },
        },
        Some("array") => Shape::List {
            items: Box::new(Schema::new(json.get("items").unwrap_or(&Json::Null))),
            min: size("minItems").unwrap_or(0),
            max: size("maxItems").unwrap_or(usize::MAX),
            unique: match json.get("x-kubernetes-list-type").and_then(Json::as_str) {
                Some("set") => Unique::Values,
                Some("map") => Unique::Keys(texts("x-kubernetes-list-map-keys")),
                Some(_) | None => Unique::No,
            },
        },
        Some("string") => Shape::Text {
            min: size("minLength").unwrap_or(0),
            max: size("maxLength").unwrap_or(usize::MAX),
            pattern: pattern(json),
            choices: texts("enum"),
        },
        Some("integer") => Shape::Integer { min, max },
        Some("boolean") => Shape::Boolean,
        Some(_) | None => Shape::Any,
    }
}

fn pattern(json: &Json) -> Option<Pattern> {
    let text = json.get("pattern")?.as_str()?;
    let meaning = sluice_crds::bounds::PATTERN_MEANINGS
        .iter()
        .find(|(pattern, _)| *pattern == text);
    let meaning = meaning.map_or_else(
        || format!("a text that matches {text}"),
        |(_, meaning)| (*meaning).to_owned(),
    );
    // A test compiles the patterns of every CRD, so none is lost here.
    Regex::new(text).ok().map(|regex| Pattern { regex, meaning })
}

/// The value under examination, and where findings about it go.
struct Report<'a> {
    field: &'a FieldPath,
    node: &'a Node,
    findings: &'a mut Vec<Finding>,
}

impl Report<'_> {
    fn add(&mut self, message: String, fix: String) {
        self.add_at(self.field.clone(), self.node.at, message, fix);
    }

    fn add_at(&mut self, field: FieldPath, at: Position, message: String, fix: String) {
        self.findings.push(Finding {
            field,
            at,
            message,
            fix,
        });
    }

    fn text(&mut self, text: &str, (min, max): (usize, usize), pattern: Option<&Pattern>, choices: &[String]) {
        let length = text.chars().count();
        if length > max {
            return self.add(
                format!("{length} characters are too many"),
                format!("use at most {max}"),
            );
        }
        if let Some(pattern) = pattern.filter(|pattern| !pattern.regex.is_match(text)) {
            return self.add(
                format!("{:?} is not allowed", shorten(text)),
                format!("use {}", pattern.meaning),
            );
        }
        if length < min {
            return self.add(
                "an empty text is not allowed".into(),
                "give it a value, or leave the field out".into(),
            );
        }
        if !choices.is_empty() && !choices.iter().any(|choice| choice == text) {
            let names = choices.iter().map(String::as_str);
            let fix = suggestion(text, names).map_or_else(
                || format!("use one of {}", choices.join(", ")),
                |near| format!("did you mean {near:?}? One of {}", choices.join(", ")),
            );
            self.add(format!("{:?} is not one of the choices", shorten(text)), fix);
        }
    }

    fn wrong_type(&mut self, shape: &Shape, found: &Value) {
        let wanted = match shape {
            Shape::Object { .. } | Shape::Map { .. } => "a mapping of fields",
            Shape::List { .. } => "a list",
            Shape::Text { .. } => "a text",
            Shape::Integer { .. } => "a whole number",
            Shape::IntegerOrText { .. } => "a whole number or a text",
            Shape::Boolean => "true or false",
            Shape::Any => "a value",
        };
        let fix = match (shape, found) {
            (Shape::List { .. }, _) => "put '- ' before each item".to_owned(),
            (Shape::Text { .. }, Value::Integer(_) | Value::Float(_) | Value::Bool(_)) => "put it in quotes".to_owned(),
            (Shape::IntegerOrText { .. }, Value::Float(_)) => "put it in quotes, with its unit".to_owned(),
            (Shape::Integer { .. } | Shape::Boolean, Value::Text(_)) => format!("write {wanted}, without quotes"),
            (
                Shape::Object { .. }
                | Shape::Map { .. }
                | Shape::Text { .. }
                | Shape::Integer { .. }
                | Shape::IntegerOrText { .. }
                | Shape::Boolean
                | Shape::Any,
                _,
            ) => format!("write {wanted}"),
        };
        self.add(format!("{wanted} is needed here, not {}", describe(found)), fix);
    }
}

fn object(properties: &BTreeMap<String, Schema>, required: &[String], report: &mut Report<'_>) {
    let node = report.node;
    for (key, value) in node.entries() {
        let field = report.field.field(&key.text);
        match properties.get(&key.text) {
            Some(schema) => schema.check(&field, value, report.findings),
            None => {
                let fix = unknown_field_fix(&key.text, properties.keys().map(String::as_str));
                report.add_at(field, key.at, "there is no such field".into(), fix);
            }
        }
    }
    for name in required.iter().filter(|name| node.get(name).is_none()) {
        let description = properties
            .get(name)
            .map(|schema| schema.description.as_str())
            .unwrap_or_default();
        let fix = format!("add {name}: {}", first_sentence(description));
        report.add_at(
            report.field.field(name),
            node.at,
            "this field is required".into(),
            fix.trim_end_matches(": ").into(),
        );
    }
}

fn map(values: &Schema, max: usize, report: &mut Report<'_>) {
    let entries = report.node.entries();
    if entries.len() > max {
        report.add(
            format!("{} entries are too many", entries.len()),
            format!("use at most {max}"),
        );
    }
    for (key, value) in entries {
        values.check(&report.field.field(&key.text), value, report.findings);
    }
}

fn list_size(min: usize, max: usize, report: &mut Report<'_>) {
    let length = report.node.items().len();
    if length < min {
        report.add("the list is empty".into(), format!("give it at least {min} item"));
    }
    if length > max {
        report.add(
            format!("{length} items are too many"),
            format!("use at most {max}; split the object in two"),
        );
    }
}

fn duplicates(unique: &Unique, report: &mut Report<'_>) {
    let identity = |item: &Node| match unique {
        Unique::No => None,
        Unique::Values => item.text().map(str::to_owned),
        Unique::Keys(keys) => {
            let parts: Option<Vec<String>> = keys
                .iter()
                .map(|key| item.get(key).map(|n| n.to_json().to_string()))
                .collect();
            parts.map(|parts| parts.join(" "))
        }
    };
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (index, item) in report.node.items().iter().enumerate() {
        let Some(id) = identity(item) else { continue };
        if let Some(first) = seen.get(&id) {
            let what = match unique {
                Unique::Keys(keys) => format!("the same {} as in {}", keys.join(" and "), report.field.index(*first)),
                Unique::No | Unique::Values => format!("the same as {}", report.field.index(*first)),
            };
            report.add_at(report.field.index(index), item.at, what, "remove one of the two".into());
        } else {
            seen.insert(id, index);
        }
    }
}

/// What to say about the unknown field `name` where `known` ones exist.
pub(super) fn unknown_field_fix<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match suggestion(name, known.clone()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!(
            "remove it; the fields here are {}",
            known.collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The one of `known` that `text` was probably meant to be.
pub(crate) fn suggestion<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase();
    known
        .map(|candidate| (strsim::jaro_winkler(&text, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// The first sentence of a description, without its full stop.
fn first_sentence(text: &str) -> &str {
    let end = text.find(". ").unwrap_or(text.len());
    text.get(..end).unwrap_or(text).trim_end_matches('.')
}

pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(value) => format!("{value}"),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Text(text) => format!("the text {:?}", shorten(text)),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a mapping".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::yaml;

    fn check(schema: Json, text: &str) -> Vec<String> {
        let node = &yaml::documents(text).unwrap()[0];
        let mut findings = Vec::new();
        Schema::new(&schema).check(&FieldPath::default(), node, &mut findings);
        findings
            .iter()
            .map(|f| format!("{} {}: {}; {}", f.at.line, f.field, f.message, f.fix))
            .collect()
    }

    #[test]
    fn every_pattern_of_the_crds_compiles_and_has_a_meaning() {
        fn walk(json: &Json, count: &mut usize) {
            if let Some(text) = json.get("pattern").and_then(Json::as_str) {
                assert!(Regex::new(text).is_ok(), "{text}");
                *count += 1;
            }
            for child in json.as_object().into_iter().flat_map(|map| map.values()) {
                walk(child, count);
            }
        }
        let mut count = 0;
        for crd in sluice_crds::generate::all().unwrap() {
            walk(crd.schema(), &mut count);
        }
        assert!(count > 10, "{count}");
    }

    #[test]
    fn says_what_is_wrong_and_how_to_mend_it() {
        let schema = serde_json::json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "maxLength": 5, "description": "The name."},
            "port": {"type": "integer", "minimum": 1, "maximum": 9},
            "mode": {"type": "string", "enum": ["Exact", "Present"]},
            "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        }});
        assert_eq!(
            check(schema, "nmae: x\nport: 10\nmode: exakt\ntags: [a, 1, a]\n"),
            [
                "1 nmae: there is no such field; did you mean \"name\"?",
                "2 port: 10 is out of range; use a number from 1 to 9",
                "3 mode: \"exakt\" is not one of the choices; did you mean \"Exact\"? One of Exact, Present",
                "4 tags: 3 items are too many; use at most 2; split the object in two",
                "4 tags[2]: the same as tags[0]; remove one of the two",
                "4 tags[1]: a text is needed here, not the number 1; put it in quotes",
                "1 name: this field is required; add name: The name",
            ]
        );
    }
}
