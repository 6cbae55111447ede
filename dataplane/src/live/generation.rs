//! `Generation`: one snapshot made ready to serve under one role. References between its parts are indices, and each
//! part bears the generation's stamp.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use sluice_model::client_limits::{BodyBytes, ClientLimits};
use sluice_model::header_changes::HeaderChanges;
use sluice_model::target::{PathChange, Redirect, Rewrite, Scheme};
use sluice_model::unit::{
    Action, ClientAuth, Forward, Listener, PlainHttp, PoolSource, PoolUnit, RouteUnit, Rule, RuleClientAuth, Timeouts,
};
use sluice_model::upgrade::UpgradeToken;
use sluice_model::{ObjectKey, RevisionId, ServiceRef, Snapshot};

use super::values::LiveValues;
use crate::pool::rotation::Rotation;
use crate::pool::services::Feed;
use crate::pool::transport::Transport;
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

/// The pool of requests that go to none, in metrics.
const NO_POOL: &str = "none";

/// One rule of a route.
#[derive(Debug)]
pub struct RuleEntry {
    /// Of its generation.
    pub stamp: Stamp,
    /// What logs call it: its name or its index.
    pub text: Arc<str>,
    /// What becomes of its requests.
    pub action: ActionEntry,
    /// What of a response's header fields is changed.
    pub response_headers: Arc<HeaderChanges>,
    /// What it asks of its clients beside what its route does.
    pub client_auth: RuleClientAuth,
    /// The prefix that each of its matches demands, where one is replaced; else empty.
    prefixes: Box<[Arc<str>]>,
}

impl RuleEntry {
    /// The prefix of the path by which a match took a request.
    pub fn prefix(&self, matched: u32) -> &str {
        self.prefixes.get(matched as usize).map_or("", |prefix| prefix)
    }
}

/// What becomes of the requests of a rule.
#[derive(Debug)]
pub enum ActionEntry {
    /// They go to a pool.
    Forward(ForwardEntry),
    /// Their clients are sent elsewhere.
    Redirect(Arc<Redirect>),
}

/// How requests go to a pool.
#[derive(Debug)]
pub struct ForwardEntry {
    /// The index of the pool.
    pub pool: u32,
    /// How long things may take.
    pub timeouts: Arc<Timeouts>,
    /// How large a request's body may be, by its rule and by its fleet.
    pub max_body: Option<u64>,
    /// Protocols that its clients may go over to.
    pub upgrades: Arc<[UpgradeToken]>,
    /// What of a request's header fields is changed.
    pub request_headers: Arc<HeaderChanges>,
    /// The host and path that the upstream gets in place of the request's own.
    pub rewrite: Arc<Rewrite>,
    /// The host of that, as a header has it.
    pub host: Option<HeaderValue>,
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
    /// What it asks of its clients.
    pub client_auth: Option<ClientAuth>,
    /// Its rules, in the author's order.
    pub rules: Vec<RuleEntry>,
    /// What becomes of its requests that come in the clear.
    pub plain_http: PlainHttp,
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
    /// How they are spoken to.
    pub transport: Arc<Transport>,
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

/// At which port clients that come in the clear find TLS.
#[derive(Debug, Default)]
pub struct Https {
    /// The ports of listeners in the clear.
    plain: Box<[u16]>,
    /// The port of the first listener that speaks TLS.
    tls: Option<u16>,
}

impl Https {
    /// What these listeners say.
    pub fn of(listeners: &[Listener]) -> Self {
        let (tls, plain): (Vec<&Listener>, Vec<_>) = listeners.iter().partition(|listener| listener.tls.is_some());
        Self {
            plain: plain.iter().map(|listener| listener.port).collect(),
            tls: tls.first().map(|listener| listener.port),
        }
    }

