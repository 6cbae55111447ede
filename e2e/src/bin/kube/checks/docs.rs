//! The commands of the documents, as a reader would run them: each story in one shell, on a cluster without Sluice at the
//! beginning and without it at the end. The reader has other images than those that are under test, so these are put in
//! their place, and into the values of whatever is installed; nothing else is changed.

use std::fs;

use anyhow::ensure;
use serde_json::{Value, json};
use sluice_e2e::documents;
use sluice_e2e::repository::{self, Source};

use super::argocd_live;
use crate::install;
use crate::world::World;

/// The stories in the order in which a reader meets them: each goes on from the one before.
const STORIES: [(&str, &str); 4] = [
    ("docs/install.md", "install"),
    ("docs/permissions.md", "permissions"),
    ("docs/upgrade.md", "upgrade"),
    ("docs/uninstall.md", "uninstall"),
];
/// What another check runs.
const ELSEWHERE: [(&str, &str); 1] = [("docs/gitops.md", argocd_live::STORY)];
/// The image that the documents name, up to its version.
const PUBLISHED: &str = "ghcr.io/sluice-proxy/sluice-controller:";
/// The namespace that the stories make beside the release's.
const EXAMPLE: &str = "shop";
/// What every story begins with. Whoever installs or upgrades does so with the images under test, and without a load
/// balancer, for which this cluster has no address.
const BEGINNING: &str = r#"
set -euo pipefail
helm() {
    case "$1" in
    install | upgrade) command helm "$@" --values "$SLUICE_E2E_VALUES" ;;
    *) command helm "$@" ;;
    esac
}
set -x
"#;

/// Every story there is.
pub(crate) async fn told(world: &World) -> anyhow::Result<()> {
    known()?;
    clear(world).await?;
    let values = world.folder().join("values.json");
    fs::write(&values, format!("{:#}", self::values(world)))?;
    for (path, name) in STORIES {
        let document = Source {
            path: path.to_owned(),
            text: repository::read(path),
        };
        let story = documents::story(&document, name);
        ensure!(!story.is_empty(), "{path} has no story {name}");
        run(world, name, &story, &values.to_string_lossy()).await?;
    }
    clear(world).await?;
    // The last story takes them away; the checks that follow count on them.
    let crds = repository::root().join("crds/yaml");
    world
        .kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            &crds.to_string_lossy(),
        ])
        .await?;
    Ok(())
}

/// A document with a story that is not in the list would be tested by nobody.
fn known() -> anyhow::Result<()> {
    for document in repository::files("md") {
        for name in documents::stories(&document) {
            let story = (document.path.as_str(), name.as_str());
            let known = STORIES.contains(&story) || ELSEWHERE.contains(&story);
            ensure!(
                known,
                "{}: the story {name} is not run: add it to checks/docs.rs",
                document.path
            );
        }
    }
    Ok(())
}

/// Nothing of Sluice, and nothing of an earlier reader.
async fn clear(world: &World) -> anyhow::Result<()> {
    world.no_sluice().await?;
    world
        .kubectl(&["delete", "namespace", EXAMPLE, "--ignore-not-found", "--timeout=120s"])
        .await?;
    Ok(())
}

/// Runs a story in one shell, with these values over those that it installs with.
pub(super) async fn run(world: &World, name: &str, story: &str, values: &str) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let published = format!("{PUBLISHED}{version}");
    ensure!(
        story.matches(PUBLISHED).count() == story.matches(&published).count(),
        "{name}: an image of another version than {version}"
    );
    let story = story.replace(&published, &world.images().controller);
    let (root, folder) = (repository::root(), world.folder().to_string_lossy().into_owned());
    let script = format!(
        "cd '{}'\nexport TMPDIR='{folder}' SLUICE_E2E_VALUES='{values}'\n{BEGINNING}{story}",
        root.display()
    );
    fs::write(world.folder().join(format!("{name}.sh")), &script)?;
    let said = world.tool_raw("bash", "", &["-c", &script]).await?;
    fs::write(
        world.folder().join(format!("{name}.out")),
        format!("{}{}", said.stdout, said.stderr),
    )?;
    let last = said.stderr.lines().rev().take(3).collect::<Vec<_>>();
    ensure!(said.status.success(), "{name}: {last:?}");
    Ok(())
}

/// What is under test, small and quick.
fn values(world: &World) -> Value {
    let mut values = install::values(world);
    values["rollout"] = json!({"stages": [{"name": "all", "fleetPercent": 100, "bakeTime": "2s"}]});
    // The stories say themselves what is watched.
    for part in ["watch", "secrets"] {
        values[part] = json!({});
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_is_known() {
        known().unwrap();
    }
}
