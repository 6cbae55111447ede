//! What a rule does to requests and responses besides choosing a pool.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use sluice_crds::{
    ChangedName, HeaderChanges as ChangesSpec, HeaderField, PathChange as PathSpec, PathChangeType, RedirectScheme,
    RequestRedirect, UrlRewrite,
};
use sluice_model::header_changes::{Field, FieldName, FieldValue, HeaderChangeError, HeaderChanges};
use sluice_model::host::{Host, HostError};
use sluice_model::matching::RouteMatch;
use sluice_model::target::{PathChange, Redirect, RedirectStatus, Rewrite, Scheme};

use super::Findings;
use crate::problem::FieldPath;

/// The changes that are asked for; none if there is nothing.
pub(super) fn header_changes(
    field: &FieldPath,
    spec: Option<&ChangesSpec>,
    findings: &mut Findings<'_>,
) -> Arc<HeaderChanges> {
    let Some(ChangesSpec { set, add, remove }) = spec else {
        return Arc::default();
    };
    let mut seen = BTreeMap::new();
    let changes = HeaderChanges {
        set: fields(&field.field("set"), set, &mut seen, findings),
        add: fields(&field.field("add"), add, &mut seen, findings),
        remove: names(&field.field("remove"), remove, &mut seen, findings),
    };
    Arc::new(changes)
}

/// Where each name stands, with `-` for `_`.
type Seen = BTreeMap<String, FieldPath>;

fn fields(field: &FieldPath, specs: &[HeaderField], seen: &mut Seen, findings: &mut Findings<'_>) -> Vec<Field> {
    let mut fields = Vec::with_capacity(specs.len());
    for (index, HeaderField { name, value }) in specs.iter().enumerate() {
        let field = field.index(index);
        let name = name_of(&field.field("name"), name, seen, findings);
        let value = FieldValue::new(value);
        let value = findings.ok(
            &field.field("value"),
            value,
            "write one line of printable ASCII characters",
        );
        fields.extend(name.zip(value).map(|(name, value)| Field { name, value }));
    }
    fields
}

fn names(field: &FieldPath, specs: &[ChangedName], seen: &mut Seen, findings: &mut Findings<'_>) -> Vec<FieldName> {
    let numbered = specs.iter().enumerate();
    numbered
        .filter_map(|(index, name)| name_of(&field.index(index), name, seen, findings))
        .collect()
}

fn name_of(field: &FieldPath, spec: &ChangedName, seen: &mut Seen, findings: &mut Findings<'_>) -> Option<FieldName> {
    let name = FieldName::new(&spec.0);
    let fix = match &name {
        Err(HeaderChangeError::Owned(_)) => "leave it out",
        Ok(_) | Err(HeaderChangeError::Name(_) | HeaderChangeError::Value) => "use a name such as x-api-version",
    };
    let name = findings.ok(field, name, fix)?;
    // Neither the three lists nor the spellings of one name meet in the schema's uniqueness.
    match seen.get(&name.to_string().replace('_', "-")) {
        Some(first) => findings.error(
            field,
            format!("{name} is changed twice: also by {first}"),
            "remove one of the two; upper and lower case, '-' and '_' are the same header",
        ),
        None => drop(seen.insert(name.to_string().replace('_', "-"), field.clone())),
    }
    Some(name)
}

