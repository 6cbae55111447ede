//! What the fleet serves of its objects, for `status`: which content is where, and whether every instance that counts
//! has acknowledged it.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_model::{InstanceId, RevisionId, ServiceRef};

use super::Fleet;
use crate::compile::{Compiled, Stable};
use crate::live::Rotation;
use crate::pipeline::situation::{Chosen, Extent, Knowledge, Obstacle, Served, Spread, StableContent, Tried};
use crate::rollout::record::Rollout;
use crate::rollout::view::{Link, Seen};
use crate::rollout::{Beginning, Members, Millis, Order, Progress, order};
use crate::validate::Governed;

/// What is kept from one look to the next.
#[derive(Default)]
pub(super) struct Standings {
    ordered: Option<Ordered>,
    served: Option<Arc<Served>>,
    chosen: Arc<Chosen>,
    rotation: Arc<BTreeMap<ServiceRef, Rotation>>,
    /// What was offered to the core last.
    offered: Option<RevisionId>,
}

/// What everybody is ordered to serve, and since which order.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Ordered {
    stable: RevisionId,
    candidate: Option<(RevisionId, Extent)>,
    /// Whoever has acknowledged this epoch serves it.
    since: u64,
}

impl Ordered {
    /// What `order` says, given what the one before said. The epoch stays as long as nobody is taken from one content to
    /// another: an order that only adds members to a candidate leaves everything else where it was.
    fn after(before: Option<&Self>, order: &Order) -> Self {
        let candidate = order.candidate.as_ref().map(|candidate| {
            let extent = match candidate.members {
                Members::All => Extent::All,
                Members::Listed(_) => Extent::Some,
            };
            (candidate.revision, extent)
        });
        let stays = |before: &&Self| match (before.candidate, candidate) {
            // Promoted: everybody has been on it since it was ordered onto all.
            (Some((tried, Extent::All)), None) => tried == order.stable,
            (None, None | Some((_, Extent::Some))) => before.stable == order.stable,
            (Some(tried), Some(now)) => tried == now && before.stable == order.stable,
            (Some((_, Extent::Some)), None) | (None, Some((_, Extent::All))) => false,
        };
        Self {
            stable: order.stable,
            candidate,
            since: before.filter(stays).map_or(order.epoch, |before| before.since),
        }
    }
}

impl Fleet {
    /// Notes what the objects compiled to.
    pub(in crate::pipeline) fn note_chosen(&mut self, compiled: &Compiled) {
        let quarantined = compiled.quarantined.iter();
        self.standings.chosen = Arc::new(Chosen {
            sources: compiled.sources.clone(),
            quarantined: quarantined
                .map(|quarantined| (quarantined.object.clone(), quarantined.clone()))
                .collect(),
            governing: compiled.governing.clone(),
            governed: compiled.governed,
        });
    }

    /// Whether a Rollout governs it, as the objects said last.
    pub(in crate::pipeline) fn governed(&self) -> Governed {
        self.standings.chosen.governed
    }

    /// Notes what is offered to the core.
    pub(in crate::pipeline) fn note_offered(&mut self, revision: RevisionId) {
        self.standings.offered = Some(revision);
    }

    /// Notes what it consists of.
    pub(in crate::pipeline) fn note_content(&mut self, revision: RevisionId, content: Stable) {
        self.offered = Some((revision, content));
    }

    /// Notes how many endpoints take requests.
    pub(super) fn note_rotation(&mut self) {
        self.standings.rotation = Arc::new(self.lane.rotation().collect());
    }

    pub(super) fn rotation(&self) -> Arc<BTreeMap<ServiceRef, Rotation>> {
        self.standings.rotation.clone()
    }

    /// What the fleet serves; the same value as before if nothing changed.
    pub(super) fn served(&mut self, now: Millis) -> Arc<Served> {
        let spread = self.spread();
        let stable = self.core.record().stable.map(|revision| StableContent {
            revision,
            snapshot: self.stable(now).map(|stable| stable.snapshot),
        });
        let record = self.core.record();
        let before = self.standings.served.as_ref();
        let held = match before {
            Some(before) if *before.held == *record.held => before.held.clone(),
            Some(_) | None => record.held.clone().into(),
        };
        let tried_before = before.and_then(|before| before.tried.as_ref());
        let served = Served {
            knowledge: self.knowledge(),
            stable,
            tried: record.rollout.as_ref().map(|rollout| tried(rollout, tried_before)),
            spread,
            chosen: self.standings.chosen.clone(),
            held,
            obstacle: self.obstacle(),
        };
        match before {
            Some(before) if before.is_same(&served) => before.clone(),
            Some(_) | None => self.standings.served.insert(Arc::new(served)).clone(),
        }
    }

