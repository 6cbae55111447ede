//! `ProxyRoute`: which requests go to which pool.
//!
//! Words and shapes are Gateway API's where it has one; `methods` as a list is the one departure.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::condition::{self, Condition};
use crate::filters::{HeaderChanges, RequestRedirect, UrlRewrite};
use crate::rules;
use crate::values::{DurationText, SecretReference, Size};

/// Which requests, by host and by what else they carry, go to which pool.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "ProxyRoute",
    plural = "proxyroutes",
    namespaced,
    shortname = "prt",
    category = "sluice",
    status = "ProxyRouteStatus",
    derive = "PartialEq",
    doc = "Where requests go: hosts, matches, and the pool that answers.",
    printcolumn(
        name = "HOSTNAMES",
        type_ = "string",
        json_path = ".spec.hostnames",
        description = "Hosts of the route; empty is every host."
    ),
    printcolumn(
        name = "ACCEPTED",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status",
        description = "Whether this content is in order."
    ),
    printcolumn(
        name = "PROGRAMMED",
        type_ = "string",
        json_path = ".status.programmed",
        description = "True when every instance serves it, or the stage that tries it, or RolledBack."
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "REVISION",
        type_ = "string",
        json_path = ".status.liveIn",
        description = "The revision with which this content came into service.",
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
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::RULE_ASKS_AS_ROUTE_DOES])))]
pub struct ProxyRouteSpec {
    /// The fleet that serves this route. A Rollout governs each fleet.
    #[serde(default = "crate::default_fleet")]
    #[schemars(length(min = 1, max = bounds::LABEL_MAX_BYTES), regex(pattern = bounds::LABEL_PATTERN))]
    pub fleet: String,
    /// Hosts to serve, in lower case and without a port: `shop.example.com`, or `*.shop.example.com` for every host
    /// below it. With neither hostnames nor hostnameRegex the route serves every host. Of several namespaces that name
    /// a host the oldest owns it (standalone: the one with the oldest route); routes of the others are refused. A
    /// wildcard and a host below it are two hosts, and may have two owners: the exact one wins for its requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::HOSTNAMES_MAX_ITEMS),
        inner(length(min = 1, max = bounds::NAME_MAX_BYTES), regex(pattern = bounds::HOSTNAME_PATTERN)),
        extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = rules::attach(&[rules::HOST_IS_NAME]))
    )]
    pub hostnames: Vec<String>,
    /// Regular expressions of hosts to serve, matched against the whole host in lower case. Tried only when no host
    /// name matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::HOSTNAME_REGEXES_MAX_ITEMS),
        inner(length(min = 1, max = bounds::REGEX_MAX_BYTES)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub hostname_regex: Vec<String>,
    /// Which of these hosts' requests go where. Of all rules that match a request the most specific wins, by Gateway
    /// API's precedence; their order decides only between equals.
    #[schemars(
        length(min = 1, max = bounds::RULES_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub rules: Vec<RouteRule>,
    /// What clients that come over TLS are shown, and what becomes of those that do not. For listeners with `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouteTls>,
}

/// What clients that come over TLS are shown, and what becomes of those that do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::TLS_SAYS_SOMETHING])))]
pub struct RouteTls {
    /// Secrets of type kubernetes.io/tls for the hosts of this route. Each certificate serves those of the hosts that it
    /// names. Without any, hosts are served with the certificates of other routes that name them, or the listener's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::CERTIFICATES_MAX_ITEMS),
        extend(
            "x-kubernetes-list-type" = "atomic",
            "x-kubernetes-validations" = rules::attach(&[rules::CERTIFICATES_DIFFER])
        )
    )]
    pub certificates: Vec<SecretReference>,
    /// Whether clients have to show certificates too (mutual TLS). Left out: nobody asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// What becomes of this route's requests that come in the clear: Allow (they are served), Redirect (their clients are sent
    /// to HTTPS, with status 308) or Reject (426). Without it Allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_http: Option<PlainHttp>,
}

