//! The rules that a plain schema cannot say: CEL for the API server, and one table of cases for everybody else.
//!
//! CEL does not run in the directory source, so each rule has a twin in `sluice-controller`'s translation. [`CASES`]
//! is what keeps the two together: a case names the rule, and what it must say to an object.

mod cases;

use serde_json::{Value, json};

pub use cases::{CASES, Case};

/// One CEL rule of a CRD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CelRule {
    /// How tests and the twin in translation call it.
    pub id: &'static str,
    /// The expression; `self` is the value that the rule is attached to.
    pub cel: &'static str,
    /// What the author reads when it does not hold.
    pub message: &'static str,
    /// The field in the value that a refusal points at, as `.name`; `None` for the value itself.
    pub field: Option<&'static str>,
}

/// An address is an IP address: the data plane looks no names up.
pub const ADDRESS_IS_IP: CelRule = CelRule {
    id: "address-is-ip",
    cel: "isIP(self)",
    message: "must be an IPv4 or IPv6 address, not a host name",
    field: None,
};
/// An address is one machine's. Link-local ones mean another machine to each instance, and behind 169.254.169.254 clouds
/// hand out credentials; loopback is for sidecars, so that who may use it is decided where the fleets are known. Behind the
/// ranges of no one's own stand the forms in which NAT64 (64:ff9b::/96) and 6to4 (2002::/16) hold what is refused of IPv4.
pub const ADDRESS_CONNECTS: CelRule = CelRule {
    id: "address-connects",
    cel: "!isIP(self) || ip(self).isLoopback() || (ip(self).isGlobalUnicast() && !['0.0.0.0/8', '240.0.0.0/4', '::/96', \
          'fec0::/10', '64:ff9b::/104', '64:ff9b::7f00:0/104', '64:ff9b::a9fe:0/112', '64:ff9b::e000:0/99', '2002::/24', \
          '2002:7f00::/24', '2002:a9fe::/32', '2002:e000::/19'].exists(range, cidr(range).containsIP(ip(self))))",
    message: "must be the address of one machine: not unspecified, link-local, multicast, broadcast or reserved, nor a form \
              of IPv6 that stands for such a one of IPv4",
    field: None,
};
/// Not every endpoint has weight 0.
pub const SOME_WEIGHT: CelRule = CelRule {
    id: "some-weight",
    cel: "self.exists(e, !has(e.weight) || e.weight > 0)",
    message: "at least one endpoint needs a weight above 0",
    field: None,
};
/// A pool has endpoints of its own or those of a service.
pub const ENDPOINTS_OR_SERVICE: CelRule = CelRule {
    id: "endpoints-or-service",
    cel: "has(self.endpoints) != has(self.service)",
    message: "a pool needs either endpoints or a service, and not both",
    field: None,
};
/// Endpoints that are written down leave by rollout, which needs no brake.
pub const BRAKE_FOR_SERVICE: CelRule = CelRule {
    id: "brake-for-service",
    cel: "!has(self.removalBrake) || has(self.service)",
    message: "removalBrake is for pools with a service; written endpoints change by rollout",
    field: Some(".removalBrake"),
};
/// Without a handshake nothing chooses.
pub const AUTO_NEEDS_TLS: CelRule = CelRule {
    id: "auto-needs-tls",
    cel: "!has(self.protocol) || self.protocol != 'Auto' || has(self.tls)",
    message: "Auto is chosen in the TLS handshake: add tls, or say HTTP1 or HTTP2",
    field: Some(".protocol"),
};
/// Nobody waits for a connection where there is no bound on them.
pub const PENDING_FOR_QUOTA: CelRule = CelRule {
    id: "pending-for-quota",
    cel: "!has(self.maxPending) || has(self.maxPerEndpoint)",
    message: "maxPending is for pools with maxPerEndpoint: without a bound no request waits for a connection",
    field: Some(".maxPending"),
};
/// Who has not answered five SYNs is not there.
pub const CONNECT_TIME_RANGE: CelRule = CelRule {
    id: "connect-time-range",
    cel: "duration(self) >= duration('10ms') && duration(self) <= duration('60s')",
    message: "must be between 10ms and 60s",
    field: None,
};
/// A brake that holds for hours would serve addresses that were given to others.
pub const BRAKE_TIME_RANGE: CelRule = CelRule {
    id: "brake-time-range",
    cel: "duration(self) <= duration('1h')",
    message: "must be at most 1h",
    field: None,
};
/// A host is a name, not an IP address.
pub const HOST_IS_NAME: CelRule = CelRule {
    id: "host-is-name",
    cel: "self.all(h, !h.matches('^[0-9.]+$'))",
    message: "must be host names, not IP addresses; leave hostnames out to serve every host",
    field: None,
};
/// A path begins with `/`.
pub const PATH_ABSOLUTE: CelRule = CelRule {
    id: "path-absolute",
    cel: "(has(self.type) && self.type == 'RegularExpression') || self.value.startsWith('/')",
    message: "a path must begin with '/'",
    field: None,
};
/// A path consists of characters that a normalised request path can have.
///
/// Apart from [`PATH_SEGMENTS`], since a rule has a budget: what it may cost at worst is counted over every path of a
/// route, times the length of its regex, and both in one would exceed it.
pub const PATH_CHARACTERS: CelRule = CelRule {
    id: "path-characters",
    cel: r"(has(self.type) && self.type == 'RegularExpression') || !self.value.matches(r'[^!-~]|[?#\\]')",
    message: "a path must not contain '?', '#', '\\', spaces or non-ASCII characters: no normalised request path does",
    field: None,
};
/// A path consists of segments that a normalised request path can have.
pub const PATH_SEGMENTS: CelRule = CelRule {
    id: "path-segments",
    cel: r"(has(self.type) && self.type == 'RegularExpression') || !self.value.matches('//|/[.][.]?(/|$)')",
    message: "a path must not contain '//', '/./' or '/../': no normalised request path does",
    field: None,
};
/// `Present` compares nothing, the others compare something.
pub const VALUE_BY_TYPE: CelRule = CelRule {
    id: "value-by-type",
    cel: "(has(self.type) && self.type == 'Present') != has(self.value)",
    message: "value is required, except with type Present, where it must be left out",
    field: None,
};
/// A request timeout is a time that can pass and end.
pub const TIMEOUT_RANGE: CelRule = CelRule {
    id: "timeout-range",
    cel: "duration(self) >= duration('1ms') && duration(self) <= duration('24h')",
    message: "must be between 1ms and 24h",
    field: None,
};
/// What is HTTP again would bring requests that no rule has seen.
pub const UPGRADE_IS_NOT_HTTP: CelRule = CelRule {
    id: "upgrade-is-not-http",
    cel: "!self.exists(u, u in ['h2', 'h2c', 'http', 'tls'])",
    message: "h2, h2c, http and tls are never let through: requests would come in them that no rule has seen",
    field: None,
};
/// A bake ends within a week.
pub const BAKE_TIME_RANGE: CelRule = CelRule {
    id: "bake-time-range",
    cel: "duration(self) <= duration('168h')",
    message: "must be at most 168h",
    field: None,
};
/// Two listeners cannot share a port.
pub const LISTENER_PORTS_DIFFER: CelRule = CelRule {
    id: "listener-ports-differ",
    cel: "self.all(l, self.exists_one(m, m.port == l.port))",
    message: "each listener needs a port of its own",
    field: None,
};
/// With TLS the handshake says what is spoken.
pub const PRIOR_KNOWLEDGE_IN_THE_CLEAR: CelRule = CelRule {
    id: "prior-knowledge-in-the-clear",
    cel: "!has(self.http2) || self.http2 != 'PriorKnowledge' || !has(self.tls)",
    message: "with tls the handshake says what is spoken: leave http2 out, or turn it Off",
    field: Some(".http2"),
};
/// A head is as large as what browsers keep of cookies at least, and no larger than the codecs' buffers.
pub const HEADER_SIZE_RANGE: CelRule = CelRule {
    id: "header-size-range",
    cel: "type(self) == int ? self >= 4096 && self <= 65536 : \
          quantity(self).compareTo(quantity('4Ki')) >= 0 && quantity(self).compareTo(quantity('64Ki')) <= 0",
    message: "must be between 4Ki and 64Ki",
    field: None,
};
/// A target that is too long for a path is none, one of 16 KiB is nobody's.
pub const URI_SIZE_RANGE: CelRule = CelRule {
    id: "uri-size-range",
    cel: "type(self) == int ? self >= 1024 && self <= 16384 : \
          quantity(self).compareTo(quantity('1Ki')) >= 0 && quantity(self).compareTo(quantity('16Ki')) <= 0",
    message: "must be between 1Ki and 16Ki",
    field: None,
};
/// No body at all is not a size, and a TiB is no limit.
pub const BODY_SIZE_RANGE: CelRule = CelRule {
    id: "body-size-range",
    cel: "type(self) == int || quantity(self).compareTo(quantity('1048576Mi')) <= 0",
    message: "must be between 1 and 1048576Mi",
    field: None,
};
/// What begins with a client ends soon, or it holds a connection.
pub const INTAKE_TIME_RANGE: CelRule = CelRule {
    id: "intake-time-range",
    cel: "duration(self) >= duration('1s') && duration(self) <= duration('60s')",
    message: "must be between 1s and 60s",
    field: None,
};
/// A connection at rest for more than an hour is forgotten by what is between.
pub const IDLE_TIME_RANGE: CelRule = CelRule {
    id: "idle-time-range",
    cel: "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
    message: "must be between 1s and 1h",
    field: None,
};
/// A tunnel in which nothing moves for a day has nobody at its ends.
pub const TUNNEL_TIME_RANGE: CelRule = CelRule {
    id: "tunnel-time-range",
    cel: "duration(self) >= duration('1s') && duration(self) <= duration('24h')",
    message: "must be between 1s and 24h",
    field: None,
};
/// A range of addresses has one spelling: one with bits behind its prefix means less, or more, than its author thinks.
pub const RANGE_IS_CIDR: CelRule = CelRule {
    id: "range-is-cidr",
    cel: "isCIDR(self) && cidr(self) == cidr(self).masked()",
    message: "must be a range of addresses such as 10.0.0.0/8 or 2001:db8::/32, without bits behind its prefix",
    field: None,
};
/// A gate without a limit would always pass.
pub const GATE_HAS_LIMIT: CelRule = CelRule {
    id: "gate-has-limit",
    cel: "has(self.max) || has(self.maxIncrease) || has(self.maxRatio)",
    message: "a gate needs max, maxIncrease or maxRatio",
    field: None,
};
/// Ratios of rates near zero mean nothing; ratios of latencies do.
pub const RATIO_FOR_LATENCY: CelRule = CelRule {
    id: "ratio-for-latency",
    cel: "!has(self.maxRatio) || self.metric == 'LatencyP95'",
    message: "maxRatio is for LatencyP95; use maxIncrease",
    field: None,
};
/// An increase in percentage points is for percentages.
pub const INCREASE_FOR_RATES: CelRule = CelRule {
    id: "increase-for-rates",
    cel: "!has(self.maxIncrease) || self.metric != 'LatencyP95'",
    message: "maxIncrease is for ErrorRate and NoRouteRate; use maxRatio",
    field: None,
};
/// In and NotIn compare with values, Exists and DoesNotExist with none.
pub const VALUES_BY_OPERATOR: CelRule = CelRule {
    id: "values-by-operator",
    cel: "(self.operator == 'In' || self.operator == 'NotIn') == (has(self.values) && size(self.values) > 0)",
    message: "values are required with In and NotIn, and must be left out with Exists and DoesNotExist",
    field: None,
};
/// A certificate is named once. Compared as a whole: `namespace` is a word of CEL's own, and a field of that name, unless
/// it is escaped, is one of unknown length to the API server, which refuses the rule for what it might cost.
pub const CERTIFICATES_DIFFER: CelRule = CelRule {
    id: "certificates-differ",
    cel: "self.all(c, self.exists_one(d, d == c))",
    message: "each certificate may stand here once",
    field: None,
};
/// A `tls` with nothing in it was meant to have something.
pub const TLS_SAYS_SOMETHING: CelRule = CelRule {
    id: "tls-says-something",
    cel: "(has(self.certificates) && size(self.certificates) > 0) || has(self.plainHttp) || has(self.clientAuth)",
    message: "tls needs certificates, plainHttp or clientAuth",
    field: None,
};
/// A rule can insist only where the route says whose certificates count.
pub const RULE_ASKS_AS_ROUTE_DOES: CelRule = CelRule {
    id: "rule-asks-as-route-does",
    cel: "(has(self.tls) && has(self.tls.clientAuth)) || \
          !self.rules.exists(r, has(r.requireClientCertificate) && r.requireClientCertificate)",
    message: "requireClientCertificate needs tls.clientAuth, which says who signs clients' certificates",
    field: Some(".rules"),
};
/// A rule leaves alone what frames a message, concerns one connection, or is Sluice's own word about a request. The same
/// names as `sluice_model::header_changes::OWNED`; `_` counts as `-`, as many servers have it.
pub const HEADER_MAY_CHANGE: CelRule = CelRule {
    id: "header-may-change",
    cel: "!(self.lowerAscii().replace('_', '-') in ['host', 'content-length', 'transfer-encoding', 'te', 'trailer', \
          'connection', 'keep-alive', 'upgrade', 'expect', 'max-forwards', 'proxy-connection', 'proxy-authenticate', \
          'proxy-authorization', 'http2-settings', 'x-forwarded-client-cert', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', \
          'x-request-id'])",
    message: "no rule may change this field: it frames messages, concerns one connection, or is what Sluice vouches for",
    field: None,
};

