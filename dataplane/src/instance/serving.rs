//! The join of what decides (the intake) and what serves (the live store and the listeners): one adapter each way.
//!
//! [`Serving`] carries out what the intake has verified; [`Observer`] tells the controller what came of it.

use std::sync::Arc;
use std::time::Instant;

use sluice_model::LiveSubject;
use sluice_model::unit::Listener;
use sluice_proto::report::{Report, RoleReport, ScopeReport, ServedRole};
use tokio::runtime::Handle;

use crate::config::Effect;
use crate::config::delivery::Observe;
use crate::config::target::{Blueprint, NewLive, NewValue, Target};
use crate::listener::{Listeners, Prepared};
use crate::live::{Generation, Live, LiveStore};
use crate::stats::{Role, RoleDelta, ScopeDelta};
use crate::telemetry::metrics::Metrics;

/// Carries out what the intake decides.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) store: LiveStore,
    pub(crate) listeners: Arc<Listeners>,
    /// Where the workers' answers to a change of listeners are awaited; the intake's own thread has no runtime.
    pub(crate) runtime: Handle,
}

impl Target for Serving {
    type Built = Generation;
    type Ports = Prepared;

    fn build(&self, blueprint: Blueprint<'_, Generation>) -> Result<Arc<Generation>, String> {
        let Blueprint {
            revision,
            role,
            snapshot,
            counted,
            previous,
        } = blueprint;
        let role = match role {
            ServedRole::Stable => Role::Stable,
            ServedRole::Candidate => Role::Candidate,
        };
        let values = self.store.values();
        Generation::build(revision, role, snapshot, counted, values, previous).map_err(|error| error.to_string())
    }

    fn prepare(&self, listeners: &[Listener]) -> Result<Prepared, String> {
        self.listeners.prepare(listeners).map_err(|error| error.to_string())
    }

    fn swap(&self, ports: Prepared, live: NewLive<Generation>) {
        let NewLive {
            epoch,
            stable,
            candidate,
        } = live;
        // Live first: a connection accepted on a new port must find something to serve.
        self.store.store(Arc::new(Live {
            epoch,
            stable,
            candidate,
        }));
        if let Err(error) = self.runtime.block_on(self.listeners.commit(ports)) {
            tracing::error!(%error, "a listener that was bound does not accept");
        }
    }

    fn set(&self, value: NewValue) {
        let values = self.store.values();
        match value {
            NewValue::Endpoints(service, endpoints) => values.services.replace(service, endpoints),
            NewValue::Certificate(reference, certificate) => values.certificates.replace(reference, certificate),
            NewValue::Authorities(reference, authorities) => values.authorities.replace(reference, authorities),
        }
    }

    fn forget(&self, subject: &LiveSubject) {
        let values = self.store.values();
        match subject {
            LiveSubject::Service(service) => values.services.forget(service),
            LiveSubject::Certificate(reference) => values.certificates.forget(reference),
            LiveSubject::Authorities(reference) => values.authorities.forget(reference),
        }
    }
}

/// Tells what was observed.
#[derive(Debug)]
pub(crate) struct Observer {
    store: LiveStore,
    metrics: Arc<Metrics>,
    started: Instant,
    last: Instant,
    sequence: u64,
}

impl Observer {
    pub(crate) fn new(store: LiveStore, metrics: Arc<Metrics>) -> Self {
        let now = Instant::now();
        Self {
            store,
            metrics,
            started: now,
            last: now,
            sequence: 0,
        }
    }
}

impl Observe for Observer {
    fn observe(&mut self, under: &Effect) -> Option<Report> {
        let interval = std::mem::replace(&mut self.last, Instant::now()).elapsed();
        let delta = self.store.stats().drain();
        under.stable?;
        self.sequence = self.sequence.saturating_add(1);
        Some(Report {
            epoch: under.epoch,
            sequence: self.sequence,
            interval_ms: millis(interval),
            // The last requests of a revision that is gone belong to no order in force.
            roles: delta
                .roles
                .iter()
                .filter(|role| serves(role, under))
                .map(role_report)
                .collect(),
            inflight: self.metrics.inflight(),
            uptime_ms: millis(self.started.elapsed()),
            rss_bytes: resident_bytes().unwrap_or(0),
        })
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn serves(delta: &RoleDelta, under: &Effect) -> bool {
    match delta.role {
        Role::Stable => under.stable == Some(delta.revision),
        Role::Candidate => under.candidate == Some(delta.revision),
    }
}

fn role_report(delta: &RoleDelta) -> RoleReport {
    let RoleDelta { role, revision, scopes } = delta;
    RoleReport {
        role: match role {
            Role::Stable => ServedRole::Stable,
            Role::Candidate => ServedRole::Candidate,
        },
        revision: *revision,
        scopes: scopes.iter().map(scope_report).collect(),
    }
}

fn scope_report(delta: &ScopeDelta) -> ScopeReport {
    let ScopeDelta {
        route,
        requests,
        failures,
        client_failures,
        no_route,
        latency,
    } = delta;
    ScopeReport {
        route: route.clone(),
        requests: *requests,
        failures: *failures,
        client_failures: *client_failures,
        no_route: *no_route,
        latency_buckets: (0..)
            .zip(latency.counts().iter().copied())
            .filter(|(_, count)| *count > 0)
            .collect(),
    }
}

/// Memory in use, where the system tells (Linux: `/proc/self/statm`, second field, in pages).
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}
