//! ProxyRoute → its unit.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_crds::{
    CertificatePart as CertificatePartSpec, ClientAuth as ClientAuthSpec, ClientAuthMode as ClientAuthModeSpec,
    DurationText, HeaderMatch as HeaderSpec, PathMatch as PathSpec, PathMatchType, PlainHttp as PlainHttpSpec,
    ProxyRouteSpec, QueryParamMatch, RouteMatch as MatchSpec, RouteRule, RouteTimeouts, RouteTls, SecretReference,
    ValueMatchType,
};
use sluice_model::host::{HostError, HostPattern};
use sluice_model::matching::{HeaderMatch, MatchError, PathMatch, QueryMatch, RouteMatch, ValueMatch, method};
use sluice_model::unit::{
    Action, CertificatePart, ClientAuth, ClientAuthMode, Forward, PlainHttp, RouteUnit, Rule, RuleClientAuth,
    TimeoutMillis, Timeouts, Unit,
};
use sluice_model::upgrade::{UpgradeToken, UpgradeTokenError};
use sluice_model::{CertificateRef, Kind, ObjectKey};

use super::client_limits::body;
use super::filters::{self, header_changes};
use super::{Findings, Meaning, certificate, fleet, quantity};
use crate::objects::Object;
use crate::problem::FieldPath;

pub(super) fn translate(object: &Object, spec: &ProxyRouteSpec, findings: &mut Findings<'_>) -> Option<Meaning> {
    let ProxyRouteSpec {
        fleet: fleet_name,
        hostnames,
        hostname_regex,
        rules,
        tls,
    } = spec;
    let field = FieldPath::root("spec");
    let mut hosts = names(&field.field("hostnames"), hostnames, findings);
    hosts.extend(regexes(&field.field("hostnameRegex"), hostname_regex, findings));
    if hostnames.is_empty() && hostname_regex.is_empty() {
        hosts.push(HostPattern::Any);
    }
    let numbered = rules.iter().enumerate();
    let rules: Vec<Rule> = numbered
        .filter_map(|(index, one)| rule(object, &field.field("rules").index(index), one, findings))
        .collect();
    check_rules_ask(&field.field("rules"), spec, findings);
    let client_auth = tls.as_ref().and_then(|spec| spec.client_auth.as_ref());
    let client_auth = client_auth.map(|spec| client_auth_of(&field.field("tls").field("clientAuth"), spec, findings));
    let tls = tls.as_ref().map(|spec| tls_of(&field.field("tls"), spec, findings));
    let (certificates, plain_http) = tls.unwrap_or_default();
    let fleet = fleet(fleet_name, findings)?;
    let unit = RouteUnit {
        created_at_seconds: object.created_at_seconds,
        hosts,
        rules,
        certificates,
        // One that cannot be read must not become one that was not asked for.
        client_auth: match client_auth {
            None => None,
            Some(auth) => Some(auth?),
        },
        plain_http,
    };
    Some(Meaning::Route {
        fleet,
        unit: Arc::new(Unit::Route(unit)),
    })
}

fn tls_of(field: &FieldPath, spec: &RouteTls, findings: &mut Findings<'_>) -> (Vec<CertificateRef>, PlainHttp) {
    let RouteTls {
        certificates: written,
        plain_http,
        client_auth,
    } = spec;
    if written.is_empty() && plain_http.is_none() && client_auth.is_none() {
        let fix = "add one, or leave tls out";
        findings.error(
            field,
            "there are neither certificates nor plainHttp nor clientAuth",
            fix,
        );
    }
    let plain_http = match plain_http {
        None | Some(PlainHttpSpec::Allow) => PlainHttp::Allow,
        Some(PlainHttpSpec::Redirect) => PlainHttp::Redirect,
        Some(PlainHttpSpec::Reject) => PlainHttp::Reject,
    };
    (
        certificates(&field.field("certificates"), written, findings),
        plain_http,
    )
}

