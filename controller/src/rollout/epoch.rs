//! Epochs: the numbers that make orders of one fleet a sequence nobody can replay.
//!
//! An epoch is greater than every one committed or seen before and at least the unix second it was made in, shifted.
//! A controller without a record cannot know what its predecessor sent last: that order may still be in flight, from a
//! clock that was ahead. So it jumps past anything an honest predecessor can have used.

use sluice_model::epoch::floor;

use super::time::Millis;

/// The epoch after `committed` (the record's) and `reported` (the greatest that an instance reports).
pub fn next(committed: u64, reported: u64, now: Millis) -> u64 {
    committed.max(reported).saturating_add(1).max(floor(now.seconds()))
}

/// The epoch with which a controller begins that found no record, where honest clocks differ by at most so many seconds.
pub fn jump(committed: u64, reported: u64, now: Millis, clock_difference_seconds: u64) -> u64 {
    let ahead = now.seconds().saturating_add(clock_difference_seconds);
    next(committed, reported, now).max(floor(ahead))
}

/// Whether an honest instance can have accepted `epoch` by now. Instances follow up to twice the clock difference ahead
/// of their own clock, which may itself be ahead of ours by one. Beyond that, following would use up the numbers.
pub fn is_plausible(epoch: u64, now: Millis, clock_difference_seconds: u64) -> bool {
    let ahead = clock_difference_seconds.saturating_mul(3).saturating_add(1);
    let furthest = now.seconds().saturating_add(ahead);
    epoch <= floor(furthest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);
    const APART: u64 = 300;

    #[test]
    fn follows_the_clock_and_never_goes_back() {
        assert_eq!(next(0, 0, NOW), 1_700_000_000 << 20);
        let first = next(0, 0, NOW);
        assert_eq!(next(first, 0, NOW), first + 1);
        assert_eq!(next(first, 0, Millis(5)), first + 1, "the clock went back");
        assert_eq!(next(first, first + 7, NOW), first + 8);
    }

    #[test]
    fn a_lost_record_jumps_past_a_predecessor_whose_clock_was_ahead() {
        let predecessor = next(0, 0, Millis(NOW.0 + APART * 1_000 - 1));
        assert!(jump(0, 0, NOW, APART) > predecessor);
    }

    #[test]
    fn impossible_epochs_are_told_apart() {
        assert!(is_plausible(jump(0, 0, NOW, APART) + 1_000, NOW, APART));
        assert!(!is_plausible(u64::MAX, NOW, APART));
        assert!(is_plausible(u64::MAX >> 20 << 20, Millis(u64::MAX), u64::MAX));
    }
}
