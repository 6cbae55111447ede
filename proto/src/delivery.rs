//! The messages of the delivery stream as checked types. Signed content is opaque here.
//!
//! Bundles travel down. They travel up only when the controller has lost what instances still hold: it asks, and
//! verifies what comes as an instance would.

use bytes::Bytes;
use sluice_model::limits::{
    MAX_ENVELOPE_OVERHEAD_BYTES, MAX_FEATURES_IN_MESSAGE, MAX_LIVE_HELD, MAX_MANIFEST_BYTES, MAX_MESSAGE_TEXT_BYTES,
    MAX_SECTION_BYTES, MAX_SECTIONS_IN_MESSAGE,
};
use sluice_model::{Digest, InstanceId, LiveSubject, RevisionId};

use crate::canonical::{DecodeError, each, required, wrong};
use crate::identity::{digest_from, digest_to, revision_in, revision_maybe, revision_to, text};
use crate::live::{HeldValue, SealedLive};
use crate::pb;
use crate::report::Report;

/// A message from an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upward {
    /// Who says so. The controller compares it with the certificate (or trusts a relay to have done so).
    pub instance: InstanceId,
    /// What.
    pub message: UpwardMessage,
}

/// What an instance says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpwardMessage {
    /// The first message of a stream.
    Hello(Hello),
    /// An order is applied.
    Ack(Ack),
    /// Something is refused.
    Nack(Nack),
    /// Sections that it lacks, by digest.
    Want(Vec<Digest>),
    /// What it observed.
    Report(Report),
    /// A live update is refused.
    LiveRefused(LiveRefused),
    /// A manifest that the controller asked back.
    Manifest {
        /// Of which revision.
        revision: RevisionId,
        /// Its envelope; `None`: it is not held.
        envelope: Option<Bytes>,
    },
    /// A section that the controller asked back.
    Section {
        /// Which.
        digest: Digest,
        /// Compressed; `None`: it is not held.
        wire: Option<Bytes>,
    },
}

/// Among the features of a hello: the instance answers [`Downward::LostManifest`] and [`Downward::LostSections`]. An older
/// one would end its stream on them, so it is not asked.
pub const HAND_BACK: &str = "hand-back/v1";

/// Who an instance is and what it holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hello {
    /// Its build.
    pub build: String,
    /// Drawn when its process started.
    pub boot_id: String,
    /// What it understands, of revisions and of this stream. Names: they may be newer than this build.
    pub features: Vec<String>,
    /// Of the last order accepted; 0: none.
    pub epoch: u64,
    /// What it serves.
    pub stable: Option<RevisionId>,
    /// What it tries.
    pub candidate: Option<RevisionId>,
    /// Sections that it holds, by digest.
    pub held_sections: Vec<Digest>,
    /// The envelope of the order last accepted: proof of the above.
    pub order: Option<Bytes>,
    /// The epoch with which its process started from disk; 0: with nothing. An instance that started with the
    /// candidate's order has restarted, or crashed, after it had swapped.
    pub booted_epoch: u64,
    /// The highest term of a live update that it holds; 0: none.
    pub live_term: u64,
    /// What it holds of the live lane; see [`HeldValue::within_bounds`].
    pub live_held: Vec<HeldValue>,
    /// How the process before it ended.
    pub last_end: LastEnd,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LastEnd {
    /// Not known, or said by a build that does not say.
    #[default]
    Unknown,
    /// In good order, or while it carried no candidate.
    Harmless,
    /// In any other way, while it carried a candidate.
    Crash,
}

impl LastEnd {
    fn to_proto(self) -> pb::LastEnd {
        match self {
            Self::Unknown => pb::LastEnd::Unspecified,
            Self::Harmless => pb::LastEnd::Harmless,
            Self::Crash => pb::LastEnd::Crash,
        }
    }

    /// What a newer build may say beyond these is not known here.
    fn from_proto(end: i32) -> Self {
        match pb::LastEnd::try_from(end) {
            Ok(pb::LastEnd::Harmless) => Self::Harmless,
            Ok(pb::LastEnd::Crash) => Self::Crash,
            Ok(pb::LastEnd::Unspecified) | Err(_) => Self::Unknown,
        }
    }
}

