//! What a request must be before anything is decided about it: one valid host, a target that is a path, an allowed
//! method, unambiguous framing. What comes out is canonical: router, log and upstream see the same.
//!
//! These are the checks of a *parsed* request, the same for every version of HTTP. What only the bytes of HTTP/1.1 show is
//! the guard's business (`guard`), before there is a request.

use http::header::{HOST, MAX_FORWARDS};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use sluice_model::limits::REQUEST_TARGET_BYTES_MOST;
use sluice_model::path;

use super::headers::Survey;
use super::host::Host;
use crate::guard::rule::Rule;
use crate::middleware::forwarded::Scheme as Spoken;

/// What the proxy does with an admitted request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Routes and forwards it.
    On,
    /// Answers it: it asks this hop (`OPTIONS *`, or `Max-Forwards: 0`).
    Here,
}

/// A request that may go on.
#[derive(Debug)]
pub(super) struct Admitted {
    /// What happens to it.
    pub(super) way: Way,
    /// Its host; HTTP/1.0 need not have one.
    pub(super) host: Option<Host>,
}

/// Checks a request and brings its target and its host into canonical form. RFC 9112 §3.2, RFC 9113 §8.3.
pub(super) fn admit<B>(request: &mut Request<B>, survey: &Survey, spoken: Spoken) -> Result<Admitted, Rule> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Rule::Method);
    }
    survey.check_request(request.headers())?;
    let host = settle_host(request, survey, spoken)?;
    let way = settle_target(request)?;
    let way = match way {
        Way::On if *request.method() == Method::OPTIONS && survey.max_forwards > 0 => {
            count_hop(request.headers_mut(), survey)?
        }
        Way::On | Way::Here => way,
    };
    Ok(Admitted { way, host })
}

/// Exactly one valid host. The authority of the target goes before `Host` and replaces it (RFC 9112 §3.2.2); in HTTP/2,
/// where that is how a host is named, the two must not differ (RFC 9113 §8.3.1).
fn settle_host<B>(request: &mut Request<B>, survey: &Survey, spoken: Spoken) -> Result<Option<Host>, Rule> {
    let named = named_host(request, spoken)?;
    let field = match (survey.hosts, request.version()) {
        (0 | 1, _) => request.headers().get(HOST).map(Host::parse).transpose()?,
        (_, _) => return Err(Rule::HostRepeated),
    };
    let host = match (request.version(), named, field) {
        (Version::HTTP_2 | Version::HTTP_3, Some(named), Some(field)) if !named.is_same(&field) => {
            return Err(Rule::HostDiffers);
        }
        (Version::HTTP_2 | Version::HTTP_3, Some(host), _) => host,
        (Version::HTTP_11, _, None) => return Err(Rule::HostMissing),
        (_, Some(host), _) | (_, None, Some(host)) => host,
        (Version::HTTP_10 | Version::HTTP_09, None, None) => return Ok(None),
        (_, None, None) => return Err(Rule::HostMissing),
    };
    if request.headers().get(HOST) != Some(host.sent()) {
        request.headers_mut().insert(HOST, host.sent().clone());
    }
    Ok(Some(host))
}

/// The host that an absolute target names.
fn named_host<B>(request: &Request<B>, spoken: Spoken) -> Result<Option<Host>, Rule> {
    let Some(scheme) = request.uri().scheme() else {
        return Ok(None);
    };
    let expected = match spoken {
        Spoken::Http => Scheme::HTTP,
        Spoken::Https => Scheme::HTTPS,
    };
    if *scheme != expected {
        return Err(Rule::Scheme);
    }
    let named = request.uri().authority().ok_or(Rule::HostInvalid)?;
    let named = HeaderValue::from_str(named.as_str()).map_err(|_| Rule::HostInvalid)?;
    Host::parse(&named).map(Some)
}

