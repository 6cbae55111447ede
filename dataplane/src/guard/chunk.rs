//! Chunks (RFC 9112 §7.1): the size line read as strictly as it is written, its extensions checked and dropped.

use super::rule::Rule;
use super::syntax;

/// The size of a chunk, from its line without line end. Hexadecimal digits alone: no sign, prefix, space or underscore,
/// and no more of them than 63 bits have.
pub(super) fn size(line: &[u8]) -> Result<u64, Rule> {
    let end = line
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit())
        .unwrap_or(line.len());
    let (digits, extensions) = line.split_at_checked(end).ok_or(Rule::ChunkSize)?;
    if digits.is_empty() || digits.len() > 16 {
        return Err(Rule::ChunkSize);
    }
    match extensions.first() {
        None => {}
        Some(b';') => check_extensions(extensions)?,
        // "5 ;x" is bad whitespace (§7.1.1), "5 " is nothing.
        Some(_) => return Err(Rule::ChunkSize),
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Rule::ChunkSize)?;
    let size = u64::from_str_radix(digits, 16).map_err(|_| Rule::ChunkSize)?;
    if size > i64::MAX as u64 {
        Err(Rule::ChunkSize)
    } else {
        Ok(size)
    }
}

/// `*( ";" name [ "=" ( token / quoted-string ) ] )`, without the whitespace that only bad senders put there.
fn check_extensions(mut rest: &[u8]) -> Result<(), Rule> {
    while let Some(after) = rest.strip_prefix(b";") {
        rest = after_token(after)?;
        if let Some(value) = rest.strip_prefix(b"=") {
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => after_quoted(quoted)?,
                None => after_token(value)?,
            };
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Rule::ChunkExtension)
    }
}

fn after_token(text: &[u8]) -> Result<&[u8], Rule> {
    let end = text
        .iter()
        .position(|byte| !syntax::is_tchar(*byte))
        .unwrap_or(text.len());
    match text.split_at_checked(end) {
        Some((token, rest)) if !token.is_empty() => Ok(rest),
        Some(_) | None => Err(Rule::ChunkExtension),
    }
}

fn after_quoted(mut text: &[u8]) -> Result<&[u8], Rule> {
    loop {
        text = match text {
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', b'\t' | b' '..=b'~', rest @ ..] | [b'\t' | b' ' | b'!' | b'#'..=b'[' | b']'..=b'~', rest @ ..] => {
                rest
            }
            _ => return Err(Rule::ChunkExtension),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |line: &[u8], expected: Result<u64, Rule>| {
            assert_eq!(size(line), expected, "{:?}", String::from_utf8_lossy(line));
        };
        check(b"0", Ok(0));
        check(b"1aF", Ok(0x1af));
        check(b"0005", Ok(5));
        check(b"7fffffffffffffff", Ok(i64::MAX as u64));
        check(b"5;a;b=c;d=\"e\\\"f;\"", Ok(5));
        for line in [
            &b""[..],
            b"+5",
            b"-5",
            b"0x5",
            b"5_0",
            b" 5",
            b"5 ",
            b"5 ;a",
            b"g",
            b"8000000000000000",
            b"00000000000000005",
        ] {
            check(line, Err(Rule::ChunkSize));
        }
        for line in [
            &b"5;"[..],
            b"5;;a",
            b"5;a=",
            b"5;a=\"b",
            b"5; a",
            b"5;a=b c",
            b"5;a=\"\x00\"",
            b"5;a\x00",
        ] {
            check(line, Err(Rule::ChunkExtension));
        }
    }
}
