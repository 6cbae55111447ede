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

/// Where a client is sent. What is not said here stays as the client asked for it, its query included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::REDIRECT_LEADS_ELSEWHERE])))]
pub struct RequestRedirect {
    /// http or https. To send plain HTTP to HTTPS, use spec.tls.plainHttp, which leaves alone what came over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<RedirectScheme>,
    /// The host, in lower case and without a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = bounds::NAME_MAX_BYTES),
        regex(pattern = bounds::PRECISE_HOSTNAME_PATTERN),
        extend("x-kubernetes-validations" = rules::attach(&[rules::NEW_HOST_IS_NAME]))
    )]
    pub hostname: Option<String>,
    /// The port. Without it that of the scheme, if one is given here, else the one that the client used. 80 with http and 443
    /// with https are not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathChange>,
    /// 301 or 308 (for good), 302, 303 or 307 (for now); after 307 and 308 clients keep method and body. Without it 302.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        range(min = 301, max = 308),
        extend("x-kubernetes-validations" = rules::attach(&[rules::REDIRECT_STATUS]))
    )]
    pub status_code: Option<u16>,
}

/// The scheme of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedirectScheme {
    /// In the clear.
    Http,
    /// In TLS.
    Https,
}

/// What a pool gets to see in place of the host and the path that the client asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::REWRITE_CHANGES_SOMETHING])))]
pub struct UrlRewrite {
    /// In place of Host, in lower case and without a port. X-Forwarded-Host still says what the client asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = bounds::NAME_MAX_BYTES),
        regex(pattern = bounds::PRECISE_HOSTNAME_PATTERN),
        extend("x-kubernetes-validations" = rules::attach(&[rules::NEW_HOST_IS_NAME]))
    )]
    pub hostname: Option<String>,
    /// The path. The query stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathChange>,
}

/// What becomes of the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::PATH_CHANGE_BY_TYPE])))]
pub struct PathChange {
    /// ReplaceFullPath, or ReplacePrefixMatch: the prefix by which a match of type PathPrefix took the request.
    #[serde(rename = "type")]
    pub type_: PathChangeType,
    /// The whole new path, beginning with `/` and without a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = bounds::PATH_MAX_BYTES),
        extend("x-kubernetes-validations" = rules::attach(&[rules::NEW_PATH]))
    )]
    pub replace_full_path: Option<String>,
    /// What stands in place of the prefix; a slash at its end means nothing, and nothing means `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::PATH_MAX_BYTES),
        extend("x-kubernetes-validations" = rules::attach(&[rules::NEW_PATH]))
    )]
    pub replace_prefix_match: Option<String>,
}

/// What of the path is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathChangeType {
    /// All of it.
    ReplaceFullPath,
    /// The prefix that matched.
    ReplacePrefixMatch,
}
