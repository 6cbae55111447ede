//! Objects in, signed revisions and orders out.
//!
//! ```text
//!  source ─► objects ─► translate ─► validate ─► compile ─► … ─► rollout ─► …
//!                └──────────── problem ────────────┘
//! ```
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod compile;
pub mod durable;
pub mod keys;
pub mod lint;
pub mod objects;
pub mod pki;
pub mod problem;
pub mod revisions;
pub mod rollout;
pub mod sign;
pub mod source;
pub mod stream;
pub mod translate;
pub mod validate;
