//! An API server as a source: objects, and the values that they refer to.
//!
//! ```text
//!  follow (a task for each kind and namespace; one for each Secret) ─┐
//!  ask (is a kind still served? was the history set back?) ──────────┼─► run ─► keeper (pure) ─► views, values, health
//!                                                                    ┘            ├─ sight: how each watch fares
//!    read: an object as it comes → what it says                                   ├─ assembly: our objects → a view
//!    store: what is news, what is old                                             └─ live: Services, Secrets → values
//! ```
//!
//! It only reads. What it may not see, or cannot, it names, with what mends it; what was seen before is shown as it was, and
//! the view says that it is not whole.

mod ask;
mod assembly;
mod follow;
pub mod health;
mod keeper;
mod kinds;
mod live;
pub mod read;
mod references;
mod run;
mod shown;
mod sight;
mod store;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use sluice_model::Name;
use sluice_model::limits::{SOURCE_CONNECT_WAIT_MS, SOURCE_READ_WAIT_MS};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Source, View};
use crate::live::{Feed, Lack, Values, Wanted};
use health::Health;
use run::{Run, Shows};

pub use shown::Shown;

/// What a controller looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Its own namespace: where Rollouts govern.
    pub controller: Name,
    /// The namespaces whose objects count; `None`: all, by one watch for each kind.
    pub namespaces: Option<BTreeSet<Name>>,
    /// The namespaces whose Secrets may be read, one by one and by name; `None`: those that are watched.
    pub secrets_in: Option<BTreeSet<Name>>,
}

impl Scope {
    /// All namespaces, and Secrets in each.
    pub fn everywhere(controller: Name) -> Self {
        Self {
            controller,
            namespaces: None,
            secrets_in: None,
        }
    }

    /// Why no Secret of `namespace` can be read, if so.
    fn lacks_secrets_of(&self, namespace: &Name) -> Option<Lack> {
        let allowed = match (&self.secrets_in, &self.namespaces) {
            (Some(allowed), _) => allowed.contains(namespace),
            (None, Some(watched)) => watched.contains(namespace) || *namespace == self.controller,
            (None, None) => true,
        };
        (!allowed).then(|| {
            Lack::new(
                format!("the controller may not read Secrets of namespace {namespace}"),
                format!("add {namespace} to the namespaces whose Secrets it reads (--secrets-in), and grant list and watch of secrets there"),
            )
        })
    }
}

/// A source that works.
#[derive(Debug)]
pub struct Started {
    /// The objects.
    pub source: Kubernetes,
    /// What they refer to.
    pub feed: Feed,
    /// How it fares.
    pub health: watch::Receiver<Arc<Health>>,
    /// Our objects with their status, for whoever writes it.
    pub shown: Shown,
    /// The work behind it; it ends with `stop`, or when `source` or `feed` is dropped.
    pub work: JoinHandle<()>,
}

/// Begins to watch. Never fails: what cannot be reached, or is forbidden, is said in views and `health`, and tried again.
pub fn watch(client: Client, scope: Scope, stop: CancellationToken) -> Started {
    let (show_views, views) = watch::channel(None);
    let (show_values, values) = watch::channel(Arc::new(Values::default()));
    let (show_health, health) = watch::channel(Arc::new(Health::default()));
    let (want, wanted) = watch::channel(Arc::new(Wanted::default()));
    let shown = Shown::default();
    let shows = Shows {
        shown: shown.clone(),
        views: show_views,
        values: show_values,
        health: show_health,
        wanted,
    };
    let work = tokio::spawn(async move { Run::begin(client, scope, shows).run(stop).await });
    Started {
        source: Kubernetes { views },
        feed: Feed { values, wanted: want },
        health,
        shown,
        work,
    }
}

/// `config` with the waits that a source needs: a server that is silent is noticed, also by a request that a watch begins
/// with, on a connection that was kept.
pub fn patient(mut config: kube::Config) -> kube::Config {
    config.connect_timeout = Some(Duration::from_millis(SOURCE_CONNECT_WAIT_MS));
    config.read_timeout = Some(Duration::from_millis(SOURCE_READ_WAIT_MS));
    config.reset_reader_on_write = true;
    config
}

/// A cluster's objects as a source. Each clone begins with the present view.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    views: watch::Receiver<Option<Arc<View>>>,
}

impl Kubernetes {
    /// The views; `None` until there is one.
    pub fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.clone()
    }
}

impl Source for Kubernetes {
    async fn next(&mut self) -> Option<Arc<View>> {
        // The initial `None` was never marked as changed, so the first wait ends with the first view.
        self.views.changed().await.ok()?;
        self.views.borrow_and_update().clone()
    }
}
