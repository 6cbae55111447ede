//! The PROXY protocol: the header by which a load balancer says, before anything else, whose connection it passes on.
//!
//! A leaf: bytes to "more", a header or a rule that is broken. It reads no socket; `worker/introduction.rs` does, and only
//! for connections from where a listener expects headers. Decisions and their reasons: `docs/decisions/proxy-protocol.md`.
//!
//! ```text
//!  bytes ─► read ─┬─ "PROXY "         ─► text:   version 1, a line
//!                 └─ \r\n\r\n\0\r\n…  ─► binary: version 2, a block that says how long it is
//! ```

mod binary;
#[cfg(test)]
mod properties;
mod text;

use std::net::IpAddr;

use crate::guard::rule::Rule;

/// Whom a header introduces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Introduces {
    /// A client with this address.
    Client(IpAddr),
    /// Who connected: a health check of its own, or somebody it cannot name.
    Itself,
}

/// What is known so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// All of it belongs to a header, which goes on.
    More,
    /// A whole header; what comes behind it is not looked at.
    Header {
        /// How long it is.
        bytes: usize,
        /// Whom it introduces.
        introduces: Introduces,
    },
}

/// Looks at all that a connection has sent so far.
///
/// # Errors
/// The rule that it breaks, as soon as it cannot become a header any more.
pub fn read(sent: &[u8]) -> Result<Step, Rule> {
    let begins = |lead: &[u8]| sent.iter().zip(lead).all(|(one, other)| one == other);
    if begins(binary::LEAD) {
        binary::read(sent)
    } else if begins(text::LEAD) {
        text::read(sent)
    } else {
        Err(Rule::ProxyMissing)
    }
}
