//! Where a revision came from: what it changes, and for each of its objects the file or the version that it was read from.
//! It is for people, and for compile, which has to know in which file an object was last seen. Signed like the manifest and kept beside it; no
//! instance ever needs it.
//!
//! Origins are spread over fixed buckets, each named by its content, so that a change of one object adds one bucket to
//! what is kept and not the origins of all.

use std::collections::BTreeMap;

use bytes::Bytes;
use sluice_model::limits::{HELD_CONTENTS_MAX, MAX_ORIGINS_BYTES, ORIGIN_BUCKETS};
use sluice_model::{ClusterId, Digest, FleetName, ObjectKey, RevisionId};

use crate::canonical::{DecodeError, Wire, ascending, each, strict_decode, wrong};
use crate::hash::sha256;
use crate::identity::{digest_from, digest_to, key_in, key_to, revision_in, revision_to, text};
use crate::packing::{deflate, inflate};
use crate::pb;
use crate::sections::bucket_of;

/// Where one revision came from. Lists are in ascending order of their first field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provenance {
    /// Of which installation.
    pub cluster: ClusterId,
    /// Of which fleet.
    pub fleet: FleetName,
    /// Of which revision.
    pub revision: RevisionId,
    /// What differs from the revision that was stable when this one was made; at most as many as could be held back one
    /// by one.
    pub changed: Vec<ObjectChange>,
    /// How many more objects differ.
    pub unlisted: u64,
    /// Where each object came from, by bucket.
    pub origins: Vec<OriginsRef>,
}

/// One object that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectChange {
    /// Which.
    pub object: ObjectKey,
    /// `unit_digest` in stable; `None`: new.
    pub old: Option<Digest>,
    /// `unit_digest` in this revision; `None`: removed.
    pub new: Option<Digest>,
}

/// Names the origins of one bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OriginsRef {
    /// Which bucket.
    pub bucket: u32,
    /// SHA-256 of the origins as encoded: their name.
    pub digest: Digest,
}

/// Where the objects of one bucket came from: a file, or what the API server calls that version.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origins(pub BTreeMap<ObjectKey, String>);

/// The origins of one bucket as they are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackedOrigins {
    /// For the provenance.
    pub reference: OriginsRef,
    /// Compressed.
    pub wire: Bytes,
}

/// Why kept origins are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginsError {
    /// Not compressed as they are kept.
    #[error("the origins cannot be decompressed")]
    Compression,
    /// Not the content that the provenance names.
    #[error("the origins' digest is {found:#}… where the provenance says {expected:#}…")]
    Digest {
        /// What it has.
        found: Digest,
        /// What the provenance says.
        expected: Digest,
    },
    /// Not what this build writes.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The origins of one bucket as encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedOrigins {
    /// For the provenance.
    pub reference: OriginsRef,
    /// Their one encoding.
    raw: Bytes,
}

impl EncodedOrigins {
    /// As they are kept: compressed.
    pub fn pack(&self) -> PackedOrigins {
        PackedOrigins {
            reference: self.reference,
            wire: deflate(&self.raw),
        }
    }
}

/// All origins in their buckets; empty ones are left out. Equal origins give equal bytes.
pub fn encode_origins(origins: BTreeMap<ObjectKey, String>) -> Vec<EncodedOrigins> {
    let mut buckets: BTreeMap<u32, Origins> = BTreeMap::new();
    for (object, origin) in origins {
        let bucket = bucket_of(&object) % ORIGIN_BUCKETS;
        buckets.entry(bucket).or_default().0.insert(object, origin);
    }
    let encode = |(bucket, origins): (u32, Origins)| {
        let raw = origins.encode();
        let digest = sha256(&raw);
        EncodedOrigins {
            reference: OriginsRef { bucket, digest },
            raw,
        }
    };
    buckets.into_iter().map(encode).collect()
}

/// The same, as they are kept.
pub fn pack_origins(origins: BTreeMap<ObjectKey, String>) -> Vec<PackedOrigins> {
    encode_origins(origins).iter().map(EncodedOrigins::pack).collect()
}

