//! Sections: the units of a fleet in fixed buckets, each encoded deterministically and named by its digest.
//!
//! A change of one object changes one section; an instance asks only for those it lacks. Deltas without a diff engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use sluice_model::limits::{MAX_SECTION_BYTES, SECTION_BUCKETS};
use sluice_model::unit::Unit;
use sluice_model::{Config, Digest, ObjectKey, Snapshot};

use crate::canonical::{DecodeError, Wire, ascending, each, strict_decode, wrong};
use crate::hash::{labelled, sha256};
use crate::identity::{digest_from, digest_to};
use crate::manifest::Manifest;
use crate::packing::{deflate, inflate};
use crate::pb;
use crate::units::{Entry, entry_to};

/// One section as encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// Which bucket its units hash into.
    pub bucket: u32,
    /// SHA-256 of `raw`.
    pub digest: Digest,
    /// Its one encoding.
    pub raw: Bytes,
}

/// A section packed for travel, with what a manifest says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// For the manifest.
    pub reference: SectionRef,
    /// Compressed.
    pub wire: Bytes,
}

/// What a manifest says about a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectionRef {
    /// Which bucket its units hash into.
    pub bucket: u32,
    /// SHA-256 of the section as encoded: its name.
    pub digest: Digest,
    /// Its size as encoded; at most `MAX_SECTION_BYTES`.
    pub raw_bytes: u32,
    /// SHA-256 of the section as it travels. Not part of the revision's digest: compression may change.
    pub wire_digest: Digest,
    /// Its size as it travels.
    pub wire_bytes: u32,
}

/// Why a section is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SectionError {
    /// More units hash into one bucket than fit into a section.
    #[error("section {bucket} would have {bytes} bytes; at most {MAX_SECTION_BYTES} are allowed")]
    TooLarge {
        /// Which bucket.
        bucket: u32,
        /// How large it would be.
        bytes: usize,
    },
    /// Not of the size that the manifest says.
    #[error("the section has {found} bytes where the manifest says {expected}")]
    Size {
        /// What it has.
        found: usize,
        /// What the manifest says.
        expected: u32,
    },
    /// Not the content that the manifest names.
    #[error("the section's digest is {found:#}… where the manifest says {expected:#}…")]
    Digest {
        /// What it has.
        found: Digest,
        /// What the manifest says.
        expected: Digest,
    },
    /// Not compressed as sections are.
    #[error("the section cannot be decompressed")]
    Compression,
}

/// Which bucket an object belongs to, from its name alone: it stays there for ever.
pub fn bucket_of(key: &ObjectKey) -> u32 {
    let Digest([first, ..]) = labelled("sluice/bucket/v1", [key.to_string().as_bytes()]);
    u32::from(first) % SECTION_BUCKETS
}

/// All sections of a snapshot, in ascending order of bucket; empty ones are left out. Equal snapshots give equal bytes.
pub fn encode(snapshot: &Snapshot) -> Result<Vec<Section>, SectionError> {
    let mut buckets: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
    for (key, unit) in &snapshot.config().units {
        let entry = Entry {
            key: key.clone(),
            unit: Arc::clone(unit),
        };
        buckets.entry(bucket_of(key)).or_default().push(entry);
    }
    buckets
        .into_iter()
        .map(|(bucket, entries)| encode_one(bucket, entries))
        .collect()
}

fn encode_one(bucket: u32, entries: Vec<Entry>) -> Result<Section, SectionError> {
    let raw = Entries(entries).encode();
    if raw.len() > MAX_SECTION_BYTES {
        return Err(SectionError::TooLarge {
            bucket,
            bytes: raw.len(),
        });
    }
    let digest = sha256(&raw);
    Ok(Section { bucket, digest, raw })
}

/// The units of one section, in ascending order of key. Where they belong is checked by [`assemble`].
pub fn decode(raw: &[u8]) -> Result<Vec<(ObjectKey, Arc<Unit>)>, DecodeError> {
    let Entries(entries) = strict_decode(raw, MAX_SECTION_BYTES)?;
    Ok(entries.into_iter().map(|Entry { key, unit }| (key, unit)).collect())
}

struct Entries(Vec<Entry>);

impl Wire for Entries {
    type Proto = pb::Section;

    fn to_proto(&self) -> pb::Section {
        pb::Section {
            entries: self.0.iter().map(Entry::to_proto).collect(),
        }
    }

    fn from_proto(proto: pb::Section) -> Result<Self, DecodeError> {
        let pb::Section { entries } = proto;
        let entries = each("entries", entries, Entry::from_proto)?;
        if entries.is_empty() {
            return Err(wrong("entries", "an empty section is left out"));
        }
        let keys: Vec<_> = entries.iter().map(|entry| &entry.key).collect();
        ascending("entries", &keys)?;
        Ok(Self(entries))
    }
}

