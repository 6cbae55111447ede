//! Weighted round robin: a fixed schedule of turns, walked by one cursor per worker and pool. Never locks, never
//! computes while a request waits.
//!
//! Small ratios get a written-out schedule in which every endpoint's turns are spread evenly (the order that smooth
//! weighted round robin gives). Ratios too fine to write out, such as 999,999 to 1, take the golden-ratio sequence over
//! the cumulated weights: the same shares, with gaps that differ by little.

use sluice_model::limits::MAX_SCHEDULE_TURNS;

/// Turns of the endpoints of one pool. Endpoints are named by index; those of weight 0 have no turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Schedule {
    /// No endpoint has a turn.
    Empty,
    /// Every endpoint once.
    Even(u32),
    /// Turns written out.
    Turns(Box<[u16]>),
    /// Cumulated weights with the endpoint each belongs to, and their sum.
    Spread(Box<[(u64, u16)]>, u64),
}

/// The fractional part of the golden ratio in 64 bits: multiples of it fill an interval evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Schedule {
    /// The schedule for endpoints of these weights. More than 65,535 are beyond `MAX_ENDPOINTS_PER_POOL`.
    pub fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().copied().filter(|weight| *weight > 0).fold(0, gcd);
        if divisor == 0 {
            return Self::Empty;
        }
        if weights.iter().all(|weight| *weight == divisor) {
            return Self::Even(u32::try_from(weights.len()).unwrap_or(u32::MAX));
        }
        let reduced: Vec<(u16, u64)> = (0_u16..)
            .zip(weights)
            .map(|(index, weight)| (index, u64::from(weight / divisor)))
            .filter(|(_, weight)| *weight > 0)
            .collect();
        let sum: u64 = reduced.iter().map(|(_, weight)| weight).sum();
        if sum <= MAX_SCHEDULE_TURNS as u64 {
            Self::Turns(turns(&reduced, sum))
        } else {
            Self::Spread(cumulate(&reduced), sum)
        }
    }

    /// Whose turn it is at `cursor`, which the caller counts up.
    pub fn turn(&self, cursor: u32) -> Option<usize> {
        match self {
            Self::Empty => None,
            Self::Even(count) => Some(cursor.checked_rem(*count)? as usize),
            Self::Turns(turns) => {
                let at = (cursor as usize).checked_rem(turns.len())?;
                turns.get(at).map(|index| usize::from(*index))
            }
            Self::Spread(ends, sum) => {
                let point = u64::from(cursor).wrapping_mul(GOLDEN);
                let at = u64::try_from((u128::from(point) * u128::from(*sum)) >> 64).ok()?;
                let place = ends.partition_point(|(end, _)| *end <= at);
                ends.get(place).map(|(_, index)| usize::from(*index))
            }
        }
    }
}

fn gcd(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// Turn number k of an endpoint of weight w belongs at (2k + 1) / 2w of the round.
fn turns(weights: &[(u16, u64)], sum: u64) -> Box<[u16]> {
    let mut places: Vec<(u64, u16)> = Vec::new();
    for (index, weight) in weights {
        for turn in 0..*weight {
            // Scaled to integers: u32::MAX is far more places than there are turns.
            let place = (2 * turn + 1) * u64::from(u32::MAX) / (2 * weight);
            places.push((place, *index));
        }
    }
    debug_assert_eq!(places.len() as u64, sum);
    places.sort_unstable();
    places.into_iter().map(|(_, index)| index).collect()
}

fn cumulate(weights: &[(u16, u64)]) -> Box<[(u64, u16)]> {
    let mut end = 0_u64;
    let step = |(index, weight): &(u16, u64)| {
        end = end.saturating_add(*weight);
        (end, *index)
    };
    weights.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(weights: &[u32], turns: u32, from: u32) -> Vec<u32> {
        let schedule = Schedule::new(weights);
        let mut counts = vec![0; weights.len()];
        for cursor in from..from + turns {
            counts[schedule.turn(cursor).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn turns_are_smooth() {
        let schedule = Schedule::new(&[4, 2]);
        let order: Vec<_> = (0..6).filter_map(|cursor| schedule.turn(cursor)).collect();
        assert_eq!(order, [0, 1, 0, 0, 1, 0]);
        assert_eq!(Schedule::new(&[7, 7, 7]), Schedule::Even(3));
    }

    #[test]
    fn weight_zero_gets_none_and_nothing_gives_nothing() {
        assert_eq!(Schedule::new(&[]).turn(5), None);
        assert_eq!(Schedule::new(&[0, 0]).turn(5), None);
        assert_eq!(counts(&[0, 1, 0], 10, 3), [0, 10, 0]);
        assert_eq!(counts(&[0, 3, 3], 10, 3), [0, 5, 5]);
    }

    #[test]
    fn fine_ratios_keep_their_shares() {
        let counts = counts(&[999_983, 1, 500_000], 1_000_000, 77);
        assert!((666_000..667_300).contains(&counts[0]) && counts[1] <= 3, "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_round_gives_every_endpoint_its_weight(weights in prop::collection::vec(0_u32..20, 1..20), from in 0_u32..1000) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            prop_assert_eq!(counts(&weights, sum, from * sum), weights);
        }
    }
}