/// A rule sends its requests to a pool or elsewhere.
pub const POOL_OR_REDIRECT: CelRule = CelRule {
    id: "pool-or-redirect",
    cel: "has(self.pool) != has(self.requestRedirect)",
    message: "a rule needs either a pool or a requestRedirect, and not both",
    field: None,
};
/// Nobody would get the request that is changed, or answer in time.
pub const REDIRECT_ALONE: CelRule = CelRule {
    id: "redirect-alone",
    cel: "!has(self.requestRedirect) || !(has(self.requestHeaders) || has(self.timeouts) || has(self.maxRequestBody) || has(self.urlRewrite) || (has(self.upgrades) && size(self.upgrades) > 0))",
    message: "maxRequestBody, requestHeaders, timeouts, upgrades and urlRewrite are for requests that go to a pool, not for a requestRedirect",
    field: Some(".requestRedirect"),
};
/// A prefix is replaced only where one is matched.
pub const PREFIX_TO_REDIRECT: CelRule = CelRule {
    id: "prefix-to-redirect",
    cel: "!(has(self.requestRedirect) && has(self.requestRedirect.path) && \
          self.requestRedirect.path.type == 'ReplacePrefixMatch') || !has(self.matches) || \
          self.matches.all(m, !has(m.path) || !has(m.path.type) || m.path.type == 'PathPrefix')",
    message: "ReplacePrefixMatch needs matches whose paths are all of type PathPrefix",
    field: Some(".requestRedirect.path"),
};
/// A prefix is replaced only where one is matched.
pub const PREFIX_TO_REWRITE: CelRule = CelRule {
    id: "prefix-to-rewrite",
    cel: "!(has(self.urlRewrite) && has(self.urlRewrite.path) && \
          self.urlRewrite.path.type == 'ReplacePrefixMatch') || !has(self.matches) || \
          self.matches.all(m, !has(m.path) || !has(m.path.type) || m.path.type == 'PathPrefix')",
    message: "ReplacePrefixMatch needs matches whose paths are all of type PathPrefix",
    field: Some(".urlRewrite.path"),
};
/// A rewrite that says nothing was meant to say something.
pub const REWRITE_CHANGES_SOMETHING: CelRule = CelRule {
    id: "rewrite-changes-something",
    cel: "has(self.hostname) || has(self.path)",
    message: "a rewrite needs a hostname or a path",
    field: None,
};
/// A redirect that changes nothing leads in a circle.
pub const REDIRECT_LEADS_ELSEWHERE: CelRule = CelRule {
    id: "redirect-leads-elsewhere",
    cel: "has(self.scheme) || has(self.hostname) || has(self.port) || has(self.path)",
    message: "a redirect needs a scheme, hostname, port or path: without any it leads to itself",
    field: None,
};
/// The statuses of redirects to a place that is named. 304 and 305 mean something else, 306 nothing.
pub const REDIRECT_STATUS: CelRule = CelRule {
    id: "redirect-status",
    cel: "self in [301, 302, 303, 307, 308]",
    message: "must be 301, 302, 303, 307 or 308",
    field: None,
};
/// The new host is a name, not an IP address.
pub const NEW_HOST_IS_NAME: CelRule = CelRule {
    id: "new-host-is-name",
    cel: "!self.matches('^[0-9.]+$')",
    message: "must be a host name, not an IP address",
    field: None,
};
/// One type, and what belongs to it.
pub const PATH_CHANGE_BY_TYPE: CelRule = CelRule {
    id: "path-change-by-type",
    cel: "has(self.replaceFullPath) == (self.type == 'ReplaceFullPath') && \
          has(self.replacePrefixMatch) == (self.type == 'ReplacePrefixMatch')",
    message: "type ReplaceFullPath goes with replaceFullPath, type ReplacePrefixMatch with replacePrefixMatch",
    field: None,
};
/// A new path is as a normalised request path is.
pub const NEW_PATH: CelRule = CelRule {
    id: "new-path",
    cel: r"self == '' || (self.startsWith('/') && !self.matches(r'[^!-~]|[?#\\]|//|/[.][.]?(/|$)'))",
    message: "a path begins with '/' and has no '?', '#', '\\', '//', '/./', '/../', spaces or non-ASCII characters",
    field: None,
};