/// The redirect of a rule with these matches.
pub(super) fn redirect(
    field: &FieldPath,
    spec: &RequestRedirect,
    matches: &[RouteMatch],
    findings: &mut Findings<'_>,
) -> Option<Redirect> {
    let RequestRedirect {
        scheme,
        hostname,
        port,
        path,
        status_code,
    } = spec;
    let host = hostname
        .as_ref()
        .map(|text| new_host(&field.field("hostname"), text, findings));
    let path = path
        .as_ref()
        .map(|spec| path_change(&field.field("path"), spec, matches, findings));
    let number = port.map(|port| NonZeroU16::new(port).ok_or("0 is no port"));
    let port = number.map(|port| findings.ok(&field.field("port"), port, "use 1 to 65535"));
    let status = status_code.map(|code| RedirectStatus::new(code).ok_or_else(|| format!("{code} is no redirect")));
    let status = status.map(|status| {
        let fix = "use 301 or 308 (for good), 302, 303 or 307 (for now)";
        findings.ok(&field.field("statusCode"), status, fix)
    });
    let redirect = Redirect {
        scheme: scheme.map(|scheme| match scheme {
            RedirectScheme::Http => Scheme::Http,
            RedirectScheme::Https => Scheme::Https,
        }),
        host: given(host)?,
        port: given(port)?,
        path: given(path)?,
        status: given(status)?.unwrap_or_default(),
    };
    if redirect.is_empty() {
        findings.error(
            field,
            "the redirect says nothing, and so leads every request to itself",
            "add a scheme, hostname, port or path",
        );
        return None;
    }
    Some(redirect)
}

/// The rewrite of a rule with these matches; of nothing if none is asked for.
pub(super) fn rewrite(
    field: &FieldPath,
    spec: Option<&UrlRewrite>,
    matches: &[RouteMatch],
    findings: &mut Findings<'_>,
) -> Option<Arc<Rewrite>> {
    let Some(UrlRewrite { hostname, path }) = spec else {
        return Some(Arc::default());
    };
    if hostname.is_none() && path.is_none() {
        findings.error(
            field,
            "there is neither a hostname nor a path",
            "add one, or leave urlRewrite out",
        );
        return None;
    }
    let host = hostname
        .as_ref()
        .map(|text| new_host(&field.field("hostname"), text, findings));
    let path = path
        .as_ref()
        .map(|spec| path_change(&field.field("path"), spec, matches, findings));
    Some(Arc::new(Rewrite {
        host: given(host)?,
        path: given(path)?,
    }))
}

/// `None` if it is wrong, what it is if it is there.
pub(super) fn given<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
    }
}

pub(super) fn new_host(field: &FieldPath, text: &str, findings: &mut Findings<'_>) -> Option<Host> {
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let host = if numeric { Err(HostError::Address) } else { text.parse() };
    let host = host.map_err(|error| match error == HostError::Address {
        true => "an IP address is no host name".to_owned(),
        false => error.to_string(),
    });
    findings.ok(field, host, "write a host name such as www.example.com")
}

fn path_change(
    field: &FieldPath,
    spec: &PathSpec,
    matches: &[RouteMatch],
    findings: &mut Findings<'_>,
) -> Option<PathChange> {
    let PathSpec {
        type_,
        replace_full_path,
        replace_prefix_match,
    } = spec;
    let (name, change) = match (type_, replace_full_path, replace_prefix_match) {
        (PathChangeType::ReplaceFullPath, Some(text), None) => ("replaceFullPath", PathChange::full(text)),
        (PathChangeType::ReplacePrefixMatch, None, Some(text)) => ("replacePrefixMatch", PathChange::prefix(text)),
        (PathChangeType::ReplaceFullPath, _, _) => {
            let message = "type ReplaceFullPath goes with replaceFullPath and nothing else";
            findings.error(
                field,
                message,
                "write replaceFullPath, and leave replacePrefixMatch out",
            );
            return None;
        }
        (PathChangeType::ReplacePrefixMatch, _, _) => {
            let message = "type ReplacePrefixMatch goes with replacePrefixMatch and nothing else";
            findings.error(
                field,
                message,
                "write replacePrefixMatch, and leave replaceFullPath out",
            );
            return None;
        }
    };
    let change = findings.ok(
        &field.field(name),
        change,
        "write the path as it shall be, such as /v1/items",
    )?;
    if !change.fits(matches) {
        findings.error(
            field,
            "ReplacePrefixMatch replaces the prefix that matched, and not every match of this rule has one",
            "give every match a path of type PathPrefix, or use ReplaceFullPath",
        );
        return None;
    }
    Some(change)
}
