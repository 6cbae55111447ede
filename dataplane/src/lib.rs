//! Bundles in, traffic through.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod args;
pub mod config;
pub mod identity;
pub mod instance;