/// The origins that were kept as `wire`, if they are what `reference` names.
///
/// # Errors
/// When they are anything else.
pub fn unpack_origins(reference: &OriginsRef, wire: &[u8]) -> Result<Origins, OriginsError> {
    let raw = inflate_origins(wire).ok_or(OriginsError::Compression)?;
    let (found, expected) = (sha256(&raw), reference.digest);
    if found != expected {
        return Err(OriginsError::Digest { found, expected });
    }
    Ok(strict_decode(&raw, MAX_ORIGINS_BYTES)?)
}

fn inflate_origins(wire: &[u8]) -> Option<Vec<u8>> {
    let max = u64::try_from(MAX_ORIGINS_BYTES).unwrap_or(u64::MAX);
    inflate(wire, max).filter(|raw| raw.len() <= MAX_ORIGINS_BYTES)
}

impl Wire for Provenance {
    type Proto = pb::Provenance;

    fn to_proto(&self) -> pb::Provenance {
        let Self {
            cluster,
            fleet,
            revision,
            changed,
            unlisted,
            origins,
        } = self;
        pb::Provenance {
            cluster: cluster.to_string(),
            fleet: fleet.to_string(),
            revision: Some(revision_to(revision)),
            changed: changed.iter().map(change_to).collect(),
            unlisted: *unlisted,
            origins: origins.iter().map(reference_to).collect(),
        }
    }

    fn from_proto(proto: pb::Provenance) -> Result<Self, DecodeError> {
        let pb::Provenance {
            cluster,
            fleet,
            revision,
            changed,
            unlisted,
            origins,
        } = proto;
        let provenance = Self {
            cluster: text("cluster", &cluster)?,
            fleet: text("fleet", &fleet)?,
            revision: revision_in("revision", revision)?,
            changed: each("changed", changed, change_from)?,
            unlisted,
            origins: each("origins", origins, reference_from)?,
        };
        provenance.check_lists()?;
        Ok(provenance)
    }
}

impl Provenance {
    fn check_lists(&self) -> Result<(), DecodeError> {
        let changed: Vec<_> = self.changed.iter().map(|change| &change.object).collect();
        ascending("changed", &changed)?;
        if changed.len() > HELD_CONTENTS_MAX {
            let entries = changed.len();
            return Err(wrong(
                "changed",
                format!("{entries} entries, more than {HELD_CONTENTS_MAX}"),
            ));
        }
        let buckets: Vec<_> = self.origins.iter().map(|origins| origins.bucket).collect();
        ascending("origins", &buckets)
    }
}

impl Wire for Origins {
    type Proto = pb::Origins;

    fn to_proto(&self) -> pb::Origins {
        let entry = |(object, origin): (&ObjectKey, &String)| pb::Origin {
            object: Some(key_to(object)),
            origin: origin.clone(),
        };
        pb::Origins {
            entries: self.0.iter().map(entry).collect(),
        }
    }

    fn from_proto(proto: pb::Origins) -> Result<Self, DecodeError> {
        let pb::Origins { entries } = proto;
        let entry = |pb::Origin { object, origin }| Ok((key_in("object", object)?, origin));
        // A second spelling (another order, an object twice) does not encode back to the same bytes.
        Ok(Self(each("entries", entries, entry)?.into_iter().collect()))
    }
}

fn change_to(change: &ObjectChange) -> pb::ObjectChange {
    let ObjectChange { object, old, new } = change;
    pb::ObjectChange {
        object: Some(key_to(object)),
        old: old.as_ref().map(digest_to),
        new: new.as_ref().map(digest_to),
    }
}

fn change_from(change: pb::ObjectChange) -> Result<ObjectChange, DecodeError> {
    let pb::ObjectChange { object, old, new } = change;
    if old == new {
        return Err(wrong("new", "is the same as old"));
    }
    Ok(ObjectChange {
        object: key_in("object", object)?,
        old: old.map(|old| digest_from("old", &old)).transpose()?,
        new: new.map(|new| digest_from("new", &new)).transpose()?,
    })
}

fn reference_to(reference: &OriginsRef) -> pb::OriginsRef {
    let OriginsRef { bucket, digest } = reference;
    pb::OriginsRef {
        bucket: *bucket,
        digest: digest_to(digest),
    }
}

