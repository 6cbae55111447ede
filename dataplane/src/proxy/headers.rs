//! Header hygiene: one pass finds what a head holds that concerns this hop, then only what is there is touched.
//!
//! RFC 9110 §7.6.1: fields that `Connection` names and the known hop-by-hop fields go, both ways. What a client names
//! there never deletes what addresses, frames or identifies a request.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_model::limits::REQUEST_HEAD_BYTES_MOST;

use crate::guard::rule::Rule;
use crate::middleware::modify::is_same_field;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What one pass over a head found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Survey {
    /// Lines of `Host`.
    pub(super) hosts: u8,
    /// Lines of `Transfer-Encoding`.
    pub(super) transfer_encodings: u8,
    /// Lines of `Content-Length`.
    pub(super) content_lengths: u8,
    /// Lines of `Expect`.
    pub(super) expects: u8,
    /// Lines of `Max-Forwards`.
    pub(super) max_forwards: u8,
    /// Lines of `TE`.
    pub(super) te: u8,
    /// Lines of `X-Forwarded-Client-Cert`.
    pub(super) client_certs: u8,
    /// Lines of `Connection`.
    connections: u8,
    /// Lines of other hop-by-hop fields.
    others: u8,
    /// Lines whose name could be taken for another one (`X_Forwarded_For`).
    aliases: u8,
    /// The largest field, name and value.
    pub(super) largest_bytes: usize,
}

impl Survey {
    /// Looks at every field once.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut survey = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            survey.largest_bytes = survey.largest_bytes.max(name.len().saturating_add(value.len()));
            let count = match name {
                "host" => &mut survey.hosts,
                "transfer-encoding" => &mut survey.transfer_encodings,
                "content-length" => &mut survey.content_lengths,
                "expect" => &mut survey.expects,
                "max-forwards" => &mut survey.max_forwards,
                "te" => &mut survey.te,
                "x-forwarded-client-cert" => &mut survey.client_certs,
                "connection" => &mut survey.connections,
                "keep-alive"
                | "proxy-connection"
                | "proxy-authorization"
                | "proxy-authenticate"
                | "upgrade"
                | "http2-settings" => &mut survey.others,
                name if name.contains('_') => &mut survey.aliases,
                _ => continue,
            };
            *count = count.saturating_add(1);
        }
        survey
    }

    /// Refuses what no request may hold. `Transfer-Encoding` is one line that says `chunked` and nothing else: with
    /// anything more, two servers may see two different requests. (The guard of HTTP/1.1 lets no other pass; this holds
    /// whoever comes by another way.)
    pub(super) fn check_request(&self, headers: &HeaderMap) -> Result<(), Rule> {
        // What an operator allows was looked at where the bytes came in; this no operator can allow.
        if self.largest_bytes as u64 > REQUEST_HEAD_BYTES_MOST {
            return Err(Rule::FieldSize);
        }
        if self.content_lengths > 1 {
            return Err(Rule::LengthRepeated);
        }
        let says = |name: HeaderName, wanted: &[u8]| {
            headers
                .get(name)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(wanted))
        };
        if self.transfer_encodings > 0 {
            if self.content_lengths > 0 {
                return Err(Rule::LengthAndCoding);
            }
            if self.transfer_encodings > 1 || !says(TRANSFER_ENCODING, b"chunked") {
                return Err(Rule::Coding);
            }
        }
        if self.expects > 0 && (self.expects > 1 || !says(EXPECT, b"100-continue")) {
            return Err(Rule::Expectation);
        }
        Ok(())
    }

    /// Whether two readers could understand the framing of a response differently.
    pub(super) fn is_ambiguous_response(&self, headers: &HeaderMap) -> bool {
        let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
        match (self.transfer_encodings, self.content_lengths) {
            (0, 0) => false,
            (0, 1) => !headers.get(CONTENT_LENGTH).is_some_and(is_plain_length),
            (1, 0) => !headers.get(TRANSFER_ENCODING).is_some_and(chunked),
            (_, _) => true,
        }
    }

    /// Takes what concerns only this hop out of a request. What `Connection` named is returned: it is taken out of the
    /// trailers as well.
    pub(super) fn strip_request(&self, headers: &mut HeaderMap) -> Vec<HeaderName> {
        let trailers = self.te > 0 && accepts_trailers(headers);
        if self.aliases > 0 {
            remove_aliases(headers);
        }
        let nominated = self.strip(headers);
        if self.expects > 0 {
            headers.remove(EXPECT);
        }
        if self.content_lengths > 0 {
            write_length_plainly(headers);
        }
        if trailers {
            // RFC 9110 §10.1.4: whoever sends TE says so in Connection.
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        nominated
    }

    /// Takes what concerns only this hop out of a response.
    pub(super) fn strip_response(&self, headers: &mut HeaderMap) {
        drop(self.strip(headers));
    }

    fn strip(&self, headers: &mut HeaderMap) -> Vec<HeaderName> {
        let mut named = Vec::new();
        if self.connections > 0 {
            named = nominated(headers);
            for name in &named {
                headers.remove(name);
            }
            headers.remove(CONNECTION);
        }
        if self.te > 0 {
            headers.remove(TE);
        }
        if self.transfer_encodings > 0 {
            headers.remove(TRANSFER_ENCODING);
        }
        if self.others > 0 {
            let all = [
                KEEP_ALIVE,
                PROXY_CONNECTION,
                PROXY_AUTHORIZATION,
                PROXY_AUTHENTICATE,
                UPGRADE,
                HTTP2_SETTINGS,
            ];
            for name in all {
                headers.remove(name);
            }
        }
        named
    }
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|line| line.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii))
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, TE).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let plain: [&[u8]; 2] = [b"keep-alive", b"close"];
    tokens(headers, CONNECTION)
        .filter(|token| !plain.iter().any(|plain| token.eq_ignore_ascii_case(plain)))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !is_protected(name.as_str()))
        .collect()
}

