//! Instances of the fleet that would be connected and are not let in: no Rollout has them among its members, as after
//! theirs was deleted. They serve on, and ask again and again; here is who asked lately, for people.

use std::collections::BTreeMap;

use sluice_model::InstanceId;
use sluice_model::limits::{TURNED_AWAY_KEPT_MS, TURNED_AWAY_MAX};

use super::Fleet;
use crate::pipeline::board::InstanceView;
use crate::pipeline::story::written;
use crate::rollout::Millis;
use crate::validate::Governed;

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct TurnedAway(BTreeMap<InstanceId, Refused>);

/// Why, and when it asked first and last.
#[derive(Clone, Debug)]
struct Refused {
    why: String,
    first: Millis,
    last: Millis,
}

impl TurnedAway {
    fn note(&mut self, instance: &InstanceId, why: String, now: Millis) {
        self.0
            .retain(|_, refused| now.since(refused.last) < TURNED_AWAY_KEPT_MS);
        let first = self.0.get(instance).map_or(now, |refused| refused.first);
        if self.0.len() < TURNED_AWAY_MAX || self.0.contains_key(instance) {
            let refused = Refused { why, first, last: now };
            self.0.insert(instance.clone(), refused);
        }
    }

    /// It is connected, or gone.
    pub(super) fn let_in(&mut self, instance: &InstanceId) {
        self.0.remove(instance);
    }

    fn lately(&self, now: Millis) -> impl Iterator<Item = (&InstanceId, &Refused)> {
        let lately = move |(_, refused): &(&InstanceId, &Refused)| now.since(refused.last) < TURNED_AWAY_KEPT_MS;
        self.0.iter().filter(lately)
    }
}

impl Fleet {
    /// An instance of this fleet was not let in.
    pub fn turned_away(&mut self, instance: &InstanceId, why: String, now: Millis) {
        self.turned_away.note(instance, why, now);
    }

    /// Everybody who is or was connected, and who would be.
    pub(super) fn instance_views(&self, now: Millis) -> Vec<InstanceView> {
        let mut views: BTreeMap<&InstanceId, InstanceView> = BTreeMap::new();
        for (instance, connected) in &self.instances {
            let mut view = connected.view.clone();
            view.reason = (!view.connected).then(|| self.absence());
            views.insert(instance, view);
        }
        for (instance, refused) in self.turned_away.lately(now) {
            let view = views.entry(instance).or_insert_with(|| InstanceView {
                instance: instance.clone(),
                fleet: self.name.clone(),
                build: String::new(),
                connected: false,
                epoch: 0,
                stable: None,
                candidate: None,
                since: written(refused.first),
                reason: None,
            });
            if !view.connected {
                view.reason = Some(format!("it is not let in, and serves on what it has: {}", refused.why));
            }
        }
        views.into_values().collect()
    }

    /// Why somebody is not connected who was.
    fn absence(&self) -> String {
        match self.governed() {
            Governed::ByNobody => format!(
                "no Rollout governs fleet {} any more: it is not let in, and serves on what it has if its pod is still \
                 there; pods that began since are not let in either, and are not listed",
                self.name
            ),
            Governed::ByRollout => {
                "its stream ended; if its pod runs it serves on what it has, and its log says more".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, fleet, join, shared};
    use super::*;
    use crate::stream::LinkId;

    fn reasons(fleet: &Fleet, now: Millis) -> Vec<(String, bool, Option<String>)> {
        let views = fleet.instance_views(now).into_iter();
        views
            .map(|view| (view.instance.to_string(), view.connected, view.reason))
            .collect()
    }

    #[test]
    fn who_is_not_let_in_is_listed_with_the_reason_while_it_asks() {
        let state = tempfile::tempdir().unwrap();
        let mut fleet = fleet(&shared(state.path()));
        let _sent = join(&mut fleet);
        assert_eq!(reasons(&fleet, NOW), [("i-1".to_owned(), true, None)]);
        fleet.closed(&"i-1".parse().unwrap(), LinkId(1), NOW);
        let [(_, false, Some(why))] = &reasons(&fleet, NOW)[..] else {
            panic!("it is away");
        };
        assert!(why.contains("its stream ended"), "{why}");
        let stranger: InstanceId = "i-2".parse().unwrap();
        for instance in [&"i-1".parse().unwrap(), &stranger] {
            fleet.turned_away(instance, "no Rollout names it".to_owned(), NOW);
        }
        let told = "it is not let in, and serves on what it has: no Rollout names it";
        let expected = ["i-1", "i-2"].map(|name| (name.to_owned(), false, Some(told.to_owned())));
        assert_eq!(reasons(&fleet, NOW), expected);
        let late = Millis(NOW.0 + TURNED_AWAY_KEPT_MS);
        assert_eq!(reasons(&fleet, late).len(), 1, "nothing was heard of i-2 for long");
        fleet.gone(&stranger, NOW);
        assert_eq!(reasons(&fleet, NOW).len(), 1);
    }
}
