//! A certificate with its chain and private key, checked: it parses, and the key is the certificate's. When it is valid
//! and which hosts it names is read out of it here; whether that suits is for `lane` and `problems` to say.
//!
//! Nothing that is said here quotes what was read: people mix up files, and the one quoted might be the key.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
};
use bytes::Bytes;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sluice_model::host::HostPattern;
use sluice_model::limits::{
    MAX_AUTHORITY_BYTES, MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES, MAX_CLIENT_AUTHORITIES, MAX_PRIVATE_KEY_BYTES,
};
use sluice_proto::PrivateKeyBytes;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Lack;

/// What TLS is terminated with.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// DER, the leaf first.
    pub chain: Vec<Bytes>,
    /// The leaf's private key.
    pub key: PrivateKeyBytes,
    /// The DNS names that the leaf is for, in lower case: `shop.example.com`, `*.example.com`.
    pub names: Vec<String>,
    /// From when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when, in seconds since 1970.
    pub not_after: i64,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Material({:?}, until {}, key redacted)", self.names, self.not_after)
    }
}

const CHAIN_FIX: &str = "put the certificate there as PEM, the leaf first, then the certificates that signed it";
const KEY_FIX: &str = "put the private key of the certificate there as PEM, without a passphrase";

impl Material {
    /// The certificate of these two PEM texts.
    ///
    /// # Errors
    /// What is wrong with it, and how to mend it.
    pub fn parse(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, Lack> {
        let chain = chain(chain_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|_| Lack::new("tls.key holds no private key that could be read", KEY_FIX))?;
        let leaf = chain.first().ok_or_else(|| Lack::new("tls.crt is empty", CHAIN_FIX))?;
        let (_, leaf) = X509Certificate::from_der(leaf)
            .map_err(|_| Lack::new("the first certificate in tls.crt cannot be read", CHAIN_FIX))?;
        let (names, validity) = (names(&leaf), leaf.validity());
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        check_match(&chain, &key)?;
        Ok(Self {
            key: pkcs8(&key)?,
            chain: chain.iter().map(|one| Bytes::copy_from_slice(one)).collect(),
            names,
            not_before,
            not_after,
        })
    }

    /// Why it cannot begin to serve at `now_seconds` (since 1970), if it cannot.
    pub fn out_of_time(&self, now_seconds: i64) -> Option<Lack> {
        let date = |seconds: i64| {
            jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
        };
        if now_seconds > self.not_after {
            let what = format!("the certificate ended at {}", date(self.not_after));
            return Some(Lack::new(what, "put a renewed one into the Secret"));
        }
        if now_seconds < self.not_before {
            let what = format!("the certificate is valid from {} on", date(self.not_before));
            return Some(Lack::new(what, "wait until then, or check this machine's clock"));
        }
        None
    }

    /// Whether it names hosts of this pattern. Of a regular expression, and of any host, it cannot be told: then it does.
    pub fn covers(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Exact(host) => self.names.iter().any(|name| names_host(name, host.as_str())),
            HostPattern::Wildcard(suffix) => {
                let below = |name: &str| {
                    let name = name.strip_prefix("*.").unwrap_or(name);
                    name == suffix.as_str()
                        || name
                            .strip_suffix(suffix.as_str())
                            .is_some_and(|rest| rest.ends_with('.'))
                };
                // The suffix alone is not among the hosts of the pattern.
                self.names.iter().any(|name| below(name) && name != suffix.as_str())
            }
            HostPattern::Regex(_) | HostPattern::Any => true,
        }
    }
}

const AUTHORITIES_FIX: &str = "put the certificates of those who sign there as PEM, under ca.crt";

