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
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

#[cfg(any(test, feature = "arbitrary"))]
pub mod arbitrary;
pub mod authority;
pub mod client_limits;
pub mod config;
pub mod digest;
pub mod epoch;
pub mod explain;
pub mod feature;
pub mod header_changes;
pub mod histogram;
pub mod host;
pub mod limits;
pub mod matcher;
pub mod matching;
pub mod names;
pub mod network;
pub mod path;
pub mod pattern;
pub mod pool_connections;
pub mod precedence;
pub mod question;
pub mod reference;
pub mod request;
pub mod snapshot;
pub mod target;
pub mod unit;
pub mod upgrade;

pub use config::Config;
pub use digest::{Digest, RevisionId};
pub use feature::Feature;
pub use histogram::Histogram;
pub use names::{ClusterId, FleetName, InstanceId, Kind, Name, NameError, ObjectKey, PortName, Zone};
pub use reference::{CertificateRef, LiveSubject, ServicePort, ServiceRef};
pub use request::RequestFacts;
pub use snapshot::{CheckError, Snapshot};
