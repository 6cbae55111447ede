//! `Rollout`: what a fleet listens on, and how changes reach it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bounds;
use crate::condition::Condition;
use crate::rules;
use crate::values::{DurationText, GateLimit, Percent, Ratio, SecretReference};

/// How one fleet listens, and by which stages and gates changes reach it.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Rollout",
    plural = "rollouts",
    namespaced,
    shortname = "slr",
    category = "sluice",
    status = "RolloutStatus",
    derive = "PartialEq",
    doc = "How changes reach one fleet: stages, bake times, gates.",
    printcolumn(name = "PHASE", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "STAGE",
        type_ = "string",
        json_path = ".status.stage.label",
        description = "Which stage of how many."
    ),
    printcolumn(
        name = "INSTANCES",
        type_ = "string",
        json_path = ".status.instances.label",
        description = "Instances on the new revision, of all."
    ),
    printcolumn(name = "REVISION", type_ = "string", json_path = ".status.targetRevision"),
    printcolumn(name = "HEALTH", type_ = "string", json_path = ".status.health"),
    printcolumn(name = "BAKE UNTIL", type_ = "string", json_path = ".status.stage.bakeUntil"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "STABLE",
        type_ = "string",
        json_path = ".status.stableRevision",
        priority = 1
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutSpec {
    /// The fleet that this Rollout governs. Of two Rollouts for one fleet the older counts. In Kubernetes only Rollouts in
    /// the controller's namespace govern.
    #[serde(default = "crate::default_fleet")]
    #[schemars(length(min = 1, max = bounds::LABEL_MAX_BYTES), regex(pattern = bounds::LABEL_PATTERN))]
    pub fleet: String,
    /// Who may be an instance of this fleet: the pods of these service accounts. Without any: service account
    /// sluice-dataplane in this Rollout's namespace. Each belongs to one fleet; of two Rollouts that name it the older
    /// counts. For Kubernetes; standalone, whoever has a certificate of the fleet is in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::MEMBERS_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace", "serviceAccountName"])
    )]
    pub members: Vec<Member>,
    /// The namespaces whose routes this fleet serves, by their labels. Without it: every namespace that the controller
    /// watches. For Kubernetes; standalone, namespaces have no labels and every one is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceSelector>,
    /// Settings of the fleet's instances. They are part of every revision, so a change of them is staged like any other.
    pub data_plane: DataPlane,
    /// How far a change goes before it goes further, from the first stage to the last. A last stage below 100 percent
    /// is followed by one of 100 percent with the same bake time. Without any: 10 % for 5m, 50 % for 5m, 100 % for 5m.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::STAGES_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub stages: Vec<Stage>,
    /// What a change must show at every stage, for the fleet and for each changed route. All must pass. A gate that
    /// fails takes the change back. Without any: ErrorRate at most 1% and 0.5% more than stable, LatencyP95 at most
    /// twice stable's, NoRouteRate at most 1% more than stable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::GATES_MAX_ITEMS), extend("x-kubernetes-list-type" = "atomic"))]
    pub gates: Vec<Gate>,
    /// When there are too few requests to judge a gate: Hold waits for more, Fail takes the change back, Pass goes on.
    #[serde(default)]
    pub on_no_data: OnNoData,
    /// When there are no requests at all, in the candidate and in stable: Proceed after the bake time, or Hold.
    #[serde(default)]
    pub on_idle: OnIdle,
    /// Stops at the present stage: nothing is promoted and no new change starts. A failing gate still takes the change back.
    #[serde(default)]
    pub paused: bool,
    /// How many past revisions are kept for comparison and for rolling back, 1 to 100.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = bounds::HISTORY_LIMIT_MAX))]
    pub history_limit: u32,
}

fn default_history_limit() -> u32 {
    10
}

/// A service account whose pods may be instances of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// Namespace of the service account.
    #[schemars(length(min = 1, max = bounds::LABEL_MAX_BYTES), regex(pattern = bounds::LABEL_PATTERN))]
    pub namespace: String,
    /// Name of the service account.
    #[schemars(length(min = 1, max = bounds::NAME_MAX_BYTES), regex(pattern = bounds::NAME_PATTERN))]
    pub service_account_name: String,
}

/// Namespaces by their labels, as Kubernetes' label selectors have it: all demands must hold. Without any, all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceSelector {
    /// Labels that a namespace must have, with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = bounds::SELECTOR_MAX_ITEMS,
        "additionalProperties" = json!({
            "type": "string",
            "maxLength": bounds::LABEL_MAX_BYTES,
            "pattern": bounds::LABEL_VALUE_PATTERN,
        })
    ))]
    pub match_labels: BTreeMap<String, String>,
    /// Further demands on a namespace's labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::SELECTOR_MAX_ITEMS), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelExpression>,
}