/// The certificates (DER) of those who sign the certificates of others, out of PEM.
///
/// # Errors
/// What is wrong with it, and how to mend it.
pub fn authorities(pem: Option<&[u8]>) -> Result<Vec<Bytes>, Lack> {
    let pem = pem.ok_or_else(|| Lack::new("the Secret has no ca.crt", AUTHORITIES_FIX))?;
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| Lack::new("ca.crt holds what is no certificate", AUTHORITIES_FIX))?;
        let readable = X509Certificate::from_der(&certificate).is_ok_and(|(rest, _)| rest.is_empty());
        if !readable || certificate.len() > MAX_AUTHORITY_BYTES {
            return Err(Lack::new(
                format!(
                    "certificate {} in ca.crt cannot be read, or is large",
                    found.len().saturating_add(1)
                ),
                AUTHORITIES_FIX,
            ));
        }
        found.push(Bytes::copy_from_slice(&certificate));
    }
    match found.len() {
        0 => Err(Lack::new("ca.crt holds no certificate", AUTHORITIES_FIX)),
        1..=MAX_CLIENT_AUTHORITIES => Ok(found),
        many => Err(Lack::new(
            format!("ca.crt holds {many} certificates; at most {MAX_CLIENT_AUTHORITIES} are used"),
            "leave out those whose time is over",
        )),
    }
}

/// RFC 9525 §6.3: a wildcard stands for exactly one label.
fn names_host(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(suffix) => host.split_once('.').is_some_and(|(_, rest)| rest == suffix),
        None => name == host,
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Lack> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = read.map_err(|_| Lack::new("tls.crt is not readable as PEM", CHAIN_FIX))?;
    let long = chain.iter().any(|one| one.len() > MAX_CERTIFICATE_BYTES);
    if chain.is_empty() {
        Err(Lack::new("tls.crt holds no certificate", CHAIN_FIX))
    } else if long || chain.len() > MAX_CHAIN_CERTIFICATES {
        let (max, kib) = (MAX_CHAIN_CERTIFICATES, MAX_CERTIFICATE_BYTES >> 10);
        Err(Lack::new(
            "tls.crt is too large",
            format!("keep it to {max} certificates of {kib} KiB: the leaf and those that signed it, no roots"),
        ))
    } else {
        Ok(chain)
    }
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let all = alternative
        .map(|found| found.value.general_names.as_slice())
        .unwrap_or_default();
    // Addresses are no names to ask for (RFC 6066 §3), and the other forms are not for servers.
    let dns = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name {
            Some(name.to_ascii_lowercase())
        } else {
            None
        }
    };
    all.iter().filter_map(dns).collect()
}

fn check_match(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Result<(), Lack> {
    let signing = any_supported_type(key).map_err(|_| {
        Lack::new(
            "tls.key is of a kind that is not supported",
            "use RSA with at least 2048 bits, ECDSA with P-256, P-384 or P-521, or Ed25519",
        )
    })?;
    match CertifiedKey::new(chain.to_vec(), signing).keys_match() {
        Ok(()) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Lack::new(
            "tls.key is not the private key of the certificate in tls.crt",
            "put the two that belong together there; a renewal writes both at once",
        )),
        Err(_) => Err(Lack::new("the first certificate in tls.crt cannot be used", CHAIN_FIX)),
    }
}

