//! The signed envelope: DSSE v1 (<https://github.com/secure-systems-lab/dsse>) with ed25519.
//!
//! What is signed is `PAE(payload type, payload)`, over the payload's bytes as they travel: nothing is decoded before
//! a trusted key of the right role has vouched for it, and nothing is ever encoded again to be verified.

use std::collections::BTreeSet;
use std::fmt;

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
    /// A [`crate::live::LiveUpdate`].
    Live,
    /// A [`crate::Provenance`].
    Provenance,
}

impl PayloadType {
    /// Its media type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "application/vnd.sluice.manifest.v1+protobuf",
            Self::Order => "application/vnd.sluice.order.v1+protobuf",
            Self::Live => "application/vnd.sluice.live.v1+protobuf",
            Self::Provenance => "application/vnd.sluice.provenance.v1+protobuf",
        }
    }

    /// The role of the keys that may sign it.
    pub fn role(self) -> Role {
        match self {
            // Whoever says what a revision is says where it came from.
            Self::Manifest | Self::Provenance => Role::Manifest,
            Self::Order => Role::Order,
            Self::Live => Role::Live,
        }
    }
}

/// An envelope, not verified: only to be looked at. Use [`verify`] to believe what is in it. Its payload, which may be a
/// private key, is not printed.
#[derive(Clone, PartialEq, Eq)]
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

/// A payload that a trusted key of the right role has signed. Not printed either.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    /// The bytes that were signed.
    pub payload: Bytes,
    /// The trusted keys that did, in ascending order; never none.
    pub key_ids: Vec<KeyId>,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.payload.len();
        write!(
            f,
            "Envelope({}, {bytes} bytes, {:?})",
            self.payload_type, self.signatures
        )
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} bytes by {:?})", self.payload.len(), self.key_ids)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1 << 20;

    fn signer(seed: u8, role: Role) -> Signer {
        Signer::from_seed(&[seed; 32], role)
    }

    fn trusting(signers: &[&Signer]) -> KeySet {
        KeySet::new(signers.iter().map(|signer| signer.trusted())).unwrap()
    }

    #[test]
    fn pae_as_specified() {
        // The example in DSSE's protocol.md.
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
        // Lengths are of bytes, and nothing of the payload is touched.
        assert_eq!(pae("\u{e4}", b"\0\xff "), b"DSSEv1 2 \xc3\xa4 3 \0\xff ");
    }

    #[test]
    fn the_specifications_field_numbers() {
        let envelope = Envelope {
            payload_type: "t".into(),
            payload: Bytes::from_static(b"p"),
            signatures: vec![Signature {
                key_id: "k".into(),
                signature: Bytes::from_static(b"s"),
            }],
        };
        assert_eq!(
            envelope.encode().as_ref(),
            b"\x0a\x01p\x12\x01t\x1a\x06\x0a\x01s\x12\x01k"
        );
    }

    #[test]
    fn signed_by_the_right_key_is_believed() {
        let (one, other) = (signer(1, Role::Order), signer(2, Role::Order));
        let bytes = sign(&[&one, &other, &one], PayloadType::Order, b"payload");
        let verified = verify(&trusting(&[&one, &other]), PayloadType::Order, &bytes, MAX).unwrap();
        assert_eq!(verified.payload, "payload");
        assert_eq!(verified.key_ids.len(), 2, "one key counts once");
        // Rotation: one of several is enough, and an unknown one does not hurt.
        let verified = verify(&trusting(&[&other]), PayloadType::Order, &bytes, MAX).unwrap();
        assert_eq!(verified.key_ids, [other.id()]);
    }

    #[test]
    fn each_refusal_says_why() {
        let (order, manifest, stranger) = (
            signer(1, Role::Order),
            signer(2, Role::Manifest),
            signer(3, Role::Order),
        );
        let keys = trusting(&[&order, &manifest]);
        let check = |bytes: &[u8], max: usize, expected: &str| {
            let error = verify(&keys, PayloadType::Order, bytes, max).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        let good = sign(&[&order], PayloadType::Order, b"payload");
        check(&good, good.len() - 1, "too large: the envelope has");
        check(b"", MAX, "payload type: expected application/vnd.sluice.order");
        check(b"\xff\xff", MAX, "not an envelope");
        check(&[&good[..], &[0x78, 1]].concat(), MAX, "not an envelope: unknown field");
        check(&sign(&[&order], PayloadType::Manifest, b"payload"), MAX, "payload type");
        check(
            &sign(&[&manifest], PayloadType::Order, b"payload"),
            MAX,
            "wrong role: key",
        );
        check(
            &sign(&[&stranger], PayloadType::Order, b"payload"),
            MAX,
            "no trusted signature",
        );
        check(&sign(&[], PayloadType::Order, b"payload"), MAX, "no trusted signature");
        check(
            &sign(&[&order; 9], PayloadType::Order, b"payload"),
            MAX,
            "not an envelope: malformed: signatures: 9",
        );
    }

    #[test]
    fn another_type_or_key_cannot_be_written_over_it() {
        let (order, manifest) = (signer(1, Role::Order), signer(2, Role::Manifest));
        let keys = trusting(&[&order, &manifest]);
        let bytes = sign(&[&manifest], PayloadType::Manifest, b"payload");
        let mut envelope = Envelope::open(&bytes, MAX).unwrap();
        envelope.payload_type = PayloadType::Order.as_str().into();
        let relabelled = verify(&keys, PayloadType::Order, &envelope.encode(), MAX);
        assert!(
            matches!(relabelled, Err(VerifyError::NoTrustedSignature { .. })),
            "{relabelled:?}"
        );
        envelope.signatures[0].key_id = order.id().to_string();
        let claimed = verify(&keys, PayloadType::Order, &envelope.encode(), MAX);
        assert!(
            matches!(claimed, Err(VerifyError::NoTrustedSignature { .. })),
            "{claimed:?}"
        );
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_verifies(
            payload in proptest::collection::vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let signer = signer(7, Role::Manifest);
            let keys = trusting(&[&signer]);
            let bytes = sign(&[&signer], PayloadType::Manifest, &payload);
            prop_assert!(verify(&keys, PayloadType::Manifest, &bytes, MAX).is_ok());
            let mut flipped = bytes.to_vec();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(verify(&keys, PayloadType::Manifest, &flipped, MAX).is_err());
            prop_assert!(verify(&keys, PayloadType::Manifest, &bytes[..at.index(bytes.len())], MAX).is_err());
        }

        #[test]
        fn no_two_inputs_have_one_pae(
            a in "[ 0-9a]{0,4}", b in "[ 0-9a]{0,4}", c in "[ 0-9a]{0,4}", d in "[ 0-9a]{0,4}",
        ) {
            prop_assert_eq!(pae(&a, b.as_bytes()) == pae(&c, d.as_bytes()), (a, b) == (c, d));
        }
    }

    #[test]
    fn every_single_bit_counts() {
        let signer = signer(9, Role::Order);
        let keys = trusting(&[&signer]);
        let bytes = sign(&[&signer], PayloadType::Order, b"x");
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(verify(&keys, PayloadType::Order, &flipped, MAX).is_err(), "bit {at}");
        }
    }
}
