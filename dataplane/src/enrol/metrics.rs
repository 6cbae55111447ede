//! What an instance tells about its identity: until when it is good, and how asking for another went.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use x509_parser::parse_x509_certificate;
use x509_parser::pem::parse_x509_pem;

use super::EnrolError;
use crate::identity::Identity;

/// The results of an enrolment, as they are counted.
const RESULTS: [&str; 5] = ["certified", "not_ready", "unreachable", "refused", "useless"];

/// See the file's comment. Clones share their values.
#[derive(Clone, Debug)]
pub struct IdentityMetrics {
    ends: IntGauge,
    enrolments: IntCounterVec,
}

impl IdentityMetrics {
    /// Made and registered with `registry`.
    ///
    /// # Errors
    /// Only if a name is registered twice, which is a bug.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            ends: IntGauge::new(
                "proxy_identity_not_after_seconds",
                "When the certificate of this instance ends, in seconds since 1970; 0: it has none.",
            )?,
            enrolments: IntCounterVec::new(
                Opts::new(
                    "proxy_enrolments_total",
                    "Attempts to get a certificate, by what came of them.",
                ),
                &["result"],
            )?,
        };
        registry.register(Box::new(metrics.ends.clone()))?;
        registry.register(Box::new(metrics.enrolments.clone()))?;
        for result in RESULTS {
            metrics.enrolments.with_label_values(&[result]); // a counter that is 0 is seen before it is needed
        }
        Ok(metrics)
    }

    /// This is the identity now.
    pub(crate) fn show(&self, identity: &Identity) {
        self.ends.set(ends(&identity.tls.cert_pem).unwrap_or(0));
    }

    /// Counts an attempt.
    pub(crate) fn tried<T>(&self, result: &Result<T, EnrolError>) {
        let result = match result {
            Ok(_) => "certified",
            Err(EnrolError::NotReady(_)) => "not_ready",
            Err(EnrolError::Unreachable(_)) => "unreachable",
            Err(EnrolError::Refused(_)) => "refused",
            Err(EnrolError::Useless(_)) => "useless",
        };
        self.enrolments.with_label_values(&[result]).inc();
    }
}

/// When a certificate ends, in seconds of Unix time; `None` if it cannot be read.
pub(crate) fn ends(pem: &str) -> Option<i64> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let (_, certificate) = parse_x509_certificate(&pem.contents).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
