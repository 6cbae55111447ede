//! What one object says: its annotations, its age, and its `spec` against the schema and into its type. The one reader of
//! every source, so that a file and an API server's object are told the same.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use sluice_model::Kind;

use super::limits;
use super::schema::{Finding, Schema, shorten, unknown_field_fix};
use super::yaml::{Key, Node, Position};
use crate::objects::Spec;
use crate::problem::FieldPath;

/// What an object says.
#[derive(Debug)]
pub struct Content {
    /// When it was created, in seconds since 1970, if it says so.
    pub created_at_seconds: Option<u64>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its content; `Unreadable` if anything is wrong.
    pub spec: Spec,
    /// What is wrong, as much as is of use.
    pub findings: Vec<Finding>,
}

/// What `document` says, which is an object of `kind`.
pub fn read(kind: Kind, document: &Node) -> Content {
    let reading = Reading { document };
    let mut findings = Vec::new();
    reading.check(kind, &mut findings);
    let created_at_seconds = reading.created(&mut findings);
    let annotations = reading.annotations(&mut findings);
    let spec = if findings.is_empty() {
        reading.spec(kind, &mut findings)
    } else {
        Spec::Unreadable
    };
    findings.truncate(limits::PROBLEMS_PER_DOCUMENT);
    Content {
        created_at_seconds,
        annotations,
        spec,
        findings,
    }
}

/// Fields of `metadata` that Kubernetes knows (`metav1.ObjectMeta`).
const METADATA_FIELDS: [&str; 15] = [
    "name",
    "namespace",
    "annotations",
    "labels",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

static SCHEMAS: LazyLock<BTreeMap<&'static str, Schema>> = LazyLock::new(|| {
    let crds = sluice_crds::generate::all().unwrap_or_default();
    crds.iter().map(|crd| (crd.kind, Schema::new(crd.schema()))).collect()
});

/// One document that is being read.
struct Reading<'a> {
    document: &'a Node,
}

impl Reading<'_> {
    /// Checks top level, `metadata` and `spec`. `status` is ours to write, so whatever a copy of it says is not read.
    fn check(&self, kind: Kind, findings: &mut Vec<Finding>) {
        const TOP: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
        let metadata = self.document.get("metadata").map(Node::entries).unwrap_or_default();
        unknown(&FieldPath::default(), self.document.entries(), &TOP, findings);
        unknown(&FieldPath::root("metadata"), metadata, &METADATA_FIELDS, findings);
        let Some(schema) = SCHEMAS.get(kind.as_str()).and_then(|schema| schema.property("spec")) else {
            return;
        };
        match self.document.get("spec") {
            Some(spec) => schema.check(&FieldPath::root("spec"), spec, findings),
            None => findings.push(Finding {
                field: FieldPath::root("spec"),
                at: self.document.at,
                message: "this field is required".into(),
                fix: format!("add it: see `kubectl explain {}.spec`", kind.as_str().to_lowercase()),
            }),
        }
    }

    fn created(&self, findings: &mut Vec<Finding>) -> Option<u64> {
        let node = self.document.get("metadata")?.get("creationTimestamp")?;
        let text = node.text()?; // `null` is what kubectl writes into manifests that it drafts.
        let parsed = text
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|time| u64::try_from(time.as_second()).ok());
        if parsed.is_none() {
            findings.push(Finding {
                field: FieldPath::root("metadata").field("creationTimestamp"),
                at: node.at,
                message: format!("{:?} is not a time", shorten(text)),
                fix: "leave it out, or write it as 2026-11-23T10:20:00Z".into(),
            });
        }
        parsed
    }

    fn annotations(&self, findings: &mut Vec<Finding>) -> BTreeMap<String, String> {
        let node = self
            .document
            .get("metadata")
            .and_then(|metadata| metadata.get("annotations"));
        let entries = node.map(Node::entries).unwrap_or_default();
        let mut annotations = BTreeMap::new();
        for (key, value) in entries {
            match value.text() {
                Some(text) => drop(annotations.insert(key.text.clone(), text.to_owned())),
                None => findings.push(Finding {
                    field: FieldPath::root("metadata").field("annotations").field(&key.text),
                    at: value.at,
                    message: "an annotation is a text".into(),
                    fix: "put it in quotes".into(),
                }),
            }
        }
        annotations
    }

    fn spec(&self, kind: Kind, findings: &mut Vec<Finding>) -> Spec {
        match kind {
            Kind::ProxyRoute => self.typed(findings).map(Spec::ProxyRoute),
            Kind::Pool => self.typed(findings).map(Spec::Pool),
            Kind::Rollout => self.typed(findings).map(Spec::Rollout),
        }
        .unwrap_or(Spec::Unreadable)
    }

    fn typed<T: DeserializeOwned>(&self, findings: &mut Vec<Finding>) -> Option<T> {
        let spec = self.document.get("spec")?;
        serde_json::from_value(spec.to_json())
            .map_err(|error| findings.push(refused_by_type(spec.at, &error)))
            .ok()
    }
}

/// The schema let it through and the type does not: a gap between the two, said as well as it can be.
fn refused_by_type(at: Position, error: &serde_json::Error) -> Finding {
    Finding {
        field: FieldPath::root("spec"),
        at,
        message: error.to_string(),
        fix: "compare with the documentation".into(),
    }
}

fn unknown(field: &FieldPath, entries: &[(Key, Node)], known: &[&str], findings: &mut Vec<Finding>) {
    for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
        findings.push(Finding {
            field: field.field(&key.text),
            at: key.at,
            message: "there is no such field".into(),
            fix: unknown_field_fix(&key.text, known.iter().copied()),
        });
    }
}
