//! Ends with the process that started this one, also when that is killed: `sluice up` leaves no orphans.
//!
//! By asking for the parent's id now and then, not by a death signal: Linux sends that when the parent's *thread* ends,
//! which an asynchronous parent does not control, and other systems have none.

use std::time::Duration;

use sluice_model::limits::PARENT_WATCH_MS;

/// Returns when the process `parent` is not this one's parent any more. The parent tells its own id, so that one that
/// was gone before this process looked is missed too.
pub async fn gone(parent: u32) {
    let mut watch = tokio::time::interval(Duration::from_millis(PARENT_WATCH_MS));
    while rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get().cast_unsigned() == parent) {
        watch.tick().await;
    }
}
