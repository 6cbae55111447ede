//! Certificates of other namespaces: usable only when the Secret's annotation says so. The owner of a key decides who shows
//! it; an object that names one without being allowed to keeps its last good form.

use sluice_model::unit::Unit;
use sluice_model::{CertificateRef, Name};

use crate::live::Lack;
use crate::objects::Object;
use crate::problem::{FieldPath, Problem, Severity};
use crate::source::View;
use crate::source::shares::{SHARE_ANNOTATION, Share, Sharing};
use crate::translate::Translation;

/// The references to Secrets of other namespaces that may not be made.
pub(super) fn not_shared(translation: &Translation, view: &View) -> Vec<Problem> {
    let mut problems = Vec::new();
    for item in translation.items.values() {
        let Some(meaning) = &item.meaning else { continue };
        let own = &item.object.key.namespace;
        let foreign = |(_, secret): &(FieldPath, &CertificateRef)| secret.namespace != *own;
        for (field, secret) in certificates(meaning.unit()).into_iter().filter(foreign) {
            if let Some(lack) = lack(view, secret, own) {
                problems.push(not_allowed(&item.object, &field, lack));
            }
        }
    }
    problems
}

/// The certificates that a unit refers to, each with its field.
fn certificates(unit: &Unit) -> Vec<(FieldPath, &CertificateRef)> {
    let spec = FieldPath::root("spec");
    match unit {
        Unit::Pool(pool) => {
            let field = spec.field("tls");
            let tls = pool.transport.tls.iter();
            let named = tls.flat_map(|tls| [("ca", &tls.ca), ("clientCertificate", &tls.client_certificate)]);
            let named = named.filter_map(|(name, secret)| Some((field.field(name), secret.as_ref()?)));
            named.collect()
        }
        Unit::Route(route) => {
            let field = |index| spec.field("tls").field("certificates").index(index);
            let numbered = route.certificates.iter().enumerate();
            let certificates = numbered.map(|(index, secret)| (field(index), secret));
            let authorities = route.client_auth.iter().map(|auth| {
                let field = spec.field("tls").field("clientAuth").field("ca");
                (field, &auth.ca)
            });
            certificates.chain(authorities).collect()
        }
        Unit::DataPlane(plane) => {
            let field = |index| spec.field("dataPlane").field("listeners").index(index).field("tls");
            let numbered = plane.listeners.iter().enumerate();
            let defaults = numbered.filter_map(|(index, listener)| {
                let secret = listener.tls.as_ref()?.default_certificate.as_ref()?;
                Some((field(index).field("defaultCertificate"), secret))
            });
            defaults.collect()
        }
    }
}

fn not_allowed(object: &Object, field: &FieldPath, lack: Lack) -> Problem {
    object.problem(Severity::Error, field.field("namespace"), lack.message, lack.fix)
}

/// Why `secret` may not be used in `namespace`, if it may not.
fn lack(view: &View, secret: &CertificateRef, namespace: &Name) -> Option<Lack> {
    match view.shares.of(secret) {
        Sharing::Known(share) if share.includes(namespace) => None,
        Sharing::Known(share) => Some(Lack::new(
            format!("Secret {secret} is not shared with namespace {namespace}"),
            format!("annotate that Secret with {}", annotation(share, namespace)),
        )),
        Sharing::Missing => Some(Lack::new(
            format!("there is no Secret {secret}, so nobody shares it with namespace {namespace}"),
            format!("create it, annotated with {}", annotation(&Share::default(), namespace)),
        )),
        Sharing::Unseen(lack) => Some(Lack::new(
            format!(
                "whether Secret {secret} is shared with namespace {namespace} cannot be told: {}",
                lack.message
            ),
            lack.fix.clone(),
        )),
        Sharing::NotYet => Some(Lack::new(
            format!("whether Secret {secret} is shared with namespace {namespace} is not known yet"),
            "wait: it is being looked at",
        )),
    }
}

fn annotation(share: &Share, namespace: &Name) -> String {
    format!("{SHARE_ANNOTATION}: \"{}\"", share.and(namespace))
}
