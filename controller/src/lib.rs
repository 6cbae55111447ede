//! Objects in, signed revisions and orders out.
//!
//! ```text
//!  source ─► translate ─► validate ─► compile ─► sign ─► rollout ─► stream
//!               (objects, problem)          (revisions)
//!  └────────────────────── pipeline joins them ─────────────────────────┘
//! ```
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod durable;
pub mod keys;
pub mod objects;
pub mod pki;
pub mod problem;
pub mod revisions;
pub mod rollout;
pub mod sign;
pub mod source;
pub mod stream;
