//! References to what configuration names but does not hold: a Service's endpoints, a certificate in a Secret. Their
//! values travel beside revisions, on the live lane, under a [`LiveSubject`].

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::names::{Name, NameError, PortName};

/// One port of a Service. Prints as `shop/api:http`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceRef {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// Which of its ports.
    pub port: ServicePort,
}

/// A port of a Service, as the reference names it: a number and a name are two references, even to one port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServicePort {
    /// By name.
    Named(PortName),
    /// By number; never 0, which `Snapshot::check` refuses.
    Number(u16),
}

/// A certificate with its key, in a Secret. Prints as `shop/shop-tls`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateRef {
    /// The Secret's namespace.
    pub namespace: Name,
    /// The Secret's name.
    pub name: Name,
}

/// What a value on the live lane is the value of. Prints as `Service shop/api:http`, `Certificate shop/shop-tls` or
/// `Authorities shop/shop-clients`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LiveSubject {
    /// The endpoints of a Service's port.
    Service(ServiceRef),
    /// A certificate.
    Certificate(CertificateRef),
    /// Those who sign clients' or endpoints' certificates, in a Secret too.
    Authorities(CertificateRef),
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not of the form.
    #[error("{0:?} is not of the form \"Service namespace/name:port\" or \"Certificate namespace/name\"")]
    Form(String),
    /// A name in it is not one.
    #[error(transparent)]
    Name(#[from] NameError),
}

const SERVICE: &str = "Service";
const CERTIFICATE: &str = "Certificate";
const AUTHORITIES: &str = "Authorities";

fn form(text: &str) -> ReferenceError {
    ReferenceError::Form(text.chars().take(80).collect())
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name.as_str()),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl FromStr for ServicePort {
    type Err = NameError;

    /// A number without sign or leading zeros, or a name, which has a letter.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse::<u16>() {
            Ok(number) if number > 0 && number.to_string() == text => Ok(Self::Number(number)),
            Ok(_) | Err(_) => text.parse().map(Self::Named),
        }
    }
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, port } = self;
        write!(f, "{namespace}/{name}:{port}")
    }
}

impl FromStr for ServiceRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (namespace, rest) = text.split_once('/').ok_or_else(|| form(text))?;
        let (name, port) = rest.split_once(':').ok_or_else(|| form(text))?;
        Ok(Self {
            namespace: namespace.parse()?,
            name: name.parse()?,
            port: port.parse()?,
        })
    }
}

impl fmt::Display for CertificateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name } = self;
        write!(f, "{namespace}/{name}")
    }
}

impl FromStr for CertificateRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| form(text))?;
        Ok(Self {
            namespace: namespace.parse()?,
            name: name.parse()?,
        })
    }
}

impl fmt::Display for LiveSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "{SERVICE} {service}"),
            Self::Certificate(certificate) => write!(f, "{CERTIFICATE} {certificate}"),
            Self::Authorities(secret) => write!(f, "{AUTHORITIES} {secret}"),
        }
    }
}

impl FromStr for LiveSubject {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.split_once(' ') {
            Some((SERVICE, rest)) => rest.parse().map(Self::Service),
            Some((CERTIFICATE, rest)) => rest.parse().map(Self::Certificate),
            Some((AUTHORITIES, rest)) => rest.parse().map(Self::Authorities),
            Some(_) | None => Err(form(text)),
        }
    }
}

/// Each prints, in debug output and JSON too, as people write it.
macro_rules! as_text {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

as_text!(ServicePort, ServiceRef, CertificateRef, LiveSubject);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_print_and_read_back() {
        for text in [
            "Service shop/api:http",
            "Authorities shop/clients",
            "Service shop/api.v2:8080",
            "Service a/b:8-http",
            "Certificate shop/shop-tls",
        ] {
            let subject: LiveSubject = text.parse().unwrap();
            assert_eq!(subject.to_string(), text);
        }
        assert_eq!("8080".parse(), Ok(ServicePort::Number(8080)));
    }

    #[test]
    fn there_is_one_way_to_write_each() {
        for bad in [
            "",
            "Service",
            "Service shop/api",
            "Service shop/api:",
            "Service shop/api:0",
            "Service shop/api:080",
            "Service shop/api:+80",
            "Service shop/api:65536",
            "Service shop/api:Http",
            "Service shop/api:a.b",
            "Service shop/api:http:x",
            "Certificate shop",
            "Certificate shop/a/b",
            "Secret shop/a",
            "service shop/api:80",
        ] {
            assert!(bad.parse::<LiveSubject>().is_err(), "{bad}");
        }
    }
}
