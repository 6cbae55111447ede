//! What one match of a rule demands of a request: path, methods, headers, query parameters.
//!
//! Semantics are Gateway API's `HTTPRouteMatch`. Everything here is a plain predicate; which of several
//! matches wins is decided in `precedence`.

use std::fmt;
use std::sync::Arc;

use http::{HeaderName, Method};
use serde::{Serialize, Serializer};

use crate::limits::{MAX_NAME_MATCH_BYTES, MAX_PATH_MATCH_BYTES, MAX_VALUE_MATCH_BYTES};
use crate::path;
use crate::pattern::{Pattern, PatternError};

/// Why a predicate is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// A path that is none.
    #[error("a path begins with '/'")]
    NoSlash,
    /// A path that no normalised request path can ever equal.
    #[error(
        "{0:?} cannot be part of a request path once it is normalised: leave out '?', '#', '//', '/./', '/../', '..;', control characters and spaces, and write '%XX' in upper case and only where it is needed"
    )]
    NeverMatches(String),
    /// Too long.
    #[error("longer than {0} bytes")]
    Length(usize),
    /// Not a header name.
    #[error("{0:?} is not a header name")]
    HeaderName(String),
    /// Not a method.
    #[error("{0:?} is not an HTTP method: methods are case-sensitive tokens such as GET")]
    Method(String),
    /// An empty query parameter name.
    #[error("a query parameter has a name")]
    QueryName,
    /// Not a regular expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// A demand on the normalised path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// Whole segments from the start; stored without trailing slash, so `/` is the empty text.
    Prefix(Arc<str>),
    /// The whole path matches.
    Regex(Pattern),
}

pub(crate) fn check_path(text: &str) -> Result<(), MatchError> {
    if !text.starts_with('/') {
        return Err(MatchError::NoSlash);
    }
    if text.len() > MAX_PATH_MATCH_BYTES {
        return Err(MatchError::Length(MAX_PATH_MATCH_BYTES));
    }
    // The normaliser itself says what a normalised path is, so that the two cannot disagree.
    if path::normalize(text).as_deref() != Ok(text) {
        return Err(MatchError::NeverMatches(text.chars().take(80).collect()));
    }
    Ok(())
}

impl PathMatch {
    /// The whole path equals `text`.
    pub fn exact(text: &str) -> Result<Self, MatchError> {
        check_path(text)?;
        Ok(Self::Exact(text.into()))
    }

    /// The path begins with the segments of `text`; a trailing slash in it means nothing.
    pub fn prefix(text: &str) -> Result<Self, MatchError> {
        check_path(text)?;
        Ok(Self::Prefix(text.strip_suffix('/').unwrap_or(text).into()))
    }

    /// The whole path matches the regular expression `text`.
    pub fn regex(text: &str) -> Result<Self, MatchError> {
        Ok(Self::Regex(Pattern::new(text)?))
    }

    /// The prefix that it demands, without trailing slash; empty if it demands none.
    pub fn as_prefix(&self) -> &str {
        match self {
            Self::Prefix(text) => text,
            Self::Exact(_) | Self::Regex(_) => "",
        }
    }

    /// Whether `path` (normalised, without query) is one of these.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(this) => &**this == path,
            Self::Prefix(this) => path
                .strip_prefix(&**this)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(pattern) => pattern.matches(path),
        }
    }

    /// How specific: exact, then regular expressions by length, then prefixes by length. Greater is more specific.
    /// Gateway API leaves the place of regexes open; they stand before prefixes because `/` is a prefix of every
    /// path and a regex after it could never win.
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Exact(text) => (2, text.len()),
            Self::Regex(pattern) => (1, pattern.as_str().len()),
            Self::Prefix(text) => (0, text.len()),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "{text} (Exact)"),
            Self::Prefix(text) if text.is_empty() => f.write_str("/ (PathPrefix)"),
            Self::Prefix(text) => write!(f, "{text} (PathPrefix)"),
            Self::Regex(pattern) => write!(f, "{pattern} (RegularExpression)"),
        }
    }
}

impl Serialize for PathMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A demand on a value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ValueMatch {
    /// Equal, byte for byte.
    Exact(Arc<str>),
    /// All of it matches.
    Regex(Pattern),
    /// There is one.
    Present,
}

impl ValueMatch {
    /// The value equals `text`.
    pub fn exact(text: &str) -> Result<Self, MatchError> {
        if text.len() > MAX_VALUE_MATCH_BYTES {
            return Err(MatchError::Length(MAX_VALUE_MATCH_BYTES));
        }
        Ok(Self::Exact(text.into()))
    }

    /// The whole value matches the regular expression `text`.
    pub fn regex(text: &str) -> Result<Self, MatchError> {
        Ok(Self::Regex(Pattern::new(text)?))
    }

