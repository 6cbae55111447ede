//! Reads a folder of manifests once, completely or with a word about what could not be read.
//!
//! Which files count is what `kubectl apply -f FOLDER` takes: `*.yaml`, `*.yml` and `*.json` in the folder itself, not
//! below it. Hidden files and editors' backups are passed over. Files that did not change are not parsed again.
//! It does not watch; `directory` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::core::{self, Core};
use super::limits;
use super::manifest::{self, Manifests};
use super::{Coverage, View, yaml};
use crate::problem::{Effect, Place, Problem, Severity};

/// What tells one state of a file from another without reading it. The change time cannot be set back by `cp -p`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(data: &Metadata) -> Self {
        Self {
            inode: data.ino(),
            bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// The files of a folder, each with its stamp or why there is none.
pub type Listing = Result<BTreeMap<Arc<str>, Result<Stamp, String>>, String>;

/// A folder, and what was read from it before.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    read: BTreeMap<Arc<str>, (Stamp, Arc<Manifests>)>,
}

impl Folder {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            read: BTreeMap::new(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which files there are now.
    pub fn list(&self) -> Listing {
        let entries = fs::read_dir(&self.path).map_err(|error| error.to_string())?;
        let mut files = BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_manifest(name)) else {
                continue;
            };
            // Through symbolic links: projected volumes are made of them.
            let stamp = match fs::metadata(entry.path()) {
                Ok(data) if data.is_file() => Ok(Stamp::of(&data)),
                Ok(data) if data.is_dir() => continue,
                Ok(_) => Err("is not a regular file".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            files.insert(Arc::from(name), stamp);
        }
        Ok(files)
    }

    /// What the files of `listing` hold.
    pub fn view(&mut self, listing: &Listing) -> View {
        let files = match listing {
            Err(error) => return self.nothing(&format!("cannot be read: {error}"), "make it readable"),
            Ok(files) if files.is_empty() => {
                return self.nothing(
                    "holds no manifest (*.yaml, *.yml, *.json)",
                    "put manifests there; to remove everything that is served, leave the Rollout and delete the rest",
                );
            }
            Ok(files) if files.len() > limits::FILES => {
                let what = format!("holds {} manifests", files.len());
                return self.nothing(&what, &format!("keep at most {} in one folder", limits::FILES));
            }
            Ok(files) => files,
        };
        self.read.retain(|name, _| files.contains_key(name));
        let mut parts = Vec::with_capacity(files.len());
        let mut bytes = 0_u64;
        for (name, stamp) in files {
            bytes = bytes.saturating_add(stamp.as_ref().map_or(0, |stamp| stamp.bytes));
            parts.push((name.clone(), self.file(name, stamp, bytes)));
        }
        joined(&parts)
    }

    /// What the files read last hold of Kubernetes' own kinds. `coverage` is that of their view.
    pub fn core(&self, coverage: Coverage) -> Core {
        let documents = self.read.values().flat_map(|(_, manifests)| &manifests.core);
        Core::new(documents, coverage)
    }

    fn nothing(&self, what: &str, fix: &str) -> View {
        let place = Place::file(&Arc::from(self.path.to_string_lossy()));
        let problem = Problem::of_file(Severity::Error, place, format!("the folder {what}"), fix);
        let effect = Some(Effect::FileAsBefore);
        View {
            problems: vec![Problem { effect, ..problem }],
            coverage: Coverage::Nothing,
            ..View::default()
        }
    }

    fn file(&mut self, name: &Arc<str>, stamp: &Result<Stamp, String>, bytes_so_far: u64) -> Arc<Manifests> {
        let stamp = match stamp {
            Ok(stamp) => *stamp,
            Err(error) => return Arc::new(unreadable(name, error, "make it readable, or remove it")),
        };
        if let Some((_, known)) = self.read.get(name).filter(|(known, _)| *known == stamp) {
            return known.clone();
        }
        let manifests = Arc::new(match bytes_so_far > limits::FOLDER_BYTES {
            true => unreadable(
                name,
                "the folder's files are too large together",
                &format!("keep them below {} MiB", limits::FOLDER_BYTES >> 20),
            ),
            false => parse(&self.path.join(&**name), name),
        });
        self.read.insert(name.clone(), (stamp, manifests.clone()));
        manifests
    }
}

/// Whether a file called `name` is read. Editors' temporary files (`.a.yaml.swp`, `a.yaml~`, `4913`, `.#a.yaml`,
/// `#a.yaml#`) and the `..data` links of projected volumes all begin with a dot or end in something else.
fn is_manifest(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with(['.', '#']) && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn joined(parts: &[(Arc<str>, Arc<Manifests>)]) -> View {
    let incomplete: BTreeSet<_> = parts
        .iter()
        .filter(|(_, part)| part.incomplete)
        .map(|(name, _)| name.clone())
        .collect();
    let coverage = if incomplete.is_empty() {
        Coverage::Whole
    } else {
        Coverage::Except(incomplete)
    };
    let documents = parts.iter().flat_map(|(_, part)| &part.core);
    View {
        shares: Arc::new(core::shares(documents, &coverage)),
        objects: parts
            .iter()
            .flat_map(|(_, part)| part.objects.iter().cloned())
            .collect(),
        problems: parts
            .iter()
            .flat_map(|(_, part)| part.problems.iter().cloned())
            .collect(),
        coverage,
        cluster: None,
    }
}

fn unreadable(name: &Arc<str>, what: &str, fix: &str) -> Manifests {
    unreadable_at(Place::file(name), what, fix)
}

fn unreadable_at(place: Place, what: &str, fix: &str) -> Manifests {
    let problem = Problem {
        effect: Some(Effect::FileAsBefore),
        ..Problem::of_file(Severity::Error, place, what, fix)
    };
    Manifests {
        problems: vec![problem],
        incomplete: true,
        ..Manifests::default()
    }
}

fn parse(path: &Path, name: &Arc<str>) -> Manifests {
    let bytes = match read_bounded(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let limit = limits::FILE_BYTES >> 20;
            return unreadable(
                name,
                &format!("the file is larger than {limit} MiB"),
                "split it into several files",
            );
        }
        Err(error) => {
            return unreadable(
                name,
                &format!("cannot be read: {error}"),
                "make it readable, or remove it",
            );
        }
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return unreadable(name, "the file is not UTF-8 text", "save it as UTF-8");
    };
    if text.trim().is_empty() {
        return unreadable(
            name,
            "the file is empty",
            "fill it again; to remove its objects, delete the file",
        );
    }
    match yaml::documents(&text) {
        Ok(documents) => manifest::read(name, documents),
        Err(error) => {
            let place = Place {
                file: name.clone(),
                line: error.at.line,
                column: error.at.column,
            };
            unreadable_at(
                place,
                &format!("not readable as YAML: {}", error.message),
                yaml_fix(&text, &error),
            )
        }
    }
}

fn yaml_fix(text: &str, error: &yaml::YamlError) -> &'static str {
    let line = usize::try_from(error.at.line)
        .ok()
        .and_then(|line| text.lines().nth(line.checked_sub(1)?));
    let indented_by_tab = |line: &str| line.trim_start_matches(' ').starts_with('\t');
    match line {
        Some(line) if indented_by_tab(line) => "indent with spaces, not with tabs",
        Some(_) | None if error.message.contains("duplicate mapping key") => "remove one of the two",
        Some(_) | None if error.message.contains("alias") => "put a text that begins with '*' in quotes",
        Some(_) | None => "correct the file there",
    }
}

