//! The CRDs as people install them: twice, both ways of applying, and small enough for both.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_e2e::repository;

use crate::world::World;

/// What client-side apply, and so Argo CD, can carry in its annotation.
const MAX_BYTES: usize = 256 * 1024;
/// A group beside ours: plain `apply` warns about objects that were applied server-side before, and must find none.
const OTHER_GROUP: &str = "client-side.sluice.dev";

/// `kubectl apply --server-side` of the real ones.
pub(crate) async fn server_side(world: &World) -> anyhow::Result<()> {
    let folder = repository::root().join("crds/yaml");
    applied_twice(
        world,
        folder.to_str().context("a path that is text")?,
        &["apply", "--server-side"],
    )
    .await
}

/// Plain `kubectl apply` of the same under another group, so that nobody's objects are touched.
pub(crate) async fn client_side(world: &World) -> anyhow::Result<()> {
    let folder = world.folder().join("crds");
    fs::create_dir_all(&folder)?;
    for crd in sluice_crds::generate::all()? {
        let name = crd.file_name.replace(sluice_crds::GROUP, OTHER_GROUP);
        let yaml = crd.yaml()?.replace(sluice_crds::GROUP, OTHER_GROUP);
        fs::write(folder.join(name), otherwise_called(&yaml))?;
    }
    let folder = folder.to_str().context("a path that is text")?;
    // What an interrupted run left.
    world.kubectl(&["delete", "-f", folder, "--ignore-not-found"]).await?;
    applied_twice(world, folder, &["apply"]).await?;
    world.kubectl(&["delete", "-f", folder, "--wait=false"]).await?;
    Ok(())
}

/// With short names and categories that are not ours. The API server may take minutes to forget a CRD that was deleted, and as
/// long as it knows this one, `kubectl get pol` would mean that.
fn otherwise_called(yaml: &str) -> String {
    let mut names = false;
    let mut text = String::new();
    for line in yaml.lines() {
        match line.trim_start().strip_prefix("- ") {
            Some(name) if names => {
                let _ = writeln!(text, "    - other{name}");
            }
            _ => {
                names = matches!(line.trim(), "shortNames:" | "categories:");
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

async fn applied_twice(world: &World, folder: &str, apply: &[&str]) -> anyhow::Result<()> {
    let apply = [apply, &["-f", folder]].concat();
    world.kubectl_unwarned(&apply).await?;
    // What the server fills in when a CRD is established is not the second apply's doing.
    world
        .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", folder])
        .await?;
    let before = stored(world, folder).await?;
    world.kubectl_unwarned(&apply).await?;
    let after = stored(world, folder).await?;
    for (first, second) in before.iter().zip(&after) {
        let version = |crd: &Value| crd["metadata"]["resourceVersion"].clone();
        let name = &first["metadata"]["name"];
        ensure!(
            version(first) == version(second),
            "{name} changed when it was applied again"
        );
        let bytes = second.to_string().len();
        ensure!(bytes < MAX_BYTES, "{name} has {bytes} bytes, of {MAX_BYTES}");
        world.say(&format!("{name}: {bytes} bytes"));
    }
    Ok(())
}

async fn stored(world: &World, folder: &str) -> anyhow::Result<Vec<Value>> {
    let text = world
        .kubectl(&["get", "-f", folder, "-o", "json", "--show-managed-fields"])
        .await?;
    let list: Value = serde_json::from_str(&text)?;
    let items = list["items"].as_array().context("a list")?;
    ensure!(
        items.len() == sluice_crds::generate::all()?.len(),
        "one CRD for each kind"
    );
    Ok(items.clone())
}
