//! The data plane: bundles in, traffic through.
//!
//! ```text
//!  instance ─ takes in bundles ─► config ─ writes ─► live
//!                                                     │ one load per request
//!  server ─ starts ─► worker (one per core) ─► proxy ─┤ route: router   (a leaf)
//!                        ▲                            │ pick: pool      (a leaf)
//!                     listener ─► tls, guard (leaves) └ record: telemetry, stats
//! ```
//!
//! `upstream` opens what requests are sent over. `http2` is to clients of HTTP/2 what the codec of HTTP/1.1 and its guard are to the others. Leaves (`router`, `pool`, `middleware`, `tls`, `guard`, `proxy_protocol`) decide or hold and do not know each other; `proxy` acts, and it alone knows
//! the order. Only `config` writes `live`.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod admin;
pub mod args;
pub mod await_trust;
pub mod config;
pub mod dial;
#[cfg(test)]
mod dice;
pub mod drain;
pub mod enrol;
pub mod guard;
pub mod health;
mod http2;
pub mod identity;
pub mod instance;
mod linger;
pub mod listener;
pub mod live;
pub mod middleware;
pub mod pool;
pub mod proxy;
pub mod proxy_protocol;
pub mod router;
pub mod server;
pub mod shutdown;
pub mod stats;
pub mod telemetry;
pub mod tls;
mod upstream;
mod worker;
pub use instance::run;