    /// Whether `value` is as demanded; `None` is absent. A value that is not UTF-8 equals nothing but is present.
    pub fn matches(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (_, None) => false,
            (Self::Present, Some(_)) => true,
            (Self::Exact(this), Some(value)) => this.as_bytes() == value,
            (Self::Regex(pattern), Some(value)) => std::str::from_utf8(value).is_ok_and(|text| pattern.matches(text)),
        }
    }
}

impl fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "={text}"),
            Self::Regex(pattern) => write!(f, "~{pattern}"),
            Self::Present => f.write_str(" present"),
        }
    }
}

/// A demand on one header. Several header lines of one name count as one value joined with `", "` (RFC 9110 §5.3).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HeaderMatch {
    /// Which header.
    pub name: HeaderName,
    /// What it must be.
    pub value: ValueMatch,
}

impl HeaderMatch {
    /// A demand on the header called `name`, in any case.
    pub fn new(name: &str, value: ValueMatch) -> Result<Self, MatchError> {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .ok()
            .filter(|_| name.len() <= MAX_NAME_MATCH_BYTES);
        let name = parsed.ok_or_else(|| MatchError::HeaderName(name.chars().take(80).collect()))?;
        Ok(Self { name, value })
    }
}

/// A demand on one query parameter, by its first value, percent-decoded (`+` is a space).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct QueryMatch {
    /// Which parameter, decoded, case-sensitive.
    pub name: Arc<str>,
    /// What it must be.
    pub value: ValueMatch,
}

impl QueryMatch {
    /// A demand on the query parameter called `name`.
    pub fn new(name: &str, value: ValueMatch) -> Result<Self, MatchError> {
        if name.is_empty() {
            return Err(MatchError::QueryName);
        }
        if name.len() > MAX_NAME_MATCH_BYTES {
            return Err(MatchError::Length(MAX_NAME_MATCH_BYTES));
        }
        Ok(Self {
            name: name.into(),
            value,
        })
    }
}

/// A method, checked and kept as text.
pub fn method(text: &str) -> Result<Method, MatchError> {
    let wrong = || MatchError::Method(text.chars().take(80).collect());
    if text.len() > MAX_NAME_MATCH_BYTES || text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(wrong());
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| wrong())
}

/// All that one match demands: every part must hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteMatch {
    /// Of the path.
    pub path: PathMatch,
    /// One of these methods; empty: any.
    pub methods: Vec<Method>,
    /// Of headers, all of them.
    pub headers: Vec<HeaderMatch>,
    /// Of query parameters, all of them.
    pub query: Vec<QueryMatch>,
}

impl Default for RouteMatch {
    /// Every request: path prefix `/`.
    fn default() -> Self {
        Self {
            path: PathMatch::Prefix("".into()),
            methods: vec![],
            headers: vec![],
            query: vec![],
        }
    }
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            let methods: Vec<_> = self.methods.iter().map(Method::as_str).collect();
            write!(f, "{} ", methods.join("|"))?;
        }
        write!(f, "{}", self.path)?;
        for header in &self.headers {
            write!(f, " header {}{}", header.name, header.value)?;
        }
        for query in &self.query {
            write!(f, " query {}{}", query.name, query.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_whole_segments() {
        let check = |prefix: &str, path: &str| PathMatch::prefix(prefix).unwrap().matches(path);
        assert!(check("/", "/") && check("/", "/anything") && check("/api", "/api") && check("/api", "/api/x"));
        assert!(check("/api/", "/api") && check("/api/", "/api/"));
        assert!(!check("/api", "/apix") && !check("/api/v1", "/api"));
    }

    #[test]
    fn paths_that_can_never_match_are_refused() {
        for bad in [
            "/a?b", "/a#b", "/a//b", "/a/../b", "/./a", "/a b", "/a\\b", "/\u{e4}", "/a%2fb", "/%61", "/%", "/a/..",
        ] {
            assert!(
                matches!(PathMatch::prefix(bad), Err(MatchError::NeverMatches(_))),
                "{bad}"
            );
        }
        assert_eq!(PathMatch::exact("a"), Err(MatchError::NoSlash));
        assert_eq!(
            PathMatch::exact(&format!("/{}", "a".repeat(1024))),
            Err(MatchError::Length(1024))
        );
    }

    #[test]
    fn values() {
        assert!(ValueMatch::Present.matches(Some(&[0xff])) && !ValueMatch::Present.matches(None));
        assert!(ValueMatch::exact("v2").unwrap().matches(Some(b"v2")));
        assert!(!ValueMatch::regex("v[0-9]").unwrap().matches(Some(b"v10")));
        assert!(matches!(
            HeaderMatch::new("a b", ValueMatch::Present),
            Err(MatchError::HeaderName(_))
        ));
        assert!(method("GET").is_ok() && method("get").is_err() && method("G T").is_err());
    }
}
