//! From signed bytes to what they say: verify, then decode, then audience, then features; in this order and no other.

use bytes::Bytes;
use sluice_model::feature::{Feature, UnknownFeature};
use sluice_model::limits::{MAX_MANIFEST_BYTES, MAX_ORDER_BYTES};
use sluice_model::{ClusterId, FleetName};

use crate::canonical::{DecodeError, Wire, strict_decode};
use crate::envelope::{PayloadType, VerifyError, sign, verify};
use crate::keys::{KeySet, Signer};
use crate::manifest::Manifest;
use crate::order::Order;

/// Signatures, type and framing around a payload: 8 signatures of less than 128 bytes each and some.
pub const ENVELOPE_OVERHEAD_BYTES: usize = 2048;

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
    fn must_be(&self, expected: &Self) -> Result<(), OpenError> {
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
    let max = MAX_MANIFEST_BYTES.saturating_add(ENVELOPE_OVERHEAD_BYTES);
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
    let max = MAX_ORDER_BYTES.saturating_add(ENVELOPE_OVERHEAD_BYTES);
    let verified = verify(keys, PayloadType::Order, bytes, max)?;
    let order: Order = strict_decode(&verified.payload, MAX_ORDER_BYTES)?;
    order.audience().must_be(audience)?;
    Ok(order)
}

/// The signed envelope of a manifest.
pub fn seal_manifest(signers: &[&Signer], manifest: &Manifest) -> Bytes {
    sign(signers, PayloadType::Manifest, &manifest.encode())
}

/// The signed envelope of an order.
pub fn seal_order(signers: &[&Signer], order: &Order) -> Bytes {
    sign(signers, PayloadType::Order, &order.encode())
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

impl Order {
    /// Whom it is for.
    pub fn audience(&self) -> Audience {
        Audience {
            cluster: self.cluster.clone(),
            fleet: self.fleet.clone(),
        }
    }
}