/// The key in the one form that travels.
fn pkcs8(key: &PrivateKeyDer<'static>) -> Result<PrivateKeyBytes, Lack> {
    let unusable = || Lack::new("tls.key cannot be used", KEY_FIX);
    let der: Vec<u8> = match key {
        PrivateKeyDer::Pkcs8(key) => key.secret_pkcs8_der().to_vec(),
        PrivateKeyDer::Pkcs1(key) => {
            let pair = rsa::KeyPair::from_der(key.secret_pkcs1_der()).map_err(|_| unusable())?;
            let encoded = pair.as_der().map_err(|_| unusable())?;
            encoded.as_ref().to_vec()
        }
        PrivateKeyDer::Sec1(key) => {
            let curves = [
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                &ECDSA_P384_SHA384_ASN1_SIGNING,
                &ECDSA_P521_SHA512_ASN1_SIGNING,
            ];
            let read = |curve| EcdsaKeyPair::from_private_key_der(curve, key.secret_sec1_der()).ok();
            let pair = curves.into_iter().find_map(read).ok_or_else(unusable)?;
            let encoded = pair.to_pkcs8v1().map_err(|_| unusable())?;
            encoded.as_ref().to_vec()
        }
        _ => return Err(unusable()),
    };
    if der.len() > MAX_PRIVATE_KEY_BYTES {
        return Err(Lack::new("tls.key is too large", "use a key of at most 8192 bits"));
    }
    Ok(PrivateKeyBytes::new(der))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    /// PEM of a certificate for `names` and of its key.
    pub(crate) fn issued(names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (self_signed(names, &key), key.serialize_pem())
    }

    pub(crate) fn self_signed(names: &[&str], key: &KeyPair) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names).unwrap().self_signed(key).unwrap().pem()
    }

    pub(crate) fn material(names: &[&str]) -> Material {
        let (chain, key) = issued(names);
        Material::parse(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    #[test]
    fn a_pair_that_belongs_together_is_taken() {
        let material = material(&["Shop.example.com", "*.example.org"]);
        assert_eq!(material.names, ["shop.example.com", "*.example.org"]);
        assert!(material.out_of_time(material.not_before).is_none());
        let ended = material.out_of_time(material.not_after + 1).unwrap();
        assert!(ended.message.starts_with("the certificate ended at "), "{ended:?}");
        assert!(material.out_of_time(material.not_before - 1).is_some());
    }

    #[test]
    fn keys_of_every_kind_travel_as_pkcs8() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let chain = self_signed(&["a.test"], &key);
            let material = Material::parse(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
            let read = PrivateKeyDer::try_from(material.key.expose()).unwrap();
            assert!(matches!(read, PrivateKeyDer::Pkcs8(_)));
        }
        // SEC1 ("EC PRIVATE KEY"), as `openssl ecparam` writes it.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, key.serialized_der()).unwrap();
        let secret = pair.private_key();
        let sec1: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = secret.as_der().unwrap();
        let key_pem = pem("EC PRIVATE KEY", sec1.as_ref());
        let material = Material::parse(self_signed(&["a.test"], &key).as_bytes(), key_pem.as_bytes()).unwrap();
        assert!(matches!(
            PrivateKeyDer::try_from(material.key.expose()),
            Ok(PrivateKeyDer::Pkcs8(_))
        ));
    }

    fn pem(label: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    #[test]
    fn what_cannot_serve_is_told_without_quoting_it() {
        let ((chain, key), (other, _)) = (issued(&["a.test"]), issued(&["a.test"]));
        let cut = key.replace("-----END", "-----EN");
        let check = |chain: &str, key: &str, expected: &str| {
            let lack = Material::parse(chain.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(lack.message.contains(expected), "{lack:?}");
            let body = |pem: &str| pem.lines().nth(1).map(str::to_owned);
            for secret in [body(chain), body(key)].into_iter().flatten() {
                assert!(!format!("{lack:?}").contains(&secret), "{lack:?}");
            }
        };
        check(&other, &key, "is not the private key of the certificate");
        check("", &key, "tls.crt holds no certificate");
        check(&key, &chain, "tls.crt holds no certificate");
        check(&chain, "", "tls.key holds no private key");
        check(&chain, &cut, "tls.key holds no private key");
        check(&chain.replace("MII", "AII"), &key, "cannot be");
        check(&chain.repeat(11), &key, "tls.crt is too large");
        let printed = format!("{:?}", material(&["a.test"]));
        assert!(printed.contains("redacted"), "{printed}");
    }

    #[test]
    fn names_cover_hosts_as_clients_check_them() {
        let material = material(&["shop.example.com", "*.wild.test"]);
        for (host, expected) in [
            ("shop.example.com", true),
            ("other.example.com", false),
            ("a.wild.test", true),
            ("a.b.wild.test", false),
            ("wild.test", false),
            ("*.wild.test", true),
            ("*.example.com", true),
            ("*.shop.example.com", false),
            ("*.test", true),
            ("*.org", false),
        ] {
            let pattern = HostPattern::hostname(host).unwrap();
            assert_eq!(material.covers(&pattern), expected, "{host}");
        }
        assert!(material.covers(&HostPattern::Any));
    }
}
