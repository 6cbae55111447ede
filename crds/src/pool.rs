//! `Pool`: a named group of upstream endpoints. It belongs to every fleet whose routes refer to it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::condition::{self, Condition};
use crate::rules;
use crate::values::{DurationText, SecretReference, ServicePort};

/// Which endpoints a route's requests are sent to. Requests are spread by weighted round robin.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Pool",
    plural = "pools",
    namespaced,
    shortname = "pol",
    category = "sluice",
    status = "PoolStatus",
    derive = "PartialEq",
    doc = "A named group of upstream endpoints, which routes of the same namespace refer to.",
    printcolumn(
        name = "ENDPOINTS",
        type_ = "string",
        json_path = ".status.endpoints",
        description = "Endpoints in rotation, of all."
    ),
    printcolumn(
        name = "HEALTHY",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Healthy')].status",
        description = "Whether any endpoint is in rotation."
    ),
    printcolumn(
        name = "PROGRAMMED",
        type_ = "string",
        json_path = ".status.programmed",
        description = "True when every instance serves it, or the stage that tries it, or RolledBack."
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "ACCEPTED",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status",
        description = "Whether this content is in order.",
        priority = 1
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].reason",
        description = "Why it is, or is not, in service.",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::ENDPOINTS_OR_SERVICE, rules::BRAKE_FOR_SERVICE, rules::AUTO_NEEDS_TLS])))]
pub struct PoolSpec {
    /// The upstream addresses, each with its port and weight. An address and port may stand here once. Either these or
    /// a service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = bounds::ENDPOINTS_MAX_ITEMS),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["address", "port"],
            "x-kubernetes-validations" = rules::attach(&[rules::SOME_WEIGHT])
        )
    )]
    pub endpoints: Vec<Endpoint>,
    /// The Kubernetes Service, in this Pool's namespace, whose endpoints are used. They are followed at once, without a
    /// rollout: what comes and goes with pods is no change of configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceReference>,
    /// How a sudden loss of most of the service's endpoints is doubted first. Without it: maxPercentAtOnce 80, for 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal_brake: Option<RemovalBrake>,
    /// Which version of HTTP the endpoints speak: HTTP1, HTTP2 (gRPC needs it; without tls it is h2c, begun without asking)
    /// or Auto (what the endpoint chooses in the TLS handshake). Without it HTTP1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<PoolProtocol>,
    /// TLS to the endpoints. Their certificates are always verified. Left out: in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PoolTls>,
    /// How many connections there may be to each endpoint, and how long one may rest and take to open. Pools that are spoken
    /// to in the same way, this included, share connections and count them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<PoolConnections>,
}

/// What holds for the connections to each endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::PENDING_FOR_QUOTA])))]
pub struct PoolConnections {
    /// Connections of one instance to one endpoint, those of WebSockets among them, 1 to 1000000. A request that finds none
    /// free goes to another endpoint of the pool, and waits if all are full. Without it no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::PER_ENDPOINT_MAX))]
    pub max_per_endpoint: Option<u32>,
    /// Requests of one instance that wait for a connection to one endpoint, 0 to 1000000; each for connectTimeout at most.
    /// Beyond: 503. Only with maxPerEndpoint; without it 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = bounds::PENDING_MAX))]
    pub max_pending: Option<u32>,
    /// How long a connection may rest without a request before it is closed: 1s to 1h; without it 30s. Less than the
    /// endpoints keep theirs, so that none closes in the moment of its use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::IDLE_TIME_RANGE])))]
    pub idle_timeout: Option<DurationText>,
    /// How long TCP may take to connect, before another endpoint is tried: 10ms to 60s; without it 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::CONNECT_TIME_RANGE])))]
    pub connect_timeout: Option<DurationText>,
}

/// Which version of HTTP the endpoints speak: HTTP1, HTTP2 (gRPC needs it; without tls it is h2c, begun without asking) or
/// Auto (what the endpoint chooses in the TLS handshake). Without it HTTP1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PoolProtocol {
    /// HTTP/1.1.
    #[serde(rename = "HTTP1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "HTTP2")]
    Http2,
    /// HTTP/2 or HTTP/1.1, as the endpoint chooses in the TLS handshake (ALPN).
    Auto,
}

/// TLS to the endpoints of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolTls {
    /// The name that the endpoints' certificates must be for, and that they are asked for (SNI), such as api.shop.svc.
    /// Endpoints are addresses, which say nothing of who should be there.
    #[schemars(
        length(min = 1, max = bounds::NAME_MAX_BYTES),
        regex(pattern = bounds::PRECISE_HOSTNAME_PATTERN),
        extend("x-kubernetes-validations" = rules::attach(&[rules::NEW_HOST_IS_NAME]))
    )]
    pub server_name: String,
    /// The Secret with those who sign the endpoints' certificates: its `ca.crt`, one or more certificates as PEM; nobody
    /// else is believed. Left out: the public authorities that Mozilla believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretReference>,
    /// A Secret of type kubernetes.io/tls: the certificate that endpoints are shown if they ask for one (mutual TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<SecretReference>,
}

/// One port of a Kubernetes Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceReference {
    /// Name of the Service, in this Pool's namespace.
    #[schemars(length(min = 1, max = bounds::NAME_MAX_BYTES), regex(pattern = bounds::NAME_PATTERN))]
    pub name: String,
    /// The Service's port: its name or its number, 1 to 65535.
    pub port: ServicePort,
}

/// When a removal of endpoints is doubted, and for how long. Counts when at least 5 endpoints are in rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemovalBrake {
    /// Share of the endpoints in rotation, in percent, that may leave at once: 1 to 100. When more leave, all of them
    /// stay in rotation for as long as `for` says. Without it 80; with 100 the brake is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_percent_at_once: Option<u8>,
    /// How long endpoints that left in such numbers stay in rotation. At most 1h; without it 30s.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::BRAKE_TIME_RANGE])))]
    pub for_: Option<DurationText>,
}

/// One upstream address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// An IPv4 or IPv6 address. Not a host name: the data plane looks no names up. In a cluster a loopback address is for
    /// fleets whose instances all run in this Pool's namespace: sidecars.
    #[schemars(
        length(min = 2, max = bounds::ADDRESS_MAX_BYTES),
        extend("x-kubernetes-validations" = rules::attach(&[rules::ADDRESS_IS_IP, rules::ADDRESS_CONNECTS]))
    )]
    pub address: String,
    /// The TCP port, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Share of the requests against the other endpoints of the pool, 0 to 1000000. Without it 1; 0 takes the endpoint
    /// out of rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = bounds::WEIGHT_MAX))]
    pub weight: Option<u32>,
}

/// What became of the Pool. Written by Sluice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("default" = condition::pending_content()))]
pub struct PoolStatus {
    /// Endpoints in rotation, of all that there are: `9/10`. Coarse: written at most every 30 s, and only after it has been
    /// different for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub endpoints: Option<String>,
    /// Where this content is: True when every instance that uses the pool serves it; the name of the stage whose instances
    /// try it; RolledBack when it did harm and is held back; False otherwise; Pending as long as nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::LABEL_MAX_BYTES))]
    pub programmed: Option<String>,
    /// Accepted: whether this content is in order by itself. ResolvedRefs: whether its Service is there. Programmed:
    /// whether every instance that uses the pool has acknowledged it, and why not. Healthy: whether any endpoint is in
    /// rotation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::CONDITIONS_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}
