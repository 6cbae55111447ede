//! Conversions of what routes and rules ask of their clients, and of what pools are told of them.

use sluice_model::unit::{CertificatePart, ClientAuth, ClientAuthMode, RuleClientAuth};

use crate::canonical::{DecodeError, each, required, wrong};
use crate::identity::{certificate_from, certificate_to};
use crate::pb;

pub(crate) fn client_auth_to(auth: &ClientAuth) -> pb::ClientAuth {
    let ClientAuth { ca, mode, forwarded } = auth;
    let mode = match mode {
        ClientAuthMode::Required => pb::ClientAuthMode::Required,
        ClientAuthMode::Optional => pb::ClientAuthMode::Optional,
    };
    pb::ClientAuth {
        ca: Some(certificate_to(ca)),
        mode: mode.into(),
        forwarded: forwarded.iter().map(|part| part_to(*part).into()).collect(),
    }
}

pub(crate) fn client_auth_from(auth: pb::ClientAuth) -> Result<ClientAuth, DecodeError> {
    let pb::ClientAuth { ca, mode, forwarded } = auth;
    let mode = match pb::ClientAuthMode::try_from(mode) {
        Ok(pb::ClientAuthMode::Required) => ClientAuthMode::Required,
        Ok(pb::ClientAuthMode::Optional) => ClientAuthMode::Optional,
        Ok(pb::ClientAuthMode::Unspecified) | Err(_) => {
            return Err(wrong("mode", format!("{mode} is none of its values")));
        }
    };
    Ok(ClientAuth {
        ca: certificate_from(required("ca", ca)?)?,
        mode,
        // One that is there twice, or out of order, does not come out again as it came, and so is refused.
        forwarded: each("forwarded", forwarded, part_from)?.into_iter().collect(),
    })
}

fn part_to(part: CertificatePart) -> pb::CertificatePart {
    match part {
        CertificatePart::Hash => pb::CertificatePart::Hash,
        CertificatePart::Subject => pb::CertificatePart::Subject,
        CertificatePart::Uri => pb::CertificatePart::Uri,
        CertificatePart::Dns => pb::CertificatePart::Dns,
    }
}

fn part_from(part: i32) -> Result<CertificatePart, DecodeError> {
    match pb::CertificatePart::try_from(part) {
        Ok(pb::CertificatePart::Hash) => Ok(CertificatePart::Hash),
        Ok(pb::CertificatePart::Subject) => Ok(CertificatePart::Subject),
        Ok(pb::CertificatePart::Uri) => Ok(CertificatePart::Uri),
        Ok(pb::CertificatePart::Dns) => Ok(CertificatePart::Dns),
        Ok(pb::CertificatePart::Unspecified) | Err(_) => Err(wrong("", format!("{part} is none of its values"))),
    }
}

/// The default is not written.
pub(crate) fn rule_client_auth_to(auth: RuleClientAuth) -> Option<pb::RuleClientAuth> {
    match auth {
        RuleClientAuth::AsRoute => None,
        RuleClientAuth::Required => Some(pb::RuleClientAuth::Required),
    }
}

pub(crate) fn rule_client_auth_from(auth: Option<i32>) -> Result<RuleClientAuth, DecodeError> {
    let Some(auth) = auth else {
        return Ok(RuleClientAuth::AsRoute);
    };
    match pb::RuleClientAuth::try_from(auth) {
        Ok(pb::RuleClientAuth::Required) => Ok(RuleClientAuth::Required),
        Ok(pb::RuleClientAuth::Unspecified) | Err(_) => {
            Err(wrong("client_auth", format!("{auth} is none of its values")))
        }
    }
}
