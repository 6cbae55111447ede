//! The order: one statement per fleet and epoch that says which revision everybody shall serve.

use std::collections::BTreeSet;

use sluice_model::limits::{MAX_COUNTED_SCOPES, MAX_MEMBERS};
use sluice_model::{ClusterId, FleetName, InstanceId, Kind, ObjectKey, RevisionId};

use crate::canonical::{DecodeError, Wire, ascending, each, required, wrong};
use crate::identity::{key_from, key_to, revision_in, revision_to, text};
use crate::pb;

/// What a fleet is ordered to serve. The same bytes go to every instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// For which installation.
    pub cluster: ClusterId,
    /// For which fleet.
    pub fleet: FleetName,
    /// Higher than that of every earlier order; never 0.
    pub epoch: u64,
    /// The proven revision.
    pub stable: RevisionId,
    /// The revision being tried, and by whom.
    pub candidate: Option<Candidate>,
    /// Routes whose traffic is counted on its own, in ascending order.
    pub counted: Vec<ObjectKey>,
}

/// The revision being tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub revision: RevisionId,
    /// By whom.
    pub members: Members,
    /// The share of requests on each member, in millionths: 1 to 1,000,000.
    pub share_millionths: u32,
}

/// Who tries a candidate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Members {
    /// Every instance.
    All,
    /// These, named by id, so that a replacement does not inherit an order. In ascending order, never none.
    Only(Vec<InstanceId>),
}

/// All requests.
pub const FULL_SHARE_MILLIONTHS: u32 = 1_000_000;

impl Members {
    /// These instances, brought into order.
    pub fn only(instances: impl IntoIterator<Item = InstanceId>) -> Self {
        let sorted: BTreeSet<_> = instances.into_iter().collect();
        Self::Only(sorted.into_iter().collect())
    }

    /// Whether `instance` is one.
    pub fn contains(&self, instance: &InstanceId) -> bool {
        match self {
            Self::All => true,
            Self::Only(instances) => instances.binary_search(instance).is_ok(),
        }
    }
}

impl Order {
    /// The candidate, if this instance is to try it.
    pub fn candidate_for(&self, instance: &InstanceId) -> Option<&Candidate> {
        self.candidate
            .as_ref()
            .filter(|candidate| candidate.members.contains(instance))
    }
}

impl Wire for Order {
    type Proto = pb::Order;

    fn to_proto(&self) -> pb::Order {
        let Self {
            cluster,
            fleet,
            epoch,
            stable,
            candidate,
            counted,
        } = self;
        pb::Order {
            cluster: cluster.to_string(),
            fleet: fleet.to_string(),
            epoch: *epoch,
            stable: Some(revision_to(stable)),
            candidate: candidate.as_ref().map(candidate_to),
            counted: counted.iter().map(key_to).collect(),
        }
    }

    fn from_proto(proto: pb::Order) -> Result<Self, DecodeError> {
        let pb::Order {
            cluster,
            fleet,
            epoch,
            stable,
            candidate,
            counted,
        } = proto;
        if epoch == 0 {
            return Err(wrong("epoch", "is never 0"));
        }
        let candidate = candidate.map(candidate_from).transpose();
        Ok(Self {
            cluster: text("cluster", &cluster)?,
            fleet: text("fleet", &fleet)?,
            epoch,
            stable: revision_in("stable", stable)?,
            candidate: candidate.map_err(|error| error.within("candidate"))?,
            counted: counted_from(counted)?,
        })
    }
}

fn counted_from(counted: Vec<pb::ObjectKey>) -> Result<Vec<ObjectKey>, DecodeError> {
    let counted = each("counted", counted, key_from)?;
    ascending("counted", &counted)?;
    if counted.len() > MAX_COUNTED_SCOPES {
        return Err(wrong(
            "counted",
            format!("{} routes, more than {MAX_COUNTED_SCOPES}", counted.len()),
        ));
    }
    match counted.iter().find(|key| key.kind != Kind::ProxyRoute) {
        Some(key) => Err(wrong("counted", format!("{key} is no route"))),
        None => Ok(counted),
    }
}

