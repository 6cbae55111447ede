//! The rule that an instance never goes back: which orders it may heed, by their epoch.
//!
//! An order is *heeded* once it is known to be genuine and newer, whether or not it can then be activated: from that
//! moment every older order is refused, also after a restart (the caller writes `Heeded` to disk before it acts). If
//! only activated orders counted, a late order for a candidate could land after a rollback that failed to apply.
//!
//! How far ahead of the clock an epoch may be is the model's rule (`sluice_model::epoch`): beyond it, a mistaken epoch
//! would make an instance deaf to every later honest order.

use sluice_model::limits::MAX_CLOCK_SKEW_SECONDS;
use sluice_model::{Digest, epoch};

use super::refusal::Refusal;

/// The newest order that was found genuine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heeded {
    /// Its epoch.
    pub epoch: u64,
    /// The digest of its bytes: the same epoch with other bytes is refused.
    pub order: Digest,
}

/// How a genuine order stands to the last one heeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Newer: remember it, then act.
    Newer,
    /// The very one: what it asks for may be there already.
    Same,
}

/// May an order be heeded at `now_unix_seconds`?
pub fn judge(heeded: Option<&Heeded>, order: &Heeded, now_unix_seconds: u64) -> Result<Standing, Refusal> {
    if let Some(heeded) = heeded {
        if order == heeded {
            return Ok(Standing::Same);
        }
        if order.epoch == heeded.epoch {
            return Err(Refusal::EpochConflict { epoch: order.epoch });
        }
        if order.epoch < heeded.epoch {
            return Err(Refusal::EpochReplayed {
                epoch: order.epoch,
                heeded: heeded.epoch,
            });
        }
    }
    if epoch::is_too_far(order.epoch, now_unix_seconds) {
        return Err(Refusal::EpochFarFuture {
            epoch: order.epoch,
            ahead_seconds: (order.epoch >> epoch::BITS_BELOW_SECOND).saturating_sub(now_unix_seconds),
            max_seconds: 2 * MAX_CLOCK_SKEW_SECONDS,
        });
    }
    Ok(Standing::Newer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn order(seconds: u64, counter: u64, byte: u8) -> Heeded {
        Heeded {
            epoch: (seconds << epoch::BITS_BELOW_SECOND) + counter,
            order: Digest([byte; 32]),
        }
    }

    fn check(heeded: Option<Heeded>, new: Heeded, expected: Result<Standing, &str>) {
        let got = judge(heeded.as_ref(), &new, NOW);
        assert_eq!(
            got.as_ref().map_err(Refusal::reason).copied(),
            expected,
            "{heeded:?} {new:?}"
        );
    }

    #[test]
    fn only_newer_orders_and_the_same_one_again() {
        let last = order(NOW, 5, 1);
        check(None, order(NOW, 0, 1), Ok(Standing::Newer));
        check(None, order(0, 1, 1), Ok(Standing::Newer));
        check(Some(last), order(NOW, 6, 1), Ok(Standing::Newer));
        check(Some(last), last, Ok(Standing::Same));
        check(Some(last), order(NOW, 5, 2), Err("epoch_conflict"));
        check(Some(last), order(NOW, 4, 1), Err("epoch_replayed"));
        check(Some(last), order(0, 0, 1), Err("epoch_replayed"));
    }

    #[test]
    fn not_further_ahead_than_clocks_differ() {
        let edge = NOW + 2 * MAX_CLOCK_SKEW_SECONDS;
        check(None, order(edge, (1 << 20) - 1, 1), Ok(Standing::Newer));
        check(None, order(edge + 1, 0, 1), Err("epoch_far_future"));
        check(
            None,
            Heeded {
                epoch: u64::MAX,
                order: Digest([1; 32]),
            },
            Err("epoch_far_future"),
        );
        // What was heeded once stays, even if the clock was set back since.
        let ahead = order(edge + 900, 0, 1);
        check(Some(ahead), ahead, Ok(Standing::Same));
    }
}
