//! TLS on the port of the stream: the controller shows its certificate; whoever connects may show one, and whoever does
//! has to show one of this authority.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{RootCertStore, crypto::aws_lc_rs};

use super::Pem;

/// What ALPN calls the protocol of the stream: gRPC is HTTP/2.
const H2: &[u8] = b"h2";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up with {what}: {why}")]
pub struct TlsError {
    what: &'static str,
    why: String,
}

fn wrong<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> TlsError {
    move |error| TlsError {
        what,
        why: error.to_string(),
    }
}

/// Serves with `server`, and believes client certificates of the authorities in `bundle`.
pub(super) fn config(bundle: &str, server: &Pem) -> Result<Arc<ServerConfig>, TlsError> {
    const AUTHORITIES: &str = "the authorities in ca.pem";
    const SERVER: &str = "the server's certificate";
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        let certificate = certificate.map_err(wrong(AUTHORITIES))?;
        roots.add(certificate).map_err(wrong(AUTHORITIES))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(wrong(AUTHORITIES))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(server.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).map_err(wrong(SERVER))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(wrong("TLS 1.3"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.map_err(wrong(SERVER))?, key)
        .map_err(wrong(SERVER))?;
    config.alpn_protocols = vec![H2.to_vec()];
    // A session that is resumed keeps its client's certificate without looking at the time: none is.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
