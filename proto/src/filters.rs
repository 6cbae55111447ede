//! Conversions of what a rule does to requests and responses besides choosing a pool.

use std::num::NonZeroU16;
use std::sync::Arc;

use sluice_model::header_changes::{Field, FieldName, HeaderChanges};
use sluice_model::host::Host;
use sluice_model::target::{PathChange, Redirect, RedirectStatus, Rewrite, Scheme};
use sluice_model::unit::PlainHttp;

use crate::canonical::{DecodeError, each, required, wrong};
use crate::identity::text;
use crate::pb;

/// `None` when nothing changes: then nothing travels.
pub(crate) fn header_changes_to(changes: &HeaderChanges) -> Option<pb::HeaderChanges> {
    let HeaderChanges { set, add, remove } = changes;
    let field = |Field { name, value }: &Field| pb::HeaderField {
        name: name.to_string(),
        value: value.as_str().to_owned(),
    };
    (!changes.is_empty()).then(|| pb::HeaderChanges {
        set: set.iter().map(field).collect(),
        add: add.iter().map(field).collect(),
        remove: remove.iter().map(ToString::to_string).collect(),
    })
}

/// The changes in `field`; none when it is absent.
pub(crate) fn header_changes_in(
    field: &str,
    changes: Option<pb::HeaderChanges>,
) -> Result<Arc<HeaderChanges>, DecodeError> {
    let changes = changes.map(header_changes_from).transpose();
    let changes = changes.map_err(|error| error.within(field))?;
    Ok(Arc::new(changes.unwrap_or_default()))
}

fn header_changes_from(changes: pb::HeaderChanges) -> Result<HeaderChanges, DecodeError> {
    let pb::HeaderChanges { set, add, remove } = changes;
    let field = |pb::HeaderField { name, value }| Field::new(&name, &value).map_err(|error| wrong("field", error));
    Ok(HeaderChanges {
        set: each("set", set, field)?,
        add: each("add", add, field)?,
        remove: each("remove", remove, |name| {
            FieldName::new(&name).map_err(|error| wrong("name", error))
        })?,
    })
}

pub(crate) fn redirect_to(redirect: &Redirect) -> pb::Redirect {
    let Redirect {
        scheme,
        host,
        port,
        path,
        status,
    } = redirect;
    let scheme = scheme.map(|scheme| match scheme {
        Scheme::Http => pb::Scheme::Http,
        Scheme::Https => pb::Scheme::Https,
    });
    pb::Redirect {
        scheme: scheme.map(i32::from),
        host: host.as_ref().map(ToString::to_string),
        port: port.map(|port| u32::from(port.get())),
        path: path.as_ref().map(path_change_to),
        status: u32::from(status.code()),
    }
}

pub(crate) fn redirect_from(redirect: pb::Redirect) -> Result<Redirect, DecodeError> {
    let pb::Redirect {
        scheme,
        host,
        port,
        path,
        status,
    } = redirect;
    let port = port.map(|port| {
        let number = u16::try_from(port).ok().and_then(NonZeroU16::new);
        number.ok_or_else(|| wrong("port", format!("{port} is no port")))
    });
    let code = u16::try_from(status).ok().and_then(RedirectStatus::new);
    Ok(Redirect {
        scheme: scheme.map(scheme_from).transpose()?,
        host: host_in(host)?,
        port: port.transpose()?,
        path: path.map(path_change_from).transpose()?,
        status: code.ok_or_else(|| wrong("status", format!("{status} is no redirect")))?,
    })
}

fn scheme_from(scheme: i32) -> Result<Scheme, DecodeError> {
    match pb::Scheme::try_from(scheme) {
        Ok(pb::Scheme::Http) => Ok(Scheme::Http),
        Ok(pb::Scheme::Https) => Ok(Scheme::Https),
        Ok(pb::Scheme::Unspecified) | Err(_) => Err(wrong("scheme", format!("{scheme} is no scheme"))),
    }
}

fn host_in(host: Option<String>) -> Result<Option<Host>, DecodeError> {
    host.map(|host| text("host", &host)).transpose()
}

fn path_change_to(change: &PathChange) -> pb::PathChange {
    use pb::path_change::Path;
    let path = match change {
        PathChange::Full(text) => Path::Full(text.to_string()),
        PathChange::Prefix(text) if text.is_empty() => Path::Prefix("/".to_owned()),
        PathChange::Prefix(text) => Path::Prefix(text.to_string()),
    };
    pb::PathChange { path: Some(path) }
}

fn path_change_from(change: pb::PathChange) -> Result<PathChange, DecodeError> {
    use pb::path_change::Path;
    let pb::PathChange { path } = change;
    match required("path", path)? {
        Path::Full(text) => PathChange::full(&text).map_err(|error| wrong("full", error)),
        Path::Prefix(text) => PathChange::prefix(&text).map_err(|error| wrong("prefix", error)),
    }
}

/// `None` when nothing is rewritten: then nothing travels.
pub(crate) fn rewrite_to(rewrite: &Rewrite) -> Option<pb::Rewrite> {
    let Rewrite { host, path } = rewrite;
    (!rewrite.is_empty()).then(|| pb::Rewrite {
        host: host.as_ref().map(ToString::to_string),
        path: path.as_ref().map(path_change_to),
    })
}

/// The rewrite; of nothing when it is absent.
pub(crate) fn rewrite_in(rewrite: Option<pb::Rewrite>) -> Result<Arc<Rewrite>, DecodeError> {
    let Some(pb::Rewrite { host, path }) = rewrite else {
        return Ok(Arc::default());
    };
    let within = |error: DecodeError| error.within("rewrite");
    Ok(Arc::new(Rewrite {
        host: host_in(host).map_err(within)?,
        path: path.map(path_change_from).transpose().map_err(within)?,
    }))
}

/// `None` when nothing is asked for: then nothing travels.
pub(crate) fn plain_http_to(plain_http: PlainHttp) -> Option<pb::PlainHttp> {
    match plain_http {
        PlainHttp::Allow => None,
        PlainHttp::Redirect => Some(pb::PlainHttp::Redirect),
        PlainHttp::Reject => Some(pb::PlainHttp::Reject),
    }
}

pub(crate) fn plain_http_from(plain_http: Option<i32>) -> Result<PlainHttp, DecodeError> {
    let Some(number) = plain_http else {
        return Ok(PlainHttp::Allow);
    };
    match pb::PlainHttp::try_from(number) {
        Ok(pb::PlainHttp::Redirect) => Ok(PlainHttp::Redirect),
        Ok(pb::PlainHttp::Reject) => Ok(PlainHttp::Reject),
        Ok(pb::PlainHttp::Unspecified) | Err(_) => Err(wrong("plain_http", format!("{number} is no way"))),
    }
}
