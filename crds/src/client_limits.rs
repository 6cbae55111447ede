//! `Rollout.spec.dataPlane.limits`: how much of an instance one client may take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{DurationText, Size};
use crate::{bounds, rules};

/// How much of an instance its clients may take. What is left out is as docs/limits.md says. A change holds for open
/// connections too, within a second; only of streams and handshakes it holds for connections to come. None is closed for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientLimits {
    /// Connections of all clients of an instance together. One more is closed as it comes, before TLS. Without it: 16384
    /// for each core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::CONNECTIONS_MAX))]
    pub max_connections: Option<u32>,
    /// Connections of one client to an instance: of an IPv4 address, or of a /64 of IPv6, which is what one household or
    /// machine gets. Whom a load balancer introduces by the PROXY protocol counts, not the load balancer. Without it: as many
    /// as there may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::CONNECTIONS_MAX))]
    pub max_connections_per_client: Option<u32>,
    /// Requests under way on one HTTP/2 connection; the client is told, and one more is refused. Without it 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::STREAMS_MAX))]
    pub max_streams_per_connection: Option<u32>,
    /// Size of a request's head, all lines together: 431 beyond. 4Ki to 64Ki; without it 64Ki.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::HEADER_SIZE_RANGE])))]
    pub max_header_bytes: Option<Size>,
    /// Size of one field of a head, name and value: 431 beyond. 4Ki to 64Ki; without it 16Ki.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::HEADER_SIZE_RANGE])))]
    pub max_header_field_bytes: Option<Size>,
    /// Fields of a request's head, in HTTP/2 each crumb of a cookie counted: 431 beyond. Without it 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::HEADERS_LEAST, max = bounds::HEADERS_MOST))]
    pub max_headers: Option<u32>,
    /// Length of a request's target, path and query: 414 beyond. 1Ki to 16Ki; without it 8Ki.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::URI_SIZE_RANGE])))]
    pub max_uri_bytes: Option<Size>,
    /// The size of a request's body, whatever its rule allows: 413 beyond. 1 to 1048576Mi; without it only rules have limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::BODY_SIZE_RANGE])))]
    pub max_request_body: Option<Size>,
    /// From the first byte of a request's head, or from accepting a connection, to the head's last byte: 408 beyond. 1s to
    /// 60s; without it 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::INTAKE_TIME_RANGE])))]
    pub header_timeout: Option<DurationText>,
    /// From accepting a TLS connection to the end of its handshake. 1s to 60s; without it 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::INTAKE_TIME_RANGE])))]
    pub handshake_timeout: Option<DurationText>,
    /// The rate below which a client is not sending a body or taking a response but holding a connection, in bytes a second.
    /// Time in which it is not the client who is waited for does not count. Without it 240.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::MIN_BYTES_PER_SECOND_MOST))]
    pub min_bytes_per_second: Option<u32>,
    /// How long a client may take nothing of a response before its connection is reset. 1s to 1h; without it 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::IDLE_TIME_RANGE])))]
    pub response_timeout: Option<DurationText>,
    /// How long a connection of HTTP/1.1 may rest between requests. Longer than that of the load balancer in front, so that
    /// it closes first. 1s to 1h; without it 75s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::IDLE_TIME_RANGE])))]
    pub idle_timeout: Option<DurationText>,
    /// How long a connection of HTTP/2 may rest without a request. 1s to 1h; without it 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::IDLE_TIME_RANGE])))]
    pub http2_idle_timeout: Option<DurationText>,
    /// How long neither side of a WebSocket or another upgraded connection may say anything. 1s to 24h; without it 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::TUNNEL_TIME_RANGE])))]
    pub tunnel_idle_timeout: Option<DurationText>,
}
