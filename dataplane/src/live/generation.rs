//! `Generation`: one snapshot made ready to serve under one role. References between its parts are indices, and each
//! part bears the generation's stamp.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use sluice_model::unit::{PoolSource, PoolUnit, RouteUnit, Rule, Timeouts};
use sluice_model::upgrade::UpgradeToken;
use sluice_model::{ObjectKey, RevisionId, ServiceRef, Snapshot};

use super::values::LiveValues;
use crate::pool::rotation::Rotation;
use crate::pool::services::Feed;
use crate::router::Router;
use crate::stats::Role;
use crate::telemetry::names::Names;
use crate::tls;

/// Tells one generation from every other in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(u64);

static NEXT_STAMP: AtomicU64 = AtomicU64::new(1);

/// Why a snapshot cannot be made ready. `Snapshot::check` makes this impossible; it is said rather than assumed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A rule names a pool that is not there.
    #[error("{route} refers to {pool}, which is not in the snapshot")]
    NoPool {
        /// The route.
        route: ObjectKey,
        /// The pool.
        pool: ObjectKey,
    },
}

/// One rule of a route.
#[derive(Debug)]
pub struct RuleEntry {
    /// Of its generation.
    pub stamp: Stamp,
    /// What logs call it: its name or its index.
    pub text: Arc<str>,
    /// The index of its pool.
    pub pool: u32,
    /// How long things may take.
    pub timeouts: Arc<Timeouts>,
    /// Protocols that its clients may go over to.
    pub upgrades: Arc<[UpgradeToken]>,
}

/// One route.
#[derive(Debug)]
pub struct RouteEntry {
    /// Of its generation.
    pub stamp: Stamp,
    /// Its object.
    pub key: ObjectKey,
    /// `namespace/name`.
    pub text: Arc<str>,
    /// Its rules, in the author's order.
    pub rules: Vec<RuleEntry>,
    /// Its scope among those counted separately.
    pub counted: Option<u16>,
}

/// One pool.
#[derive(Debug)]
pub struct PoolEntry {
    /// Of its generation.
    pub stamp: Stamp,
    /// Its object.
    pub key: ObjectKey,
    /// `namespace/name`.
    pub text: Arc<str>,
    /// Its endpoints.
    pub endpoints: Endpoints,
}

/// Where the endpoints of a pool are.
#[derive(Debug)]
pub enum Endpoints {
    /// Here: they are part of the revision.
    Written(Arc<Rotation>),
    /// With the service, and other ones from one request to the next.
    Fed(ServiceRef, Arc<Feed>),
}

impl PoolEntry {
    /// The endpoints as they are now. Requests ask their worker instead, which remembers.
    pub fn rotation(&self) -> Arc<Rotation> {
        match &self.endpoints {
            Endpoints::Written(rotation) => rotation.clone(),
            Endpoints::Fed(_, feed) => Arc::clone(&feed.load()),
        }
    }
}

/// Where the routes of a generation are counted. (Endpoints know themselves: they may change.)
#[derive(Debug)]
pub struct Slots {
    /// By route, then rule.
    pub routes: Vec<Vec<u16>>,
}

/// A snapshot made ready to serve.
#[derive(Debug)]
pub struct Generation {
    /// Which.
    pub stamp: Stamp,
    /// Of which revision.
    pub revision: RevisionId,
    /// The same, as text.
    pub revision_text: Arc<str>,
    /// As what it serves.
    pub role: Role,
    /// What it was made of.
    pub snapshot: Arc<Snapshot>,
    /// Which route and rule take a request.
    pub router: Arc<Router>,
    /// Which certificates are for which hosts.
    pub names: Arc<tls::names::Names>,
    /// In the order of `Snapshot::routes`.
    pub routes: Vec<RouteEntry>,
    /// In the order of `Snapshot::pools`.
    pub pools: Vec<PoolEntry>,
    /// The routes that are counted separately.
    pub counted: Vec<ObjectKey>,
    slots: OnceLock<Slots>,
}

