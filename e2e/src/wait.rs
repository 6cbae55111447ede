//! Waiting: for a condition and against a deadline, never for luck.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};

/// How often a condition is looked at. Looking costs an admin request at most.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `look` gives `Ok`, and returns what it found.
///
/// # Panics
/// After `deadline`, with `what` and the last thing seen.
pub async fn wait_until<T, E, F>(what: &str, deadline: Duration, mut look: impl FnMut() -> F) -> T
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
{
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if began.elapsed() > deadline => {
                panic!("waited {deadline:?} for {what}; last seen: {seen:#?}")
            }
            Err(_) => sleep(INTERVAL).await,
        }
    }
}

/// Now, in milliseconds since 1970: comparable with the logs of other processes.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
