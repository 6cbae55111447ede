//! The examples as people apply them: afterwards `kubectl diff` is empty, or a GitOps tool would see drift for ever.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use sluice_e2e::repository;

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
        let namespace = world.namespace(way.namespace).await?;
        for folder in &examples {
            for manifests in std::iter::once(folder.clone()).chain(changes(folder)?) {
                settled(world, &namespace, &manifests, &way).await?;
            }
        }
    }
    Ok(())
}

/// `kubectl apply` of it without a warning, then the comparison finds nothing.
async fn settled(world: &World, namespace: &str, manifests: &Path, way: &Way) -> anyhow::Result<()> {
    let from = manifests.to_string_lossy();
    let target = ["-n", namespace, "-f", &from];
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
