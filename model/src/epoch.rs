//! Epochs: the numbers that order a fleet's orders. The one place where they are reckoned from a clock.
//!
//! An instance follows an order only if its epoch is higher than that of the last it followed. A controller takes
//! `max(committed + 1, floor(now))`; one that lost its record jumps ahead of whatever its predecessor may still have
//! in flight. An instance refuses what no honest controller can have made yet, or it could be locked out for ever.

use crate::limits::MAX_CLOCK_SKEW_SECONDS;

/// Low bits of an epoch below the unix second that made it: about a million orders fit into one second.
pub const BITS_BELOW_SECOND: u32 = 20;

/// The lowest epoch that belongs to this second. Saturates in some 500,000 years.
pub fn floor(unix_seconds: u64) -> u64 {
    let shift = 1_u64 << BITS_BELOW_SECOND;
    unix_seconds.saturating_mul(shift)
}

/// The epoch of the next order after `committed`.
pub fn next(committed: u64, unix_seconds: u64) -> u64 {
    committed.saturating_add(1).max(floor(unix_seconds))
}

/// The epoch of the first order after the record was lost: ahead of any order that a predecessor, whose clock may
/// have been ahead by the greatest honest difference B, may have sent.
pub fn after_lost_record(unix_seconds: u64) -> u64 {
    floor(unix_seconds.saturating_add(MAX_CLOCK_SKEW_SECONDS))
}

/// Whether `epoch` lies more than 2·B ahead of this clock: B for the difference of clocks, B for the jump after a
/// lost record. The whole second is allowed, since orders within it have low bits.
pub fn is_too_far(epoch: u64, unix_seconds: u64) -> bool {
    let last_second = unix_seconds.saturating_add(2 * MAX_CLOCK_SKEW_SECONDS);
    epoch >= floor(last_second.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_the_record_and_the_clock() {
        assert_eq!(floor(1), 1 << 20);
        assert_eq!(next(0, 5), floor(5));
        assert_eq!(next(floor(9), 5), floor(9) + 1);
        assert_eq!(next(u64::MAX, 5), u64::MAX);
    }

    #[test]
    fn two_honest_clocks_and_a_jump_are_followed_and_no_more() {
        let b = MAX_CLOCK_SKEW_SECONDS;
        let now = 1_800_000_000;
        let jump_of_fast_clock = after_lost_record(now + b);
        assert!(!is_too_far(jump_of_fast_clock, now));
        assert!(!is_too_far(jump_of_fast_clock + 1000, now));
        assert!(is_too_far(floor(now + 2 * b + 1), now));
        assert!(is_too_far(u64::MAX, now));
    }
}
