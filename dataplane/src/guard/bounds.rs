//! What the requests of one connection are held to: the operator's limits in the form in which bytes are compared with them.

use std::time::Duration;

use sluice_model::client_limits::ClientLimits;

/// The bounds of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    /// Of a head, all lines together.
    pub(crate) head_bytes: usize,
    /// Of one field, name and value.
    pub(crate) field_bytes: usize,
    /// Of the fields of a head.
    pub(crate) fields: usize,
    /// Of a target.
    pub(crate) target_bytes: usize,
    /// The least rate of a client.
    pub(super) bytes_per_second: u64,
    /// How long a client may take nothing of a response.
    pub(super) response: Duration,
}

impl Bounds {
    /// As the operator has it.
    pub(crate) fn of(limits: &ClientLimits) -> Self {
        Self {
            head_bytes: limits.header_bytes.count(),
            field_bytes: limits.header_field_bytes.count(),
            fields: limits.header_fields.count(),
            target_bytes: limits.uri_bytes.count(),
            bytes_per_second: limits.min_bytes_per_second.get(),
            response: Duration::from_millis(limits.response_millis.get()),
        }
    }
}

/// As it is unless an operator says otherwise.
impl Default for Bounds {
    fn default() -> Self {
        Self::of(&ClientLimits::default())
    }
}
