//! Why something that was delivered is not taken: one closed list, with a stable label each.
//!
//! A refusal is counted under its label, said in the log and sent to the controller as a nack. It never changes what
//! serves. The labels are part of the metrics' contract (`proxy_config_refused_total{reason}`): add, never rename.

use std::fmt;

use sluice_model::{CertificateRef, Digest, LiveSubject, RevisionId};
use sluice_proto::delivery::Refusal as WireReason;
use sluice_proto::live::LiveStamp;

/// What was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// A signed order.
    Order,
    /// A signed manifest.
    Manifest,
    /// One section of a revision.
    Section,
    /// A signed live update.
    Live,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Order => "order",
            Self::Manifest => "manifest",
            Self::Section => "section",
            Self::Live => "live update",
        })
    }
}

/// Why it is refused. The text is for people: it says what is wrong and, where somebody can mend it, how.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Longer than anything we would read.
    #[error("the {item} is {bytes} bytes, at most {max} are read")]
    TooLarge {
        /// Which kind of thing.
        item: Item,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// Cut short, damaged, with unknown fields, or not in the one form that encodes it.
    #[error("the {item} cannot be read in full: {detail}")]
    Malformed {
        /// Which kind of thing.
        item: Item,
        /// What the decoder said.
        detail: String,
    },
    /// No signature by a key we trust for this.
    #[error("the {item} is not signed by a trusted key: {detail}; trusted keys are in identity/trusted.json")]
    Signature {
        /// Which kind of thing.
        item: Item,
        /// What the verifier said.
        detail: String,
    },
    /// Signed by a trusted key that may sign other things, but not this.
    #[error("the {item} is signed by a key that may not sign it: {detail}")]
    KeyRole {
        /// Which kind of thing.
        item: Item,
        /// What the verifier said.
        detail: String,
    },
    /// Meant for another cluster or fleet.
    #[error("the {item} is for somebody else: {detail}")]
    Audience {
        /// Which kind of thing.
        item: Item,
        /// For whom, and who we are.
        detail: String,
    },
    /// Not newer than the last order heeded: a replay, or a late arrival.
    #[error("the order's epoch {epoch} is not above {heeded}, the last one heeded")]
    EpochReplayed {
        /// Of the order.
        epoch: u64,
        /// The last one heeded.
        heeded: u64,
    },
    /// Another order under an epoch already used.
    #[error("there are two different orders with epoch {epoch}; the first one counts")]
    EpochConflict {
        /// Their epoch.
        epoch: u64,
    },
    /// Further in the future than clocks can differ.
    #[error(
        "the order's epoch {epoch} is {ahead_seconds} s ahead of this instance's clock, at most {max_seconds} s are \
         followed; compare the clocks of controller and instance"
    )]
    EpochFarFuture {
        /// Of the order.
        epoch: u64,
        /// How far it is ahead.
        ahead_seconds: u64,
        /// How far it may be.
        max_seconds: u64,
    },
    /// It needs something this build cannot do.
    #[error("the manifest cannot be followed: {detail}")]
    UnknownFeature {
        /// What it needs.
        detail: String,
    },
    /// A section that nobody asked for.
    #[error("section {digest:#} was not asked for")]
    SectionUnwanted {
        /// Its claimed digest.
        digest: Digest,
    },
    /// A section that is not what the signed manifest says.
    #[error("section {digest:#} is not what its manifest says: {detail}")]
    SectionMismatch {
        /// The digest it should have.
        digest: Digest,
        /// How it differs.
        detail: String,
    },
    /// It does not pass the checks that the controller should have made.
    #[error("revision {revision} is not a valid configuration: {detail}")]
    Invalid {
        /// Which revision.
        revision: RevisionId,
        /// The first errors.
        detail: String,
    },
    /// What serves could not be built from it.
    #[error("revision {revision} could not be built: {detail}")]
    Build {
        /// Which revision.
        revision: RevisionId,
        /// Why.
        detail: String,
    },
    /// Building it hit a bug of ours.
    #[error("revision {revision} made the builder panic: {detail}; this is a bug, please report it")]
    Panicked {
        /// Which revision.
        revision: RevisionId,
        /// The panic's message.
        detail: String,
    },
    /// It asks for a port that cannot be had.
    #[error("cannot listen as revision {revision} asks: {detail}")]
    Listen {
        /// Which revision.
        revision: RevisionId,
        /// Which address, and why.
        detail: String,
    },
    /// The state folder takes nothing, so nothing new may be activated: it could not be held across a restart.
    #[error("{detail}")]
    StateNotWritable {
        /// Which file, why, and what to do.
        detail: String,
    },
    /// This process died after it had swapped in the candidate that the same order names.
    #[error("this instance stopped without a clean shutdown while it carried candidate {revision}; it serves stable")]
    CrashedAfterSwap {
        /// The candidate.
        revision: RevisionId,
    },
    /// Not newer than the value that is held: a replay, or a late arrival.
    #[error("{subject} came with term {} and sequence {}, which is not above {} and {}, those of the value in use",
            .stamp.term, .stamp.sequence, .held.term, .held.sequence)]
    LiveStale {
        /// Of what.
        subject: LiveSubject,
        /// Of the update.
        stamp: LiveStamp,
        /// Of the value in use.
        held: LiveStamp,
    },
    /// A term further in the future than clocks can differ: it would make deaf to every later honest one.
    #[error(
        "the live update's term {term} is too far ahead of this instance's clock; compare the clocks of controller and instance"
    )]
    LiveFarFuture {
        /// Of the update.
        term: u64,
    },
    /// More subjects than an instance keeps.
    #[error("this instance holds {max} live values already and takes no more; split the fleet")]
    LiveTooMany {
        /// How many it keeps.
        max: usize,
    },
    /// A certificate that cannot be served.
    #[error("certificate {certificate}: {detail}")]
    CertificateUnusable {
        /// Which.
        certificate: CertificateRef,
        /// Why, and what to do.
        detail: String,
    },
}

