//! The grammar of one line of a request head, as strictly as RFC 9112 writes it: request line, target, field. Pure: bytes
//! in, parts or the broken rule out. Whatever passes here also passes the HTTP codec, which a property test holds.

use sluice_model::authority;
use sluice_model::limits::MAX_REQUEST_METHOD_BYTES;

use super::rule::Rule;

/// The versions that are spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A request line in its parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) version: Version,
}

/// A field line in its parts, without the whitespace around the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

/// RFC 9110 §5.6.2.
pub(super) fn is_tchar(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
        | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

/// Takes the CRLF off a line that ends in LF, and makes sure that there is no other CR in it.
pub(super) fn line(line: &[u8]) -> Result<&[u8], Rule> {
    let Some(line) = line.strip_suffix(b"\n").and_then(|line| line.strip_suffix(b"\r")) else {
        return Err(Rule::BareLf);
    };
    if line.contains(&b'\r') {
        return Err(Rule::BareCr);
    }
    Ok(line)
}

/// Parses a request line without its line end, whose target has at most `target_bytes`. RFC 9112 §3: single spaces, and nothing
/// else between the parts.
pub(super) fn request_line(line: &[u8], target_bytes: usize) -> Result<RequestLine<'_>, Rule> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Rule::RequestLine);
    };
    if !is_token(method) || method.len() > MAX_REQUEST_METHOD_BYTES {
        return Err(Rule::RequestLine);
    }
    let version = self::version(version)?;
    if target.len() > target_bytes {
        return Err(Rule::TargetSize);
    }
    check_target(method, target)?;
    Ok(RequestLine {
        method,
        target,
        version,
    })
}

fn version(text: &[u8]) -> Result<Version, Rule> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Rule::Version)
        }
        _ => Err(Rule::RequestLine),
    }
}

/// One of the four forms of §3.2, and only where the method has it.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), Rule> {
    match (method, target) {
        (_, []) => Err(Rule::RequestLine),
        (b"CONNECT", target) => check_authority(target, Rule::TargetForm),
        (b"OPTIONS", b"*") => Ok(()),
        (_, [b'/', ..]) => check_path_and_query(target),
        (_, target) => check_absolute(target),
    }
}

fn check_absolute(target: &[u8]) -> Result<(), Rule> {
    let scheme_end = target.windows(3).position(|window| window == b"://");
    let (scheme, rest) = scheme_end
        .and_then(|end| target.split_at_checked(end))
        .ok_or(Rule::TargetForm)?;
    let rest = rest.strip_prefix(b"://").ok_or(Rule::TargetForm)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Rule::Scheme);
    }
    let authority_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let (authority, path) = rest
        .split_at_checked(authority_end.unwrap_or(rest.len()))
        .ok_or(Rule::TargetForm)?;
    check_authority(authority, Rule::HostInvalid)?;
    check_path_and_query(path)
}

fn check_authority(text: &[u8], otherwise: Rule) -> Result<(), Rule> {
    let text = std::str::from_utf8(text).map_err(|_| otherwise)?;
    // "host:" is a valid authority with the default port to RFC 3986 and none to others: not in a target.
    if text.ends_with(':') {
        return Err(otherwise);
    }
    authority::parse(text).map(drop).map_err(|_| otherwise)
}

/// What browsers send and the codec takes: RFC 3986 and a few characters beside it that are the same to everybody.
pub(crate) fn check_path_and_query(text: &[u8]) -> Result<(), Rule> {
    let mut in_query = false;
    for &byte in text {
        match byte {
            b'?' if !in_query => in_query = true,
            b'#' => return Err(Rule::TargetFragment),
            _ if in_query && is_query_byte(byte) => {}
            _ if !in_query && is_path_byte(byte) => {}
            _ => return Err(Rule::TargetByte),
        }
    }
    Ok(())
}

fn is_path_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'@'..=b'_' | b'a'..=b'z' | b'|' | b'~' | b'{' | b'}')
}

fn is_query_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'~')
}

/// Parses a field line without its line end, whose name and value have at most `field_bytes` together.
pub(super) fn field(line: &[u8], field_bytes: usize) -> Result<Field<'_>, Rule> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Rule::FieldFolded);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Rule::FieldName)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Rule::FieldName)?;
    let value = trim(value.strip_prefix(b":").ok_or(Rule::FieldName)?);
    if !is_token(name) {
        return Err(Rule::FieldName);
    }
    if name.len().saturating_add(value.len()) > field_bytes {
        return Err(Rule::FieldSize);
    }
    if !value.iter().copied().all(is_value_byte) {
        return Err(Rule::FieldValue);
    }
    Ok(Field { name, value })
}