/// What a route asks of its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientAuth {
    /// The Secret with those who sign clients' certificates: its `ca.crt`, one or more certificates as PEM.
    pub ca: SecretReference,
    /// Required: a request without a certificate of theirs is answered 403, also one in the clear. Optional: clients are
    /// asked, the access log says what they have shown, and rules with requireClientCertificate insist. Left out: Required.
    #[serde(default)]
    pub mode: ClientAuthMode,
    /// What of a client's certificate the pool is told, in X-Forwarded-Client-Cert as Envoy writes it: Hash (its SHA-256),
    /// Subject, URI (as of SPIFFE) and DNS. Only of a certificate that those in ca have signed. Left out: nothing. What
    /// clients themselves send in that field never gets through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::CERTIFICATE_PARTS_MAX_ITEMS), extend("x-kubernetes-list-type" = "set"))]
    pub forward: Vec<CertificatePart>,
}

/// A part of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificatePart {
    /// SHA-256 of the certificate.
    Hash,
    /// Its subject.
    Subject,
    /// The URIs among its alternative names.
    #[serde(rename = "URI")]
    Uri,
    /// The DNS names among them.
    #[serde(rename = "DNS")]
    Dns,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientAuthMode {
    /// No request without one is forwarded.
    #[default]
    Required,
    /// They are asked for one.
    Optional,
}

/// What becomes of requests that come in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlainHttp {
    /// They are served.
    Allow,
    /// Their clients are sent to HTTPS.
    Redirect,
    /// They are refused.
    Reject,
}

/// One rule: the requests it matches, and where they go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[
    rules::POOL_OR_REDIRECT,
    rules::REDIRECT_ALONE,
    rules::PREFIX_TO_REDIRECT,
    rules::PREFIX_TO_REWRITE,
])))]
pub struct RouteRule {
    /// Name of the rule, unique in the route. Metrics, logs and gates speak of it.
    #[schemars(length(min = 1, max = bounds::LABEL_MAX_BYTES), regex(pattern = bounds::LABEL_PATTERN))]
    pub name: String,
    /// A request matches when it meets every condition of any one of these. Without any, every request matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::MATCHES_MAX_ITEMS), extend("x-kubernetes-list-type" = "atomic"))]
    pub matches: Vec<RouteMatch>,
    /// Name of the Pool, in this route's namespace, that answers. Either this or requestRedirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME_MAX_BYTES), regex(pattern = bounds::NAME_PATTERN))]
    pub pool: Option<String>,
    /// Sends the client elsewhere instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<RequestRedirect>,
    /// Answers requests without a client certificate with 403, also where the route's tls.clientAuth is Optional. Left out:
    /// as the route has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_client_certificate: Option<bool>,
    /// How long things may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RouteTimeouts>,
    /// The size of a request's body: 413 beyond, and nothing of a larger one that says so reaches the pool. 1 to 1048576Mi; the
    /// Rollout's limits.maxRequestBody holds beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::BODY_SIZE_RANGE])))]
    pub max_request_body: Option<Size>,
    /// Protocols that clients may go over to from HTTP/1.1, such as websocket. Without any, requests to do so are answered
    /// as ordinary ones. What is said after such a change is passed on as it comes, both ways, and looked at by nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::UPGRADES_MAX_ITEMS),
        inner(length(min = 1, max = bounds::UPGRADE_MAX_BYTES), regex(pattern = bounds::UPGRADE_PATTERN)),
        extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = rules::attach(&[rules::UPGRADE_IS_NOT_HTTP]))
    )]
    pub upgrades: Vec<String>,
    /// Gives the pool another host or path than the client asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
    /// What of a request's header fields is changed before the pool gets them. Matches look at what the client sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<HeaderChanges>,
    /// What of the answer's header fields is changed before the client gets them. Sluice's own answers to requests that
    /// failed are left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<HeaderChanges>,
}

