//! Names: of objects, fleets and instances. All are checked when made, so that they can be used in
//! paths, labels, certificates and logs without a second look.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a valid {what}: use at most {max} characters out of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit"
)]
pub struct NameError {
    what: &'static str,
    max: usize,
    text: String,
}

/// RFC 1123 subdomain as Kubernetes checks it, but for the length, which differs by use.
fn check(what: &'static str, max: usize, text: &str) -> Result<Arc<str>, NameError> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let good =
        text.len() <= max && edge(text.chars().next()) && edge(text.chars().next_back()) && text.chars().all(inner);
    if good {
        Ok(text.into())
    } else {
        Err(NameError {
            what,
            max,
            text: text.chars().take(80).collect(),
        })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check($what, $max, text).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name!(
    /// The name or namespace of an object (RFC 1123 subdomain, as in Kubernetes).
    Name, "name", 253
);
name!(
    /// The name of a fleet: the data-plane instances that one Rollout governs.
    FleetName, "fleet name", 63
);
name!(
    /// The id of one installation, drawn at its first start: what was signed for one is refused by every other.
    ClusterId, "cluster id", 63
);
name!(
    /// The id of one data-plane process, unique over time: a replacement gets another id.
    InstanceId, "instance id", 128
);

/// The name of a Service's port: a DNS label with a letter in it, so that it cannot be taken for a number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName(Arc<str>);

impl PortName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PortName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = check("port name", 63, text)?;
        if !text.contains('.') && text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Ok(Self(name));
        }
        Err(NameError {
            what: "port name (a label with a letter in it)",
            max: 63,
            text: text.to_owned(),
        })
    }
}

/// The zone that an endpoint is in: a Kubernetes label value, such as `eu-central-1a`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(Arc<str>);

/// Why a text is not a zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a zone: use 1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends")]
pub struct ZoneError(String);

impl Zone {
    /// The zone as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let good = text.len() <= 63 && edge(text.bytes().next()) && edge(text.bytes().next_back());
        if good && text.bytes().all(inner) {
            Ok(Self(text.into()))
        } else {
            Err(ZoneError(text.chars().take(80).collect()))
        }
    }
}

macro_rules! as_text {
    ($($type:ident),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )*};
}

as_text!(PortName, Zone);

/// The kinds of object that become units.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum Kind {
    /// Where a request goes.
    ProxyRoute,
    /// A named group of upstream endpoints.
    Pool,
    /// How a fleet listens, and how changes reach it.
    Rollout,
}

impl Kind {
    /// Every kind, in the order in which they are listed to people.
    pub const ALL: [Self; 3] = [Self::ProxyRoute, Self::Pool, Self::Rollout];

    /// The kind as written in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProxyRoute => "ProxyRoute",
            Self::Pool => "Pool",
            Self::Rollout => "Rollout",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which object: kind, namespace and name. Prints as `ProxyRoute shop/api`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl ObjectKey {
    /// The key of one object.
    pub fn new(kind: Kind, namespace: Name, name: Name) -> Self {
        Self { kind, namespace, name }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is not an object key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectKeyError {
    /// Not of the form `Kind namespace/name`.
    #[error("{0:?} is not of the form \"Kind namespace/name\", with ProxyRoute, Pool or Rollout as kind")]
    Form(String),
    /// The namespace or the name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for ObjectKey {
    type Err = ObjectKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ObjectKeyError::Form(text.chars().take(80).collect());
        let (kind, path) = text.split_once(' ').ok_or_else(form)?;
        let (namespace, name) = path.split_once('/').ok_or_else(form)?;
        let kind = Kind::ALL.into_iter().find(|k| k.as_str() == kind).ok_or_else(form)?;
        Ok(Self::new(kind, namespace.parse()?, name.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_read_back() {
        let key: ObjectKey = "ProxyRoute shop/api.v2".parse().unwrap();
        assert_eq!(key.to_string(), "ProxyRoute shop/api.v2");
        for bad in [
            "",
            "ProxyRoute",
            "ProxyRoute a",
            "Route a/b",
            "Pool A/b",
            "Pool a/",
            "Pool a/b/c",
        ] {
            assert!(bad.parse::<ObjectKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn port_names_have_a_letter_and_zones_may_have_capitals() {
        for (text, port, zone) in [
            ("http", true, true),
            ("8-http", true, true),
            ("8080", false, true),
            ("a.b", false, true),
            ("Zone_1", false, true),
            ("-a", false, false),
            ("", false, false),
            (&"a".repeat(64), false, false),
        ] {
            assert_eq!(text.parse::<PortName>().is_ok(), port, "{text}");
            assert_eq!(text.parse::<Zone>().is_ok(), zone, "{text}");
        }
    }

    #[test]
    fn names_are_checked() {
        for bad in ["", "-a", "a-", "A", "a_b", "a b", "ä", &"a".repeat(254)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        for good in ["a", "0", "a.b-c", &"a".repeat(253)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
    }
}
