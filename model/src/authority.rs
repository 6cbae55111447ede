//! The host of a request as it was sent (`Host` header, `:authority` or absolute form), parsed once.
//!
//! RFC 9112 §3.2 makes a request with an invalid `Host` a bad request. Stricter than the URI grammar on purpose:
//! names are letters, digits, `-`, `_` and `.`, since nothing else can be looked up and user information or
//! percent-encoding in a host is how requests slip past a route.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// A parsed host and port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority<'a> {
    /// Lower case, without trailing dot. An IPv6 address stands in its brackets.
    pub host: Cow<'a, str>,
    /// The port, if one was written.
    pub port: Option<u16>,
}

/// Why a text is not a host with an optional port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Nothing there. RFC 9112 wants an empty `Host` from clients whose target has no authority.
    #[error("the host is empty")]
    Empty,
    /// Longer than DNS allows.
    #[error("a host has at most 253 characters")]
    Length,
    /// Not a name and not an address.
    #[error("a host is a name of letters, digits, '-', '_' and '.', an IPv4 address, or an IPv6 address in brackets")]
    Host,
    /// Not a port.
    #[error("a port is a number from 1 to 65535")]
    Port,
}

/// Parses `host`, `host:port` or `[v6]:port`. Borrows if the host is in lower case already.
pub fn parse(text: &str) -> Result<Authority<'_>, AuthorityError> {
    let (host, port) = split_port(text)?;
    let port = match port {
        // RFC 3986 §3.2.3 allows "host:" and means the default port.
        None | Some("") => None,
        Some(digits) => Some(parse_port(digits)?),
    };
    let host = if host.starts_with('[') {
        check_v6(host)?
    } else {
        check_name(host)?
    };
    let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    Ok(Authority { host, port })
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    if !text.starts_with('[') {
        return Ok(text
            .split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))));
    }
    let end = text.find(']').ok_or(AuthorityError::Host)?;
    let (host, rest) = text.split_at(end.saturating_add(1));
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(AuthorityError::Host),
    }
}

fn parse_port(digits: &str) -> Result<u16, AuthorityError> {
    let all_digits = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    let port = digits.parse().ok().filter(|port| all_digits && *port != 0);
    port.ok_or(AuthorityError::Port)
}

fn check_v6(host: &str) -> Result<&str, AuthorityError> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner.map(str::parse::<Ipv6Addr>) {
        Some(Ok(_)) => Ok(host),
        Some(Err(_)) | None => Err(AuthorityError::Host),
    }
}

fn check_name(host: &str) -> Result<&str, AuthorityError> {
    if host.is_empty() {
        return Err(AuthorityError::Empty);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > 253 {
        return Err(AuthorityError::Length);
    }
    let mut after_dot = true;
    for byte in host.bytes() {
        match byte {
            b'.' if after_dot => return Err(AuthorityError::Host),
            b'.' => after_dot = true,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => after_dot = false,
            _ => return Err(AuthorityError::Host),
        }
    }
    if after_dot { Err(AuthorityError::Host) } else { Ok(host) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_and_ports() {
        let check = |text: &str, host: &str, port: Option<u16>| {
            let host = host.into();
            assert_eq!(parse(text), Ok(Authority { host, port }), "{text}");
        };
        check("a.example", "a.example", None);
        check("Shop.Example.COM:8080", "shop.example.com", Some(8080));
        check("a.example.", "a.example", None);
        check("a.example.:80", "a.example", Some(80));
        check("a.example:", "a.example", None);
        check("my_host", "my_host", None);
        check("10.0.0.1:65535", "10.0.0.1", Some(65535));
        check("[::1]", "[::1]", None);
        check("[FE80::A]:80", "[fe80::a]", Some(80));
        check(&"a.".repeat(127), &"a.".repeat(127)[..253], None);
    }

    #[test]
    fn refusals() {
        let check = |text: &str, expected: AuthorityError| assert_eq!(parse(text), Err(expected), "{text}");
        check("", AuthorityError::Empty);
        check(":80", AuthorityError::Empty);
        check(&"a".repeat(254), AuthorityError::Length);
        for text in [
            "a:0", "a:65536", "a:+80", "a:8o", "a:080808", "a:80:80", "::1", "[::1]:x",
        ] {
            check(text, AuthorityError::Port);
        }
        for text in [
            "a b",
            "a/b",
            "user@a",
            "a%41",
            "ä",
            "a..b",
            ".a",
            ".",
            "a,b",
            "[::1",
            "[::1]80",
            "[a]",
            "[]",
            "[::1%eth0]",
            "a\t",
        ] {
            check(text, AuthorityError::Host);
        }
    }

    #[test]
    fn lower_case_borrows() {
        assert!(matches!(
            parse("a.example.:1").unwrap().host,
            Cow::Borrowed("a.example")
        ));
    }

    proptest! {
        #[test]
        fn what_comes_out_goes_in_unchanged(text in "[a-zA-Z0-9.:\\[\\]_-]{0,20}") {
            if let Ok(authority) = parse(&text) {
                let again = parse(&authority.host).unwrap();
                prop_assert_eq!(again, Authority { host: authority.host.clone(), port: None });
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