/// Conditions that a request must meet, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteMatch {
    /// The path. Without it every path matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Any one of these methods, in upper case. Without any, every method matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::METHODS_MAX_ITEMS),
        inner(length(min = 1, max = bounds::METHOD_MAX_BYTES), regex(pattern = bounds::METHOD_PATTERN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub methods: Vec<String>,
    /// Headers, all of which must match. One entry for each header name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::HEADERS_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters, all of which must match. One entry for each parameter name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::QUERY_PARAMS_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub query_params: Vec<QueryParamMatch>,
}

/// What the path must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::PATH_ABSOLUTE, rules::PATH_CHARACTERS, rules::PATH_SEGMENTS])))]
pub struct PathMatch {
    /// How to compare: Exact, PathPrefix (whole segments) or RegularExpression (the whole path). Without it PathPrefix.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<PathMatchType>,
    /// The path, beginning with `/` and without a query, or the regular expression. Compared with the normalised path.
    #[schemars(length(min = 1, max = bounds::PATH_MAX_BYTES))]
    pub value: String,
}

/// How to compare: Exact, PathPrefix (whole segments) or RegularExpression (the whole path). Without it PathPrefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The whole path, exactly.
    Exact,
    /// The path's first segments: `/v1` matches `/v1` and `/v1/items`, not `/v10`.
    PathPrefix,
    /// The whole path, by a regular expression (RE2 syntax).
    RegularExpression,
}

/// What one header must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::VALUE_BY_TYPE])))]
pub struct HeaderMatch {
    /// Name of the header; upper and lower case are the same.
    #[schemars(length(min = 1, max = bounds::HEADER_NAME_MAX_BYTES), regex(pattern = bounds::TOKEN_PATTERN))]
    pub name: String,
    /// How to compare: Exact, RegularExpression (the whole value) or Present. Without it Exact.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ValueMatchType>,
    /// The value or the regular expression; not with Present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::HEADER_VALUE_MAX_BYTES))]
    pub value: Option<String>,
}

/// What one query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::VALUE_BY_TYPE])))]
pub struct QueryParamMatch {
    /// Name of the parameter, exactly, after percent-decoding.
    #[schemars(length(min = 1, max = bounds::HEADER_NAME_MAX_BYTES))]
    pub name: String,
    /// How to compare: Exact, RegularExpression (the whole value) or Present. Without it Exact.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ValueMatchType>,
    /// The value or the regular expression; not with Present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::HEADER_VALUE_MAX_BYTES))]
    pub value: Option<String>,
}

/// How to compare: Exact, RegularExpression (the whole value) or Present. Without it Exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// The whole value, exactly.
    Exact,
    /// The whole value, by a regular expression (RE2 syntax).
    RegularExpression,
    /// It is there, whatever its value.
    Present,
}

/// How long things may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTimeouts {
    /// From the request's head to the response's last byte: after that the client gets 504, or, if its answer has begun, the
    /// end of it as soon as it is the pool that is waited for. Between 1ms and 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::TIMEOUT_RANGE])))]
    pub request: Option<DurationText>,
    /// From choosing an endpoint to the head of its response. After that a request that can be sent twice, and was not yet,
    /// goes to another endpoint; of others the client gets 504. Between 1ms and 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::TIMEOUT_RANGE])))]
    pub per_try: Option<DurationText>,
    /// How long nothing of a request's body or of its response may come before it ends. Between 1ms and 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::attach(&[rules::TIMEOUT_RANGE])))]
    pub idle: Option<DurationText>,
}

/// What became of the ProxyRoute. Written by Sluice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("default" = condition::pending_content()))]
pub struct ProxyRouteStatus {
    /// The revision with which this content came into service everywhere: acknowledged by every instance, not hoped.
    /// Absent while it is not; of a content that is in error or held back, that of the form which serves in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::REVISION_MAX_BYTES))]
    pub live_in: Option<String>,
    /// Where this content is: True when every instance of the fleet serves it; the name of the stage whose instances try
    /// it; RolledBack when it did harm and is held back; False otherwise; Pending as long as nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::LABEL_MAX_BYTES))]
    pub programmed: Option<String>,
    /// Accepted: whether this content is in order by itself. ResolvedRefs: whether what it refers to is there.
    /// Programmed: whether every instance of the fleet has acknowledged it, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::CONDITIONS_MAX_ITEMS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}
