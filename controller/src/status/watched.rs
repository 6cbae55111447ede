//! The objects of our kinds as the API server last showed them: what status is compared with before it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::Value;
use sluice_model::ObjectKey;

use crate::source::kubernetes::Shown;

/// See the file's comment.
pub trait Watched: Send + Sync {
    /// The object called `key`, if there is one, with its `status`.
    fn object(&self, key: &ObjectKey) -> Option<Arc<DynamicObject>>;
}

impl Watched for Shown {
    fn object(&self, key: &ObjectKey) -> Option<Arc<DynamicObject>> {
        Shown::object(self, key)
    }
}

impl Watched for BTreeMap<ObjectKey, Arc<DynamicObject>> {
    fn object(&self, key: &ObjectKey) -> Option<Arc<DynamicObject>> {
        self.get(key).cloned()
    }
}

/// What an object's status says; `null` if nothing.
pub(super) fn status(object: &DynamicObject) -> &Value {
    object.data.get("status").unwrap_or(&Value::Null)
}

/// A condition in a status.
pub(super) fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = status.get("conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| text(condition, "type") == Some(type_))
}

/// A field of text.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}
