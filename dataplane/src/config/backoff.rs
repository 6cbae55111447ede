//! How long to wait before connecting again: exponential, bounded, jittered, with chance passed in.
//!
//! A controller that comes back must not be stampeded by its whole fleet, and a fleet must not wait long for it. The
//! wait is drawn evenly from the upper half of the current step ("equal jitter"), so that it is never near zero.

use std::time::Duration;

use sluice_model::limits::{RECONNECT_FIRST_STEP_MS, RECONNECT_LONGEST_STEP_MS};

/// The state of one series of attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    step_millis: u64,
    longest_step_millis: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(RECONNECT_LONGEST_STEP_MS)
    }
}

impl Backoff {
    /// One whose steps grow up to this.
    pub fn up_to(longest_step_millis: u64) -> Self {
        Self {
            step_millis: RECONNECT_FIRST_STEP_MS,
            longest_step_millis,
        }
    }

    /// How long to wait before the next attempt. `chance` is any random number.
    pub fn next_wait(&mut self, chance: u64) -> Duration {
        let half = self.step_millis / 2;
        let wait_millis = half + chance % (self.step_millis - half + 1);
        self.step_millis = (self.step_millis * 2).min(self.longest_step_millis);
        Duration::from_millis(wait_millis)
    }

    /// After a connection that was of use: the next series begins small.
    pub fn reset(&mut self) {
        *self = Self::up_to(self.longest_step_millis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_stays_bounded_and_spreads() {
        for chance in [0, 1, 77, u64::MAX] {
            let mut backoff = Backoff::default();
            let waits: Vec<u64> = (0..20).map(|_| backoff.next_wait(chance).as_millis() as u64).collect();
            assert!(waits[0] >= 50 && waits[0] <= 100, "{waits:?}");
            assert!(waits[19] >= 2_500 && waits[19] <= 5_000, "{waits:?}");
            backoff.reset();
            assert!(backoff.next_wait(chance).as_millis() <= 100);
        }
        let spread: std::collections::BTreeSet<_> = (0..1000_u64)
            .map(|c| {
                let mut backoff = Backoff {
                    step_millis: 5_000,
                    ..Backoff::default()
                };
                backoff.next_wait(c * 7919)
            })
            .collect();
        assert!(spread.len() > 500, "{}", spread.len());
    }
}
