//! Watches a folder of manifests and hands out a view whenever its files have changed and are at rest.
//!
//! Events only wake it up: what counts is that two looks at the folder, a moment apart, show the same files. So a
//! burst of writes, an editor's rename dance and a file that is still being written are waited out, a lost event costs
//! at most one rescan, and file systems without events work too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use super::core::Core;
use super::folder::{Folder, Listing};
use super::{Source, View, limits};

/// A folder of manifests as a source of objects.
#[derive(Debug)]
pub struct Directory {
    views: watch::Receiver<Option<Arc<View>>>,
    core: watch::Receiver<Arc<Core>>,
}

/// Where the thread that watches shows what it saw.
struct Shows {
    views: watch::Sender<Option<Arc<View>>>,
    core: watch::Sender<Arc<Core>>,
}

/// Why a folder cannot be watched at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread that watches {folder}: {source}")]
pub struct WatchError {
    folder: PathBuf,
    source: std::io::Error,
}

impl Directory {
    /// Begins to watch the folder at `path`, which may appear later. Ends with this value.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn watch(path: &Path) -> Result<Self, WatchError> {
        let (show_views, views) = watch::channel(None);
        let (show_core, core) = watch::channel(Arc::default());
        let shows = Shows {
            views: show_views,
            core: show_core,
        };
        let folder = Folder::new(path);
        thread::Builder::new()
            .name("sluice-folder".into())
            .spawn(move || watch_until_unwanted(folder, &shows))
            .map_err(|source| WatchError {
                folder: path.to_owned(),
                source,
            })?;
        Ok(Self { views, core })
    }

    /// What the folder holds of Kubernetes' own kinds, as it changes.
    pub fn core(&self) -> watch::Receiver<Arc<Core>> {
        self.core.clone()
    }
}

impl Source for Directory {
    async fn next(&mut self) -> Option<Arc<View>> {
        // The initial `None` was never marked as changed, so the first wait ends with the first view.
        self.views.changed().await.ok()?;
        self.views.borrow_and_update().clone()
    }
}

fn watch_until_unwanted(mut folder: Folder, shows: &Shows) {
    let (wake, woken) = mpsc::channel();
    let mut watcher = Watch { wake, running: None };
    let mut shown: Option<Listing> = None;
    while !shows.views.is_closed() {
        watcher.ensure(folder.path());
        let listing = at_rest(&folder, &woken);
        if shown.as_ref() != Some(&listing) {
            let view = folder.view(&listing);
            // Files that changed while they were read are read again before anybody sees them.
            if folder.list() != listing && !is_restless(&shown, &listing) {
                shown = None;
                continue;
            }
            // First, so that whoever has the view finds what it refers to.
            shows.core.send_replace(Arc::new(folder.core(view.coverage.clone())));
            shows.views.send_replace(Some(Arc::new(view)));
            shown = Some(listing);
        }
        match woken.recv_timeout(Duration::from_millis(limits::RESCAN_MILLIS)) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// A folder that cannot be listed now and could not be before has nothing to be read again.
fn is_restless(shown: &Option<Listing>, listing: &Listing) -> bool {
    listing.is_err() && shown.as_ref().is_some_and(Result::is_err)
}

/// The folder's files once two looks agree, or after the longest wait.
fn at_rest(folder: &Folder, woken: &Receiver<()>) -> Listing {
    let give_up = Instant::now() + Duration::from_millis(limits::QUIET_WAIT_MILLIS);
    let mut listing = folder.list();
    loop {
        thread::sleep(Duration::from_millis(limits::QUIET_MILLIS));
        while woken.try_recv().is_ok() {}
        let again = folder.list();
        if again == listing || Instant::now() > give_up {
            return again;
        }
        listing = again;
    }
}

/// The operating system's events about the folder, as long as there are any to be had.
struct Watch {
    wake: mpsc::Sender<()>,
    running: Option<(RecommendedWatcher, u64)>,
}

impl Watch {
    /// Watches the folder that is at `path` now: after an unmount or a replacement that is another one.
    fn ensure(&mut self, path: &Path) {
        use std::os::unix::fs::MetadataExt;
        let Ok(inode) = std::fs::metadata(path).map(|data| data.ino()) else {
            self.running = None;
            return;
        };
        if self.running.as_ref().is_some_and(|(_, watched)| *watched == inode) {
            return;
        }
        let wake = self.wake.clone();
        let started = notify::recommended_watcher(move |_| wake.send(()).unwrap_or(()))
            .and_then(|mut watcher| watcher.watch(path, RecursiveMode::NonRecursive).map(|()| watcher));
        // Without events the rescan is slower, not wrong.
        self.running = started
            .inspect_err(|error| tracing::warn!(folder = %path.display(), %error, "no file events; looking every {} ms", limits::RESCAN_MILLIS))
            .ok()
            .map(|watcher| (watcher, inode));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Coverage;
    use std::fs;

    const POOL: &str = "{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {name: NAME}, spec: {endpoints: [{address: 10.0.0.1, port: 80}]}}";

    fn pool(name: &str) -> String {
        POOL.replace("NAME", name)
    }

    /// The first view that satisfies `wanted`.
    async fn until(directory: &mut Directory, wanted: impl Fn(&View) -> bool) -> Arc<View> {
        let look = async {
            loop {
                let view = directory.next().await.unwrap();
                if wanted(&view) {
                    return view;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look)
            .await
            .expect("the view never came")
    }

    fn holds(name: &str) -> impl Fn(&View) -> bool {
        let key = format!("Pool default/{name}").parse().unwrap();
        move |view| view.objects.contains(&key)
    }

    #[tokio::test]
    async fn every_way_of_changing_a_folder_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut directory = Directory::watch(dir.path()).unwrap();
        until(&mut directory, |view| view.coverage == Coverage::Nothing).await;

        fs::write(path("a.yaml"), pool("a")).unwrap();
        until(&mut directory, holds("a")).await;

        fs::write(path(".b.tmp"), pool("b")).unwrap();
        fs::rename(path(".b.tmp"), path("b.yaml")).unwrap();
        let view = until(&mut directory, holds("b")).await;
        assert!(holds("a")(&view));

        fs::remove_file(path("a.yaml")).unwrap();
        let view = until(&mut directory, |view| !holds("a")(view)).await;
        assert_eq!((view.objects.len(), &view.coverage), (1, &Coverage::Whole));

        fs::write(path("b.yaml"), "kind: [").unwrap();
        let view = until(&mut directory, |view| view.coverage != Coverage::Whole).await;
        assert!(view.coverage.lacks("b.yaml"));

        fs::remove_file(path("b.yaml")).unwrap();
        until(&mut directory, |view| view.coverage == Coverage::Nothing).await;
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        fs::create_dir(&here).unwrap();
        fs::write(here.join("a.yaml"), pool("a")).unwrap();
        let mut directory = Directory::watch(&here).unwrap();
        until(&mut directory, holds("a")).await;
        fs::rename(&here, &there).unwrap();
        until(&mut directory, |view| view.coverage == Coverage::Nothing).await;
        fs::create_dir(&here).unwrap();
        fs::write(here.join("b.yaml"), pool("b")).unwrap();
        until(&mut directory, holds("b")).await;
        fs::write(here.join("c.yaml"), pool("c")).unwrap();
        until(&mut directory, holds("c")).await;
    }
}
