//! The manifest of a revision: what it is made of and what it needs. What it changes and where it came from stands in its
//! [`crate::Provenance`], which instances have no use for.

use sluice_model::limits::{MAX_REVISION_BYTES, MAX_UNITS};
use sluice_model::{ClusterId, FleetName, ObjectKey, RevisionId};

use crate::canonical::{DecodeError, Wire, ascending, each, wrong};
use crate::identity::{key_from, key_to, revision_in, revision_to, text};
use crate::pb;
use crate::sections::{SectionRef, revision_digest};

/// Everything about one revision but its sections. Lists are in ascending order of their first field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// For which installation.
    pub cluster: ClusterId,
    /// For which fleet.
    pub fleet: FleetName,
    /// Its number, and the digest of its sections.
    pub revision: RevisionId,
    /// Its sections, by bucket.
    pub sections: Vec<SectionRef>,
    /// What an instance has to understand. Names, since they may be newer than this build.
    pub features: Vec<String>,
    /// Which controller made it.
    pub controller_build: String,
    /// When, in milliseconds since 1970 by the controller's clock.
    pub created_at_unix_ms: u64,
    /// Objects with an error, whose last good form, or nothing, is in here.
    pub quarantined: Vec<ObjectKey>,
}

impl Wire for Manifest {
    type Proto = pb::Manifest;

    fn to_proto(&self) -> pb::Manifest {
        let Self {
            cluster,
            fleet,
            revision,
            sections,
            features,
            controller_build,
            created_at_unix_ms,
            quarantined,
        } = self;
        pb::Manifest {
            cluster: cluster.to_string(),
            fleet: fleet.to_string(),
            revision: Some(revision_to(revision)),
            sections: sections.iter().map(SectionRef::to_proto).collect(),
            features: features.clone(),
            controller_build: controller_build.clone(),
            created_at_unix_ms: *created_at_unix_ms,
            quarantined: quarantined.iter().map(key_to).collect(),
        }
    }

    fn from_proto(proto: pb::Manifest) -> Result<Self, DecodeError> {
        let pb::Manifest {
            cluster,
            fleet,
            revision,
            sections,
            features,
            controller_build,
            created_at_unix_ms,
            quarantined,
        } = proto;
        let manifest = Self {
            cluster: text("cluster", &cluster)?,
            fleet: text("fleet", &fleet)?,
            revision: revision_in("revision", revision)?,
            sections: each("sections", sections, SectionRef::from_proto)?,
            features,
            controller_build,
            created_at_unix_ms,
            quarantined: each("quarantined", quarantined, key_from)?,
        };
        manifest.check_sections()?;
        manifest.check_lists()?;
        Ok(manifest)
    }
}

impl Manifest {
    fn check_sections(&self) -> Result<(), DecodeError> {
        let buckets: Vec<_> = self.sections.iter().map(|section| section.bucket).collect();
        ascending("sections", &buckets)?;
        let bytes = self
            .sections
            .iter()
            .map(|section| u64::from(section.raw_bytes))
            .sum::<u64>();
        if usize::try_from(bytes).map_or(true, |bytes| bytes > MAX_REVISION_BYTES) {
            return Err(wrong(
                "sections",
                format!("{bytes} bytes together, more than {MAX_REVISION_BYTES}"),
            ));
        }
        let found = revision_digest(&self.sections);
        if found != self.revision.digest {
            let expected = self.revision.digest.short();
            return Err(wrong(
                "revision.digest",
                format!("{expected} is not the digest of its sections, {found:#}"),
            ));
        }
        Ok(())
    }

    fn check_lists(&self) -> Result<(), DecodeError> {
        ascending("quarantined", &self.quarantined)?;
        if self.quarantined.len() > MAX_UNITS {
            let entries = self.quarantined.len();
            return Err(wrong(
                "quarantined",
                format!("{entries} entries, more than {MAX_UNITS}"),
            ));
        }
        ascending("features", &self.features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::canonical::strict_decode;
    use crate::hash::sha256;
    use proptest::prelude::*;

    fn section(bucket: u32, raw_bytes: u32) -> SectionRef {
        let digest = sha256(&bucket.to_be_bytes());
        SectionRef {
            bucket,
            digest,
            raw_bytes,
            wire_digest: digest,
            wire_bytes: 1,
        }
    }

    fn manifest(sections: Vec<SectionRef>) -> Manifest {
        let digest = revision_digest(&sections);
        Manifest {
            cluster: "c-1".parse().unwrap(),
            fleet: "edge".parse().unwrap(),
            revision: RevisionId { number: 3, digest },
            sections,
            features: vec!["a/v1".to_owned(), "b/v1".to_owned()],
            controller_build: String::new(),
            created_at_unix_ms: 0,
            quarantined: vec![],
        }
    }

    fn check(manifest: &Manifest, refused: Option<&str>) {
        let field = match strict_decode::<Manifest>(&manifest.encode(), 1 << 20) {
            Ok(decoded) => {
                assert_eq!(&decoded, manifest);
                None
            }
            Err(DecodeError::Field { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(field.as_deref(), refused);
    }

    #[test]
    fn sections_ascend_and_are_bounded() {
        check(&manifest(vec![section(0, 9), section(255, 9)]), None);
        check(&manifest(vec![section(1, 9), section(0, 9)]), Some("sections"));
        check(&manifest(vec![section(1, 9), section(1, 9)]), Some("sections"));
        check(&manifest(vec![section(256, 9)]), Some("sections[0].bucket"));
        check(
            &manifest(vec![section(0, (4 << 20) + 1)]),
            Some("sections[0].raw_bytes"),
        );
        // Each is of an allowed size; together 64 are exactly 256 MiB.
        check(
            &manifest((0..64).map(|bucket| section(bucket, 4 << 20)).collect()),
            None,
        );
        check(
            &manifest((0..65).map(|bucket| section(bucket, 4 << 20)).collect()),
            Some("sections"),
        );
    }

    #[test]
    fn its_digest_is_that_of_its_sections() {
        let mut wrong = manifest(vec![section(0, 9)]);
        wrong.revision.digest = revision_digest(&[section(1, 9)]);
        check(&wrong, Some("revision.digest"));
    }

    #[test]
    fn lists_are_sets() {
        let (a, b): (ObjectKey, ObjectKey) = ("Pool a/a".parse().unwrap(), "Pool a/b".parse().unwrap());
        let base = || manifest(vec![section(0, 9)]);
        check(
            &Manifest {
                quarantined: vec![a.clone(), b.clone()],
                ..base()
            },
            None,
        );
        check(
            &Manifest {
                quarantined: vec![b.clone(), a.clone()],
                ..base()
            },
            Some("quarantined"),
        );
        check(
            &Manifest {
                features: vec!["b".into(), "a".into()],
                ..base()
            },
            Some("features"),
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn decodes_to_what_was_encoded(manifest in arbitrary::manifests()) {
            prop_assert_eq!(strict_decode::<Manifest>(&manifest.encode(), 1 << 20), Ok(manifest));
        }
    }
}
