//! A token bucket: so many at once, then one every so often. Pure: time is handed in.

use crate::rollout::Millis;

/// See the file's comment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    burst: u64,
    every_ms: u64,
    tokens: u64,
    /// Up to when tokens were given.
    at: Millis,
}

impl Bucket {
    /// A full one of `burst`, with one more every `every_ms`.
    pub fn new(burst: u64, every_ms: u64, now: Millis) -> Self {
        Self {
            burst,
            every_ms: every_ms.max(1),
            tokens: burst,
            at: now,
        }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Millis) -> bool {
        let more = now.since(self.at) / self.every_ms;
        self.at = Millis(self.at.0.saturating_add(more.saturating_mul(self.every_ms)));
        self.tokens = self.tokens.saturating_add(more).min(self.burst);
        let taken = self.tokens.checked_sub(1);
        self.tokens = taken.unwrap_or(0);
        taken.is_some()
    }

    /// Whether it is as good as new.
    pub fn is_full(&self, now: Millis) -> bool {
        let more = now.since(self.at) / self.every_ms;
        self.tokens.saturating_add(more) >= self.burst
    }

    /// When there is one.
    pub fn next_at(&self, now: Millis) -> Millis {
        if self.tokens > 0 || now.since(self.at) >= self.every_ms {
            now
        } else {
            Millis(self.at.0.saturating_add(self.every_ms))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_one_every_so_often() {
        let mut bucket = Bucket::new(3, 20, Millis(1_000));
        let at_once = (0..5).filter(|_| bucket.take(Millis(1_000))).count();
        assert_eq!(at_once, 3);
        assert_eq!(bucket.next_at(Millis(1_010)), Millis(1_020));
        assert!(!bucket.take(Millis(1_019)));
        assert!(bucket.take(Millis(1_020)) && !bucket.take(Millis(1_039)) && bucket.take(Millis(1_041)));
        let later = (0..9).filter(|_| bucket.take(Millis(9_000))).count();
        assert_eq!(later, 3, "no more than the burst is saved up");
    }
}
