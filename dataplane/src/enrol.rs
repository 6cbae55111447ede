//! How an instance gets its certificate by itself: a fresh key, a signing request, and a proof of who it is. The first
//! time, and whenever its certificate is worth nothing any more, the proof is its pod's token, which the kubelet renews in its
//! file; otherwise it is the certificate that is to be renewed, and then nobody but the controller is needed.
//!
//! What comes back is checked as far as it can be: the certificate is for our key. When to ask is decided in
//! `identity/keeper.rs`.

pub mod metrics;

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData};
use sluice_model::limits::{ENROL_WAIT_MS, MAX_ENROL_REQUEST_BYTES, MAX_ENROL_RESPONSE_BYTES, MAX_TOKEN_BYTES};
use sluice_proto::enrol::{EnrolRequest, Enrolled, Proof, Token};
use sluice_proto::pb;
use sluice_proto::pb::enrolment_client::EnrolmentClient;
use tokio::time::timeout;
use tonic::Code;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::parse_x509_pem;

use crate::config::files;
use crate::dial::{Controller, status_text};
use crate::identity::TlsIdentity;

const WAIT: Duration = Duration::from_millis(ENROL_WAIT_MS);

/// Where to enrol, and with what.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// The controller.
    pub controller: Controller,
    /// The file of the pod's token.
    pub token: PathBuf,
}

/// How to prove who we are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By<'a> {
    /// By the token, to a controller that these authorities vouch for.
    Token {
        /// As PEM.
        ca_pem: &'a str,
    },
    /// By the certificate that we have.
    Certificate(&'a TlsIdentity),
}

/// What an enrolment gave.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) enrolled: Enrolled,
    /// The private key of the certificate, as PEM.
    pub(crate) key_pem: String,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Given({} of {:?}, key redacted)",
            self.enrolled.instance, self.enrolled.audience
        )
    }
}

/// Why an enrolment came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    /// Something is missing here.
    #[error("{0}")]
    NotReady(String),
    /// The controller cannot be reached, or cannot tell now.
    #[error("no answer from the controller: {0}")]
    Unreachable(String),
    /// It says no: asking again soon is of no use.
    #[error("the controller refuses: {0}")]
    Refused(String),
    /// What it gave is of no use.
    #[error("the controller's answer cannot be used: {0}")]
    Useless(String),
}

impl Enrolment {
    /// Asks for a certificate.
    ///
    /// # Errors
    /// Says why there is none.
    pub(crate) async fn ask(&self, by: By<'_>) -> Result<Given, EnrolError> {
        let pair = KeyPair::generate().map_err(|error| EnrolError::NotReady(format!("no key can be made: {error}")))?;
        let (ca_pem, shown, proof) = match by {
            By::Token { ca_pem } => (ca_pem, None, Proof::Token(self.token()?)),
            By::Certificate(tls) => {
                let shown = (tls.cert_pem.as_str(), tls.key_pem.as_str());
                (tls.ca_pem.as_str(), Some(shown), Proof::Certificate)
            }
        };
        let request = EnrolRequest {
            proof,
            signing_request: signing_request(&pair)?.into(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let channel = self
            .controller
            .connect(ca_pem, shown)
            .await
            .map_err(EnrolError::Unreachable)?;
        let mut client = EnrolmentClient::new(channel)
            .max_encoding_message_size(MAX_ENROL_REQUEST_BYTES)
            .max_decoding_message_size(MAX_ENROL_RESPONSE_BYTES);
        let answer = timeout(WAIT, client.enrol(pb::EnrolRequest::from(&request)))
            .await
            .map_err(|_| EnrolError::Unreachable(format!("no answer within {WAIT:?}")))?
            .map_err(refused)?;
        let enrolled =
            Enrolled::try_from(answer.into_inner()).map_err(|error| EnrolError::Useless(error.to_string()))?;
        check(&enrolled, &pair).map_err(EnrolError::Useless)?;
        Ok(Given {
            enrolled,
            key_pem: pair.serialize_pem(),
        })
    }

    /// Read each time: the kubelet writes a new one long before the old one ends.
    fn token(&self) -> Result<Token, EnrolError> {
        let path = self.token.display();
        let missing = |problem: String| {
            EnrolError::NotReady(format!(
                "{path}: {problem}; mount a projected service-account token with the audience sluice-controller there"
            ))
        };
        let bytes = files::read_bounded(&self.token, MAX_TOKEN_BYTES).map_err(|error| missing(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| missing("there is no such file".to_owned()))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| missing("it is not text".to_owned()))?;
        Token::new(text).ok_or_else(|| missing("it is empty".to_owned()))
    }
}

/// Asks for nothing: what the certificate says is the controller's business.
fn signing_request(pair: &KeyPair) -> Result<Vec<u8>, EnrolError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(pair);
    let request = request.map_err(|error| EnrolError::NotReady(format!("no signing request can be made: {error}")))?;
    Ok(request.der().to_vec())
}

#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum; whatever else it says may be otherwise the next time
fn refused(status: tonic::Status) -> EnrolError {
    let text = status_text(&status);
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::Unimplemented => EnrolError::Refused(text),
        _ => EnrolError::Unreachable(text),
    }
}

/// The certificate is for the key that we hold.
fn check(enrolled: &Enrolled, pair: &KeyPair) -> Result<(), String> {
    let (_, pem) = parse_x509_pem(enrolled.certificate_pem.as_bytes()).map_err(|error| error.to_string())?;
    let (_, certificate) = parse_x509_certificate(&pem.contents).map_err(|error| error.to_string())?;
    if certificate.public_key().raw == pair.subject_public_key_info() {
        Ok(())
    } else {
        Err("the certificate is for another key".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrolment(token: &std::path::Path) -> Enrolment {
        Enrolment {
            controller: Controller {
                address: "127.0.0.1:1".to_owned(),
                name: None,
            },
            token: token.to_owned(),
        }
    }

    #[test]
    fn the_token_is_read_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let enrolment = enrolment(&path);
        let says = |says: &str| {
            let said = enrolment.token().unwrap_err().to_string();
            assert!(
                said.contains(says) && said.contains("audience sluice-controller"),
                "{said}"
            );
        };
        says("no such file");
        std::fs::write(&path, "\n").unwrap();
        says("it is empty");
        for token in ["one\n", "two"] {
            std::fs::write(&path, token).unwrap();
            assert_eq!(enrolment.token().unwrap().expose(), token.trim());
        }
        std::fs::write(&path, vec![b'a'; MAX_TOKEN_BYTES + 1]).unwrap();
        says("longer than");
    }

    #[test]
    fn what_asking_again_may_change_is_told_from_what_it_may_not() {
        assert!(matches!(
            refused(tonic::Status::permission_denied("no")),
            EnrolError::Refused(_)
        ));
        assert!(matches!(
            refused(tonic::Status::unimplemented("no")),
            EnrolError::Refused(_)
        ));
        assert!(matches!(
            refused(tonic::Status::unavailable("no")),
            EnrolError::Unreachable(_)
        ));
        assert!(matches!(
            refused(tonic::Status::resource_exhausted("no")),
            EnrolError::Unreachable(_)
        ));
    }
}
