//! What was ever signed for, as marks that live and die with the keys: made before the first signature, so that a fleet
//! without a mark is one of which no instance can hold anything valid. Without a record it is then new, and not one whose
//! record was lost.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sluice_model::FleetName;

use crate::api_server::ApiError;
use crate::durable::{self, Access};

/// Why it could not be noted that something is about to be signed: then it is not.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The file system.
    #[error("the keys folder cannot be written: {0}")]
    File(#[from] io::Error),
    /// The keys are in the API server.
    #[error("it cannot be noted at the keys' Secret: {0}")]
    Api(#[from] ApiError),
}

/// The marks of one set of keys.
pub trait Marks: Send + Sync + fmt::Debug {
    /// Whether nothing was ever signed with these keys.
    fn are_unused(&self) -> bool;

    /// Whether nothing was ever signed with them for `fleet`.
    fn never_signed_for(&self, fleet: &FleetName) -> bool;

    /// Whether `fleet` had other keys before these, which are lost: its instances trust those.
    fn are_new_to(&self, fleet: &FleetName) -> bool;

    /// Notes that an instance of `fleet` trusts these keys.
    ///
    /// # Errors
    /// When it cannot be noted.
    fn are_trusted_in(&self, fleet: &FleetName) -> Result<(), MarkError>;

    /// Notes that something is about to be signed for `fleet`.
    ///
    /// # Errors
    /// When it cannot be noted.
    fn note(&self, fleet: &FleetName) -> Result<(), MarkError>;
}

/// Beside the keys in their folder: `unused` stands there until something is signed, and `signed-for` holds a file for
/// each fleet. Keys of a build that did not note fleets may have signed for any.
#[derive(Debug)]
pub(super) struct FileMarks {
    unused: PathBuf,
    signed_for: PathBuf,
}

impl FileMarks {
    /// Of the keys in `dir`.
    pub(super) fn of(dir: &Path) -> Self {
        Self {
            unused: dir.join("unused"),
            signed_for: dir.join("signed-for"),
        }
    }

    /// The keys are being made: nothing can have been signed.
    pub(super) fn begin(&self) -> Result<(), (PathBuf, io::Error)> {
        fs::create_dir_all(&self.signed_for).map_err(|error| (self.signed_for.clone(), error))?;
        let written = durable::write(&self.unused, b"nothing was signed yet\n", Access::Everybody);
        written.map_err(|error| (self.unused.clone(), error))
    }
}

impl Marks for FileMarks {
    fn are_unused(&self) -> bool {
        self.unused.exists()
    }

    fn never_signed_for(&self, fleet: &FleetName) -> bool {
        self.are_unused() || (self.signed_for.is_dir() && !self.signed_for.join(fleet.as_str()).exists())
    }

    // Whoever makes keys in a folder again enrols its instances again.
    fn are_new_to(&self, _: &FleetName) -> bool {
        false
    }

    fn are_trusted_in(&self, _: &FleetName) -> Result<(), MarkError> {
        Ok(())
    }

    fn note(&self, fleet: &FleetName) -> Result<(), MarkError> {
        let mark = self.signed_for.join(fleet.as_str());
        if self.signed_for.is_dir() && !mark.exists() {
            durable::write(&mark, b"", Access::Everybody)?;
        }
        match fs::remove_file(&self.unused) {
            Ok(()) => Ok(self.unused.parent().map_or(Ok(()), durable::sync_folder)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_made_once_for_each_fleet_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let marks = FileMarks::of(dir.path());
        marks.begin().unwrap();
        let [edge, shop]: [FleetName; 2] = ["edge", "shop"].map(|name| name.parse().unwrap());
        assert!(marks.are_unused() && marks.never_signed_for(&edge));
        marks.note(&edge).unwrap();
        marks.note(&edge).unwrap();
        let again = FileMarks::of(dir.path());
        assert!(!again.are_unused() && !again.never_signed_for(&edge) && again.never_signed_for(&shop));
        // As an older build left it.
        fs::remove_dir_all(dir.path().join("signed-for")).unwrap();
        assert!(!again.never_signed_for(&shop), "who knows");
    }
}