fn certificates(
    field: &FieldPath,
    certificates: &[SecretReference],
    findings: &mut Findings<'_>,
) -> Vec<CertificateRef> {
    let mut found: Vec<CertificateRef> = Vec::with_capacity(certificates.len());
    for (index, one) in certificates.iter().enumerate() {
        let Some(certificate) = certificate(&field.index(index), one, findings) else {
            continue;
        };
        // With and without this namespace, one certificate has two spellings.
        match found.iter().position(|other| *other == certificate) {
            Some(first) => findings.error(
                &field.index(index),
                format!("the same certificate as {}", field.index(first)),
                "remove one of the two",
            ),
            None => found.push(certificate),
        }
    }
    found
}

fn client_auth_of(field: &FieldPath, spec: &ClientAuthSpec, findings: &mut Findings<'_>) -> Option<ClientAuth> {
    let ClientAuthSpec { ca, mode, forward } = spec;
    let part = |part: &CertificatePartSpec| match part {
        CertificatePartSpec::Hash => CertificatePart::Hash,
        CertificatePartSpec::Subject => CertificatePart::Subject,
        CertificatePartSpec::Uri => CertificatePart::Uri,
        CertificatePartSpec::Dns => CertificatePart::Dns,
    };
    Some(ClientAuth {
        ca: certificate(&field.field("ca"), ca, findings)?,
        mode: match mode {
            ClientAuthModeSpec::Required => ClientAuthMode::Required,
            ClientAuthModeSpec::Optional => ClientAuthMode::Optional,
        },
        forwarded: forward.iter().map(part).collect(),
    })
}

fn names(field: &FieldPath, hostnames: &[String], findings: &mut Findings<'_>) -> Vec<HostPattern> {
    let mut hosts = Vec::with_capacity(hostnames.len());
    for (index, text) in hostnames.iter().enumerate() {
        // "10.0.0.256" is no address, and no name that DNS would serve either.
        let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let host = if numeric {
            Err(HostError::Address)
        } else {
            HostPattern::hostname(text)
        };
        hosts.extend(findings.ok(&field.index(index), host, "write a host name such as shop.example.com"));
    }
    hosts
}

fn regexes(field: &FieldPath, texts: &[String], findings: &mut Findings<'_>) -> Vec<HostPattern> {
    let numbered = texts.iter().enumerate();
    numbered
        .filter_map(|(index, text)| findings.ok(&field.index(index), HostPattern::regex(text), REGEX_FIX))
        .collect()
}

const REGEX_FIX: &str = "correct the regular expression; it must match the whole value";

fn rule(object: &Object, field: &FieldPath, spec: &RouteRule, findings: &mut Findings<'_>) -> Option<Rule> {
    let RouteRule {
        name,
        matches: written,
        pool: _,
        request_redirect: _,
        timeouts: _,
        max_request_body: _,
        upgrades: _,
        url_rewrite: _,
        request_headers: _,
        response_headers,
        require_client_certificate,
    } = spec;
    let numbered = written.iter().enumerate();
    let mut matches: Vec<RouteMatch> = numbered
        .filter_map(|(index, one)| route_match(&field.field("matches").index(index), one, findings))
        .collect();
    if written.is_empty() {
        matches.push(RouteMatch::default());
    }
    let response_headers = header_changes(&field.field("responseHeaders"), response_headers.as_ref(), findings);
    let action = action(object, field, spec, &matches, findings)?;
    Some(Rule {
        name: Some(name.as_str().into()),
        matches,
        action,
        response_headers,
        client_auth: match require_client_certificate {
            Some(true) => RuleClientAuth::Required,
            Some(false) | None => RuleClientAuth::AsRoute,
        },
    })
}

/// A rule cannot insist on what the route does not ask for.
fn check_rules_ask(field: &FieldPath, spec: &ProxyRouteSpec, findings: &mut Findings<'_>) {
    if spec.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some()) {
        return;
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        if rule.require_client_certificate == Some(true) {
            findings.error(
                &field.index(index).field("requireClientCertificate"),
                "nobody says who signs clients' certificates",
                "add tls.clientAuth to the route, with mode Optional if other rules do without",
            );
        }
    }
}

