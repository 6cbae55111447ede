//! The rules that a plain schema cannot say: CEL for the API server, and one table of cases for everybody else.
//!
//! CEL does not run in the directory source, so each rule has a twin in `sluice-controller`'s translation. [`CASES`]
//! is what keeps the two together: a case names the rule, and what it must say to an object.

use serde_json::{Value, json};

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
/// hand out credentials; loopback is for sidecars, so that who may use it is decided where the fleets are known.
pub const ADDRESS_CONNECTS: CelRule = CelRule {
    id: "address-connects",
    cel: "!isIP(self) || ip(self).isGlobalUnicast() || ip(self).isLoopback()",
    message: "must be the address of one machine: not unspecified, link-local, multicast or broadcast",
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

/// Every rule.
pub const ALL: &[CelRule] = &[
    ADDRESS_IS_IP,
    ADDRESS_CONNECTS,
    SOME_WEIGHT,
    ENDPOINTS_OR_SERVICE,
    BRAKE_FOR_SERVICE,
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
    GATE_HAS_LIMIT,
    RATIO_FOR_LATENCY,
    INCREASE_FOR_RATES,
    VALUES_BY_OPERATOR,
    CERTIFICATES_DIFFER,
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

/// What a rule must say to one object.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The rule it is about.
    pub rule: CelRule,
    /// Kind of the object.
    pub kind: &'static str,
    /// Its `spec`, as JSON. Nothing else is wrong with it.
    pub spec: &'static str,
    /// Where a refusal points; `None` when the object is accepted.
    pub refused_at: Option<&'static str>,
}

const fn refused(rule: CelRule, kind: &'static str, spec: &'static str, at: &'static str) -> Case {
    Case {
        rule,
        kind,
        spec,
        refused_at: Some(at),
    }
}

const fn accepted(rule: CelRule, kind: &'static str, spec: &'static str) -> Case {
    Case {
        rule,
        kind,
        spec,
        refused_at: None,
    }
}

/// The table: for every rule at least one object that it refuses and one that it accepts.
pub const CASES: &[Case] = &[
    refused(
        UPGRADE_IS_NOT_HTTP,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","upgrades":["websocket","h2c"]}]}"#,
        "spec.rules[0].upgrades",
    ),
    accepted(
        UPGRADE_IS_NOT_HTTP,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","upgrades":["websocket","x-own"]}]}"#,
    ),
    refused(
        ADDRESS_IS_IP,
        "Pool",
        r#"{"endpoints":[{"address":"api.internal","port":80}]}"#,
        "spec.endpoints[0].address",
    ),
    refused(
        ADDRESS_IS_IP,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.256","port":80}]}"#,
        "spec.endpoints[0].address",
    ),
    accepted(
        ADDRESS_IS_IP,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80},{"address":"2001:db8::1","port":80}]}"#,
    ),
    refused(
        ADDRESS_IS_IP,
        "Pool",
        r#"{"endpoints":[{"address":"::ffff:10.0.0.1","port":80}]}"#,
        "spec.endpoints[0].address",
    ),
    refused(
        ADDRESS_CONNECTS,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80},{"address":"169.254.169.254","port":80}]}"#,
        "spec.endpoints[1].address",
    ),
    refused(
        ADDRESS_CONNECTS,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80},{"address":"fe80::1","port":80}]}"#,
        "spec.endpoints[1].address",
    ),
    refused(
        ADDRESS_CONNECTS,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80},{"address":"0.0.0.0","port":80}]}"#,
        "spec.endpoints[1].address",
    ),
    refused(
        ADDRESS_CONNECTS,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80},{"address":"::","port":80}]}"#,
        "spec.endpoints[1].address",
    ),
    refused(
        ADDRESS_CONNECTS,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80},{"address":"224.0.0.1","port":80}]}"#,
        "spec.endpoints[1].address",
    ),
    refused(
        ADDRESS_CONNECTS,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80},{"address":"ff02::1","port":80}]}"#,
        "spec.endpoints[1].address",
    ),
    refused(
        ADDRESS_CONNECTS,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80},{"address":"255.255.255.255","port":80}]}"#,
        "spec.endpoints[1].address",
    ),
    accepted(
        ADDRESS_CONNECTS,
        "Pool",
        r#"{"endpoints":[{"address":"127.0.0.1","port":80},{"address":"::1","port":80},{"address":"192.168.0.1","port":80},{"address":"fd00::1","port":80}]}"#,
    ),
    refused(
        SOME_WEIGHT,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80,"weight":0}]}"#,
        "spec.endpoints",
    ),
    accepted(
        SOME_WEIGHT,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80,"weight":0},{"address":"10.0.0.2","port":80}]}"#,
    ),
    refused(
        ENDPOINTS_OR_SERVICE,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80}],"service":{"name":"api","port":"http"}}"#,
        "spec",
    ),
    refused(ENDPOINTS_OR_SERVICE, "Pool", "{}", "spec"),
    accepted(
        ENDPOINTS_OR_SERVICE,
        "Pool",
        r#"{"service":{"name":"api","port":"http"}}"#,
    ),
    accepted(
        ENDPOINTS_OR_SERVICE,
        "Pool",
        r#"{"service":{"name":"api","port":8080}}"#,
    ),
    refused(
        BRAKE_FOR_SERVICE,
        "Pool",
        r#"{"endpoints":[{"address":"10.0.0.1","port":80}],"removalBrake":{"maxPercentAtOnce":50}}"#,
        "spec.removalBrake",
    ),
    accepted(
        BRAKE_FOR_SERVICE,
        "Pool",
        r#"{"service":{"name":"api","port":80},"removalBrake":{"maxPercentAtOnce":50}}"#,
    ),
    refused(
        BRAKE_TIME_RANGE,
        "Pool",
        r#"{"service":{"name":"api","port":80},"removalBrake":{"for":"1h1s"}}"#,
        "spec.removalBrake.for",
    ),
    accepted(
        BRAKE_TIME_RANGE,
        "Pool",
        r#"{"service":{"name":"api","port":80},"removalBrake":{"for":"0s"}}"#,
    ),
    refused(
        HOST_IS_NAME,
        "ProxyRoute",
        r#"{"hostnames":["10.0.0.1"],"rules":[{"name":"a","pool":"p"}]}"#,
        "spec.hostnames",
    ),
    accepted(
        HOST_IS_NAME,
        "ProxyRoute",
        r#"{"hostnames":["10.example.com"],"rules":[{"name":"a","pool":"p"}]}"#,
    ),
    refused(
        PATH_ABSOLUTE,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"path":{"value":"v1"}}]}]}"#,
        "spec.rules[0].matches[0].path",
    ),
    accepted(
        PATH_ABSOLUTE,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"path":{"type":"RegularExpression","value":"v1"}}]}]}"#,
    ),
    refused(
        PATH_CHARACTERS,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"path":{"type":"Exact","value":"/a?b=1"}}]}]}"#,
        "spec.rules[0].matches[0].path",
    ),
    refused(
        PATH_CHARACTERS,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"path":{"value":"/a b"}}]}]}"#,
        "spec.rules[0].matches[0].path",
    ),
    accepted(
        PATH_CHARACTERS,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"path":{"value":"/a%20b!~"}},{"path":{"type":"RegularExpression","value":"/a?[.]b #"}}]}]}"#,
    ),
    refused(
        PATH_SEGMENTS,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"path":{"value":"/a/.."}}]}]}"#,
        "spec.rules[0].matches[0].path",
    ),
    refused(
        PATH_SEGMENTS,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"path":{"value":"/a/../b"}}]}]}"#,
        "spec.rules[0].matches[0].path",
    ),
    refused(
        PATH_SEGMENTS,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"path":{"value":"//a"}}]}]}"#,
        "spec.rules[0].matches[0].path",
    ),
    accepted(
        PATH_SEGMENTS,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"path":{"value":"/a/..b/.c"}},{"path":{"type":"RegularExpression","value":"/a?/b"}}]}]}"#,
    ),
    refused(
        VALUE_BY_TYPE,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"headers":[{"name":"x","type":"Present","value":"1"}]}]}]}"#,
        "spec.rules[0].matches[0].headers[0]",
    ),
    refused(
        VALUE_BY_TYPE,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"headers":[{"name":"x"}]}]}]}"#,
        "spec.rules[0].matches[0].headers[0]",
    ),
    refused(
        VALUE_BY_TYPE,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"queryParams":[{"name":"x","type":"Exact"}]}]}]}"#,
        "spec.rules[0].matches[0].queryParams[0]",
    ),
    accepted(
        VALUE_BY_TYPE,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","matches":[{"headers":[{"name":"x","type":"Present"},{"name":"y","value":"1"}],"queryParams":[{"name":"q","type":"RegularExpression","value":"1+"}]}]}]}"#,
    ),
    refused(
        TIMEOUT_RANGE,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","timeouts":{"request":"0s"}}]}"#,
        "spec.rules[0].timeouts.request",
    ),
    refused(
        TIMEOUT_RANGE,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","timeouts":{"request":"24h1ms"}}]}"#,
        "spec.rules[0].timeouts.request",
    ),
    accepted(
        TIMEOUT_RANGE,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p","timeouts":{"request":"24h"}},{"name":"b","pool":"p","matches":[{"path":{"value":"/b"}}],"timeouts":{"request":"1ms"}}]}"#,
    ),
    refused(
        BAKE_TIME_RANGE,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"http","port":80}]},"stages":[{"name":"all","fleetPercent":100,"bakeTime":"168h1s"}]}"#,
        "spec.stages[0].bakeTime",
    ),
    accepted(
        BAKE_TIME_RANGE,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"http","port":80}]},"stages":[{"name":"all","fleetPercent":100,"bakeTime":"0s"}]}"#,
    ),
    refused(
        LISTENER_PORTS_DIFFER,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80},{"name":"b","port":80}]}}"#,
        "spec.dataPlane.listeners",
    ),
    accepted(
        LISTENER_PORTS_DIFFER,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80},{"name":"b","port":81}]}}"#,
    ),
    refused(
        PRIOR_KNOWLEDGE_IN_THE_CLEAR,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":443,"tls":{},"http2":"PriorKnowledge"}]}}"#,
        "spec.dataPlane.listeners[0].http2",
    ),
    accepted(
        PRIOR_KNOWLEDGE_IN_THE_CLEAR,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":443,"tls":{},"http2":"Off"},{"name":"b","port":80,"http2":"PriorKnowledge"}]}}"#,
    ),
    refused(
        GATE_HAS_LIMIT,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80}]},"gates":[{"metric":"ErrorRate","minRequests":5}]}"#,
        "spec.gates[0]",
    ),
    accepted(
        GATE_HAS_LIMIT,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80}]},"gates":[{"metric":"ErrorRate","max":1}]}"#,
    ),
    refused(
        RATIO_FOR_LATENCY,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80}]},"gates":[{"metric":"NoRouteRate","maxRatio":"2"}]}"#,
        "spec.gates[0]",
    ),
    accepted(
        RATIO_FOR_LATENCY,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80}]},"gates":[{"metric":"LatencyP95","maxRatio":"1.5"}]}"#,
    ),
    refused(
        INCREASE_FOR_RATES,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80}]},"gates":[{"metric":"LatencyP95","maxIncrease":1}]}"#,
        "spec.gates[0]",
    ),
    accepted(
        INCREASE_FOR_RATES,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80}]},"gates":[{"metric":"NoRouteRate","maxIncrease":"0.5%"}]}"#,
    ),
    refused(
        VALUES_BY_OPERATOR,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80}]},"namespaces":{"matchExpressions":[{"key":"team","operator":"In"}]}}"#,
        "spec.namespaces.matchExpressions[0]",
    ),
    refused(
        VALUES_BY_OPERATOR,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80}]},"namespaces":{"matchExpressions":[{"key":"team","operator":"Exists","values":["a"]}]}}"#,
        "spec.namespaces.matchExpressions[0]",
    ),
    accepted(
        VALUES_BY_OPERATOR,
        "Rollout",
        r#"{"dataPlane":{"listeners":[{"name":"a","port":80}]},"namespaces":{"matchLabels":{"example.com/edge":""},"matchExpressions":[{"key":"team","operator":"NotIn","values":["a","b"]},{"key":"x","operator":"DoesNotExist"}]}}"#,
    ),
    refused(
        CERTIFICATES_DIFFER,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p"}],"tls":{"certificates":[{"secretName":"a"},{"secretName":"a"}]}}"#,
        "spec.tls.certificates",
    ),
    accepted(
        CERTIFICATES_DIFFER,
        "ProxyRoute",
        r#"{"rules":[{"name":"a","pool":"p"}],"tls":{"certificates":[{"secretName":"a"},{"secretName":"b"}]}}"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PoolSpec, ProxyRouteSpec, RolloutSpec};

    #[test]
    fn every_rule_has_a_case_on_each_side() {
        for rule in ALL {
            let of_rule = || CASES.iter().filter(|case| case.rule == *rule);
            assert!(
                of_rule().any(|case| case.refused_at.is_some()),
                "{} refuses nothing",
                rule.id
            );
            assert!(
                of_rule().any(|case| case.refused_at.is_none()),
                "{} accepts nothing",
                rule.id
            );
        }
    }

    #[test]
    fn every_case_is_a_readable_spec() {
        for case in CASES {
            let read = match case.kind {
                "Pool" => serde_json::from_str::<PoolSpec>(case.spec).map(drop),
                "ProxyRoute" => serde_json::from_str::<ProxyRouteSpec>(case.spec).map(drop),
                "Rollout" => serde_json::from_str::<RolloutSpec>(case.spec).map(drop),
                other => panic!("no kind {other}"),
            };
            read.unwrap_or_else(|error| panic!("{}: {error}: {}", case.rule.id, case.spec));
        }
    }
}
