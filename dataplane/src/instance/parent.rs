//! Ends with the process that started this one, also when that is killed: `sluice up` leaves no orphans.
//!
//! By asking for the parent's id now and then, not by a death signal: Linux sends that when the parent's *thread* ends,
//! which an asynchronous parent does not control, and other systems have none.

use std::time::Duration;

use sluice_model::limits::PARENT_WATCH_MS;

/// Returns when the process that is the parent at the time of the call is gone.
pub async fn gone() {
    let parent = rustix::process::getppid();
    let mut watch = tokio::time::interval(Duration::from_millis(PARENT_WATCH_MS));
    while rustix::process::getppid() == parent {
        watch.tick().await;
    }
}