/// Origin form with a normal path. Left alone if it is that already, as it nearly always is.
fn settle_target<B>(request: &mut Request<B>) -> Result<Way, Rule> {
    let uri = request.uri();
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    // What an operator allows was looked at where the bytes came in; this no operator can allow.
    if target.len() as u64 > REQUEST_TARGET_BYTES_MOST {
        return Err(Rule::TargetSize);
    }
    if target == "*" {
        return match *request.method() {
            Method::OPTIONS => Ok(Way::Here),
            _ => Err(Rule::TargetForm),
        };
    }
    if uri.scheme().is_none() && uri.authority().is_some() {
        return Err(Rule::TargetForm); // authority form belongs to CONNECT
    }
    let normal = path::normalize(uri.path()).map_err(|_| Rule::Path)?;
    let query = uri.query();
    let rewritten = match (&normal, uri.scheme()) {
        (std::borrow::Cow::Borrowed(_), None) => return Ok(Way::On),
        (std::borrow::Cow::Borrowed(path), Some(_)) => join(path, query)?,
        (std::borrow::Cow::Owned(path), _) => join(path, query)?,
    };
    *request.uri_mut() = Uri::from(rewritten);
    Ok(Way::On)
}

/// A target of a path and a query.
pub(super) fn join(path: &str, query: Option<&str>) -> Result<PathAndQuery, Rule> {
    let mut text = path.to_owned();
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(text)).map_err(|_| Rule::Path)
}

/// `Max-Forwards` of OPTIONS counts down; at 0 this hop is meant (RFC 9110 §7.6.2).
fn count_hop(headers: &mut HeaderMap, survey: &Survey) -> Result<Way, Rule> {
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let left = headers
        .get(MAX_FORWARDS)
        .filter(|_| survey.max_forwards == 1)
        .and_then(|value| value.to_str().ok().filter(digits)?.parse::<u64>().ok());
    match left.ok_or(Rule::MaxForwards)? {
        0 => Ok(Way::Here),
        left => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
            Ok(Way::On)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(version: Version, target: &str, hosts: &[&'static str]) -> Result<(String, String), Rule> {
        let mut request = Request::builder().version(version).uri(target).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, HeaderValue::from_static(host));
        }
        let survey = Survey::of(request.headers());
        let admitted = admit(&mut request, &survey, Spoken::Http)?;
        let host = admitted.host.map(|host| host.name().to_owned());
        Ok((host.unwrap_or_default(), request.uri().to_string()))
    }

    #[test]
    fn one_host_whatever_the_version() {
        let ok = |host: &str, target: &str| Ok((host.to_owned(), target.to_owned()));
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(admitted(h1, "/a", &["A.test"]), ok("a.test", "/a"));
        assert_eq!(admitted(h1, "http://b.test/a?q", &["a.test"]), ok("b.test", "/a?q"));
        assert_eq!(admitted(h1, "http://b.test/a", &["u@a"]), Err(Rule::HostInvalid));
        assert_eq!(admitted(h1, "http://b.test/a", &[]), Err(Rule::HostMissing));
        assert_eq!(admitted(h1, "/a", &["a", "a"]), Err(Rule::HostRepeated));
        assert_eq!(admitted(Version::HTTP_10, "/a", &[]), ok("", "/a"));
        assert_eq!(admitted(h2, "http://a.test/a", &[]), ok("a.test", "/a"));
        assert_eq!(admitted(h2, "http://a.test/a", &["A.test"]), ok("a.test", "/a"));
        assert_eq!(admitted(h2, "http://a.test/a", &["b.test"]), Err(Rule::HostDiffers));
        assert_eq!(admitted(h2, "http://a.test:81/a", &["a.test"]), Err(Rule::HostDiffers));
        assert_eq!(admitted(h2, "https://a.test/a", &[]), Err(Rule::Scheme));
        assert_eq!(admitted(h2, "/a", &[]), Err(Rule::HostMissing));
        assert_eq!(admitted(h1, "*", &["a"]), Err(Rule::TargetForm));
    }
}
