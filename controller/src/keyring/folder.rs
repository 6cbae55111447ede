//! A keyring as files in the state folder, where `keys`, `sign` and `pki` read what they need of it.
//!
//! There are many files, and some of them only make sense together: the whole keyring is in one file before the first of
//! them changes, and whoever finds that file finishes what a crash has interrupted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{ALSO, CLUSTER, Keyring, KeyringError, LAST, NEXT, Parts, ROTATION, TRUSTED};
use crate::durable::{self, Access};
use crate::keys;

/// Why a keyring could not be read from a folder, or written to one.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file.
    #[error("{path}: {source}; the state folder must be writable by the user who runs the controller", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder.
    #[error(transparent)]
    Folder(#[from] keys::KeyError),
    /// What is in it.
    #[error("the keys in {folder} are damaged: {error}; restore them from a backup", folder = .folder.display())]
    Damaged {
        /// Where.
        folder: PathBuf,
        /// What is wrong.
        error: KeyringError,
    },
}

/// The keys' own files, which are there for each of three sets.
const FILES: [&str; 5] = ["manifest.key", "order.key", "live.key", "ca.pem", "ca.key"];

/// All parts in one, while they are being written.
const UNFINISHED: &str = "keyring.unfinished";

/// Every part that there can be.
fn known() -> impl Iterator<Item = String> {
    let sets = ["", NEXT, LAST].into_iter();
    let keys = sets.flat_map(|set| FILES.iter().map(move |file| format!("{set}{file}")));
    keys.chain([CLUSTER, TRUSTED, ALSO, ROTATION].map(str::to_owned))
}

/// Where a part's file is.
fn path_of(state: &Path, part: &str) -> PathBuf {
    let (set, file) = [NEXT, LAST]
        .iter()
        .find_map(|set| Some((set.trim_end_matches('-'), part.strip_prefix(set)?)))
        .unwrap_or(("", part));
    let folder = match file {
        CLUSTER => state.to_owned(),
        "ca.pem" | "ca.key" | ALSO => state.join("pki"),
        _ => state.join("keys"),
    };
    // An empty name would leave a slash at the end.
    if set.is_empty() {
        folder.join(file)
    } else {
        folder.join(set).join(file)
    }
}

/// Who may read a part.
fn access(part: &str) -> Access {
    if part.ends_with(".key") {
        Access::Owner
    } else {
        Access::Everybody
    }
}

impl Keyring {
    /// The one whose files are in `state`.
    ///
    /// # Errors
    /// Names the file and how to mend it.
    pub fn read(state: &Path) -> Result<Self, FolderError> {
        let unfinished = state.join(UNFINISHED);
        if unfinished.exists() {
            let bytes = Zeroizing::new(fs::read(&unfinished).map_err(file(&unfinished))?);
            let keyring = Self::of_parts(unpack(&bytes)).map_err(damaged(state))?;
            keyring.write(state)?;
            return Ok(keyring);
        }
        let mut parts = Parts::new();
        for part in known() {
            let path = path_of(state, &part);
            match fs::read(&path) {
                Ok(bytes) => drop(parts.insert(part, Zeroizing::new(bytes))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(FolderError::File { path, source }),
            }
        }
        Self::of_parts(parts).map_err(damaged(state))
    }

    /// Writes its files to `state`, in place of those that are there. Whatever else is there stays.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, state: &Path) -> Result<(), FolderError> {
        let parts = self.parts().map_err(damaged(state))?;
        let unfinished = state.join(UNFINISHED);
        durable::write(&unfinished, &pack(&parts), Access::Owner).map_err(file(&unfinished))?;
        for folder in ["keys", "pki"] {
            keys::private_folder(&state.join(folder))?;
        }
        for part in known() {
            let path = path_of(state, &part);
            match parts.get(&part) {
                Some(bytes) => put(&path, bytes, access(&part))?,
                None => remove(&path)?,
            }
        }
        // An empty folder of last keys would be taken for one whose keys are lost.
        for folder in ["keys/next", "keys/last", "pki/next", "pki/last"] {
            let path = state.join(folder);
            if path.exists() && fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none()) {
                fs::remove_dir(&path).map_err(file(&path))?;
            }
        }
        remove(&unfinished)
    }
}