impl Section {
    /// What a manifest says of it when it travels as `wire`.
    pub fn travelling_as(&self, wire: &[u8]) -> SectionRef {
        SectionRef {
            bucket: self.bucket,
            digest: self.digest,
            raw_bytes: size(&self.raw),
            wire_digest: sha256(wire),
            wire_bytes: size(wire),
        }
    }
}

/// Compresses a section for travel.
pub fn pack(section: &Section) -> Packed {
    let wire = deflate(&section.raw);
    Packed {
        reference: section.travelling_as(&wire),
        wire,
    }
}

fn size(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Decompresses a section as it arrived. Nothing is decompressed but what the signed manifest names, and never to
/// more than it says.
pub fn unpack(reference: &SectionRef, wire: &[u8]) -> Result<Bytes, SectionError> {
    is_content(wire, reference.wire_bytes, reference.wire_digest)?;
    let raw = inflate(wire, u64::from(reference.raw_bytes)).ok_or(SectionError::Compression)?;
    is_content(&raw, reference.raw_bytes, reference.digest)?;
    Ok(raw.into())
}

fn is_content(bytes: &[u8], expected_bytes: u32, expected: Digest) -> Result<(), SectionError> {
    if size(bytes) != expected_bytes {
        return Err(SectionError::Size {
            found: bytes.len(),
            expected: expected_bytes,
        });
    }
    let found = sha256(bytes);
    if found != expected {
        return Err(SectionError::Digest { found, expected });
    }
    Ok(())
}

/// The digest of a revision: of its sections' buckets and digests alone, so that equal content has an equal name.
pub fn revision_digest(sections: &[SectionRef]) -> Digest {
    let parts: Vec<[u8; 36]> = sections
        .iter()
        .map(|section| {
            let mut part = [0; 36];
            let (bucket, digest) = part.split_at_mut(4);
            bucket.copy_from_slice(&section.bucket.to_be_bytes());
            digest.copy_from_slice(&section.digest.0);
            part
        })
        .collect();
    labelled("sluice/revision/v1", parts.iter().map(<[u8; 36]>::as_slice))
}

/// The digest of what one object means: by it, changes are told and contents are held back.
pub fn unit_digest(key: &ObjectKey, unit: &Unit) -> Digest {
    labelled("sluice/unit/v1", [entry_to(key, unit).encode_to_vec().as_slice()])
}

/// Why sections do not make up the configuration that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A section is not there.
    #[error("section {0:#}… is missing")]
    Missing(Digest),
    /// A section is not what the manifest names.
    #[error("section of bucket {bucket}: {error}")]
    Section {
        /// Which.
        bucket: u32,
        /// What is wrong.
        error: SectionError,
    },
    /// A section cannot be decoded.
    #[error("section of bucket {bucket}: {error}")]
    Decode {
        /// Which.
        bucket: u32,
        /// What is wrong.
        error: DecodeError,
    },
    /// A unit is where it does not belong.
    #[error("{object} is in the section of bucket {found}, but belongs to {expected}")]
    Bucket {
        /// Which object.
        object: ObjectKey,
        /// Where it is.
        found: u32,
        /// Where it belongs.
        expected: u32,
    },
}

/// The configuration that `manifest` names, from its sections as encoded (not as they travel), looked up by digest.
///
/// Sizes and digests are checked again, so that sections may come from a disk. Objects cannot occur twice: within a
/// section keys ascend, and no object belongs to two buckets.
pub fn assemble(manifest: &Manifest, raw: impl Fn(&Digest) -> Option<Bytes>) -> Result<Config, AssembleError> {
    let mut config = Config::default();
    for section in &manifest.sections {
        let bucket = section.bucket;
        let raw = raw(&section.digest).ok_or(AssembleError::Missing(section.digest))?;
        is_content(&raw, section.raw_bytes, section.digest)
            .map_err(|error| AssembleError::Section { bucket, error })?;
        for (object, unit) in decode(&raw).map_err(|error| AssembleError::Decode { bucket, error })? {
            let expected = bucket_of(&object);
            if expected != bucket {
                return Err(AssembleError::Bucket {
                    object,
                    found: bucket,
                    expected,
                });
            }
            config.units.insert(object, unit);
        }
    }
    Ok(config)
}

impl Wire for SectionRef {
    type Proto = pb::SectionRef;

