//! Protocols that a client may go over to from HTTP/1.1 (`Upgrade`, RFC 9110 §7.8), as a rule allows them.

use std::fmt;
use std::sync::Arc;

use crate::limits::MAX_UPGRADE_TOKEN_BYTES;

/// What would be HTTP that nobody looks at: after the change of protocol requests would come past every check.
pub const NEVER: [&str; 4] = ["h2", "h2c", "http", "tls"];

/// The name of a protocol, in lower case and without a version, as `websocket`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UpgradeToken(Arc<str>);

/// Why a text names no protocol that can be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeTokenError {
    /// It is not of the form.
    #[error("{0:?} is not the name of a protocol: a-z, 0-9, '-', '.' and '_', at most {MAX_UPGRADE_TOKEN_BYTES}")]
    Form(String),
    /// It is HTTP, or holds it.
    #[error("{0} is never let through: requests would come in it that no rule has seen")]
    Never(String),
}

impl UpgradeToken {
    /// Checks the name.
    ///
    /// # Errors
    /// When it is not of the form, or would be HTTP again.
    pub fn new(text: &str) -> Result<Self, UpgradeTokenError> {
        let starts = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_');
        if !starts || text.len() > MAX_UPGRADE_TOKEN_BYTES || !text.bytes().all(fits) {
            return Err(UpgradeTokenError::Form(text.chars().take(80).collect()));
        }
        if NEVER.contains(&text) {
            return Err(UpgradeTokenError::Never(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpgradeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_protocols_and_nothing_else() {
        for good in ["websocket", "x-own.v2", "9p", "spdy_3"] {
            assert_eq!(UpgradeToken::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "WebSocket",
            "web socket",
            "a,b",
            "http/2.0",
            "-a",
            "é",
            &"a".repeat(33),
        ] {
            let refused = UpgradeToken::new(bad);
            assert!(matches!(refused, Err(UpgradeTokenError::Form(_))), "{bad}: {refused:?}");
        }
        for never in NEVER {
            let refused = UpgradeToken::new(never);
            assert!(
                matches!(refused, Err(UpgradeTokenError::Never(_))),
                "{never}: {refused:?}"
            );
        }
    }
}
