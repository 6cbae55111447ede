//! Loopback endpoints: the machine of whichever instance sends. In a sidecar that is the team's own pod. In a gateway it is
//! somebody else's, with ports that answer nobody outside of it on purpose, the instance's admin port among them; so that
//! whoever may write a Pool must not be able to publish them.
//!
//! Who may is not said by a field of its own: a pod belongs to its namespace, and whoever writes Pools there may reach
//! what is in it anyway.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sluice_model::unit::{PoolSource, Rule, Unit};
use sluice_model::{Config, FleetName, Name, ObjectKey};

use super::{Routes, Validation};
use crate::members::Memberships;
use crate::problem::{FieldPath, Severity};
use crate::translate::Translation;

const FIX: &str = "write the address that the upstream has for others, or use a service; loopback is for sidecars, whose \
                   fleet has all its members in the Pool's namespace";

/// Notes in `found` the Pools with loopback endpoints that a fleet would use whose instances run in another namespace than
/// theirs. In any other fleet they are what they say, so that these are warnings; the routes that need them say an error.
pub(super) fn note_strangers(
    translation: &Translation,
    routes: &Routes<'_>,
    members: &Memberships,
    found: &mut Validation,
) {
    for (fleet, routes) in routes {
        let rules = routes.iter().flat_map(|route| &route.unit.rules);
        let pools: BTreeSet<&ObjectKey> = rules.filter_map(Rule::pool).collect();
        for pool in pools {
            let Some(item) = translation.items.get(pool) else {
                continue;
            };
            if let Some((index, ip)) = item.meaning.as_ref().and_then(|meaning| loopback(meaning.unit()))
                && let Some(where_they_run) = strangers(fleet, pool, members)
            {
                let message = format!(
                    "{ip} would be the machine of whichever instance of fleet {fleet} sends, and {where_they_run}"
                );
                let field = FieldPath::root("spec").field("endpoints").index(index).field("address");
                found
                    .problems
                    .push(item.object.problem(Severity::Warning, field, message, FIX));
                found.refused.entry((*fleet).clone()).or_default().insert(pool.clone());
            }
        }
    }
}

/// A Pool in `served` whose loopback endpoints an instance in `namespace` must not be given: members may have been named
/// after the Pool went live, and it serves on in its last good form.
pub(crate) fn of_others<'a>(served: &'a Config, namespace: &Name) -> Option<(&'a ObjectKey, IpAddr)> {
    let others = served.units.iter().filter(|(pool, _)| pool.namespace != *namespace);
    let mut loopbacks = others.filter_map(|(pool, unit)| Some((pool, loopback(unit)?.1)));
    loopbacks.next()
}

/// The first loopback endpoint of a pool, with its number.
fn loopback(unit: &Unit) -> Option<(usize, IpAddr)> {
    let Unit::Pool(pool) = unit else {
        return None;
    };
    let PoolSource::Static(endpoints) = &pool.source else {
        return None;
    };
    let mut addresses = endpoints.iter().map(|endpoint| endpoint.address.ip()).enumerate();
    addresses.find(|(_, ip)| ip.is_loopback())
}

/// Where instances of the fleet run that are not of the pool's namespace.
fn strangers(fleet: &FleetName, pool: &ObjectKey, members: &Memberships) -> Option<String> {
    let namespaces: BTreeSet<_> = members.of(fleet).map(|member| &member.namespace).collect();
    match namespaces.iter().find(|namespace| ***namespace != pool.namespace) {
        Some(other) => Some(format!("they run in namespace {other}, not in {}", pool.namespace)),
        None if namespaces.is_empty() => Some("where they run is not known".to_owned()),
        None => None,
    }
}
