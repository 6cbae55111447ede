//! What the intake needs from the part that serves: build, prepare, swap. A few calls, so that the whole intake can be
//! tested without a socket, and the request path without a controller.
//!
//! The order is the point: `build` and `prepare` may fail and change nothing that serves; `swap` cannot fail. Values of the live
//! lane (`set`) are checked before and cannot fail either.

use std::sync::Arc;

use sluice_model::snapshot::Snapshot;
use sluice_model::unit::Listener;
use sluice_model::{CertificateRef, LiveSubject, ObjectKey, RevisionId, ServiceRef};
use sluice_proto::live::LiveEndpoint;
use sluice_proto::report::ServedRole;

use crate::tls::certificate::Certificate;
use crate::tls::clients::Authorities;

/// What one generation is built from.
#[derive(Debug)]
pub struct Blueprint<'a, B> {
    /// Its revision.
    pub revision: RevisionId,
    /// Whether it will serve as stable or as candidate.
    pub role: ServedRole,
    /// Its checked configuration.
    pub snapshot: Arc<Snapshot>,
    /// The routes to count separately.
    pub counted: &'a [ObjectKey],
    /// What it may take over from: unchanged parts, and learned state where the role allows it.
    pub previous: Option<&'a B>,
}

/// What is to serve from the swap on.
#[derive(Debug)]
pub struct NewLive<B> {
    /// Of the order that says so.
    pub epoch: u64,
    /// The proven revision.
    pub stable: Arc<B>,
    /// The revision on trial and its share of requests in millionths, if this instance is a member.
    pub candidate: Option<(Arc<B>, u32)>,
}

/// A value of the live lane, checked.
#[derive(Debug)]
pub enum NewValue {
    /// The endpoints of a service.
    Endpoints(ServiceRef, Arc<[LiveEndpoint]>),
    /// A certificate.
    Certificate(CertificateRef, Arc<Certificate>),
    /// Those who sign clients' certificates.
    Authorities(CertificateRef, Arc<Authorities>),
}

/// The part that serves.
pub trait Target: Send + 'static {
    /// A revision ready to serve.
    type Built: Send + Sync + 'static;
    /// Listeners that are bound but do not accept yet.
    type Ports;

    /// Builds a revision. The error is for people.
    fn build(&self, blueprint: Blueprint<'_, Self::Built>) -> Result<Arc<Self::Built>, String>;

    /// Binds what is not bound yet. The error is for people and names the address.
    fn prepare(&self, listeners: &[Listener]) -> Result<Self::Ports, String>;

    /// Makes `live` what every request from now on sees, starts accepting on `ports`, drains what is not among them.
    fn swap(&self, ports: Self::Ports, live: NewLive<Self::Built>);

    /// Uses a value from now on, in every revision that refers to it, now or later.
    fn set(&self, value: NewValue);

    /// Nothing refers to this any more.
    fn forget(&self, subject: &LiveSubject);
}
