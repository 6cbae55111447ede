//! Shutting down in stages, so that no accepted request is lost: fail readiness → keep serving while load balancers
//! notice, asking clients to leave → stop accepting, having served what waited → let requests end → end.
//!
//! A second signal skips to the next stage.

mod progress;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

pub use progress::{Drain, Progress, Stage};

/// How long the stages may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Serving on while load balancers notice. 10 s suits most clusters; 0 where nobody has to notice.
    pub converge: Duration,
    /// Waiting for requests under way.
    pub grace: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            converge: Duration::ZERO,
            grace: Duration::from_secs(30),
        }
    }
}

/// Ends the stage that is under way.
#[derive(Clone, Debug, Default)]
pub struct Skip(Arc<Notify>);

impl Skip {
    /// On to the next stage.
    pub fn now(&self) {
        self.0.notify_one();
    }

    /// Waits for `stage`, at most `limit`, or until it is skipped. Says whether it came to its end.
    pub(crate) async fn or(&self, limit: Duration, stage: impl Future<Output = ()>) -> End {
        tokio::select! {
            () = stage => End::Complete,
            () = self.0.notified() => End::CutShort,
            () = tokio::time::sleep(limit) => End::CutShort,
        }
    }
}

/// How a stage ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// By itself.
    Complete,
    /// By its limit or by a second signal.
    CutShort,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen for both.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next of either.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// From now on every signal skips a stage.
    pub fn skip_with(mut self, skip: Skip) {
        tokio::spawn(async move {
            loop {
                self.next().await;
                skip.now();
            }
        });
    }
}
