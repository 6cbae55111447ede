//! What becomes of a request's address by its rule: another path or host for the upstream (a rewrite), or another place
//! altogether that the client is sent to (a redirect). Semantics are Gateway API's, its table of prefixes included.
//!
//! A path that comes out is in normal form by construction: what is written is, and so is what a normal path has after
//! whole segments.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::host::Host;
use crate::matching::{MatchError, PathMatch, RouteMatch, check_path};

/// How a request comes to this proxy, or shall come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// In TLS.
    Https,
}

impl Scheme {
    /// As URLs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that need not be written.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What becomes of a path.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PathChange {
    /// It is this one.
    Full(Arc<str>),
    /// This stands in place of the prefix that matched; stored without trailing slash, so `/` is the empty text.
    Prefix(Arc<str>),
}

impl PathChange {
    /// The whole path becomes `text`.
    pub fn full(text: &str) -> Result<Self, MatchError> {
        check_path(text)?;
        Ok(Self::Full(text.into()))
    }

    /// The prefix that matched becomes `text`; a trailing slash in it means nothing, and nothing means `/`.
    pub fn prefix(text: &str) -> Result<Self, MatchError> {
        if !text.is_empty() {
            check_path(text)?;
        }
        Ok(Self::Prefix(text.strip_suffix('/').unwrap_or(text).into()))
    }

    /// What becomes of the normal path `path`, whose `prefix` (without trailing slash) matched.
    pub fn apply(&self, path: &str, prefix: &str) -> String {
        match self {
            Self::Full(this) => this.to_string(),
            Self::Prefix(this) => {
                let rest = path.strip_prefix(prefix).unwrap_or(path);
                match (this.is_empty(), rest.is_empty()) {
                    (true, true) => "/".to_owned(),
                    (_, _) => format!("{this}{rest}"),
                }
            }
        }
    }

    /// Whether it can be applied to whatever one of these takes.
    pub fn fits(&self, matches: &[RouteMatch]) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Prefix(_) => matches.iter().all(|one| matches!(one.path, PathMatch::Prefix(_))),
        }
    }
}

impl fmt::Display for PathChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(path) => write!(f, "path {path}"),
            Self::Prefix(prefix) if prefix.is_empty() => f.write_str("prefix /"),
            Self::Prefix(prefix) => write!(f, "prefix {prefix}"),
        }
    }
}

/// What an upstream gets to see in place of a request's own host and path.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Rewrite {
    /// In place of `Host`, without a port.
    pub host: Option<Host>,
    /// In place of the path.
    pub path: Option<PathChange>,
}

impl Rewrite {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.host.is_none() && self.path.is_none()
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_ref().map(|host| format!("host {host}"));
        let path = self.path.as_ref().map(ToString::to_string);
        let all: Vec<String> = host.into_iter().chain(path).collect();
        f.write_str(&all.join(", "))
    }
}

impl Serialize for Rewrite {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The status of a redirect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RedirectStatus {
    /// 301: for good; clients may make a GET of a POST.
    MovedPermanently,
    /// 302: for now; clients may make a GET of a POST.
    #[default]
    Found,
    /// 303: look there, with GET.
    SeeOther,
    /// 307: for now, with the same method and body.
    TemporaryRedirect,
    /// 308: for good, with the same method and body.
    PermanentRedirect,
}

impl RedirectStatus {
    /// All, by number.
    pub const ALL: [Self; 5] = [
        Self::MovedPermanently,
        Self::Found,
        Self::SeeOther,
        Self::TemporaryRedirect,
        Self::PermanentRedirect,
    ];

    /// `None` if `code` is not the status of a redirect to a place that is named.
    pub fn new(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// As it is sent.
    pub fn code(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::SeeOther => 303,
            Self::TemporaryRedirect => 307,
            Self::PermanentRedirect => 308,
        }
    }
}

/// Where a client is sent: what is not said here stays as the client asked for it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Redirect {
    /// By which scheme.
    pub scheme: Option<Scheme>,
    /// To which host.
    pub host: Option<Host>,
    /// At which port.
    pub port: Option<NonZeroU16>,
    /// To which path.
    pub path: Option<PathChange>,
    /// With which status.
    pub status: RedirectStatus,
}

