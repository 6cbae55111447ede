//! One YAML document → one object (or several, of a `List`), or Problems that say why not.
//!
//! A document whose object can be told but whose content is refused still counts as that object: it is then
//! quarantined, not gone. A document that cannot be told at all makes its file *incomplete*: whatever the file held
//! before is not taken for deleted.

use std::sync::Arc;

use sluice_crds::{API_VERSION, GROUP};
use sluice_model::{Kind, Name, ObjectKey};

use super::content::{self, Content};
use super::core;
use super::schema::{Finding, shorten, suggestion};
use super::yaml::Node;
use crate::objects::{Object, Origin};
use crate::problem::{Effect, FieldPath, Place, Problem, Severity};

/// What the documents of one file are.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The objects that could be told.
    pub objects: Vec<Arc<Object>>,
    /// Documents of Kubernetes' own kinds.
    pub core: Vec<core::Document>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Whether there may be objects in it that could not be told.
    pub incomplete: bool,
}

/// The namespace of objects that name none, as in `kubectl apply` without a namespace.
const DEFAULT_NAMESPACE: &str = "default";

/// The objects in `documents`, which were read from `file`.
pub fn read(file: &Arc<str>, documents: Vec<Node>) -> Manifests {
    let mut out = Manifests::default();
    for document in documents {
        let is_list = document
            .get("kind")
            .and_then(Node::text)
            .is_some_and(|kind| kind.ends_with("List"));
        match document.get("items").filter(|_| is_list) {
            Some(items) => items.items().iter().for_each(|item| one(file, item.clone(), &mut out)),
            None => one(file, document, &mut out),
        }
    }
    out
}

fn one(file: &Arc<str>, document: Node, out: &mut Manifests) {
    let reading = Reading {
        file,
        document: &document,
    };
    match core::read(&document) {
        Some(Ok(document)) => return out.core.push(document),
        Some(Err(core::Unreadable { field, lack })) => return reading.refuse(out, field, lack.message, lack.fix),
        None => {}
    }
    let Some(kind) = reading.kind(out) else { return };
    let Some(key) = reading.key(kind, out) else { return };
    let Content {
        created_at_seconds,
        annotations,
        spec,
        findings,
    } = content::read(kind, &document);
    out.problems
        .extend(findings.into_iter().map(|finding| reading.problem(Some(&key), finding)));
    let origin = Origin::File {
        file: file.clone(),
        manifest: Arc::new(document),
    };
    out.objects.push(Arc::new(Object {
        key,
        created_at_seconds,
        annotations,
        spec,
        origin,
        stored: None,
        also_in: vec![],
    }));
}

/// One document that is being read.
struct Reading<'a> {
    file: &'a Arc<str>,
    document: &'a Node,
}

