//! What an upstream is told of a client's certificate: the value of `X-Forwarded-Client-Cert`, in Envoy's form (`key=value`
//! pairs, `;` between them; "HTTP header manipulation" in its documentation).
//!
//! A certificate says what its owner wrote into the request for it, and upstreams take these values apart with parsers of
//! their own. So nothing of it can end a value early: a subject has no delimiter that is not escaped, and a name that is not
//! as names are is left out.

use std::collections::BTreeSet;
use std::fmt::Write;

use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use sluice_model::Digest;
use sluice_model::limits::CLIENT_DETAILS_MAX_BYTES;
use sluice_model::unit::CertificatePart;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// These parts of a certificate. `None`: it cannot be read, has none of them, or they are too long to be told.
pub(super) fn value(
    leaf: &CertificateDer<'_>,
    fingerprint: &Digest,
    parts: &BTreeSet<CertificatePart>,
) -> Option<HeaderValue> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let names = certificate.subject_alternative_name().ok()?;
    let names = names
        .map(|names| names.value.general_names.as_slice())
        .unwrap_or_default();
    let mut pairs: Vec<String> = Vec::new();
    for part in parts {
        match part {
            CertificatePart::Hash => pairs.push(format!("Hash={fingerprint}")),
            CertificatePart::Subject => pairs.push(format!("Subject=\"{}\"", subject(certificate.subject()))),
            CertificatePart::Uri => pairs.extend(names.iter().filter_map(uri)),
            CertificatePart::Dns => pairs.extend(names.iter().filter_map(dns)),
        }
    }
    let all = pairs.join(";");
    let told = (1..=CLIENT_DETAILS_MAX_BYTES).contains(&all.len());
    HeaderValue::from_str(&all).ok().filter(|_| told)
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum: the others are other kinds of names
fn uri(name: &GeneralName<'_>) -> Option<String> {
    let GeneralName::URI(uri) = name else { return None };
    // RFC 3986 §2: neither quotes, backslashes nor spaces are in a URI.
    let is_uri = uri
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let quote = if uri.contains([',', ';', '=']) { "\"" } else { "" };
    (is_uri && !uri.is_empty()).then(|| format!("URI={quote}{uri}{quote}"))
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum: the others are other kinds of names
fn dns(name: &GeneralName<'_>) -> Option<String> {
    let GeneralName::DNSName(name) = name else { return None };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'*');
    (!name.is_empty() && name.bytes().all(is_name)).then(|| format!("DNS={name}"))
}

/// As RFC 4514 writes it, the most specific part first.
fn subject(name: &X509Name<'_>) -> String {
    let mut sets: Vec<String> = Vec::new();
    for set in name.iter_rdn() {
        let attributes: Vec<String> = set.iter().map(attribute).collect();
        sets.push(attributes.join("+"));
    }
    sets.reverse();
    sets.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = oid2abbrev(attribute.attr_type(), oid_registry());
    let mut text = kind.map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
    text.push('=');
    match attribute.as_str() {
        Ok(value) => escape(value, &mut text),
        // §2.4: what is no text is written as its encoding.
        Err(_) => {
            text.push('#');
            attribute
                .attr_value()
                .data
                .iter()
                .for_each(|byte| hex(*byte, &mut text));
        }
    }
    text
}

/// §2.4 lets any byte be written in hexadecimal: so is everything that means something to anybody who takes this apart.
fn escape(value: &str, text: &mut String) {
    for (place, byte) in value.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'@' | b':' | b'/' | b'*');
        match byte {
            b' ' if place > 0 && place < value.len().saturating_sub(1) => text.push(' '),
            byte if plain => text.push(char::from(byte)),
            byte => {
                text.push('\\');
                hex(byte, text);
            }
        }
    }
}

fn hex(byte: u8, text: &mut String) {
    // Writing to memory does not fail.
    let _ = write!(text, "{byte:02X}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    fn told(subject: &[(DnType, &str)], names: Vec<SanType>, parts: &[CertificatePart]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, text) in subject {
            params.distinguished_name.push(kind.clone(), *text);
        }
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let parts = parts.iter().copied().collect();
        let value = value(certificate.der(), &Digest([0xab; 32]), &parts)?;
        Some(value.to_str().unwrap().to_owned())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(Ia5String::try_from(text).unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(Ia5String::try_from(text).unwrap())
    }

    #[test]
    fn it_is_as_envoy_writes_it() {
        let subject = [(DnType::OrganizationName, "Shop"), (DnType::CommonName, "api v2")];
        let names = || vec![dns("api.test"), uri("spiffe://test/api"), dns("*.api.test")];
        assert_eq!(
            told(&subject, names(), &CertificatePart::ALL).unwrap(),
            format!(
                "Hash={};Subject=\"CN=api v2,O=Shop\";URI=spiffe://test/api;DNS=api.test;DNS=*.api.test",
                "ab".repeat(32)
            )
        );
        assert_eq!(
            told(&subject, names(), &[CertificatePart::Uri]).unwrap(),
            "URI=spiffe://test/api"
        );
        assert_eq!(told(&subject, vec![], &[CertificatePart::Dns]), None, "nothing to tell");
    }

    #[test]
    fn nothing_in_a_certificate_ends_a_value() {
        let forged = "x\";URI=spiffe://admin;Subject=\"\\, +\u{e4}";
        assert_eq!(
            told(&[(DnType::CommonName, forged)], vec![], &[CertificatePart::Subject]).unwrap(),
            "Subject=\"CN=x\\22\\3BURI\\3Dspiffe://admin\\3BSubject\\3D\\22\\5C\\2C \\2B\\C3\\A4\""
        );
        for bad in ["spiffe://a\";DNS=b", "spiffe://a\\", "spiffe://a b", ""] {
            assert_eq!(told(&[], vec![uri(bad)], &[CertificatePart::Uri]), None, "{bad:?}");
        }
        assert_eq!(
            told(&[], vec![uri("spiffe://a;DNS=b,c")], &[CertificatePart::Uri]).unwrap(),
            "URI=\"spiffe://a;DNS=b,c\""
        );
        assert_eq!(
            told(&[], vec![dns("a;URI=b"), dns("a,b")], &[CertificatePart::Dns]),
            None
        );
    }

    #[test]
    fn what_is_too_long_is_not_told_in_part() {
        let many = || (0..400).map(|n| dns(&format!("name-{n}.test"))).collect();
        assert_eq!(told(&[], many(), &[CertificatePart::Dns]), None);
        assert!(told(&[], many(), &[CertificatePart::Hash]).is_some());
    }
}