    /// The port for a client that wrote `written` beside its host. If that is the very port of a listener, nothing between
    /// here and there maps ports, and the port of the listener with TLS is the client's too. Else, as behind a Service, it is
    /// not, and HTTPS is where it is by default.
    pub fn port(&self, written: Option<u16>) -> u16 {
        let default = Scheme::Https.default_port();
        match written {
            Some(port) if port != Scheme::Http.default_port() && self.plain.contains(&port) => {
                self.tls.unwrap_or(default)
            }
            Some(_) | None => default,
        }
    }
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
    /// Who signs the certificates of the clients of which hosts.
    pub clients: Arc<tls::names::Names>,
    /// In the order of `Snapshot::routes`.
    pub routes: Vec<RouteEntry>,
    /// In the order of `Snapshot::pools`.
    pub pools: Vec<PoolEntry>,
    /// Where clients that come in the clear find TLS.
    pub https: Https,
    /// What each client may take.
    pub limits: Arc<ClientLimits>,
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
        let parts = Parts {
            pools: pools.iter().map(|pool| &pool.key).zip(0..).collect(),
            max_body: snapshot.limits().body_bytes,
        };
        let scopes: HashMap<&ObjectKey, u16> = counted.iter().zip(0..).collect();
        let mut routes = Vec::new();
        for (key, route) in snapshot.routes() {
            let mut entry = route_entry(stamp, key, route, &parts)?;
            entry.counted = scopes.get(key).copied();
            routes.push(entry);
        }
        let same = previous.filter(|previous| same_routes(&previous.snapshot, &snapshot));
        let (router, names, clients) = match same {
            Some(previous) => (
                previous.router.clone(),
                previous.names.clone(),
                previous.clients.clone(),
            ),
            None => {
                let names = tls::names::Names::compile(snapshot.routes().map(|(_, route)| route));
                let clients = tls::names::Names::of_clients(snapshot.routes().map(|(_, route)| route));
                (Arc::new(Router::compile(&snapshot)), Arc::new(names), Arc::new(clients))
            }
        };
        Ok(Arc::new(Self {
            stamp,
            revision,
            revision_text: revision.to_string().into(),
            role,
            router,
            names,
            clients,
            routes,
            pools,
            https: Https::of(snapshot.listeners()),
            limits: Arc::new(snapshot.limits()),
            counted: counted.to_vec(),
            snapshot,
            slots: OnceLock::new(),
        }))
    }

    /// Finds out where this generation is counted; once.
    pub(crate) fn resolve_slots(&self, names: &Names) {
        self.slots.get_or_init(|| {
            let pool_text = |action: &ActionEntry| match action {
                ActionEntry::Forward(forward) => self.pools.get(forward.pool as usize).map_or("", |pool| &*pool.text),
                ActionEntry::Redirect(_) => NO_POOL,
            };
            let of_route = |route: &RouteEntry| {
                let rules = route.rules.iter();
                rules
                    .map(|rule| names.route(&route.text, pool_text(&rule.action)))
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

/// What the entries of routes are made with.
struct Parts<'a> {
    /// Where each pool is.
    pools: HashMap<&'a ObjectKey, u32>,
    /// What the fleet allows.
    max_body: Option<BodyBytes>,
}

fn route_entry(stamp: Stamp, key: &ObjectKey, route: &RouteUnit, parts: &Parts<'_>) -> Result<RouteEntry, BuildError> {
    let rule_entry = |(index, rule): (usize, &Rule)| {
        Ok(RuleEntry {
            stamp,
            text: rule.name.clone().unwrap_or_else(|| index.to_string().into()),
            action: match &rule.action {
                Action::Forward(forward) => ActionEntry::Forward(forward_entry(key, forward, parts)?),
                Action::Redirect(redirect) => ActionEntry::Redirect(redirect.clone()),
            },
            response_headers: rule.response_headers.clone(),
            client_auth: rule.client_auth,
            prefixes: prefixes(rule),
        })
    };
    Ok(RouteEntry {
        stamp,
        key: key.clone(),
        text: path_text(key),
        client_auth: route.client_auth.clone(),
        plain_http: route.plain_http,
        rules: route
            .rules
            .iter()
            .enumerate()
            .map(rule_entry)
            .collect::<Result<_, _>>()?,
        counted: None,
    })
}

fn forward_entry(route: &ObjectKey, forward: &Forward, parts: &Parts<'_>) -> Result<ForwardEntry, BuildError> {
    let Forward {
        pool,
        timeouts,
        max_body,
        upgrades,
        request_headers,
        rewrite,
    } = forward;
    let no_pool = || BuildError::NoPool {
        route: route.clone(),
        pool: pool.clone(),
    };
    Ok(ForwardEntry {
        pool: *parts.pools.get(pool).ok_or_else(no_pool)?,
        timeouts: timeouts.clone(),
        max_body: max_body.iter().chain(&parts.max_body).map(|most| most.get()).min(),
        upgrades: upgrades.clone(),
        request_headers: request_headers.clone(),
        rewrite: rewrite.clone(),
        // A host is a header value by construction.
        host: rewrite
            .host
            .as_ref()
            .and_then(|host| HeaderValue::from_str(host.as_str()).ok()),
    })
}

/// The prefixes of a rule's matches, if it replaces them.
fn prefixes(rule: &Rule) -> Box<[Arc<str>]> {
    let change = match &rule.action {
        Action::Forward(forward) => forward.rewrite.path.as_ref(),
        Action::Redirect(redirect) => redirect.path.as_ref(),
    };
    match change {
        Some(PathChange::Prefix(_)) => rule.matches.iter().map(|one| one.path.as_prefix().into()).collect(),
        Some(PathChange::Full(_)) | None => Box::default(),
    }
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
        transport: values.transports.get(&pool.transport),
    }
}
