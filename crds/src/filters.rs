//! What a rule does to requests and responses besides choosing a pool, in the words of Gateway API's HTTPRoute filters.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::rules;

/// Changes of header fields. No name may stand in it twice, in any spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderChanges {
    /// Fields that get this value in place of whatever came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::HEADER_CHANGES_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub set: Vec<HeaderField>,
    /// Fields that get one more line with this value, after those that came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::HEADER_CHANGES_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub add: Vec<HeaderField>,
    /// Names of fields that are taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::HEADER_CHANGES_MAX_ITEMS), extend("x-kubernetes-list-type" = "set"))]
    pub remove: Vec<ChangedName>,
}

/// One header field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderField {
    /// Name of the header; upper and lower case are the same.
    pub name: ChangedName,
    /// Its value: printable ASCII, without spaces at either end.
    #[schemars(length(min = 1, max = bounds::HEADER_VALUE_MAX_BYTES), regex(pattern = bounds::FIELD_VALUE_PATTERN))]
    pub value: String,
}

/// The name of a header field that a rule may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangedName(pub String);

impl JsonSchema for ChangedName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ChangedName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": bounds::HEADER_NAME_MAX_BYTES,
            "pattern": bounds::TOKEN_PATTERN,
            "x-kubernetes-validations": rules::attach(&[rules::HEADER_MAY_CHANGE]),
        })
    }
}
