//! TLS towards upstreams: whom a handshake believes and what it shows. Certificates are always verified, against the
//! authorities that the pool names or else the public ones, for the name that the pool says; there is no other mode.
//!
//! Authorities and certificates are looked up at each handshake, so that renewed ones serve the next one and close nothing.
//! What they become for the library is kept as long as they stay the same. Reasons: `docs/decisions/upstreams.md`.

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use sluice_model::CertificateRef;
use sluice_model::unit::UpstreamTls;

use super::certificate::{Certificate, HTTP_1_1, HTTP_2, PROVIDER};
use super::clients::Authorities;
use super::held::{Certificates, HeldAuthorities};

/// Mozilla's, as this build has them.
static PUBLIC: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut store = RootCertStore::empty();
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Arc::new(store)
});

/// Which versions of HTTP a handshake offers (ALPN).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Offer {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// Both, HTTP/2 first.
    Either,
}

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![HTTP_1_1.to_vec()],
            Self::Http2 => vec![HTTP_2.to_vec()],
            Self::Either => vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()],
        }
    }
}

/// Why there can be no handshake: what the pool refers to has not come, or cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// Nobody would be believed.
    #[error("no authorities have come from Secret {0}: is its ca.crt there")]
    NoAuthorities(CertificateRef),
    /// There is nothing to show.
    #[error("no certificate has come from Secret {0}")]
    NoCertificate(CertificateRef),
    /// The TLS library will not take it.
    #[error("it cannot be used for TLS: {0}")]
    Unusable(String),
}

/// What a handshake is made of, as it is now.
#[derive(Clone)]
pub struct Means {
    authorities: Option<Arc<Authorities>>,
    shown: Option<Arc<Certificate>>,
}

impl Means {
    /// Of what is held. Nothing stands in for what is missing: a pool that names authorities never believes others.
    ///
    /// # Errors
    /// When something that the pool refers to is not held.
    pub fn of(tls: &UpstreamTls, authorities: &HeldAuthorities, certificates: &Certificates) -> Result<Self, Unready> {
        let authorities = tls.ca.as_ref().map(|ca| {
            let held = authorities.get(ca);
            held.ok_or_else(|| Unready::NoAuthorities(ca.clone()))
        });
        let shown = tls.client_certificate.as_ref().map(|shown| {
            let held = certificates.get(shown);
            held.ok_or_else(|| Unready::NoCertificate(shown.clone()))
        });
        Ok(Self {
            authorities: authorities.transpose()?,
            shown: shown.transpose()?,
        })
    }

    /// Whether they are the same as `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        same(self.authorities.as_ref(), other.authorities.as_ref()) && same(self.shown.as_ref(), other.shown.as_ref())
    }

    /// What a handshake needs. Sessions are resumed only under the same means, in the worker that began them.
    ///
    /// # Errors
    /// When the library refuses; none is known.
    pub fn config(&self, offer: Offer) -> Result<Arc<ClientConfig>, Unready> {
        let unusable = |error: rustls::Error| Unready::Unusable(error.to_string());
        let roots = self
            .authorities
            .as_ref()
            .map_or(&*PUBLIC, |authorities| authorities.store());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(Arc::clone(roots));
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder.with_client_cert_resolver(Arc::new(Shown(Arc::clone(shown.key())))),
        };
        config.alpn_protocols = offer.protocols();
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shown.as_ref().map(|shown| shown.fingerprint());
        write!(f, "Means({:?}, shows {shown:?})", self.authorities)
    }
}

fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The name that certificates must be for.
pub fn server_name(tls: &UpstreamTls) -> Result<ServerName<'static>, Unready> {
    // A host is a DNS name by construction.
    ServerName::try_from(tls.server_name.as_str().to_owned()).map_err(|error| Unready::Unusable(error.to_string()))
}

/// Shows one certificate, whoever asks.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Without a signature that the endpoint can check there is nothing to show, and the endpoint will say so.
        self.0.key.choose_scheme(schemes).map(|_| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::issued;
    use super::*;

    #[test]
    fn nothing_stands_in_for_what_is_missing_and_what_changes_is_noticed() {
        let (authorities, certificates) = (HeldAuthorities::default(), Certificates::default());
        let [ca, shown]: [CertificateRef; 2] = ["t/ca", "t/shown"].map(|text| text.parse().unwrap());
        let tls = |ca: Option<&CertificateRef>, client_certificate: Option<&CertificateRef>| UpstreamTls {
            server_name: "api.test".parse().unwrap(),
            ca: ca.cloned(),
            client_certificate: client_certificate.cloned(),
        };
        let of = |tls: &UpstreamTls| Means::of(tls, &authorities, &certificates);
        assert_eq!(
            of(&tls(Some(&ca), None)).unwrap_err(),
            Unready::NoAuthorities(ca.clone())
        );
        assert_eq!(
            of(&tls(None, Some(&shown))).unwrap_err(),
            Unready::NoCertificate(shown.clone())
        );
        let renew = || {
            let certificate = issued(&["edge.test"], &rcgen::PKCS_ECDSA_P256_SHA256);
            certificates.replace(shown.clone(), Arc::new(certificate));
        };
        renew();
        let wanted = tls(None, Some(&shown));
        let (before, again) = (of(&wanted).unwrap(), of(&wanted).unwrap());
        renew();
        let after = of(&wanted).unwrap();
        assert!(before.is_same(&again) && !before.is_same(&after) && !before.is_same(&of(&tls(None, None)).unwrap()));
        for (offer, count) in [(Offer::Http1, 1), (Offer::Http2, 1), (Offer::Either, 2)] {
            assert_eq!(after.config(offer).unwrap().alpn_protocols.len(), count);
        }
    }
}
