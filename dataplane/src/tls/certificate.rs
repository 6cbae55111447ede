//! `Certificate`: one certificate with its key, checked and ready for handshakes. Immutable; a new one replaces it whole.
//!
//! Each has a TLS configuration of its own, and with it the keys of its session tickets: a session can be resumed only
//! under the certificate it began with, in the process it began in, and for at most 12 hours.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SignatureScheme, SupportedProtocolVersion};
use sha2::{Digest as _, Sha256};
use sluice_model::Digest;
use sluice_model::unit::TlsVersion;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// One for the process: its tables are the same for every certificate.
pub(super) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// What is spoken inside of TLS.
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";
/// The same (RFC 9113 §3.1).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// Which versions of HTTP a handshake offers (ALPN).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offer {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2, and HTTP/1.1.
    Either,
}

/// Why something is not a certificate that can be served. Says nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No certificate at all.
    #[error("the chain is empty: tls.crt needs the certificate, then those that vouch for it")]
    NoChain,
    /// The first of the chain cannot be read.
    #[error("the first certificate of the chain cannot be read: {0}")]
    Unreadable(String),
    /// The key is of another certificate.
    #[error("the private key does not belong to the certificate: issue both together, or put the matching tls.key in")]
    KeyMismatch,
    /// Anything else that the TLS library will not take.
    #[error("it cannot be used for TLS: {0}")]
    Unusable(String),
}

/// What a listener demands of every handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Which versions of HTTP it offers.
    pub offer: Offer,
    /// The lowest version of TLS that it speaks.
    pub min_version: TlsVersion,
}

/// The configurations of one certificate, by terms. Tickets are the same in all of them; who comes with one of a version that
/// is not spoken any more shakes hands anew.
struct Configurations {
    either: [Arc<ServerConfig>; 2],
    http1: [Arc<ServerConfig>; 2],
}

impl Configurations {
    fn new(key: &Arc<CertifiedKey>) -> Result<Self, CertificateError> {
        // Tickets, which the client keeps: no table that workers share, and none that an attacker fills. The keys change by
        // themselves, every 6 hours.
        let tickets = aws_lc_rs::Ticketer::new().map_err(refused)?;
        let old = configuration(key, &tickets, &[&TLS13, &TLS12])?;
        let new = configuration(key, &tickets, &[&TLS13])?;
        let http1 = |config: &ServerConfig| {
            let mut config = config.clone();
            config.alpn_protocols = vec![HTTP_1_1.to_vec()];
            Arc::new(config)
        };
        Ok(Self {
            http1: [http1(&old), http1(&new)],
            either: [Arc::new(old), Arc::new(new)],
        })
    }

    fn get(&self, terms: Terms) -> Arc<ServerConfig> {
        let [old, new] = match terms.offer {
            Offer::Either => &self.either,
            Offer::Http1 => &self.http1,
        };
        Arc::clone(match terms.min_version {
            TlsVersion::Tls12 => old,
            TlsVersion::Tls13 => new,
        })
    }
}

/// A certificate that serves.
pub struct Certificate {
    configurations: Configurations,
    key: Arc<CertifiedKey>,
    hosts: BTreeSet<Box<str>>,
    /// Without their `*.`.
    wildcards: BTreeSet<Box<str>>,
    addresses: BTreeSet<IpAddr>,
    fingerprint: Digest,
    not_before_seconds: i64,
    not_after_seconds: i64,
}

