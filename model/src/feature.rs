//! Features: what an instance has to understand before it may be given a revision.
//!
//! Each part of the configuration that an older build could not know is a feature with a name. A manifest lists the
//! features that its revision uses, an instance lists those it knows, and one that is missing is named to people.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Something that a revision may use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Feature {
    /// Routes that ask clients for certificates.
    ClientCertificates,
    /// Limits of what a client may take, other than by default.
    ClientLimits,
    /// Timeouts of attempts and of silence.
    FineTimeouts,
    /// Routes whose pools are told of clients' certificates.
    ForwardedClientCertificates,
    /// Rules that change header fields.
    HeaderModifiers,
    /// Listeners that say otherwise than by default whether they speak HTTP/2.
    Http2Listeners,
    /// Named listeners on TCP ports.
    Listeners,
    /// Routes that ask for TLS.
    PlainHttp,
    /// Pools that say how many connections there may be to their endpoints, or how long they may rest and take to open.
    PoolConnections,
    /// Named pools.
    Pools,
    /// Listeners to which load balancers introduce clients by the PROXY protocol.
    ProxyProtocol,
    /// Rules that redirect.
    Redirects,
    /// Limits of requests' bodies, of rules and of a fleet.
    RequestBodyLimits,
    /// Rules that rewrite hosts and paths.
    Rewrites,
    /// Routes: hosts, matches, a pool, a request timeout.
    Routes,
    /// Rules that ask for client certificates where their route does not insist.
    RuleClientCertificates,
    /// Pools whose endpoints are those of a Service.
    ServicePools,
    /// Weighted endpoints written into a pool.
    StaticEndpoints,
    /// Listeners that speak TLS, and certificates of routes.
    TlsListeners,
    /// TLS listeners that refuse TLS 1.2.
    TlsMinVersion,
    /// Rules that let clients go over to other protocols.
    Upgrades,
    /// Pools that are spoken to in HTTP/2.
    UpstreamHttp2,
    /// Pools that are spoken to over TLS.
    UpstreamTls,
}

/// A feature that this build does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this build does not know the feature {0:?}; upgrade it before it is given a revision that uses it")]
pub struct UnknownFeature(pub String);

impl Feature {
    /// All that this build knows, in the order of their names.
    pub const ALL: [Self; 23] = [
        Self::ClientCertificates,
        Self::ClientLimits,
        Self::FineTimeouts,
        Self::ForwardedClientCertificates,
        Self::HeaderModifiers,
        Self::Http2Listeners,
        Self::Listeners,
        Self::PlainHttp,
        Self::PoolConnections,
        Self::Pools,
        Self::ProxyProtocol,
        Self::Redirects,
        Self::RequestBodyLimits,
        Self::Rewrites,
        Self::Routes,
        Self::RuleClientCertificates,
        Self::ServicePools,
        Self::StaticEndpoints,
        Self::TlsListeners,
        Self::TlsMinVersion,
        Self::Upgrades,
        Self::UpstreamHttp2,
        Self::UpstreamTls,
    ];

    /// Its name as it travels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientCertificates => "client-certificates/v1",
            Self::ClientLimits => "client-limits/v1",
            Self::FineTimeouts => "fine-timeouts/v1",
            Self::ForwardedClientCertificates => "forwarded-client-certificates/v1",
            Self::HeaderModifiers => "header-modifiers/v1",
            Self::Http2Listeners => "http2-listeners/v1",
            Self::Listeners => "listeners/v1",
            Self::PlainHttp => "plain-http/v1",
            Self::PoolConnections => "pool-connections/v1",
            Self::Pools => "pools/v1",
            Self::ProxyProtocol => "proxy-protocol/v1",
            Self::Redirects => "redirects/v1",
            Self::RequestBodyLimits => "request-body-limits/v1",
            Self::Rewrites => "rewrites/v1",
            Self::Routes => "routes/v1",
            Self::RuleClientCertificates => "rule-client-certificates/v1",
            Self::ServicePools => "service-pools/v1",
            Self::StaticEndpoints => "static-endpoints/v1",
            Self::TlsListeners => "tls-listeners/v1",
            Self::TlsMinVersion => "tls-min-version/v1",
            Self::Upgrades => "upgrades/v1",
            Self::UpstreamHttp2 => "upstream-http2/v1",
            Self::UpstreamTls => "upstream-tls/v1",
        }
    }
}

impl FromStr for Feature {
    type Err = UnknownFeature;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|feature| feature.as_str() == text)
            .ok_or_else(|| UnknownFeature(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Feature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_are_in_order() {
        for feature in Feature::ALL {
            assert_eq!(feature.to_string().parse(), Ok(feature));
        }
        assert!(Feature::ALL.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
        // A set of features is in this order, and the names of it travel as they come.
        assert!(Feature::ALL.is_sorted());
        assert!(
            "hedging/v1"
                .parse::<Feature>()
                .unwrap_err()
                .to_string()
                .contains("\"hedging/v1\"")
        );
    }
}