/// The file's bytes, or `None` if there are too many. What is read is bounded, whatever the size was a moment ago.
fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limits::FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| u64::try_from(bytes.len()).is_ok_and(|n| n <= limits::FILE_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = "{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {name: a}, spec: {endpoints: [{address: 10.0.0.1, port: 80}]}}";

    fn look(folder: &mut Folder) -> View {
        let listing = folder.list();
        folder.view(&listing)
    }

    #[test]
    fn only_manifests_are_read() {
        for name in ["a.yaml", "a.yml", "a.json", "4913.yaml"] {
            assert!(is_manifest(name), "{name}");
        }
        for name in [
            ".a.yaml",
            ".a.yaml.swp",
            "a.yaml~",
            "4913",
            ".#a.yaml",
            "#a.yaml#",
            "..data",
            "a.txt",
            "yaml",
            "a.yaml.tmp",
        ] {
            assert!(!is_manifest(name), "{name}");
        }
    }

    #[test]
    fn a_folder_that_shows_nothing_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(dir.path());
        assert_eq!(look(&mut folder).coverage, Coverage::Nothing);
        let mut gone = Folder::new(dir.path().join("gone"));
        assert_eq!(look(&mut gone).coverage, Coverage::Nothing);
        fs::write(dir.path().join("a.yaml"), POOL).unwrap();
        assert_eq!(look(&mut folder).coverage, Coverage::Whole);
    }

    #[test]
    fn an_unreadable_file_hides_only_its_own_objects() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
        write("good.yaml", POOL.as_bytes());
        write("half.yaml", b"kind: Pool\nspec: {endpoints: [");
        write("latin.yaml", b"kind: P\xf6ol");
        write("empty.yaml", b"\n");
        write("huge.yaml", &vec![b'#'; 5 << 20]);
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("dangling.yaml")).unwrap();
        let view = look(&mut Folder::new(dir.path()));
        assert_eq!(view.objects.len(), 1);
        for file in ["half.yaml", "latin.yaml", "empty.yaml", "huge.yaml", "dangling.yaml"] {
            assert!(view.coverage.lacks(file), "{file}");
            assert!(
                view.problems
                    .iter()
                    .any(|p| p.place.as_ref().is_some_and(|at| &*at.file == file)),
                "{file}"
            );
        }
        assert!(!view.coverage.lacks("good.yaml"));
    }

    #[test]
    fn changed_files_are_read_again_and_only_those() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), POOL).unwrap();
        let mut folder = Folder::new(dir.path());
        let first = look(&mut folder);
        let again = look(&mut folder);
        let only = |view: &View| view.objects.iter().next().unwrap().clone();
        assert!(Arc::ptr_eq(&only(&first), &only(&again)));
        fs::write(dir.path().join("new"), POOL.replace("name: a", "name: b")).unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("a.yaml")).unwrap();
        assert_eq!(only(&look(&mut folder)).key.to_string(), "Pool default/b");
    }

    #[test]
    fn files_are_read_through_links_as_projected_volumes_have_them() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new, data) = (
            dir.path().join("..1"),
            dir.path().join("..2"),
            dir.path().join("..data"),
        );
        for (place, text) in [(&old, POOL.to_owned()), (&new, POOL.replace("name: a", "name: b"))] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("a.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink(&old, &data).unwrap();
        std::os::unix::fs::symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
        let mut folder = Folder::new(dir.path());
        assert!(look(&mut folder).objects.contains(&"Pool default/a".parse().unwrap()));
        std::os::unix::fs::symlink(&new, dir.path().join("..tmp")).unwrap();
        fs::rename(dir.path().join("..tmp"), &data).unwrap();
        assert!(look(&mut folder).objects.contains(&"Pool default/b".parse().unwrap()));
    }
}
