//! Which instances' pods still exist. An instance is a pod, under its name and the beginning of its UID; when the pod is
//! gone for good the instance leaves every count, and what it could prove is worth nothing any more.
//!
//! ```text
//!  watch (metadata, members' namespaces) ─► view: who is there ─┐
//!                                                               ├─ not in it ─► ask about that one pod ─► gone
//!  pipeline: who is counted ────────────────────────────────────┘
//! ```
//!
//! The view is a quick answer and never a verdict: it may be late, incomplete or stale. It says whom to ask about; gone
//! is whom the API server itself says so of, pod by pod. While nobody can be asked, nobody is gone. A pod that is at its
//! end (`Succeeded`, `Failed`) counts as gone; a container that restarts does not.

mod lookup;
mod view;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_model::InstanceId;
use sluice_model::limits::{GONE_PODS_REMEMBERED, POD_LOOKUP_WAIT_MS, POD_LOOKUPS, POD_SUSPICION_MS};
use tokio::sync::{Notify, Semaphore, mpsc, watch as tokio_watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::pki::pod_of_instance;
use crate::register::Existence;

pub use lookup::{Lookup, LookupError, PodLookup, Seen};
pub use view::View;
pub use watch::watch;

/// What the pipeline and whoever knows of pods tell each other.
#[derive(Debug)]
pub struct Census {
    /// Everybody whom some fleet counts or waits for.
    pub counted: tokio_watch::Sender<Arc<BTreeSet<InstanceId>>>,
    /// Those among them whose pods are gone.
    pub gone: mpsc::Receiver<InstanceId>,
}

/// The other end of a [`Census`].
#[derive(Debug)]
pub struct Reports {
    counted: tokio_watch::Receiver<Arc<BTreeSet<InstanceId>>>,
    gone: mpsc::Sender<InstanceId>,
}

/// Both ends.
pub fn census() -> (Census, Reports) {
    let (counted, is_counted) = tokio_watch::channel(Arc::default());
    let (is_gone, gone) = mpsc::channel(POD_LOOKUPS);
    let reports = Reports {
        counted: is_counted,
        gone: is_gone,
    };
    (Census { counted, gone }, reports)
}

/// See the file's comment. Clones see the same.
#[derive(Clone)]
pub struct Pods(Arc<Inner>);

struct Inner {
    view: Mutex<View>,
    gone: Mutex<Gone>,
    lookup: Arc<dyn Lookup>,
    lookups: Semaphore,
    /// The view changed.
    news: Notify,
}

/// Whose pods are known to be gone. A UID never comes back.
#[derive(Debug, Default)]
struct Gone {
    known: BTreeSet<InstanceId>,
    oldest_first: VecDeque<InstanceId>,
}

impl Gone {
    fn add(&mut self, instance: &InstanceId) {
        if self.known.insert(instance.clone()) {
            self.oldest_first.push_back(instance.clone());
        }
        while self.oldest_first.len() > GONE_PODS_REMEMBERED {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.known.remove(&oldest); // asked about once more, if it ever is
            }
        }
    }
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pods({:?})", self.view())
    }
}

// Whole after every line that touches them, so a panic elsewhere spoils nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pods {
    /// Nobody is known yet.
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self(Arc::new(Inner {
            view: Mutex::default(),
            gone: Mutex::default(),
            lookup,
            lookups: Semaphore::new(POD_LOOKUPS),
            news: Notify::new(),
        }))
    }

    fn view(&self) -> MutexGuard<'_, View> {
        locked(&self.0.view)
    }

    /// Changes what is known, and has those looked at who are missing.
    pub(crate) fn update(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view());
        self.0.news.notify_one();
    }

    /// Whether the pod of `instance` in `namespace` is there.
    pub async fn existence(&self, namespace: &str, instance: &InstanceId) -> Existence {
        if locked(&self.0.gone).known.contains(instance) {
            return Existence::Gone;
        }
        if self.view().has(namespace, instance) {
            return Existence::Presumed;
        }
        // More at once than anybody should ask about: whoever serves is not kept waiting.
        let Ok(_turn) = self.0.lookups.try_acquire() else {
            return Existence::Presumed;
        };
        match self.judge(&[namespace.to_owned()].into(), instance).await {
            Verdict::Gone => {
                locked(&self.0.gone).add(instance);
                Existence::Gone
            }
            Verdict::There | Verdict::Unasked => Existence::Presumed,
        }
    }

    /// Asks about one pod, which is in one of `namespaces` or nowhere.
    async fn judge(&self, namespaces: &BTreeSet<String>, instance: &InstanceId) -> Verdict {
        let Some((name, uid)) = pod_of_instance(instance) else {
            return Verdict::There; // not named after a pod
        };
        for namespace in namespaces {
            let wait = Duration::from_millis(POD_LOOKUP_WAIT_MS);
            match timeout(wait, self.0.lookup.look(namespace, name)).await {
                Ok(Ok(seen)) if !seen.is_gone(uid) => return Verdict::There,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%instance, namespace, %error, "its pod could not be asked about");
                    return Verdict::Unasked;
                }
                Err(_) => return Verdict::Unasked,
            }
        }
        Verdict::Gone
    }

    /// Tells the pipeline who of those it counts is gone, until `stop`.
    pub async fn report(self, mut reports: Reports, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.news.notified() => {}
                changed = reports.counted.changed() => if changed.is_err() { return },
                // Whoever could not be asked about is asked about again.
                () = tokio::time::sleep(Duration::from_millis(POD_SUSPICION_MS)) => {}
            }
            let counted = Arc::clone(&reports.counted.borrow_and_update());
            let (suspects, namespaces) = self.view().missing(&counted);
            for instance in suspects {
                match self.judge_anew(&namespaces, &instance).await {
                    Verdict::There => {}
                    Verdict::Unasked => break, // nor could the others be
                    Verdict::Gone => {
                        tracing::info!(%instance, "its pod is gone: it is not counted any more");
                        if reports.gone.send(instance).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    async fn judge_anew(&self, namespaces: &BTreeSet<String>, instance: &InstanceId) -> Verdict {
        if locked(&self.0.gone).known.contains(instance) {
            return Verdict::Gone;
        }
        self.judge(namespaces, instance).await
    }
}

/// What the API server says of a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    There,
    Gone,
    /// Nothing.
    Unasked,
}

#[cfg(test)]
mod tests;
