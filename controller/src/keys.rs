//! What the controller signs with, as files: `keys/{manifest,order,live}.key` (read by `sign` alone), `keys/trusted.json`
//! (the set that every instance is given) and `cluster`, the random id that all signed content names.
//!
//! Made at first start. `keys/unused` stands beside them until something is signed for the first time: while it is
//! there, no instance can hold anything valid, so a missing record is a new fleet and not a lost one. `keys/signed-for`
//! says the same of single fleets.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sluice_model::ClusterId;
use sluice_proto::{KeySet, Role};

use crate::durable::{self, Access};
use crate::sign::{self, Signers};

/// Why keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file.
    #[error("{path}: {source}; the state folder must be writable by the user who runs the controller", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read a private key.
    #[error("{path}: is open to others (mode {mode:o}); run `chmod 600 {path}`, and replace the key if others can have read it", path = .path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{path}: {what}; restore it from a backup, or remove {folder} and the folder fleets beside it to begin with new keys and no history, and enrol every instance again", path = .path.display(), folder = .path.parent().unwrap_or(Path::new(".")).display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gives no random numbers: {0}")]
    Random(String),
}

impl KeyError {
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            path: path.clone(),
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, what: impl ToString) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }
}

/// The keys of one cluster.
#[derive(Debug)]
pub struct Keys {
    signers: Signers,
    trusted: KeySet,
    trusted_json: String,
}

impl Keys {
    /// Reads `state/keys`, and makes the keys if there are none.
    ///
    /// # Errors
    /// Names the file and how to mend it.
    pub fn open(state: &Path) -> Result<Self, KeyError> {
        let dir = state.join("keys");
        private_folder(&dir)?;
        let path = dir.join("trusted.json");
        // `trusted.json` is written last: without it nobody was ever told about the keys beside it.
        if !path.exists() {
            sign::make(&dir)?;
            let signers = Signers::open(&dir)?;
            let text = signers.trusted().to_json();
            durable::write(&path, text.as_bytes(), Access::Everybody).map_err(KeyError::file(&path))?;
        }
        sign::make_missing(&dir)?;
        let mut trusted_json = fs::read_to_string(&path).map_err(KeyError::file(&path))?;
        let mut trusted = KeySet::from_json(&trusted_json).map_err(|error| KeyError::corrupt(&path, error))?;
        let signers = Signers::open(&dir)?;
        if trusted.iter().all(|key| key.role() != Role::Live) {
            let live = signers.trusted().iter().filter(|key| key.role() == Role::Live);
            trusted =
                KeySet::new(trusted.iter().chain(live).copied()).map_err(|error| KeyError::corrupt(&path, error))?;
            trusted_json = trusted.to_json();
            durable::write(&path, trusted_json.as_bytes(), Access::Everybody).map_err(KeyError::file(&path))?;
        }
        if !signers.are_in(&trusted) {
            return Err(KeyError::corrupt(
                &path,
                "does not list the keys in manifest.key, order.key and live.key",
            ));
        }
        Ok(Self {
            signers,
            trusted,
            trusted_json,
        })
    }

    /// The set that instances verify with.
    pub fn trusted(&self) -> &KeySet {
        &self.trusted
    }

    /// The same as written.
    pub fn trusted_json(&self) -> &str {
        &self.trusted_json
    }

    /// What signs.
    pub fn into_signers(self) -> Signers {
        self.signers
    }
}

/// The id of this cluster, drawn at first start.
///
/// # Errors
/// Names the file and how to mend it.
pub fn cluster(state: &Path) -> Result<ClusterId, KeyError> {
    let path = state.join("cluster");
    if !path.exists() {
        let id = format!("{}\n", drawn_cluster()?);
        durable::write(&path, id.as_bytes(), Access::Everybody).map_err(KeyError::file(&path))?;
    }
    let text = fs::read_to_string(&path).map_err(KeyError::file(&path))?;
    text.trim().parse().map_err(|error| KeyError::corrupt(&path, error))
}

