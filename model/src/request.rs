//! What routing looks at in a request, and whether one match is met by it.
//!
//! This is the slow and obviously correct side; the data plane's router compiles the same predicates and is compared
//! with this one. Which of several matches wins is decided in `precedence`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method};

use crate::matching::RouteMatch;

/// The parts of a request that decide where it goes.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// Its host, lower case, without port and trailing dot (see `authority`); `None` if it names none.
    pub host: Option<&'a str>,
    /// Its path, normalised (see `path`), without query.
    pub path: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// What stands after the `?`, raw; `None` without one.
    pub query: Option<&'a str>,
}

/// The first demand of a match that a request does not meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unmet {
    /// Its path.
    Path,
    /// Its method.
    Method,
    /// The header demand with this index.
    Header(usize),
    /// The query demand with this index.
    Query(usize),
}

impl RouteMatch {
    /// Whether every demand is met. Hosts are the route's business, not the match's.
    pub fn matches(&self, request: &RequestFacts<'_>) -> bool {
        self.first_unmet(request).is_none()
    }

    /// The first demand that is not met, in the order path, method, headers, query.
    pub fn first_unmet(&self, request: &RequestFacts<'_>) -> Option<Unmet> {
        if !self.path.matches(request.path) {
            return Some(Unmet::Path);
        }
        if !self.methods.is_empty() && !self.methods.contains(request.method) {
            return Some(Unmet::Method);
        }
        let header = self
            .headers
            .iter()
            .position(|h| !h.value.matches(header_value(request.headers, &h.name).as_deref()));
        let query = || {
            self.query
                .iter()
                .position(|q| !q.value.matches(query_value(request.query, &q.name).as_deref()))
        };
        header.map(Unmet::Header).or_else(|| query().map(Unmet::Query))
    }
}

/// The value of a header: several lines of one name count as one, joined with `", "` (RFC 9110 §5.3).
pub fn header_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?.as_bytes();
    let mut value = Cow::Borrowed(first);
    for line in lines {
        let joined = value.to_mut();
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    Some(value)
}

/// The first value of the query parameter `name`, decoded. `a` alone is a parameter with an empty value.
pub fn query_value<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, [u8]>> {
    query?
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *form_decode(key) == *name.as_bytes())
        .map(|(_, value)| form_decode(value))
}

/// Decodes `%XX` and `+` (a space) as forms are encoded. What is not an encoding stands for itself, as the WHATWG URL
/// standard has it: a query is never a reason to refuse a request.
pub fn form_decode(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, next) = match (first, tail) {
            (b'+', _) => (b' ', tail),
            (b'%', [high, low, after @ ..]) => match hex_pair(*high, *low) {
                Some(byte) => (byte, after),
                None => (b'%', tail),
            },
            _ => (first, tail),
        };
        decoded.push(byte);
        rest = next;
    }
    Cow::Owned(decoded)
}

/// The byte that two hex digits write, in either case.
pub(crate) fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::{HeaderMatch, PathMatch, QueryMatch, ValueMatch};
    use http::HeaderValue;

    #[test]
    fn header_lines_are_joined() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("x-a");
        assert_eq!(header_value(&headers, &name), None);
        headers.append("x-a", HeaderValue::from_static("1"));
        assert!(matches!(header_value(&headers, &name), Some(Cow::Borrowed(b"1"))));
        headers.append("x-a", HeaderValue::from_bytes(&[0xff]).unwrap());
        assert_eq!(header_value(&headers, &name).as_deref(), Some(&b"1, \xff"[..]));
    }

    #[test]
    fn query_parameters_by_first_value() {
        let check = |query: &str, name: &str, expected: Option<&str>| {
            let value = query_value(Some(query), name);
            assert_eq!(value.as_deref(), expected.map(str::as_bytes), "{query} {name}");
        };
        check("a=1&a=2", "a", Some("1"));
        check("b&a", "a", Some(""));
        check("a=b=c", "a", Some("b=c"));
        check("%61=%31+%2B", "a", Some("1 +"));
        check("a=%zz%4", "a", Some("%zz%4"));
        check("A=1&&", "a", None);
        check("", "", None);
        assert_eq!(query_value(None, "a"), None);
    }

    #[test]
    fn the_first_unmet_demand_is_named() {
        let one = RouteMatch {
            path: PathMatch::prefix("/a").unwrap(),
            methods: vec![Method::GET],
            headers: vec![HeaderMatch::new("X-A", ValueMatch::Present).unwrap()],
            query: vec![QueryMatch::new("q", ValueMatch::exact("1").unwrap()).unwrap()],
        };
        let check = |path: &str, method: Method, header: Option<&'static str>, query: Option<&str>| {
            let headers = header.map(|value| (HeaderName::from_static("x-a"), HeaderValue::from_static(value)));
            let headers: HeaderMap = headers.into_iter().collect();
            one.first_unmet(&RequestFacts {
                host: None,
                path,
                method: &method,
                headers: &headers,
                query,
            })
        };
        assert_eq!(check("/b", Method::POST, None, None), Some(Unmet::Path));
        assert_eq!(check("/a", Method::POST, None, None), Some(Unmet::Method));
        assert_eq!(check("/a", Method::GET, None, None), Some(Unmet::Header(0)));
        assert_eq!(check("/a", Method::GET, Some(""), Some("q=2")), Some(Unmet::Query(0)));
        assert_eq!(check("/a", Method::GET, Some(""), Some("q=1")), None);
    }
}
