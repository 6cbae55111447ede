//! Who may be an instance of which fleet: what the Rollouts that govern say in `spec.members`. A pure function of the
//! objects, for enrolment to ask; what an instance says of itself decides nothing.
//!
//! Only Rollouts in the controller's namespace govern. Of two for one fleet the older does, and of two that name one
//! service account the one that has it keeps it, or else the older gets it. One with an error that never had a member
//! comes after all others: whoever writes a broken Rollout must not take somebody's instances away with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_crds::{Member as MemberSpec, RolloutSpec};
use sluice_model::{FleetName, Kind, Name, ObjectKey};

use crate::objects::{Object, Objects, Spec};
use crate::problem::{FieldPath, Problem, Severity};
use crate::source::View;
use crate::translate::{Translation, translate};

/// The service account, in the Rollout's namespace, whose pods are the instances of a fleet that names no members.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "sluice-dataplane";

/// A service account whose pods may be instances. Prints as `shop/sidecar`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub service_account: Name,
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

/// Which service accounts belong to which fleet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memberships {
    /// Of each member its fleet, and the Rollout that says so.
    fleets: BTreeMap<Member, (FleetName, ObjectKey)>,
    problems: Vec<Problem>,
}

/// The same as a view has it: while Rollouts cannot be seen all is as it was (`None`: nothing is known yet), and one that
/// cannot be read keeps the members that it had. Nobody is sent away because of what the controller does not know.
pub fn members_seen(view: &View, controller_namespace: &Name, before: Option<&Memberships>) -> Option<Memberships> {
    if view.coverage.hides_some(Kind::Rollout, controller_namespace) {
        return before.cloned();
    }
    let mut now = members(&view.objects, controller_namespace.as_str(), before);
    for (member, (fleet, rollout)) in before.into_iter().flat_map(|before| &before.fleets) {
        let unreadable = view
            .objects
            .get(rollout)
            .is_some_and(|object| object.spec == Spec::Unreadable);
        if unreadable && !now.fleets.contains_key(member) {
            now.fleets.insert(member.clone(), (fleet.clone(), rollout.clone()));
        }
    }
    Some(now)
}

/// Who may join which fleet, as `objects` say, where only Rollouts in `controller_namespace` count; `before` is who could
/// until now.
pub fn members(objects: &Objects, controller_namespace: &str, before: Option<&Memberships>) -> Memberships {
    let belonged = |member: &Member| before.and_then(|before| before.fleets.get(member));
    let mut memberships = Memberships::default();
    let claimants = governing(objects, controller_namespace, before);
    for claimant in &claimants {
        let own = of_rollout(claimant.rollout, claimant.spec).into_iter();
        let kept = own.filter(|(_, member)| belonged(member).is_some_and(|(_, by)| *by == claimant.rollout.key));
        memberships
            .fleets
            .extend(kept.map(|(_, member)| (member, claimant.says())));
    }
    for claimant in &claimants {
        for (field, member) in of_rollout(claimant.rollout, claimant.spec) {
            // What somebody had whose Rollout is gone, and may come again, is not for one that is broken.
            let had = belonged(&member).filter(|_| claimant.claim == Claim::Broken);
            let entry = memberships.fleets.entry(member.clone());
            let (_, owner) = entry.or_insert_with(|| had.cloned().unwrap_or_else(|| claimant.says()));
            if *owner != claimant.rollout.key {
                memberships
                    .problems
                    .push(taken(claimant.rollout, field, &member, owner));
            }
        }
    }
    memberships
}

/// A Rollout that governs a fleet, and so may say who its members are.
struct Claimant<'a> {
    claim: Claim,
    fleet: FleetName,
    rollout: &'a Arc<Object>,
    spec: &'a RolloutSpec,
}

impl Claimant<'_> {
    fn says(&self) -> (FleetName, ObjectKey) {
        (self.fleet.clone(), self.rollout.key.clone())
    }
}

