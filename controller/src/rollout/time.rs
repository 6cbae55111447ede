//! Time as the rollout core sees it: handed in, never read. Also the waits that are not a user's setting.

use std::fmt;

use serde::{Deserialize, Serialize};
use sluice_model::limits;

/// Milliseconds since the unix epoch, as the controller's clock had them. May jump in either direction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Milliseconds from `earlier` to this; zero if the clock went back.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole unix seconds.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000
    }
}

/// A duration in milliseconds, printed for people: `800ms`, `12s`, `5m`, `2h30m`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.0 / 1_000, self.0 % 1_000);
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        if self.0 < 1_000 {
            return write!(f, "{rest}ms");
        }
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if seconds > 0 || self.0 < 60_000 {
            write!(f, "{seconds}s")?;
        }
        Ok(())
    }
}

/// The waits of the core in milliseconds. The defaults are the constants of the same names in `limits.rs`; tests that
/// explore many states take smaller ones.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Timing {
    /// Longest step of the clock that counts in full.
    pub tick_max_ms: u64,
    /// Most observed time that one report vouches for.
    pub report_credit_max_ms: u64,
    /// Silence after which a member has failed.
    pub member_silence_ms: u64,
    /// Time without a stream after which an instance is unreachable.
    pub unreachable_after_ms: u64,
    /// How long a new controller waits for the instances it knew before it sizes a stage.
    pub fleet_settle_ms: u64,
    /// How long a controller without a record listens before it adopts.
    pub adoption_wait_ms: u64,
    /// When an order is sent again.
    pub order_resend_ms: u64,
    /// How long a slot of the rolling baseline is.
    pub baseline_slot_ms: u64,
    /// How far apart honest clocks may be, in seconds.
    pub clock_difference_seconds: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            tick_max_ms: limits::ROLLOUT_TICK_MAX_MS,
            report_credit_max_ms: limits::REPORT_CREDIT_MAX_MS,
            member_silence_ms: limits::MEMBER_SILENCE_MAX_MS,
            unreachable_after_ms: limits::UNREACHABLE_AFTER_MS,
            fleet_settle_ms: limits::FLEET_SETTLE_MS,
            adoption_wait_ms: limits::ADOPTION_WAIT_MS,
            order_resend_ms: limits::ORDER_RESEND_MS,
            baseline_slot_ms: limits::BASELINE_SLOT_MS,
            clock_difference_seconds: limits::MAX_CLOCK_SKEW_SECONDS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        assert_eq!(Millis(5).since(Millis(9)), 0);
    }

    #[test]
    fn spans_read_well() {
        for (ms, text) in [
            (0, "0ms"),
            (800, "800ms"),
            (12_000, "12s"),
            (300_000, "5m"),
            (61_000, "1m1s"),
            (9_000_000, "2h30m"),
        ] {
            assert_eq!(Span(ms).to_string(), text);
        }
    }
}