impl Certificate {
    /// From a chain, the leaf first, and the leaf's key. Dates are not judged: a certificate that has ended is better than
    /// a closed door, and clients tell it themselves.
    ///
    /// # Errors
    /// When the leaf cannot be read, or the key is not its key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, CertificateError> {
        let leaf = chain.first().ok_or(CertificateError::NoChain)?.clone();
        let unreadable = |error: &dyn fmt::Display| CertificateError::Unreadable(error.to_string());
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|error| unreadable(&error))?;
        let validity = parsed.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let key = Arc::new(CertifiedKey::from_der(chain, key, &PROVIDER).map_err(refused)?);
        let mut certificate = Self {
            configurations: Configurations::new(&key)?,
            key,
            hosts: BTreeSet::new(),
            wildcards: BTreeSet::new(),
            addresses: BTreeSet::new(),
            fingerprint: Digest(Sha256::digest(&leaf).into()),
            not_before_seconds: not_before,
            not_after_seconds: not_after,
        };
        // Only alternative names count: clients have not looked at common names for a decade (RFC 9525 §2).
        let names = parsed.subject_alternative_name().map_err(|error| unreadable(&error))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            certificate.add_name(name);
        }
        Ok(certificate)
    }

    #[allow(clippy::wildcard_enum_match_arm)] // a foreign enum: mail addresses and the like name no host
    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => {
                let name = name.to_ascii_lowercase();
                match name.strip_prefix("*.") {
                    Some(suffix) => self.wildcards.insert(suffix.into()),
                    None => self.hosts.insert(name.into()),
                };
            }
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                self.addresses.extend(v4.or(v6));
            }
            _ => {}
        }
    }

    /// Whether it names `host`, which is in lower case and without a port. A wildcard stands for one label (RFC 9525 §6.3).
    pub fn covers(&self, host: &str) -> bool {
        if self.hosts.contains(host) {
            return true;
        }
        if let Some((label, suffix)) = host.split_once('.')
            && !label.is_empty()
            && self.wildcards.contains(suffix)
        {
            return true;
        }
        let address = host.trim_start_matches('[').trim_end_matches(']').parse();
        !self.addresses.is_empty() && address.is_ok_and(|address: IpAddr| self.addresses.contains(&address))
    }

    /// Whether its key makes signatures of one of these kinds.
    pub fn can_sign(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }

    /// For a handshake.
    pub fn config(&self, terms: Terms) -> Arc<ServerConfig> {
        self.configurations.get(terms)
    }

    /// For a handshake that asks the client for a certificate too. Made anew for each: what is asked is the host's and changes
    /// under connections. Nothing is resumed with it, so that a client proves each time that it has the key.
    ///
    /// # Errors
    /// None that is known: the certificate has been used for such a configuration before.
    pub fn config_asking(
        &self,
        terms: Terms,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let versions: &[&'static SupportedProtocolVersion] = match terms.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.key))));
        config.alpn_protocols = match terms.offer {
            Offer::Either => vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()],
            Offer::Http1 => vec![HTTP_1_1.to_vec()],
        };
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Its chain and its key, for handshakes in which this side is the client.
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// SHA-256 of the leaf.
    pub fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    /// From when it holds, in seconds since 1970.
    pub fn not_before_seconds(&self) -> i64 {
        self.not_before_seconds
    }

    /// Until when it holds, in seconds since 1970.
    pub fn not_after_seconds(&self) -> i64 {
        self.not_after_seconds
    }

    /// What it names, as people write it.
    pub fn names(&self) -> Vec<String> {
        let hosts = self.hosts.iter().map(ToString::to_string);
        let wildcards = self.wildcards.iter().map(|suffix| format!("*.{suffix}"));
        let addresses = self.addresses.iter().map(ToString::to_string);
        hosts.chain(wildcards).chain(addresses).collect()
    }
}

/// Without the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {:?})", self.fingerprint, self.names())
    }
}

fn configuration(
    key: &Arc<CertifiedKey>,
    tickets: &Arc<dyn ProducesTickets>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, CertificateError> {
    let resolver = SingleCertAndKey::from(Arc::clone(key));
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .map_err(refused)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
    config.ticketer = Arc::clone(tickets);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum: the library says it best
fn refused(error: rustls::Error) -> CertificateError {
    match error {
        rustls::Error::InconsistentKeys(_) => CertificateError::KeyMismatch,
        other => CertificateError::Unusable(other.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm};

    fn pair(hosts: &[&str], algorithm: &'static SignatureAlgorithm) -> (CertificateDer<'static>, Vec<u8>) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        (params.self_signed(&key).unwrap().der().clone(), key.serialize_der())
    }

    fn key(der: &[u8]) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(der.to_vec().into())
    }

    /// A certificate that vouches for itself.
    pub(crate) fn issued(hosts: &[&str], algorithm: &'static SignatureAlgorithm) -> Certificate {
        let (certificate, private) = pair(hosts, algorithm);
        Certificate::new(vec![certificate], key(&private)).unwrap()
    }

    #[test]
    fn it_covers_what_it_names() {
        let hosts = ["Shop.test", "*.wild.test", "10.0.0.1", "::1"];
        let certificate = issued(&hosts, &PKCS_ECDSA_P256_SHA256);
        for host in ["shop.test", "a.wild.test", "10.0.0.1", "[::1]"] {
            assert!(certificate.covers(host), "{host}");
        }
        for host in ["wild.test", "a.b.wild.test", ".wild.test", "xshop.test", "10.0.0.2", ""] {
            assert!(!certificate.covers(host), "{host}");
        }
        assert_eq!(certificate.names(), ["shop.test", "*.wild.test", "10.0.0.1", "::1"]);
        assert!(certificate.not_before_seconds() < certificate.not_after_seconds());
    }

    #[test]
    fn what_cannot_serve_is_refused_with_the_reason() {
        let (one, one_key) = pair(&["a.test"], &PKCS_ECDSA_P256_SHA256);
        let (_, other_key) = pair(&["a.test"], &PKCS_ECDSA_P256_SHA256);
        let refused = |chain: Vec<CertificateDer<'static>>, private: &[u8]| {
            Certificate::new(chain, key(private)).map(drop).unwrap_err()
        };
        assert_eq!(refused(vec![one.clone()], &other_key), CertificateError::KeyMismatch);
        assert_eq!(refused(vec![], &one_key), CertificateError::NoChain);
        let junk = CertificateDer::from(vec![0x30, 1, 2]);
        assert!(matches!(refused(vec![junk], &one_key), CertificateError::Unreadable(_)));
        assert!(matches!(refused(vec![one], &[1, 2, 3]), CertificateError::Unusable(_)));
    }

    #[test]
    fn printing_shows_no_key() {
        let (certificate, private) = pair(&["a.test"], &PKCS_ECDSA_P256_SHA256);
        let certificate = Certificate::new(vec![certificate], key(&private)).unwrap();
        let printed = format!("{certificate:?}");
        let fingerprint = certificate.fingerprint().to_string();
        assert_eq!(printed, format!("Certificate({fingerprint}, [\"a.test\"])"));
    }
}
