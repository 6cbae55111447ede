//! A repository as a GitOps tool pulls it: a bare one on this machine, and a work tree from which changes are pushed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::world::World;

/// The branch that is followed.
pub(crate) const BRANCH: &str = "main";

/// One repository of a check.
pub(crate) struct Commits<'a> {
    world: &'a World,
    bare: PathBuf,
    tree: PathBuf,
}

impl<'a> Commits<'a> {
    /// An empty one, in the check's folder.
    pub(crate) async fn begin(world: &'a World) -> anyhow::Result<Self> {
        let folder = world.folder().canonicalize()?;
        let commits = Self {
            world,
            bare: folder.join("repository.git"),
            tree: folder.join("repository"),
        };
        let initial = format!("--initial-branch={BRANCH}");
        let bare = commits.bare.to_string_lossy();
        let tree = commits.tree.to_string_lossy();
        world
            .tool("git", "", &["init", "--quiet", "--bare", &initial, &bare])
            .await?;
        world.tool("git", "", &["init", "--quiet", &initial, &tree]).await?;
        commits.git(&["remote", "add", "origin", &bare]).await?;
        Ok(commits)
    }

    /// Where others find it.
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.bare.display())
    }

    /// Writes a file of the work tree.
    pub(crate) fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.tree.join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Copies a folder into the work tree.
    pub(crate) async fn copy(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        let to = self.tree.join(to);
        fs::create_dir_all(to.parent().context("a folder is in another")?)?;
        let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
        self.world.tool("cp", "", &["-r", &from, &to]).await?;
        Ok(())
    }

    /// Commits all of it and pushes; gives the commit.
    pub(crate) async fn push(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "--quiet", "-m", message]).await?;
        self.published().await
    }

    /// Takes the last commit back by another, and pushes; gives that one.
    pub(crate) async fn revert(&self) -> anyhow::Result<String> {
        self.git(&["revert", "--no-edit", "HEAD"]).await?;
        self.published().await
    }

    async fn published(&self) -> anyhow::Result<String> {
        self.git(&["push", "--quiet", "origin", BRANCH]).await?;
        Ok(self.git(&["rev-parse", "HEAD"]).await?.trim().to_owned())
    }

    async fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let tree = self.tree.to_string_lossy();
        let author = ["-c", "user.name=edge", "-c", "user.email=edge@example.com"];
        let all = [&["-C", &*tree], &author[..], arguments].concat();
        self.world.tool("git", "", &all).await
    }
}
