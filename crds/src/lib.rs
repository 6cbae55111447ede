//! What users *write*: the three kinds of `sluice.dev/v1alpha1`, one file each, and their CRD YAML.
//!
//! ```text
//!  bounds ─► values ─► proxyroute (filters) │ pool │ rollout (client_limits) ─► generate ─► yaml/*.sluice.dev.yaml
//!                  rules (CEL, with cases) ┘
//! ```
//!
//! These are raw input types: anything a schema can say is in the schema, and nothing is checked beyond it.
//! The checked forms live in `sluice-model`; `sluice-controller` translates. A field stands here only when it works.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]
// Each printer column has a type and a priority of its own; clippy takes them for repeated attributes.
#![allow(clippy::duplicated_attributes)]

pub mod bounds;
pub mod client_limits;
pub mod condition;
pub mod filters;
pub mod generate;
pub mod pool;
pub mod proxyroute;
pub mod rollout;
pub mod rules;
pub mod values;

pub use client_limits::ClientLimits;
pub use condition::Condition;
pub use filters::{
    ChangedName, HeaderChanges, HeaderField, PathChange, PathChangeType, RedirectScheme, RequestRedirect, UrlRewrite,
};
pub use pool::{
    Endpoint, Pool, PoolConnections, PoolProtocol, PoolSpec, PoolStatus, PoolTls, RemovalBrake, ServiceReference,
};
pub use proxyroute::{
    CertificatePart, ClientAuth, ClientAuthMode, HeaderMatch, PathMatch, PathMatchType, PlainHttp, ProxyRoute,
    ProxyRouteSpec, ProxyRouteStatus, QueryParamMatch, RouteMatch, RouteRule, RouteTimeouts, RouteTls, ValueMatchType,
};
pub use rollout::{
    BlockedStatus, CommandResult, CommandStatus, DataPlane, Gate, GateMetric, GateStatus, HeldStatus, Http2,
    InstancesStatus, LabelExpression, LabelOperator, Listener, ListenerTls, Member, NamespaceSelector, OnIdle,
    OnNoData, PastStatus, PausedStatus, ProxyProtocol, RefusalStatus, Rollout, RolloutSpec, RolloutStatus, Stage,
    StageStatus, TlsVersion,
};
pub use values::{AddressRange, DurationText, NumberOrText, Percent, Ratio, SecretReference, ServicePort, Size};

/// The API group of every kind.
pub const GROUP: &str = "sluice.dev";
/// The version of every kind.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` as a manifest writes it.
pub const API_VERSION: &str = "sluice.dev/v1alpha1";
/// The fleet of a route or Rollout that names none.
pub const DEFAULT_FLEET: &str = "default";

pub(crate) fn default_fleet() -> String {
    DEFAULT_FLEET.to_owned()
}