/// An order is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// Which.
    pub epoch: u64,
    /// What serves now.
    pub stable: Option<RevisionId>,
    /// What is tried now.
    pub candidate: Option<RevisionId>,
}

/// Something is refused; what served before goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nack {
    /// Of the order that could not be followed; 0 if not even that could be read.
    pub epoch: u64,
    /// Why, for programs.
    pub reason: Refusal,
    /// Why, for people.
    pub detail: String,
}

/// A live update is refused; the value held before stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveRefused {
    /// Whose; `None` if not even that could be read.
    pub subject: Option<LiveSubject>,
    /// Why, for programs.
    pub reason: Refusal,
    /// Why, for people.
    pub detail: String,
}

/// Why something is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// No trusted signature, wrong role, wrong type.
    Signature,
    /// For another cluster or fleet.
    Audience,
    /// Not higher than the last epoch, or too far in the future.
    Epoch,
    /// Cannot be decoded.
    Malformed,
    /// Larger than the limit.
    TooLarge,
    /// Needs a feature that the instance lacks.
    Feature,
    /// `Snapshot::check` found errors.
    Check,
    /// It could not be built.
    Build,
    /// A listener could not be bound.
    Listen,
    /// It could not be kept on disk.
    Storage,
}

/// A message to an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Downward {
    /// A signed order.
    Order(Bytes),
    /// A signed manifest.
    Manifest(Bytes),
    /// A section as it travels, under the digest of its encoding.
    Section {
        /// Which.
        digest: Digest,
        /// Compressed.
        wire: Bytes,
    },
    /// Somebody else leads.
    NotLeader {
        /// Where; `None`: nobody does right now.
        address: Option<String>,
    },
    /// A signed live update.
    Live(SealedLive),
    /// The controller has lost this manifest and asks for it.
    LostManifest(RevisionId),
    /// The same for sections, by digest.
    LostSections(Vec<Digest>),
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Signature,
        Self::Audience,
        Self::Epoch,
        Self::Malformed,
        Self::TooLarge,
        Self::Feature,
        Self::Check,
        Self::Build,
        Self::Listen,
        Self::Storage,
    ];

    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Epoch => "epoch",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Feature => "feature",
            Self::Check => "check",
            Self::Build => "build",
            Self::Listen => "listen",
            Self::Storage => "storage",
        }
    }

    fn to_proto(self) -> pb::Refusal {
        match self {
            Self::Signature => pb::Refusal::Signature,
            Self::Audience => pb::Refusal::Audience,
            Self::Epoch => pb::Refusal::Epoch,
            Self::Malformed => pb::Refusal::Malformed,
            Self::TooLarge => pb::Refusal::TooLarge,
            Self::Feature => pb::Refusal::Feature,
            Self::Check => pb::Refusal::Check,
            Self::Build => pb::Refusal::Build,
            Self::Listen => pb::Refusal::Listen,
            Self::Storage => pb::Refusal::Storage,
        }
    }

    fn from_proto(reason: i32) -> Result<Self, DecodeError> {
        match pb::Refusal::try_from(reason) {
            Ok(pb::Refusal::Signature) => Ok(Self::Signature),
            Ok(pb::Refusal::Audience) => Ok(Self::Audience),
            Ok(pb::Refusal::Epoch) => Ok(Self::Epoch),
            Ok(pb::Refusal::Malformed) => Ok(Self::Malformed),
            Ok(pb::Refusal::TooLarge) => Ok(Self::TooLarge),
            Ok(pb::Refusal::Feature) => Ok(Self::Feature),
            Ok(pb::Refusal::Check) => Ok(Self::Check),
            Ok(pb::Refusal::Build) => Ok(Self::Build),
            Ok(pb::Refusal::Listen) => Ok(Self::Listen),
            Ok(pb::Refusal::Storage) => Ok(Self::Storage),
            Ok(pb::Refusal::Unspecified) | Err(_) => Err(wrong("reason", format!("unknown reason {reason}"))),
        }
    }
}

