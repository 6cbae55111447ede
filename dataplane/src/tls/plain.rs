//! What is said without TLS on a port that speaks TLS: to a client of plain HTTP a sentence that a person understands, to
//! one whose host is unknown the alert that says so.

/// To a client that speaks HTTP in the clear. No id: no request was read.
pub const SPEAK_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: application/json\r\nConnection: close\r\nContent-Length: 129\r\n\r\n\
    {\"status\":400,\"error_category\":\"bad_request\",\"message\":\"this port speaks HTTPS, and the request came without TLS: use https://\"}\n";

/// A fatal alert, `unrecognized_name` (RFC 6066 §3), as a record of its own: the handshake has no keys yet.
pub const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// Whether a connection that begins with this byte is HTTP: methods begin with a capital letter, TLS records with 20 to 23.
pub fn is_http(first: u8) -> bool {
    first.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_is_a_whole_response() {
        let text = std::str::from_utf8(SPEAK_HTTPS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{}",
            body.len()
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], 400);
    }

    #[test]
    fn a_hello_is_not_http() {
        assert!(is_http(b'G') && is_http(b'P'));
        assert!(!is_http(22) && !is_http(0x80));
    }
}
