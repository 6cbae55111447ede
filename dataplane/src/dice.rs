//! Chance for tests that make up their input: a seed plays a run again.

/// splitmix64: seeds that are printed, and nothing more to install.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        (self.next() as usize) % sides
    }
}

/// The seeds of a run of so many inputs; with `SLUICE_SEED` that one alone.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    let only = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(1..count + 1, |seed: u64| seed..seed + 1);
    println!("seeds {seeds:?}");
    seeds
}
