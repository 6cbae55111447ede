//! Records and pieces as ConfigMaps: their names, labels and bytes. Nothing here asks the API server.
//!
//! | name | data | |
//! |---|---|---|
//! | `sluice-record-FLEET` | `record`: JSON | replaced, never without the version that was read |
//! | `sluice-manifest-FLEET-NUMBER-DIGITS` | `envelope`, `provenance`: signed | immutable |
//! | `sluice-section-FLEET-DIGITS` | `wire`: as it travels | immutable |
//! | `sluice-origins-FLEET-DIGITS` | `wire`: compressed | immutable |
//!
//! What is not compressed already is compressed by gzip, so that a person can read a record with what is at hand:
//! `kubectl get configmap sluice-record-edge -o jsonpath='{.binaryData.record}' | base64 -d | gunzip`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use sluice_model::FleetName;
use sluice_model::limits::{
    MAX_CONFIG_MAP_BYTES, MAX_ENVELOPE_OVERHEAD_BYTES, MAX_MANIFEST_BYTES, MAX_PROVENANCE_BYTES, MAX_RECORD_BYTES,
};
use sluice_proto::content_digest;

use super::piece::{Piece, PieceName};
use super::remote::RemoteError;

/// Whose objects these are.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "sluice-controller");
/// The label that names the fleet.
pub const FLEET_LABEL: &str = "sluice.dev/fleet";
/// The label that names the [`Part`].
pub const PART_LABEL: &str = "sluice.dev/part";

const RECORD: &str = "record";
const ENVELOPE: &str = "envelope";
const PROVENANCE: &str = "provenance";
const WIRE: &str = "wire";
/// So many hex digits of a digest are in a name: 128 bits tell all contents apart.
const DIGITS: usize = 32;

/// What is in a ConfigMap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// The fleet's record.
    Record,
    /// A manifest, and where its revision came from.
    Manifest,
    /// A section.
    Section,
    /// Where objects came from.
    Origins,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Record, Self::Manifest, Self::Section, Self::Origins];

    /// As in names and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Manifest => "manifest",
            Self::Section => "section",
            Self::Origins => "origins",
        }
    }
}

/// Where a piece of a fleet is kept: the part, and what follows the fleet in its name. Of a section and of origins that is
/// not the whole digest; two of one place are the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// What is there.
    pub part: Part,
    key: String,
}

impl Place {
    /// Of the ConfigMap called `name` of `fleet`; `None` if that is no piece.
    pub fn of_name(fleet: &FleetName, part: Part, name: &str) -> Option<Self> {
        let key = name.strip_prefix(&format!("sluice-{}-{fleet}-", part.as_str()))?;
        let fits = match part {
            Part::Record => false,
            Part::Manifest => key.parse::<super::ManifestName>().is_ok(),
            Part::Section | Part::Origins => key.len() == DIGITS && key.bytes().all(|byte| byte.is_ascii_hexdigit()),
        };
        fits.then(|| Self {
            part,
            key: key.to_owned(),
        })
    }

    /// The name of its ConfigMap.
    pub fn name(&self, fleet: &FleetName) -> String {
        format!("sluice-{}-{fleet}-{}", self.part.as_str(), self.key)
    }
}

impl From<&PieceName> for Place {
    fn from(name: &PieceName) -> Self {
        let digits = |digest: &dyn fmt::Display| digest.to_string().chars().take(DIGITS).collect();
        let (part, key) = match name {
            PieceName::Section(digest) => (Part::Section, digits(digest)),
            PieceName::Origins(digest) => (Part::Origins, digits(digest)),
            PieceName::Manifest(name) => (Part::Manifest, name.to_string()),
        };
        Self { part, key }
    }
}

/// The name of the ConfigMap with the record of `fleet`.
pub fn record_name(fleet: &FleetName) -> String {
    format!("sluice-record-{fleet}")
}

/// The ConfigMap with the record of `fleet`, to be put in place of `version`, or for the first time.
///
/// # Errors
/// When it does not fit.
pub fn of_record(fleet: &FleetName, record: &[u8], version: Option<String>) -> Result<ConfigMap, RemoteError> {
    let name = record_name(fleet);
    let mut object = object(fleet, Part::Record, name, [(RECORD, gzip(record))])?;
    object.metadata.resource_version = version;
    Ok(object)
}

