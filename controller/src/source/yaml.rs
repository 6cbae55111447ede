//! YAML as a tree that knows where each part was written.
//!
//! Everything a manifest can hold is bounded here: size of documents, nesting, aliases. What the tree means is
//! `manifest`'s and `schema`'s business.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::limits;

/// A place in a text: line and column from 1; 0 is unknown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl Position {
    fn of(location: serde_saphyr::Location) -> Self {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            line: small(location.line()),
            column: small(location.column()),
        }
    }
}

/// One value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// What YAML can say, as far as Kubernetes manifests use it.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: `field:` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// The key of a mapping's entry.
#[derive(Clone, Debug)]
pub struct Key {
    /// Where it begins.
    pub at: Position,
    /// Its text.
    pub text: String,
}

/// Why a text is not YAML.
#[derive(Clone, Debug)]
pub struct YamlError {
    /// Where reading stopped.
    pub at: Position,
    /// Why.
    pub message: String,
}

impl Node {
    /// The value of the entry called `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    /// The entries, if this is a mapping.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => &[],
        }
    }

    /// The items, if this is a list.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => &[],
        }
    }

    /// The text, if this is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Where people look for this value: at the value itself if it stands beside its key, else at the key.
    fn place_under(&self, key: &Key) -> Position {
        if self.at.line == key.at.line { self.at } else { key.at }
    }

    /// Where the field at `path` (`spec.rules[0].pool`) was written, or the nearest part around it that exists.
    pub fn locate(&self, path: &str) -> Position {
        let mut here = self;
        let mut at = self.at;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let next = match step.strip_suffix(']') {
                Some(index) => index
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| here.items().get(index))
                    .map(|n| (n.at, n)),
                None => here
                    .entries()
                    .iter()
                    .find(|(key, _)| key.text == step)
                    .map(|(key, node)| (node.place_under(key), node)),
            };
            let Some((found_at, node)) = next else { break };
            (here, at) = (node, found_at);
        }
        at
    }

    /// The same value, written nowhere: as an API server has it.
    pub fn from_json(json: &serde_json::Value) -> Self {
        let at = Position::default();
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(whole), _) => Value::Integer(whole),
                (None, Some(float)) => Value::Float(float),
                (None, None) => Value::Null,
            },
            serde_json::Value::String(text) => Value::Text(text.clone()),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(entries) => {
                let entries = entries.iter().map(|(text, value)| {
                    let text = text.clone();
                    (Key { at, text }, Self::from_json(value))
                });
                Value::Map(entries.collect())
            }
        };
        Self { at, value }
    }

    /// The same without places.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(number) => i64::try_from(*number).map_or(serde_json::Value::Null, Into::into),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, node)| (key.text.clone(), node.to_json()))
                .collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            at: Position::of(spanned.referenced),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        while let Some((key, node)) = map.next_entry::<Spanned<String>, Node>()? {
            if entries.iter().any(|(earlier, _)| earlier.text == key.value) {
                return Err(de::Error::custom(format!("the key {:?} stands here twice", key.value)));
            }
            entries.push((
                Key {
                    at: Position::of(key.referenced),
                    text: key.value,
                },
                node,
            ));
        }
        Ok(Value::Map(entries))
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: limits::DOCUMENTS_PER_FILE,
            max_depth: limits::YAML_DEPTH,
            max_nodes: limits::YAML_NODES_PER_FILE,
            max_aliases: limits::YAML_ALIASES_PER_FILE,
            max_merge_keys: limits::YAML_ALIASES_PER_FILE,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits::YAML_ALIASED_VALUES_PER_FILE,
        },
        // YAML 1.2: `no` and `on` are texts, as newer tools write them; a Boolean field says so.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        with_snippet: false,
    }
}

/// Every document of `text`. One broken document makes the whole text unreadable: what follows it may be misread.
pub fn documents(text: &str) -> Result<Vec<Node>, YamlError> {
    let nodes: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| YamlError {
        at: error.location().map(Position::of).unwrap_or_default(),
        message: first_line(&error),
    })?;
    Ok(nodes
        .into_iter()
        .filter(|node| !matches!(node.value, Value::Null))
        .collect())
}

/// What is wrong, without the place, which is told apart.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    // Neither the place, which is told apart, nor advice to programmers.
    let cuts = [" at line ", ", set DuplicateKeyPolicy"];
    let cut = cuts.iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
    line.get(..cut).unwrap_or(line).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_fields() {
        let text = "kind: Pool\nspec:\n  endpoints:\n    - address: 10.0.0.1\n      port: 80\n---\nkind: List\n";
        let nodes = documents(text).unwrap();
        assert_eq!(nodes.len(), 2);
        let locate = |path: &str| (nodes[0].locate(path).line, nodes[0].locate(path).column);
        assert_eq!(locate("spec.endpoints[0].port"), (5, 13));
        assert_eq!(locate("spec.endpoints[0]"), (4, 7));
        assert_eq!(locate("spec.endpoints[7].port"), (3, 3), "the nearest part that exists");
        assert_eq!(locate("spec.nothing"), (2, 1));
        assert_eq!(nodes[1].locate("kind").line, 7);
    }

    #[test]
    fn broken_text_says_where() {
        for (text, line) in [
            ("a: [1\nb: 2\n", 2),
            ("a:\n\tb: 1\n", 2),
            ("a: 1\na: 2\n", 2),
            ("a: 'x\n", 1),
        ] {
            let error = documents(text).unwrap_err();
            assert!(
                error.at.line >= line && !error.message.is_empty(),
                "{text:?}: {error:?}"
            );
        }
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let lower = vec![format!("*a{}", level - 1); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{lower}]\n"));
        }
        assert!(documents(&text).is_err());
        let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(documents(&deep).is_err());
    }

    #[test]
    fn scalars_are_what_they_look_like() {
        let node = &documents("[yes, true, 1, 1.5, '1', ~, 010]").unwrap()[0];
        let json = node.to_json();
        assert_eq!(json, serde_json::json!(["yes", true, 1, 1.5, "1", null, "010"]));
    }
}
