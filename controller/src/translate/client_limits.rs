//! `Rollout.spec.dataPlane.limits` → what each client may take. One that is out of its bounds is a Problem, which holds the
//! Rollout back; what stands in its place here is never served.

use sluice_crds::{ClientLimits as ClientLimitsSpec, DurationText, Size};
use sluice_model::client_limits::{BodyBytes, Bounded, ClientLimits};

use super::{Findings, quantity};
use crate::problem::FieldPath;

pub(super) fn client_limits(path: &FieldPath, spec: &ClientLimitsSpec, findings: &mut Findings<'_>) -> ClientLimits {
    let ClientLimitsSpec {
        max_connections,
        max_connections_per_client,
        max_streams_per_connection,
        max_header_bytes,
        max_header_field_bytes,
        max_headers,
        max_uri_bytes,
        max_request_body,
        header_timeout,
        handshake_timeout,
        min_bytes_per_second,
        response_timeout,
        idle_timeout,
        http2_idle_timeout,
        tunnel_idle_timeout,
    } = spec;
    let field = |name: &str| path.field(name);
    ClientLimits {
        connections: number(&field("maxConnections"), max_connections.as_ref(), findings),
        connections_per_client: number(
            &field("maxConnectionsPerClient"),
            max_connections_per_client.as_ref(),
            findings,
        ),
        streams: number(
            &field("maxStreamsPerConnection"),
            max_streams_per_connection.as_ref(),
            findings,
        )
        .unwrap_or_default(),
        header_bytes: size(&field("maxHeaderBytes"), max_header_bytes.as_ref(), findings).unwrap_or_default(),
        header_field_bytes: size(&field("maxHeaderFieldBytes"), max_header_field_bytes.as_ref(), findings)
            .unwrap_or_default(),
        header_fields: number(&field("maxHeaders"), max_headers.as_ref(), findings).unwrap_or_default(),
        uri_bytes: size(&field("maxUriBytes"), max_uri_bytes.as_ref(), findings).unwrap_or_default(),
        body_bytes: body(&field("maxRequestBody"), max_request_body.as_ref(), findings),
        header_millis: time(&field("headerTimeout"), header_timeout.as_ref(), findings).unwrap_or_default(),
        handshake_millis: time(&field("handshakeTimeout"), handshake_timeout.as_ref(), findings).unwrap_or_default(),
        min_bytes_per_second: number(&field("minBytesPerSecond"), min_bytes_per_second.as_ref(), findings)
            .unwrap_or_default(),
        response_millis: time(&field("responseTimeout"), response_timeout.as_ref(), findings).unwrap_or_default(),
        idle_millis: time(&field("idleTimeout"), idle_timeout.as_ref(), findings).unwrap_or_default(),
        http2_idle_millis: time(&field("http2IdleTimeout"), http2_idle_timeout.as_ref(), findings).unwrap_or_default(),
        tunnel_idle_millis: time(&field("tunnelIdleTimeout"), tunnel_idle_timeout.as_ref(), findings)
            .unwrap_or_default(),
    }
}

pub(super) fn number<const USUAL: u64, const LEAST: u64, const MOST: u64>(
    field: &FieldPath,
    spec: Option<&u32>,
    findings: &mut Findings<'_>,
) -> Option<Bounded<USUAL, LEAST, MOST>> {
    let value = u64::from(*spec?);
    within(field, value, &format!("between {LEAST} and {MOST}"), findings)
}

/// How large a request's body may be.
pub(super) fn body(field: &FieldPath, spec: Option<&Size>, findings: &mut Findings<'_>) -> Option<BodyBytes> {
    let Size(text) = spec?;
    let bytes = findings.ok(
        field,
        quantity::bytes(text),
        "write it as 10Mi, 512Ki or 65536; a number above 2147483647 in quotes",
    )?;
    let bounds = format!("between 1 and {}Mi", BodyBytes::MOST >> 20);
    within(field, bytes, &bounds, findings)
}

fn size<const USUAL: u64, const LEAST: u64, const MOST: u64>(
    field: &FieldPath,
    spec: Option<&Size>,
    findings: &mut Findings<'_>,
) -> Option<Bounded<USUAL, LEAST, MOST>> {
    let Size(text) = spec?;
    let bytes = findings.ok(field, quantity::bytes(text), "write it as 32Ki, 1Mi or 32768")?;
    within(
        field,
        bytes,
        &format!("between {}Ki and {}Ki", LEAST >> 10, MOST >> 10),
        findings,
    )
}

pub(super) fn time<const USUAL: u64, const LEAST: u64, const MOST: u64>(
    field: &FieldPath,
    spec: Option<&DurationText>,
    findings: &mut Findings<'_>,
) -> Option<Bounded<USUAL, LEAST, MOST>> {
    let DurationText(text) = spec?;
    let millis = findings.ok(field, quantity::millis(text), "write it as 500ms, 5s or 1m30s")?;
    within(
        field,
        millis,
        &format!("between {} and {}", shown(LEAST), shown(MOST)),
        findings,
    )
}

/// A time as people write it.
fn shown(millis: u64) -> String {
    match millis % 1000 {
        0 => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

fn within<const USUAL: u64, const LEAST: u64, const MOST: u64>(
    field: &FieldPath,
    value: u64,
    bounds: &str,
    findings: &mut Findings<'_>,
) -> Option<Bounded<USUAL, LEAST, MOST>> {
    let within = Bounded::new(value);
    if within.is_none() {
        findings.error(field, "is out of its bounds", format!("give it a value {bounds}"));
    }
    within
}
