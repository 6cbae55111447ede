//! The removal brake: how much of a service may leave at once, and for how long more than that is doubted. Here is what
//! it is; `lane` applies it.

use sluice_model::limits::{REMOVAL_BRAKE_HOLD_MS, REMOVAL_BRAKE_PERCENT};

/// When a removal of endpoints is doubted, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemovalBrake {
    /// The share of the endpoints in rotation that may leave at once, in percent.
    pub max_percent_at_once: u8,
    /// How long those that left stay, in milliseconds.
    pub hold_ms: u64,
}

impl Default for RemovalBrake {
    fn default() -> Self {
        Self {
            max_percent_at_once: REMOVAL_BRAKE_PERCENT,
            hold_ms: REMOVAL_BRAKE_HOLD_MS,
        }
    }
}

impl RemovalBrake {
    /// Of two pools that use one service the more careful one decides: a service has one value for all.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        Self {
            max_percent_at_once: self.max_percent_at_once.min(other.max_percent_at_once),
            hold_ms: self.hold_ms.max(other.hold_ms),
        }
    }
}
