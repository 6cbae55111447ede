//! Requests that are answered by sending the client elsewhere, or that TLS is asked of.
//!
//! The URL is absolute and made of checked parts alone: a host that is one, the normal path, the query as it came. Nothing
//! of a request can end the line or lead to a host that neither the client nor the rule named.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri};
use sluice_model::target::{Asked, Redirect, Scheme, url};
use sluice_model::unit::PlainHttp;

use super::exchange::Exchange;
use super::failure::Failure;
use super::host::Host;
use crate::guard::rule::Rule;
use crate::live::{Https, RouteEntry};

/// Where a client is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Elsewhere {
    pub(super) status: StatusCode,
    pub(super) location: HeaderValue,
}

/// Where a rule that took `uri` by a match with this prefix sends the client.
pub(super) fn by_rule(
    exchange: &mut Exchange,
    redirect: &Redirect,
    prefix: &str,
    uri: &Uri,
) -> Result<Elsewhere, Failure> {
    let host = exchange.host.as_ref();
    if host.is_none() && redirect.host.is_none() {
        return Err(exchange.broke_rule(Rule::HostMissing)); // HTTP/1.0, and nowhere to go back to
    }
    let asked = Asked {
        scheme: exchange.connection.scheme(),
        host: host.map_or("", Host::name),
        port: host.and_then(Host::port),
        path: uri.path(),
        query: uri.query(),
    };
    let location = redirect.location(&asked, prefix).map_err(|_| Failure::RedirectLoop)?;
    let status = StatusCode::from_u16(redirect.status.code()).map_err(|_| Failure::Internal)?;
    elsewhere(exchange, status, location)
}

/// Where a request in the clear is sent if its route asks for TLS; `None`: it may stay.
pub(super) fn to_https(
    exchange: &mut Exchange,
    route: &RouteEntry,
    https: &Https,
    uri: &Uri,
) -> Result<Option<Elsewhere>, Failure> {
    match (route.plain_http, exchange.connection.scheme()) {
        (PlainHttp::Allow, _) | (_, Scheme::Https) => return Ok(None),
        (PlainHttp::Reject, Scheme::Http) => return Err(Failure::TlsRequired),
        (PlainHttp::Redirect, Scheme::Http) => {}
    }
    let Some(host) = &exchange.host else {
        return Err(exchange.broke_rule(Rule::HostMissing)); // HTTP/1.0, and nowhere to go back to
    };
    let port = https.port(host.port());
    let location = url(Scheme::Https, host.name(), port, uri.path(), uri.query());
    elsewhere(exchange, StatusCode::PERMANENT_REDIRECT, location).map(Some)
}

fn elsewhere(exchange: &mut Exchange, status: StatusCode, location: String) -> Result<Elsewhere, Failure> {
    // Host and path are ASCII by now; of the query that is seen here.
    if !location.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(exchange.broke_rule(Rule::TargetByte));
    }
    let location = HeaderValue::from_maybe_shared(Bytes::from(location)).map_err(|_| Failure::Internal)?;
    Ok(Elsewhere { status, location })
}
