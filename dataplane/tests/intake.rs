//! The intake as a whole: nothing that is not genuine, new and whole changes what serves, and what serves survives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[path = "intake/world.rs"]
mod world;

#[path = "intake/disk.rs"]
mod disk;
#[path = "intake/keys.rs"]
mod keys;
#[path = "intake/live.rs"]
mod live;
#[path = "intake/refusals.rs"]
mod refusals;
#[path = "intake/rules.rs"]
mod rules;
