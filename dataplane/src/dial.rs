//! How the controller is reached: TLS that believes its authorities and nobody else, whatever address it is at; and what
//! is said when that fails.

use std::time::Duration;

use sluice_model::limits::{CONTROLLER_CONNECT_WAIT_MS, CONTROLLER_KEEPALIVE_MS};
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as ClientIdentity};

/// The name in the controller's certificate, whatever its address: the cluster's own authority signs only for its own.
pub const CONTROLLER_NAME: &str = "sluice-controller";

const CONNECT_WAIT: Duration = Duration::from_millis(CONTROLLER_CONNECT_WAIT_MS);
const KEEPALIVE: Duration = Duration::from_millis(CONTROLLER_KEEPALIVE_MS);

/// Where the controller is, and the name in its certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Controller {
    /// `HOST:PORT`.
    pub address: String,
    /// `None`: as every controller's own authority writes it.
    pub name: Option<String>,
}

impl Controller {
    /// The same controller, or another replica of it, at another address.
    #[must_use]
    pub fn at(&self, address: String) -> Self {
        Self {
            address,
            name: self.name.clone(),
        }
    }

    /// Connects; `shown` is what to show of ourselves: certificate and key, as PEM.
    ///
    /// # Errors
    /// Says what failed, with its causes.
    pub(crate) async fn connect(&self, ca_pem: &str, shown: Option<(&str, &str)>) -> Result<Channel, String> {
        let endpoint = self.endpoint(ca_pem, shown).map_err(|error| with_causes(&error))?;
        timeout(CONNECT_WAIT, endpoint.connect())
            .await
            .map_err(|_| format!("no connection within {CONNECT_WAIT:?}"))?
            .map_err(|error| with_causes(&error))
    }

    fn endpoint(&self, ca_pem: &str, shown: Option<(&str, &str)>) -> Result<Endpoint, tonic::transport::Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca_pem))
            .domain_name(self.name.as_deref().unwrap_or(CONTROLLER_NAME));
        let tls = match shown {
            Some((certificate, key)) => tls.identity(ClientIdentity::from_pem(certificate, key)),
            None => tls,
        };
        Ok(Endpoint::from_shared(format!("https://{}", bare(&self.address)))?
            .tls_config(tls)?
            .connect_timeout(CONNECT_WAIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true))
    }
}

/// Without a scheme: it is always TLS.
fn bare(address: &str) -> &str {
    let address = address.trim_end_matches('/');
    address.strip_prefix("https://").unwrap_or(address)
}

/// Who ended a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndedBy {
    /// The controller: it refuses us for who we say we are.
    Refusal,
    /// The controller, for another reason.
    Controller,
    /// Nobody said anything: the connection broke. After TLS, of which our side ends first, that may be the controller's
    /// verdict about our certificate: its alert is lost as often as not.
    Connection,
}

impl EndedBy {
    #[allow(clippy::wildcard_enum_match_arm)] // a foreign enum; the rest is not about us
    pub(crate) fn of(status: &tonic::Status) -> Self {
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::Refusal,
            // What the other side said has no cause on this one.
            _ if std::error::Error::source(status).is_none() => Self::Controller,
            _ => Self::Connection,
        }
    }
}

/// What a status says, with its causes.
pub(crate) fn status_text(status: &tonic::Status) -> String {
    let cause = std::error::Error::source(status).map(|cause| format!(" ({})", with_causes(cause)));
    format!("{}: {}{}", status.code(), status.message(), cause.unwrap_or_default())
}

/// tonic says "transport error" and keeps the reason in its sources.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// A random number for jitter; without a source of randomness, no jitter is better than no attempt.
pub(crate) fn chance() -> u64 {
    getrandom::u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_about_us_is_told_from_other_ends() {
        let by = |status: tonic::Status| EndedBy::of(&status);
        assert_eq!(by(tonic::Status::permission_denied("no")), EndedBy::Refusal);
        assert_eq!(by(tonic::Status::unauthenticated("no")), EndedBy::Refusal);
        assert_eq!(by(tonic::Status::unavailable("later")), EndedBy::Controller);
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(by(tonic::Status::from_error(Box::new(broken))), EndedBy::Connection);
    }
}
