//! From signed bytes to what they say: verify, then decode, then audience, then features; in this order and no other.

use bytes::Bytes;
use sluice_model::feature::{Feature, UnknownFeature};
/// See [`sluice_model::limits::MAX_ENVELOPE_OVERHEAD_BYTES`].
pub use sluice_model::limits::MAX_ENVELOPE_OVERHEAD_BYTES as ENVELOPE_OVERHEAD_BYTES;
use sluice_model::limits::{MAX_ENVELOPE_OVERHEAD_BYTES, MAX_MANIFEST_BYTES, MAX_ORDER_BYTES, MAX_PROVENANCE_BYTES};
use sluice_model::{ClusterId, FleetName};

use crate::canonical::{DecodeError, Wire, strict_decode};
use crate::delivery::Refusal;
use crate::envelope::{PayloadType, VerifyError, sign, verify};
use crate::keys::{KeySet, Signer};
use crate::manifest::Manifest;
use crate::order::Order;
use crate::provenance::Provenance;

/// Whom signed content is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audience {
    /// Which installation.
    pub cluster: ClusterId,
    /// Which fleet.
    pub fleet: FleetName,
}

/// Why signed bytes are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not signed as it has to be.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Signed, but not understood.
    #[error("signed content that this build does not understand: {0}")]
    Decode(#[from] DecodeError),
    /// Signed, for somebody else.
    #[error("wrong audience: for cluster {} and fleet {}, this is cluster {} and fleet {}",
        .found.cluster, .found.fleet, .expected.cluster, .expected.fleet)]
    WrongAudience {
        /// Whom it is for.
        found: Box<Audience>,
        /// Who this is.
        expected: Box<Audience>,
    },
    /// It needs more than this build can do.
    #[error(transparent)]
    Feature(#[from] UnknownFeature),
}

impl Audience {
    pub(crate) fn must_be(&self, expected: &Self) -> Result<(), OpenError> {
        if self == expected {
            return Ok(());
        }
        Err(OpenError::WrongAudience {
            found: Box::new(self.clone()),
            expected: Box::new(expected.clone()),
        })
    }
}

/// The manifest in the envelope `bytes`, if it is signed by a manifest key, for this audience, and needs only features
/// that this build knows.
pub fn open_manifest(keys: &KeySet, audience: &Audience, bytes: &[u8]) -> Result<Manifest, OpenError> {
    let max = MAX_MANIFEST_BYTES.saturating_add(MAX_ENVELOPE_OVERHEAD_BYTES);
    let verified = verify(keys, PayloadType::Manifest, bytes, max)?;
    let manifest: Manifest = strict_decode(&verified.payload, MAX_MANIFEST_BYTES)?;
    manifest.audience().must_be(audience)?;
    for feature in &manifest.features {
        feature.parse::<Feature>()?;
    }
    Ok(manifest)
}

/// The order in the envelope `bytes`, if it is signed by an order key and for this audience. Whether its epoch is
/// acceptable is for the instance to say.
pub fn open_order(keys: &KeySet, audience: &Audience, bytes: &[u8]) -> Result<Order, OpenError> {
    let max = MAX_ORDER_BYTES.saturating_add(MAX_ENVELOPE_OVERHEAD_BYTES);
    let verified = verify(keys, PayloadType::Order, bytes, max)?;
    let order: Order = strict_decode(&verified.payload, MAX_ORDER_BYTES)?;
    order.audience().must_be(audience)?;
    Ok(order)
}

/// Where a revision came from, out of the envelope `bytes`, if a manifest key signed it and it is of this audience.
pub fn open_provenance(keys: &KeySet, audience: &Audience, bytes: &[u8]) -> Result<Provenance, OpenError> {
    let max = MAX_PROVENANCE_BYTES.saturating_add(MAX_ENVELOPE_OVERHEAD_BYTES);
    let verified = verify(keys, PayloadType::Provenance, bytes, max)?;
    let provenance: Provenance = strict_decode(&verified.payload, MAX_PROVENANCE_BYTES)?;
    provenance.audience().must_be(audience)?;
    Ok(provenance)
}

/// The signed envelope of a manifest, unchecked: whoever signs for a fleet opens what it sealed before it is sent.
pub fn seal_manifest(signers: &[&Signer], manifest: &Manifest) -> Bytes {
    sign(signers, PayloadType::Manifest, &manifest.encode())
}

/// The signed envelope of an order, unchecked as above.
pub fn seal_order(signers: &[&Signer], order: &Order) -> Bytes {
    sign(signers, PayloadType::Order, &order.encode())
}

/// The signed envelope of a revision's provenance, unchecked as above.
pub fn seal_provenance(signers: &[&Signer], provenance: &Provenance) -> Bytes {
    sign(signers, PayloadType::Provenance, &provenance.encode())
}

impl OpenError {
    /// The reason that a nack gives.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Verify(VerifyError::TooLarge { .. }) | Self::Decode(DecodeError::TooLarge { .. }) => {
                Refusal::TooLarge
            }
            Self::Verify(VerifyError::Malformed(_)) | Self::Decode(_) => Refusal::Malformed,
            Self::Verify(
                VerifyError::PayloadType { .. }
                | VerifyError::WrongRole { .. }
                | VerifyError::NoTrustedSignature { .. },
            ) => Refusal::Signature,
            Self::WrongAudience { .. } => Refusal::Audience,
            Self::Feature(_) => Refusal::Feature,
        }
    }
}

