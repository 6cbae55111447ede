//! Epochs: the numbers that make the orders of one fleet a sequence. Here is what both sides reckon from a clock;
//! which epoch comes next is the controller's business.
//!
//! An instance follows an order only if its epoch is higher than that of the last it followed, and refuses what no
//! honest controller can have made yet, or one forged or mistaken order would lock it out for ever.

use crate::limits::MAX_CLOCK_SKEW_SECONDS;

/// Low bits of an epoch below the unix second that made it: about a million orders fit into one second.
pub const BITS_BELOW_SECOND: u32 = 20;

/// The lowest epoch that belongs to this second. Saturates in some 500,000 years.
pub fn floor(unix_seconds: u64) -> u64 {
    let shift = 1_u64 << BITS_BELOW_SECOND;
    unix_seconds.saturating_mul(shift)
}

/// Whether `epoch` lies more than 2·B ahead of this clock: B for the difference of honest clocks, B for the jump that
/// a controller makes which lost its record. The whole last second is allowed: orders within it have low bits.
pub fn is_too_far(epoch: u64, unix_seconds: u64) -> bool {
    let last_second = unix_seconds.saturating_add(2 * MAX_CLOCK_SKEW_SECONDS);
    epoch >= floor(last_second.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_honest_clocks_and_a_jump_are_followed_and_no_more() {
        let b = MAX_CLOCK_SKEW_SECONDS;
        let now = 1_800_000_000;
        let jump_by_a_fast_clock = floor((now + b) + b);
        assert!(!is_too_far(jump_by_a_fast_clock, now));
        assert!(!is_too_far(jump_by_a_fast_clock + 1000, now));
        assert!(is_too_far(floor(now + 2 * b + 1), now));
        assert!(is_too_far(u64::MAX, now));
    }

    #[test]
    fn a_later_second_has_higher_epochs_and_none_overflows() {
        assert_eq!(floor(1), 1 << 20);
        assert!(floor(2) > floor(1) + 1_000_000);
        assert_eq!(floor(u64::MAX), u64::MAX);
    }
}
