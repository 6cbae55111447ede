//! How a handshake fails: a closed list, by which failures are counted (`proxy_tls_handshake_failures_total{reason}`).

use std::io;

use rustls::Error;

/// Why a handshake failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeFailure {
    /// The client speaks HTTP in the clear.
    PlainHttp,
    /// No certificate for the host that the client asked for, and no default.
    UnknownName,
    /// No version, cipher, signature or protocol that both sides know.
    Incompatible,
    /// The client refuses what it was shown, most often the certificate.
    RefusedByClient,
    /// The client went away.
    ClientClosed,
    /// The client's own certificate is not to be believed, or not in its time.
    ClientCertificate,
    /// What came is not TLS.
    Malformed,
    /// It took too long.
    Slow,
    /// A bug, or a lack of randomness.
    Internal,
}

impl HandshakeFailure {
    /// All, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::PlainHttp,
        Self::UnknownName,
        Self::Incompatible,
        Self::RefusedByClient,
        Self::ClientClosed,
        Self::ClientCertificate,
        Self::Malformed,
        Self::Slow,
        Self::Internal,
    ];

    /// As metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::UnknownName => "unknown_name",
            Self::Incompatible => "incompatible",
            Self::RefusedByClient => "refused_by_client",
            Self::ClientClosed => "client_closed",
            Self::ClientCertificate => "client_certificate",
            Self::Malformed => "malformed",
            Self::Slow => "slow",
            Self::Internal => "internal",
        }
    }

    /// Its place in `ALL`, for tables of counters.
    pub fn index(self) -> usize {
        self as usize
    }

    /// What an error of the TLS stream means. What the library says is inside of an I/O error.
    #[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows: what is left is not the client's doing
    pub fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            None => Self::ClientClosed,
            Some(Error::AlertReceived(_)) => Self::RefusedByClient,
            Some(Error::InvalidCertificate(_)) => Self::ClientCertificate,
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Self::Incompatible,
            Some(
                Error::InvalidMessage(_)
                | Error::InappropriateMessage { .. }
                | Error::InappropriateHandshakeMessage { .. }
                | Error::PeerMisbehaved(_)
                | Error::DecryptError
                | Error::PeerSentOversizedRecord,
            ) => Self::Malformed,
            Some(_) => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

    #[test]
    fn places_agree_and_names_differ() {
        let names: std::collections::BTreeSet<_> = HandshakeFailure::ALL.iter().map(|f| f.as_str()).collect();
        assert_eq!(names.len(), HandshakeFailure::ALL.len());
        for (place, failure) in HandshakeFailure::ALL.into_iter().enumerate() {
            assert_eq!(failure.index(), place);
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let check = |error: Error, expected| {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(HandshakeFailure::of(&error), expected, "{error}");
        };
        check(
            Error::AlertReceived(AlertDescription::UnknownCA),
            HandshakeFailure::RefusedByClient,
        );
        check(
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            HandshakeFailure::Malformed,
        );
        let no_version = PeerIncompatible::Tls12NotOffered;
        check(Error::PeerIncompatible(no_version), HandshakeFailure::Incompatible);
        check(
            Error::InvalidCertificate(rustls::CertificateError::Expired),
            HandshakeFailure::ClientCertificate,
        );
        check(Error::FailedToGetRandomBytes, HandshakeFailure::Internal);
        let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(HandshakeFailure::of(&gone), HandshakeFailure::ClientClosed);
    }
}
