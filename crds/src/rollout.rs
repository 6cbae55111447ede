//! `Rollout`: what a fleet listens on, and how changes reach it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bounds;
use crate::client_limits::ClientLimits;
use crate::condition::{self, Condition};
use crate::rules;
use crate::values::{AddressRange, DurationText, GateLimit, Percent, Ratio, SecretReference};

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
    printcolumn(
        name = "PHASE",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the rollout is."
    ),
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
        description = "Instances on the revision shown, of all; while one is taken back, those that are back."
    ),
    printcolumn(
        name = "REVISION",
        type_ = "string",
        json_path = ".status.targetRevision",
        description = "The revision that is tried, taken back or waiting, else stable."
    ),
    printcolumn(
        name = "HEALTH",
        type_ = "string",
        json_path = ".status.health",
        description = "Healthy, Degraded or Unknown."
    ),
    printcolumn(
        name = "BAKE UNTIL",
        type_ = "string",
        json_path = ".status.stage.bakeUntil",
        description = "When the stage ends if reports keep coming."
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "STABLE",
        type_ = "string",
        json_path = ".status.stableRevision",
        description = "The revision that is proven.",
        priority = 1
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".status.message",
        description = "What is going on, and what to do.",
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
    /// The ports that instances listen on, each with HTTP/1.1 and perhaps HTTP/2: plain, or over TLS.
    #[schemars(
        length(min = 1, max = bounds::LISTENERS_MAX_ITEMS),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = rules::attach(&[rules::LISTENER_PORTS_DIFFER])
        )
    )]
    pub listeners: Vec<Listener>,
    /// How much of an instance its clients may take.
    // In a box: most Rollouts have none, and it is the larger part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Box<ClientLimits>>,
}

/// One port to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::PRIOR_KNOWLEDGE_IN_THE_CLEAR])))]
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
    /// Whether clients may speak HTTP/2 here, beside HTTP/1.1. Left out: over TLS those may who ask for it in the handshake
    /// (ALPN), and in the clear none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http2: Option<Http2>,
    /// Lets load balancers say by the PROXY protocol who the client is. Left out: nobody is believed, and a PROXY header is
    /// refused like any other request that is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Who introduces clients by the PROXY protocol, version 1 or 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyProtocol {
    /// The addresses of the load balancers, as ranges such as 10.0.0.0/8. Each of their connections must begin with a PROXY
    /// header, before TLS; the client's address in it is the one that the access log and X-Forwarded-For have.
    /// Connections from elsewhere are served as they are. Whoever can connect from here can claim any address.
    #[schemars(
        length(min = 1, max = bounds::PROXY_PROTOCOL_SOURCES_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub from: Vec<AddressRange>,
}

/// Whether clients may speak HTTP/2 to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Http2 {
    /// They may not, not even over TLS.
    Off,
    /// In the clear, to clients that begin with HTTP/2 because they know that they may (gRPC without TLS). Not on a listener
    /// with TLS.
    PriorKnowledge,
}

/// How a listener speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    /// A Secret of type kubernetes.io/tls, for hosts that no route has a certificate for. Without it handshakes for those
    /// are refused (unrecognized_name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_certificate: Option<SecretReference>,
    /// The lowest version of TLS that is spoken here: "1.2" or "1.3". Left out: 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// 1.2, with forward secrecy and authenticated encryption only.
    #[serde(rename = "1.2")]
    Tls12,
    /// 1.3. Clients from before 2018 do not speak it.
    #[serde(rename = "1.3")]
    Tls13,
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