/// Takes off spaces and tabs. Not what else counts as whitespace elsewhere: a form feed is a control character here.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §5.5: visible characters, spaces, tabs, and bytes beyond ASCII, which are opaque.
fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A length as digits alone (RFC 9112 §6.2). Signs, spaces, lists and what no 63 bits hold are refused.
pub(super) fn length(value: &[u8]) -> Result<u64, Rule> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Rule::Length);
    }
    let text = std::str::from_utf8(value).map_err(|_| Rule::Length)?;
    text.parse()
        .ok()
        .filter(|length| *length <= i64::MAX as u64)
        .ok_or(Rule::Length)
}

/// Whether a list such as `Connection` names `wanted`.
pub(super) fn names(list: &[u8], wanted: &[u8]) -> bool {
    let mut words = list.split(|byte| *byte == b',').map(trim);
    words.any(|word| word.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use sluice_model::limits::{MAX_REQUEST_FIELD_BYTES, MAX_REQUEST_TARGET_BYTES};

    use super::*;

    #[test]
    fn request_lines() {
        let check = |text: &str, expected: Result<(), Rule>| {
            assert_eq!(
                request_line(text.as_bytes(), MAX_REQUEST_TARGET_BYTES).map(drop),
                expected,
                "{text:?}"
            );
        };
        for good in [
            "GET / HTTP/1.1",
            "GET /a?b=c|d{}[] HTTP/1.0",
            "M-SEARCH /a HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET http://a.test HTTP/1.1",
            "GET HTTPS://a.test:8443?q HTTP/1.1",
            "GET http://[::1]:80/ HTTP/1.1",
            "CONNECT a.test:443 HTTP/1.1",
        ] {
            check(good, Ok(()));
        }
        for line in [
            "",
            "GET /",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1.1x",
            "GET / HTTP/11",
            "G(T / HTTP/1.1",
            "GET /a b HTTP/1.1",
        ] {
            check(line, Err(Rule::RequestLine));
        }
        check("GET / HTTP/2.0", Err(Rule::Version));
        check("GET / HTTP/1.2", Err(Rule::Version));
        for form in [
            "GET foo HTTP/1.1",
            "GET a.test:80 HTTP/1.1",
            "GET * HTTP/1.1",
            "CONNECT / HTTP/1.1",
            "CONNECT http://a/ HTTP/1.1",
        ] {
            check(form, Err(Rule::TargetForm));
        }
        for host in [
            "GET http://u@a/ HTTP/1.1",
            "GET http:///a HTTP/1.1",
            "GET http://a:/ HTTP/1.1",
            "GET http://a:0/ HTTP/1.1",
        ] {
            check(host, Err(Rule::HostInvalid));
        }
        check("GET ftp://a/ HTTP/1.1", Err(Rule::Scheme));
        check("GET /a#b HTTP/1.1", Err(Rule::TargetFragment));
        check("GET /\u{e4} HTTP/1.1", Err(Rule::TargetByte));
        check("GET /<a> HTTP/1.1", Err(Rule::TargetByte));
        check(
            &format!("GET /{} HTTP/1.1", "a".repeat(MAX_REQUEST_TARGET_BYTES)),
            Err(Rule::TargetSize),
        );
    }

    #[test]
    fn fields() {
        let check = |text: &[u8], expected: Result<(&str, &[u8]), Rule>| {
            let field = field(text, MAX_REQUEST_FIELD_BYTES)
                .map(|field| (std::str::from_utf8(field.name).unwrap(), field.value));
            assert_eq!(field, expected, "{text:?}");
        };
        check(b"a: b", Ok(("a", b"b")));
        check(b"A-b:\t b \t", Ok(("A-b", b"b")));
        check(b"a:", Ok(("a", b"")));
        check(b"a: b:c\xff", Ok(("a", b"b:c\xff")));
        check(b" a: b", Err(Rule::FieldFolded));
        for name in [&b"a"[..], b": b", b"a : b", b"a b: c", b"a\x00: b", b"\xc3\xa4: b"] {
            check(name, Err(Rule::FieldName));
        }
        for value in [&b"a: b\x00c"[..], b"a: \x0bb", b"a: \x0cb", b"a: b\x7f"] {
            check(value, Err(Rule::FieldValue));
        }
        check(
            format!("a: {}", "b".repeat(MAX_REQUEST_FIELD_BYTES)).as_bytes(),
            Err(Rule::FieldSize),
        );
    }

    #[test]
    fn lengths() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(length(text.as_bytes()).ok(), expected, "{text:?}");
        check("0", Some(0));
        check("003", Some(3));
        check("9223372036854775807", Some(i64::MAX as u64));
        for text in [
            "",
            "+3",
            "-3",
            "0x3",
            "1_0",
            "3x",
            "3, 3",
            "3 3",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            check(text, None);
        }
    }
}