impl Refusal {
    /// Every label, sorted: the bounded set of values of `reason`.
    pub const REASONS: [&'static str; 21] = [
        "build_failed",
        "builder_panicked",
        "certificate_unusable",
        "crashed_after_swap",
        "epoch_conflict",
        "epoch_far_future",
        "epoch_replayed",
        "invalid_configuration",
        "key_role",
        "listen_failed",
        "live_far_future",
        "live_stale",
        "live_too_many",
        "malformed",
        "section_mismatch",
        "section_unwanted",
        "signature",
        "state_not_writable",
        "too_large",
        "unknown_feature",
        "wrong_audience",
    ];

    /// The stable label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Malformed { .. } => "malformed",
            Self::Signature { .. } => "signature",
            Self::KeyRole { .. } => "key_role",
            Self::Audience { .. } => "wrong_audience",
            Self::EpochReplayed { .. } => "epoch_replayed",
            Self::EpochConflict { .. } => "epoch_conflict",
            Self::EpochFarFuture { .. } => "epoch_far_future",
            Self::UnknownFeature { .. } => "unknown_feature",
            Self::SectionUnwanted { .. } => "section_unwanted",
            Self::SectionMismatch { .. } => "section_mismatch",
            Self::Invalid { .. } => "invalid_configuration",
            Self::Build { .. } => "build_failed",
            Self::Panicked { .. } => "builder_panicked",
            Self::Listen { .. } => "listen_failed",
            Self::StateNotWritable { .. } => "state_not_writable",
            Self::CrashedAfterSwap { .. } => "crashed_after_swap",
            Self::LiveStale { .. } => "live_stale",
            Self::LiveFarFuture { .. } => "live_far_future",
            Self::LiveTooMany { .. } => "live_too_many",
            Self::CertificateUnusable { .. } => "certificate_unusable",
        }
    }

    /// The reason as the controller is told it: coarser, since it decides by it.
    pub fn on_the_wire(&self) -> WireReason {
        match self {
            Self::TooLarge { .. } | Self::LiveTooMany { .. } => WireReason::TooLarge,
            Self::Malformed { .. } | Self::SectionUnwanted { .. } | Self::SectionMismatch { .. } => {
                WireReason::Malformed
            }
            Self::Signature { .. } | Self::KeyRole { .. } => WireReason::Signature,
            Self::Audience { .. } => WireReason::Audience,
            Self::EpochReplayed { .. }
            | Self::EpochConflict { .. }
            | Self::EpochFarFuture { .. }
            | Self::LiveStale { .. }
            | Self::LiveFarFuture { .. } => WireReason::Epoch,
            Self::UnknownFeature { .. } => WireReason::Feature,
            Self::Invalid { .. } | Self::CertificateUnusable { .. } => WireReason::Check,
            Self::Build { .. } | Self::Panicked { .. } | Self::CrashedAfterSwap { .. } => WireReason::Build,
            Self::Listen { .. } => WireReason::Listen,
            Self::StateNotWritable { .. } => WireReason::Storage,
        }
    }
}