/// What a client asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked<'a> {
    /// How it came.
    pub scheme: Scheme,
    /// Lower case, without port and trailing dot.
    pub host: &'a str,
    /// The port beside the host, if it wrote one.
    pub port: Option<u16>,
    /// In normal form.
    pub path: &'a str,
    /// Without `?`.
    pub query: Option<&'a str>,
}

/// A redirect of a request to itself: the client would go in a circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the redirect leads to where the request came")]
pub struct LeadsToItself;

impl Redirect {
    /// Whether it says nothing, and so would lead every request to itself.
    pub fn is_empty(&self) -> bool {
        self.scheme.is_none() && self.host.is_none() && self.port.is_none() && self.path.is_none()
    }

    /// The URL that `asked`, whose `prefix` matched, is redirected to: absolute, with its query.
    ///
    /// Without a port of its own it is the port of the scheme that the rule names; without that too, the one that the client
    /// wrote: behind a Service or a load balancer the listener's is not the one that clients use.
    pub fn location(&self, asked: &Asked<'_>, prefix: &str) -> Result<String, LeadsToItself> {
        let scheme = self.scheme.unwrap_or(asked.scheme);
        let host = self.host.as_ref().map_or(asked.host, Host::as_str);
        let port = match (self.port, self.scheme) {
            (Some(port), _) => port.get(),
            (None, Some(scheme)) => scheme.default_port(),
            (None, None) => asked.port.unwrap_or(scheme.default_port()),
        };
        let changed = self.path.as_ref().map(|change| change.apply(asked.path, prefix));
        let path = changed.as_deref().unwrap_or(asked.path);
        let asked_port = asked.port.unwrap_or(asked.scheme.default_port());
        if (scheme, host, port, path) == (asked.scheme, asked.host, asked_port, asked.path) {
            return Err(LeadsToItself);
        }
        Ok(url(scheme, host, port, path, asked.query))
    }
}

