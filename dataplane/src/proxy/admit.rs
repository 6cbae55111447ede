//! What a request must be before anything is decided about it: one valid host, a target that is a path, an allowed
//! method, unambiguous framing. What comes out is canonical: router, log and upstream see the same.

use http::header::{HOST, MAX_FORWARDS};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use hyper::body::Incoming;
use sluice_model::limits::MAX_REQUEST_TARGET_BYTES;
use sluice_model::{authority, path};

use super::failure::Failure;
use super::headers::Survey;
use crate::middleware::forwarded::Scheme as Spoken;

/// What the proxy does with an admitted request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Routes and forwards it.
    On,
    /// Answers it: it asks this hop (`OPTIONS *`, or `Max-Forwards: 0`).
    Here,
}

/// Checks a request and brings its target and its host into canonical form. RFC 9112 §3.2.
pub(super) fn admit(request: &mut Request<Incoming>, survey: &Survey, spoken: Spoken) -> Result<Way, Failure> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Failure::MethodNotAllowed);
    }
    survey.check_request(request.headers())?;
    settle_host(request, survey, spoken)?;
    let way = settle_target(request)?;
    if *request.method() == Method::OPTIONS && survey.max_forwards > 0 {
        return count_hop(request.headers_mut()).map(|here| if way == Way::Here { way } else { here });
    }
    Ok(way)
}

/// Exactly one valid host. The authority of an absolute target goes before `Host` and replaces it (§3.2.2).
fn settle_host(request: &mut Request<Incoming>, survey: &Survey, spoken: Spoken) -> Result<(), Failure> {
    match (survey.hosts, request.version()) {
        (1, _) => {}
        (0, Version::HTTP_10 | Version::HTTP_09) => {}
        (_, _) => return Err(Failure::BadRequest),
    }
    if request.uri().scheme().is_some() {
        let expected = match spoken {
            Spoken::Http => Scheme::HTTP,
            Spoken::Https => Scheme::HTTPS,
        };
        if request.uri().scheme() != Some(&expected) {
            return Err(Failure::BadRequest);
        }
        let named = request.uri().authority().ok_or(Failure::BadRequest)?;
        let named = HeaderValue::from_str(named.as_str()).map_err(|_| Failure::BadRequest)?;
        request.headers_mut().insert(HOST, named);
    }
    match request.headers().get(HOST) {
        Some(host) => check_host(host),
        None => Ok(()),
    }
}

fn check_host(host: &HeaderValue) -> Result<(), Failure> {
    let host = host.to_str().map_err(|_| Failure::BadRequest)?;
    authority::parse(host).map(drop).map_err(|_| Failure::BadRequest)
}

/// Origin form with a normal path. Left alone if it is that already, as it nearly always is.
fn settle_target(request: &mut Request<Incoming>) -> Result<Way, Failure> {
    let uri = request.uri();
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > MAX_REQUEST_TARGET_BYTES {
        return Err(Failure::UriTooLong);
    }
    if target == "*" && *request.method() == Method::OPTIONS {
        return Ok(Way::Here);
    }
    if uri.scheme().is_none() && uri.authority().is_some() {
        return Err(Failure::BadRequest); // authority form belongs to CONNECT
    }
    let normal = path::normalize(uri.path()).map_err(|_| Failure::BadRequest)?;
    let query = uri.query();
    let rewritten = match (&normal, uri.scheme()) {
        (std::borrow::Cow::Borrowed(_), None) => return Ok(Way::On),
        (std::borrow::Cow::Borrowed(_), Some(_)) => uri.path_and_query().cloned().ok_or(Failure::BadRequest)?,
        (std::borrow::Cow::Owned(path), _) => join(path, query)?,
    };
    *request.uri_mut() = Uri::from(rewritten);
    Ok(Way::On)
}

fn join(path: &str, query: Option<&str>) -> Result<PathAndQuery, Failure> {
    let mut text = path.to_owned();
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(text)).map_err(|_| Failure::BadRequest)
}

/// `Max-Forwards` of OPTIONS counts down; at 0 this hop is meant (RFC 9110 §7.6.2).
fn count_hop(headers: &mut HeaderMap) -> Result<Way, Failure> {
    let left = headers
        .get(MAX_FORWARDS)
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    match left.ok_or(Failure::BadRequest)? {
        0 => Ok(Way::Here),
        left => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
            Ok(Way::On)
        }
    }
}
