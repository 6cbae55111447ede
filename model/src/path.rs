//! The one path normaliser: router, policy, log and upstream all see what comes out of it.
//!
//! - `%XX` of an unreserved character is decoded, other encodings get upper-case digits (RFC 3986 §6.2.2.1–2). `%2F`
//!   stays: a slash that was encoded is data, not structure.
//! - Dot segments are resolved, also those that were encoded (§6.2.2.3, §5.2.4).
//! - `//` becomes `/`, before dot segments are resolved, as file systems and nginx have it.
//! - Dot segments in disguise are refused: what is one for a server that drops `;parameters` (RFC 3986 §3.3 leaves them to
//!   it) or decodes `%2F` and `%5C`, as `/..;/` and `/..%2F`, and a name for everybody else. A route for `/public` would lead
//!   such a server to `/admin`.
//! - Backslashes, control characters, spaces, bytes beyond ASCII, `%00` and broken encodings are refused: servers
//!   differ in what they make of them, and such differences are how requests slip past a route.
//!
//! Idempotent, and free for a path that is normal already.

use std::borrow::Cow;

use crate::request::hex_pair;

/// Why a text is not a request path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("a request path begins with '/'")]
    NoSlash,
    /// It has a character that no path has.
    #[error("a request path has no backslash, space, control character, '?', '#' or byte beyond ASCII")]
    Character,
    /// A `%` without two hex digits.
    #[error("'%' in a request path is followed by two hex digits")]
    Encoding,
    /// `%00`.
    #[error("a request path has no encoded zero byte")]
    Zero,
    /// `..;x`, `a%2F..`.
    #[error("a request path has no '.' or '..' that some servers would see only behind ';', '%2F' or '%5C'")]
    Disguise,
}

/// The normal form of the path `raw`, which comes without query.
pub fn normalize(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::NoSlash);
    }
    if is_plain(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    let decoded = decode_unreserved(raw)?;
    if decoded.split('/').any(is_disguise) {
        return Err(PathError::Disguise);
    }
    let resolved = resolve(&decoded);
    Ok(if resolved == raw {
        Cow::Borrowed(raw)
    } else {
        Cow::Owned(resolved)
    })
}

/// The fast answer for nearly every path: nothing in it that could need a second look. Two bytes `//` or `/.` are
/// enough of a reason to look again.
fn is_plain(raw: &[u8]) -> bool {
    let mut after_slash = false;
    for &byte in raw {
        match byte {
            b'/' | b'.' if after_slash => return false,
            b'%' | b'\\' | b'?' | b'#' | 0..=b' ' | 0x7f.. => return false,
            _ => after_slash = byte == b'/',
        }
    }
    true
}

fn decode_unreserved(raw: &str) -> Result<String, PathError> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => {
                let [high, low, after @ ..] = tail else {
                    return Err(PathError::Encoding);
                };
                rest = after;
                match hex_pair(*high, *low).ok_or(PathError::Encoding)? {
                    0 => return Err(PathError::Zero),
                    plain if is_unreserved(plain) => text.push(char::from(plain)),
                    _ => {
                        let digits = [*high, *low].map(|digit| char::from(digit.to_ascii_uppercase()));
                        text.push('%');
                        text.extend(digits);
                    }
                }
            }
            b'\\' | b'?' | b'#' | 0..=b' ' | 0x7f.. => return Err(PathError::Character),
            _ => text.push(char::from(byte)),
        }
    }
    Ok(text)
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a segment is, or contains, a dot segment to a server that drops parameters or decodes separators. What is one to
/// everybody is none in disguise.
fn is_disguise(segment: &str) -> bool {
    let is_dots = |piece: &str| {
        let name = piece.split_once(';').map_or(piece, |(name, _)| name);
        let name = name.split_once("%3B").map_or(name, |(name, _)| name);
        matches!(name, "." | "..")
    };
    let is_plain = matches!(segment, "." | "..");
    !is_plain && segment.split("%2F").flat_map(|piece| piece.split("%5C")).any(is_dots)
}

fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &segments {
        resolved.push('/');
        resolved.push_str(segment);
    }
    // A directory stays one: "/a/", "/a/.", "/a/b/.." all end in a slash.
    let directory = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    if directory || segments.is_empty() {
        resolved.push('/');
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normal_forms() {
        let check = |raw: &str, expected: &str| assert_eq!(normalize(raw).as_deref(), Ok(expected), "{raw}");
        check("/", "/");
        check("/a/b", "/a/b");
        check("/a.b/c..d/.e", "/a.b/c..d/.e");
        // Dot segments, RFC 3986 §5.2.4, also above the root and encoded.
        check("/a/b/c/./../../g", "/a/g");
        check("/../../a", "/a");
        check("/a/..", "/");
        check("/a/b/..", "/a/");
        check("/a/.", "/a/");
        check("/.", "/");
        check("/a/%2e%2E/b", "/b");
        check("/a/.%2e/b", "/b");
        check("/a/...", "/a/...");
        // Slashes.
        check("//a///b//", "/a/b/");
        check("/a//../b", "/b");
        check("/a%2Fb", "/a%2Fb");
        check("/a%2fb", "/a%2Fb");
        check("/a%5cb/...%2F..a", "/a%5Cb/...%2F..a");
        // Encodings.
        check("/%7Euser/%41", "/~user/A");
        check("/%e4%20x", "/%E4%20x");
        check("/%252e%252e/a", "/%252e%252e/a");
        check("/a;b=c,d@e:f!$&'()*+=", "/a;b=c,d@e:f!$&'()*+=");
    }

    #[test]
    fn refusals() {
        let check = |raw: &str, expected: PathError| assert_eq!(normalize(raw), Err(expected), "{raw}");
        check("", PathError::NoSlash);
        check("a", PathError::NoSlash);
        check("*", PathError::NoSlash);
        for raw in [
            "/a\\b",
            "/a b",
            "/a\tb",
            "/a\0",
            "/a\u{7f}",
            "/ä",
            "/a?b",
            "/a#b",
            "/..\\..\\x",
        ] {
            check(raw, PathError::Character);
        }
        for raw in ["/%", "/%4", "/%zz", "/%+1", "/a%2", "/%4g/.."] {
            check(raw, PathError::Encoding);
        }
        check("/a%00b", PathError::Zero);
        for raw in [
            "/a/..;/b",
            "/a/.;x=1/b",
            "/..;",
            "/a/%2e%2E;x/b",
            "/a/..%3b/b",
            "/a/..%2f..",
            "/a/b%2F../c",
            "/a/..%5cb",
            "/a/x%5c.%2Fb",
            "/a/x;y%2f..;z",
        ] {
            check(raw, PathError::Disguise);
        }
    }

    #[test]
    fn a_normal_path_costs_nothing() {
        for raw in ["/", "/api/v1/items", "/a%2Fb", "/.well-known/x", "/a/"] {
            assert!(matches!(normalize(raw), Ok(Cow::Borrowed(_))), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn idempotent_and_without_structure_left(tail in "[/.a%2eEfF5cC3bB;~ -]{0,24}") {
            let raw = format!("/{tail}");
            let Ok(once) = normalize(&raw) else { return Ok(()) };
            let twice = normalize(&once).unwrap();
            prop_assert_eq!(&once, &twice);
            prop_assert!(matches!(twice, Cow::Borrowed(_)));
            prop_assert!(!once.contains("//"));
            // Neither for us nor for a server that reads more into it.
            let more = once.replace("%2F", "/").replace("%5C", "/").replace("%3B", ";");
            let names = more.split('/').filter_map(|segment| segment.split(';').next());
            prop_assert!(names.into_iter().all(|name| name != "." && name != ".."));
            prop_assert!(!once.to_ascii_lowercase().contains("%2e"));
        }

        #[test]
        fn no_text_makes_it_panic(raw in "\\PC*|/\\PC*") {
            let _ = normalize(&raw);
        }
    }
}
