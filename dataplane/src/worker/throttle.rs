//! How often something is said that may happen a thousand times a second: the first times of each second, and no more.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A worker's patience with one kind of message.
#[derive(Debug)]
pub(super) struct Throttle {
    most: u32,
    second: Cell<Option<Instant>>,
    said: Cell<u32>,
}

impl Throttle {
    /// At most so many a second.
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            second: Cell::new(None),
            said: Cell::new(0),
        }
    }

    /// Whether it may be said at `now`.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let began = self.second.get();
        if began.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            self.second.set(Some(now));
            self.said.set(0);
        }
        let said = self.said.get();
        self.said.set(said.saturating_add(1));
        said < self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_second() {
        let throttle = Throttle::new(2);
        let start = Instant::now();
        let allowed = (0..30).filter(|tenth| throttle.allows(start + Duration::from_millis(tenth * 100)));
        assert_eq!(allowed.collect::<Vec<_>>(), [0, 1, 10, 11, 20, 21]);
    }
}
