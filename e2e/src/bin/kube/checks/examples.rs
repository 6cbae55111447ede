//! The examples as people apply them: afterwards `kubectl diff` is empty, or a GitOps tool would see drift for ever.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_crds::GROUP;
use sluice_e2e::repository;
use sluice_e2e::wait::wait_until;

use crate::audit::Entry;
use crate::objects::says;
use crate::sluice::{CONTROLLER_USER, PATIENCE};
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

/// Whether a controller looks at what is applied.
#[derive(Clone, Copy)]
enum Watched {
    No,
    Yes,
}

/// Every folder of examples, and after it each of its changes.
pub(crate) async fn no_drift(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    all(world, Watched::No).await
}

/// The same while a controller runs and writes its statuses: it writes nothing else, and puts nothing on any object.
pub(crate) async fn no_writes(world: &World) -> anyhow::Result<()> {
    world.sluice().await?;
    all(world, Watched::Yes).await?;
    let log = world.audit_of_run().context("our own cluster")?.of(CONTROLLER_USER)?;
    let ours = |entry: &&Entry| {
        entry
            .object_ref
            .as_ref()
            .is_some_and(|object| object.api_group == GROUP)
    };
    let writes: Vec<_> = log.iter().filter(ours).filter(|entry| entry.is_write()).collect();
    ensure!(!writes.is_empty(), "no status was written, so nothing was proven");
    for entry in &writes {
        ensure!(
            entry.resource().ends_with("/status"),
            "a write to more than status: {entry:?}"
        );
        let body = entry.request_object.clone().unwrap_or_default();
        ensure!(
            body["spec"].is_null() && only_names(&body["metadata"]),
            "a status with more in it: {body:#}"
        );
    }
    let objects = world.kubectl(&["get", "sluice", "-A", "-o", "json"]).await?;
    let objects: Value = serde_json::from_str(&objects)?;
    for object in objects["items"].as_array().into_iter().flatten() {
        let metadata = &object["metadata"];
        ensure!(metadata["finalizers"].is_null(), "a finalizer: {metadata:#}");
        ensure!(metadata["ownerReferences"].is_null(), "an owner: {metadata:#}");
    }
    world.figure(format!(
        "{} writes of this run to our kinds, all of them status",
        writes.len()
    ));
    Ok(())
}

/// What server-side apply needs to know which object it is.
fn only_names(metadata: &Value) -> bool {
    let names = [
        "name",
        "namespace",
        "resourceVersion",
        "uid",
        "managedFields",
        "creationTimestamp",
    ];
    metadata
        .as_object()
        .is_none_or(|metadata| metadata.keys().all(|key| names.contains(&key.as_str())))
}

async fn all(world: &World, watched: Watched) -> anyhow::Result<()> {
    let examples = folders(&repository::root().join("examples"))?;
    ensure!(!examples.is_empty(), "there are no examples");
    for way in WAYS {
        let namespace = world.namespace(way.namespace).await?;
        for folder in &examples {
            for manifests in std::iter::once(folder.clone()).chain(changes(folder)?) {
                settled(world, &namespace, &manifests, (&way, watched)).await?;
            }
        }
    }
    Ok(())
}

/// `kubectl apply` of it without a warning, then the comparison finds nothing.
async fn settled(
    world: &World,
    namespace: &str,
    manifests: &Path,
    (way, watched): (&Way, Watched),
) -> anyhow::Result<()> {
    let from = manifests.to_string_lossy();
    let target = ["-n", namespace, "-f", &from];
    world.kubectl_unwarned(&[way.apply, &target].concat()).await?;
    match watched {
        Watched::No => {}
        Watched::Yes => looked_at(world, namespace).await,
    }
    // kubectl diff fails when there is a difference, which it prints.
    world.kubectl_unwarned(&[way.diff, &target].concat()).await?;
    Ok(())
}

/// Waits until the controller has said something of everything there.
async fn looked_at(world: &World, namespace: &str) {
    wait_until("a status of everything", PATIENCE, || async {
        let list = world.kubectl(&["-n", namespace, "get", "sluice", "-o", "json"]).await;
        let list: Value = serde_json::from_str(&list.map_err(|error| error.to_string())?).map_err(|e| e.to_string())?;
        let said = |object: &Value| says(object, "Accepted", "True") || says(object, "Accepted", "False");
        let missing = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|object| !said(object));
        missing.map_or(Ok(()), |object| Err(format!("{object:#}")))
    })
    .await;
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