    fn to_proto(&self) -> pb::SectionRef {
        let Self {
            bucket,
            digest,
            raw_bytes,
            wire_digest,
            wire_bytes,
        } = self;
        pb::SectionRef {
            bucket: *bucket,
            digest: digest_to(digest),
            raw_bytes: *raw_bytes,
            wire_digest: digest_to(wire_digest),
            wire_bytes: *wire_bytes,
        }
    }

    fn from_proto(proto: pb::SectionRef) -> Result<Self, DecodeError> {
        let pb::SectionRef {
            bucket,
            digest,
            raw_bytes,
            wire_digest,
            wire_bytes,
        } = proto;
        if bucket >= SECTION_BUCKETS {
            return Err(wrong("bucket", format!("{bucket} is out of range")));
        }
        for (field, bytes) in [("raw_bytes", raw_bytes), ("wire_bytes", wire_bytes)] {
            if usize::try_from(bytes).map_or(true, |bytes| bytes > MAX_SECTION_BYTES) {
                return Err(wrong(field, format!("{bytes} is more than {MAX_SECTION_BYTES}")));
            }
        }
        Ok(Self {
            bucket,
            digest: digest_from("digest", &digest)?,
            raw_bytes,
            wire_digest: digest_from("wire_digest", &wire_digest)?,
            wire_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::wrong as field_error;
    use proptest::prelude::*;
    use sluice_model::RevisionId;
    use sluice_model::arbitrary::snapshots;
    use sluice_model::unit::PoolUnit;
    use std::collections::HashMap;

    fn manifest_of(sections: Vec<SectionRef>) -> Manifest {
        let digest = revision_digest(&sections);
        Manifest {
            cluster: "c".parse().unwrap(),
            fleet: "f".parse().unwrap(),
            revision: RevisionId { number: 1, digest },
            sections,
            features: vec![],
            controller_build: String::new(),
            created_at_unix_ms: 0,
            quarantined: vec![],
        }
    }

    fn pool(key: &str) -> Entry {
        let unit = Arc::new(Unit::Pool(PoolUnit::of_endpoints(vec![])));
        Entry {
            key: key.parse().unwrap(),
            unit,
        }
    }

    fn section(entries: Vec<Entry>) -> Section {
        let bucket = bucket_of(&entries[0].key);
        encode_one(bucket, entries).unwrap()
    }

    #[test]
    fn buckets_are_fixed_for_ever() {
        // Changing these moves every object to another section: never.
        let check = |key: &str, bucket: u32| assert_eq!(bucket_of(&key.parse().unwrap()), bucket, "{key}");
        check("ProxyRoute shop/api", 37);
        check("Pool shop/api", 169);
    }

    #[test]
    fn what_arrives_is_bounded_and_named_by_the_manifest() {
        let packed = pack(&section(vec![pool("Pool a/b")]));
        let check = |change: fn(&mut SectionRef), wire: &[u8], expected: &str| {
            let mut reference = packed.reference;
            change(&mut reference);
            let result = unpack(&reference, wire).map_err(|error| error.to_string());
            assert!(
                result.as_ref().is_err_and(|error| error.contains(expected)),
                "{result:?} {expected}"
            );
        };
        assert!(unpack(&packed.reference, &packed.wire).is_ok());
        let mut other = packed.wire.to_vec();
        other[0] ^= 1;
        check(|_| (), &other, "digest");
        check(|_| (), &packed.wire[1..], "bytes where the manifest says");
        check(
            |reference| reference.raw_bytes -= 1,
            &packed.wire,
            "bytes where the manifest says",
        );
        check(|reference| reference.digest.0[0] ^= 1, &packed.wire, "digest");
    }

    #[test]
    fn a_bomb_is_cut_off_at_the_size_that_was_signed() {
        let zeros = Section {
            bucket: 0,
            digest: sha256(&[0]),
            raw: Bytes::from(vec![0; 3 << 20]),
        };
        let mut packed = pack(&zeros);
        assert!(packed.wire.len() < 10_000);
        packed.reference.raw_bytes = 100;
        let error = unpack(&packed.reference, &packed.wire).unwrap_err();
        assert_eq!(
            error,
            SectionError::Size {
                found: 101,
                expected: 100
            }
        );
    }

    #[test]
    fn not_deflate_is_refused() {
        let wire = [0xff; 20];
        let reference = SectionRef {
            bucket: 0,
            digest: sha256(b""),
            raw_bytes: 0,
            wire_digest: sha256(&wire),
            wire_bytes: 20,
        };
        assert_eq!(unpack(&reference, &wire), Err(SectionError::Compression));
    }

    #[test]
    fn sections_hold_ascending_keys_and_never_none() {
        let encode = |entries: Vec<Entry>| Entries(entries).encode();
        assert_eq!(
            decode(&encode(vec![])),
            Err(field_error("entries", "an empty section is left out"))
        );
        for entries in [
            vec![pool("Pool a/b"), pool("Pool a/a")],
            vec![pool("Pool a/a"), pool("Pool a/a")],
        ] {
            assert!(decode(&encode(entries)).is_err());
        }
    }

    #[test]
    fn assembling_refuses_what_is_missing_other_or_misplaced() {
        let good = section(vec![pool("Pool a/b")]);
        let reference = pack(&good).reference;
        let manifest = manifest_of(vec![reference]);
        assert_eq!(assemble(&manifest, |_| None), Err(AssembleError::Missing(good.digest)));
        let other = Bytes::from_static(b"other");
        let error = assemble(&manifest, |_| Some(other.clone())).unwrap_err();
        assert!(matches!(error, AssembleError::Section { .. }), "{error}");
        let elsewhere = SectionRef {
            bucket: (reference.bucket + 1) % SECTION_BUCKETS,
            ..reference
        };
        let error = assemble(&manifest_of(vec![elsewhere]), |_| Some(good.raw.clone())).unwrap_err();
        assert!(matches!(error, AssembleError::Bucket { .. }), "{error}");
        let junk = Bytes::from_static(&[0xff]);
        let junk_ref = SectionRef {
            digest: sha256(&junk),
            raw_bytes: 1,
            ..reference
        };
        let error = assemble(&manifest_of(vec![junk_ref]), |_| Some(junk.clone())).unwrap_err();
        assert!(matches!(error, AssembleError::Decode { .. }), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn a_snapshot_arrives_as_it_was_sent(snapshot in snapshots(8)) {
            let sections = encode(&snapshot).unwrap();
            let packed: Vec<_> = sections.iter().map(pack).collect();
            let mut held = HashMap::new();
            for packed in &packed {
                held.insert(packed.reference.digest, unpack(&packed.reference, &packed.wire).unwrap());
            }
            let manifest = manifest_of(packed.iter().map(|packed| packed.reference).collect());
            let config = assemble(&manifest, |digest| held.get(digest).cloned()).unwrap();
            prop_assert_eq!(&config, snapshot.config());
            prop_assert_eq!(encode(&Snapshot::check(config).unwrap()).unwrap(), sections);
        }

        #[test]
        fn equal_content_has_an_equal_name_and_other_content_another(
            one in snapshots(4), other in snapshots(4),
        ) {
            let name = |snapshot: &Snapshot| {
                let sections = encode(snapshot).unwrap();
                let references: Vec<_> = sections.iter().map(|section| pack(section).reference).collect();
                revision_digest(&references)
            };
            // In another order of insertion.
            let reversed: Config = one.config().units.clone().into_iter().rev().collect();
            prop_assert_eq!(name(&one), name(&Snapshot::check(reversed).unwrap()));
            prop_assert_eq!(name(&one) == name(&other), one == other);
        }

        #[test]
        fn a_changed_object_changes_its_digest_and_one_section(snapshot in snapshots(6)) {
            let before = encode(&snapshot).unwrap();
            let (key, unit) = snapshot.routes().map(|(key, route)| (key.clone(), route.clone())).next()
                .map_or_else(|| (None, None), |(key, unit)| (Some(key), Some(unit)));
            let (Some(key), Some(mut unit)) = (key, unit) else { return Ok(()) };
            let old = unit_digest(&key, &Unit::Route(unit.clone()));
            unit.created_at_seconds = Some(unit.created_at_seconds.map_or(7, |at| at ^ 1));
            prop_assert_ne!(old, unit_digest(&key, &Unit::Route(unit.clone())));
            let mut config = snapshot.into_config();
            config.insert(key.clone(), Unit::Route(unit));
            let after = encode(&Snapshot::check(config).unwrap()).unwrap();
            let changed: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| a.bucket).collect();
            prop_assert_eq!(changed, vec![bucket_of(&key)]);
        }

        #[test]
        fn a_section_with_a_flipped_bit_is_other_content_or_refused(
            snapshot in snapshots(2), at in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let section = &encode(&snapshot).unwrap()[0];
            let original = decode(&section.raw).unwrap();
            let mut raw = section.raw.to_vec();
            let at = at.index(raw.len());
            raw[at] ^= 1 << bit;
            if let Ok(decoded) = decode(&raw) {
                prop_assert_ne!(&decoded, &original);
            }
            prop_assert!(decode(&section.raw[..at]).map_or(true, |decoded| decoded != original));
        }
    }
}