impl Generation {
    /// Makes `snapshot` ready; what it only refers to it finds in `values`, now and later. Costs what the snapshot's size
    /// costs, except that the router of `previous` is taken over if it has the same routes: so much for changes of
    /// endpoints and for promoting a candidate.
    pub fn build(
        revision: RevisionId,
        role: Role,
        snapshot: Arc<Snapshot>,
        counted: &[ObjectKey],
        values: &LiveValues,
        previous: Option<&Self>,
    ) -> Result<Arc<Self>, BuildError> {
        let stamp = Stamp(NEXT_STAMP.fetch_add(1, Ordering::Relaxed));
        let pools: Vec<PoolEntry> = snapshot
            .pools()
            .map(|(key, pool)| pool_entry(stamp, key, pool, values))
            .collect();
        let pool_index: HashMap<&ObjectKey, u32> = pools.iter().map(|pool| &pool.key).zip(0..).collect();
        let scopes: HashMap<&ObjectKey, u16> = counted.iter().zip(0..).collect();
        let mut routes = Vec::new();
        for (key, route) in snapshot.routes() {
            let mut entry = route_entry(stamp, key, route, &pool_index)?;
            entry.counted = scopes.get(key).copied();
            routes.push(entry);
        }
        let same = previous.filter(|previous| same_routes(&previous.snapshot, &snapshot));
        let (router, names) = match same {
            Some(previous) => (previous.router.clone(), previous.names.clone()),
            None => {
                let names = tls::names::Names::compile(snapshot.routes().map(|(_, route)| route));
                (Arc::new(Router::compile(&snapshot)), Arc::new(names))
            }
        };
        Ok(Arc::new(Self {
            stamp,
            revision,
            revision_text: revision.to_string().into(),
            role,
            router,
            names,
            routes,
            pools,
            counted: counted.to_vec(),
            snapshot,
            slots: OnceLock::new(),
        }))
    }

    /// Finds out where this generation is counted; once.
    pub(crate) fn resolve_slots(&self, names: &Names) {
        self.slots.get_or_init(|| {
            let pool_text = |index: u32| self.pools.get(index as usize).map_or("", |pool| &*pool.text);
            let of_route = |route: &RouteEntry| {
                let rules = route.rules.iter();
                rules
                    .map(|rule| names.route(&route.text, pool_text(rule.pool)))
                    .collect()
            };
            for pool in &self.pools {
                match &pool.endpoints {
                    Endpoints::Written(rotation) => rotation.resolve_slots(|text| names.endpoint(&pool.text, text)),
                    Endpoints::Fed(_, _) => {} // by the registry, each time that they change
                }
            }
            Slots {
                routes: self.routes.iter().map(of_route).collect(),
            }
        });
    }

    /// Where a rule's requests are counted.
    pub fn route_slot(&self, route: u32, rule: u32) -> Option<u16> {
        let slots = self.slots.get()?;
        slots.routes.get(route as usize)?.get(rule as usize).copied()
    }
}

/// Whether a router of the one answers for the other.
fn same_routes(one: &Snapshot, other: &Snapshot) -> bool {
    let mut others = other.routes();
    one.routes().all(|route| others.next() == Some(route)) && others.next().is_none()
}

fn path_text(key: &ObjectKey) -> Arc<str> {
    format!("{}/{}", key.namespace, key.name).into()
}

fn route_entry(
    stamp: Stamp,
    key: &ObjectKey,
    route: &RouteUnit,
    pools: &HashMap<&ObjectKey, u32>,
) -> Result<RouteEntry, BuildError> {
    let rule_entry = |(index, rule): (usize, &Rule)| {
        let no_pool = || BuildError::NoPool {
            route: key.clone(),
            pool: rule.pool.clone(),
        };
        Ok(RuleEntry {
            stamp,
            text: rule.name.clone().unwrap_or_else(|| index.to_string().into()),
            pool: *pools.get(&rule.pool).ok_or_else(no_pool)?,
            timeouts: rule.timeouts.clone(),
            upgrades: rule.upgrades.clone(),
        })
    };
    Ok(RouteEntry {
        stamp,
        key: key.clone(),
        text: path_text(key),
        rules: route
            .rules
            .iter()
            .enumerate()
            .map(rule_entry)
            .collect::<Result<_, _>>()?,
        counted: None,
    })
}

fn pool_entry(stamp: Stamp, key: &ObjectKey, pool: &PoolUnit, values: &LiveValues) -> PoolEntry {
    let text = path_text(key);
    let endpoints = match &pool.source {
        PoolSource::Static(endpoints) => Endpoints::Written(Arc::new(Rotation::weighted(endpoints))),
        PoolSource::Service(service) => Endpoints::Fed(service.clone(), values.services.feed(service, &text)),
    };
    PoolEntry {
        stamp,
        key: key.clone(),
        text,
        endpoints,
    }
}