/// How a Rollout stands among others that want the same, the first first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// It is in order, or has members already.
    Good,
    /// Something is wrong with it, and it never had a member.
    Broken,
}

fn claim(object: &Arc<Object>, before: Option<&Memberships>) -> Claim {
    let has_members = before.is_some_and(|before| before.fleets.values().any(|(_, of)| *of == object.key));
    let alone: Objects = std::iter::once(Arc::clone(object)).collect();
    let is_in_order = || {
        !translate(&alone, None, &Translation::default())
            .problems()
            .any(Problem::is_error)
    };
    if has_members || is_in_order() {
        Claim::Good
    } else {
        Claim::Broken
    }
}

/// The Rollouts that govern a fleet, those with the better claim first, and of these the oldest.
fn governing<'a>(objects: &'a Objects, controller_namespace: &str, before: Option<&Memberships>) -> Vec<Claimant<'a>> {
    let own = objects.of_kind(Kind::Rollout);
    let own = own.filter(|object| object.key.namespace.as_str() == controller_namespace);
    let readable = own.filter_map(|object| Some((claim(object, before), object, rollout(object)?)));
    let mut readable: Vec<_> = readable.collect();
    readable.sort_by_key(|(claim, object, _)| (*claim, object.created_at_seconds.unwrap_or(u64::MAX), &object.key));
    let mut governed = BTreeSet::new();
    let mut governing = Vec::new();
    for (claim, rollout, spec) in readable {
        let Ok(fleet) = spec.fleet.parse::<FleetName>() else {
            continue;
        };
        if governed.insert(fleet.clone()) {
            governing.push(Claimant {
                claim,
                fleet,
                rollout,
                spec,
            });
        }
    }
    governing
}

fn rollout(object: &Object) -> Option<&RolloutSpec> {
    match &object.spec {
        Spec::Rollout(spec) => Some(spec),
        Spec::ProxyRoute(_) | Spec::Pool(_) | Spec::Unreadable => None,
    }
}

/// The members that a Rollout names, or the one that stands for none. Names that are none belong to nobody: the schema
/// refuses them, and translation says so where it did not.
fn of_rollout(object: &Object, spec: &RolloutSpec) -> Vec<(FieldPath, Member)> {
    let field = FieldPath::root("spec").field("members");
    if spec.members.is_empty() {
        return implied(object).map(|member| (field, member)).into_iter().collect();
    }
    let numbered = spec.members.iter().enumerate();
    numbered
        .filter_map(|(index, spec)| Some((field.index(index), member(spec)?)))
        .collect()
}

fn implied(object: &Object) -> Option<Member> {
    Some(Member {
        namespace: object.key.namespace.clone(),
        service_account: DEFAULT_SERVICE_ACCOUNT.parse().ok()?,
    })
}

fn member(spec: &MemberSpec) -> Option<Member> {
    let MemberSpec {
        namespace,
        service_account_name,
    } = spec;
    Some(Member {
        namespace: namespace.parse().ok()?,
        service_account: service_account_name.parse().ok()?,
    })
}

fn taken(object: &Object, field: FieldPath, member: &Member, owner: &ObjectKey) -> Problem {
    object.problem(
        Severity::Error,
        field,
        format!("service account {member} is a member of the fleet of {owner} already"),
        "name another service account: who has one keeps it; a Rollout that names none has sluice-dataplane of its namespace",
    )
}

impl Memberships {
    /// The fleet that pods of this service account belong to, if they belong to one.
    pub fn fleet_of(&self, namespace: &str, service_account: &str) -> Option<FleetName> {
        let member = Member {
            namespace: namespace.parse().ok()?,
            service_account: service_account.parse().ok()?,
        };
        self.fleets.get(&member).map(|(fleet, _)| fleet.clone())
    }