/// One line a part: its name and its bytes in hex. What is not such a line is left out, and then the keyring is not
/// complete.
fn pack(parts: &Parts) -> Zeroizing<Vec<u8>> {
    let line = |(part, bytes): (&String, &Zeroizing<Vec<u8>>)| format!("{part} {}\n", hex::encode(bytes.as_slice()));
    Zeroizing::new(parts.iter().map(line).collect::<String>().into_bytes())
}

fn unpack(bytes: &[u8]) -> Parts {
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter_map(|(part, digits)| Some((part.to_owned(), Zeroizing::new(hex::decode(digits).ok()?))))
        .collect()
}

fn put(path: &Path, bytes: &[u8], access: Access) -> Result<(), FolderError> {
    if fs::read(path).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        keys::private_folder(folder)?;
    }
    durable::write(path, bytes, access).map_err(file(path))
}

fn remove(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file(path)(error)),
    }
}

fn file(path: &Path) -> impl Fn(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::File {
        path: path.clone(),
        source,
    }
}

fn damaged(state: &Path) -> impl Fn(KeyringError) -> FolderError {
    let folder = state.to_owned();
    move |error| FolderError::Damaged {
        folder: folder.clone(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_part_has_a_file_of_its_own() {
        let state = Path::new("/s");
        let paths: std::collections::BTreeSet<_> = known().map(|part| path_of(state, &part)).collect();
        assert_eq!(paths.len(), known().count());
        assert_eq!(path_of(state, "last-order.key"), Path::new("/s/keys/last/order.key"));
        assert_eq!(path_of(state, "ca.pem"), Path::new("/s/pki/ca.pem"));
        assert_eq!(path_of(state, "cluster"), Path::new("/s/cluster"));
    }

    #[test]
    fn what_was_written_is_read_and_secrets_are_private() {
        let state = tempfile::tempdir().unwrap();
        let keyring = Keyring::draw().unwrap().begin("r", 1).unwrap();
        keyring.write(state.path()).unwrap();
        assert_eq!(Keyring::read(state.path()).unwrap(), keyring);
        for part in known().filter(|part| part.ends_with(".key")) {
            let path = path_of(state.path(), &part);
            let mode = fs::metadata(&path).map(|about| about.permissions().mode() & 0o777);
            assert!(mode.is_err() || mode.unwrap() == 0o600, "{}", path.display());
        }
        let done = keyring.next_phase(2).next_phase(3);
        done.write(state.path()).unwrap();
        assert_eq!(Keyring::read(state.path()).unwrap(), done);
        assert!(!state.path().join("keys/last").exists() && !state.path().join("keys/next").exists());
    }

    #[test]
    fn what_a_crash_has_interrupted_is_finished() {
        let state = tempfile::tempdir().unwrap();
        let before = Keyring::draw().unwrap().begin("r", 1).unwrap();
        before.write(state.path()).unwrap();
        let after = before.next_phase(2);
        fs::write(state.path().join(UNFINISHED), pack(&after.parts().unwrap())).unwrap();
        fs::remove_file(state.path().join("keys/order.key")).unwrap();
        assert_eq!(Keyring::read(state.path()).unwrap(), after);
        assert_eq!(Keyring::read(state.path()).unwrap(), after);
        assert!(!state.path().join(UNFINISHED).exists());
    }

    #[test]
    fn whoever_reads_the_files_gets_what_the_keyring_says() {
        let state = tempfile::tempdir().unwrap();
        let mut keyring = Keyring::draw().unwrap();
        let mut phases = vec![keyring.clone()];
        keyring = keyring.begin("r", 1).unwrap();
        phases.push(keyring.clone());
        phases.push(keyring.next_phase(2));
        phases.push(keyring.next_phase(2).next_phase(3));
        for keyring in phases {
            keyring.write(state.path()).unwrap();
            let keys = keys::Keys::open(state.path()).unwrap();
            assert_eq!(*keys.trusted(), keyring.trusted().unwrap());
            let pki = crate::pki::Pki::read(state.path(), None).unwrap();
            assert_eq!(pki.authority().bundle(), keyring.ca_bundle());
            assert_eq!(keys::cluster(state.path()).unwrap(), *keyring.cluster());
        }
    }
}
