//! The fleet's record as it is kept: a versioned JSON text, in a file of the state folder here, elsewhere if there is a
//! [`super::Remote`]. Whoever writes says which version it read; if another was written since, the write is refused, and
//! nothing that would follow is sent.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::remote::RemoteError;
use crate::durable::{self, Access};
use crate::rollout::Record;

/// How the text is laid out; a newer controller may write another.
const FORMAT: u32 = 1;

/// Which write of a record: what its next writer has to know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// There is no record.
    #[default]
    None,
    /// The so-manieth, from 1: of a file.
    Count(u64),
    /// What the API server calls it: of an object.
    Resource(String),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("0"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Resource(version) => f.write_str(version),
        }
    }
}

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
    /// Where it is kept does not answer, or does not want to.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Something else is there.
    #[error(
        "{place}: is not a record: {what}; restore it from a backup, or remove it: then the controller asks the instances what is stable"
    )]
    Corrupt {
        /// Which file or object.
        place: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Why a record was not written. Nothing that depends on it may be sent.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else wrote since it was read.
    #[error(
        "the record is {found}, not at version {expected} (0: there is none): another controller wrote it, or it was removed or put back"
    )]
    Stale {
        /// What the writer had read.
        expected: Version,
        /// What is there: "at version 7", "gone".
        found: String,
    },
    /// It cannot be told what is there.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Where it is kept does not answer, or does not want to. It may have been written all the same.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The file system.
    #[error("{path}: cannot be written: {source}", path = .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be put in words.
    #[error("the record cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    record: &'a Record,
}

#[derive(Deserialize)]
struct Read {
    format: u32,
    version: Option<u64>,
    record: Record,
}

/// `record` as it is kept where something else counts its versions.
///
/// # Errors
/// When it cannot be put in words.
pub fn encode(record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Written {
        format: FORMAT,
        version: None,
        record,
    })
}

/// The record that was kept as `text` in `place`.
///
/// # Errors
/// [`LoadError::Corrupt`] when it is anything else.
pub fn decode(place: &str, text: &[u8]) -> Result<Record, LoadError> {
    read(place, text).map(|read| read.record)
}

fn read(place: &str, text: &[u8]) -> Result<Read, LoadError> {
    let read: Read = serde_json::from_slice(text).map_err(|error| corrupt(place, error))?;
    if read.format == FORMAT {
        Ok(read)
    } else {
        Err(corrupt(
            place,
            format!("format {} is not known to this build", read.format),
        ))
    }
}

fn corrupt(place: &str, what: impl ToString) -> LoadError {
    LoadError::Corrupt {
        place: place.to_owned(),
        what: what.to_string(),
    }
}

/// One fleet's record as a file.
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
        let found = self.found()?;
        Ok(found.map(|(record, count)| (record, Version::Count(count))))
    }

    /// Writes `record` if what is there is still at `expected`, and gives its new version.
    ///
    /// # Errors
    /// [`CommitError::Stale`] if somebody else wrote since; nothing changed then, nor after any other error.
    pub fn commit(&self, expected: &Version, record: &Record) -> Result<Version, CommitError> {
        let failed = |source| CommitError::File {
            path: self.path.clone(),
            source,
        };
        let lock = File::create(&self.lock).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let before = self.found()?.map(|(_, count)| count);
        let found = before.map_or(Version::None, Version::Count);
        if found != *expected {
            return Err(CommitError::Stale {
                expected: expected.clone(),
                found: match found {
                    Version::None => "gone".to_owned(),
                    Version::Count(_) | Version::Resource(_) => format!("at version {found}"),
                },
            });
        }
        let count = before.unwrap_or(0).saturating_add(1);
        let text = serde_json::to_vec(&Written {
            format: FORMAT,
            version: Some(count),
            record,
        })?;
        durable::write(&self.path, &text, Access::Everybody).map_err(failed)?;
        Ok(Version::Count(count))
    }

    fn found(&self) -> Result<Option<(Record, u64)>, LoadError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(LoadError::File {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        let place = self.path.display().to_string();
        let read = read(&place, &text)?;
        let count = read.version.ok_or_else(|| corrupt(&place, "it has no version"))?;
        Ok(Some((read.record, count)))
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
        let first = one.commit(&Version::None, &record(1)).unwrap();
        let (read, seen) = other.load().unwrap().unwrap();
        assert_eq!((read.epoch, &seen), (1, &first));
        one.commit(&first, &record(2)).unwrap();
        let refused = other.commit(&seen, &record(3)).unwrap_err();
        assert!(matches!(refused, CommitError::Stale { .. }), "{refused}");
        assert_eq!(one.load().unwrap().unwrap().0.epoch, 2);
    }

    #[test]
    fn a_lost_record_is_noticed_by_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let file = RecordFile::new(dir.path());
        let version = file.commit(&Version::None, &record(1)).unwrap();
        fs::remove_file(dir.path().join("record.json")).unwrap();
        assert!(matches!(
            file.commit(&version, &record(2)),
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
        assert!(RecordFile::new(dir.path()).commit(&Version::None, &record(1)).is_err());
    }

    /// Folders of earlier builds are read, and files of this one by them.
    #[test]
    fn a_file_is_laid_out_as_ever() {
        let dir = tempfile::tempdir().unwrap();
        RecordFile::new(dir.path()).commit(&Version::None, &record(1)).unwrap();
        let text = fs::read_to_string(dir.path().join("record.json")).unwrap();
        assert!(
            text.starts_with("{\"format\":1,\"version\":1,\"record\":{\"fleet\":\"edge\","),
            "{text}"
        );
    }

    #[test]
    fn what_others_count_is_kept_without_a_version() {
        let text = encode(&record(7)).unwrap();
        assert_eq!(decode("x", &text).unwrap().epoch, 7);
        let newer = String::from_utf8(text).unwrap().replace("\"format\":1", "\"format\":2");
        let said = decode("ConfigMap x", newer.as_bytes()).unwrap_err().to_string();
        assert!(said.starts_with("ConfigMap x: is not a record: format 2"), "{said}");
    }
}
