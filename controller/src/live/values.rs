//! What a source says about services and certificates, and what it is asked about.
//!
//! A source publishes [`Values`] for what is [`Wanted`]. It says `Unknown` of what it has not seen yet: then whatever
//! was sent before stays, and nothing new is signed for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use sluice_model::{CertificateRef, LiveSubject, ServiceRef};
use sluice_proto::LiveEndpoint;
use tokio::sync::watch;

use super::Material;

/// What is wrong, and how to mend it; for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Lack {
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub fix: String,
}

impl Lack {
    /// This.
    pub fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: fix.into(),
        }
    }
}

/// What a source knows at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Values {
    /// Of services. One that is not here is unknown.
    pub services: BTreeMap<ServiceRef, ServiceState>,
    /// Of certificates. One that is not here is unknown.
    pub certificates: BTreeMap<CertificateRef, CertificateState>,
    /// Of those who sign clients' and endpoints' certificates, by Secret. One that is not here is unknown.
    pub authorities: BTreeMap<CertificateRef, AuthoritiesState>,
}

/// What a source knows of one port of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServiceState {
    /// It was not seen yet.
    Unknown,
    /// It cannot be seen, for this reason. As with `Unknown`, whatever was sent before stays; but nobody waits for it.
    Unseen(Lack),
    /// There is no such Service, or no such port.
    Missing(Lack),
    /// There is, but of a kind that has no endpoints.
    Unusable(Lack),
    /// Its endpoints, in ascending order of address, none twice. None: nobody is there.
    Endpoints(Arc<[LiveEndpoint]>),
}

/// A [`ServiceState`] without what moves in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It was not seen yet.
    NotYetSeen,
    /// It cannot be seen.
    Unseen,
    /// There is no such Service, or no such port.
    Missing,
    /// There is, but of a kind that has no endpoints.
    Unusable,
    /// It is there.
    Present,
}

impl ServiceState {
    /// Whether it is there.
    pub fn presence(&self) -> Presence {
        match self {
            Self::Unknown => Presence::NotYetSeen,
            Self::Unseen(_) => Presence::Unseen,
            Self::Missing(_) => Presence::Missing,
            Self::Unusable(_) => Presence::Unusable,
            Self::Endpoints(_) => Presence::Present,
        }
    }
}

/// What a source knows of one certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CertificateState {
    /// It was not seen yet.
    Unknown,
    /// It cannot be seen, for this reason. As with `Unknown`, whatever was sent before stays; but nobody waits for it.
    Unseen(Lack),
    /// There is no such Secret.
    Missing(Lack),
    /// There is, but it cannot serve.
    Refused(Lack),
    /// It may serve, if its time is right.
    Material(Arc<Material>),
}

/// What a source knows of those who sign clients' certificates, in one Secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthoritiesState {
    /// It was not seen yet.
    Unknown,
    /// It cannot be seen, for this reason. As with `Unknown`, whatever was sent before stays; but nobody waits for it.
    Unseen(Lack),
    /// There is no such Secret.
    Missing(Lack),
    /// There is, but nobody can be trusted by it.
    Refused(Lack),
    /// Their certificates (DER), at least one.
    Certificates(Arc<[Bytes]>),
}

/// What one Secret is, for either use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretStates {
    /// As a certificate that is shown.
    pub certificate: CertificateState,
    /// As those who sign clients' certificates.
    pub authorities: AuthoritiesState,
}

/// What a source is asked about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Ports of Services.
    pub services: BTreeSet<ServiceRef>,
    /// Certificates.
    pub certificates: BTreeSet<CertificateRef>,
    /// Secrets with those who sign clients' and endpoints' certificates.
    pub authorities: BTreeSet<CertificateRef>,
}

/// The way between a source and whoever uses its values.
#[derive(Debug)]
pub struct Feed {
    /// What the source knows.
    pub values: watch::Receiver<Arc<Values>>,
    /// What it is asked about.
    pub wanted: watch::Sender<Arc<Wanted>>,
}

impl Values {
    /// What is known of a service.
    pub fn service(&self, service: &ServiceRef) -> &ServiceState {
        self.services.get(service).unwrap_or(&ServiceState::Unknown)
    }

    /// What is known of a certificate.
    pub fn certificate(&self, certificate: &CertificateRef) -> &CertificateState {
        self.certificates.get(certificate).unwrap_or(&CertificateState::Unknown)
    }

    /// What is known of those who sign clients' certificates.
    pub fn authorities(&self, secret: &CertificateRef) -> &AuthoritiesState {
        self.authorities.get(secret).unwrap_or(&AuthoritiesState::Unknown)
    }
}

impl Values {
    /// Of each service whether it is there.
    pub fn presence(&self) -> BTreeMap<ServiceRef, Presence> {
        let services = self.services.iter();
        services
            .map(|(service, state)| (service.clone(), state.presence()))
            .collect()
    }
}

impl Wanted {
    /// Every Secret, for whatever use.
    pub fn secrets(&self) -> impl Iterator<Item = &CertificateRef> {
        self.certificates.iter().chain(&self.authorities)
    }
}

impl FromIterator<LiveSubject> for Wanted {
    fn from_iter<I: IntoIterator<Item = LiveSubject>>(subjects: I) -> Self {
        let mut wanted = Self::default();
        for subject in subjects {
            match subject {
                LiveSubject::Service(service) => drop(wanted.services.insert(service)),
                LiveSubject::Certificate(certificate) => drop(wanted.certificates.insert(certificate)),
                LiveSubject::Authorities(secret) => drop(wanted.authorities.insert(secret)),
            }
        }
        wanted
    }
}
