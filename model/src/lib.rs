//! What configuration *means*: the words of Sluice as checked types.
//!
//! ```text
//!  names ─┐
//!  limits ├─► policy ─► unit ─► config ──check──► snapshot
//!  digest ┘              │                          │
//!                     matching ── precedence ── matcher (slow, obviously correct)
//! ```
//!
//! Nothing here does I/O, reads a clock, draws a random number or knows how anything is stored or sent.
//! Raw input is parsed into these types once; a value of one of them is valid by construction.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod digest;
pub mod host;
pub mod limits;
pub mod matching;
pub mod names;
pub mod pattern;
pub mod unit;

pub use digest::{Digest, RevisionId};
pub use names::{FleetName, InstanceId, Kind, Name, NameError, ObjectKey};