/// Fields that a nomination does not delete: without them the request would mean something else to the upstream than
/// to this proxy.
fn is_protected(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || matches!(
            name,
            "host"
                | "content-length"
                | "content-type"
                | "content-encoding"
                | "authorization"
                | "cookie"
                | "forwarded"
                | "via"
                | "x-request-id"
                | "x-real-ip"
                | "range"
                | "date"
                | "cache-control"
                | "set-cookie"
        )
}

/// Many servers and CGI-like interfaces see `_` and `-` as one. A name that becomes one we vouch for is dropped.
fn remove_aliases(headers: &mut HeaderMap) {
    let meant = |name: &str| {
        let plain = name.replace('_', "-");
        is_protected(&plain) || is_of_hop_or_framing(&plain)
    };
    let aliases: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_') && meant(name.as_str()))
        .cloned()
        .collect();
    for name in aliases {
        headers.remove(name);
    }
}

/// `03` is 3 to us and might be 0 to somebody else: only the plain form goes on.
fn write_length_plainly(headers: &mut HeaderMap) {
    let odd = |value: &HeaderValue| value.len() > 1 && value.as_bytes().first() == Some(&b'0');
    let length = headers.get(CONTENT_LENGTH).filter(|value| odd(value));
    let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Fields that frame a message, concern one hop, or steer how a request is read: only a head may have them.
fn is_of_hop_or_framing(name: &str) -> bool {
    matches!(
        name,
        "transfer-encoding"
            | "te"
            | "trailer"
            | "connection"
            | "upgrade"
            | "expect"
            | "max-forwards"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "proxy-connection"
            | "keep-alive"
            | "http2-settings"
            | "content-range"
    )
}

/// Takes out of a request's trailers what only a head may say (RFC 9110 §6.5.1), what `Connection` named (§7.6.1) and what
/// its rule sets or removes, under any spelling.
pub(super) fn clean_trailers(trailers: &mut HeaderMap, nominated: &[HeaderName]) {
    let denied = |name: &HeaderName| {
        let plain = name.as_str().replace('_', "-");
        let is_nominated = || nominated.iter().any(|nominated| is_same_field(nominated, name));
        is_protected(&plain) || is_of_hop_or_framing(&plain) || is_nominated()
    };
    let names: Vec<HeaderName> = trailers.keys().filter(|name| denied(name)).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

/// Takes out of a response's trailers what concerns only the hop before, or frames a message: HTTP/2 has no such fields.
pub(crate) fn clean_response_trailers(trailers: &mut HeaderMap) {
    let denied = |name: &HeaderName| is_of_hop_or_framing(name.as_str()) || *name == CONTENT_LENGTH;
    let names: Vec<HeaderName> = trailers.keys().filter(|name| denied(name)).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

/// Digits alone. RFC 9110 §8.6 lets `3, 3` be taken for a 3, and who does not take it so ends the connection.
fn is_plain_length(value: &HeaderValue) -> bool {
    !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn stripped(lines: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut headers = headers(lines);
        drop(Survey::of(&headers).strip_request(&mut headers));
        let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        headers.iter().map(text).collect()
    }

    #[test]
    fn hop_by_hop_fields_go_and_the_rest_stays() {
        let left = stripped(&[
            ("connection", "close, X-Secret , host,x-forwarded-for, content-length"),
            ("connection", "keep-alive"),
            ("x-secret", "1"),
            ("host", "a"),
            ("x-forwarded-for", "1.1.1.1"),
            ("content-length", "003"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "x"),
            ("proxy-authorization", "x"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("te", "gzip"),
            ("accept", "*/*"),
            ("x_forwarded_for", "6.6.6.6"),
            ("my_header", "1"),
        ]);
        let expected = [
            ("host", "a"),
            ("x-forwarded-for", "1.1.1.1"),
            ("content-length", "3"),
            ("accept", "*/*"),
            ("my_header", "1"),
        ];
        let mut left: Vec<_> = left
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        left.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(left, expected);
    }

    #[test]
    fn trailers_are_asked_for_by_this_hop_too() {
        let left = stripped(&[("te", "trailers"), ("connection", "te")]);
        assert_eq!(left.len(), 2);
        assert!(left.contains(&("te".into(), "trailers".into())) && left.contains(&("connection".into(), "te".into())));
    }

    #[test]
    fn framing_that_two_servers_could_read_differently_is_refused() {
        let check = |lines: &[(&'static str, &'static str)], expected| {
            let headers = headers(lines);
            assert_eq!(Survey::of(&headers).check_request(&headers), expected, "{lines:?}");
        };
        check(&[("transfer-encoding", "Chunked")], Ok(()));
        check(&[("transfer-encoding", "gzip, chunked")], Err(Rule::Coding));
        check(
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            Err(Rule::Coding),
        );
        check(
            &[("transfer-encoding", "chunked"), ("content-length", "3")],
            Err(Rule::LengthAndCoding),
        );
        check(&[("expect", "100-Continue")], Ok(()));
        check(&[("expect", "200-maybe")], Err(Rule::Expectation));
    }

    #[test]
    fn trailers_say_nothing_that_only_a_head_may_say() {
        let mut trailers = headers(&[
            ("x-sum", "1"),
            ("host", "b"),
            ("content-length", "1"),
            ("x-forwarded-for", "1"),
            ("x_forwarded_for", "1"),
            ("authorization", "1"),
            ("te", "1"),
            ("transfer_encoding", "1"),
            ("x-named", "1"),
            ("x_named", "1"),
            ("x_own", "1"),
        ]);
        clean_trailers(&mut trailers, &[HeaderName::from_static("x-named")]);
        let mut left: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-sum", "x_own"]);
    }

    #[test]
    fn responses_have_one_framing() {
        let check = |lines: &[(&'static str, &'static str)], expected| {
            let headers = headers(lines);
            assert_eq!(
                Survey::of(&headers).is_ambiguous_response(&headers),
                expected,
                "{lines:?}"
            );
        };
        check(&[], false);
        check(&[("content-length", "3")], false);
        check(&[("transfer-encoding", "chunked")], false);
        check(&[("content-length", "3"), ("content-length", "3")], true);
        check(&[("content-length", "3, 3")], true);
        check(&[("content-length", "")], true);
        check(&[("content-length", "3"), ("transfer-encoding", "chunked")], true);
        check(&[("transfer-encoding", "gzip, chunked")], true);
        check(
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            true,
        );
    }
}