/// What becomes of the requests of a rule with these matches.
fn action(
    object: &Object,
    field: &FieldPath,
    spec: &RouteRule,
    matches: &[RouteMatch],
    findings: &mut Findings<'_>,
) -> Option<Action> {
    match (&spec.pool, &spec.request_redirect) {
        (Some(pool), None) => {
            let pool = pool_of(object, &field.field("pool"), pool, findings);
            forward(pool?, field, spec, matches, findings).map(Action::Forward)
        }
        (None, Some(redirect)) => {
            let field = field.field("requestRedirect");
            let of_pool = spec.timeouts.is_some() || spec.request_headers.is_some() || spec.url_rewrite.is_some();
            if of_pool || spec.max_request_body.is_some() || !spec.upgrades.is_empty() {
                findings.error(
                    &field,
                    "maxRequestBody, requestHeaders, timeouts, upgrades and urlRewrite are for requests that go to a pool",
                    "leave them out beside a requestRedirect",
                );
            }
            let redirect = filters::redirect(&field, redirect, matches, findings)?;
            Some(Action::Redirect(Arc::new(redirect)))
        }
        (None, None) => {
            findings.error(
                field,
                "there is neither a pool nor a requestRedirect",
                "add one of the two",
            );
            None
        }
        (Some(_), Some(_)) => {
            findings.error(field, "there are a pool and a requestRedirect", "remove one of the two");
            None
        }
    }
}

fn pool_of(object: &Object, field: &FieldPath, text: &str, findings: &mut Findings<'_>) -> Option<ObjectKey> {
    let name = findings.ok(field, text.parse(), "use the name of a Pool in this namespace")?;
    Some(ObjectKey::new(Kind::Pool, object.key.namespace.clone(), name))
}

fn forward(
    pool: ObjectKey,
    field: &FieldPath,
    spec: &RouteRule,
    matches: &[RouteMatch],
    findings: &mut Findings<'_>,
) -> Option<Forward> {
    let timeouts = spec.timeouts.as_ref();
    let timeouts = timeouts.map(|spec| timeouts_of(&field.field("timeouts"), spec, findings));
    let max_body = body(&field.field("maxRequestBody"), spec.max_request_body.as_ref(), findings);
    let headers = field.field("requestHeaders");
    let request_headers = header_changes(&headers, spec.request_headers.as_ref(), findings);
    let rewrite = filters::rewrite(&field.field("urlRewrite"), spec.url_rewrite.as_ref(), matches, findings);
    Some(Forward {
        pool,
        timeouts: Arc::new(timeouts.unwrap_or_default()),
        max_body,
        upgrades: upgrades_of(&field.field("upgrades"), &spec.upgrades, findings),
        request_headers,
        rewrite: rewrite?,
    })
}

fn upgrades_of(field: &FieldPath, names: &[String], findings: &mut Findings<'_>) -> Arc<[UpgradeToken]> {
    let numbered = names.iter().enumerate();
    numbered
        .filter_map(|(index, text)| match UpgradeToken::new(text) {
            // Said of the whole list, as CEL does.
            Err(never @ UpgradeTokenError::Never(_)) => findings.ok(field, Err(never), "leave it out"),
            token => findings.ok(&field.index(index), token, "write it as websocket"),
        })
        .collect()
}

fn timeouts_of(field: &FieldPath, spec: &RouteTimeouts, findings: &mut Findings<'_>) -> Timeouts {
    let RouteTimeouts { request, per_try, idle } = spec;
    let mut time = |name: &str, text: &Option<DurationText>| {
        let (field, text) = (field.field(name), text.as_ref()?);
        let millis = findings.ok(&field, quantity::millis(&text.0), "write it as 500ms, 5s or 1h30m")?;
        let timeout = TimeoutMillis::new(millis).ok_or_else(|| format!("{text} is out of range"));
        findings.ok(&field, timeout, "use 1ms to 24h; leave it out for no limit")
    };
    Timeouts {
        request: time("request", request),
        per_try: time("perTry", per_try),
        idle: time("idle", idle),
    }
}

