//! The data plane as a whole: starts workers and the admin listener, and stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluice_model::limits::TUNNEL_DRAIN_PERCENT;
use tokio::task::JoinHandle;

use crate::admin::{self, Admin};
use crate::listener::{Binding, Listeners};
use crate::live::LiveStore;
use crate::shutdown::{End, Plan, Skip, Stage};
use crate::telemetry::access_log::{self, Target, Writer};
use crate::telemetry::metrics::Metrics;
use crate::upstream::quota::Quotas;
use crate::worker::crowd::Crowd;
use crate::worker::{self, Command, Outfit, WorkerHandle};

/// How often the last stage looks whether requests are still under way.
const LOOK: Duration = Duration::from_millis(10);

/// How a data plane runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What logs call this process.
    pub instance: String,
    /// Workers; `None`: one per core that the process may use.
    pub workers: Option<usize>,
    /// Where listeners bind.
    pub binding: Binding,
    /// The admin listener; `None`: none.
    pub admin: Option<SocketAddr>,
    /// Where the access log goes.
    pub access_log: Target,
    /// What is counted beside requests: of configuration delivery, of the identity.
    pub registry: prometheus::Registry,
}

/// Why a data plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The admin address.
    #[error("the admin address {address} cannot be used: {source}; choose another with --admin")]
    Admin {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The access log.
    #[error("the access log {target:?} cannot be opened: {source}")]
    AccessLog {
        /// Which.
        target: Target,
        /// Why.
        source: std::io::Error,
    },
    /// A thread or its runtime.
    #[error("a worker cannot be started: {0}")]
    Worker(#[source] std::io::Error),
}

/// Starts data planes.
#[derive(Debug)]
pub struct DataPlane;

/// A data plane that runs.
#[derive(Debug)]
pub struct Handle {
    workers: Vec<WorkerHandle>,
    writer: Writer,
    listeners: Arc<Listeners>,
    metrics: Arc<Metrics>,
    admin: Arc<Admin>,
    admin_address: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
    store: LiveStore,
}

impl DataPlane {
    /// Starts workers and the admin listener. Nothing listens for clients until `Handle::listeners` is told what to.
    pub async fn start(options: Options, store: LiveStore) -> Result<Handle, StartError> {
        let admin_socket = match options.admin {
            Some(address) => {
                let bound = admin::bind(address).await;
                Some(bound.map_err(|source| StartError::Admin { address, source })?)
            }
            None => None,
        };
        let target = options.access_log;
        let (sink, writer) = access_log::open(&target).map_err(|source| StartError::AccessLog { target, source })?;
        let count = options.workers.unwrap_or_else(cores).max(1);
        let instance: Arc<str> = options.instance.into();
        let (crowd, quotas) = (Crowd::new(count), Quotas::new());
        let outfit = |index| Outfit {
            index,
            store: store.clone(),
            crowd: crowd.clone(),
            quotas: quotas.clone(),
            sink: sink.clone(),
            instance: instance.clone(),
        };
        let workers: Vec<WorkerHandle> = (0..count)
            .map(|index| worker::spawn(outfit(index)))
            .collect::<Result<_, _>>()
            .map_err(StartError::Worker)?;
        let commands = workers.iter().map(|worker| worker.commands.clone()).collect();
        let listeners = Arc::new(Listeners::new(commands, options.binding));
        let counters = workers.iter().map(|worker| worker.counters.clone()).collect();
        let metrics = Arc::new(Metrics::new(store.clone(), counters, options.registry));
        let admin = Arc::new(Admin::new(store.clone(), metrics.clone(), listeners.clone(), instance));
        let admin_address = admin_socket.as_ref().and_then(|socket| socket.local_addr().ok());
        let mut tasks = vec![tokio::spawn(reap(store.clone(), quotas.clone()))];
        tasks.extend(admin_socket.map(|socket| {
            let admin = admin.clone();
            tokio::spawn(admin::serve(socket, move |request| admin.answer(request)))
        }));
        Ok(Handle {
            workers,
            writer,
            listeners,
            metrics,
            admin,
            admin_address,
            tasks,
            store,
        })
    }
}

/// Cores that this process may use; the standard library looks at affinity and at the cgroup's quota.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Drops what workers have let go of.
async fn reap(store: LiveStore, quotas: Arc<Quotas>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        store.reap();
        quotas.prune();
    }
}

impl Handle {
    /// The listeners, for `prepare` and `commit`.
    pub fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What serves.
    pub fn store(&self) -> &LiveStore {
        &self.store
    }

    /// What the admin listener shows, for whoever else is asked.
    pub(crate) fn admin(&self) -> &Arc<Admin> {
        &self.admin
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Stops in stages; `skip` cuts the one under way short. Returns whether every request came to its end.
    pub async fn shutdown(self, plan: Plan, skip: &Skip) -> End {
        self.metrics.progress().reaches(Stage::Leaving);
        self.tell(|| Command::AskToLeave).await;
        skip.or(plan.converge, std::future::pending()).await;
        self.listeners.close_all().await;
        self.metrics.progress().reaches(Stage::Finishing);
        let tunnels_within = plan.grace.mul_f64(f64::from(TUNNEL_DRAIN_PERCENT) / 100.0);
        self.tell(|| Command::Finish { tunnels_within }).await;
        let end = skip.or(plan.grace, self.quiet()).await;
        self.tell(|| Command::Abort).await;
        for task in &self.tasks {
            task.abort();
        }
        // Joining blocks, if only for the turn that a worker is in.
        let (workers, writer) = (self.workers, self.writer);
        drop(self.listeners);
        let joined = tokio::task::spawn_blocking(move || {
            for worker in workers {
                drop(worker.commands);
                // A panic of the worker has been printed already.
                let _ = worker.thread.join();
            }
            writer.finish();
        });
        // Fails only if the blocking task panicked, which is printed too.
        let _ = joined.await;
        end
    }

    async fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker that is gone needs no telling.
            let _ = worker.commands.send(command()).await;
        }
    }

    /// Until no request is under way and no connection is open.
    async fn quiet(&self) {
        while self.metrics.inflight() > 0 || self.metrics.connections() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}
