//! The fleet's record on disk: `record.json`, with a version that every write counts up. Whoever writes says which
//! version it read; if another was written since, the write is refused, and nothing that would follow is sent.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::durable::{self, Access};
use crate::rollout::Record;

/// How the file is laid out; a newer controller may write another.
const FORMAT: u32 = 1;

/// Counts the writes of a record; 0 is "there is none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file system.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else is in the file.
    #[error("{path}: is not a record: {what}; restore it from a backup, or remove it: then the controller asks the instances what is stable", path = .path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Why a record was not written. Nothing that depends on it may be sent.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else wrote since it was read.
    #[error("the record on disk is at version {}, not at {} (0: there is none): another controller wrote it, or it was removed or put back", .found.0, .expected.0)]
    Stale {
        /// What the writer had read.
        expected: Version,
        /// What is there.
        found: Version,
    },
    /// It cannot be told what is there.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file system.
    #[error("{path}: cannot be written: {source}", path = .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    version: Version,
    record: &'a Record,
}

#[derive(Deserialize)]
struct Read {
    format: u32,
    version: Version,
    record: Record,
}

/// Where one fleet's record is kept.
#[derive(Clone, Debug)]
pub struct RecordFile {
    path: PathBuf,
    lock: PathBuf,
}

impl RecordFile {
    /// The record in the folder `dir`, which exists.
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("record.json"),
            lock: dir.join("record.lock"),
        }
    }

    /// The record and its version; `None` if there is none.
    ///
    /// # Errors
    /// A record that is there but cannot be read is an error, never "none".
    pub fn load(&self) -> Result<Option<(Record, Version)>, LoadError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(LoadError::File {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        let read: Read = serde_json::from_slice(&bytes).map_err(|error| self.corrupt(&error))?;
        if read.format != FORMAT {
            return Err(self.corrupt(&format!("format {} is not known to this build", read.format)));
        }
        Ok(Some((read.record, read.version)))
    }

    /// Writes `record` if what is there is still at `expected`, and gives its new version.
    ///
    /// # Errors
    /// [`CommitError::Stale`] if somebody else wrote since; nothing changed then, nor after any other error.
    pub fn commit(&self, expected: Version, record: &Record) -> Result<Version, CommitError> {
        let failed = |source| CommitError::File {
            path: self.path.clone(),
            source,
        };
        let lock = File::create(&self.lock).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let found = self.load()?.map_or(Version::default(), |(_, version)| version);
        if found != expected {
            return Err(CommitError::Stale { expected, found });
        }
        let version = Version(expected.0.saturating_add(1));
        let written = Written {
            format: FORMAT,
            version,
            record,
        };
        let bytes = serde_json::to_vec(&written).map_err(|error| failed(error.into()))?;
        durable::write(&self.path, &bytes, Access::Everybody).map_err(failed)?;
        Ok(version)
    }

    fn corrupt(&self, what: &dyn std::fmt::Display) -> LoadError {
        LoadError::Corrupt {
            path: self.path.clone(),
            what: what.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Beginning, Plan};

    fn record(epoch: u64) -> Record {
        let mut record = Record::new("edge".parse().unwrap(), Plan::built_in(), Beginning::NewFleet);
        record.epoch = epoch;
        record
    }

    #[test]
    fn a_stale_writer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (RecordFile::new(dir.path()), RecordFile::new(dir.path()));
        assert!(one.load().unwrap().is_none());
        let first = one.commit(Version(0), &record(1)).unwrap();
        let (read, seen) = other.load().unwrap().unwrap();
        assert_eq!((read.epoch, seen), (1, first));
        one.commit(first, &record(2)).unwrap();
        let refused = other.commit(seen, &record(3)).unwrap_err();
        assert!(matches!(refused, CommitError::Stale { .. }), "{refused}");
        assert_eq!(one.load().unwrap().unwrap().0.epoch, 2);
    }

    #[test]
    fn a_lost_record_is_noticed_by_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let file = RecordFile::new(dir.path());
        let version = file.commit(Version(0), &record(1)).unwrap();
        fs::remove_file(dir.path().join("record.json")).unwrap();
        assert!(matches!(
            file.commit(version, &record(2)),
            Err(CommitError::Stale { .. })
        ));
    }

    #[test]
    fn what_is_no_record_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("record.json"), "{\"format\":1,").unwrap();
        let said = RecordFile::new(dir.path()).load().unwrap_err().to_string();
        assert!(said.contains("restore it from a backup"), "{said}");
        fs::write(dir.path().join("record.json"), "").unwrap();
        assert!(RecordFile::new(dir.path()).commit(Version(0), &record(1)).is_err());
    }
}
