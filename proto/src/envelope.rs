//! The signed envelope: DSSE v1 (<https://github.com/secure-systems-lab/dsse>) with ed25519.
//!
//! What is signed is `PAE(payload type, payload)`, over the payload's bytes as they travel: nothing is decoded before
//! a trusted key of the right role has vouched for it, and nothing is ever encoded again to be verified.

use std::collections::BTreeSet;

use bytes::Bytes;
use sluice_model::limits::MAX_SIGNATURES;

use crate::canonical::{DecodeError, Wire, each, strict_decode, wrong};
use crate::keys::{KeyId, KeySet, Role, Signer};
use crate::pb;

/// What is in an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PayloadType {
    /// A [`crate::Manifest`].
    Manifest,
    /// An [`crate::Order`].
    Order,
}

impl PayloadType {
    /// Its media type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "application/vnd.sluice.manifest.v1+protobuf",
            Self::Order => "application/vnd.sluice.order.v1+protobuf",
        }
    }

    /// The role of the keys that may sign it.
    pub fn role(self) -> Role {
        match self {
            Self::Manifest => Role::Manifest,
            Self::Order => Role::Order,
        }
    }
}

/// An envelope, not verified: only to be looked at. Use [`verify`] to believe what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Media type of the payload.
    pub payload_type: String,
    /// What was signed.
    pub payload: Bytes,
    /// By whom.
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// By which key, as claimed.
    pub key_id: String,
    /// 64 bytes, if it is one.
    pub signature: Bytes,
}

/// A payload that a trusted key of the right role has signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// The bytes that were signed.
    pub payload: Bytes,
    /// The trusted keys that did, in ascending order; never none.
    pub key_ids: Vec<KeyId>,
}

/// Why an envelope is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Longer than what it may hold allows.
    #[error("too large: the envelope has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// How long it is.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not an envelope.
    #[error("not an envelope: {0}")]
    Malformed(DecodeError),
    /// It holds something else.
    #[error("payload type: expected {expected}, found {found:?}")]
    PayloadType {
        /// What was to be in it.
        expected: &'static str,
        /// What it says is in it.
        found: String,
    },
    /// Signed, but by a key that may sign other things.
    #[error("wrong role: key {key} may sign a {has}, not a {needs}")]
    WrongRole {
        /// Which key.
        key: KeyId,
        /// What it may sign.
        has: Role,
        /// What this is.
        needs: Role,
    },
    /// No key that is trusted here has signed these bytes.
    #[error(
        "no trusted signature: signed by {signers:?}; either the keys were replaced and this instance has the old ones, or the bytes were changed on the way"
    )]
    NoTrustedSignature {
        /// Key ids as claimed.
        signers: Vec<String>,
    },
}

/// DSSE's pre-authentication encoding: lengths in front, so that no two (type, payload) pairs have the same.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    let mut encoded = head.into_bytes();
    encoded.extend_from_slice(payload);
    encoded
}

/// The envelope of `payload`, signed by each of `signers`.
pub fn sign(signers: &[&Signer], payload_type: PayloadType, payload: &[u8]) -> Bytes {
    let message = pae(payload_type.as_str(), payload);
    let signature = |signer: &&Signer| Signature {
        key_id: signer.id().to_string(),
        signature: Bytes::copy_from_slice(&signer.sign(&message)),
    };
    let envelope = Envelope {
        payload_type: payload_type.as_str().to_owned(),
        payload: Bytes::copy_from_slice(payload),
        signatures: signers.iter().map(signature).collect(),
    };
    envelope.encode()
}

/// The payload of the envelope `bytes`, if a trusted key of the right role has signed it as this type.
///
/// Signatures by unknown keys are passed over (they may be of the next rotation); so are bad ones, beside a good one.
pub fn verify(
    keys: &KeySet,
    payload_type: PayloadType,
    bytes: &[u8],
    max_bytes: usize,
) -> Result<Verified, VerifyError> {
    let envelope = Envelope::open(bytes, max_bytes)?;
    if envelope.payload_type != payload_type.as_str() {
        return Err(VerifyError::PayloadType {
            expected: payload_type.as_str(),
            found: envelope.payload_type.chars().take(80).collect(),
        });
    }
    let needs = payload_type.role();
    let (right, wrong) = envelope.signed_by(keys, needs);
    if !right.is_empty() {
        return Ok(Verified {
            payload: envelope.payload,
            key_ids: right.into_iter().collect(),
        });
    }
    match wrong {
        Some((key, has)) => Err(VerifyError::WrongRole { key, has, needs }),
        None => Err(VerifyError::NoTrustedSignature {
            signers: envelope.claimed_signers(),
        }),
    }
}

impl Envelope {
    /// The envelope in `bytes`, believed by nobody yet.
    pub fn open(bytes: &[u8], max_bytes: usize) -> Result<Self, VerifyError> {
        strict_decode(bytes, max_bytes).map_err(|error| match error {
            DecodeError::TooLarge { bytes, max } => VerifyError::TooLarge { bytes, max },
            other @ (DecodeError::Protobuf(_) | DecodeError::Field { .. } | DecodeError::NotCanonical) => {
                VerifyError::Malformed(other)
            }
        })
    }

    /// The trusted keys of role `needs` that signed this, and one of another role that did.
    fn signed_by(&self, keys: &KeySet, needs: Role) -> (BTreeSet<KeyId>, Option<(KeyId, Role)>) {
        let message = pae(&self.payload_type, &self.payload);
        let mut right = BTreeSet::new();
        let mut wrong = None;
        for Signature { key_id, signature } in &self.signatures {
            let known = key_id.parse().ok().and_then(|id| keys.get(&id));
            let Some(key) = known.filter(|key| key.has_signed(&message, signature)) else {
                continue;
            };
            if key.role() == needs {
                right.insert(key.id());
            } else {
                wrong = Some((key.id(), key.role()));
            }
        }
        (right, wrong)
    }

    fn claimed_signers(&self) -> Vec<String> {
        let short = |signature: &Signature| signature.key_id.chars().take(32).collect();
        self.signatures.iter().map(short).collect()
    }
}

impl Wire for Envelope {
    type Proto = pb::Envelope;

    fn to_proto(&self) -> pb::Envelope {
        let Self {
            payload_type,
            payload,
            signatures,
        } = self;
        let signature = |Signature { key_id, signature }: &Signature| pb::Signature {
            sig: signature.clone(),
            keyid: key_id.clone(),
        };
        pb::Envelope {
            payload: payload.clone(),
            payload_type: payload_type.clone(),
            signatures: signatures.iter().map(signature).collect(),
        }
    }

    fn from_proto(proto: pb::Envelope) -> Result<Self, DecodeError> {
        let pb::Envelope {
            payload,
            payload_type,
            signatures,
        } = proto;
        if signatures.len() > MAX_SIGNATURES {
            return Err(wrong(
                "signatures",
                format!("{}, more than {MAX_SIGNATURES}", signatures.len()),
            ));
        }
        let signature = |pb::Signature { sig, keyid }| {
            Ok(Signature {
                key_id: keyid,
                signature: sig,
            })
        };
        Ok(Self {
            payload_type,
            payload,
            signatures: each("signatures", signatures, signature)?,
        })
    }
}
