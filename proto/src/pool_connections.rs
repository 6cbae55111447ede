//! Conversions of what holds for the connections to a pool's endpoints.

use sluice_model::pool_connections::{PoolConnections, Quota};

use crate::canonical::{DecodeError, wrong};
use crate::client_limits::{bounded, read, written};
use crate::pb;

/// `None` when all is as it is by default.
pub(crate) fn pool_connections_to(connections: &PoolConnections) -> Option<pb::PoolConnections> {
    let PoolConnections {
        quota,
        idle_millis,
        connect_millis,
    } = connections;
    (*connections != PoolConnections::default()).then(|| pb::PoolConnections {
        max_per_endpoint: quota.map(|Quota { connections, .. }| connections.get()),
        max_pending: quota.and_then(|Quota { pending, .. }| written(pending)),
        idle_millis: written(*idle_millis),
        connect_millis: written(*connect_millis),
    })
}

pub(crate) fn pool_connections_from(connections: pb::PoolConnections) -> Result<PoolConnections, DecodeError> {
    let pb::PoolConnections {
        max_per_endpoint,
        max_pending,
        idle_millis,
        connect_millis,
    } = connections;
    Ok(PoolConnections {
        quota: quota_from(max_per_endpoint, max_pending)?,
        idle_millis: read("idle_millis", idle_millis)?,
        connect_millis: read("connect_millis", connect_millis)?,
    })
}

fn quota_from(connections: Option<u64>, pending: Option<u64>) -> Result<Option<Quota>, DecodeError> {
    match (connections, pending) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(wrong("max_pending", "is there without max_per_endpoint")),
        (Some(connections), pending) => Ok(Some(Quota {
            connections: bounded("max_per_endpoint", connections)?,
            pending: read("max_pending", pending)?,
        })),
    }
}
