//! What is wrong with what objects refer to on the live lane: Services and certificates that are missing, refused or of
//! no use to the object. Always warnings: the objects themselves are in order, and what served before serves on.

use sluice_model::limits::MAX_LIVE_ENDPOINTS;
use sluice_model::unit::{ClientAuth, DataPlaneUnit, PoolSource, RouteUnit, Unit, UpstreamTls};
use sluice_model::{CertificateRef, ServiceRef};

use super::{AuthoritiesState, CertificateState, Lack, Material, ServiceState, Values};
use crate::objects::Object;
use crate::problem::{FieldPath, Problem, Severity};
use crate::translate::Translation;

/// Everything that is wrong with what the objects of `translation` refer to, at `now_seconds` (since 1970).
pub fn problems(translation: &Translation, values: &Values, now_seconds: i64) -> Vec<Problem> {
    let mut found = Found {
        values,
        now_seconds,
        problems: vec![],
    };
    for item in translation.items.values() {
        match item.meaning.as_ref().map(|meaning| meaning.unit().as_ref()) {
            Some(Unit::Pool(pool)) => {
                match &pool.source {
                    PoolSource::Service(service) => found.service(&item.object, service),
                    PoolSource::Static(_) => {}
                }
                if let Some(tls) = &pool.transport.tls {
                    found.upstream(&item.object, tls);
                }
            }
            Some(Unit::Route(route)) => found.route(&item.object, route),
            Some(Unit::DataPlane(plane)) => found.listeners(&item.object, plane),
            None => {}
        }
    }
    found.problems
}

struct Found<'a> {
    values: &'a Values,
    now_seconds: i64,
    problems: Vec<Problem>,
}

impl<'a> Found<'a> {
    fn warn(&mut self, object: &Object, field: FieldPath, lack: Lack) {
        let Lack { message, fix } = lack;
        self.problems
            .push(object.problem(Severity::Warning, field, message, fix));
    }

    fn service(&mut self, object: &Object, service: &ServiceRef) {
        let field = FieldPath::root("spec").field("service");
        match self.values.service(service) {
            ServiceState::Unknown => {}
            ServiceState::Missing(lack) | ServiceState::Unusable(lack) | ServiceState::Unseen(lack) => {
                let message = format!("{}; the pool keeps the endpoints it had, if any", lack.message);
                self.warn(object, field, Lack::new(message, lack.fix.clone()));
            }
            ServiceState::Endpoints(endpoints) if endpoints.len() > MAX_LIVE_ENDPOINTS => {
                let message = format!(
                    "{service} has {} endpoints; {MAX_LIVE_ENDPOINTS} are used",
                    endpoints.len()
                );
                // Of the pool itself: what it refers to is there.
                let field = FieldPath::root("spec");
                self.warn(
                    object,
                    field,
                    Lack::new(message, "spread its pods over several Services"),
                );
            }
            ServiceState::Endpoints(_) => {}
        }
    }

    fn route(&mut self, object: &Object, route: &RouteUnit) {
        if let Some(auth) = &route.client_auth {
            self.clients(object, auth);
        }
        let field = FieldPath::root("spec").field("tls").field("certificates");
        for (index, certificate) in route.certificates.iter().enumerate() {
            let field = field.index(index).field("secretName");
            let Some(material) = self.certificate(object, &field, certificate) else {
                continue;
            };
            if !route.hosts.iter().any(|host| material.covers(host)) {
                let message = format!(
                    "the certificate in {certificate} is for {}, which is none of the hosts of this route",
                    listed(&material.names)
                );
                let fix = "use a certificate that names the hosts, or correct hostnames";
                self.warn(object, field, Lack::new(message, fix));
            }
        }
    }

    fn clients(&mut self, object: &Object, auth: &ClientAuth) {
        let field = FieldPath::root("spec").field("tls").field("clientAuth").field("ca");
        self.authorities(object, &field, &auth.ca);
    }

    fn upstream(&mut self, object: &Object, tls: &UpstreamTls) {
        let field = FieldPath::root("spec").field("tls");
        if let Some(ca) = &tls.ca {
            self.authorities(object, &field.field("ca"), ca);
        }
        if let Some(shown) = &tls.client_certificate {
            self.certificate(object, &field.field("clientCertificate").field("secretName"), shown);
        }
    }

    fn authorities(&mut self, object: &Object, field: &FieldPath, ca: &CertificateRef) {
        let lack = match self.values.authorities(ca) {
            AuthoritiesState::Unknown | AuthoritiesState::Certificates(_) => return,
            AuthoritiesState::Missing(lack) | AuthoritiesState::Unseen(lack) => lack.clone(),
            AuthoritiesState::Refused(lack) => Lack::new(format!("{ca}: {}", lack.message), lack.fix.clone()),
        };
        let message = format!("{}; whoever was trusted stays so, and nobody else is", lack.message);
        self.warn(object, field.field("secretName"), Lack::new(message, lack.fix));
    }

    fn listeners(&mut self, object: &Object, plane: &DataPlaneUnit) {
        let field = FieldPath::root("spec").field("dataPlane").field("listeners");
        for (index, listener) in plane.listeners.iter().enumerate() {
            let default = listener.tls.as_ref().and_then(|tls| tls.default_certificate.as_ref());
            if let Some(certificate) = default {
                let field = field.index(index).field("tls").field("defaultCertificate");
                self.certificate(object, &field.field("secretName"), certificate);
            }
        }
    }

    /// The certificate, if it is one that may serve; else why not.
    fn certificate(&mut self, object: &Object, field: &FieldPath, wanted: &CertificateRef) -> Option<&'a Material> {
        let lack = match self.values.certificate(wanted) {
            CertificateState::Unknown => return None,
            CertificateState::Missing(lack) | CertificateState::Unseen(lack) => lack.clone(),
            CertificateState::Refused(lack) => Lack::new(format!("{wanted}: {}", lack.message), lack.fix.clone()),
            CertificateState::Material(material) => match material.out_of_time(self.now_seconds) {
                None => return Some(material),
                Some(lack) => Lack::new(format!("{wanted}: {}", lack.message), lack.fix),
            },
        };
        let message = format!("{}; the certificate it had serves on, if any", lack.message);
        self.warn(object, field.clone(), Lack::new(message, lack.fix));
        None
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no DNS name".to_owned(),
        names if names.len() <= 4 => names.join(", "),
        names => format!(
            "{}, and {} more",
            names.iter().take(4).cloned().collect::<Vec<_>>().join(", "),
            names.len() - 4
        ),
    }
}