    /// The namespaces that instances run in: those that need the controller's CA and keys.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.fleets
            .keys()
            .map(|member| member.namespace.as_str().to_owned())
            .collect()
    }

    /// The same, fleet by fleet.
    pub fn namespaces_by_fleet(&self) -> BTreeMap<FleetName, BTreeSet<String>> {
        let mut all: BTreeMap<FleetName, BTreeSet<String>> = BTreeMap::new();
        for (member, (fleet, _)) in &self.fleets {
            let namespace = member.namespace.as_str().to_owned();
            all.entry(fleet.clone()).or_default().insert(namespace);
        }
        all
    }

    /// The Rollouts that name members in a namespace.
    pub fn rollouts_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a ObjectKey> {
        let own = self
            .fleets
            .iter()
            .filter(move |(member, _)| member.namespace.as_str() == namespace);
        own.map(|(_, (_, rollout))| rollout)
    }

    /// The members of one fleet.
    pub fn of<'a>(&'a self, fleet: &'a FleetName) -> impl Iterator<Item = &'a Member> {
        let own = self.fleets.iter().filter(move |(_, (of, _))| of == fleet);
        own.map(|(member, _)| member)
    }

    /// Members that two Rollouts name, told to the younger.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{manifest, yaml};

    fn rollout(name: &str, created: u32, more: &str) -> String {
        format!(
            "---\n{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, \
             metadata: {{name: {name}, namespace: sluice-system, creationTimestamp: '2026-01-01T00:00:{created:02}Z'}}, \
             spec: {{dataPlane: {{listeners: [{{name: http, port: 80}}]}}, {more}}}}}\n"
        )
    }

    fn read(texts: &[String]) -> Memberships {
        let read = manifest::read(&"a.yaml".into(), yaml::documents(&texts.concat()).unwrap());
        assert_eq!(read.problems, []);
        members(&read.objects.into_iter().collect(), "sluice-system", None)
    }

    fn check(memberships: &Memberships, account: &str, fleet: Option<&str>) {
        let (namespace, name) = account.split_once('/').unwrap();
        let found = memberships.fleet_of(namespace, name);
        assert_eq!(found.as_ref().map(FleetName::as_str), fleet, "{account}");
    }

    #[test]
    fn a_fleet_has_the_members_that_its_rollout_names() {
        let shop = "fleet: shop, members: [{namespace: shop, serviceAccountName: a}, {namespace: shop, serviceAccountName: b}]";
        let found = read(&[rollout("edge", 1, "fleet: edge"), rollout("shop", 2, shop)]);
        check(&found, "sluice-system/sluice-dataplane", Some("edge"));
        check(&found, "shop/a", Some("shop"));
        check(&found, "shop/b", Some("shop"));
        for stranger in ["shop/sluice-dataplane", "sluice-system/default", "other/a", "shop/"] {
            check(&found, stranger, None);
        }
        assert_eq!(found.namespaces(), ["shop".into(), "sluice-system".into()].into());
        let of_shop: Vec<_> = found.of(&"shop".parse().unwrap()).map(ToString::to_string).collect();
        assert_eq!(of_shop, ["shop/a", "shop/b"]);
        assert_eq!(found.problems(), []);
    }

    #[test]
    fn the_older_rollout_has_a_member_that_two_name() {
        let found = read(&[rollout("b", 2, "fleet: b"), rollout("a", 3, "fleet: a")]);
        check(&found, "sluice-system/sluice-dataplane", Some("b"));
        let told: Vec<_> = found.problems().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains("Rollout sluice-system/a spec.members: service account sluice-system/sluice-dataplane is a member of the fleet of Rollout sluice-system/b already"),
            "{told:?}"
        );
    }

    fn seen(texts: &[String], before: Option<&Memberships>) -> Memberships {
        let read = manifest::read(&"a.yaml".into(), yaml::documents(&texts.concat()).unwrap());
        members(&read.objects.into_iter().collect(), "sluice-system", before)
    }

    /// A Rollout is deleted and applied again, beside an older one that somebody got wrong.
    #[test]
    fn a_broken_rollout_takes_nobody_away() {
        let broken = rollout("broken", 1, "fleet: broken, gates: [{metric: LatencyP95, max: '1%'}]");
        let mine = "sluice-system/sluice-dataplane";
        let edge = |created| rollout("edge", created, "fleet: edge");
        let first = seen(&[edge(2), broken.clone()], None);
        check(&first, mine, Some("edge"));
        assert_eq!(first.problems().len(), 1, "and it is told");
        let gap = seen(std::slice::from_ref(&broken), Some(&first));
        check(&gap, mine, Some("edge"));
        for before in [&gap, &first] {
            check(&seen(&[edge(9), broken.clone()], Some(before)), mine, Some("edge"));
        }
        let mended = rollout("broken", 1, "fleet: broken");
        check(&seen(&[mended], Some(&gap)), mine, Some("broken"));
        check(&seen(&[broken], None), mine, Some("broken"));
    }

    #[test]
    fn who_has_a_member_keeps_it_even_while_its_own_rollout_is_wrong() {
        let wrong = rollout("edge", 2, "fleet: edge, gates: [{metric: LatencyP95, max: '1%'}]");
        let other = rollout(
            "other",
            1,
            "fleet: other, members: [{namespace: x, serviceAccountName: x}]",
        );
        let before = seen(&[rollout("edge", 2, "fleet: edge"), other.clone()], None);
        let wants = rollout("other", 1, "fleet: other");
        let now = seen(&[wrong, wants], Some(&before));
        check(&now, "sluice-system/sluice-dataplane", Some("edge"));
        assert_eq!(now.problems().len(), 1);
    }

    #[test]
    fn rollouts_that_do_not_govern_name_nobody() {
        let younger = "fleet: edge, members: [{namespace: x, serviceAccountName: x}]";
        let elsewhere = rollout("far", 0, "fleet: far").replace("namespace: sluice-system", "namespace: shop");
        let found = read(&[rollout("a", 1, "fleet: edge"), rollout("b", 2, younger), elsewhere]);
        check(&found, "sluice-system/sluice-dataplane", Some("edge"));
        check(&found, "x/x", None);
        check(&found, "shop/sluice-dataplane", None);
    }

    #[test]
    fn what_is_not_seen_or_not_readable_sends_nobody_away() {
        use crate::source::{Area, Coverage};
        let namespace: Name = "sluice-system".parse().unwrap();
        let view = |text: &str, coverage| {
            let read = manifest::read(&"a.yaml".into(), yaml::documents(text).unwrap());
            View {
                objects: read.objects.into_iter().collect(),
                coverage,
                ..View::default()
            }
        };
        let hidden = Coverage::Without(BTreeSet::from([Area {
            kind: Kind::Rollout,
            namespace: None,
        }]));
        assert_eq!(
            members_seen(&view("", hidden.clone()), &namespace, None),
            None,
            "nothing is known"
        );
        let good = [
            rollout("edge", 1, "fleet: edge"),
            rollout(
                "shop",
                2,
                "fleet: shop, members: [{namespace: shop, serviceAccountName: a}]",
            ),
        ]
        .concat();
        let known = members_seen(&view(&good, Coverage::Whole), &namespace, None).unwrap();
        assert_eq!(
            members_seen(&view("", hidden), &namespace, Some(&known)).as_ref(),
            Some(&known)
        );
        let broken = good.replace("serviceAccountName: a", "serviceAccountName: [a]");
        let kept = members_seen(&view(&broken, Coverage::Whole), &namespace, Some(&known)).unwrap();
        check(&kept, "shop/a", Some("shop"));
        let gone = members_seen(
            &view(&rollout("edge", 1, "fleet: edge"), Coverage::Whole),
            &namespace,
            Some(&known),
        )
        .unwrap();
        check(&gone, "shop/a", None);
    }
}