/// Every rule.
pub const ALL: &[CelRule] = &[
    ADDRESS_IS_IP,
    ADDRESS_CONNECTS,
    SOME_WEIGHT,
    ENDPOINTS_OR_SERVICE,
    BRAKE_FOR_SERVICE,
    AUTO_NEEDS_TLS,
    PENDING_FOR_QUOTA,
    CONNECT_TIME_RANGE,
    BRAKE_TIME_RANGE,
    HOST_IS_NAME,
    PATH_ABSOLUTE,
    PATH_CHARACTERS,
    PATH_SEGMENTS,
    VALUE_BY_TYPE,
    TIMEOUT_RANGE,
    UPGRADE_IS_NOT_HTTP,
    BAKE_TIME_RANGE,
    LISTENER_PORTS_DIFFER,
    PRIOR_KNOWLEDGE_IN_THE_CLEAR,
    HEADER_SIZE_RANGE,
    URI_SIZE_RANGE,
    BODY_SIZE_RANGE,
    INTAKE_TIME_RANGE,
    IDLE_TIME_RANGE,
    TUNNEL_TIME_RANGE,
    RANGE_IS_CIDR,
    GATE_HAS_LIMIT,
    RATIO_FOR_LATENCY,
    INCREASE_FOR_RATES,
    VALUES_BY_OPERATOR,
    CERTIFICATES_DIFFER,
    TLS_SAYS_SOMETHING,
    RULE_ASKS_AS_ROUTE_DOES,
    HEADER_MAY_CHANGE,
    POOL_OR_REDIRECT,
    REDIRECT_ALONE,
    PREFIX_TO_REDIRECT,
    PREFIX_TO_REWRITE,
    REWRITE_CHANGES_SOMETHING,
    REDIRECT_LEADS_ELSEWHERE,
    REDIRECT_STATUS,
    NEW_HOST_IS_NAME,
    PATH_CHANGE_BY_TYPE,
    NEW_PATH,
];

/// `rules` as the value of `x-kubernetes-validations`.
pub fn attach(rules: &[CelRule]) -> Value {
    rules
        .iter()
        .map(|rule| match rule.field {
            None => json!({"rule": rule.cel, "message": rule.message}),
            Some(field) => json!({"rule": rule.cel, "message": rule.message, "fieldPath": field}),
        })
        .collect()
}
