//! The connections to the endpoints of a pool: how many there may be, how long each may take to open and may rest.
//!
//! They are part of how endpoints are spoken to (`unit::Transport`), so pools that say the same share connections and count
//! them together. The defaults, with their reasons, are in `limits.rs`.

use crate::client_limits::Bounded;
use crate::limits::{
    IDLE_MOST_MS, SETTABLE_TIME_LEAST_MS, UPSTREAM_CONNECT_LEAST_MS, UPSTREAM_CONNECT_MOST_MS,
    UPSTREAM_CONNECT_TIMEOUT_MILLIS, UPSTREAM_CONNECTIONS_MOST, UPSTREAM_IDLE_TIMEOUT_SECONDS, UPSTREAM_PENDING_MAX,
    UPSTREAM_PENDING_MOST,
};

/// Connections to one endpoint. (Without a default: see [`PoolConnections::quota`].)
pub type PerEndpoint = Bounded<1, 1, UPSTREAM_CONNECTIONS_MOST>;
/// Requests that wait for a connection to one endpoint.
pub type Pending = Bounded<{ UPSTREAM_PENDING_MAX as u64 }, 0, UPSTREAM_PENDING_MOST>;
/// From SYN to ACK, in milliseconds.
pub type ConnectMillis = Bounded<UPSTREAM_CONNECT_TIMEOUT_MILLIS, UPSTREAM_CONNECT_LEAST_MS, UPSTREAM_CONNECT_MOST_MS>;
/// How long a connection may rest, in milliseconds.
pub type RestMillis = Bounded<{ UPSTREAM_IDLE_TIMEOUT_SECONDS * 1000 }, SETTABLE_TIME_LEAST_MS, IDLE_MOST_MS>;

/// What holds for the connections to each endpoint of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PoolConnections {
    /// How many an instance may have to one endpoint; `None`: as many as its requests need.
    pub quota: Option<Quota>,
    /// How long one may rest without a request before it is closed.
    pub idle_millis: RestMillis,
    /// How long TCP may take to open one.
    pub connect_millis: ConnectMillis,
}

/// A bound on connections, and on those who wait for one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Quota {
    /// Connections of an instance to one endpoint.
    pub connections: PerEndpoint,
    /// Requests of an instance that wait for one of them.
    pub pending: Pending,
}
