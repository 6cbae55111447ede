//! The examples as people apply them: afterwards `kubectl diff` is empty, or a GitOps tool would see drift for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_crds::GROUP;
use sluice_e2e::repository;
use sluice_e2e::wait::wait_until;
use tempfile::TempDir;

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
    // An installation that an earlier run left would warn of a Rollout that governs nothing.
    world.no_sluice().await?;
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
        let mut namespaces = Namespaces::new(world, way.namespace).await?;
        for folder in &examples {
            for manifests in std::iter::once(folder.clone()).chain(changes(folder)?) {
                settled(world, &namespaces.stage(&manifests).await?, (&way, watched)).await?;
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

/// Manifests, ready to be applied.
struct Staged {
    folder: TempDir,
    namespaces: Namespaced,
}

/// Where they go.
enum Namespaced {
    /// To this one: they name none.
    To(String),
    /// To those that they name; kubectl must not be told another.
    ByThemselves(BTreeSet<String>),
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
    async fn stage(&mut self, manifests: &Path) -> anyhow::Result<Staged> {
        let folder = tempfile::tempdir()?;
        let mut namespaces = BTreeSet::new();
        for file in files(manifests)? {
            let mut text = fs::read_to_string(&file)?;
            for name in named(&text) {
                let instead = self.instead(&name).await?;
                text = text.replace(&format!("{FIELD}{name}"), &format!("{FIELD}{instead}"));
                namespaces.insert(instead);
            }
            let name = file.file_name().context("a file has a name")?;
            fs::write(folder.path().join(name), text)?;
        }
        let namespaces = if namespaces.is_empty() {
            Namespaced::To(self.own.clone())
        } else {
            Namespaced::ByThemselves(namespaces)
        };
        Ok(Staged { folder, namespaces })
    }

    async fn instead(&mut self, name: &str) -> anyhow::Result<String> {
        if let Some(instead) = self.instead.get(name) {
            return Ok(instead.clone());
        }
        let instead = self.world.namespace(&format!("{}-{name}", self.way)).await?;
        // Published images cannot be had here, and pods that wait for one take minutes to go.
        let no_pods = ["-n", &instead, "create", "quota", "no-pods", "--hard=pods=0"];
        self.world.kubectl(&no_pods).await?;
        self.instead.insert(name.to_owned(), instead.clone());
        Ok(instead)
    }
}

/// A file, or those of a folder that kubectl would read.
fn files(manifests: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if manifests.is_file() {
        return Ok(vec![manifests.to_owned()]);
    }
    let entries = fs::read_dir(manifests)?.collect::<Result<Vec<_>, _>>()?;
    let files = entries.iter().map(fs::DirEntry::path).filter(|path| path.is_file());
    Ok(files.collect())
}

const FIELD: &str = "namespace: ";

/// The namespaces that a text names. They are replaced as text, so none of them may begin as another does.
fn named(text: &str) -> BTreeSet<String> {
    let after = text.split(FIELD).skip(1);
    let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    after.map(|rest| rest.chars().take_while(is_part).collect()).collect()
}

/// `kubectl apply` of it, then the comparison finds nothing. Without a controller there is no warning either; with one,
/// its policies rightly warn of a Rollout outside of its own namespace.
async fn settled(world: &World, staged: &Staged, (way, watched): (&Way, Watched)) -> anyhow::Result<()> {
    let from = staged.folder.path().to_string_lossy();
    let target = match &staged.namespaces {
        Namespaced::To(namespace) => vec!["-n", namespace, "-f", &*from],
        Namespaced::ByThemselves(_) => vec!["-f", &*from],
    };
    let apply = [way.apply, &target].concat();
    match watched {
        Watched::No => world.kubectl_unwarned(&apply).await?,
        Watched::Yes => world.kubectl(&apply).await?,
    };
    match (watched, &staged.namespaces) {
        (Watched::No, _) => {}
        (Watched::Yes, Namespaced::To(namespace)) => looked_at(world, namespace).await,
        (Watched::Yes, Namespaced::ByThemselves(namespaces)) => {
            for namespace in namespaces {
                looked_at(world, namespace).await;
            }
        }
    }
    // kubectl diff fails when there is a difference, which it prints.
    world.kubectl(&[way.diff, &target].concat()).await?;
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