/// The record in a ConfigMap.
///
/// # Errors
/// When there is nothing of ours in it.
pub fn record_in(object: &ConfigMap) -> Result<Vec<u8>, RemoteError> {
    data(object, RECORD)
        .and_then(|bytes| gunzip(bytes, MAX_RECORD_BYTES))
        .ok_or_else(|| damaged(object, "it holds no record"))
}

/// The ConfigMap with a piece.
///
/// # Errors
/// When it does not fit.
pub fn of_piece(fleet: &FleetName, piece: &Piece) -> Result<ConfigMap, RemoteError> {
    let place = Place::from(&piece.name());
    let name = place.name(fleet);
    let mut object = match piece {
        Piece::Section { wire, .. } | Piece::Origins { wire, .. } => {
            object(fleet, place.part, name, [(WIRE, wire.to_vec())])
        }
        Piece::Manifest {
            envelope, provenance, ..
        } => {
            let provenance = provenance.iter().map(|provenance| (PROVENANCE, gzip(provenance)));
            let data = std::iter::once((ENVELOPE, gzip(envelope))).chain(provenance);
            object(fleet, place.part, name, data)
        }
    }?;
    object.immutable = Some(true);
    Ok(object)
}

/// The piece in the ConfigMap of `place`. What is named by its content is checked against the name; a manifest is checked
/// by whoever knows the keys.
///
/// # Errors
/// When there is nothing of ours in it, or something else.
pub fn piece_in(object: &ConfigMap, place: &Place) -> Result<Piece, RemoteError> {
    match place.part {
        Part::Section | Part::Origins => {
            let wire = data(object, WIRE).map(Bytes::copy_from_slice).unwrap_or_default();
            let digest = content_digest(&wire).filter(|digest| digest.to_string().starts_with(&place.key));
            let digest = digest.ok_or_else(|| damaged(object, "it does not hold what its name says"))?;
            Ok(match place.part {
                Part::Origins => Piece::Origins { digest, wire },
                Part::Section | Part::Record | Part::Manifest => Piece::Section { digest, wire },
            })
        }
        Part::Manifest => {
            let unpack = |key: &str, max: usize| {
                let bytes = data(object, key)?;
                gunzip(bytes, max.saturating_add(MAX_ENVELOPE_OVERHEAD_BYTES)).map(Bytes::from)
            };
            let name = place.key.parse().map_err(|error| damaged(object, error))?;
            let envelope =
                unpack(ENVELOPE, MAX_MANIFEST_BYTES).ok_or_else(|| damaged(object, "it holds no manifest"))?;
            Ok(Piece::Manifest {
                name,
                envelope,
                provenance: unpack(PROVENANCE, MAX_PROVENANCE_BYTES),
            })
        }
        Part::Record => Err(damaged(object, "it is no piece of a revision")),
    }
}

fn object<'a>(
    fleet: &FleetName,
    part: Part,
    name: String,
    data: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
) -> Result<ConfigMap, RemoteError> {
    let data: BTreeMap<String, ByteString> = data
        .into_iter()
        .map(|(key, bytes)| (key.to_owned(), ByteString(bytes)))
        .collect();
    let bytes = data.values().map(|ByteString(bytes)| bytes.len()).sum();
    if bytes > MAX_CONFIG_MAP_BYTES {
        return Err(RemoteError::TooLarge { what: name, bytes });
    }
    let (managed_by, us) = MANAGED_BY;
    let labels = [
        (managed_by, us),
        (FLEET_LABEL, fleet.as_str()),
        (PART_LABEL, part.as_str()),
    ];
    Ok(ConfigMap {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        binary_data: Some(data),
        ..ConfigMap::default()
    })
}

fn data<'a>(object: &'a ConfigMap, key: &str) -> Option<&'a [u8]> {
    let ByteString(bytes) = object.binary_data.as_ref()?.get(key)?;
    Some(bytes)
}

