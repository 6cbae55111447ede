//! How often somebody may ask to be enrolled: each costs a signature, and one with a token a question to the API server.
//! Pure: time comes as an argument.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_model::limits::{
    ENROLMENT_ADDRESSES, ENROLMENTS_AT_ONCE, ENROLMENTS_AT_ONCE_PER_ADDRESS, ENROLMENTS_PER_SECOND,
    ENROLMENTS_PER_SECOND_PER_ADDRESS,
};

use crate::rollout::Millis;

/// Why somebody has to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Busy {
    /// Too many of its own.
    #[error("too many enrolments from this address; try again in {0} ms")]
    Address(u64),
    /// Too many of all.
    #[error("too many enrolments at once; try again in {0} ms")]
    Everybody(u64),
}

/// How many turns are left.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In thousandths of a turn.
    left: u64,
    at: Millis,
}

/// How a bucket fills.
#[derive(Clone, Copy)]
struct Rate {
    per_second: u64,
    at_once: u64,
}

const OF_ADDRESS: Rate = Rate {
    per_second: ENROLMENTS_PER_SECOND_PER_ADDRESS,
    at_once: ENROLMENTS_AT_ONCE_PER_ADDRESS,
};
const OF_ALL: Rate = Rate {
    per_second: ENROLMENTS_PER_SECOND,
    at_once: ENROLMENTS_AT_ONCE,
};

impl Bucket {
    fn full(rate: Rate, now: Millis) -> Self {
        Self {
            left: rate.at_once * 1_000,
            at: now,
        }
    }

    fn fill(&mut self, rate: Rate, now: Millis) {
        let gained = now.since(self.at).saturating_mul(rate.per_second);
        self.left = self.left.saturating_add(gained).min(rate.at_once * 1_000);
        self.at = now;
    }

    fn is_full(&self, rate: Rate) -> bool {
        self.left == rate.at_once * 1_000
    }

    /// How long until there is a turn; 0: there is one.
    fn wait_ms(&self, rate: Rate) -> u64 {
        1_000_u64.saturating_sub(self.left).div_ceil(rate.per_second)
    }

    fn spend(&mut self) {
        self.left = self.left.saturating_sub(1_000);
    }
}

/// Who has asked how often.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    all: Option<Bucket>,
    addresses: BTreeMap<IpAddr, Bucket>,
}

impl Throttle {
    /// Takes a turn for `from`, if it has one.
    pub(super) fn take(&mut self, from: IpAddr, now: Millis) -> Result<(), Busy> {
        self.make_room(now);
        if !self.addresses.contains_key(&from) && self.addresses.len() >= ENROLMENT_ADDRESSES {
            return Err(Busy::Everybody(1_000));
        }
        let all = self.all.get_or_insert_with(|| Bucket::full(OF_ALL, now));
        let own = self
            .addresses
            .entry(from)
            .or_insert_with(|| Bucket::full(OF_ADDRESS, now));
        all.fill(OF_ALL, now);
        own.fill(OF_ADDRESS, now);
        match (own.wait_ms(OF_ADDRESS), all.wait_ms(OF_ALL)) {
            (0, 0) => {
                own.spend();
                all.spend();
                Ok(())
            }
            (0, wait) => Err(Busy::Everybody(wait)),
            (wait, _) => Err(Busy::Address(wait)),
        }
    }

    /// Those who have rested are as good as unknown.
    fn make_room(&mut self, now: Millis) {
        if self.addresses.len() < ENROLMENT_ADDRESSES {
            return;
        }
        self.addresses.retain(|_, bucket| {
            bucket.fill(OF_ADDRESS, now);
            !bucket.is_full(OF_ADDRESS)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn taken(throttle: &mut Throttle, from: IpAddr, now: u64, times: u64) -> u64 {
        let tries = (0..times).filter(|_| throttle.take(from, Millis(now)).is_ok());
        u64::try_from(tries.count()).unwrap()
    }

    #[test]
    fn one_address_takes_its_own_turns_only() {
        let mut throttle = Throttle::default();
        let many = 10 * ENROLMENTS_AT_ONCE_PER_ADDRESS;
        assert_eq!(
            taken(&mut throttle, address(1), 0, many),
            ENROLMENTS_AT_ONCE_PER_ADDRESS
        );
        assert_eq!(taken(&mut throttle, address(2), 0, 1), 1);
        let busy = throttle.take(address(1), Millis(0)).unwrap_err();
        let wait = 1_000 / ENROLMENTS_PER_SECOND_PER_ADDRESS;
        assert_eq!(busy, Busy::Address(wait));
        assert!(throttle.take(address(1), Millis(wait - 1)).is_err());
        assert!(throttle.take(address(1), Millis(wait)).is_ok());
        assert_eq!(
            taken(&mut throttle, address(1), 1_000_000, many),
            ENROLMENTS_AT_ONCE_PER_ADDRESS,
            "rest is not saved up"
        );
    }

    #[test]
    fn all_together_take_what_there_is() {
        let mut throttle = Throttle::default();
        let all: u64 = (0..10 * u32::try_from(ENROLMENTS_AT_ONCE).unwrap())
            .map(|number| taken(&mut throttle, address(number % 4_000), 0, 1))
            .sum();
        assert_eq!(all, ENROLMENTS_AT_ONCE);
        assert!(matches!(throttle.take(address(9), Millis(0)), Err(Busy::Everybody(_))));
        assert_eq!(taken(&mut throttle, address(9), 1_000, 1), 1);
    }

    #[test]
    fn strangers_fill_no_memory() {
        let mut throttle = Throttle::default();
        for number in 0..100_000 {
            let _ = throttle.take(address(number), Millis(u64::from(number)));
            assert!(throttle.addresses.len() <= ENROLMENT_ADDRESSES);
        }
        assert!(throttle.take(address(1), Millis(10_000_000)).is_ok());
    }

    #[test]
    fn a_clock_that_goes_back_harms_nobody() {
        let mut throttle = Throttle::default();
        assert!(throttle.take(address(1), Millis(1_000_000)).is_ok());
        assert!(throttle.take(address(1), Millis(0)).is_ok());
    }
}
