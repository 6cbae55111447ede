//! Waits until objects are at rest before they are compiled, so that saving three files makes one revision. Pure: time
//! is handed in. A stream of changes without rest is compiled anyway after ten times the wait.

use crate::rollout::Millis;

/// How many times the wait a change waits at most.
const PATIENCE: u64 = 10;

/// When to compile.
#[derive(Clone, Debug)]
pub struct Debounce {
    wait_ms: u64,
    first: Option<Millis>,
    last: Option<Millis>,
}

impl Debounce {
    /// Compiles when nothing changed for `wait_ms`.
    pub fn new(wait_ms: u64) -> Self {
        Self {
            wait_ms,
            first: None,
            last: None,
        }
    }

    /// Something changed.
    pub fn note(&mut self, now: Millis) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// For how many milliseconds more to wait; `None` if there is nothing to compile.
    pub fn left_ms(&self, now: Millis) -> Option<u64> {
        let (first, last) = (self.first?, self.last?);
        let rest = self.wait_ms.saturating_sub(now.since(last));
        let patience = self.wait_ms.saturating_mul(PATIENCE).saturating_sub(now.since(first));
        Some(rest.min(patience))
    }

    /// It is compiled now.
    pub fn clear(&mut self) {
        (self.first, self.last) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_rest_but_not_for_ever() {
        let mut debounce = Debounce::new(100);
        assert_eq!(debounce.left_ms(Millis(0)), None);
        for at in (0..=950).step_by(50) {
            debounce.note(Millis(at));
        }
        assert_eq!(debounce.left_ms(Millis(950)), Some(50), "patience ends at 1000");
        assert_eq!(debounce.left_ms(Millis(1_000)), Some(0));
        debounce.clear();
        debounce.note(Millis(2_000));
        assert_eq!(debounce.left_ms(Millis(2_040)), Some(60));
    }
}