impl From<&Upward> for pb::Upward {
    fn from(upward: &Upward) -> Self {
        use pb::upward::Message;
        let Upward { instance, message } = upward;
        let message = match message {
            UpwardMessage::Hello(hello) => Message::Hello(hello.to_proto()),
            UpwardMessage::Ack(ack) => Message::Ack(ack.to_proto()),
            UpwardMessage::Nack(Nack { epoch, reason, detail }) => Message::Nack(pb::Nack {
                epoch: *epoch,
                reason: reason.to_proto().into(),
                detail: detail.clone(),
            }),
            UpwardMessage::Want(sections) => Message::Want(pb::Want {
                sections: sections.iter().map(digest_to).collect(),
            }),
            UpwardMessage::Report(report) => Message::Report(report.to_proto()),
            UpwardMessage::LiveRefused(refused) => Message::LiveRefused(refused.to_proto()),
            UpwardMessage::Manifest { revision, envelope } => Message::Manifest(pb::HandedManifest {
                revision: Some(revision_to(revision)),
                envelope: envelope.clone(),
            }),
            UpwardMessage::Section { digest, wire } => Message::Section(pb::HandedSection {
                digest: digest_to(digest),
                wire: wire.clone(),
            }),
        };
        Self {
            instance: instance.to_string(),
            message: Some(message),
        }
    }
}

impl TryFrom<pb::Upward> for Upward {
    type Error = DecodeError;

    fn try_from(proto: pb::Upward) -> Result<Self, DecodeError> {
        use pb::upward::Message;
        let pb::Upward { instance, message } = proto;
        let message = match required("message", message)? {
            Message::Hello(hello) => UpwardMessage::Hello(Hello::from_proto(hello)?),
            Message::Ack(ack) => UpwardMessage::Ack(Ack::from_proto(ack)?),
            Message::Nack(pb::Nack { epoch, reason, detail }) => UpwardMessage::Nack(Nack {
                epoch,
                reason: Refusal::from_proto(reason)?,
                detail: short("detail", detail)?,
            }),
            Message::Want(pb::Want { sections }) => UpwardMessage::Want(digests_from("sections", sections)?),
            Message::Report(report) => UpwardMessage::Report(Report::from_proto(report)?),
            Message::LiveRefused(refused) => UpwardMessage::LiveRefused(LiveRefused::from_proto(refused)?),
            Message::Manifest(pb::HandedManifest { revision, envelope }) => UpwardMessage::Manifest {
                revision: revision_in("manifest.revision", revision)?,
                envelope: within(
                    "manifest.envelope",
                    envelope,
                    MAX_MANIFEST_BYTES + MAX_ENVELOPE_OVERHEAD_BYTES,
                )?,
            },
            Message::Section(pb::HandedSection { digest, wire }) => UpwardMessage::Section {
                digest: digest_from("section.digest", &digest)?,
                wire: within("section.wire", wire, MAX_SECTION_BYTES)?,
            },
        };
        Ok(Self {
            instance: text("instance", &instance)?,
            message,
        })
    }
}

impl Hello {
    fn to_proto(&self) -> pb::Hello {
        let Self {
            build,
            boot_id,
            features,
            epoch,
            stable,
            candidate,
            held_sections,
            order,
            booted_epoch,
            live_term,
            live_held,
            last_end,
        } = self;
        pb::Hello {
            build: build.clone(),
            boot_id: boot_id.clone(),
            features: features.clone(),
            epoch: *epoch,
            stable: stable.as_ref().map(revision_to),
            candidate: candidate.as_ref().map(revision_to),
            held_sections: held_sections.iter().map(digest_to).collect(),
            order: order.clone(),
            booted_epoch: *booted_epoch,
            live_term: *live_term,
            live_held: live_held.iter().map(held_to).collect(),
            last_end: last_end.to_proto().into(),
        }
    }

