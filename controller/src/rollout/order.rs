//! The order: what one fleet serves, as a pure function of the record. A controller that restarts says the same again,
//! byte for byte, which is what one signature per epoch needs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sluice_model::{FleetName, InstanceId, ObjectKey, RevisionId};

use super::plan::PerMillion;
use super::record::Record;
use super::stored;

/// Who carries a candidate: instances by id, so that a replacement does not inherit an order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Members {
    /// These and nobody else.
    Listed(#[serde(with = "stored::texts")] BTreeSet<InstanceId>),
    /// Everybody, also those that join later.
    All,
}

impl Members {
    /// Whether an order names `instance`.
    pub fn contains(&self, instance: &InstanceId) -> bool {
        match self {
            Self::Listed(members) => members.contains(instance),
            Self::All => true,
        }
    }
}

/// A candidate as ordered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// What is tried.
    pub revision: RevisionId,
    /// By whom.
    pub members: Members,
    /// The share of each member's requests.
    pub share: PerMillion,
}

/// What one fleet serves from an epoch on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Its place in the sequence of orders.
    pub epoch: u64,
    /// What everybody serves who is not a member.
    pub stable: RevisionId,
    /// What is tried, if anything.
    pub candidate: Option<Candidate>,
    /// The routes to count on their own.
    pub counted: Vec<ObjectKey>,
}

impl Order {
    /// What `instance` serves under this order.
    pub fn serves(&self, instance: &InstanceId) -> RevisionId {
        match &self.candidate {
            Some(candidate) if candidate.members.contains(instance) => candidate.revision,
            Some(_) | None => self.stable,
        }
    }
}

/// The order in force; `None` before the fleet's first revision.
pub fn order(record: &Record) -> Option<Order> {
    let rollout = record.rollout.as_ref();
    Some(Order {
        epoch: record.epoch,
        stable: record.stable?,
        candidate: rollout.map(|rollout| Candidate {
            revision: rollout.target.revision,
            members: rollout.members.clone(),
            share: PerMillion::ALL,
        }),
        counted: rollout.map_or_else(Vec::new, |rollout| {
            let scopes = rollout.target.scopes.iter();
            scopes.map(|scope| scope.route.clone()).collect()
        }),
    })
}

/// The members of a stage of `share` among `present`: at least one, rounded down, chosen by rendezvous hash. Those in
/// `earlier` stay, also if they are away; nobody is added while they are enough.
pub(super) fn choose(
    fleet: &FleetName,
    share: PerMillion,
    present: &BTreeSet<InstanceId>,
    earlier: &BTreeSet<InstanceId>,
) -> Members {
    if share >= PerMillion::ALL {
        return Members::All;
    }
    let mut chosen = earlier.clone();
    let mut others: Vec<&InstanceId> = present.difference(earlier).collect();
    others.sort_by_cached_key(|instance| (weight(fleet, instance), (*instance).clone()));
    let missing = size(share, present.len()).saturating_sub(chosen.len());
    chosen.extend(others.into_iter().take(missing).cloned());
    Members::Listed(chosen)
}

/// How many of `present` instances a stage of `share` may have.
pub(super) fn size(share: PerMillion, present: usize) -> usize {
    let floor = present as u128 * u128::from(share.0) / 1_000_000;
    usize::try_from(floor).unwrap_or(present).max(1)
}

/// FNV-1a with a final mix (that of splitmix64): evenly spread, and the same in every build on every machine.
fn weight(fleet: &FleetName, instance: &InstanceId) -> u64 {
    let bytes = fleet.as_str().bytes().chain([0]).chain(instance.as_str().bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fleet(count: usize) -> BTreeSet<InstanceId> {
        (0..count).map(|at| format!("i-{at}").parse().unwrap()).collect()
    }

    fn listed(members: Members) -> BTreeSet<InstanceId> {
        match members {
            Members::Listed(members) => members,
            Members::All => panic!("everybody"),
        }
    }

    fn edge() -> FleetName {
        "edge".parse().unwrap()
    }

    #[test]
    fn at_least_one_and_rounded_down() {
        assert_eq!(size(PerMillion::percent(1), 10), 1);
        assert_eq!(size(PerMillion::percent(50), 3), 1);
        assert_eq!(size(PerMillion::percent(99), 200), 198);
    }

    #[test]
    fn everybody_is_not_a_list() {
        let none = BTreeSet::new();
        assert_eq!(choose(&edge(), PerMillion::ALL, &fleet(3), &none), Members::All);
    }

    #[test]
    fn the_choice_is_spread() {
        // Every instance of a fleet of ten should be the first choice of some fleet.
        let none = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for at in 0..200 {
            let name = format!("fleet-{at}").parse().unwrap();
            seen.extend(listed(choose(&name, PerMillion::percent(10), &fleet(10), &none)));
        }
        assert_eq!(seen.len(), 10);
    }

    proptest! {
        #[test]
        fn earlier_members_stay_and_the_size_is_kept(
            first in 1_usize..60, second in 1_usize..60, small in 1_u32..100, more in 0_u32..99,
        ) {
            let small = PerMillion::percent(small.min(99));
            let large = PerMillion::percent((small.0 / 10_000 + more).min(99));
            let before = listed(choose(&edge(), small, &fleet(first), &BTreeSet::new()));
            let after = listed(choose(&edge(), large, &fleet(second), &before));
            prop_assert!(after.is_superset(&before));
            prop_assert!(after.len() <= size(large, second).max(before.len()));
            prop_assert!(after.len() == size(large, second) || after == before || second < first);
        }
    }
}
