//! What was said in the log of those who are refused: an instance that waits for something asks again and again, and is
//! told of once for as long as it does. Pure: time comes as an argument.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_model::limits::{ENROLMENT_ADDRESSES, TROUBLE_QUIET_MS};

use crate::rollout::Millis;

/// By address and reason, when it was met last.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<(IpAddr, String), Millis>);

impl Complaints {
    /// Whether it is news that whoever is at `from` is refused for this reason.
    pub(super) fn is_news(&mut self, from: IpAddr, why: &str, now: Millis) -> bool {
        self.0.retain(|_, met| now.since(*met) < TROUBLE_QUIET_MS);
        let is_known = self.0.contains_key(&(from, why.to_owned()));
        // Of more than that everything is said: somebody should look.
        if is_known || self.0.len() < ENROLMENT_ADDRESSES {
            self.0.insert((from, why.to_owned()), now);
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_again_and_again_is_told_of_once() {
        let mut complaints = Complaints::default();
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        let mut is_news = |from, why, at| complaints.is_news(from, why, Millis(at));
        assert!(is_news(one, "no Rollout names it", 0));
        for at in (1..10 * TROUBLE_QUIET_MS).step_by(30_000) {
            assert!(!is_news(one, "no Rollout names it", at), "after {at} ms");
        }
        let late = 10 * TROUBLE_QUIET_MS;
        assert!(is_news(one, "the token has ended", late));
        assert!(is_news(other, "no Rollout names it", late));
        assert!(
            is_news(one, "no Rollout names it", late + TROUBLE_QUIET_MS),
            "it was over"
        );
    }
}
