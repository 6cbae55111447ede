//! How much of an instance one client may take: the bounds that an operator may move, each within bounds of its own.
//!
//! What no operator needs to move (how often a frame of HTTP/2 may come, how much of a refused request is read) is a
//! constant in `limits.rs` alone. There are the defaults and the reasons of these too; `docs/limits.md` lists all.

use crate::limits::{
    BODY_RATE_LEAST, BODY_RATE_MOST, CLIENT_IDLE_TIMEOUT_SECONDS, CLIENT_MIN_BYTES_PER_SECOND, CONNECTIONS_MOST,
    HEADER_READ_TIMEOUT_SECONDS, HTTP2_IDLE_TIMEOUT_SECONDS, HTTP2_STREAMS_MAX, HTTP2_STREAMS_MOST, IDLE_MOST_MS,
    INTAKE_MOST_MS, MAX_REQUEST_FIELD_BYTES, MAX_REQUEST_FIELDS, MAX_REQUEST_HEAD_BYTES, MAX_REQUEST_TARGET_BYTES,
    REQUEST_BODY_BYTES_MOST, REQUEST_FIELDS_LEAST, REQUEST_FIELDS_MOST, REQUEST_HEAD_BYTES_LEAST,
    REQUEST_HEAD_BYTES_MOST, REQUEST_TARGET_BYTES_LEAST, REQUEST_TARGET_BYTES_MOST, RESPONSE_PATIENCE_MS,
    SETTABLE_TIME_LEAST_MS, TLS_HANDSHAKE_TIMEOUT_SECONDS, TUNNEL_IDLE_MOST_MS, TUNNEL_IDLE_TIMEOUT_SECONDS,
};

/// A number from `LEAST` to `MOST`; `USUAL` where nobody says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bounded<const USUAL: u64, const LEAST: u64, const MOST: u64>(u64);

impl<const USUAL: u64, const LEAST: u64, const MOST: u64> Bounded<USUAL, LEAST, MOST> {
    /// The least that it can be.
    pub const LEAST: u64 = LEAST;
    /// The most that it can be.
    pub const MOST: u64 = MOST;

    /// `None` if out of range.
    pub fn new(value: u64) -> Option<Self> {
        (LEAST..=MOST).contains(&value).then_some(Self(value))
    }

    /// As a number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// As a number of things in memory.
    pub fn count(self) -> usize {
        const { assert!(MOST < u32::MAX as u64) };
        self.0 as usize
    }
}

impl<const USUAL: u64, const LEAST: u64, const MOST: u64> Default for Bounded<USUAL, LEAST, MOST> {
    fn default() -> Self {
        const { assert!(LEAST <= USUAL && USUAL <= MOST) };
        Self(USUAL)
    }
}

/// Bytes of a request head, all lines together.
pub type HeaderBytes = Bounded<{ MAX_REQUEST_HEAD_BYTES as u64 }, REQUEST_HEAD_BYTES_LEAST, REQUEST_HEAD_BYTES_MOST>;
/// Bytes of one field of a head, name and value.
pub type HeaderFieldBytes =
    Bounded<{ MAX_REQUEST_FIELD_BYTES as u64 }, REQUEST_HEAD_BYTES_LEAST, REQUEST_HEAD_BYTES_MOST>;
/// Fields of a head.
pub type HeaderFields = Bounded<{ MAX_REQUEST_FIELDS as u64 }, REQUEST_FIELDS_LEAST, REQUEST_FIELDS_MOST>;
/// Bytes of a request target.
pub type UriBytes = Bounded<{ MAX_REQUEST_TARGET_BYTES as u64 }, REQUEST_TARGET_BYTES_LEAST, REQUEST_TARGET_BYTES_MOST>;
/// Bytes of a request's body. (Without a default: nobody says so many.)
pub type BodyBytes = Bounded<1, 1, REQUEST_BODY_BYTES_MOST>;
/// Bytes a second.
pub type MinRate = Bounded<CLIENT_MIN_BYTES_PER_SECOND, BODY_RATE_LEAST, BODY_RATE_MOST>;
/// Streams of one HTTP/2 connection.
pub type Streams = Bounded<{ HTTP2_STREAMS_MAX as u64 }, 1, HTTP2_STREAMS_MOST>;
/// Connections. (Without a default: see [`ClientLimits`].)
pub type Connections = Bounded<1, 1, CONNECTIONS_MOST>;
/// A time for something that begins and is to end, in milliseconds.
pub type IntakeMillis<const USUAL: u64> = Bounded<USUAL, SETTABLE_TIME_LEAST_MS, INTAKE_MOST_MS>;
/// A time that a connection may rest, in milliseconds.
pub type IdleMillis<const USUAL: u64> = Bounded<USUAL, SETTABLE_TIME_LEAST_MS, IDLE_MOST_MS>;

/// What each client may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientLimits {
    /// Connections of all clients of an instance together; `None`: so many for each worker that it has
    /// (`MAX_CONNECTIONS_PER_WORKER`).
    pub connections: Option<Connections>,
    /// Connections of one client address; `None`: as many as there may be.
    pub connections_per_client: Option<Connections>,
    /// Requests under way on one HTTP/2 connection.
    pub streams: Streams,
    /// A request head, all lines together.
    pub header_bytes: HeaderBytes,
    /// One field of it.
    pub header_field_bytes: HeaderFieldBytes,
    /// How many fields it may have.
    pub header_fields: HeaderFields,
    /// A request target.
    pub uri_bytes: UriBytes,
    /// The body of a request, also where its rule allows more; `None`: as its rule has it.
    pub body_bytes: Option<BodyBytes>,
    /// From the first byte of a head, or from accepting, to its last.
    pub header_millis: IntakeMillis<{ HEADER_READ_TIMEOUT_SECONDS * 1000 }>,
    /// From accepting a TLS connection to the end of its handshake.
    pub handshake_millis: IntakeMillis<{ TLS_HANDSHAKE_TIMEOUT_SECONDS * 1000 }>,
    /// The rate below which nobody sends a body or takes a response, in bytes a second.
    pub min_bytes_per_second: MinRate,
    /// How long a client may take nothing of a response.
    pub response_millis: IdleMillis<RESPONSE_PATIENCE_MS>,
    /// How long a connection of HTTP/1.1 may rest between requests.
    pub idle_millis: IdleMillis<{ CLIENT_IDLE_TIMEOUT_SECONDS * 1000 }>,
    /// How long one of HTTP/2 may.
    pub http2_idle_millis: IdleMillis<{ HTTP2_IDLE_TIMEOUT_SECONDS * 1000 }>,
    /// How long nothing may move in a tunnel.
    pub tunnel_idle_millis:
        Bounded<{ TUNNEL_IDLE_TIMEOUT_SECONDS * 1000 }, SETTABLE_TIME_LEAST_MS, TUNNEL_IDLE_MOST_MS>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_not_there() {
        for (value, good) in [(4095, false), (4096, true), (65_536, true), (65_537, false)] {
            assert_eq!(HeaderBytes::new(value).is_some(), good, "{value}");
        }
        assert_eq!(Connections::new(0), None);
        assert_eq!(ClientLimits::default().idle_millis.get(), 75_000);
    }
}