fn damaged(object: &ConfigMap, what: impl ToString) -> RemoteError {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    RemoteError::Damaged {
        place: format!("ConfigMap {name}"),
        what: what.to_string(),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory cannot fail; if it did, what is read back would be refused.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// What was compressed, if it is at most `max_bytes` long.
fn gunzip(bytes: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let most = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(bytes).take(most).read_to_end(&mut out).ok()?;
    (out.len() <= max_bytes).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::Digest;
    use sluice_proto::provenance::pack_origins;

    fn fleet() -> FleetName {
        "edge-1".parse().unwrap()
    }

    fn origins() -> Piece {
        let origins = [("Pool a/b".parse().unwrap(), "a.yaml".to_owned())].into();
        let packed = pack_origins(origins).remove(0);
        Piece::Origins {
            digest: packed.reference.digest,
            wire: packed.wire,
        }
    }

    fn manifest(provenance: Option<Bytes>) -> Piece {
        Piece::Manifest {
            name: "42-c01d9a3f".parse().unwrap(),
            envelope: Bytes::from_static(b"signed"),
            provenance,
        }
    }

    #[test]
    fn pieces_come_back_as_they_were_kept() {
        for piece in [origins(), manifest(None), manifest(Some(Bytes::from_static(b"whence")))] {
            let object = of_piece(&fleet(), &piece).unwrap();
            assert_eq!(object.immutable, Some(true));
            let place = Place::from(&piece.name());
            let name = object.metadata.name.clone().unwrap();
            assert_eq!(Place::of_name(&fleet(), place.part, &name), Some(place.clone()));
            assert_eq!(piece_in(&object, &place), Ok(piece));
        }
    }

    #[test]
    fn names_and_labels_are_as_agreed() {
        let object = of_piece(&fleet(), &manifest(None)).unwrap();
        assert_eq!(
            object.metadata.name.as_deref(),
            Some("sluice-manifest-edge-1-42-c01d9a3f")
        );
        let labels = object.metadata.labels.unwrap();
        let expected = [
            ("app.kubernetes.io/managed-by", "sluice-controller"),
            ("sluice.dev/fleet", "edge-1"),
            ("sluice.dev/part", "manifest"),
        ];
        assert_eq!(
            labels,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
        );
        let section = PieceName::Section(Digest([0xab; 32]));
        let name = Place::from(&section).name(&fleet());
        assert_eq!(name, format!("sluice-section-edge-1-{}", "ab".repeat(16)));
        for (part, other) in [
            (Part::Section, "sluice-section-edge-1-abab"),
            (Part::Section, "sluice-section-edge-2-abababababababababababababababab"),
            (Part::Manifest, "sluice-manifest-edge-1-x"),
            (Part::Record, "sluice-record-edge-1"),
        ] {
            assert_eq!(Place::of_name(&fleet(), part, other), None, "{other}");
        }
    }

    #[test]
    fn what_is_not_what_its_name_says_is_damaged() {
        let piece = origins();
        let object = of_piece(&fleet(), &piece).unwrap();
        let other = Place::from(&PieceName::Origins(Digest([7; 32])));
        let said = piece_in(&object, &other).unwrap_err().to_string();
        assert!(said.starts_with("ConfigMap sluice-origins-edge-1-"), "{said}");
        assert!(piece_in(&ConfigMap::default(), &Place::from(&piece.name())).is_err());
        assert!(record_in(&ConfigMap::default()).is_err());
        let bomb = ConfigMap {
            binary_data: Some([(RECORD.to_owned(), ByteString(gzip(&vec![0; MAX_RECORD_BYTES + 1])))].into()),
            ..ConfigMap::default()
        };
        assert!(record_in(&bomb).is_err());
    }

    #[test]
    fn a_record_is_put_in_place_of_a_version() {
        let object = of_record(&fleet(), b"{}", Some("7".to_owned())).unwrap();
        assert_eq!(object.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(record_in(&object).unwrap(), b"{}");
    }

    #[test]
    fn what_does_not_fit_is_said_before_it_is_sent() {
        let piece = Piece::Section {
            digest: Digest([1; 32]),
            wire: vec![0; MAX_CONFIG_MAP_BYTES + 1].into(),
        };
        let said = of_piece(&fleet(), &piece).unwrap_err().to_string();
        assert!(
            said.contains("sluice-section-edge-1-0101") && said.contains("several fleets"),
            "{said}"
        );
    }
}