/// An absolute URL; the port is left out where it is the scheme's own.
pub fn url(scheme: Scheme, host: &str, port: u16, path: &str, query: Option<&str>) -> String {
    let mut url = format!("{}://{host}", scheme.as_str());
    if port != scheme.default_port() {
        url.push(':');
        url.push_str(&port.to_string());
    }
    url.push_str(path);
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    url
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status.code())?;
        if let Some(scheme) = self.scheme {
            write!(f, " to {}", scheme.as_str())?;
        }
        if let Some(host) = &self.host {
            write!(f, ", host {host}")?;
        }
        if let Some(port) = self.port {
            write!(f, ", port {port}")?;
        }
        match &self.path {
            Some(path) => write!(f, ", {path}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Redirect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;
    use proptest::prelude::*;

    #[test]
    fn gateway_apis_table_of_prefixes() {
        let check = |path: &str, matched: &str, replaced: &str, expected: &str| {
            let matched = PathMatch::prefix(matched).unwrap();
            assert!(matched.matches(path));
            let changed = PathChange::prefix(replaced).unwrap().apply(path, matched.as_prefix());
            assert_eq!(changed, expected, "{path} by {matched} with {replaced:?}");
        };
        check("/foo/bar", "/foo", "/xyz", "/xyz/bar");
        check("/foo/bar", "/foo", "/xyz/", "/xyz/bar");
        check("/foo/bar", "/foo/", "/xyz", "/xyz/bar");
        check("/foo/bar", "/foo/", "/xyz/", "/xyz/bar");
        check("/foo", "/foo", "/xyz", "/xyz");
        check("/foo/", "/foo", "/xyz", "/xyz/");
        check("/foo/bar", "/foo", "", "/bar");
        check("/foo/", "/foo", "", "/");
        check("/foo", "/foo", "", "/");
        check("/foo/", "/foo", "/", "/");
        check("/foo", "/foo", "/", "/");
        // Beyond the table: the root, encodings, and no double slash.
        check("/", "/", "/xyz", "/xyz/");
        check("/a/b", "/", "/xyz", "/xyz/a/b");
        check("/a%2Fb/c%20d", "/a%2Fb", "/x%2Fy", "/x%2Fy/c%20d");
        check("/foo", "/foo", "/xyz/", "/xyz");
    }

    #[test]
    fn written_paths_are_normal() {
        for bad in ["a", "/a?b", "//a", "/a/../b", "/a b", "/%2f", "/a\r\nb"] {
            assert!(
                PathChange::full(bad).is_err() && PathChange::prefix(bad).is_err(),
                "{bad:?}"
            );
        }
        assert!(PathChange::full("").is_err());
    }

    fn redirect() -> Redirect {
        Redirect {
            scheme: None,
            host: None,
            port: None,
            path: None,
            status: RedirectStatus::Found,
        }
    }

    #[test]
    fn locations() {
        let asked = |scheme, port| Asked {
            scheme,
            host: "a.test",
            port,
            path: "/a/b",
            query: Some("c=//d"),
        };
        let check = |redirect: &Redirect, asked: &Asked<'_>, expected: &str| {
            assert_eq!(redirect.location(asked, "").as_deref(), Ok(expected));
        };
        let other = Redirect {
            host: Some("www.test".parse().unwrap()),
            ..redirect()
        };
        // The client's port, unless the scheme or a port is given.
        check(&other, &asked(Scheme::Http, None), "http://www.test/a/b?c=//d");
        check(
            &other,
            &asked(Scheme::Http, Some(8080)),
            "http://www.test:8080/a/b?c=//d",
        );
        check(&other, &asked(Scheme::Https, Some(443)), "https://www.test/a/b?c=//d");
        let secure = Redirect {
            scheme: Some(Scheme::Https),
            ..other.clone()
        };
        check(&secure, &asked(Scheme::Http, Some(8080)), "https://www.test/a/b?c=//d");
        let port = Redirect {
            port: NonZeroU16::new(8443),
            ..secure
        };
        check(&port, &asked(Scheme::Http, None), "https://www.test:8443/a/b?c=//d");
        let path = Redirect {
            path: Some(PathChange::full("/new").unwrap()),
            ..redirect()
        };
        check(&path, &asked(Scheme::Https, Some(80)), "https://a.test:80/new?c=//d");
        let v6 = Asked {
            host: "[::1]",
            query: None,
            ..asked(Scheme::Http, Some(81))
        };
        check(&path, &v6, "http://[::1]:81/new");
    }

    #[test]
    fn no_redirect_leads_a_client_in_a_circle() {
        let secure = Redirect {
            scheme: Some(Scheme::Https),
            ..redirect()
        };
        let asked = |scheme, port| Asked {
            scheme,
            host: "a.test",
            port,
            path: "/a",
            query: None,
        };
        assert_eq!(
            secure.location(&asked(Scheme::Http, None), "").as_deref(),
            Ok("https://a.test/a")
        );
        assert_eq!(secure.location(&asked(Scheme::Https, None), ""), Err(LeadsToItself));
        assert_eq!(
            secure.location(&asked(Scheme::Https, Some(443)), ""),
            Err(LeadsToItself)
        );
        assert_eq!(
            redirect().location(&asked(Scheme::Http, Some(81)), ""),
            Err(LeadsToItself)
        );
    }

    #[test]
    fn statuses() {
        for status in RedirectStatus::ALL {
            assert_eq!(RedirectStatus::new(status.code()), Some(status));
        }
        assert_eq!(RedirectStatus::new(300), None);
        assert_eq!(RedirectStatus::new(304), None);
    }

    proptest! {
        // Whatever a normal path and a normal replacement become is normal: the guard would not refuse it, nor the router
        // see another path than the upstream.
        #[test]
        fn what_comes_out_is_normal(
            raw in "/[/.a%2eEfF5cC~ -]{0,16}", matched in "/[a/]{0,4}", replaced in "/[/.a%2F]{0,8}", whole in any::<bool>(),
        ) {
            let (Ok(path), Ok(matched)) = (path::normalize(&raw), PathMatch::prefix(&matched)) else { return Ok(()) };
            let change = if whole { PathChange::full(&replaced) } else { PathChange::prefix(&replaced) };
            let Ok(change) = change else { return Ok(()) };
            if matched.matches(&path) {
                let changed = change.apply(&path, matched.as_prefix());
                let normal = path::normalize(&changed);
                prop_assert_eq!(normal.as_deref(), Ok(changed.as_str()));
            }
        }
    }
}
