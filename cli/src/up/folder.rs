//! The folder that `up` serves: what has to be true of it before anything starts.

use std::path::{Component, Path, PathBuf};

use crate::failure::Failure;

/// The folder at `path`, absolute. Links in it stay links, so that one that is swapped for another is followed; `..` is
/// gone, so that a folder has one name and one state.
///
/// # Errors
/// When it is not a folder, cannot be read, or holds no manifest.
pub fn open(path: &Path) -> Result<PathBuf, Failure> {
    let shown = path.display();
    let data = std::fs::metadata(path).map_err(|error| {
        Failure::usage(format!(
            "{shown}: {error}; give a folder of manifests, such as examples/quickstart"
        ))
    })?;
    if !data.is_dir() {
        return Err(Failure::usage(format!(
            "{shown} is not a folder; give the folder that it is in"
        )));
    }
    let entries = std::fs::read_dir(path)
        .map_err(|error| Failure::usage(format!("{shown}: {error}; it must be readable for you")))?;
    let manifests = entries.flatten().filter(|entry| is_manifest(&entry.path())).count();
    if manifests == 0 {
        return Err(Failure::usage(format!(
            "{shown} holds no manifests (*.yaml, *.yml, *.json); copy some in, such as those of examples/quickstart"
        )));
    }
    absolute(path).map_err(|error| Failure::usage(format!("{shown}: {error}")))
}

fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    let has_parents = path.components().any(|part| part == Component::ParentDir);
    if has_parents {
        // What is above a link is known to the system alone.
        std::fs::canonicalize(path)
    } else {
        std::path::absolute(path).map(|path| path.components().collect())
    }
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .and_then(|name| name.to_str())
        .is_none_or(|name| name.starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_folder_of_manifests_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("a.yaml");
        std::fs::write(&file, "").unwrap();
        let empty = temp.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        std::fs::write(empty.join(".hidden.yaml"), "").unwrap();
        for (path, part) in [
            (temp.path().join("nowhere"), "give a folder"),
            (file, "is not a folder"),
            (empty, "holds no manifests"),
        ] {
            let message = open(&path).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(open(temp.path()).unwrap().is_absolute());
    }

    #[test]
    fn a_link_stays_a_link_and_dots_go() {
        let temp = tempfile::tempdir().unwrap();
        let (release, current) = (temp.path().join("release"), temp.path().join("current"));
        std::fs::create_dir(&release).unwrap();
        std::fs::write(release.join("a.yaml"), "").unwrap();
        std::os::unix::fs::symlink(&release, &current).unwrap();
        assert_eq!(
            open(&current).unwrap(),
            current,
            "a link that is swapped later is followed"
        );
        assert_eq!(open(&current.join(".")).unwrap(), current);
        let real = std::fs::canonicalize(&release).unwrap();
        assert_eq!(open(&temp.path().join("release/../release")).unwrap(), real);
    }
}