fn reference_from(reference: pb::OriginsRef) -> Result<OriginsRef, DecodeError> {
    let pb::OriginsRef { bucket, digest } = reference;
    if bucket >= ORIGIN_BUCKETS {
        return Err(wrong("bucket", format!("{bucket} is out of range")));
    }
    Ok(OriginsRef {
        bucket,
        digest: digest_from("digest", &digest)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::packing::content_digest;
    use proptest::prelude::*;

    fn provenance(changed: Vec<ObjectChange>, origins: Vec<OriginsRef>) -> Provenance {
        Provenance {
            cluster: "c-1".parse().unwrap(),
            fleet: "edge".parse().unwrap(),
            revision: RevisionId {
                number: 3,
                digest: sha256(b"revision"),
            },
            changed,
            unlisted: 0,
            origins,
        }
    }

    fn check(provenance: &Provenance, refused: Option<&str>) {
        let field = match strict_decode::<Provenance>(&provenance.encode(), 1 << 20) {
            Ok(decoded) => {
                assert_eq!(&decoded, provenance);
                None
            }
            Err(DecodeError::Field { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(field.as_deref(), refused);
    }

    #[test]
    fn lists_are_sets_within_bounds() {
        let change = |name: &str| ObjectChange {
            object: format!("Pool a/{name}").parse().unwrap(),
            old: None,
            new: Some(sha256(b"")),
        };
        let origins = |bucket| OriginsRef {
            bucket,
            digest: sha256(b""),
        };
        check(
            &provenance(vec![change("a"), change("b")], vec![origins(0), origins(63)]),
            None,
        );
        check(&provenance(vec![change("b"), change("a")], vec![]), Some("changed"));
        check(&provenance(vec![], vec![origins(1), origins(1)]), Some("origins"));
        check(&provenance(vec![], vec![origins(64)]), Some("origins[0].bucket"));
        let nothing = ObjectChange {
            new: None,
            ..change("a")
        };
        check(&provenance(vec![nothing], vec![]), Some("changed[0].new"));
        let many = |count: usize| (0..count).map(|at| change(&format!("p-{at:05}"))).collect();
        check(&provenance(many(HELD_CONTENTS_MAX), vec![]), None);
        check(&provenance(many(HELD_CONTENTS_MAX + 1), vec![]), Some("changed"));
    }

    fn origins(count: usize) -> BTreeMap<ObjectKey, String> {
        let origin = |at| (format!("ProxyRoute team/r-{at}").parse().unwrap(), format!("{at}.yaml"));
        (0..count).map(origin).collect()
    }

    #[test]
    fn another_origin_touches_one_bucket() {
        let before = pack_origins(origins(1_000));
        assert_eq!(before.len(), 64);
        let mut changed = origins(1_000);
        changed.insert("ProxyRoute team/r-7".parse().unwrap(), "other.yaml".to_owned());
        let after = pack_origins(changed);
        let differing = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert_eq!(differing.count(), 1);
    }

    #[test]
    fn what_is_kept_is_what_is_named() {
        let packed = pack_origins(origins(3));
        for PackedOrigins { reference, wire } in &packed {
            assert_eq!(content_digest(wire), Some(reference.digest));
            assert!(unpack_origins(reference, wire).unwrap().0.len() <= 3);
        }
        let wrong = OriginsRef {
            digest: sha256(b"other"),
            ..packed[0].reference
        };
        let refused = unpack_origins(&wrong, &packed[0].wire).unwrap_err();
        assert!(matches!(refused, OriginsError::Digest { .. }), "{refused}");
        assert_eq!(unpack_origins(&wrong, &[0xff; 20]), Err(OriginsError::Compression));
        let bomb = deflate(&vec![0; MAX_ORIGINS_BYTES + 1]);
        assert_eq!(unpack_origins(&wrong, &bomb), Err(OriginsError::Compression));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn decodes_to_what_was_encoded((provenance, origins) in arbitrary::provenances()) {
            prop_assert_eq!(strict_decode::<Provenance>(&provenance.encode(), 1 << 20), Ok(provenance.clone()));
            let mut unpacked = BTreeMap::new();
            for PackedOrigins { reference, wire } in pack_origins(origins.clone()) {
                unpacked.extend(unpack_origins(&reference, &wire).unwrap().0);
            }
            prop_assert_eq!(unpacked, origins);
        }
    }
}
