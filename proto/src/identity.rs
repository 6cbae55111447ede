//! Conversions of keys, digests, revision ids and references.

use bytes::Bytes;
use sluice_model::{CertificateRef, Digest, Kind, Name, ObjectKey, RevisionId, ServicePort, ServiceRef};

use crate::canonical::{DecodeError, required, wrong};
use crate::pb;

/// A name or another text that is checked by its type.
pub(crate) fn text<T: std::str::FromStr<Err: ToString>>(field: &str, text: &str) -> Result<T, DecodeError> {
    text.parse().map_err(|error: T::Err| wrong(field, error))
}

pub(crate) fn digest_to(digest: &Digest) -> Bytes {
    let Digest(bytes) = digest;
    Bytes::copy_from_slice(bytes)
}

pub(crate) fn digest_from(field: &str, bytes: &Bytes) -> Result<Digest, DecodeError> {
    Digest::from_bytes(bytes).map_err(|error| wrong(field, error))
}

pub(crate) fn key_to(key: &ObjectKey) -> pb::ObjectKey {
    let ObjectKey { kind, namespace, name } = key;
    let kind = match kind {
        Kind::ProxyRoute => pb::Kind::ProxyRoute,
        Kind::Pool => pb::Kind::Pool,
        Kind::Rollout => pb::Kind::Rollout,
    };
    pb::ObjectKey {
        kind: kind.into(),
        namespace: namespace.to_string(),
        name: name.to_string(),
    }
}

pub(crate) fn key_from(key: pb::ObjectKey) -> Result<ObjectKey, DecodeError> {
    let pb::ObjectKey { kind, namespace, name } = key;
    let kind = match pb::Kind::try_from(kind) {
        Ok(pb::Kind::ProxyRoute) => Kind::ProxyRoute,
        Ok(pb::Kind::Pool) => Kind::Pool,
        Ok(pb::Kind::Rollout) => Kind::Rollout,
        Ok(pb::Kind::Unspecified) | Err(_) => return Err(wrong("kind", format!("unknown kind {kind}"))),
    };
    let namespace: Name = text("namespace", &namespace)?;
    Ok(ObjectKey::new(kind, namespace, text("name", &name)?))
}

/// A key that has to be there.
pub(crate) fn key_in(field: &str, key: Option<pb::ObjectKey>) -> Result<ObjectKey, DecodeError> {
    key_from(required(field, key)?).map_err(|error| error.within(field))
}

pub(crate) fn revision_to(revision: &RevisionId) -> pb::RevisionId {
    let RevisionId { number, digest } = revision;
    pb::RevisionId {
        number: *number,
        digest: digest_to(digest),
    }
}

pub(crate) fn revision_from(field: &str, revision: pb::RevisionId) -> Result<RevisionId, DecodeError> {
    let pb::RevisionId { number, digest } = revision;
    if number == 0 {
        return Err(wrong("number", "the first revision is number 1").within(field));
    }
    let digest = digest_from("digest", &digest).map_err(|error| error.within(field))?;
    Ok(RevisionId { number, digest })
}

/// A revision that has to be there.
pub(crate) fn revision_in(field: &str, revision: Option<pb::RevisionId>) -> Result<RevisionId, DecodeError> {
    revision_from(field, required(field, revision)?)
}

/// A revision that may be missing.
pub(crate) fn revision_maybe(field: &str, revision: Option<pb::RevisionId>) -> Result<Option<RevisionId>, DecodeError> {
    revision.map(|revision| revision_from(field, revision)).transpose()
}

pub(crate) fn service_to(service: &ServiceRef) -> pb::ServiceRef {
    use pb::service_ref::Port;
    let ServiceRef { namespace, name, port } = service;
    let port = match port {
        ServicePort::Named(name) => Port::PortName(name.to_string()),
        ServicePort::Number(number) => Port::PortNumber(u32::from(*number)),
    };
    pb::ServiceRef {
        namespace: namespace.to_string(),
        name: name.to_string(),
        port: Some(port),
    }
}

pub(crate) fn service_from(service: pb::ServiceRef) -> Result<ServiceRef, DecodeError> {
    use pb::service_ref::Port;
    let pb::ServiceRef { namespace, name, port } = service;
    let port = match required("port", port)? {
        Port::PortName(name) => ServicePort::Named(text("port_name", &name)?),
        Port::PortNumber(number) => match u16::try_from(number) {
            Ok(number) if number > 0 => ServicePort::Number(number),
            Ok(_) | Err(_) => return Err(wrong("port_number", format!("{number} is no port"))),
        },
    };
    Ok(ServiceRef {
        namespace: text("namespace", &namespace)?,
        name: text("name", &name)?,
        port,
    })
}

pub(crate) fn certificate_to(certificate: &CertificateRef) -> pb::CertificateRef {
    let CertificateRef { namespace, name } = certificate;
    pb::CertificateRef {
        namespace: namespace.to_string(),
        name: name.to_string(),
    }
}

pub(crate) fn certificate_from(certificate: pb::CertificateRef) -> Result<CertificateRef, DecodeError> {
    let pb::CertificateRef { namespace, name } = certificate;
    Ok(CertificateRef {
        namespace: text("namespace", &namespace)?,
        name: text("name", &name)?,
    })
}
