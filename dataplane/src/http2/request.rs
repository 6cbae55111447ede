//! What a request of HTTP/2 must be before it is one like any other: the checks that the guard makes on the bytes of
//! HTTP/1.1, on what the codec has decoded, under the same names. After it come the checks of every version
//! (`proxy/admit.rs`).
//!
//! The codec has refused already (RFC 9113 §8.2, §8.3): names in upper case or that are no tokens, connection-specific
//! fields, `TE` other than `trailers`, pseudo-fields that are missing, repeated, unknown or late, lengths that are no
//! numbers or differ from each other or from the body. Those are streams reset, and counted as `h2_protocol`.

use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, COOKIE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request};
use sluice_model::limits::MAX_REQUEST_METHOD_BYTES;

use crate::guard::bounds::Bounds;
use crate::guard::rule::Rule;
use crate::guard::syntax;

/// What a field counts beside its bytes (RFC 9113 §6.5.2).
const FIELD_OVERHEAD_BYTES: usize = 32;

/// Refuses what must not go on, and joins what HTTP/2 may split.
pub(crate) fn check<B>(request: &mut Request<B>, bounds: &Bounds) -> Result<(), Rule> {
    if request.method().as_str().len() > MAX_REQUEST_METHOD_BYTES {
        return Err(Rule::RequestLine);
    }
    check_target(request, bounds)?;
    // RFC 9110 §9.3.6: what follows is no content, so it has no length.
    if is_extended(request) && request.headers().contains_key(CONTENT_LENGTH) {
        return Err(Rule::ConnectProtocol);
    }
    check_fields(request.headers(), target_bytes(request), bounds)?;
    join_cookies(request.headers_mut(), bounds)
}

/// What the head takes as HTTP/2 counts it.
pub(crate) fn head_bytes<B>(request: &Request<B>) -> usize {
    let fields = request.headers().iter();
    let sizes = fields.map(|(name, value)| {
        let bytes = name.as_str().len().saturating_add(value.len());
        bytes.saturating_add(FIELD_OVERHEAD_BYTES)
    });
    sizes.fold(target_bytes(request), usize::saturating_add)
}

fn target_bytes<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    path.saturating_add(authority)
        .saturating_add(request.method().as_str().len())
}

/// Whether it is a `CONNECT` that names a protocol (RFC 8441 §4). The codec lets no other method do that.
fn is_extended<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Protocol>().is_some()
}

fn check_target<B>(request: &Request<B>, bounds: &Bounds) -> Result<(), Rule> {
    let target = request.uri().path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > bounds.target_bytes {
        return Err(Rule::TargetSize);
    }
    match (request.method(), target.as_bytes()) {
        (&Method::CONNECT, _) if !is_extended(request) => Err(Rule::Method),
        (&Method::CONNECT, b"*") => Err(Rule::TargetForm),
        (_, b"*") => Ok(()),
        (_, path @ [b'/', ..]) => syntax::check_path_and_query(path),
        (_, _) => Err(Rule::TargetForm),
    }
}

/// Cookies count as they came: each crumb is a field (a bomb is made of crumbs).
fn check_fields(headers: &HeaderMap, mut bytes: usize, bounds: &Bounds) -> Result<(), Rule> {
    if headers.len() > bounds.fields {
        return Err(Rule::FieldCount);
    }
    for (name, value) in headers {
        let size = name.as_str().len().saturating_add(value.len());
        if size > bounds.field_bytes {
            return Err(Rule::FieldSize);
        }
        bytes = bytes.saturating_add(size);
        // RFC 9113 §8.2.1: no whitespace at either end, which HTTP/1.1 would take off again.
        let edges = [value.as_bytes().first(), value.as_bytes().last()];
        if edges.iter().flatten().any(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(Rule::FieldValue);
        }
    }
    if bytes > bounds.head_bytes {
        return Err(Rule::HeadSize);
    }
    Ok(())
}