/// Where the fleet's rollout stands. Written by Sluice: a projection of the fleet's record, which may be lost without
/// harm. Lists are bounded; where one is cut, a number beside it counts all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("default" = condition::pending_rollout()))]
pub struct RolloutStatus {
    /// The generation of this Rollout that the status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Idle, Progressing, Baking, Paused, Frozen, RollingBack, RolledBack or Stalled; Pending before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// What is going on, and what to do if something has to be done. Empty when all is as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::SENTENCE_MAX_BYTES))]
    pub message: Option<String>,
    /// The stage of a rollout in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageStatus>,
    /// The fleet's instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<InstancesStatus>,
    /// Healthy; Degraded when something is held, blocked, refused or not reached; Unknown while no instance is connected
    /// or a member of the stage says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub health: Option<String>,
    /// The revision that is proven and serves wherever no candidate does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::REVISION_MAX_BYTES))]
    pub stable_revision: Option<String>,
    /// The revision that is tried, taken back or waiting, else stable. Commands speak about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::REVISION_MAX_BYTES))]
    pub target_revision: Option<String>,
    /// The revision that waits for the present rollout to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::REVISION_MAX_BYTES))]
    pub queued_revision: Option<String>,
    /// What the gates say of the candidate, the failing ones first; at most 32. Figures are at most a minute old.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::STATUS_GATES_MAX_ITEMS), extend("x-kubernetes-list-type" = "atomic"))]
    pub gates: Vec<GateStatus>,
    /// Contents that did harm and are held back until their object has another content; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::STATUS_HELD_MAX_ITEMS), extend("x-kubernetes-list-type" = "atomic"))]
    pub held: Vec<HeldStatus>,
    /// How many contents are held back in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub held_total: Option<u32>,
    /// Revisions that failed without an object to blame, and are not tried again; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::STATUS_BLOCKED_MAX_ITEMS), extend("x-kubernetes-list-type" = "atomic"))]
    pub blocked: Vec<BlockedStatus>,
    /// How many objects of the fleet do not serve as they are written: in error, held, or kept until somebody consents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub quarantined: Option<u32>,
    /// Instances that may still carry something that was taken back, because they could not be reached; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::STATUS_INSTANCES_MAX_ITEMS),
        inner(length(max = bounds::INSTANCE_MAX_BYTES)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub unreached: Vec<String>,
    /// Who paused the rollout by a command, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<PausedStatus>,
    /// What became of past revisions, the latest last; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::STATUS_HISTORY_MAX_ITEMS), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<PastStatus>,
    /// What became of the last command that was given by annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandStatus>,
    /// Accepted: whether this Rollout governs its fleet. Ready: whether everything asked for is in service. Progressing:
    /// whether a change is on its way. Degraded: whether something is held, blocked, refused or not reached. Reconciling
    /// and Stalled, as kstatus (Flux, Helm, `kubectl wait`) reads them: there only while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::CONDITIONS_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

/// The stage of a rollout in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageStatus {
    /// Its name.
    #[schemars(length(max = bounds::LABEL_MAX_BYTES))]
    pub name: String,
    /// Its number, from 1.
    #[schemars(range(min = 1, max = 32))]
    pub index: u32,
    /// How many stages there are.
    #[schemars(range(min = 1, max = 32))]
    pub of: u32,
    /// Which stage of how many, and its name: `2/4 small`.
    #[schemars(length(max = 128))]
    pub label: String,
    /// When its bake ends if reports keep coming (RFC 3339). Absent until every member has acknowledged, and while one of
    /// them says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::TIME_MAX_BYTES))]
    pub bake_until: Option<String>,
    /// The instances that carry the candidate, at most 50; absent when all do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::STATUS_INSTANCES_MAX_ITEMS),
        inner(length(max = bounds::INSTANCE_MAX_BYTES)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub members: Vec<String>,
    /// Stages just before this one that would have chosen the same instances, and were passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::STAGES_MAX_ITEMS),
        inner(length(max = bounds::LABEL_MAX_BYTES)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub collapsed: Vec<String>,
}

/// The instances of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstancesStatus {
    /// Connected instances.
    #[schemars(range(min = 0))]
    pub total: u32,
    /// Instances that are ordered onto the target revision; none while it waits for its turn.
    #[schemars(range(min = 0))]
    pub target: u32,
    /// Instances out of these that have acknowledged the order in force.
    #[schemars(range(min = 0))]
    pub acknowledged: u32,
    /// Instances that refuse the order in force.
    #[schemars(range(min = 0))]
    pub refused: u32,
    /// Acknowledged, of all that are connected: `4/40`.
    #[schemars(length(max = 32))]
    pub label: String,
    /// Who refuses, and why; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub refusals: Vec<RefusalStatus>,
}

/// An instance that refuses the order in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusalStatus {
    /// Which instance.
    #[schemars(length(max = bounds::INSTANCE_MAX_BYTES))]
    pub instance: String,
    /// Why, in its words.
    #[schemars(length(max = bounds::SENTENCE_MAX_BYTES))]
    pub reason: String,
}

/// What one gate says about one scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateStatus {
    /// What is measured: ErrorRate, LatencyP95 or NoRouteRate.
    #[schemars(length(max = 32))]
    pub metric: String,
    /// Where: `fleet`, or a route such as `ProxyRoute shop/shop`.
    #[schemars(length(max = bounds::OBJECT_MAX_BYTES))]
    pub scope: String,
    /// What the candidate shows.
    #[schemars(length(max = 64))]
    pub candidate: String,
    /// What stable shows, over the same minutes or, where no instance is on stable, before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub stable: Option<String>,
    /// Requests that the candidate has answered.
    #[schemars(range(min = 0))]
    pub requests: u64,
    /// What it says: Pass, Fail, Starved, TooFew, Idle, Shared or NotComparable.
    #[schemars(length(max = 32))]
    pub verdict: String,
}

