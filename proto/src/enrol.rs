//! Enrolment as checked types: what an instance proves about itself, and what it is given. Who may join is decided
//! by the controller; nothing in a request is believed but what the proof says.

use std::fmt;

use bytes::Bytes;
use sluice_model::InstanceId;
use sluice_model::limits::{
    MAX_ENROL_RESPONSE_BYTES, MAX_MESSAGE_TEXT_BYTES, MAX_SIGNING_REQUEST_BYTES, MAX_TOKEN_BYTES,
};
use zeroize::Zeroizing;

use crate::canonical::{DecodeError, wrong};
use crate::identity::text;
use crate::keys::KeySet;
use crate::pb;
use crate::signed::Audience;

/// A service-account token. Cannot be printed, and wipes itself when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// This text, without the white space around it; `None` if nothing is left, or too much.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.len() <= MAX_TOKEN_BYTES;
        fits.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token, for whoever has it reviewed.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// How an instance proves who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// By its pod's token: for its first certificate, or one after the last has ended.
    Token(Token),
    /// By the certificate of the connection, which is to be renewed.
    Certificate,
}

/// An instance asks for a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnrolRequest {
    /// Who it is.
    pub proof: Proof,
    /// PKCS#10, DER; not looked into here.
    pub signing_request: Bytes,
    /// Its build, for the log.
    pub build: String,
}

/// What it is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrolled {
    /// Whose orders it follows from now on.
    pub audience: Audience,
    /// What it is called.
    pub instance: InstanceId,
    /// PEM, its own certificate first.
    pub certificate_pem: String,
    /// PEM: every authority that vouches for controllers.
    pub ca_pem: String,
    /// The keys that may sign.
    pub trusted: KeySet,
    /// When to ask for the next certificate.
    pub renew_at_unix_seconds: u64,
}

impl From<&EnrolRequest> for pb::EnrolRequest {
    fn from(request: &EnrolRequest) -> Self {
        let EnrolRequest {
            proof,
            signing_request,
            build,
        } = request;
        Self {
            token: match proof {
                Proof::Token(token) => token.expose().to_owned(),
                Proof::Certificate => String::new(),
            },
            signing_request: signing_request.clone(),
            build: build.clone(),
        }
    }
}

impl TryFrom<pb::EnrolRequest> for EnrolRequest {
    type Error = DecodeError;

    fn try_from(proto: pb::EnrolRequest) -> Result<Self, DecodeError> {
        let pb::EnrolRequest {
            token,
            signing_request,
            build,
        } = proto;
        let token = Zeroizing::new(token);
        at_most("signing_request", signing_request.len(), MAX_SIGNING_REQUEST_BYTES)?;
        at_most("build", build.len(), MAX_MESSAGE_TEXT_BYTES)?;
        let proof = if token.is_empty() {
            Proof::Certificate
        } else {
            // Without the token in the error.
            Proof::Token(Token::new(&token).ok_or_else(|| wrong("token", "is blank or too long"))?)
        };
        Ok(Self {
            proof,
            signing_request,
            build,
        })
    }
}

impl From<&Enrolled> for pb::EnrolResponse {
    fn from(enrolled: &Enrolled) -> Self {
        let Enrolled {
            audience: Audience { cluster, fleet },
            instance,
            certificate_pem,
            ca_pem,
            trusted,
            renew_at_unix_seconds,
        } = enrolled;
        Self {
            cluster: cluster.to_string(),
            fleet: fleet.to_string(),
            instance: instance.to_string(),
            certificate_pem: certificate_pem.clone(),
            ca_pem: ca_pem.clone(),
            trusted_json: trusted.to_json(),
            renew_at_unix_seconds: *renew_at_unix_seconds,
        }
    }
}

impl TryFrom<pb::EnrolResponse> for Enrolled {
    type Error = DecodeError;

    fn try_from(proto: pb::EnrolResponse) -> Result<Self, DecodeError> {
        let pb::EnrolResponse {
            cluster,
            fleet,
            instance,
            certificate_pem,
            ca_pem,
            trusted_json,
            renew_at_unix_seconds,
        } = proto;
        let bytes = certificate_pem.len() + ca_pem.len() + trusted_json.len();
        at_most("certificates and keys", bytes, MAX_ENROL_RESPONSE_BYTES)?;
        Ok(Self {
            audience: Audience {
                cluster: text("cluster", &cluster)?,
                fleet: text("fleet", &fleet)?,
            },
            instance: text("instance", &instance)?,
            certificate_pem,
            ca_pem,
            trusted: KeySet::from_json(&trusted_json).map_err(|error| wrong("trusted_json", error))?,
            renew_at_unix_seconds,
        })
    }
}

fn at_most(field: &str, bytes: usize, max: usize) -> Result<(), DecodeError> {
    if bytes <= max {
        Ok(())
    } else {
        Err(wrong(field, format!("has {bytes} bytes, at most {max} are allowed")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Role, Signer};

    fn request(token: &str) -> pb::EnrolRequest {
        pb::EnrolRequest {
            token: token.to_owned(),
            signing_request: Bytes::from_static(b"request"),
            build: "0.1".to_owned(),
        }
    }

    #[test]
    fn what_is_asked_arrives() {
        for token in ["", "a-token"] {
            let asked = EnrolRequest::try_from(request(token)).unwrap();
            assert_eq!(asked.proof == Proof::Certificate, token.is_empty());
            assert_eq!(pb::EnrolRequest::from(&asked), request(token));
        }
    }

    #[test]
    fn what_is_given_arrives() {
        let given = Enrolled {
            audience: Audience {
                cluster: "c".parse().unwrap(),
                fleet: "edge".parse().unwrap(),
            },
            instance: "pod-1.0a1b2c3d".parse().unwrap(),
            certificate_pem: "certificate".to_owned(),
            ca_pem: "ca".to_owned(),
            trusted: KeySet::new([Signer::from_seed(&[1; 32], Role::Order).trusted()]).unwrap(),
            renew_at_unix_seconds: 1_800_000_000,
        };
        assert_eq!(Enrolled::try_from(pb::EnrolResponse::from(&given)).unwrap(), given);
        let mut damaged = pb::EnrolResponse::from(&given);
        damaged.trusted_json = "{}".to_owned();
        let error = Enrolled::try_from(damaged).unwrap_err().to_string();
        assert!(error.contains("trusted_json"), "{error}");
    }

    #[test]
    fn what_is_too_long_is_refused_without_saying_it() {
        let long = "t".repeat(MAX_TOKEN_BYTES + 1);
        for token in [long.as_str(), " \n "] {
            let error = EnrolRequest::try_from(request(token)).unwrap_err().to_string();
            assert!(error.contains("token") && !error.contains("ttt"), "{error}");
        }
        let mut large = request("");
        large.signing_request = vec![0; MAX_SIGNING_REQUEST_BYTES + 1].into();
        let error = EnrolRequest::try_from(large).unwrap_err().to_string();
        assert!(error.contains("signing_request"), "{error}");
    }

    #[test]
    fn a_token_cannot_be_printed() {
        let asked = EnrolRequest::try_from(request("secret")).unwrap();
        let printed = format!("{asked:?} {:?}", pb::EnrolRequest::from(&asked));
        assert!(printed.contains("redacted") && !printed.contains("secret"), "{printed}");
        assert_eq!(Token::new(" secret\n"), Token::new("secret"));
        assert_eq!(Token::new("\n"), None);
    }
}
