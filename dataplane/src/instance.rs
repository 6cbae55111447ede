//! One instance: its intake on a thread of its own, and its stream to the controller. What serves is given as a
//! [`Target`], and what it observed as an [`Observe`].

mod descriptors;
pub mod ending;
pub mod parent;
mod run;
mod serving;

pub use run::run;

use std::io;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Intake;
use crate::config::delivery::{Delivery, Observe};
use crate::config::last_good::LastGood;
use crate::config::metrics::IntakeMetrics;
use crate::config::target::Target;
use crate::config::worker::Worker;
use crate::dial::Controller;
use crate::identity::Current;

/// Where an instance gets its configuration from, and as whom.
#[derive(Debug)]
pub struct Subscription {
    /// The controller.
    pub controller: Controller,
    /// Who asks.
    pub identity: Current,
    /// Told when the controller refuses it for who it says it is.
    pub refused: Arc<Notify>,
}

/// The configuration side of an instance, at work.
#[derive(Debug)]
pub struct Configured {
    worker: Worker,
    stop: CancellationToken,
    stream: JoinHandle<()>,
    keys: JoinHandle<()>,
}

impl Configured {
    /// Begins to serve what is on disk, and to look for the controller. Within a tokio runtime.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        subscription: Subscription,
        disk: LastGood,
        metrics: IntakeMetrics,
        serving: (impl Target, impl Observe),
    ) -> io::Result<Self> {
        let (target, observe) = serving;
        let Subscription {
            controller,
            mut identity,
            refused,
        } = subscription;
        let worker = {
            let (identity, metrics) = (Arc::clone(&identity.borrow_and_update()), metrics.clone());
            Worker::spawn(move || Intake::start(identity, target, disk, metrics))?
        };
        let stop = CancellationToken::new();
        let keys = tokio::spawn(hand_over_keys(identity.clone(), worker.clone()));
        let delivery = Delivery {
            identity,
            controller,
            refused,
            boot_id: boot_id(),
            worker: worker.clone(),
            metrics,
        };
        let stream = tokio::spawn(delivery.run(observe, stop.clone()));
        Ok(Self {
            worker,
            stop,
            stream,
            keys,
        })
    }

    /// The intake, to see what serves.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Notes on disk that the process was asked to end. To be called before it drains: whoever loses patience and kills
    /// it then has learned nothing about its candidate.
    pub async fn ending(&self) {
        self.worker.ending().await;
    }

    /// Ends the stream, and the intake in good order. To be called when the last request is done.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.stream.await;
        self.keys.abort();
        self.worker.stop().await;
    }
}

/// Tells the intake who may sign, whenever that changes.
async fn hand_over_keys(mut identity: Current, worker: Worker) {
    while identity.changed().await.is_ok() {
        let trusted = identity.borrow_and_update().trusted.clone();
        worker.trust(trusted).await;
    }
}

/// Differs after every start of a process.
fn boot_id() -> String {
    let mut id = [0; 8];
    if getrandom::fill(&mut id).is_err() {
        id = std::process::id().to_be_bytes().repeat(2).try_into().unwrap_or(id);
    }
    hex::encode(id)
}

/// Structured logs on standard error, filtered by `SLUICE_LOG` (`info` if it is not set or cannot be read).
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SLUICE_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(io::stderr)
        .try_init();
}