fn route_match(field: &FieldPath, spec: &MatchSpec, findings: &mut Findings<'_>) -> Option<RouteMatch> {
    let MatchSpec {
        path,
        methods,
        headers,
        query_params,
    } = spec;
    let path = match path {
        Some(spec) => path_match(&field.field("path"), spec, findings),
        None => Some(RouteMatch::default().path),
    };
    let numbered = methods.iter().enumerate();
    let methods = numbered
        .filter_map(|(index, text)| {
            findings.ok(
                &field.field("methods").index(index),
                method(text),
                "write it in upper case, such as GET",
            )
        })
        .collect();
    let headers = header_matches(&field.field("headers"), headers, findings);
    let query = query_matches(&field.field("queryParams"), query_params, findings);
    Some(RouteMatch {
        path: path?,
        methods,
        headers,
        query,
    })
}

fn path_match(field: &FieldPath, spec: &PathSpec, findings: &mut Findings<'_>) -> Option<PathMatch> {
    let PathSpec { type_, value } = spec;
    let (path, fix) = match type_.unwrap_or(PathMatchType::PathPrefix) {
        PathMatchType::Exact => (PathMatch::exact(value), PATH_FIX),
        PathMatchType::PathPrefix => (PathMatch::prefix(value), PATH_FIX),
        PathMatchType::RegularExpression => (PathMatch::regex(value), REGEX_FIX),
    };
    let fix = match &path {
        Err(MatchError::NoSlash) => format!("write \"/{value}\""),
        Err(MatchError::NeverMatches(_)) if value.contains('?') => {
            "leave the query out of the path, and match it with queryParams".to_owned()
        }
        Ok(_) | Err(_) => fix.to_owned(),
    };
    findings.ok(&field.field("value"), path, &fix)
}

const PATH_FIX: &str = "write the path as it is after normalisation, such as /v1/items";

fn header_matches(field: &FieldPath, specs: &[HeaderSpec], findings: &mut Findings<'_>) -> Vec<HeaderMatch> {
    let mut seen = BTreeSet::new();
    let mut headers = Vec::with_capacity(specs.len());
    for (index, HeaderSpec { name, type_, value }) in specs.iter().enumerate() {
        let field = field.index(index);
        let Some(value) = value_match(&field, *type_, value.as_deref(), findings) else {
            continue;
        };
        let header = HeaderMatch::new(name, value);
        let Some(header) = findings.ok(&field.field("name"), header, "use a name such as x-api-version") else {
            continue;
        };
        // The schema compares names as written; headers do not care for case.
        if !seen.insert(header.name.as_str().to_owned()) {
            let what = format!("the header {} is matched twice", header.name);
            findings.error(
                &field.field("name"),
                what,
                "remove one of the two; upper and lower case are the same header",
            );
        }
        headers.push(header);
    }
    headers
}

fn query_matches(field: &FieldPath, specs: &[QueryParamMatch], findings: &mut Findings<'_>) -> Vec<QueryMatch> {
    let mut params = Vec::with_capacity(specs.len());
    for (index, QueryParamMatch { name, type_, value }) in specs.iter().enumerate() {
        let field = field.index(index);
        let Some(value) = value_match(&field, *type_, value.as_deref(), findings) else {
            continue;
        };
        params.extend(findings.ok(
            &field.field("name"),
            QueryMatch::new(name, value),
            "give the parameter a name",
        ));
    }
    params
}

fn value_match(
    field: &FieldPath,
    type_: Option<ValueMatchType>,
    value: Option<&str>,
    findings: &mut Findings<'_>,
) -> Option<ValueMatch> {
    let field = field.field("value");
    match (type_.unwrap_or(ValueMatchType::Exact), value) {
        (ValueMatchType::Exact, Some(value)) => findings.ok(&field, ValueMatch::exact(value), "use a shorter value"),
        (ValueMatchType::RegularExpression, Some(value)) => findings.ok(&field, ValueMatch::regex(value), REGEX_FIX),
        (ValueMatchType::Present, None) => Some(ValueMatch::Present),
        (ValueMatchType::Present, Some(_)) => {
            findings.error(
                &field,
                "type Present compares no value",
                "leave the value out, or use type Exact",
            );
            None
        }
        (ValueMatchType::Exact | ValueMatchType::RegularExpression, None) => {
            findings.error(
                &field,
                "there is no value to compare with",
                "add one, or use type: Present",
            );
            None
        }
    }
}