/// One demand on the labels of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::VALUES_BY_OPERATOR])))]
pub struct LabelExpression {
    /// The label's key, such as `team` or `example.com/team`.
    #[schemars(length(min = 1, max = bounds::LABEL_KEY_MAX_BYTES), regex(pattern = bounds::LABEL_KEY_PATTERN))]
    pub key: String,
    /// What is demanded of it: In, NotIn, Exists or DoesNotExist.
    pub operator: LabelOperator,
    /// The values for In and NotIn; not with the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::SELECTOR_MAX_ITEMS),
        inner(length(max = bounds::LABEL_MAX_BYTES), regex(pattern = bounds::LABEL_VALUE_PATTERN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub values: Vec<String>,
}

/// What is demanded of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// Settings of a fleet's instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataPlane {
    /// The ports that instances listen on, each with HTTP/1.1: plain, or over TLS.
    #[schemars(
        length(min = 1, max = bounds::LISTENERS_MAX_ITEMS),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = rules::attach(&[rules::LISTENER_PORTS_DIFFER])
        )
    )]
    pub listeners: Vec<Listener>,
}

/// One port to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Name of the listener, unique in the Rollout.
    #[schemars(length(min = 1, max = bounds::LABEL_MAX_BYTES), regex(pattern = bounds::LABEL_PATTERN))]
    pub name: String,
    /// The TCP port, 1 to 65535, each once.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Makes this a TLS listener. Its certificates are those of the routes, chosen by the name that the client asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
}

/// How a listener speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    /// A Secret of type kubernetes.io/tls, for hosts that no route has a certificate for. Without it handshakes for those
    /// are refused (unrecognized_name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_certificate: Option<SecretReference>,
}

/// One stage of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// Name of the stage, unique in the Rollout.
    #[schemars(length(min = 1, max = bounds::LABEL_MAX_BYTES), regex(pattern = bounds::LABEL_PATTERN))]
    pub name: String,
    /// Share of the fleet's instances that get the change: `10` or `"0.5%"`, at least one instance. Never less than in
    /// the stage before.
    pub fleet_percent: Percent,
    /// How long the change must do well at this stage, counted only while reports arrive. At most 168h.
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::BAKE_TIME_RANGE])))]
    pub bake_time: DurationText,
}

/// What a change must show at every stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[
    rules::GATE_HAS_LIMIT,
    rules::RATIO_FOR_LATENCY,
    rules::INCREASE_FOR_RATES,
])))]
pub struct Gate {
    /// What is measured: ErrorRate, LatencyP95 or NoRouteRate.
    pub metric: GateMetric,
    /// Absolute limit: a percentage (`1`, `"0.5%"`) for ErrorRate and NoRouteRate, a duration (`500ms`) for LatencyP95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<GateLimit>,
    /// How far above stable, over the same minutes, in percentage points (`"0.5%"`). For ErrorRate and NoRouteRate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_increase: Option<Percent>,
    /// How many times stable's, over the same minutes (`"1.5"`). For LatencyP95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<Ratio>,
    /// Requests that the candidate must have answered before the gate judges. Without it 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::MIN_REQUESTS_MAX))]
    pub min_requests: Option<u32>,
}

/// What a gate measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GateMetric {
    /// Share of requests that failed on our side or upstream; what the client caused does not count.
    ErrorRate,
    /// The time within which 95 % of the requests were answered.
    LatencyP95,
    /// Share of requests that no route matched.
    NoRouteRate,
}

/// What happens when there are too few requests to judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnNoData {
    /// Wait for more.
    #[default]
    Hold,
    /// Take the change back.
    Fail,
    /// Go on.
    Pass,
}

/// What happens when there are no requests at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnIdle {
    /// Go on after the full bake time.
    #[default]
    Proceed,
    /// Wait for requests.
    Hold,
}

/// Where the fleet's rollout stands. Written by Sluice: a projection of the fleet's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutStatus {
    /// Idle, Progressing, Baking, Paused, RollingBack, RolledBack or Stalled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// The present stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageStatus>,
    /// The fleet's instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<InstancesStatus>,
    /// Healthy, Degraded or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub health: Option<String>,
    /// The revision that is proven and serves wherever no candidate does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub stable_revision: Option<String>,
    /// The revision that is being rolled out, or stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub target_revision: Option<String>,
    /// Accepted: whether this Rollout governs its fleet, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::CONDITIONS_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

/// The present stage of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageStatus {
    /// Which stage of how many, and its name: `2/4 small`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub label: Option<String>,
    /// When its bake ends if reports keep coming (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub bake_until: Option<String>,
}

/// The instances of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstancesStatus {
    /// Instances on the target revision, of all: `4/40`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub label: Option<String>,
}
