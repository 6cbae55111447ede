//! Conversions of hosts and matches.

use sluice_model::host::HostPattern;
use sluice_model::matching::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch, method};

use crate::canonical::{DecodeError, each, required, wrong};
use crate::identity::text;
use crate::pb;

pub(crate) fn host_to(host: &HostPattern) -> pb::HostPattern {
    use pb::host_pattern::Pattern;
    let pattern = match host {
        HostPattern::Exact(host) => Pattern::Exact(host.to_string()),
        HostPattern::Wildcard(suffix) => Pattern::Wildcard(suffix.to_string()),
        HostPattern::Regex(regex) => Pattern::Regex(regex.to_string()),
        HostPattern::Any => Pattern::Any(pb::AnyHost {}),
    };
    pb::HostPattern { pattern: Some(pattern) }
}

pub(crate) fn host_from(host: pb::HostPattern) -> Result<HostPattern, DecodeError> {
    use pb::host_pattern::Pattern;
    let pb::HostPattern { pattern } = host;
    Ok(match required("pattern", pattern)? {
        Pattern::Exact(host) => HostPattern::Exact(text("exact", &host)?),
        Pattern::Wildcard(suffix) => HostPattern::Wildcard(text("wildcard", &suffix)?),
        Pattern::Regex(regex) => HostPattern::regex(&regex).map_err(|error| wrong("regex", error))?,
        Pattern::Any(pb::AnyHost {}) => HostPattern::Any,
    })
}

fn path_to(path: &PathMatch) -> pb::PathMatch {
    use pb::path_match::Path;
    let path = match path {
        PathMatch::Exact(text) => Path::Exact(text.to_string()),
        PathMatch::Prefix(text) if text.is_empty() => Path::Prefix("/".to_owned()),
        PathMatch::Prefix(text) => Path::Prefix(text.to_string()),
        PathMatch::Regex(regex) => Path::Regex(regex.to_string()),
    };
    pb::PathMatch { path: Some(path) }
}

fn path_from(path: pb::PathMatch) -> Result<PathMatch, DecodeError> {
    use pb::path_match::Path;
    let pb::PathMatch { path } = path;
    match required("path", path)? {
        Path::Exact(text) => PathMatch::exact(&text).map_err(|error| wrong("exact", error)),
        Path::Prefix(text) => PathMatch::prefix(&text).map_err(|error| wrong("prefix", error)),
        Path::Regex(text) => PathMatch::regex(&text).map_err(|error| wrong("regex", error)),
    }
}

fn value_to(value: &ValueMatch) -> pb::ValueMatch {
    use pb::value_match::Value;
    let value = match value {
        ValueMatch::Exact(text) => Value::Exact(text.to_string()),
        ValueMatch::Regex(regex) => Value::Regex(regex.to_string()),
        ValueMatch::Present => Value::Present(pb::Present {}),
    };
    pb::ValueMatch { value: Some(value) }
}

fn value_from(value: Option<pb::ValueMatch>) -> Result<ValueMatch, DecodeError> {
    use pb::value_match::Value;
    let pb::ValueMatch { value } = required("value", value)?;
    match required("value", value)? {
        Value::Exact(text) => ValueMatch::exact(&text).map_err(|error| wrong("exact", error)),
        Value::Regex(text) => ValueMatch::regex(&text).map_err(|error| wrong("regex", error)),
        Value::Present(pb::Present {}) => Ok(ValueMatch::Present),
    }
}

fn header_to(header: &HeaderMatch) -> pb::HeaderMatch {
    let HeaderMatch { name, value } = header;
    pb::HeaderMatch {
        name: name.as_str().to_owned(),
        value: Some(value_to(value)),
    }
}

fn header_from(header: pb::HeaderMatch) -> Result<HeaderMatch, DecodeError> {
    let pb::HeaderMatch { name, value } = header;
    HeaderMatch::new(&name, value_from(value)?).map_err(|error| wrong("name", error))
}

fn query_to(query: &QueryMatch) -> pb::QueryMatch {
    let QueryMatch { name, value } = query;
    pb::QueryMatch {
        name: name.to_string(),
        value: Some(value_to(value)),
    }
}

fn query_from(query: pb::QueryMatch) -> Result<QueryMatch, DecodeError> {
    let pb::QueryMatch { name, value } = query;
    QueryMatch::new(&name, value_from(value)?).map_err(|error| wrong("name", error))
}

pub(crate) fn match_to(one: &RouteMatch) -> pb::RouteMatch {
    let RouteMatch {
        path,
        methods,
        headers,
        query,
    } = one;
    pb::RouteMatch {
        path: Some(path_to(path)),
        methods: methods.iter().map(ToString::to_string).collect(),
        headers: headers.iter().map(header_to).collect(),
        query: query.iter().map(query_to).collect(),
    }
}

pub(crate) fn match_from(one: pb::RouteMatch) -> Result<RouteMatch, DecodeError> {
    let pb::RouteMatch {
        path,
        methods,
        headers,
        query,
    } = one;
    Ok(RouteMatch {
        path: path_from(required("path", path)?).map_err(|error| error.within("path"))?,
        methods: each("methods", methods, |text| {
            method(&text).map_err(|error| wrong("method", error))
        })?,
        headers: each("headers", headers, header_from)?,
        query: each("query", query, query_from)?,
    })
}