/// RFC 9113 §8.2.3.
fn join_cookies(headers: &mut HeaderMap, bounds: &Bounds) -> Result<(), Rule> {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return Ok(());
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in [second].into_iter().chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    let joined = HeaderValue::from_bytes(&joined).map_err(|_| Rule::FieldValue)?;
    if joined.len().saturating_add(COOKIE.as_str().len()) > bounds.field_bytes {
        return Err(Rule::FieldSize);
    }
    headers.insert(COOKIE, joined);
    Ok(())
}

#[cfg(test)]
mod tests {
    use sluice_model::limits::{MAX_REQUEST_FIELD_BYTES, MAX_REQUEST_FIELDS, MAX_REQUEST_TARGET_BYTES};

    use super::*;

    fn request(target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn checked(target: &str, fields: &[(&str, &str)]) -> Result<(), Rule> {
        check(&mut request(target, fields), &Bounds::default())
    }

    #[test]
    fn targets() {
        for good in ["http://a/", "http://a/b?c=d|e", "/a"] {
            assert_eq!(checked(good, &[]), Ok(()), "{good}");
        }
        assert_eq!(checked("/\u{e4}", &[]), Err(Rule::TargetByte));
        let mut bare = Request::new(());
        *bare.uri_mut() = PathAndQuery::from_static("?a").into();
        assert_eq!(check(&mut bare, &Bounds::default()), Err(Rule::TargetForm));
        let long = format!("/{}", "a".repeat(MAX_REQUEST_TARGET_BYTES));
        assert_eq!(checked(&long, &[]), Err(Rule::TargetSize));
        let mut connect = request("http://a/", &[]);
        *connect.method_mut() = Method::CONNECT;
        assert_eq!(check(&mut connect, &Bounds::default()), Err(Rule::Method));
        connect.extensions_mut().insert(Protocol::from_static("websocket"));
        assert_eq!(check(&mut connect, &Bounds::default()), Ok(()));
        connect.headers_mut().insert(CONTENT_LENGTH, 5.into());
        assert_eq!(check(&mut connect, &Bounds::default()), Err(Rule::ConnectProtocol));
    }

    #[test]
    fn fields() {
        assert_eq!(checked("/", &[("a", ""), ("b", "c d")]), Ok(()));
        for value in [" b", "b ", "\tb"] {
            assert_eq!(checked("/", &[("a", value)]), Err(Rule::FieldValue), "{value:?}");
        }
        let large = "a".repeat(MAX_REQUEST_FIELD_BYTES);
        assert_eq!(checked("/", &[("a", &large)]), Err(Rule::FieldSize));
        let half = "a".repeat(MAX_REQUEST_FIELD_BYTES / 2);
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"]
            .map(|name| (name, half.as_str()))
            .to_vec();
        assert_eq!(checked("/", &many), Err(Rule::HeadSize));
        assert_eq!(checked("/", &[("cookie", "a=b"); MAX_REQUEST_FIELDS]), Ok(()));
        assert_eq!(
            checked("/", &[("cookie", "a=b"); MAX_REQUEST_FIELDS + 1]),
            Err(Rule::FieldCount)
        );
    }

    #[test]
    fn crumbs_are_one_cookie() {
        let mut crumbs = request(
            "/",
            &[("cookie", "a=b"), ("x", "1"), ("cookie", "c=d"), ("cookie", "e")],
        );
        check(&mut crumbs, &Bounds::default()).unwrap();
        let all: Vec<_> = crumbs.headers().get_all(COOKIE).iter().collect();
        assert_eq!(all, ["a=b; c=d; e"]);
        let half = "a".repeat(MAX_REQUEST_FIELD_BYTES / 2);
        let two = [("cookie", half.as_str()), ("cookie", half.as_str())];
        assert_eq!(checked("/", &two), Err(Rule::FieldSize), "joined they are too large");
    }
}
