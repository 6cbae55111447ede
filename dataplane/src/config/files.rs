//! Files that are written whole: to a temporary name, then renamed, so that nobody ever reads half of one; and read
//! within a bound. Knows bytes and paths, not what they mean.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A file of the state folder that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}; {}", path.display(), advice(source))]
pub struct StateError {
    pub(super) action: &'static str,
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum, not closed: the rest has one piece of advice
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: free some space. What serves goes on; nothing new is activated until then"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make the state folder writable. What serves goes on; nothing new is activated until then"
        }
        _ => "see to the state folder (--state). What serves goes on; nothing new is activated until then",
    }
}

/// What the name of a file ends with while it is written.
pub(super) const TEMPORARY: &str = ".tmp";

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Care {
    /// On the device when this returns.
    Durable,
    /// The system writes it when it likes: after a loss of power it may be the old one. For what changes often.
    Passing,
    /// Durable, and nobody but this user may look inside.
    Private,
}

/// Writes a file whole, in a folder that is made if need be.
pub(crate) fn write(path: &Path, bytes: &[u8], care: Care) -> Result<(), StateError> {
    let folder = path.parent().unwrap_or(path);
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| StateError { action, path, source }
    };
    make_folder(folder, care).map_err(failed("make the folder", folder))?;
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(TEMPORARY); // one writer: the intake thread of the one process that owns the folder
    let temporary = PathBuf::from(temporary);
    let written = write_through(&temporary, bytes, care).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed("write", path))?;
    match care {
        Care::Durable | Care::Private => sync_folder(folder),
        Care::Passing => Ok(()),
    }
}

fn make_folder(folder: &Path, care: Care) -> io::Result<()> {
    let mode = match care {
        Care::Durable | Care::Passing => 0o777, // as the umask says
        Care::Private => 0o700,
    };
    DirBuilder::new().recursive(true).mode(mode).create(folder)
}

fn write_through(path: &Path, bytes: &[u8], care: Care) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if care == Care::Private {
        // One that a crash left would keep its rights.
        let _ = fs::remove_file(path);
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    match care {
        Care::Durable | Care::Private => file.sync_all(),
        Care::Passing => Ok(()),
    }
}

/// What was renamed or removed in it is on the device when this returns.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StateError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| StateError {
            action: "flush the folder",
            path: folder.to_owned(),
            source,
        })
}

/// `None` if there is no such file; an error if it is longer than `max_bytes`.
pub(crate) fn read_bounded(path: &Path, max_bytes: usize) -> Result<Option<Bytes>, StateError> {
    let failed = |source| StateError {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(max_bytes as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > max_bytes {
        let text = format!("it is longer than {max_bytes} bytes, so it is damaged");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    Ok(Some(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn private_files_are_private_whatever_lay_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/a");
        write(&path, b"secret", Care::Private).unwrap();
        let temporary = dir.path().join("keys/a.tmp");
        fs::write(&temporary, "left by a crash").unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, b"secret 2", Care::Private).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(read_bounded(&path, 100).unwrap().unwrap(), "secret 2");
        assert!(read_bounded(&path, 3).unwrap_err().to_string().contains("longer than"));
    }
}
