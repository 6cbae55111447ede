//! How long a client may keep us waiting. Waiting uses patience up and bytes earn it back, up to a bound: so a rate is held
//! over the last seconds, and neither a fast beginning nor a byte now and then buys a connection for an hour.

use std::cell::Cell;
use std::time::{Duration, Instant};

use sluice_model::limits::{BODY_GRACE_MS, BODY_PATIENCE_MAX_MS};

use super::bounds::Bounds;

/// Patience with one direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Patience {
    left: Duration,
    most: Duration,
    bytes_per_second: u64,
    /// Since when it is the client who is waited for.
    waiting: Option<Instant>,
    /// It ran out while nobody looked.
    spent: bool,
}

impl Patience {
    /// For the body of a request.
    pub(crate) fn for_body(bounds: &Bounds) -> Self {
        Self {
            left: Duration::from_millis(BODY_GRACE_MS),
            most: Duration::from_millis(BODY_PATIENCE_MAX_MS),
            bytes_per_second: bounds.bytes_per_second,
            waiting: None,
            spent: false,
        }
    }

    /// For a response.
    pub(crate) fn for_response(bounds: &Bounds) -> Self {
        Self {
            left: bounds.response,
            most: bounds.response,
            bytes_per_second: bounds.bytes_per_second,
            waiting: None,
            spent: false,
        }
    }

    /// The bounds of a response are others from now on. Who is waited for keeps what he has earned, within them.
    pub(crate) fn follow_response(&mut self, bounds: &Bounds) {
        let more = bounds.response.saturating_sub(self.most);
        self.most = bounds.response;
        self.left = self.left.saturating_add(more).min(self.most);
        self.bytes_per_second = bounds.bytes_per_second;
    }

    /// Whether the client is waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// It is the client's turn, from `now` on.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.waiting.get_or_insert(now);
    }

    /// The wait is over: so many bytes came, or went.
    pub(crate) fn earn(&mut self, bytes: usize, now: Instant) {
        self.spent = self.is_over(now);
        let Some(since) = self.waiting.take() else { return };
        let earned = (bytes as u64).saturating_mul(1000) / self.bytes_per_second.max(1);
        let left = self.left.saturating_sub(now.saturating_duration_since(since));
        self.left = left.saturating_add(Duration::from_millis(earned)).min(self.most);
    }

    /// Whether it has run out.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.spent
            || self
                .waiting
                .is_some_and(|since| now.saturating_duration_since(since) >= self.left)
    }
}

/// It is the client's turn. Asks for the time only if it was not.
pub(crate) fn wait(patience: &Cell<Patience>) {
    let mut now = patience.get();
    if !now.is_waiting() {
        now.wait(Instant::now());
        patience.set(now);
    }
}

/// So many bytes came, or went. Asks for the time only if somebody waited.
pub(crate) fn earn(patience: &Cell<Patience>, bytes: usize) {
    let mut now = patience.get();
    if now.is_waiting() {
        now.earn(bytes, Instant::now());
        patience.set(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `bytes` every `every` ms for `for_s` seconds; when patience ran out, in seconds, seen once a second.
    fn cut_after(mut patience: Patience, bytes: usize, every: u64, for_s: u64) -> Option<u64> {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        patience.wait(at(0));
        for ms in 1..=for_s * 1000 {
            if ms % every == 0 {
                patience.earn(bytes, at(ms));
                patience.wait(at(ms));
            }
            if ms % 1000 == 0 && patience.is_over(at(ms)) {
                return Some(ms / 1000);
            }
        }
        None
    }

    #[test]
    fn who_is_too_slow_is_cut_and_nobody_else() {
        let body = || Patience::for_body(&Bounds::default());
        assert_eq!(cut_after(body(), 0, 60_000, 60), Some(5), "silence has the grace");
        assert_eq!(cut_after(body(), 240, 1000, 600), None, "just fast enough");
        assert_eq!(cut_after(body(), 24, 100, 600), None, "the same in small pieces");
        assert_eq!(
            cut_after(body(), 1, 100, 60),
            Some(6),
            "a drip of 10 B/s is hardly better than silence"
        );
        assert!(cut_after(body(), 200, 1000, 60).is_some(), "a little too slow");
        assert_eq!(
            cut_after(Patience::for_response(&Bounds::default()), 0, 60_000, 60),
            Some(30)
        );
        assert!(
            cut_after(Patience::for_response(&Bounds::default()), 1, 1000, 60).is_some_and(|seconds| seconds <= 32),
            "a byte is no progress"
        );
    }

    #[test]
    fn a_fast_beginning_buys_half_a_minute_and_no_more() {
        let mut patience = Patience::for_body(&Bounds::default());
        let start = Instant::now();
        patience.wait(start);
        patience.earn(1 << 20, start);
        patience.wait(start);
        assert!(!patience.is_over(start + Duration::from_secs(29)));
        assert!(patience.is_over(start + Duration::from_secs(30)));
    }

    #[test]
    fn another_patience_holds_from_now_on() {
        let usual = Bounds::default();
        let bounds = |seconds| Bounds {
            response: Duration::from_secs(seconds),
            ..usual
        };
        let start = Instant::now();
        let over_after = |seconds| {
            let mut patience = Patience::for_response(&usual);
            patience.wait(start);
            patience.follow_response(&bounds(seconds));
            (1..=120).find(|after| patience.is_over(start + Duration::from_secs(*after)))
        };
        assert_eq!([2, 30, 90].map(over_after), [Some(2), Some(30), Some(90)]);
    }

    #[test]
    fn our_own_slowness_is_not_the_clients() {
        let mut patience = Patience::for_body(&Bounds::default());
        let start = Instant::now();
        patience.wait(start);
        patience.earn(1, start);
        assert!(
            !patience.is_over(start + Duration::from_secs(3600)),
            "nobody waits for the client"
        );
    }
}
