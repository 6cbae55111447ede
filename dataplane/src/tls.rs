//! TLS towards clients: which certificate a handshake is answered with, and what a connection remembers of it.
//!
//! A leaf: it decides and holds. It reads no socket and starts no handshake; `worker/handshake.rs` does, and asks here.
//!
//! ```text
//!  routes of a generation ─► names: host ─► references ─┐
//!  live lane ─► held: reference ─► certificate ─────────┴─► choose(what the client asked for) ─► certificate
//! ```
//!
//! References stay names until a handshake, so a certificate that is replaced serves the next handshake, in every
//! generation that refers to it, and disturbs no connection. Decisions and their reasons: `docs/decisions/tls.md`.

pub mod certificate;
mod client_details;
pub mod clients;
pub mod facts;
pub mod failure;
pub mod held;
pub mod names;
pub mod plain;
pub mod upstream;

use std::sync::Arc;

use rustls::SignatureScheme;
use sluice_model::CertificateRef;

use certificate::Certificate;
use held::Certificates;
use names::Names;

/// What a client asks for in its hello.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The host it wants, in lower case; `None`: it named none.
    pub name: Option<&'a str>,
    /// The signatures it can check.
    pub schemes: &'a [SignatureScheme],
}

/// The certificate for a client: of the routes for its host, most specific first, the first that names the host and that
/// the client can check; else the first that names the host; else the listener's default. `None`: there is none.
pub fn choose(
    names: &Names,
    held: &Certificates,
    default: Option<&CertificateRef>,
    asked: &Asked<'_>,
) -> Option<Arc<Certificate>> {
    let for_name = asked.name.and_then(|name| {
        let naming = |reference: &CertificateRef| held.get(reference).filter(|certificate| certificate.covers(name));
        let mut second_best = None;
        for certificate in names.candidates(name).filter_map(naming) {
            if certificate.can_sign(asked.schemes) {
                return Some(certificate);
            }
            second_best.get_or_insert(certificate);
        }
        second_best
    });
    for_name.or_else(|| held.get(default?))
}

#[cfg(test)]
mod tests {
    use super::certificate::tests::issued;
    use super::*;
    use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
    use sluice_model::unit::RouteUnit;

    const ALL: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];

    fn reference(text: &str) -> CertificateRef {
        text.parse().unwrap()
    }

    fn route(hosts: &[&str], certificates: &[&str]) -> RouteUnit {
        names::tests::route(hosts, certificates)
    }

    fn held(certificates: &[(&str, &[&str], &'static rcgen::SignatureAlgorithm)]) -> Certificates {
        let held = Certificates::default();
        for (name, hosts, algorithm) in certificates {
            held.replace(reference(name), Arc::new(issued(hosts, algorithm)));
        }
        held
    }

    #[test]
    fn the_most_specific_route_that_has_a_fitting_certificate_decides() {
        let held = held(&[
            ("a/shop", &["shop.test"], &PKCS_ECDSA_P256_SHA256),
            ("a/wild", &["*.test"], &PKCS_ECDSA_P256_SHA256),
            ("b/greedy", &["shop.test", "other.test"], &PKCS_ECDSA_P256_SHA256),
            ("a/default", &["default.test"], &PKCS_ECDSA_P256_SHA256),
        ]);
        let routes = [
            route(&["shop.test"], &["a/missing", "a/shop"]),
            route(&["*.test"], &["a/wild"]),
            route(&["other.test"], &["a/shop"]), // names another host: of no use here
            route(&[], &["b/greedy"]),
        ];
        let names = Names::compile(routes.iter());
        let default = reference("a/default");
        let check = |name: Option<&str>, default: Option<&CertificateRef>, expected: Option<&str>| {
            let chosen = choose(&names, &held, default, &Asked { name, schemes: ALL });
            let expected = expected.map(|text| *held.get(&reference(text)).unwrap().fingerprint());
            assert_eq!(chosen.map(|c| *c.fingerprint()), expected, "{name:?}");
        };
        check(Some("shop.test"), None, Some("a/shop"));
        check(Some("blog.test"), None, Some("a/wild"));
        check(Some("other.test"), None, Some("a/wild"));
        check(Some("a.b.test"), None, None); // the route's wildcard takes it, the certificate's does not
        check(Some("a.b.test"), Some(&default), Some("a/default"));
        check(None, Some(&default), Some("a/default"));
        check(None, None, None);
        check(Some("nobody.example"), Some(&reference("a/missing")), None);
    }

    #[test]
    fn of_two_certificates_the_client_gets_the_one_it_can_check() {
        let held = held(&[
            ("a/ed", &["shop.test"], &PKCS_ED25519),
            ("a/ec", &["shop.test"], &PKCS_ECDSA_P256_SHA256),
        ]);
        let names = Names::compile([route(&["shop.test"], &["a/ed", "a/ec"])].iter());
        let check = |schemes: &[SignatureScheme], expected: &str| {
            let name = Some("shop.test");
            let chosen = choose(&names, &held, None, &Asked { name, schemes }).unwrap();
            let expected = held.get(&reference(expected)).unwrap();
            assert_eq!(chosen.fingerprint(), expected.fingerprint(), "{schemes:?}");
        };
        check(ALL, "a/ed");
        check(&[SignatureScheme::ECDSA_NISTP256_SHA256], "a/ec");
        // Neither: the handshake itself will say what is missing.
        check(&[SignatureScheme::RSA_PSS_SHA256], "a/ed");
    }
}
