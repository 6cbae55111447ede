//! How configuration *travels*: protobuf, sections, signed envelopes and the messages of the delivery stream.
//!
//! ```text
//!  Snapshot ─► sections ─► Manifest ─┐
//!                                    ├─► envelope (signed) ─► delivery stream ─► open_… ─► assemble ─► Config
//!                          Order ────┘                                        (verify, then decode)
//!                     Provenance ────► envelope (signed) ─► kept beside the manifest, never sent
//!                     LiveUpdate ────► envelope (signed, another key) ─► delivery stream ─► open_live
//! ```
//!
//! Before any of it, an instance enrols ([`enrol`]): a token and a signing request go up, a certificate comes down.
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

    /// These may hold a private key or a token in the clear, so what is printed of them is how long it is.
    mod redacted {
        use std::fmt;

        impl fmt::Debug for super::CertificateMaterial {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "CertificateMaterial({:?}, redacted)", self.certificate)
            }
        }

        impl fmt::Debug for super::Envelope {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "Envelope({}, {} bytes)", self.payload_type, self.payload.len())
            }
        }

        impl fmt::Debug for super::EnrolRequest {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "EnrolRequest({}, token redacted)", self.build)
            }
        }

        impl fmt::Debug for super::Downward {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "Downward({:?})", self.message)
            }
        }

        impl fmt::Debug for super::downward::Message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Order(envelope) => write!(f, "Order({} bytes)", envelope.len()),
                    Self::Manifest(envelope) => write!(f, "Manifest({} bytes)", envelope.len()),
                    Self::Section(section) => write!(f, "Section({} bytes)", section.wire.len()),
                    Self::LostManifest(revision) => write!(f, "LostManifest({revision:?})"),
                    Self::LostSections(want) => write!(f, "LostSections({})", want.sections.len()),
                    Self::NotLeader(hint) => write!(f, "NotLeader({:?})", hint.address),
                    Self::Live(envelope) => write!(f, "Live({} bytes, redacted)", envelope.len()),
                }
            }
        }
    }
}

#[cfg(test)]
mod arbitrary;
pub mod canonical;
mod client_auth;
mod client_limits;
pub mod delivery;
pub mod enrol;
pub mod envelope;
mod filters;
pub mod hash;
mod identity;
pub mod keys;
pub mod live;
pub mod manifest;
mod matches;
pub mod order;
mod packing;
mod pool_connections;
pub mod provenance;
pub mod report;
pub mod sections;
pub mod signed;
mod units;

pub use canonical::{DecodeError, Wire, strict_decode};
pub use delivery::{Ack, Downward, HAND_BACK, Hello, LastEnd, LiveRefused, Nack, Refusal, Upward, UpwardMessage};
pub use enrol::{EnrolRequest, Enrolled, Proof, Token};
pub use envelope::{Envelope, PayloadType, Verified, VerifyError, sign, verify};
pub use keys::{KeyId, KeySet, Role, Signer, TrustedKey};
pub use live::{
    EndpointState, HeldValue, LiveEndpoint, LiveStamp, LiveUpdate, LiveValue, PrivateKeyBytes, SealedLive, open_live,
    seal_live,
};
pub use manifest::Manifest;
pub use order::{Candidate, Members, Order};
pub use packing::content_digest;
pub use provenance::{ObjectChange, Origins, OriginsRef, PackedOrigins, Provenance};
pub use report::{Report, RoleReport, ScopeReport, ServedRole};
pub use sections::{AssembleError, Section, SectionRef, assemble};
pub use signed::{
    Audience, OpenError, open_manifest, open_order, open_provenance, seal_manifest, seal_order, seal_provenance,
};
