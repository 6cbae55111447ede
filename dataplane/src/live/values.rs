//! What generations only refer to: the endpoints of services and certificates, as they are now. They belong to no revision
//! and survive swaps; stable and candidate share them. Only configuration delivery writes here.

use std::sync::Arc;

use crate::pool::services::Services;
use crate::pool::transport::Transports;
use crate::telemetry::names::Names;
use crate::tls::held::{Certificates, HeldAuthorities};

/// The values of the live lane.
#[derive(Debug)]
pub struct LiveValues {
    /// The endpoints of services.
    pub services: Services,
    /// Certificates with their keys.
    pub certificates: Certificates,
    /// Those who sign clients' and endpoints' certificates.
    pub authorities: HeldAuthorities,
    /// How pools are spoken to.
    pub transports: Transports,
}

impl LiveValues {
    /// None yet; endpoints are counted under `names`.
    pub fn new(names: Arc<Names>) -> Self {
        Self {
            services: Services::new(names),
            certificates: Certificates::default(),
            authorities: HeldAuthorities::default(),
            transports: Transports::default(),
        }
    }
}
