//! What an instance observed: counts by outcome and latencies, per role and scope, since its last report.

use sluice_model::limits::{MAX_COUNTED_SCOPES, MAX_LATENCY_BUCKETS};
use sluice_model::{ObjectKey, RevisionId};

use crate::canonical::{DecodeError, ascending, each, wrong};
use crate::identity::{key_in, key_to, revision_in, revision_to};
use crate::pb;

/// One report. Everything in it happened under the order of `epoch`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The order in force during the whole interval.
    pub epoch: u64,
    /// Counts reports since the process started.
    pub sequence: u64,
    /// How long, by the instance's monotonic clock.
    pub interval_ms: u64,
    /// What each role served.
    pub roles: Vec<RoleReport>,
    /// Requests in progress.
    pub inflight: u64,
    /// Since the process started.
    pub uptime_ms: u64,
    /// Resident memory.
    pub rss_bytes: u64,
}

/// Which of the two revisions of an instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ServedRole {
    /// The proven one.
    Stable,
    /// The one being tried.
    Candidate,
}

/// What one role served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleReport {
    /// Which.
    pub role: ServedRole,
    /// With which revision.
    pub revision: RevisionId,
    /// By scope.
    pub scopes: Vec<ScopeReport>,
}

/// What was counted in one scope.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScopeReport {
    /// The route; `None`: all requests.
    pub route: Option<ObjectKey>,
    /// Requests that were answered, or failed on the server's side.
    pub requests: u64,
    /// Of these, failed on the server's side.
    pub failures: u64,
    /// Failures that the client caused; not among `requests`.
    pub client_failures: u64,
    /// Of the requests, taken by no route.
    pub no_route: u64,
    /// (bucket, count) of the latency histogram, ascending, without empty ones.
    pub latency_buckets: Vec<(u32, u64)>,
}

impl Report {
    pub(crate) fn to_proto(&self) -> pb::Report {
        let Self {
            epoch,
            sequence,
            interval_ms,
            roles,
            inflight,
            uptime_ms,
            rss_bytes,
        } = self;
        pb::Report {
            epoch: *epoch,
            sequence: *sequence,
            interval_ms: *interval_ms,
            roles: roles.iter().map(role_to).collect(),
            inflight: *inflight,
            uptime_ms: *uptime_ms,
            rss_bytes: *rss_bytes,
        }
    }

    pub(crate) fn from_proto(proto: pb::Report) -> Result<Self, DecodeError> {
        let pb::Report {
            epoch,
            sequence,
            interval_ms,
            roles,
            inflight,
            uptime_ms,
            rss_bytes,
        } = proto;
        let roles = each("roles", roles, role_from)?;
        let order: Vec<_> = roles.iter().map(|role| role.role).collect();
        ascending("roles", &order)?;
        Ok(Self {
            epoch,
            sequence,
            interval_ms,
            roles,
            inflight,
            uptime_ms,
            rss_bytes,
        })
    }
}

fn role_to(report: &RoleReport) -> pb::RoleReport {
    let RoleReport { role, revision, scopes } = report;
    let role = match role {
        ServedRole::Stable => pb::Role::Stable,
        ServedRole::Candidate => pb::Role::Candidate,
    };
    pb::RoleReport {
        role: role.into(),
        revision: Some(revision_to(revision)),
        scopes: scopes.iter().map(scope_to).collect(),
    }
}

fn role_from(report: pb::RoleReport) -> Result<RoleReport, DecodeError> {
    let pb::RoleReport { role, revision, scopes } = report;
    let role = match pb::Role::try_from(role) {
        Ok(pb::Role::Stable) => ServedRole::Stable,
        Ok(pb::Role::Candidate) => ServedRole::Candidate,
        Ok(pb::Role::Unspecified) | Err(_) => return Err(wrong("role", format!("unknown role {role}"))),
    };
    // One more: the fleet's.
    if scopes.len() > MAX_COUNTED_SCOPES + 1 {
        return Err(wrong("scopes", format!("{} are too many", scopes.len())));
    }
    let scopes = each("scopes", scopes, scope_from)?;
    let routes: Vec<_> = scopes.iter().map(|scope| &scope.route).collect();
    ascending("scopes", &routes)?;
    Ok(RoleReport {
        role,
        revision: revision_in("revision", revision)?,
        scopes,
    })
}

fn scope_to(scope: &ScopeReport) -> pb::ScopeReport {
    let ScopeReport {
        route,
        requests,
        failures,
        client_failures,
        no_route,
        latency_buckets,
    } = scope;
    let bucket = |&(index, count): &(u32, u64)| pb::Bucket { index, count };
    pb::ScopeReport {
        route: route.as_ref().map(key_to),
        requests: *requests,
        failures: *failures,
        client_failures: *client_failures,
        no_route: *no_route,
        latency: latency_buckets.iter().map(bucket).collect(),
    }
}

fn scope_from(scope: pb::ScopeReport) -> Result<ScopeReport, DecodeError> {
    let pb::ScopeReport {
        route,
        requests,
        failures,
        client_failures,
        no_route,
        latency,
    } = scope;
    if latency.len() > MAX_LATENCY_BUCKETS {
        return Err(wrong("latency", format!("{} buckets are too many", latency.len())));
    }
    let latency_buckets: Vec<_> = latency
        .into_iter()
        .map(|pb::Bucket { index, count }| (index, count))
        .collect();
    let indices: Vec<_> = latency_buckets.iter().map(|(index, _)| *index).collect();
    ascending("latency", &indices)?;
    Ok(ScopeReport {
        route: route.map(|route| key_in("route", Some(route))).transpose()?,
        requests,
        failures,
        client_failures,
        no_route,
        latency_buckets,
    })
}
