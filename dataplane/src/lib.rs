//! The data plane: bundles in, traffic through.
//!
//! ```text
//!  server ─ starts ─► worker (one per core) ─► listener ─► proxy ─► upstream
//!                         │ one load per request            │ route: router   (a leaf)
//!  (config) ─ writes ─► live                                │ pick: pool      (a leaf)
//!                                                           └ record: telemetry, stats
//! ```
//!
//! Leaves (`router`, `pool`, `middleware`) decide or hold and do not know each other; `proxy` acts, and it alone knows
//! the order. Only configuration delivery writes `live`.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod admin;
pub mod listener;
pub mod live;
pub mod middleware;
pub mod pool;
pub mod proxy;
pub mod router;
pub mod server;
pub mod shutdown;
pub mod stats;
pub mod telemetry;
mod worker;