    fn from_proto(proto: pb::Hello) -> Result<Self, DecodeError> {
        let pb::Hello {
            build,
            boot_id,
            features,
            epoch,
            stable,
            candidate,
            held_sections,
            order,
            booted_epoch,
            live_term,
            live_held,
            last_end,
        } = proto;
        if features.len() > MAX_FEATURES_IN_MESSAGE {
            return Err(wrong("features", format!("{} are too many", features.len())));
        }
        Ok(Self {
            build: short("build", build)?,
            boot_id: short("boot_id", boot_id)?,
            features,
            epoch,
            stable: revision_maybe("stable", stable)?,
            candidate: revision_maybe("candidate", candidate)?,
            held_sections: digests_from("held_sections", held_sections)?,
            order,
            booted_epoch,
            live_term,
            live_held: held_from(live_held)?,
            last_end: LastEnd::from_proto(last_end),
        })
    }
}

impl Ack {
    fn to_proto(self) -> pb::Ack {
        let Self {
            epoch,
            stable,
            candidate,
        } = self;
        pb::Ack {
            epoch,
            stable: stable.as_ref().map(revision_to),
            candidate: candidate.as_ref().map(revision_to),
        }
    }

    fn from_proto(proto: pb::Ack) -> Result<Self, DecodeError> {
        let pb::Ack {
            epoch,
            stable,
            candidate,
        } = proto;
        Ok(Self {
            epoch,
            stable: revision_maybe("stable", stable)?,
            candidate: revision_maybe("candidate", candidate)?,
        })
    }
}

impl LiveRefused {
    fn to_proto(&self) -> pb::LiveRefused {
        let Self {
            subject,
            reason,
            detail,
        } = self;
        pb::LiveRefused {
            subject: subject.as_ref().map(ToString::to_string).unwrap_or_default(),
            reason: reason.to_proto().into(),
            detail: detail.clone(),
        }
    }

    fn from_proto(proto: pb::LiveRefused) -> Result<Self, DecodeError> {
        let pb::LiveRefused {
            subject,
            reason,
            detail,
        } = proto;
        let subject = Some(subject).filter(|subject| !subject.is_empty());
        Ok(Self {
            subject: subject.map(|subject| text("subject", &subject)).transpose()?,
            reason: Refusal::from_proto(reason)?,
            detail: short("detail", detail)?,
        })
    }
}

fn held_to(held: &HeldValue) -> pb::LiveHeld {
    let HeldValue { subject, digest } = held;
    pb::LiveHeld {
        subject: subject.to_string(),
        digest: digest_to(digest),
    }
}

fn held_from(held: Vec<pb::LiveHeld>) -> Result<Vec<HeldValue>, DecodeError> {
    if held.len() > MAX_LIVE_HELD {
        return Err(wrong("live_held", format!("{} are too many", held.len())));
    }
    each("live_held", held, |pb::LiveHeld { subject, digest }| {
        Ok(HeldValue {
            subject: text("subject", &subject)?,
            digest: digest_from("digest", &digest)?,
        })
    })
}

/// Text for people, of bounded length.
fn short(field: &str, text: String) -> Result<String, DecodeError> {
    if text.len() > MAX_MESSAGE_TEXT_BYTES {
        return Err(wrong(
            field,
            format!("{} bytes, more than {MAX_MESSAGE_TEXT_BYTES}", text.len()),
        ));
    }
    Ok(text)
}

/// What is handed back, no larger than what is handed out.
fn within(field: &str, bytes: Option<Bytes>, max: usize) -> Result<Option<Bytes>, DecodeError> {
    match bytes {
        Some(bytes) if bytes.len() > max => Err(wrong(field, format!("{} bytes, more than {max}", bytes.len()))),
        Some(_) | None => Ok(bytes),
    }
}

fn digests_from(field: &str, digests: Vec<Bytes>) -> Result<Vec<Digest>, DecodeError> {
    if digests.len() > MAX_SECTIONS_IN_MESSAGE {
        return Err(wrong(field, format!("{} are too many", digests.len())));
    }
    each(field, digests, |digest| digest_from("digest", &digest))
}

