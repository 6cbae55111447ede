//! How configuration *travels*: protobuf, sections, signed envelopes and the messages of the delivery stream.
//!
//! ```text
//!  Snapshot ─► sections ─► Manifest ─┐
//!                                    ├─► envelope (signed) ─► delivery stream ─► open_… ─► assemble ─► Config
//!                          Order ────┘                                        (verify, then decode)
//! ```
//!
//! [`pb`] is what the `.proto` files say; beside it stand typed domain structs, and every conversion takes its source
//! apart without `..`, so that a new field cannot be forgotten. [`canonical::strict_decode`] is the one way from signed
//! bytes to a value, and refuses bytes that do not encode back to themselves.
//!
//! Nothing here opens a file or a socket, reads a clock or makes a key.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

/// The generated types and the gRPC service.
#[allow(
    missing_docs,
    clippy::all,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub
)]
pub mod pb {
    tonic::include_proto!("sluice.v1");
}

#[cfg(test)]
mod arbitrary;
pub mod canonical;
pub mod delivery;
pub mod envelope;
pub mod hash;
mod identity;
pub mod keys;
pub mod manifest;
mod matches;
pub mod order;
pub mod report;
pub mod sections;
pub mod signed;
mod units;

pub use canonical::{DecodeError, Wire, strict_decode};
pub use delivery::{Ack, Downward, HAND_BACK, Hello, LastEnd, Nack, Refusal, Upward, UpwardMessage};
pub use envelope::{Envelope, PayloadType, Verified, VerifyError, sign, verify};
pub use keys::{KeyId, KeySet, Role, Signer, TrustedKey};
pub use manifest::{Manifest, ObjectChange, SourceRef};
pub use order::{Candidate, Members, Order};
pub use report::{Report, RoleReport, ScopeReport, ServedRole};
pub use sections::{AssembleError, Section, SectionRef, assemble};
pub use signed::{Audience, OpenError, open_manifest, open_order, seal_manifest, seal_order};
