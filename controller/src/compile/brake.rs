//! The removal brake: removing most of what a fleet serves at once needs consent, meanwhile it keeps serving.
//!
//! A folder that was emptied, a branch that was reset, a selector that stopped matching: none of them looks different
//! from a person who means it. So the person says so, for exactly these objects, by an annotation on the Rollout.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use sluice_model::host::HostPattern;
use sluice_model::unit::Unit;
use sluice_model::{Kind, ObjectKey};

use super::choice::{Chooser, Form, Reason};
use crate::problem::{FieldPath, Problem, Severity};

/// The annotation on a Rollout that consents to one removal: its value is the token that the Problem names.
pub const CONSENT_ANNOTATION: &str = "sluice.dev/consent-removal";
/// Removing so many at once is everyday work, whatever share of the whole they are.
const SMALL_REMOVAL: usize = 2;

/// A removal that was stopped.
pub(super) struct Braked {
    /// The objects that keep their last good form because of it.
    pub(super) kept: BTreeSet<ObjectKey>,
    /// Say how to consent: in the log and by Event, and, where people look at objects, on the Rollout.
    pub(super) problems: Vec<Problem>,
}

/// What would no longer be served.
struct Removal<'a> {
    routes: BTreeSet<&'a ObjectKey>,
    hosts: BTreeSet<&'a HostPattern>,
    of_routes: usize,
    of_hosts: usize,
}

/// Puts back into `forms` what must not go without consent.
pub(super) fn apply(chooser: &Chooser<'_>, forms: &mut BTreeMap<ObjectKey, Form>) -> Option<Braked> {
    let stable = chooser.stable_snapshot()?;
    let removal = {
        let served = || stable.routes().map(|(key, unit)| (key, unit.hosts.as_slice()));
        let stay: BTreeSet<&HostPattern> = forms.values().flat_map(|form| hosts(&form.unit)).collect();
        let all: BTreeSet<&HostPattern> = served().flat_map(|(_, hosts)| hosts).collect();
        Removal {
            routes: served()
                .map(|(key, _)| key)
                .filter(|key| !forms.contains_key(key))
                .collect(),
            of_routes: served().count(),
            of_hosts: all.len(),
            hosts: all.iter().filter(|host| !stay.contains(*host)).copied().collect(),
        }
    };
    let nothing_left = removal.of_routes > 0 && !forms.keys().any(|key| key.kind == Kind::ProxyRoute);
    if !removal.is_large() && !nothing_left {
        return None;
    }
    let token = removal.token();
    let consents = |item: &crate::translate::Item| item.object.annotations.get(CONSENT_ANNOTATION) == Some(&token);
    if chooser.rollouts().any(consents) {
        return None;
    }
    let loses_a_host = |hosts: &[HostPattern]| hosts.iter().any(|host| removal.hosts.contains(host));
    let affected = stable
        .routes()
        .filter(|(key, unit)| removal.routes.contains(key) || loses_a_host(&unit.hosts));
    let kept: BTreeSet<ObjectKey> = affected.map(|(key, _)| key.clone()).collect();
    for key in &kept {
        if let Some(form) = chooser.last_good(key, Reason::AwaitsConsent) {
            forms.insert(key.clone(), form);
        }
    }
    Some(Braked {
        kept,
        problems: removal.problems(chooser, &token),
    })
}

fn hosts(unit: &Unit) -> &[HostPattern] {
    match unit {
        Unit::Route(route) => &route.hosts,
        Unit::Pool(_) | Unit::DataPlane(_) => &[],
    }
}

impl Removal<'_> {
    fn is_large(&self) -> bool {
        let large = |gone: usize, of: usize| gone > SMALL_REMOVAL && gone.saturating_mul(2) > of;
        large(self.routes.len(), self.of_routes) || large(self.hosts.len(), self.of_hosts)
    }

    /// Eight hex digits that stand for exactly this removal: consent to one is not consent to the next.
    fn token(&self) -> String {
        let mut hash = Sha256::new();
        for route in &self.routes {
            hash.update(format!("{route}\n"));
        }
        for host in &self.hosts {
            hash.update(format!("host {host}\n"));
        }
        let bytes: [u8; 32] = hash.finalize().into();
        bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    fn problems(&self, chooser: &Chooser<'_>, token: &str) -> Vec<Problem> {
        let problem = self.problem(chooser, token);
        // Those that would say it are gone; their Rollout is in order, so it is a warning there.
        let on_rollout = chooser.rollouts().next().filter(|_| chooser.is_in_cluster());
        let on_rollout = on_rollout.map(|item| {
            let (message, fix) = (problem.message.clone(), problem.fix.clone());
            item.object
                .problem(Severity::Warning, FieldPath::default(), message, fix)
        });
        std::iter::once(problem).chain(on_rollout).collect()
    }

    fn problem(&self, chooser: &Chooser<'_>, token: &str) -> Problem {
        let field = FieldPath::root("metadata").field("annotations");
        let rollout = chooser.rollouts().next();
        let whose = rollout.map_or_else(|| "its Rollout".to_owned(), |item| item.object.key.to_string());
        Problem {
            place: rollout.and_then(|item| item.object.origin.place(&field)),
            // Of no object: the Rollout itself is in order.
            object: None,
            field,
            severity: Severity::Error,
            message: format!(
                "{} of {} routes and {} of {} hosts of fleet {} would go at once ({}); they keep serving",
                self.routes.len(),
                self.of_routes,
                self.hosts.len(),
                self.of_hosts,
                chooser.fleet,
                self.examples()
            ),
            fix: format!("put them back, or consent with the annotation {CONSENT_ANNOTATION}: \"{token}\" on {whose}"),
            effect: None,
        }
    }

    fn examples(&self) -> String {
        let routes = self.routes.iter().map(ToString::to_string);
        let hosts = self.hosts.iter().map(|host| format!("host {host}"));
        let mut shown: Vec<String> = routes.chain(hosts).take(4).collect();
        if self.routes.len() + self.hosts.len() > 3 {
            shown.truncate(3);
            shown.push("…".into());
        }
        shown.join(", ")
    }
}