fn candidate_to(candidate: &Candidate) -> pb::Candidate {
    let Candidate {
        revision,
        members,
        share_millionths,
    } = candidate;
    let members = match members {
        Members::All => pb::candidate::Members::All(pb::AllMembers {}),
        Members::Only(instances) => pb::candidate::Members::Only(pb::MemberList {
            instances: instances.iter().map(ToString::to_string).collect(),
        }),
    };
    pb::Candidate {
        revision: Some(revision_to(revision)),
        members: Some(members),
        share_millionths: *share_millionths,
    }
}

fn candidate_from(candidate: pb::Candidate) -> Result<Candidate, DecodeError> {
    let pb::Candidate {
        revision,
        members,
        share_millionths,
    } = candidate;
    if share_millionths == 0 || share_millionths > FULL_SHARE_MILLIONTHS {
        return Err(wrong(
            "share_millionths",
            format!("{share_millionths} is not between 1 and 1000000"),
        ));
    }
    let members = match required("members", members)? {
        pb::candidate::Members::All(pb::AllMembers {}) => Members::All,
        pb::candidate::Members::Only(list) => members_from(list)?,
    };
    Ok(Candidate {
        revision: revision_in("revision", revision)?,
        members,
        share_millionths,
    })
}

fn members_from(list: pb::MemberList) -> Result<Members, DecodeError> {
    let pb::MemberList { instances } = list;
    if instances.is_empty() || instances.len() > MAX_MEMBERS {
        return Err(wrong(
            "members",
            format!("{} instances, not 1 to {MAX_MEMBERS}", instances.len()),
        ));
    }
    let instances: Vec<InstanceId> = each("members", instances, |instance| text("instance", &instance))?;
    ascending("members", &instances)?;
    Ok(Members::Only(instances))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::canonical::strict_decode;
    use proptest::prelude::*;
    use sluice_model::Digest;

    fn order(candidate: Option<Candidate>) -> Order {
        Order {
            cluster: "c-1".parse().unwrap(),
            fleet: "edge".parse().unwrap(),
            epoch: 1,
            stable: RevisionId {
                number: 1,
                digest: Digest([1; 32]),
            },
            candidate,
            counted: vec![],
        }
    }

    fn candidate(members: Members, share_millionths: u32) -> Option<Candidate> {
        let revision = RevisionId {
            number: 2,
            digest: Digest([2; 32]),
        };
        Some(Candidate {
            revision,
            members,
            share_millionths,
        })
    }

    fn refused(order: &Order, field: &str) {
        match strict_decode::<Order>(&order.encode(), 1 << 20) {
            Err(DecodeError::Field { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{other:?}"),
        }
    }

    fn ids(texts: &[&str]) -> Vec<InstanceId> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_members_try_the_candidate() {
        let some = order(candidate(Members::only(ids(&["b", "a", "b"])), 1));
        assert!(some.candidate_for(&"a".parse().unwrap()).is_some());
        assert!(some.candidate_for(&"c".parse().unwrap()).is_none());
        assert!(
            order(candidate(Members::All, 1))
                .candidate_for(&"c".parse().unwrap())
                .is_some()
        );
        assert!(order(None).candidate_for(&"a".parse().unwrap()).is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        refused(
            &Order {
                epoch: 0,
                ..order(None)
            },
            "epoch",
        );
        refused(
            &Order {
                stable: RevisionId {
                    number: 0,
                    digest: Digest([1; 32]),
                },
                ..order(None)
            },
            "stable.number",
        );
        refused(&order(candidate(Members::All, 0)), "candidate.share_millionths");
        refused(&order(candidate(Members::All, 1_000_001)), "candidate.share_millionths");
        refused(&order(candidate(Members::Only(vec![]), 1)), "candidate.members");
        refused(
            &order(candidate(Members::Only(ids(&["b", "a"])), 1)),
            "candidate.members",
        );
        refused(
            &order(candidate(Members::Only(ids(&["a", "a"])), 1)),
            "candidate.members",
        );
        let many = (0..=MAX_COUNTED_SCOPES).map(|n| format!("ProxyRoute a/r{n:04}").parse().unwrap());
        refused(
            &Order {
                counted: many.collect(),
                ..order(None)
            },
            "counted",
        );
    }

    proptest! {
        #[test]
        fn decodes_to_what_was_encoded(order in arbitrary::orders()) {
            prop_assert_eq!(strict_decode::<Order>(&order.encode(), 1 << 20), Ok(order));
        }
    }
}
