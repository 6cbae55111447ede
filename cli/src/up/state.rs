//! Where `up` keeps its state: keys, revisions, the fleet's record, and each instance's own folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sluice_proto::hash::sha256;

use crate::failure::Failure;

/// The state folder for `folder` (absolute) if none was asked for: one for each folder that is served, under
/// `$XDG_STATE_HOME` or `~/.local/state` (XDG Base Directory Specification).
///
/// # Errors
/// When there is no home directory.
pub fn default_for(folder: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".local").join("state")))
        .ok_or_else(|| {
            Failure::usage("neither HOME nor XDG_STATE_HOME is set: say where to keep state with --state DIR")
        })?;
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    // Folders of one name in different places have different states.
    let digest = sha256(folder.as_os_str().as_encoded_bytes());
    Ok(base.join("sluice").join(format!("{name}-{digest:#}")))
}

/// Makes the folder at `path` if need be, and proves that it can be written and that nobody else uses it.
///
/// # Errors
/// When it cannot, or somebody does.
pub fn prepare(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::failed(format!(
            "state folder {}: cannot {what}: {error}; make it writable for you, or choose another with --state DIR",
            path.display()
        ))
    };
    std::fs::create_dir_all(path).map_err(|error| failed("make it", error))?;
    let probe = path.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"").map_err(|error| failed("write into it", error))?;
    let _ = std::fs::remove_file(&probe);
    if is_locked(&path.join("lock")) {
        return Err(Failure::failed(format!(
            "another `sluice up` uses the state folder {}; stop it, or give this one a folder of its own with --state DIR",
            path.display()
        )));
    }
    std::fs::canonicalize(path).map_err(|error| failed("find it", error))
}

/// Whether a controller holds the lock. It takes the lock itself when it starts; this only gives the better message,
/// before a port in use is complained about.
fn is_locked(lock: &Path) -> bool {
    let Ok(file) = std::fs::File::open(lock) else {
        return false;
    };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err_and(|error| error == rustix::io::Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_has_a_state_of_its_own() {
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/home/me"));
        let state = |folder: &str| default_for(Path::new(folder), home).unwrap();
        assert!(state("/a/shop").starts_with("/home/me/.local/state/sluice"));
        assert_ne!(state("/a/shop"), state("/b/shop"));
        assert_eq!(state("/a/shop"), state("/a/shop"));
        let xdg = |name: &str| (name == "XDG_STATE_HOME").then(|| OsString::from("/var/state"));
        assert!(
            default_for(Path::new("/a"), xdg)
                .unwrap()
                .starts_with("/var/state/sluice")
        );
        assert!(
            default_for(Path::new("/a"), |_| None)
                .unwrap_err()
                .to_string()
                .contains("--state")
        );
    }

    #[test]
    fn a_state_in_use_is_said() {
        let temp = tempfile::tempdir().unwrap();
        let lock = std::fs::File::create(temp.path().join("lock")).unwrap();
        assert!(prepare(temp.path()).is_ok());
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let message = prepare(temp.path()).unwrap_err().to_string();
        assert!(message.contains("another `sluice up` uses"), "{message}");
    }

    #[test]
    fn what_cannot_be_a_folder_is_said() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let message = prepare(&file.join("state")).unwrap_err().to_string();
        assert!(message.contains("choose another with --state"), "{message}");
        assert!(prepare(&temp.path().join("new/state")).unwrap().is_dir());
    }
}
