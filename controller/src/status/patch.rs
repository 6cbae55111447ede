//! A status as it is applied: our own fields and conditions, no others, and never by force. The time of a condition moves
//! only with its status.

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::desired::Fact;
use super::schedule::{Answer, Write};
use super::watched::{condition, status, text};

/// Who owns what we write.
pub const FIELD_MANAGER: &str = "sluice-controller";

/// Writes a status, and says what came of it and, if it is refused, why.
pub async fn send(client: &Client, write: &Write, at: &str) -> (Answer, Option<String>) {
    let resource = super::resource(write.object.kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), write.object.namespace.as_str(), &resource);
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let body = Patch::Apply(body(write, at));
    match api.patch_status(write.object.name.as_str(), &params, &body).await {
        Ok(object) => {
            let version = object.metadata.resource_version.clone().unwrap_or_default();
            if version == write.version {
                return (Answer::Unmoved, None);
            }
            (Answer::Written(version, status(&object).clone()), None)
        }
        Err(error) => (answer(&error), Some(error.to_string())),
    }
}

/// What is sent. With the version, so that it lands on the object that was looked at, and on no later one.
pub fn body(write: &Write, at: &str) -> Value {
    let resource = super::resource(write.object.kind);
    let facts = write.desired.facts.iter();
    let conditions: Vec<Value> = facts.map(|fact| written(fact, write, at)).collect();
    let mut status = write.desired.fields.clone();
    status.insert("conditions".to_owned(), conditions.into());
    json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": write.object.name,
            "namespace": write.object.namespace,
            "resourceVersion": write.version,
        },
        "status": status,
    })
}

fn written(fact: &Fact, write: &Write, at: &str) -> Value {
    let before = condition(&write.shown, fact.type_);
    let same = before.filter(|before| text(before, "status") == Some(fact.truth.as_str()));
    let since = same.and_then(|same| text(same, "lastTransitionTime")).unwrap_or(at);
    json!({
        "type": fact.type_,
        "status": fact.truth.as_str(),
        "reason": fact.reason.as_str(),
        "message": fact.message,
        "lastTransitionTime": since,
        "observedGeneration": write.desired.generation,
    })
}

fn answer(error: &kube::Error) -> Answer {
    let kube::Error::Api(refused) = error else {
        return Answer::Unavailable(None);
    };
    let causes = refused.details.iter().flat_map(|details| &details.causes);
    let owned = causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict");
    let asked = refused
        .details
        .as_ref()
        .map(|details| u64::from(details.retry_after_seconds));
    match refused.code {
        409 if !owned => Answer::Outdated,
        409 | 400 | 422 => Answer::Refused,
        404 => Answer::Gone,
        401 | 403 => Answer::Forbidden,
        _ => Answer::Unavailable(asked.filter(|seconds| *seconds > 0).map(|seconds| seconds * 1_000)),
    }
}
