//! Changes that a rule makes to header fields on their way through: set, add, remove (Gateway API's header modifiers).
//!
//! Which fields those may be is decided here, once: what frames a message, concerns one hop, or is this proxy's own word
//! about a request cannot be changed by a rule. Otherwise two servers might see two different requests.

use std::fmt;

use http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use crate::limits::{MAX_NAME_MATCH_BYTES, MAX_VALUE_MATCH_BYTES};

/// Why something is not a change of a header field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderChangeError {
    /// Not a header name.
    #[error("{0:?} is not a header name")]
    Name(String),
    /// A field that no rule may change.
    #[error(
        "{0} frames messages, concerns one connection, or is what Sluice vouches for: no rule may change it, in any spelling"
    )]
    Owned(String),
    /// Not a header value.
    #[error("a header value has 1 to {MAX_VALUE_MATCH_BYTES} printable ASCII characters, and no space at either end")]
    Value,
}

/// Fields that no rule may change, with `-` for `_`. In the API's schema as well (`sluice_crds::rules`).
pub const OWNED: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "connection",
    "keep-alive",
    "upgrade",
    "expect",
    "max-forwards",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// The name of a header field that a rule may change; in lower case.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FieldName(HeaderName);

impl FieldName {
    /// A name, in any case.
    pub fn new(text: &str) -> Result<Self, HeaderChangeError> {
        let parsed = HeaderName::from_bytes(text.as_bytes())
            .ok()
            .filter(|_| text.len() <= MAX_NAME_MATCH_BYTES);
        let name = parsed.ok_or_else(|| HeaderChangeError::Name(text.chars().take(80).collect()))?;
        // Many servers and CGI-like interfaces see `_` and `-` as one.
        match OWNED.contains(&name.as_str().replace('_', "-").as_str()) {
            true => Err(HeaderChangeError::Owned(name.as_str().to_owned())),
            false => Ok(Self(name)),
        }
    }

    /// As headers have it.
    pub fn header(&self) -> &HeaderName {
        &self.0
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// The value of a header field: printable ASCII, so that nobody reads it in another way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FieldValue(HeaderValue);

impl FieldValue {
    /// A value.
    pub fn new(text: &str) -> Result<Self, HeaderChangeError> {
        let printable = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
        let plain = text.bytes().all(printable) && text.trim_ascii().len() == text.len();
        let sized = (1..=MAX_VALUE_MATCH_BYTES).contains(&text.len());
        let value = HeaderValue::from_str(text).ok().filter(|_| plain && sized);
        value.map(Self).ok_or(HeaderChangeError::Value)
    }

    /// As headers have it.
    pub fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default() // ASCII by construction
    }
}

/// A header field with its value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Field {
    /// Which.
    pub name: FieldName,
    /// What it says.
    pub value: FieldValue,
}

impl Field {
    /// A field of this name, in any case, and this value.
    pub fn new(name: &str, value: &str) -> Result<Self, HeaderChangeError> {
        Ok(Self {
            name: FieldName::new(name)?,
            value: FieldValue::new(value)?,
        })
    }
}

/// What a rule changes about header fields. No name stands in it twice, so that the order of the parts does not matter.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct HeaderChanges {
    /// These have this value and no other.
    pub set: Vec<Field>,
    /// These get one more line.
    pub add: Vec<Field>,
    /// These go.
    pub remove: Vec<FieldName>,
}

impl HeaderChanges {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Every name in it.
    pub fn names(&self) -> impl Iterator<Item = &FieldName> {
        let fields = self.set.iter().chain(&self.add).map(|field| &field.name);
        fields.chain(&self.remove)
    }

    /// The names of which nothing that came is left.
    pub fn cleared(&self) -> impl Iterator<Item = &FieldName> {
        self.set.iter().map(|field| &field.name).chain(&self.remove)
    }
}

impl fmt::Display for HeaderChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self
            .set
            .iter()
            .map(|Field { name, value }| format!("set {name}: {}", value.as_str()));
        let add = self
            .add
            .iter()
            .map(|Field { name, value }| format!("add {name}: {}", value.as_str()));
        let remove = self.remove.iter().map(|name| format!("remove {name}"));
        let all: Vec<String> = set.chain(add).chain(remove).collect();
        f.write_str(&all.join(", "))
    }
}

impl Serialize for HeaderChanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_addresses_or_vouches_is_nobodys_to_change() {
        for name in [
            "Host",
            "content_length",
            "X-Forwarded-For",
            "x_forwarded-proto",
            "TE",
            "X_REQUEST_ID",
        ] {
            assert!(
                matches!(FieldName::new(name), Err(HeaderChangeError::Owned(_))),
                "{name}"
            );
        }
        for name in ["", "a b", ":path", "a:", "ä", &"a".repeat(257)] {
            assert!(
                matches!(FieldName::new(name), Err(HeaderChangeError::Name(_))),
                "{name}"
            );
        }
        for name in [
            "X-Api-Key",
            "server",
            "my_header",
            "x-forwarded-prefix",
            "authorization",
        ] {
            assert_eq!(FieldName::new(name).unwrap().to_string(), name.to_ascii_lowercase());
        }
    }

    #[test]
    fn a_value_is_one_line_that_everybody_reads_alike() {
        let long = "a".repeat(4097);
        for value in ["", " a", "a\t", "a\r\nb: c", "a\0", "ä", long.as_str()] {
            assert_eq!(FieldValue::new(value), Err(HeaderChangeError::Value), "{value:?}");
        }
        for value in ["a", "a \t b", "max-age=31536000; includeSubDomains", &"a".repeat(4096)] {
            assert_eq!(FieldValue::new(value).unwrap().as_str(), value);
        }
    }

    #[test]
    fn in_words() {
        let changes = HeaderChanges {
            set: vec![Field::new("X-A", "1").unwrap()],
            add: vec![Field::new("x-b", "2").unwrap()],
            remove: vec![FieldName::new("x-c").unwrap()],
        };
        assert_eq!(changes.to_string(), "set x-a: 1, add x-b: 2, remove x-c");
        assert!(HeaderChanges::default().is_empty() && !changes.is_empty());
    }
}
