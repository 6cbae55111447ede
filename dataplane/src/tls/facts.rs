//! What a connection remembers of its handshake: for the access log, and to tell a request that came to the wrong
//! connection.

use std::sync::Arc;

use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use super::certificate::Certificate;
use super::clients::Shown;

/// A version of TLS that is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

impl Version {
    /// All, in the order of their counters.
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    /// As logs and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// Whether the session is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Session {
    /// The certificate was shown and its key used.
    Fresh,
    /// It goes on from an earlier connection.
    Resumed,
}

/// What a finished handshake leaves behind.
#[derive(Debug)]
pub struct Facts {
    /// The host that the client asked for, in lower case.
    pub name: Option<Box<str>>,
    /// What is spoken.
    pub version: Version,
    /// The cipher suite, as the IANA registry writes it.
    pub cipher: &'static str,
    /// Whether the session is new.
    pub session: Session,
    /// The certificate that the client has shown, if it has.
    pub client: Option<Shown>,
    certificate: Arc<Certificate>,
}

impl Facts {
    /// Of a handshake that is complete.
    pub fn of(connection: &ServerConnection, name: Option<Box<str>>, certificate: Arc<Certificate>) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            Some(_) | None => Version::Tls13,
        };
        let suite = connection.negotiated_cipher_suite();
        let session = match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => Session::Resumed,
            Some(_) | None => Session::Fresh,
        };
        Self {
            name,
            version,
            cipher: suite.and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
            session,
            client: Shown::of(connection),
            certificate,
        }
    }

    /// Whether it was opened for `host`: only then was its client asked what that host asks.
    pub fn is_for(&self, host: &str) -> bool {
        self.name.as_deref() == Some(host)
    }

    /// Whether a request for `host` may come by this connection: it is the host of the handshake, or the certificate
    /// that was shown names it too. Else the request is misdirected (RFC 9110 §15.5.20). A client that named no host in
    /// its handshake contradicts nothing.
    pub fn takes(&self, host: &str) -> bool {
        match &self.name {
            Some(name) => **name == *host || self.certificate.covers(host),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::issued;
    use super::*;

    #[test]
    fn a_request_for_a_host_that_was_not_vouched_for_is_misdirected() {
        let certificate = Arc::new(issued(&["a.test", "*.b.test"], &rcgen::PKCS_ECDSA_P256_SHA256));
        let facts = |name: Option<&str>| Facts {
            name: name.map(Into::into),
            version: Version::Tls13,
            cipher: "unknown",
            session: Session::Fresh,
            client: None,
            certificate: certificate.clone(),
        };
        for host in ["a.test", "x.b.test", "default.test"] {
            assert!(facts(Some("default.test")).takes(host), "{host}");
        }
        assert!(!facts(Some("a.test")).takes("default.test"));
        assert!(!facts(Some("a.test")).takes(""));
        assert!(facts(None).takes("default.test"));
    }
}
