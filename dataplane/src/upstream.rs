//! Connections to upstreams: how they are opened, and those of HTTP/2, which requests share.
//!
//! ```text
//!  proxy::forward ─► pool::connections (HTTP/1.1 at rest) ─┐
//!        │                                                 ├─► a connection that a request is sent over
//!        └─► multiplexed (HTTP/2 in use) ─► dial ─► socket ─┘
//!                     └─ http2: one connection, its streams, its driver with PING
//! ```
//!
//! - [`way`] is where a request goes, and whether a connection may be opened there.
//! - [`quota`] is how many an instance may have to a place, [`pending`] who waits for one.
//! - [`lent`] are the connections of HTTP/2 of all workers to a place where that number is bounded.
//! - [`socket`] is a connection, in the clear or within TLS.
//! - [`dial`] opens one within bounds of time, and says why if it cannot.
//! - [`http2`] is a connection of HTTP/2 as its requests see it.
//! - [`multiplexed`] has those of a worker, and opens another one when all are full.
//!
//! What is sent over them, and what becomes of a request that was not, is the proxy's business (`proxy/forward.rs`).

pub(crate) mod dial;
pub(crate) mod http2;
pub(crate) mod lent;
pub(crate) mod multiplexed;
pub(crate) mod pending;
pub(crate) mod quota;
pub(crate) mod socket;
pub(crate) mod way;
