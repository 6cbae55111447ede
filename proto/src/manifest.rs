//! The manifest of a revision: what it is made of, what it needs, what it changes and where it came from.

use sluice_model::limits::{MAX_REVISION_BYTES, MAX_UNITS};
use sluice_model::{ClusterId, Digest, FleetName, ObjectKey, RevisionId};

use crate::canonical::{DecodeError, Wire, ascending, each, wrong};
use crate::identity::{digest_from, digest_to, key_from, key_in, key_to, revision_in, revision_to, text};
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
    /// What differs from the revision that was stable when this one was made.
    pub changed: Vec<ObjectChange>,
    /// Where each object came from.
    pub sources: Vec<SourceRef>,
    /// Which controller made it.
    pub controller_build: String,
    /// When, in milliseconds since 1970 by the controller's clock.
    pub created_at_unix_ms: u64,
    /// Objects with an error, whose last good form, or nothing, is in here.
    pub quarantined: Vec<ObjectKey>,
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

/// Where one object came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceRef {
    /// Which.
    pub object: ObjectKey,
    /// `unit_digest` of what it means: by the same digest contents are held back.
    pub content: Digest,
    /// The file, or the resourceVersion.
    pub origin: String,
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
            changed,
            sources,
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
            changed: changed.iter().map(change_to).collect(),
            sources: sources.iter().map(source_to).collect(),
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
            changed,
            sources,
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
            changed: each("changed", changed, change_from)?,
            sources: each("sources", sources, source_from)?,
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
        let changed: Vec<_> = self.changed.iter().map(|change| &change.object).collect();
        let sources: Vec<_> = self.sources.iter().map(|source| &source.object).collect();
        let quarantined: Vec<_> = self.quarantined.iter().collect();
        // Twice the units: every object of stable may be gone and as many new ones there.
        for (field, objects, max) in [
            ("changed", changed, 2 * MAX_UNITS),
            ("sources", sources, MAX_UNITS),
            ("quarantined", quarantined, MAX_UNITS),
        ] {
            ascending(field, &objects)?;
            if objects.len() > max {
                return Err(wrong(field, format!("{} entries, more than {max}", objects.len())));
            }
        }
        ascending("features", &self.features)
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

fn source_to(source: &SourceRef) -> pb::SourceRef {
    let SourceRef {
        object,
        content,
        origin,
    } = source;
    pb::SourceRef {
        object: Some(key_to(object)),
        content: digest_to(content),
        origin: origin.clone(),
    }
}

fn source_from(source: pb::SourceRef) -> Result<SourceRef, DecodeError> {
    let pb::SourceRef {
        object,
        content,
        origin,
    } = source;
    Ok(SourceRef {
        object: key_in("object", object)?,
        content: digest_from("content", &content)?,
        origin,
    })
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
            changed: vec![],
            sources: vec![],
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
        let change = |object: &ObjectKey| ObjectChange {
            object: object.clone(),
            old: None,
            new: Some(sha256(b"")),
        };
        check(
            &Manifest {
                changed: vec![change(&a), change(&b)],
                ..base()
            },
            None,
        );
        check(
            &Manifest {
                changed: vec![change(&a), change(&a)],
                ..base()
            },
            Some("changed"),
        );
        let nothing = ObjectChange {
            new: None,
            ..change(&a)
        };
        check(
            &Manifest {
                changed: vec![nothing],
                ..base()
            },
            Some("changed[0].new"),
        );
        let source = |object: &ObjectKey| SourceRef {
            object: object.clone(),
            content: sha256(b""),
            origin: "f".into(),
        };
        check(
            &Manifest {
                sources: vec![source(&b), source(&a)],
                ..base()
            },
            Some("sources"),
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
