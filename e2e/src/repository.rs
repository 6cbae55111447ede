//! The repository as files, for the tests that hold its own rules.

use std::path::{Path, PathBuf};

/// Folders that are not ours to check: built things and the version control's own.
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];

/// Its root folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("e2e stands in the root").to_path_buf()
}

/// A file of it, by its path from the root.
///
/// # Panics
/// If it is not there.
pub fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One file.
#[derive(Debug)]
pub struct Source {
    /// Its path from the root, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// All files with this extension, in order of their paths.
pub fn files(extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), extension, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(folder: &Path, extension: &str, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            let built = SKIPPED.contains(&name.as_str()) || name.starts_with("target");
            if !built {
                walk(&path, extension, found);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            let relative = path.strip_prefix(root()).expect("below the root");
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            found.push(Source {
                path: relative.to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
}