/// The id of a new cluster.
///
/// # Errors
/// When the operating system gives no random numbers.
pub(crate) fn drawn_cluster() -> Result<ClusterId, KeyError> {
    let id = format!("c-{}", hex::encode(random::<8>()?));
    id.parse()
        .map_err(|error| KeyError::corrupt(Path::new("cluster"), error))
}

/// A point in time, for people.
pub(crate) fn moment(unix_seconds: u64) -> String {
    let moment = i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    moment.map_or_else(|| "never".to_owned(), |moment| moment.to_string())
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(bytes)
}

/// Makes the folder `path`, for its owner alone, and its parents.
///
/// # Errors
/// Names the folder.
pub fn private_folder(path: &Path) -> Result<(), KeyError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(KeyError::file(path))
}

/// Refuses a private key that anybody but its owner may touch.
///
/// # Errors
/// Names the file and how to mend it.
pub fn check_private(path: &Path) -> Result<(), KeyError> {
    let mode = fs::metadata(path).map_err(KeyError::file(path))?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(KeyError::Open {
            path: path.to_owned(),
            mode,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(breakage: impl Fn(&Path)) -> String {
        let state = tempfile::tempdir().unwrap();
        Keys::open(state.path()).unwrap();
        breakage(&state.path().join("keys"));
        Keys::open(state.path()).unwrap_err().to_string()
    }

    #[test]
    fn made_once_and_found_again() {
        let state = tempfile::tempdir().unwrap();
        let first = Keys::open(state.path()).unwrap().trusted_json().to_owned();
        assert_eq!(Keys::open(state.path()).unwrap().trusted_json(), first);
        assert_eq!(cluster(state.path()).unwrap(), cluster(state.path()).unwrap());
        let mode = |name: &str| fs::metadata(state.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("keys/manifest.key"), mode("keys/order.key")), (0o600, 0o600));
    }

    #[test]
    fn a_folder_of_a_build_without_live_keys_gets_one() {
        let state = tempfile::tempdir().unwrap();
        let new = Keys::open(state.path()).unwrap();
        let older = new.trusted().iter().filter(|key| key.role() != Role::Live).copied();
        let older = KeySet::new(older).unwrap();
        fs::remove_file(state.path().join("keys/live.key")).unwrap();
        fs::write(state.path().join("keys/trusted.json"), older.to_json()).unwrap();
        let mended = Keys::open(state.path()).unwrap();
        assert!(older.iter().all(|key| mended.trusted().get(&key.id()) == Some(key)));
        assert_eq!(mended.trusted().iter().count(), 3);
        let again = Keys::open(state.path()).unwrap();
        assert_eq!(again.trusted_json(), mended.trusted_json());
    }

    #[test]
    fn what_is_wrong_with_keys_is_said() {
        let open_to_all = |dir: &Path| {
            fs::set_permissions(dir.join("order.key"), fs::Permissions::from_mode(0o644)).unwrap();
        };
        assert!(broken(open_to_all).contains("chmod 600"));
        let nonsense = broken(|dir| fs::write(dir.join("manifest.key"), "nonsense").unwrap());
        assert!(nonsense.contains("manifest.key: is not"), "{nonsense}");
        let gone = broken(|dir| fs::remove_file(dir.join("order.key")).unwrap());
        assert!(gone.contains("order.key"), "{gone}");
        let swapped = broken(|dir| assert!(fs::copy(dir.join("order.key"), dir.join("manifest.key")).is_ok()));
        assert!(swapped.contains("are not all different"), "{swapped}");
        let replaced = broken(|dir| crate::sign::make(dir).unwrap());
        assert!(replaced.contains("does not list"), "{replaced}");
        let set = broken(|dir| fs::write(dir.join("trusted.json"), "{}").unwrap());
        assert!(set.contains("trusted.json"), "{set}");
    }
}
