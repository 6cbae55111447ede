//! Scalars that Kubernetes writes in a form of its own: durations, percentages, ratios.
//!
//! Each is the text (or number) as its author wrote it, so that nothing is normalised on the way back: a controller
//! or GitOps tool that compares sees what was applied. Reading the value is `sluice-controller`'s translation.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{bounds, rules};

macro_rules! text {
    ($(#[$doc:meta])* $type:ident, $max:expr, $pattern:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $type(pub String);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "minLength": 1, "maxLength": $max, "pattern": $pattern})
            }
        }
    };
}

text!(
    /// A duration as Kubernetes writes it: `5s`, `1h30m`, `250ms`.
    DurationText, bounds::DURATION_MAX_BYTES, bounds::DURATION_PATTERN
);
text!(
    /// A ratio as a decimal in quotes: `"1.5"`. A string, because floats do not survive every YAML tool.
    Ratio, 8, bounds::RATIO_PATTERN
);

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange(pub String);

impl JsonSchema for AddressRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AddressRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 4,
            "maxLength": bounds::ADDRESS_RANGE_MAX_BYTES,
            "x-kubernetes-validations": rules::attach(&[rules::RANGE_IS_CIDR]),
        })
    }
}

/// A whole number or a text, as Kubernetes' int-or-string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NumberOrText {
    /// A plain number: `10`.
    Number(i32),
    /// A text: `"0.5%"`, `500ms`.
    Text(String),
}

impl fmt::Display for NumberOrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A percentage: a whole number (`10`) or a text (`"0.5%"`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(pub NumberOrText);

/// The limit of a gate: a percentage (`1`, `"0.5%"`) or a duration (`500ms`), by the gate's metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GateLimit(pub NumberOrText);

/// A port of a Service: its number (`8080`) or its name (`http`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServicePort(pub NumberOrText);

/// A size in bytes: a whole number (`32768`) or a text (`32Ki`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub NumberOrText);

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "maximum": i32::MAX,
            "maxLength": bounds::SIZE_MAX_BYTES,
            "pattern": bounds::SIZE_PATTERN,
        })
    }
}

impl JsonSchema for ServicePort {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ServicePort".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "maximum": 65535,
            "maxLength": bounds::LABEL_MAX_BYTES,
            "pattern": bounds::PORT_NAME_PATTERN,
        })
    }
}

/// A Secret, named: in the namespace of the object that names it, or in another one that shares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretReference {
    /// Name of the Secret. Its `tls.crt` is the certificate with its chain, its `tls.key` the private key.
    #[schemars(length(min = 1, max = bounds::NAME_MAX_BYTES), regex(pattern = bounds::NAME_PATTERN))]
    pub secret_name: String,
    /// Namespace of the Secret; without it that of this object. A Secret of another namespace must carry the annotation
    /// sluice.dev/share-with, whose value names this object's namespace: `shop, blog`, or `*` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::LABEL_MAX_BYTES), regex(pattern = bounds::LABEL_PATTERN))]
    pub namespace: Option<String>,
}

/// Int-or-string: `pattern` holds for texts, 0–100 for numbers.
fn int_or_string(pattern: &str) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 0,
        "maximum": 100,
        "maxLength": bounds::DURATION_MAX_BYTES,
        "pattern": pattern,
    })
}

impl JsonSchema for Percent {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        int_or_string(bounds::PERCENT_PATTERN)
    }
}

impl JsonSchema for GateLimit {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GateLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        int_or_string(bounds::LIMIT_PATTERN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_kept_as_it_was_written() {
        for text in ["10", "\"0.5%\""] {
            let percent: Percent = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&percent).unwrap(), text);
        }
        assert!(serde_json::from_str::<Percent>("0.5").is_err(), "no floats");
    }
}
