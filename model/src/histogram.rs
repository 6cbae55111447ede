//! A latency histogram that can be merged: the same fixed buckets in every instance and in the controller, so that
//! the p95 of a cohort is the p95 of all its requests and never an average of averages.
//!
//! Buckets are log-linear: four per doubling from 256 µs to 4.2 s (an error of at most 19 %), one per doubling up to
//! 67 s, then one for the rest. Whoever counts on a hot path keeps its own atomics under [`bucket_of`] and makes a
//! [`Histogram`] of them when it reports.

use serde::{Serialize, Serializer};

/// How many buckets there are. The last one has no upper bound.
pub const BUCKETS: usize = 62;

/// Doublings with four buckets each, and doublings with one, between the first bucket and the last.
const FINE_DOUBLINGS: usize = 14;
const COARSE_DOUBLINGS: usize = 4;
const FIRST_BOUND_MICROS: u64 = 256;

/// Upper bounds in microseconds, inclusive, of all buckets but the last.
pub const BOUNDS_MICROS: [u64; BUCKETS - 1] = bounds();

#[allow(clippy::indexing_slicing)] // evaluated by the compiler: an index out of range does not build
const fn bounds() -> [u64; BUCKETS - 1] {
    let mut bounds = [0; BUCKETS - 1];
    bounds[0] = FIRST_BOUND_MICROS;
    let mut at = 1;
    let mut base = FIRST_BOUND_MICROS;
    while at <= FINE_DOUBLINGS * 4 {
        let mut quarter = 1;
        while quarter <= 4 {
            bounds[at] = base + base / 4 * quarter;
            at += 1;
            quarter += 1;
        }
        base *= 2;
    }
    while at <= FINE_DOUBLINGS * 4 + COARSE_DOUBLINGS {
        base *= 2;
        bounds[at] = base;
        at += 1;
    }
    bounds
}

/// The bucket that a latency of `micros` microseconds belongs to; always less than [`BUCKETS`].
pub fn bucket_of(micros: u64) -> usize {
    BOUNDS_MICROS.partition_point(|bound| *bound < micros)
}

/// Counts per bucket. Empty by default; adding and merging saturate.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Histogram {
    /// At most [`BUCKETS`], the last one not zero: an empty histogram costs nothing, and equal counts are equal.
    counts: Vec<u64>,
}

impl Histogram {
    /// The histogram with these counts, in the order of the buckets; missing ones at the end are zero.
    /// `None` if there are more counts than buckets: they were made with other bounds.
    pub fn from_counts(counts: &[u64]) -> Option<Self> {
        let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        let counts = counts.get(..used).filter(|_| counts.len() <= BUCKETS)?.to_vec();
        Some(Self { counts })
    }

    /// The counts, without the zeros at the end.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Counts one latency in microseconds.
    pub fn record(&mut self, micros: u64) {
        let bucket = bucket_of(micros);
        self.grow(bucket + 1);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.grow(other.counts.len());
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }

    fn grow(&mut self, len: usize) {
        if self.counts.len() < len {
            self.counts.resize(len, 0);
        }
    }

    /// How many latencies were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The upper bound in microseconds of the bucket in which the `percent`th percentile lies; `None` when empty.
    /// Beyond the last bound it is `u64::MAX`: longer than this histogram can tell.
    pub fn percentile_micros(&self, percent: u8) -> Option<u64> {
        let total = u128::from(self.total());
        let rank = (total * u128::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0_u128;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return Some(BOUNDS_MICROS.get(at).copied().unwrap_or(u64::MAX));
            }
        }
        None
    }

    /// How many latencies were certainly longer than `micros`: those in buckets that lie wholly above it.
    pub fn count_over(&self, micros: u64) -> u64 {
        let first = bucket_of(micros).saturating_add(1);
        self.counts
            .iter()
            .skip(first)
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.counts().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_rise_and_reach_a_minute() {
        assert!(
            BOUNDS_MICROS.windows(2).all(|pair| pair[0] < pair[1]),
            "{BOUNDS_MICROS:?}"
        );
        assert_eq!(BOUNDS_MICROS[0], 256);
        assert_eq!(BOUNDS_MICROS[4], 512);
        assert_eq!(BOUNDS_MICROS[BUCKETS - 2], 67_108_864);
    }

    #[test]
    fn every_latency_has_a_bucket() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(256), 0);
        assert_eq!(bucket_of(257), 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentile_of_nothing_is_nothing() {
        assert_eq!(Histogram::default().percentile_micros(95), None);
    }

    #[test]
    fn percentile_is_by_rank() {
        let mut histogram = Histogram::default();
        (0..95).for_each(|_| histogram.record(1_000));
        (0..5).for_each(|_| histogram.record(1_000_000));
        assert_eq!(histogram.percentile_micros(95), Some(1_024));
        assert_eq!(histogram.percentile_micros(96), Some(1_048_576));
        assert_eq!(histogram.count_over(2_000), 5);
        histogram.record(100_000_000);
        assert_eq!(histogram.percentile_micros(100), Some(u64::MAX));
    }

    #[test]
    fn counts_of_other_buckets_are_refused() {
        assert!(Histogram::from_counts(&[1; BUCKETS + 1]).is_none());
        let histogram = Histogram::from_counts(&[0, 3, 0]).unwrap();
        assert_eq!(histogram.counts(), [0, 3]);
    }

    proptest! {
        #[test]
        fn merging_is_counting_together(left in prop::collection::vec(0_u64..100_000_000, 0..50),
                                        right in prop::collection::vec(0_u64..100_000_000, 0..50)) {
            let of = |micros: &[u64]| {
                let mut histogram = Histogram::default();
                micros.iter().for_each(|m| histogram.record(*m));
                histogram
            };
            let mut merged = of(&left);
            merged.merge(&of(&right));
            let both: Vec<u64> = left.iter().chain(&right).copied().collect();
            prop_assert_eq!(merged.clone(), of(&both));
            prop_assert_eq!(Histogram::from_counts(merged.counts()).unwrap(), merged);
        }

        #[test]
        fn a_bucket_holds_what_it_says(micros in 0_u64..100_000_000) {
            let bucket = bucket_of(micros);
            prop_assert!(bucket == 0 || BOUNDS_MICROS[bucket - 1] < micros);
            prop_assert!(bucket == BUCKETS - 1 || micros <= BOUNDS_MICROS[bucket]);
        }
    }
}
