//! Conversions of what each client may take of an instance.

use sluice_model::client_limits::{Bounded, ClientLimits};

use crate::canonical::{DecodeError, wrong};
use crate::pb;

/// `None` when all are as they are by default.
pub(crate) fn client_limits_to(limits: &ClientLimits) -> Option<pb::ClientLimits> {
    let ClientLimits {
        connections,
        connections_per_client,
        streams,
        header_bytes,
        header_field_bytes,
        header_fields,
        uri_bytes,
        body_bytes,
        header_millis,
        handshake_millis,
        min_bytes_per_second,
        response_millis,
        idle_millis,
        http2_idle_millis,
        tunnel_idle_millis,
    } = limits;
    (*limits != ClientLimits::default()).then(|| pb::ClientLimits {
        connections: connections.map(Bounded::get),
        connections_per_client: connections_per_client.map(Bounded::get),
        streams: written(*streams),
        header_bytes: written(*header_bytes),
        header_field_bytes: written(*header_field_bytes),
        header_fields: written(*header_fields),
        uri_bytes: written(*uri_bytes),
        body_bytes: body_bytes.map(Bounded::get),
        header_millis: written(*header_millis),
        handshake_millis: written(*handshake_millis),
        min_bytes_per_second: written(*min_bytes_per_second),
        response_millis: written(*response_millis),
        idle_millis: written(*idle_millis),
        http2_idle_millis: written(*http2_idle_millis),
        tunnel_idle_millis: written(*tunnel_idle_millis),
    })
}

pub(crate) fn client_limits_from(limits: pb::ClientLimits) -> Result<ClientLimits, DecodeError> {
    let pb::ClientLimits {
        connections,
        connections_per_client,
        streams,
        header_bytes,
        header_field_bytes,
        header_fields,
        uri_bytes,
        body_bytes,
        header_millis,
        handshake_millis,
        min_bytes_per_second,
        response_millis,
        idle_millis,
        http2_idle_millis,
        tunnel_idle_millis,
    } = limits;
    Ok(ClientLimits {
        connections: connections.map(|value| bounded("connections", value)).transpose()?,
        connections_per_client: connections_per_client
            .map(|value| bounded("connections_per_client", value))
            .transpose()?,
        streams: read("streams", streams)?,
        header_bytes: read("header_bytes", header_bytes)?,
        header_field_bytes: read("header_field_bytes", header_field_bytes)?,
        header_fields: read("header_fields", header_fields)?,
        uri_bytes: read("uri_bytes", uri_bytes)?,
        body_bytes: body_bytes.map(|value| bounded("body_bytes", value)).transpose()?,
        header_millis: read("header_millis", header_millis)?,
        handshake_millis: read("handshake_millis", handshake_millis)?,
        min_bytes_per_second: read("min_bytes_per_second", min_bytes_per_second)?,
        response_millis: read("response_millis", response_millis)?,
        idle_millis: read("idle_millis", idle_millis)?,
        http2_idle_millis: read("http2_idle_millis", http2_idle_millis)?,
        tunnel_idle_millis: read("tunnel_idle_millis", tunnel_idle_millis)?,
    })
}

/// The default is not written.
pub(crate) fn written<const USUAL: u64, const LEAST: u64, const MOST: u64>(
    value: Bounded<USUAL, LEAST, MOST>,
) -> Option<u64> {
    (value != Bounded::default()).then(|| value.get())
}

pub(crate) fn read<const USUAL: u64, const LEAST: u64, const MOST: u64>(
    field: &str,
    value: Option<u64>,
) -> Result<Bounded<USUAL, LEAST, MOST>, DecodeError> {
    value.map_or_else(|| Ok(Bounded::default()), |value| bounded(field, value))
}

pub(crate) fn bounded<const USUAL: u64, const LEAST: u64, const MOST: u64>(
    field: &str,
    value: u64,
) -> Result<Bounded<USUAL, LEAST, MOST>, DecodeError> {
    Bounded::new(value).ok_or_else(|| wrong(field, format!("{value} is not between {LEAST} and {MOST}")))
}