/// A content that did harm and is held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeldStatus {
    /// Whose content: `ProxyRoute shop/shop`.
    #[schemars(length(max = bounds::OBJECT_MAX_BYTES))]
    pub object: String,
    /// The first digits of its digest; `deleted` for a deletion.
    #[schemars(length(max = 64))]
    pub content: String,
    /// The revision that tried it.
    #[schemars(length(max = bounds::REVISION_MAX_BYTES))]
    pub revision: String,
    /// Why, with the figures that convicted it, and at which stage.
    #[schemars(length(max = bounds::SENTENCE_MAX_BYTES))]
    pub reason: String,
    /// When it was taken back (RFC 3339).
    #[schemars(length(max = bounds::TIME_MAX_BYTES))]
    pub at: String,
}

/// A revision that failed without an object to blame, and is not tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlockedStatus {
    /// Which revision.
    #[schemars(length(max = bounds::REVISION_MAX_BYTES))]
    pub revision: String,
    /// Why, with figures.
    #[schemars(length(max = bounds::SENTENCE_MAX_BYTES))]
    pub reason: String,
    /// When (RFC 3339).
    #[schemars(length(max = bounds::TIME_MAX_BYTES))]
    pub at: String,
}

/// A pause by command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PausedStatus {
    /// Who paused it.
    #[schemars(length(max = bounds::SENTENCE_MAX_BYTES))]
    pub by: String,
    /// Why.
    #[schemars(length(max = bounds::SENTENCE_MAX_BYTES))]
    pub reason: String,
    /// When (RFC 3339).
    #[schemars(length(max = bounds::TIME_MAX_BYTES))]
    pub at: String,
}

/// What became of a past revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PastStatus {
    /// Which revision.
    #[schemars(length(max = bounds::REVISION_MAX_BYTES))]
    pub revision: String,
    /// When it ended (RFC 3339).
    #[schemars(length(max = bounds::TIME_MAX_BYTES))]
    pub at: String,
    /// Adopted, AdoptedFromInstances, Promoted, RolledBack, Superseded or Withdrawn.
    #[schemars(length(max = 32))]
    pub result: String,
    /// Why, if it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::SENTENCE_MAX_BYTES))]
    pub reason: Option<String>,
}

/// What became of a command that was given by annotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandStatus {
    /// The id that its giver chose (annotation `sluice.dev/command-id`). A command with this id is not carried out again.
    #[schemars(length(max = bounds::COMMAND_WORD_MAX_BYTES))]
    pub id: String,
    /// What was asked for: pause, resume, promote, abort, retry or forget.
    #[schemars(length(max = bounds::COMMAND_WORD_MAX_BYTES))]
    pub verb: String,
    /// The revision that it spoke about.
    #[schemars(length(max = bounds::REVISION_MAX_BYTES))]
    pub revision: String,
    /// Who gave it, as it says; proven only where an admission policy holds the name to the user.
    #[schemars(length(max = bounds::COMMAND_WORD_MAX_BYTES))]
    pub by: String,
    /// Whether it was carried out.
    pub result: CommandResult,
    /// What follows, or why it was refused and what to do.
    #[schemars(length(max = bounds::SENTENCE_MAX_BYTES))]
    pub message: String,
    /// When (RFC 3339).
    #[schemars(length(max = bounds::TIME_MAX_BYTES))]
    pub at: String,
}

/// Whether a command was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CommandResult {
    /// It is so now.
    Done,
    /// Nothing changed.
    Refused,
}
