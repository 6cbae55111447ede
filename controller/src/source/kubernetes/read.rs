//! An API server's object → what is known of it: ours by the reader of every source, Kubernetes' own as far as they are of
//! use, and nothing else kept: no `managedFields`, no copy of what was last applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_model::{Kind, Name, ObjectKey};

use super::kinds::Watched;
use super::shown;
use super::store::{Place, Sighting, Version};
use crate::live::resolve::SERVICE_NAME_LABEL;
use crate::objects::{Object, Origin, Stored};
use crate::problem::{Problem, Severity};
use crate::source::cluster::Namespace;
use crate::source::content::{self, Content};
use crate::source::yaml::Node;

/// What kubectl notes of a client-side apply: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What a watch has seen.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// A namespace.
    Namespace(Namespace),
    /// One of ours.
    Object(Written),
    /// A Service.
    Service(Arc<Service>),
    /// Endpoints of the Service of this name, in the slice's namespace.
    Slice(Name, Arc<EndpointSlice>),
}

/// One of our objects as it is written, and what is wrong with that.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// The object.
    pub(super) object: Arc<Object>,
    /// What its schema, or its type, has against it.
    pub(super) problems: Arc<[Problem]>,
    /// Its status as it is shown, which is somebody else's business.
    pub(super) shown: Arc<DynamicObject>,
}

/// Why something that was seen is passed over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Passed {
    /// It is not of a form that an API server gives out, or of no use: a slice of no Service.
    #[error("{0}")]
    Odd(String),
}

/// What `seen`, which is of the kind `watched`, says.
///
/// # Errors
/// When it is of no use. What is wrong with one of our objects is no error: it is still that object.
pub(super) fn read(watched: Watched, seen: DynamicObject) -> Result<Sighting<Seen>, Passed> {
    let metadata = seen.metadata.clone();
    let place = place(&metadata)?;
    let value = match watched {
        Watched::Namespace => Seen::Namespace(namespace(&metadata)),
        Watched::Object(kind) => Seen::Object(written(kind, &place, &metadata, &seen.data)),
        Watched::Service => Seen::Service(Arc::new(service(typed(seen)?))),
        Watched::EndpointSlice => {
            let slice: EndpointSlice = typed(seen)?;
            Seen::Slice(service_of(&slice)?, Arc::new(useful(slice)))
        }
    };
    Ok(Sighting {
        place,
        uid: metadata.uid.unwrap_or_default().into(),
        version: Version::of(metadata.resource_version.as_deref().unwrap_or_default()),
        value,
    })
}

/// Where an object is. A namespace is in itself.
pub(super) fn place(metadata: &ObjectMeta) -> Result<Place, Passed> {
    let odd = |error: sluice_model::names::NameError| Passed::Odd(error.to_string());
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or(name);
    Ok((namespace.parse().map_err(odd)?, name.parse().map_err(odd)?))
}

fn created(metadata: &ObjectMeta) -> Option<u64> {
    let at = metadata.creation_timestamp.as_ref()?;
    u64::try_from(at.0.as_second()).ok()
}

fn namespace(metadata: &ObjectMeta) -> Namespace {
    Namespace {
        created_at_seconds: created(metadata),
        labels: metadata.labels.clone().unwrap_or_default(),
    }
}

/// The object of `kind` that an API server gives out as `object`, and what is wrong with it.
///
/// # Errors
/// When it is no object of an API server: it has no name, say.
pub fn object(kind: Kind, object: &DynamicObject) -> Result<(Arc<Object>, Vec<Problem>), Passed> {
    let place = place(&object.metadata)?;
    let written = written(kind, &place, &object.metadata, &object.data);
    Ok((written.object, written.problems.to_vec()))
}

/// One of our objects, by the reader of every source.
fn written(kind: Kind, (namespace, name): &Place, metadata: &ObjectMeta, data: &Value) -> Written {
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    let Content {
        created_at_seconds: _,
        annotations,
        spec,
        findings,
    } = content::read(kind, &document(annotations, data));
    let version: Arc<str> = metadata.resource_version.clone().unwrap_or_default().into();
    let object = Object {
        key: ObjectKey::new(kind, namespace.clone(), name.clone()),
        created_at_seconds: created(metadata),
        annotations,
        spec,
        stored: Some(Stored {
            uid: metadata.uid.clone().unwrap_or_default().into(),
            generation: metadata.generation.unwrap_or_default(),
            resource_version: version.clone(),
        }),
        origin: Origin::Server(format!("resourceVersion {version}").into()),
        also_in: vec![],
    };
    let problems = findings
        .into_iter()
        .map(|finding| object.problem(Severity::Error, finding.field, finding.message, finding.fix));
    Written {
        problems: problems.collect(),
        object: Arc::new(object),
        shown: Arc::new(shown::kept(metadata, data)),
    }
}

/// The object as a manifest has it, without what the API server adds.
fn document(annotations: BTreeMap<String, String>, data: &Value) -> Node {
    let mut document = json!({"metadata": {"annotations": annotations}});
    if let (Some(document), Some(data)) = (document.as_object_mut(), data.as_object()) {
        document.extend(
            data.iter()
                .filter(|(key, _)| *key != "status")
                .map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    Node::from_json(&document)
}

impl Written {
    /// Whether `other` says the same of the same object. Its version may be another: status is none of our business.
    pub(super) fn says_the_same_as(&self, other: &Self) -> bool {
        let identity = |object: &Object| {
            object
                .stored
                .as_ref()
                .map(|stored| (stored.uid.clone(), stored.generation))
        };
        let (one, another) = (&self.object, &other.object);
        identity(one) == identity(another)
            && one.spec == another.spec
            && one.annotations == another.annotations
            && one.created_at_seconds == another.created_at_seconds
            && self.problems == other.problems
    }
}

fn typed<T: DeserializeOwned + kube::Resource<DynamicType = ()>>(seen: DynamicObject) -> Result<T, Passed> {
    seen.try_parse().map_err(|error| Passed::Odd(error.to_string()))
}

fn service(service: Service) -> Service {
    Service {
        metadata: ObjectMeta::default(),
        status: None,
        ..service
    }
}

fn service_of(slice: &EndpointSlice) -> Result<Name, Passed> {
    let labels = slice.metadata.labels.as_ref();
    let name = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL));
    let odd = || Passed::Odd(format!("no label {SERVICE_NAME_LABEL} says whose endpoints these are"));
    name.and_then(|name| name.parse().ok()).ok_or_else(odd)
}

/// A slice without what nobody asks for: of each endpoint only its addresses, conditions and zone.
fn useful(slice: EndpointSlice) -> EndpointSlice {
    let endpoints = slice.endpoints.into_iter().map(|endpoint| Endpoint {
        addresses: endpoint.addresses,
        conditions: endpoint.conditions,
        zone: endpoint.zone,
        ..Endpoint::default()
    });
    EndpointSlice {
        metadata: ObjectMeta::default(),
        endpoints: endpoints.collect(),
        ..slice
    }
}
