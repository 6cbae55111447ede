//! Pieces: what revisions consist of, as they are kept. A piece never changes. Sections and origins are named by what they
//! hold, manifests by their revision.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use sluice_model::{Digest, RevisionId};

/// One piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Units of some revisions.
    Section {
        /// Of what it holds.
        digest: Digest,
        /// As it travels.
        wire: Bytes,
    },
    /// Where some objects of some revisions came from.
    Origins {
        /// Of what it holds.
        digest: Digest,
        /// Compressed.
        wire: Bytes,
    },
    /// What makes a revision out of sections.
    Manifest {
        /// Of which revision.
        name: ManifestName,
        /// As it was signed.
        envelope: Bytes,
        /// Where the revision came from, as it was signed; a manifest that was handed back comes without.
        provenance: Option<Bytes>,
    },
}

/// Names a piece.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PieceName {
    /// A section, by the digest of what it holds.
    Section(Digest),
    /// Origins, by the digest of what they hold.
    Origins(Digest),
    /// A manifest.
    Manifest(ManifestName),
}

/// Names a manifest: the revision's number and the first digits of its digest, `42-c01d9a3f`. In the order of numbers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ManifestName {
    /// The revision's number.
    pub number: u64,
    /// Of its digest.
    short: String,
}

impl Piece {
    /// Its name.
    pub fn name(&self) -> PieceName {
        match self {
            Self::Section { digest, .. } => PieceName::Section(*digest),
            Self::Origins { digest, .. } => PieceName::Origins(*digest),
            Self::Manifest { name, .. } => PieceName::Manifest(name.clone()),
        }
    }

    /// Whether `other`, which somebody else kept under the same name, will do as well. Content may be packed in several
    /// ways; of a manifest only the same bytes will do.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Section { digest, .. }, Self::Section { wire, .. })
            | (Self::Origins { digest, .. }, Self::Origins { wire, .. }) => {
                sluice_proto::content_digest(wire) == Some(*digest)
            }
            (Self::Manifest { envelope, .. }, Self::Manifest { envelope: theirs, .. }) => envelope == theirs,
            (Self::Section { .. } | Self::Origins { .. } | Self::Manifest { .. }, _) => false,
        }
    }
}

impl From<&RevisionId> for ManifestName {
    fn from(revision: &RevisionId) -> Self {
        Self {
            number: revision.number,
            short: revision.digest.short(),
        }
    }
}

impl fmt::Display for ManifestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.short)
    }
}

/// Not the name of a manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is not written as NUMBER-DIGITS")]
pub struct NoManifestName;

impl FromStr for ManifestName {
    type Err = NoManifestName;

    fn from_str(text: &str) -> Result<Self, NoManifestName> {
        let (number, short) = text.split_once('-').ok_or(NoManifestName)?;
        let is_hex = !short.is_empty() && short.bytes().all(|byte| byte.is_ascii_hexdigit());
        match number.parse() {
            Ok(number) if is_hex => Ok(Self {
                number,
                short: short.to_owned(),
            }),
            Ok(_) | Err(_) => Err(NoManifestName),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_named_as_people_see_revisions() {
        let revision = RevisionId {
            number: 42,
            digest: Digest([0xc0; 32]),
        };
        let name = ManifestName::from(&revision);
        assert_eq!(name.to_string(), revision.to_string());
        assert_eq!(name.to_string().parse(), Ok(name));
        for wrong in ["42", "-c0", "x-c0c0c0c0", "42-", "42-c0-c0", "42-xyz"] {
            assert_eq!(wrong.parse::<ManifestName>(), Err(NoManifestName), "{wrong}");
        }
        let names = ["9-aa", "10-bb"].map(|name| name.parse::<ManifestName>().unwrap());
        assert!(names[0] < names[1]);
    }
}