impl From<&Downward> for pb::Downward {
    fn from(downward: &Downward) -> Self {
        use pb::downward::Message;
        let message = match downward {
            Downward::Order(envelope) => Message::Order(envelope.clone()),
            Downward::Manifest(envelope) => Message::Manifest(envelope.clone()),
            Downward::Section { digest, wire } => Message::Section(pb::SectionData {
                digest: digest_to(digest),
                wire: wire.clone(),
            }),
            Downward::NotLeader { address } => Message::NotLeader(pb::NotLeader {
                address: address.clone().unwrap_or_default(),
            }),
            Downward::Live(SealedLive(envelope)) => Message::Live(envelope.clone()),
            Downward::LostManifest(revision) => Message::LostManifest(revision_to(revision)),
            Downward::LostSections(sections) => Message::LostSections(pb::Want {
                sections: sections.iter().map(digest_to).collect(),
            }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<pb::Downward> for Downward {
    type Error = DecodeError;

    fn try_from(proto: pb::Downward) -> Result<Self, DecodeError> {
        use pb::downward::Message;
        let pb::Downward { message } = proto;
        Ok(match required("message", message)? {
            Message::Order(envelope) => Self::Order(envelope),
            Message::Manifest(envelope) => Self::Manifest(envelope),
            Message::Section(pb::SectionData { digest, wire }) => Self::Section {
                digest: digest_from("section.digest", &digest)?,
                wire,
            },
            Message::NotLeader(pb::NotLeader { address }) => Self::NotLeader {
                address: Some(address).filter(|address| !address.is_empty()),
            },
            Message::Live(envelope) => Self::Live(SealedLive(envelope)),
            Message::LostManifest(revision) => Self::LostManifest(revision_in("lost_manifest", Some(revision))?),
            Message::LostSections(pb::Want { sections }) => {
                Self::LostSections(digests_from("lost_sections", sections)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use proptest::prelude::*;
    use prost::Message;

    fn refused(proto: pb::Upward, expected: &str) {
        let error = Upward::try_from(proto).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    fn from_a(message: pb::upward::Message) -> pb::Upward {
        pb::Upward {
            instance: "a".into(),
            message: Some(message),
        }
    }

    #[test]
    fn nonsense_is_refused() {
        refused(
            pb::Upward {
                instance: "a".into(),
                message: None,
            },
            "message: is missing",
        );
        let want = |sections: Vec<Bytes>| pb::upward::Message::Want(pb::Want { sections });
        refused(
            pb::Upward {
                instance: "A b".into(),
                message: Some(want(vec![])),
            },
            "instance id",
        );
        refused(from_a(want(vec![Bytes::from_static(b"short")])), "sections[0].digest");
        refused(from_a(want(vec![Bytes::from_static(&[0; 32]); 1025])), "too many");
        let nack = |reason: i32, detail: String| {
            pb::upward::Message::Nack(pb::Nack {
                epoch: 1,
                reason,
                detail,
            })
        };
        refused(from_a(nack(0, String::new())), "unknown reason 0");
        refused(from_a(nack(99, String::new())), "unknown reason 99");
        refused(from_a(nack(1, "x".repeat(20_000))), "20000 bytes");
        let live = |subject: &str, reason: i32| {
            pb::upward::Message::LiveRefused(pb::LiveRefused {
                subject: subject.into(),
                reason,
                detail: String::new(),
            })
        };
        refused(from_a(live("Secret a/b", 1)), "subject");
        refused(from_a(live("", 0)), "unknown reason 0");
        let section = pb::upward::Message::Section(pb::HandedSection {
            digest: Bytes::from_static(&[0; 32]),
            wire: Some(vec![0; MAX_SECTION_BYTES + 1].into()),
        });
        refused(from_a(section), "section.wire");
    }

    #[test]
    fn reasons_have_different_names() {
        let names: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
    }

    proptest! {
        #[test]
        fn upward_arrives_as_sent(upward in arbitrary::upwards()) {
            let bytes = pb::Upward::from(&upward).encode_to_vec();
            prop_assert_eq!(Upward::try_from(pb::Upward::decode(&bytes[..]).unwrap()), Ok(upward));
        }

        #[test]
        fn downward_arrives_as_sent(downward in arbitrary::downwards()) {
            let bytes = pb::Downward::from(&downward).encode_to_vec();
            prop_assert_eq!(Downward::try_from(pb::Downward::decode(&bytes[..]).unwrap()), Ok(downward));
        }
    }
}
