//! A worker's source of chance: request ids and where round robins begin. Seeded by the system, fast, not for secrets.

use std::cell::Cell;

/// xoroshiro128+ (Blackman and Vigna 2018, public domain).
pub(crate) struct Chance {
    state: Cell<(u64, u64)>,
}

impl Chance {
    /// Seeded by the system. Should that fail, by address and time: ids may then repeat, requests still work.
    pub(crate) fn seeded() -> Self {
        let mut seed = [0_u8; 16];
        let number = match getrandom::fill(&mut seed) {
            Ok(()) => u128::from_ne_bytes(seed),
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |elapsed| elapsed.as_nanos() ^ u128::from(std::process::id())),
        };
        Self::from_seed(number)
    }

    /// From a given seed.
    pub(crate) fn from_seed(seed: u128) -> Self {
        let (high, low) = ((seed >> 64) as u64, seed as u64);
        Self {
            state: Cell::new((high | 1, low)),
        }
    }

    /// 64 random bits.
    pub(crate) fn next(&self) -> u64 {
        let (one, other) = self.state.get();
        let mixed = other ^ one;
        self.state
            .set((one.rotate_left(24) ^ mixed ^ (mixed << 16), mixed.rotate_left(37)));
        one.wrapping_add(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        let chance = Chance::from_seed(7);
        let numbers: std::collections::HashSet<u64> = (0..10_000).map(|_| chance.next()).collect();
        assert_eq!(numbers.len(), 10_000);
    }
}
