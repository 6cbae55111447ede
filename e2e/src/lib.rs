//! Does the whole thing work: a harness that starts the real binaries as real processes, loads them, breaks them and
//! reads what they say. Nothing here reaches into a process; everything is seen from outside, as an operator sees it.
//!
//! ```text
//!  manifests ─► fleet (controller, instances) ◄─ load ─► outcomes ┐
//!                 │    binaries · process · ports                 ├─► verdict: what the promises allow
//!  upstream ◄─────┘    admin · metrics · access_log ──────────────┘
//! ```
//!
//! The same scenarios run short under `cargo test` (`tests/`) and long from `src/bin/proof`.
// A harness speaks by panicking, in tests and in the proofs alike.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod access_log;
pub mod binaries;
pub mod calls;
pub mod client;
pub mod documents;
pub mod fleet;
pub mod lasting;
pub mod load;
pub mod manifests;
pub mod panics;
pub mod ports;
pub mod process;
pub mod repository;
pub mod scenario;
pub mod upstream;
pub mod usage;
pub mod wait;
