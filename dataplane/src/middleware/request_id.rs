//! The request id: the client's if it is one, else 128 random bits. It goes upstream, back to the client and into the
//! log, so that one text finds a request everywhere.

use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_model::limits::MAX_REQUEST_ID_BYTES;

/// The header.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client's id, if it sent exactly one and it is a token (RFC 9110 §5.6.2): nothing that could break a log.
pub fn of_client(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    let value = values.next()?;
    let good = values.next().is_none() && is_token(value.as_bytes());
    good.then(|| value.clone())
}

fn is_token(bytes: &[u8]) -> bool {
    let tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.len() <= MAX_REQUEST_ID_BYTES && bytes.iter().all(tchar)
}

/// An id of 128 given bits, as 32 hex digits.
pub fn from_bits(high: u64, low: u64) -> HeaderValue {
    let mut text = [0_u8; 32];
    let bits = u128::from(high) << 64 | u128::from(low);
    for (place, digit) in text.iter_mut().rev().enumerate() {
        let nibble = (bits >> (4 * place)) as u8 & 15;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        assert_eq!(
            from_bits(0x0123_4567_89ab_cdef, 255),
            "0123456789abcdef00000000000000ff"
        );
        let check = |value: &str, kept: bool| {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_str(value).unwrap())]);
            assert_eq!(of_client(&headers).is_some(), kept, "{value}");
        };
        check("abc-1.2", true);
        check("", false);
        check("a b", false);
        check("a\"b", false);
        check(&"a".repeat(128), true);
        check(&"a".repeat(129), false);
    }
}