impl Reading<'_> {
    fn problem(&self, object: Option<&ObjectKey>, finding: Finding) -> Problem {
        let Finding {
            field,
            at,
            message,
            fix,
        } = finding;
        let place = Some(Place {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
        });
        Problem {
            place,
            object: object.cloned(),
            field,
            severity: Severity::Error,
            message,
            fix,
            effect: None,
        }
    }

    /// Refuses the whole document: its object cannot be told.
    fn refuse(&self, out: &mut Manifests, field: &str, message: impl Into<String>, fix: impl Into<String>) {
        let field = FieldPath::root(field);
        let at = self.document.locate(field.as_str());
        let finding = Finding {
            field,
            at,
            message: message.into(),
            fix: fix.into(),
        };
        let effect = Some(Effect::FileAsBefore);
        out.problems.push(Problem {
            effect,
            ..self.problem(None, finding)
        });
        out.incomplete = true;
    }

    /// Which of our kinds it is. Objects of other groups are passed over with a warning.
    fn kind(&self, out: &mut Manifests) -> Option<Kind> {
        let text = |field: &str| self.document.get(field).and_then(Node::text);
        let known = || Kind::ALL.into_iter().map(Kind::as_str);
        if self.document.entries().is_empty() {
            self.refuse(
                out,
                "",
                "this is no manifest",
                format!("begin with apiVersion: {API_VERSION} and kind:"),
            );
            return None;
        }
        let kind = text("kind").unwrap_or_default();
        match text("apiVersion") {
            Some(API_VERSION) => {}
            Some(other) if other.split('/').next() == Some(GROUP) => {
                self.refuse(
                    out,
                    "apiVersion",
                    format!("{:?} is not a version of {GROUP}", shorten(other)),
                    format!("write {API_VERSION}"),
                );
                return None;
            }
            Some(other) if known().all(|name| name != kind) => {
                self.ignore(out, other, kind);
                return None;
            }
            Some(other) => {
                self.refuse(
                    out,
                    "apiVersion",
                    format!("there is no {kind} in {:?}", shorten(other)),
                    format!("write {API_VERSION}"),
                );
                return None;
            }
            None => {
                self.refuse(
                    out,
                    "apiVersion",
                    "this field is required",
                    format!("add apiVersion: {API_VERSION}"),
                );
                return None;
            }
        }
        let found = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        if found.is_none() {
            let list = known().collect::<Vec<_>>().join(", ");
            let (message, fix) = match (kind, suggestion(kind, known())) {
                ("", _) => ("this field is required".to_owned(), format!("add kind: one of {list}")),
                (_, Some(near)) => (
                    format!("{:?} is not a kind of {GROUP}", shorten(kind)),
                    format!("did you mean {near:?}?"),
                ),
                (_, None) => (
                    format!("{:?} is not a kind of {GROUP}", shorten(kind)),
                    format!("use one of {list}"),
                ),
            };
            self.refuse(out, "kind", message, fix);
        }
        found
    }

    fn ignore(&self, out: &mut Manifests, api_version: &str, kind: &str) {
        let at = self.document.at;
        let place = Place {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
        };
        let what = format!(
            "{} {} is not one of Sluice's kinds and is ignored",
            shorten(api_version),
            shorten(kind)
        );
        out.problems.push(Problem::of_file(
            Severity::Warning,
            place,
            what.replace("  ", " "),
            "move it elsewhere to silence this",
        ));
    }

    fn key(&self, kind: Kind, out: &mut Manifests) -> Option<ObjectKey> {
        let metadata = self.document.get("metadata");
        let field = |name: &str| metadata.and_then(|metadata| metadata.get(name));
        let Some(name) = field("name") else {
            self.refuse(
                out,
                "metadata.name",
                "this field is required",
                "add it: the name of the object",
            );
            return None;
        };
        let namespace = field("namespace").map_or(Some(DEFAULT_NAMESPACE), Node::text);
        let parsed = |at: &str, text: Option<&str>, out: &mut Manifests| {
            let Some(text) = text else {
                self.refuse(out, at, "a text is needed here", "put it in quotes");
                return None;
            };
            text.parse::<Name>()
                .map_err(|error| self.refuse(out, at, error.to_string(), "rename it"))
                .ok()
        };
        let name = parsed("metadata.name", name.text(), out)?;
        let namespace = parsed("metadata.namespace", namespace, out)?;
        Some(ObjectKey::new(kind, namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Spec;
    use crate::source::yaml;

    fn check(text: &str, objects: &[&str], problems: &[&str]) {
        let read = read(&"a.yaml".into(), yaml::documents(text).unwrap());
        let found: Vec<_> = read.objects.iter().map(|object| object.key.to_string()).collect();
        assert_eq!(found, objects, "{text}");
        let told: Vec<_> = read.problems.iter().map(Problem::to_string).collect();
        assert_eq!(told, problems, "{text}");
    }

    const POOL: &str = "{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {name: a}, spec: {endpoints: [{address: 10.0.0.1, port: 80}]}}";

    #[test]
    fn documents_and_lists() {
        check(POOL, &["Pool default/a"], &[]);
        check(
            &format!("apiVersion: v1\nkind: List\nitems:\n- {POOL}\n"),
            &["Pool default/a"],
            &[],
        );
        check(
            &format!("{POOL}\n---\n{}\n", POOL.replace("name: a", "name: b")),
            &["Pool default/a", "Pool default/b"],
            &[],
        );
    }

    #[test]
    fn others_are_ignored_with_a_word() {
        check(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
            &[],
            &[
                "a.yaml:1:1: warning: apps/v1 Deployment is not one of Sluice's kinds and is ignored; move it elsewhere to silence this",
            ],
        );
    }

    #[test]
    fn what_cannot_be_told_makes_the_file_incomplete() {
        for (from, to) in [
            ("kind: Pool", "kind: Pol"),
            ("name: a", "nmae: a"),
            ("v1alpha1", "v1"),
            ("name: a", "name: A_"),
        ] {
            let read = read(&"a.yaml".into(), yaml::documents(&POOL.replace(from, to)).unwrap());
            assert!(
                read.incomplete && read.objects.is_empty() && read.problems.len() == 1,
                "{to}: {:?}",
                read.problems
            );
        }
    }

    #[test]
    fn a_refused_object_is_still_that_object() {
        let read = read(
            &"a.yaml".into(),
            yaml::documents(&POOL.replace("port: 80", "port: 0")).unwrap(),
        );
        assert!(!read.incomplete);
        assert_eq!(read.objects[0].spec, Spec::Unreadable);
    }
}