    fn knowledge(&self) -> Knowledge {
        // Of a fleet that begins with this controller no instance can hold anything that it does not know of.
        let began_here = self.began_here && self.core.record().beginning == Beginning::NewFleet;
        if began_here || self.core.has_settled() {
            Knowledge::Complete
        } else if self.core.has_its_fleet() {
            Knowledge::Counted
        } else {
            Knowledge::Gathering
        }
    }

    fn spread(&mut self) -> Spread {
        let Some(order) = self.committed.as_ref().and_then(order) else {
            return Spread::Nobody;
        };
        let ordered = Ordered::after(self.standings.ordered.as_ref(), &order);
        let since = ordered.since;
        self.standings.ordered = Some(ordered);
        let seen = self.core.view().instances.iter();
        let mut counting = seen.filter(|(instance, seen)| self.counts(instance, seen)).peekable();
        match (counting.peek().is_none(), counting.all(|(_, seen)| seen.epoch >= since)) {
            (true, _) => Spread::Nobody,
            (false, true) => Spread::Acknowledged,
            (false, false) => Spread::Awaited,
        }
    }

    /// Whether an instance may be serving something. One that is away may, for all that is known: it counts until it is
    /// back or gone.
    fn counts(&self, instance: &InstanceId, seen: &Seen) -> bool {
        let holds = || {
            self.instances
                .get(instance)
                .is_some_and(|known| !known.holds.is_empty())
        };
        seen.epoch > 0 || seen.link == Link::Away || holds()
    }

    fn obstacle(&self) -> Obstacle {
        let record = self.core.record();
        let paused = record.paused.is_some() || record.plan.progress == Progress::Paused;
        let failed = |revision: &RevisionId| record.blocked.iter().any(|blocked| blocked.revision == *revision);
        if record.frozen.is_some() {
            Obstacle::Frozen
        } else if let Some(why) = &self.withheld {
            Obstacle::Withheld(why.clone())
        } else if let Some(revision) = self.standings.offered.filter(failed) {
            Obstacle::Blocked(revision)
        } else if paused {
            Obstacle::Paused
        } else if self.core.view().connected().is_empty() {
            Obstacle::NoInstances
        } else {
            Obstacle::Turn
        }
    }
}

fn tried(rollout: &Rollout, before: Option<&Arc<Tried>>) -> Arc<Tried> {
    let extent = match rollout.members {
        Members::All => Extent::All,
        Members::Listed(_) => Extent::Some,
    };
    let (revision, index) = (rollout.target.revision, rollout.stage + 1);
    let known = before.filter(|tried| (tried.revision, tried.index, tried.extent) == (revision, index, extent));
    if let Some(known) = known {
        return known.clone();
    }
    let changed = rollout.target.changed.iter();
    Arc::new(Tried {
        revision,
        stage: rollout
            .current_stage()
            .map_or_else(String::new, |stage| stage.name.clone()),
        index,
        of: rollout.stages.len(),
        extent,
        changed: changed
            .map(|changed| (changed.object.clone(), changed.content))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Candidate, PerMillion};
    use sluice_model::Digest;

    fn revision(number: u8) -> RevisionId {
        RevisionId {
            number: number.into(),
            digest: Digest([number; 32]),
        }
    }

    /// `stable`, and perhaps a candidate on some or all, as of `epoch`.
    fn order(epoch: u64, stable: u8, candidate: Option<(u8, Extent)>) -> Order {
        Order {
            epoch,
            stable: revision(stable),
            candidate: candidate.map(|(number, extent)| Candidate {
                revision: revision(number),
                members: match extent {
                    Extent::All => Members::All,
                    Extent::Some => Members::Listed(["i-1".parse().unwrap()].into()),
                },
                share: PerMillion::ALL,
            }),
            counted: vec![],
        }
    }

    #[test]
    fn what_everybody_serves_is_as_old_as_the_order_that_brought_it() {
        use Extent::{All, Some as Few};
        let orders = [
            (order(10, 1, None), 10, "the first"),
            (order(11, 1, None), 10, "said once more"),
            (order(12, 1, Some((2, Few))), 10, "everything else stays"),
            (order(13, 1, Some((2, Few))), 10, "a larger stage"),
            (order(14, 1, Some((3, Few))), 14, "superseded: some go back or on"),
            (order(15, 1, Some((3, All))), 15, "everybody is ordered onto it"),
            (order(16, 3, None), 15, "promoted: nothing changes for anybody"),
            (order(17, 3, Some((4, Few))), 15, "the next"),
            (order(18, 3, None), 18, "taken back: its members have to follow"),
            (order(19, 3, Some((5, All))), 19, "onto everybody"),
            (order(20, 3, None), 20, "and back"),
        ];
        let mut before = None;
        for (order, since, what) in orders {
            let ordered = Ordered::after(before.as_ref(), &order);
            assert_eq!(ordered.since, since, "{what}");
            before = Some(ordered);
        }
    }
}
