//! Pieces of one fleet as files. Knows where they lie, not what they mean.
//!
//! ```text
//!   manifests/42-c01d9a3f.dsse    provenance/42-c01d9a3f.dsse    sections/DIGEST    origins/DIGEST
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::piece::{ManifestName, Piece, PieceName};
use crate::durable::{self, Access};

const SECTIONS: &str = "sections";
const ORIGINS: &str = "origins";
const MANIFESTS: &str = "manifests";
const PROVENANCE: &str = "provenance";

/// A file that could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = .path.display())]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The pieces of one fleet.
#[derive(Clone, Debug)]
pub struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Those in the folder `dir`, which is made if need be. What a crash left half written is swept.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn open(dir: &Path) -> Result<Self, FileError> {
        for name in [SECTIONS, ORIGINS, MANIFESTS, PROVENANCE] {
            let folder = dir.join(name);
            fs::create_dir_all(&folder).map_err(at(&folder))?;
            durable::sweep_temporaries(&folder);
        }
        durable::sweep_temporaries(dir);
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where a piece lies, or would.
    pub fn path(&self, name: &PieceName) -> PathBuf {
        match name {
            PieceName::Section(digest) => self.dir.join(SECTIONS).join(digest.to_string()),
            PieceName::Origins(digest) => self.dir.join(ORIGINS).join(digest.to_string()),
            PieceName::Manifest(name) => self.dir.join(MANIFESTS).join(format!("{name}.dsse")),
        }
    }

    fn provenance_path(&self, name: &ManifestName) -> PathBuf {
        self.dir.join(PROVENANCE).join(format!("{name}.dsse"))
    }

    /// Writes a piece. A manifest comes after its provenance: what is there is all there.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn write(&self, piece: &Piece) -> Result<(), FileError> {
        let path = self.path(&piece.name());
        match piece {
            Piece::Section { wire, .. } | Piece::Origins { wire, .. } => write(&path, wire),
            Piece::Manifest {
                name,
                envelope,
                provenance,
            } => {
                if let Some(provenance) = provenance {
                    write(&self.provenance_path(name), provenance)?;
                }
                write(&path, envelope)
            }
        }
    }

    /// A piece; `None` if it is not here.
    ///
    /// # Errors
    /// When it is here and cannot be read.
    pub fn read(&self, name: &PieceName) -> Result<Option<Piece>, FileError> {
        let Some(bytes) = read(&self.path(name))? else {
            return Ok(None);
        };
        Ok(Some(match name {
            PieceName::Section(digest) => Piece::Section {
                digest: *digest,
                wire: bytes,
            },
            PieceName::Origins(digest) => Piece::Origins {
                digest: *digest,
                wire: bytes,
            },
            PieceName::Manifest(name) => Piece::Manifest {
                name: name.clone(),
                envelope: bytes,
                provenance: read(&self.provenance_path(name))?,
            },
        }))
    }

    /// The bytes of a section, origins or a manifest's envelope; `None` if it is not here.
    ///
    /// # Errors
    /// When it is here and cannot be read.
    pub fn bytes(&self, name: &PieceName) -> Result<Option<Bytes>, FileError> {
        read(&self.path(name))
    }

    /// Removes a piece; one that is not here is removed already.
    ///
    /// # Errors
    /// When it could not be removed.
    pub fn remove(&self, name: &PieceName) -> Result<(), FileError> {
        remove(&self.path(name))?;
        match name {
            PieceName::Manifest(name) => remove(&self.provenance_path(name)),
            PieceName::Section(_) | PieceName::Origins(_) => Ok(()),
        }
    }

    /// The manifests that are here.
    ///
    /// # Errors
    /// When the folder cannot be listed from end to end.
    pub fn manifests(&self) -> Result<BTreeSet<ManifestName>, FileError> {
        let names = list(&self.dir.join(MANIFESTS))?;
        let names = names.iter().filter_map(|name| name.strip_suffix(".dsse"));
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// Everything that is here.
    ///
    /// # Errors
    /// When a folder cannot be listed from end to end.
    pub fn pieces(&self) -> Result<BTreeSet<PieceName>, FileError> {
        let digests = |folder: &str| -> Result<Vec<_>, FileError> {
            let names = list(&self.dir.join(folder))?;
            Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
        };
        let sections = digests(SECTIONS)?.into_iter().map(PieceName::Section);
        let origins = digests(ORIGINS)?.into_iter().map(PieceName::Origins);
        let manifests = self.manifests()?.into_iter().map(PieceName::Manifest);
        Ok(sections.chain(origins).chain(manifests).collect())
    }
}

fn list(folder: &Path) -> Result<Vec<String>, FileError> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.collect::<Result<_, _>>().map_err(at(folder))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    durable::write(path, bytes, Access::Everybody).map_err(at(path))
}

fn read(path: &Path) -> Result<Option<Bytes>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(at(path)(source)),
    }
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::Digest;

    #[test]
    fn pieces_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let digest = Digest([7; 32]);
        let wire = Bytes::from_static(b"wire");
        let manifest = |number: u64, provenance| Piece::Manifest {
            name: format!("{number}-c01d9a3f").parse().unwrap(),
            envelope: Bytes::from_static(b"signed"),
            provenance,
        };
        let pieces = [
            Piece::Section {
                digest,
                wire: wire.clone(),
            },
            Piece::Origins { digest, wire },
            manifest(1, None),
            manifest(2, Some(Bytes::from_static(b"whence"))),
        ];
        for piece in &pieces {
            assert_eq!(folder.read(&piece.name()).unwrap(), None);
            folder.write(piece).unwrap();
            assert_eq!(folder.read(&piece.name()).unwrap().as_ref(), Some(piece));
        }
        fs::write(dir.path().join("sections/note.txt"), "not ours").unwrap();
        assert_eq!(folder.pieces().unwrap(), pieces.iter().map(Piece::name).collect());
        for piece in &pieces {
            folder.remove(&piece.name()).unwrap();
            folder.remove(&piece.name()).unwrap();
        }
        assert_eq!(folder.pieces().unwrap(), BTreeSet::new());
        assert_eq!(fs::read_dir(dir.path().join("provenance")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        fs::remove_dir(dir.path().join("sections")).unwrap();
        assert!(folder.pieces().is_err());
        fs::remove_dir(dir.path().join("manifests")).unwrap();
        assert!(folder.manifests().is_err());
    }
}
