//! Instances of the fleet that would be connected and are not let in: no Rollout has them among its members, as after
//! theirs was deleted. They serve on, and ask again and again; here is who asked lately, for people.

use std::collections::BTreeMap;

use sluice_model::limits::{TURNED_AWAY_KEPT_MS, TURNED_AWAY_MAX};
use sluice_model::{InstanceId, Name};

use super::Fleet;
use crate::pipeline::board::InstanceView;
use crate::pipeline::story::written;
use crate::rollout::Millis;
use crate::validate::{Governed, reach};

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

    /// Why no instance that runs in `namespace` may have what is served or tried: it would send to what listens on its own
    /// machine for somebody else's Pool.
    pub(in crate::pipeline) fn keeps_out(&mut self, namespace: &Name, now: Millis) -> Option<String> {
        let stable = self.stable(now);
        let target = self
            .core
            .record()
            .rollout
            .as_ref()
            .map(|rollout| rollout.target.revision);
        let tried = self.offered.as_ref().filter(|(revision, _)| Some(*revision) == target);
        let tried = tried.map(|(_, content)| content);
        let (pool, ip) = stable
            .iter()
            .chain(tried)
            .find_map(|content| reach::of_others(content.snapshot.config(), namespace))?;
        Some(format!(
            "{pool} is live with the endpoint {ip}, which in namespace {namespace} would be another machine than it means; \
             take the endpoint out of the Pool, or remove the routes to it, then this instance is let in"
        ))
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
    use std::sync::Arc;

    use sluice_proto::sections::unit_digest;

    use super::super::tests::{NOW, first_target, fleet, join, shared};
    use super::*;
    use crate::compile::{Compiler, Stable};
    use crate::rollout::Event;
    use crate::source::{View, manifest, yaml};
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

    /// Members may be named after a Pool went live that means their own machines.
    #[test]
    fn an_instance_of_another_namespace_waits_until_no_pool_means_its_own_machine() {
        let state = tempfile::tempdir().unwrap();
        let mut fleet = fleet(&shared(state.path()));
        let (shop, other) = ("shop".parse().unwrap(), "other".parse().unwrap());
        assert_eq!(fleet.keeps_out(&other, NOW), None, "it serves nothing");
        let target = first_target(&fleet);
        let Event::NewTarget(first) = &target else {
            panic!("{target:?}");
        };
        let revision = first.revision;
        fleet.note_content(revision, content("127.0.0.1"));
        fleet.whole.insert(revision);
        fleet.happen(target, NOW);
        assert_eq!(fleet.core.record().stable, Some(revision));
        assert_eq!(fleet.keeps_out(&shop, NOW), None, "its own");
        let why = fleet.keeps_out(&other, NOW).unwrap();
        assert!(
            why.starts_with("Pool shop/p is live with the endpoint 127.0.0.1"),
            "{why}"
        );
        fleet.stable = Some((revision, content("10.1.2.3")));
        assert_eq!(fleet.keeps_out(&other, NOW), None);
        // One that was offered once, and is not tried, keeps nobody out.
        fleet.note_content(revision, content("127.0.0.1"));
        assert_eq!(fleet.keeps_out(&other, NOW), None);
    }

    fn content(address: &str) -> Stable {
        let text = format!(
            "apiVersion: sluice.dev/v1alpha1\nkind: Pool\nmetadata: {{name: p, namespace: shop}}\n\
             spec: {{endpoints: [{{address: '{address}', port: 80}}]}}\n\
             ---\napiVersion: sluice.dev/v1alpha1\nkind: ProxyRoute\nmetadata: {{name: r, namespace: shop}}\n\
             spec: {{fleet: edge, hostnames: [a.example.com], rules: [{{name: all, pool: p}}]}}\n\
             ---\napiVersion: sluice.dev/v1alpha1\nkind: Rollout\nmetadata: {{name: edge, namespace: sluice-system}}\n\
             spec: {{fleet: edge, dataPlane: {{listeners: [{{name: http, port: 80}}]}}}}\n"
        );
        let read = manifest::read(&"a.yaml".into(), yaml::documents(&text).unwrap());
        assert_eq!(read.problems, []);
        let view = View {
            objects: read.objects.into_iter().collect(),
            ..View::default()
        };
        let mut output = Compiler::new(unit_digest).compile(&view, &BTreeMap::new());
        assert!(
            !output.problems.iter().any(crate::problem::Problem::is_error),
            "{:?}",
            output.problems
        );
        let compiled = output.fleets.remove(&"edge".parse().unwrap()).unwrap();
        Stable {
            snapshot: Arc::new(compiled.snapshot.unwrap()),
            sources: BTreeMap::new(),
        }
    }
}
