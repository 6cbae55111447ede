//! What makes an instance end: signals, or the loss of its parent.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::parent;

/// Waits for reasons to end.
#[derive(Debug)]
pub struct Endings {
    terminate: Signal,
    interrupt: Signal,
    parent: Parent,
}

/// Whether the parent's life matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parent {
    /// End when the process of this id is gone.
    Needed(u32),
    /// Go on without it.
    Ignored,
}

/// How soon to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// With time for load balancers to notice.
    InGoodOrder,
    /// Nobody is left to notice: only requests under way are waited for.
    Orphaned,
}

impl Endings {
    /// From now on, SIGTERM and SIGINT no longer kill the process but are told here.
    ///
    /// # Errors
    /// When handlers cannot be installed.
    pub fn watch(parent: Parent) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            parent,
        })
    }

    /// The next reason to end; asked again after the first, the next one means "at once".
    pub async fn next(&mut self) -> Ending {
        let orphaned = async {
            match self.parent {
                Parent::Needed(pid) => parent::gone(pid).await,
                Parent::Ignored => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Ending::InGoodOrder,
            _ = self.interrupt.recv() => Ending::InGoodOrder,
            () = orphaned => Ending::Orphaned,
        }
    }
}
