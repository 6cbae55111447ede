//! From an envelope as it arrived to something genuine: size, signature, role, canonical form, audience, features; in
//! that order, by `sluice_proto::signed`. Here its errors become refusals, and what is genuine keeps its envelope, so
//! that it can be kept and shown as it was signed.

use bytes::Bytes;
use sluice_model::{InstanceId, RevisionId};
use sluice_proto::canonical::{DecodeError, Wire};
use sluice_proto::envelope::VerifyError;
use sluice_proto::hash::sha256;
use sluice_proto::live::{LiveUpdate, SealedLive, open_live};
use sluice_proto::manifest::Manifest;
use sluice_proto::order::{Candidate, Order};
use sluice_proto::signed::{OpenError, open_manifest, open_order};

use crate::identity::Identity;

use super::epoch::Heeded;
use super::refusal::{Item, Refusal};

/// An order that is signed as it must be, and for this fleet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenuineOrder {
    /// What it says.
    pub order: Order,
    /// Its epoch and the digest of what was signed: the same statement signed by another key is the same order.
    pub heeded: Heeded,
    /// As it arrived.
    pub envelope: Bytes,
}

/// A manifest that is signed as it must be, for this fleet, and needs nothing that this build lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenuineManifest {
    /// What it says.
    pub manifest: Manifest,
    /// As it arrived.
    pub envelope: Bytes,
}

impl GenuineOrder {
    /// The candidate that `instance` is to carry.
    pub fn candidate_for(&self, instance: &InstanceId) -> Option<&Candidate> {
        self.order.candidate_for(instance)
    }

    /// The revisions that `instance` needs to follow it: a candidate only if it is to carry it.
    pub fn revisions_for(&self, instance: &InstanceId) -> Vec<RevisionId> {
        let candidate = self.candidate_for(instance).map(|candidate| candidate.revision);
        std::iter::once(self.order.stable).chain(candidate).collect()
    }
}

/// The order in an envelope.
pub fn order(identity: &Identity, envelope: Bytes) -> Result<GenuineOrder, Refusal> {
    let order =
        open_order(&identity.trusted, &identity.audience, &envelope).map_err(|error| refusal_of(Item::Order, error))?;
    let heeded = Heeded {
        epoch: order.epoch,
        order: sha256(&order.encode()), // decoding is strict, so these are the bytes that were signed
    };
    Ok(GenuineOrder {
        order,
        heeded,
        envelope,
    })
}

/// The live update in an envelope.
pub fn live(identity: &Identity, sealed: &SealedLive) -> Result<LiveUpdate, Refusal> {
    open_live(&identity.trusted, &identity.audience, &sealed.0).map_err(|error| refusal_of(Item::Live, error))
}

/// The manifest in an envelope.
pub fn manifest(identity: &Identity, envelope: Bytes) -> Result<GenuineManifest, Refusal> {
    let manifest = open_manifest(&identity.trusted, &identity.audience, &envelope)
        .map_err(|error| refusal_of(Item::Manifest, error))?;
    Ok(GenuineManifest { manifest, envelope })
}

fn refusal_of(item: Item, error: OpenError) -> Refusal {
    match error {
        OpenError::Verify(error) => not_verified(item, error),
        OpenError::Decode(error) => not_decoded(item, error),
        OpenError::WrongAudience { .. } => Refusal::Audience {
            item,
            detail: error.to_string(),
        },
        OpenError::Feature(error) => Refusal::UnknownFeature {
            detail: error.to_string(),
        },
    }
}

fn not_verified(item: Item, error: VerifyError) -> Refusal {
    let detail = error.to_string();
    match error {
        VerifyError::TooLarge { bytes, max } => Refusal::TooLarge { item, bytes, max },
        VerifyError::Malformed(error) => not_decoded(item, error),
        VerifyError::PayloadType { .. } => Refusal::Malformed { item, detail },
        VerifyError::WrongRole { .. } => Refusal::KeyRole { item, detail },
        VerifyError::NoTrustedSignature { .. } => Refusal::Signature { item, detail },
    }
}

fn not_decoded(item: Item, error: DecodeError) -> Refusal {
    let detail = error.to_string();
    match error {
        DecodeError::TooLarge { bytes, max } => Refusal::TooLarge { item, bytes, max },
        DecodeError::Protobuf(_) | DecodeError::Field { .. } | DecodeError::NotCanonical => {
            Refusal::Malformed { item, detail }
        }
    }
}
