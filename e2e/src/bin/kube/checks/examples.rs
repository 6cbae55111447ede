//! The examples as people apply them: afterwards `kubectl diff` is empty, or a GitOps tool would see drift for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use sluice_e2e::repository;
use tempfile::TempDir;

use crate::world::World;

/// How a set of manifests is applied, and then compared. Not one after the other: kubectl writes its own annotation a
/// little differently when it compares server-side what was applied from the client.
struct Way {
    namespace: &'static str,
    apply: &'static [&'static str],
    diff: &'static [&'static str],
}

const WAYS: [Way; 2] = [
    Way {
        namespace: "client",
        apply: &["apply"],
        diff: &["diff"],
    },
    Way {
        namespace: "server",
        apply: &["apply", "--server-side"],
        diff: &["diff", "--server-side"],
    },
];

/// Every folder of examples, and after it each of its changes.
pub(crate) async fn no_drift(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    let examples = folders(&repository::root().join("examples"))?;
    ensure!(!examples.is_empty(), "there are no examples");
    for way in WAYS {
        let mut namespaces = Namespaces::new(world, way.namespace).await?;
        for folder in &examples {
            for manifests in std::iter::once(folder.clone()).chain(changes(folder)?) {
                let staged = namespaces.stage(&manifests).await?;
                settled(world, &namespaces.own, staged.path(), &way).await?;
            }
        }
    }
    Ok(())
}

/// The namespaces of one way: its own for objects that name none, and one in place of each that an example names, so
/// that nothing outside of the check is touched.
struct Namespaces<'a> {
    world: &'a World,
    way: &'static str,
    own: String,
    instead: BTreeMap<String, String>,
}

impl<'a> Namespaces<'a> {
    async fn new(world: &'a World, way: &'static str) -> anyhow::Result<Self> {
        Ok(Self {
            world,
            way,
            own: world.namespace(way).await?,
            instead: BTreeMap::new(),
        })
    }

    /// A copy of the manifests in a folder or a file, with its namespaces in place of theirs.
    async fn stage(&mut self, manifests: &Path) -> anyhow::Result<TempDir> {
        let staged = tempfile::tempdir()?;
        let files = if manifests.is_dir() {
            let entries = fs::read_dir(manifests)?.collect::<Result<Vec<_>, _>>()?;
            entries
                .iter()
                .map(fs::DirEntry::path)
                .filter(|path| path.is_file())
                .collect()
        } else {
            vec![manifests.to_owned()]
        };
        for file in files {
            let mut text = fs::read_to_string(&file)?;
            for name in named(&text) {
                let instead = self.instead(&name).await?;
                text = text.replace(&format!("{FIELD}{name}"), &format!("{FIELD}{instead}"));
            }
            let name = file.file_name().context("a file has a name")?;
            fs::write(staged.path().join(name), text)?;
        }
        Ok(staged)
    }

    async fn instead(&mut self, name: &str) -> anyhow::Result<String> {
        if let Some(instead) = self.instead.get(name) {
            return Ok(instead.clone());
        }
        let instead = self.world.namespace(&format!("{}-{name}", self.way)).await?;
        self.instead.insert(name.to_owned(), instead.clone());
        Ok(instead)
    }
}

const FIELD: &str = "namespace: ";

/// The namespaces that a text names, none of which begins as another ends: they are replaced as text.
fn named(text: &str) -> BTreeSet<String> {
    let after = text.split(FIELD).skip(1);
    let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    after.map(|rest| rest.chars().take_while(is_part).collect()).collect()
}

/// `kubectl apply` of it without a warning, then the comparison finds nothing. What an example says of itself is where
/// it goes; the rest goes to `namespace`.
async fn settled(world: &World, namespace: &str, manifests: &Path, way: &Way) -> anyhow::Result<()> {
    let from = manifests.to_string_lossy();
    let names_them = fs::read_dir(manifests)?
        .flatten()
        .any(|file| fs::read_to_string(file.path()).is_ok_and(|text| !named(&text).is_empty()));
    // With -n, kubectl refuses objects that say another.
    let target = if names_them {
        vec!["-f", &*from]
    } else {
        vec!["-n", namespace, "-f", &*from]
    };
    world.kubectl_unwarned(&[way.apply, &target].concat()).await?;
    // kubectl diff fails when there is a difference, which it prints.
    world.kubectl_unwarned(&[way.diff, &target].concat()).await?;
    Ok(())
}

fn folders(parent: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(parent)?.collect::<Result<Vec<_>, _>>()?;
    let mut folders: Vec<_> = entries
        .iter()
        .map(fs::DirEntry::path)
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    Ok(folders)
}

/// Files that replace one of the example's, to be applied after it.
fn changes(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder.join("changes")) else {
        return Ok(Vec::new());
    };
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}
