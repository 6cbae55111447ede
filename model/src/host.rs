//! Hosts: which ones a route is for (exact, wildcard, regex, any) and how specific each pattern is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::pattern::{Pattern, PatternError};

/// A host as requests carry it: lower case, without port, without trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

/// Why a text is not a host or a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Empty, or longer than DNS allows.
    #[error("a hostname has 1 to 253 characters")]
    Length,
    /// A label is empty, too long, or has other characters than letters, digits and hyphens.
    #[error("{0:?} is not a DNS label: use letters, digits and hyphens, at most 63, with no hyphen at either end")]
    Label(String),
    /// A port was given.
    #[error("a hostname has no port; routes apply to every listener")]
    Port,
    /// An address where a name belongs.
    #[error("an IP address cannot be a hostname; leave hostnames out to match every host")]
    Address,
    /// `*` somewhere other than as the whole first label.
    #[error("'*' can only be the whole first label, as in *.example.com")]
    Wildcard,
    /// The regular expression is not one.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

fn check_labels(text: &str) -> Result<(), HostError> {
    if text.is_empty() || text.len() > 253 {
        return Err(HostError::Length);
    }
    for label in text.split('.') {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let edges = !label.starts_with('-') && !label.ends_with('-');
        if label.is_empty() || label.len() > 63 || !inner || !edges {
            return Err(HostError::Label(label.chars().take(80).collect()));
        }
    }
    Ok(())
}

impl Host {
    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.parse::<std::net::IpAddr>().is_ok() || text.starts_with('[') {
            return Err(HostError::Address);
        }
        if text.contains(':') {
            return Err(HostError::Port);
        }
        if text.contains('*') {
            return Err(HostError::Wildcard);
        }
        check_labels(text)?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern for hosts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HostPattern {
    /// One host.
    Exact(Host),
    /// `*.suffix`: one or more labels, then the suffix (Gateway API). Holds the suffix.
    Wildcard(Host),
    /// The whole host, in lower case, matches.
    Regex(Pattern),
    /// Every host, and requests with none.
    Any,
}

impl HostPattern {
    /// A pattern written as a hostname: exact or `*.suffix`.
    pub fn hostname(text: &str) -> Result<Self, HostError> {
        match text.strip_prefix("*.") {
            Some(suffix) => suffix.parse().map(Self::Wildcard),
            None => text.parse().map(Self::Exact),
        }
    }

    /// A pattern written as a regular expression, for the whole host.
    pub fn regex(text: &str) -> Result<Self, HostError> {
        Ok(Self::Regex(Pattern::new(text)?))
    }

    /// Whether `host` (lower case, no port) is one of these. `None`: the request names no host.
    pub fn matches(&self, host: Option<&str>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Exact(this), Some(host)) => this.as_str() == host,
            (Self::Wildcard(suffix), Some(host)) => host
                .strip_suffix(suffix.as_str())
                .and_then(|front| front.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
            (Self::Regex(pattern), Some(host)) => pattern.matches(host),
        }
    }

    /// How specific: exact, then the longest wildcard, then the longest regular expression, then any.
    /// Greater is more specific. Gateway API orders exact and wildcard so; where regexes stand is ours to say:
    /// after wildcards, since a name written out says more than a pattern.
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Exact(host) => (3, host.as_str().len()),
            Self::Wildcard(suffix) => (2, suffix.as_str().len()),
            Self::Regex(pattern) => (1, pattern.as_str().len()),
            Self::Any => (0, 0),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host.as_str()),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Regex(pattern) => write!(f, "~{pattern}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_gateway_api_says() {
        let exact = HostPattern::hostname("Shop.Example.com").unwrap();
        assert!(exact.matches(Some("shop.example.com")));
        let wild = HostPattern::hostname("*.example.com").unwrap();
        assert!(wild.matches(Some("a.example.com")) && wild.matches(Some("a.b.example.com")));
        assert!(!wild.matches(Some("example.com")) && !wild.matches(Some("aexample.com")) && !wild.matches(None));
        assert!(HostPattern::Any.matches(None));
        let regex = HostPattern::regex("shop-[0-9]+\\.example\\.com").unwrap();
        assert!(regex.matches(Some("shop-1.example.com")) && !regex.matches(Some("xshop-1.example.com")));
    }

    #[test]
    fn refusals_say_why() {
        let check = |text: &str, expected: HostError| assert_eq!(HostPattern::hostname(text), Err(expected), "{text}");
        check("", HostError::Length);
        check("a.example.com:80", HostError::Port);
        check("10.0.0.1", HostError::Address);
        check("[::1]", HostError::Address);
        check("a.*.com", HostError::Wildcard);
        check("*", HostError::Wildcard);
        check("a..b", HostError::Label(String::new()));
        check("-a.b", HostError::Label("-a".into()));
        check("ä.b", HostError::Label("ä".into()));
    }
}
