//! Counters of one worker. Written by that worker alone (a load and a store, no locked instruction), read by whoever
//! scrapes; sums are made at the scrape.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::guard::rule::Rule;
use crate::proxy::failure::Failure;
use crate::tls::facts::{Facts, Session, Version};
use crate::tls::failure::HandshakeFailure;

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the worker that owns the counter may call this: two writers would lose counts.
    pub fn add(&self, count: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(count);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Takes `count` away, for gauges. Only the owner.
    pub fn sub(&self, count: u64) {
        let rest = self.0.load(Ordering::Relaxed).saturating_sub(count);
        self.0.store(rest, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds in microseconds of the duration histograms' buckets; one more has none.
pub const DURATION_BOUNDS_MICROS: [u64; 9] = [
    1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Durations {
    /// Per bucket, not cumulated.
    pub buckets: [Counter; DURATION_BOUNDS_MICROS.len() + 1],
    /// Microseconds in all.
    pub sum_micros: Counter,
}

impl Durations {
    /// Counts one duration.
    pub fn record(&self, micros: u64) {
        let bucket = DURATION_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(counter) = self.buckets.get(bucket) {
            counter.add(1);
        }
        self.sum_micros.add(micros);
    }
}

/// A sum of sizes and how many there were.
#[derive(Debug, Default)]
pub struct Sizes {
    /// How many.
    pub count: Counter,
    /// Bytes in all.
    pub sum_bytes: Counter,
}

impl Sizes {
    /// Counts one size.
    pub fn record(&self, bytes: u64) {
        self.count.add(1);
        self.sum_bytes.add(bytes);
    }
}

/// Of the requests that one route sent to one pool.
#[derive(Debug)]
pub struct RouteCounters {
    /// By status, from 100 on.
    statuses: Box<[Counter]>,
    /// By `Failure::index`.
    errors: [Counter; Failure::ALL.len()],
    /// Times that requests were tried again, of those that an upstream answered in the end.
    pub retries_answered: Counter,
    /// Of those that none did.
    pub retries_failed: Counter,
    /// From the head of the request to the end of the response.
    pub durations: Durations,
    /// Request bodies.
    pub request_sizes: Sizes,
    /// Response bodies.
    pub response_sizes: Sizes,
}

const FIRST_STATUS: u16 = 100;
const STATUSES: usize = 500;

impl Default for RouteCounters {
    fn default() -> Self {
        Self {
            statuses: (0..STATUSES).map(|_| Counter::default()).collect(),
            errors: Default::default(),
            retries_answered: Counter::default(),
            retries_failed: Counter::default(),
            durations: Durations::default(),
            request_sizes: Sizes::default(),
            response_sizes: Sizes::default(),
        }
    }
}

impl RouteCounters {
    /// The counter of one status; `None` for a status that HTTP does not have.
    pub fn status(&self, status: u16) -> Option<&Counter> {
        self.statuses.get(usize::from(status.checked_sub(FIRST_STATUS)?))
    }

    /// All statuses with their counters.
    pub fn statuses(&self) -> impl Iterator<Item = (u16, &Counter)> {
        (FIRST_STATUS..).zip(&self.statuses)
    }

    /// The counter of one kind of failure.
    pub fn error(&self, failure: Failure) -> Option<&Counter> {
        self.errors.get(failure.index())
    }
}

/// Of the attempts that went to one endpoint.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// How many.
    pub requests: Counter,
    /// Attempts to reach it that failed, before anything was sent.
    pub unreached: Counter,
    /// From sending to the head of the response.
    pub durations: Durations,
}

/// Of TLS handshakes.
#[derive(Debug, Default)]
pub struct TlsCounters {
    /// By version, in the order of `Version::ALL`.
    versions: [Counter; Version::ALL.len()],
    /// By `HandshakeFailure::index`.
    failures: [Counter; HandshakeFailure::ALL.len()],
    /// Those that went on from an earlier session.
    pub resumed: Counter,
    /// From accepting to the end of the handshake.
    pub durations: Durations,
}

impl TlsCounters {
    /// Counts a handshake that is complete.
    pub fn record(&self, facts: &Facts, elapsed: Duration) {
        if let Some(counter) = self.version(facts.version) {
            counter.add(1);
        }
        match facts.session {
            Session::Fresh => {}
            Session::Resumed => self.resumed.add(1),
        }
        self.durations
            .record(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one that failed.
    pub fn failed(&self, failure: HandshakeFailure) {
        if let Some(counter) = self.failure(failure) {
            counter.add(1);
        }
    }

    /// The counter of one version.
    pub fn version(&self, version: Version) -> Option<&Counter> {
        self.versions.get(version as usize)
    }

    /// The counter of one way to fail.
    pub fn failure(&self, failure: HandshakeFailure) -> Option<&Counter> {
        self.failures.get(failure.index())
    }
}

/// A version of HTTP that clients speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP/1.0, or what came before it.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// All, in the order of their counters.
    pub const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    /// Of a request.
    pub fn of(version: http::Version) -> Self {
        match version {
            http::Version::HTTP_2 | http::Version::HTTP_3 => Self::Http2,
            http::Version::HTTP_11 => Self::Http11,
            _ => Self::Http10,
        }
    }

    /// As logs and metrics write it: as ALPN does (RFC 7301 §6).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// All counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    routes: Box<[RouteCounters]>,
    endpoints: Box<[EndpointCounters]>,
    /// Of TLS handshakes.
    pub tls: TlsCounters,
    /// Requests refused, by `Rule::index`.
    refused: [Counter; Rule::ALL.len()],
    /// Requests, in the order of `Protocol::ALL`.
    protocols: [Counter; Protocol::ALL.len()],
    /// Open client connections (a gauge).
    pub connections: Counter,
    /// Requests being answered (a gauge).
    pub inflight: Counter,
    /// Requests that wait for a connection to an upstream (a gauge).
    pub pending: Counter,
    /// Open tunnels (a gauge).
    pub tunnels: Counter,
    /// Tunnels that were ended because the instance was.
    pub tunnels_drained: Counter,
    /// What clients sent through tunnels.
    pub tunnel_bytes_in: Counter,
    /// What they were sent.
    pub tunnel_bytes_out: Counter,
    /// Requests that were sent a second time because a reused connection had closed.
    pub reconnects: Counter,
    /// Times that accepting a connection failed.
    pub accept_failures: Counter,
    /// Access-log lines that a slow sink cost.
    pub log_lines_dropped: Counter,
    /// Requests whose route and pool came from two generations: never.
    pub mixed: Counter,
}

impl WorkerCounters {
    /// Counters for tables of `slots` names.
    pub fn new(slots: usize) -> Self {
        Self {
            routes: (0..slots).map(|_| RouteCounters::default()).collect(),
            endpoints: (0..slots).map(|_| EndpointCounters::default()).collect(),
            tls: TlsCounters::default(),
            refused: std::array::from_fn(|_| Counter::default()),
            protocols: Default::default(),
            connections: Counter::default(),
            inflight: Counter::default(),
            pending: Counter::default(),
            tunnels: Counter::default(),
            tunnels_drained: Counter::default(),
            tunnel_bytes_in: Counter::default(),
            tunnel_bytes_out: Counter::default(),
            reconnects: Counter::default(),
            accept_failures: Counter::default(),
            log_lines_dropped: Counter::default(),
            mixed: Counter::default(),
        }
    }

    /// Those of a (route, pool) slot.
    pub fn route(&self, slot: u16) -> Option<&RouteCounters> {
        self.routes.get(usize::from(slot))
    }

    /// The counter of one rule.
    pub fn refused(&self, rule: Rule) -> Option<&Counter> {
        self.refused.get(rule.index())
    }

    /// The counter of one version of HTTP.
    pub fn protocol(&self, protocol: Protocol) -> Option<&Counter> {
        self.protocols.get(protocol as usize)
    }

    /// Those of a (pool, endpoint) slot.
    pub fn endpoint(&self, slot: u16) -> Option<&EndpointCounters> {
        self.endpoints.get(usize::from(slot))
    }
}
