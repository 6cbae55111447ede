//! `Pool`: a named group of upstream endpoints. It belongs to every fleet whose routes refer to it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::condition::Condition;
use crate::rules;

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
        name = "ACCEPTED",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status",
        description = "Whether this content may be served."
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    /// The upstream addresses, each with its port and weight. An address and port may stand here once.
    #[schemars(
        length(min = 1, max = bounds::ENDPOINTS_MAX_ITEMS),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["address", "port"],
            "x-kubernetes-validations" = rules::attach(&[rules::SOME_WEIGHT])
        )
    )]
    pub endpoints: Vec<Endpoint>,
}

/// One upstream address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// An IPv4 or IPv6 address. Not a host name: the data plane looks no names up.
    #[schemars(
        length(min = 2, max = bounds::ADDRESS_MAX_BYTES),
        extend("x-kubernetes-validations" = rules::attach(&[rules::ADDRESS_IS_IP]))
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
pub struct PoolStatus {
    /// Endpoints in rotation, of all: `9/10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub endpoints: Option<String>,
    /// Accepted: whether this content may be served, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::CONDITIONS_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}