impl Manifest {
    /// Whom it is for.
    pub fn audience(&self) -> Audience {
        Audience {
            cluster: self.cluster.clone(),
            fleet: self.fleet.clone(),
        }
    }
}

impl Provenance {
    /// Whom it is for.
    pub fn audience(&self) -> Audience {
        Audience {
            cluster: self.cluster.clone(),
            fleet: self.fleet.clone(),
        }
    }
}

impl Order {
    /// Whom it is for.
    pub fn audience(&self) -> Audience {
        Audience {
            cluster: self.cluster.clone(),
            fleet: self.fleet.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::keys::Role;
    use proptest::prelude::*;
    use sluice_model::{Digest, RevisionId};

    fn audience(cluster: &str, fleet: &str) -> Audience {
        Audience {
            cluster: cluster.parse().unwrap(),
            fleet: fleet.parse().unwrap(),
        }
    }

    fn signers() -> (Signer, Signer, KeySet) {
        let (manifest, order) = (
            Signer::from_seed(&[1; 32], Role::Manifest),
            Signer::from_seed(&[2; 32], Role::Order),
        );
        let keys = KeySet::new([manifest.trusted(), order.trusted()]).unwrap();
        (manifest, order, keys)
    }

    fn order() -> Order {
        let stable = RevisionId {
            number: 1,
            digest: Digest([1; 32]),
        };
        let Audience { cluster, fleet } = audience("c-1", "edge");
        Order {
            cluster,
            fleet,
            epoch: 1,
            stable,
            candidate: None,
            counted: vec![],
        }
    }

    #[test]
    fn orders_are_for_one_audience() {
        let (_, signer, keys) = signers();
        let bytes = seal_order(&[&signer], &order());
        assert_eq!(open_order(&keys, &audience("c-1", "edge"), &bytes), Ok(order()));
        for (cluster, fleet) in [("c-2", "edge"), ("c-1", "other")] {
            let error = open_order(&keys, &audience(cluster, fleet), &bytes).unwrap_err();
            assert_eq!(error.refusal(), Refusal::Audience);
            assert!(
                error
                    .to_string()
                    .starts_with("wrong audience: for cluster c-1 and fleet edge, this is"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_feature_that_this_build_lacks_is_named() {
        let (signer, _, keys) = signers();
        let sections = vec![];
        let Audience { cluster, fleet } = audience("c-1", "edge");
        let manifest = Manifest {
            cluster,
            fleet,
            revision: RevisionId {
                number: 1,
                digest: crate::sections::revision_digest(&sections),
            },
            sections,
            features: vec!["hedging/v1".into(), "routes/v1".into()],
            controller_build: String::new(),
            created_at_unix_ms: 0,
            quarantined: vec![],
        };
        let bytes = seal_manifest(&[&signer], &manifest);
        let error = open_manifest(&keys, &audience("c-1", "edge"), &bytes).unwrap_err();
        assert_eq!(error.refusal(), Refusal::Feature);
        assert!(error.to_string().contains("\"hedging/v1\""), "{error}");
    }

    #[test]
    fn a_key_signs_only_its_own() {
        let (manifest, _, keys) = signers();
        let bytes = seal_order(&[&manifest], &order());
        let error = open_order(&keys, &audience("c-1", "edge"), &bytes).unwrap_err();
        assert!(
            matches!(error, OpenError::Verify(VerifyError::WrongRole { .. })),
            "{error}"
        );
        assert_eq!(error.refusal(), Refusal::Signature);
    }

    #[test]
    fn signed_but_not_understood_is_told_apart_from_unsigned() {
        let (_, signer, keys) = signers();
        let newer = [&order().encode()[..], &[0x78, 0x01]].concat();
        let bytes = sign(&[&signer], PayloadType::Order, &newer);
        let error = open_order(&keys, &audience("c-1", "edge"), &bytes).unwrap_err();
        assert_eq!(error, OpenError::Decode(DecodeError::NotCanonical));
        let large = vec![0; MAX_ORDER_BYTES * 100];
        let error = open_order(&keys, &audience("c-1", "edge"), &large).unwrap_err();
        assert_eq!(error.refusal(), Refusal::TooLarge);
    }

    #[test]
    fn the_largest_payload_fits_its_envelope() {
        let (_, signer, _) = signers();
        let bytes = sign(&[&signer; 8], PayloadType::Order, &[0; 1 << 20]);
        assert!(
            bytes.len() - (1 << 20) <= MAX_ENVELOPE_OVERHEAD_BYTES,
            "{}",
            bytes.len()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_sealed_opens(
            manifest in arbitrary::manifests(), order in arbitrary::orders(), (provenance, _) in arbitrary::provenances(),
        ) {
            let (manifest_key, order_key, keys) = signers();
            let audience = audience("c-1", "edge");
            let bytes = seal_manifest(&[&manifest_key], &manifest);
            prop_assert_eq!(open_manifest(&keys, &audience, &bytes), Ok(manifest));
            let bytes = seal_order(&[&order_key], &order);
            prop_assert_eq!(open_order(&keys, &audience, &bytes), Ok(order));
            let bytes = seal_provenance(&[&manifest_key], &provenance);
            prop_assert!(open_manifest(&keys, &audience, &bytes).is_err());
            prop_assert_eq!(open_provenance(&keys, &audience, &bytes), Ok(provenance));
        }
    }
}
