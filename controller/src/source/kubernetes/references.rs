//! The Secrets of other namespaces that an object names: whether they are shared must be known before it can be judged, so
//! that they are looked at without waiting for anybody to want them.

use sluice_crds::SecretReference;
use sluice_model::{CertificateRef, Name};

use crate::objects::{Object, Spec};

/// See the file's comment. What is no name is for translation to tell.
pub(super) fn to_other_namespaces(object: &Object) -> Vec<CertificateRef> {
    let named: Vec<&SecretReference> = match &object.spec {
        Spec::ProxyRoute(spec) => {
            let tls = spec.tls.iter();
            tls.flat_map(|tls| {
                tls.certificates
                    .iter()
                    .chain(tls.client_auth.iter().map(|auth| &auth.ca))
            })
            .collect()
        }
        Spec::Rollout(spec) => {
            let listeners = spec.data_plane.listeners.iter();
            let tls = listeners.filter_map(|listener| listener.tls.as_ref());
            tls.filter_map(|tls| tls.default_certificate.as_ref()).collect()
        }
        Spec::Pool(spec) => {
            let tls = spec.tls.iter();
            tls.flat_map(|tls| tls.ca.iter().chain(&tls.client_certificate))
                .collect()
        }
        Spec::Unreadable => vec![],
    };
    let foreign = named.into_iter().filter_map(|reference| {
        let namespace: Name = reference.namespace.as_deref()?.parse().ok()?;
        let name = reference.secret_name.parse().ok()?;
        Some(CertificateRef { namespace, name })
    });
    foreign
        .filter(|secret| secret.namespace != object.key.namespace)
        .collect()
}
