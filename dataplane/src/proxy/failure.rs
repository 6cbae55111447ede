//! Everything that can go wrong with a request, closed: which status it has, whose fault it is, whether the request
//! may be sent again. It labels metrics and logs and heads `docs/failures.md`; a test compares the two.

/// Why a request did not get the answer of its upstream, or not all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Its connection is one too many. It is closed before there is a request.
    TooManyConnections,
    /// The request is malformed; the connection is closed.
    BadRequest,
    /// Its target is too long.
    UriTooLong,
    /// Its head is too large.
    HeadersTooLarge,
    /// Its body is larger than its rule or its fleet allows.
    RequestTooLarge,
    /// CONNECT or TRACE.
    MethodNotAllowed,
    /// Its head or its body came too slowly.
    ClientTimeout,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// A transfer coding that is unknown, or a protocol that it cannot go over to.
    NotImplemented,
    /// A version of HTTP that is unknown.
    VersionNotSupported,
    /// It came by a TLS connection that was opened for another host.
    Misdirected,
    /// Its route wants a client certificate, and the client has shown none that its authorities have signed.
    ClientCertificateRequired,
    /// No rule takes it.
    NoRoute,
    /// It came in the clear, and its route wants TLS.
    TlsRequired,
    /// The redirect of its rule leads to where it came.
    RedirectLoop,
    /// Its pool has no endpoint with a weight.
    NoEndpoint,
    /// There is no verified revision yet.
    NotReady,
    /// This process has no file descriptor, port or memory left for a connection to an upstream.
    Exhausted,
    /// Every endpoint has as many connections as it may, and too many requests wait for one, or this one did for too long.
    Overloaded,
    /// The route's request timeout passed before all of the response was there.
    RequestTimeout,
    /// The upstream took longer than one try may, or than nothing may come.
    UpstreamTimeout,
    /// The upstream could not be reached.
    UpstreamConnectFailed,
    /// The upstream closed the connection before its response was complete.
    UpstreamReset,
    /// What the upstream sent is not HTTP.
    UpstreamProtocolError,
    /// The client went away.
    ClientClosed,
    /// A bug in Sluice.
    Internal,
}

/// Who has to mend it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// Whoever sent the request. Never counts against a revision or an upstream.
    Client,
    /// The upstream.
    Upstream,
    /// Sluice.
    Proxy,
    /// Whoever wrote the configuration.
    Operator,
}

/// Whether sending the request again can be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retryable {
    /// The same would happen again, or nobody waits for it any more.
    Never,
    /// It did not reach the upstream.
    Always,
    /// It may have been acted upon: only if sending it twice is the same as once (RFC 9110 §9.2.2).
    IfIdempotent,
}

impl Failure {
    /// Every failure, in the order in which they are documented.
    pub const ALL: [Self; 26] = [
        Self::TooManyConnections,
        Self::BadRequest,
        Self::UriTooLong,
        Self::HeadersTooLarge,
        Self::RequestTooLarge,
        Self::MethodNotAllowed,
        Self::ClientTimeout,
        Self::ExpectationFailed,
        Self::NotImplemented,
        Self::VersionNotSupported,
        Self::Misdirected,
        Self::ClientCertificateRequired,
        Self::NoRoute,
        Self::TlsRequired,
        Self::RedirectLoop,
        Self::NoEndpoint,
        Self::NotReady,
        Self::Exhausted,
        Self::Overloaded,
        Self::RequestTimeout,
        Self::UpstreamTimeout,
        Self::UpstreamConnectFailed,
        Self::UpstreamReset,
        Self::UpstreamProtocolError,
        Self::ClientClosed,
        Self::Internal,
    ];

    /// Its name in bodies, logs and metrics.
    pub fn category(self) -> &'static str {
        match self {
            Self::TooManyConnections => "too_many_connections",
            Self::BadRequest => "bad_request",
            Self::UriTooLong => "uri_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::RequestTooLarge => "request_too_large",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ClientTimeout => "client_timeout",
            Self::ExpectationFailed => "expectation_failed",
            Self::NotImplemented => "not_implemented",
            Self::VersionNotSupported => "version_not_supported",
            Self::Misdirected => "misdirected",
            Self::ClientCertificateRequired => "client_certificate_required",
            Self::NoRoute => "no_route",
            Self::TlsRequired => "tls_required",
            Self::RedirectLoop => "redirect_loop",
            Self::NoEndpoint => "no_endpoint",
            Self::NotReady => "not_ready",
            Self::Exhausted => "exhausted",
            Self::Overloaded => "overloaded",
            Self::RequestTimeout => "request_timeout",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamConnectFailed => "upstream_connect_failed",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamProtocolError => "upstream_protocol_error",
            Self::ClientClosed => "client_closed",
            Self::Internal => "internal",
        }
    }

    /// The status that the client gets; for `ClientClosed`, who gets none, what is logged.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::UriTooLong => 414,
            Self::HeadersTooLarge => 431,
            Self::RequestTooLarge => 413,
            Self::MethodNotAllowed => 405,
            Self::ClientTimeout => 408,
            Self::ExpectationFailed => 417,
            Self::NotImplemented => 501,
            Self::VersionNotSupported => 505,
            Self::Misdirected => 421,
            Self::ClientCertificateRequired => 403,
            Self::NoRoute => 404,
            Self::TlsRequired => 426,
            Self::RedirectLoop => 508,
            Self::TooManyConnections | Self::NoEndpoint | Self::NotReady | Self::Exhausted | Self::Overloaded => 503,
            Self::RequestTimeout | Self::UpstreamTimeout => 504,
            Self::UpstreamConnectFailed | Self::UpstreamReset | Self::UpstreamProtocolError => 502,
            Self::ClientClosed => 499,
            Self::Internal => 500,
        }
    }

    /// Whose fault it is.
    pub fn whose(self) -> Whose {
        match self {
            Self::TooManyConnections
            | Self::BadRequest
            | Self::UriTooLong
            | Self::HeadersTooLarge
            | Self::RequestTooLarge
            | Self::MethodNotAllowed
            | Self::ClientTimeout
            | Self::ExpectationFailed
            | Self::NotImplemented
            | Self::VersionNotSupported
            | Self::Misdirected
            | Self::ClientCertificateRequired
            | Self::NoRoute
            | Self::TlsRequired
            | Self::ClientClosed => Whose::Client,
            Self::RequestTimeout
            | Self::UpstreamTimeout
            | Self::UpstreamConnectFailed
            | Self::UpstreamReset
            | Self::UpstreamProtocolError => Whose::Upstream,
            Self::RedirectLoop | Self::NoEndpoint | Self::Overloaded => Whose::Operator,
            Self::NotReady | Self::Exhausted | Self::Internal => Whose::Proxy,
        }
    }

    /// Whether the request may be sent again.
    pub fn retryable(self) -> Retryable {
        match self {
            Self::UpstreamConnectFailed | Self::Exhausted => Retryable::Always,
            Self::UpstreamReset => Retryable::IfIdempotent,
            Self::TooManyConnections
            | Self::BadRequest
            | Self::UriTooLong
            | Self::HeadersTooLarge
            | Self::RequestTooLarge
            | Self::MethodNotAllowed
            | Self::ClientTimeout
            | Self::ExpectationFailed
            | Self::NotImplemented
            | Self::VersionNotSupported
            | Self::Misdirected
            | Self::ClientCertificateRequired
            | Self::NoRoute
            | Self::TlsRequired
            | Self::RedirectLoop
            | Self::NoEndpoint
            | Self::NotReady
            | Self::Overloaded
            | Self::RequestTimeout
            | Self::UpstreamTimeout
            | Self::UpstreamProtocolError
            | Self::ClientClosed
            | Self::Internal => Retryable::Never,
        }
    }

    /// What is said to the client: what happened, nothing about what is behind the proxy.
    pub fn message(self) -> &'static str {
        match self {
            Self::TooManyConnections => "there are too many connections",
            Self::BadRequest => "the request is malformed",
            Self::UriTooLong => "the request target is too long",
            Self::HeadersTooLarge => "the request header fields are too large",
            Self::RequestTooLarge => "the request body is too large",
            Self::MethodNotAllowed => "this method is not allowed here",
            Self::ClientTimeout => "the request came too slowly",
            Self::ExpectationFailed => "the only expectation that can be met is 100-continue",
            Self::NotImplemented => "this transfer coding or protocol is not implemented",
            Self::VersionNotSupported => "this version of HTTP is not supported",
            Self::Misdirected => "this connection was opened for another host; use one of its own",
            Self::ClientCertificateRequired => "this needs a client certificate that is trusted here, over TLS",
            Self::NoRoute => "no route takes this request",
            Self::TlsRequired => "this is served over TLS only; use https",
            Self::RedirectLoop => "the redirect that is configured leads back to this address",
            Self::NoEndpoint => "no endpoint is configured for this request",
            Self::NotReady => "no configuration is active yet",
            Self::Exhausted => "there is no room for another connection to an upstream; try again",
            Self::Overloaded => "too many requests wait for a connection to an upstream; try again",
            Self::RequestTimeout => "the upstream did not answer in time",
            Self::UpstreamTimeout => "the upstream was silent for too long",
            Self::UpstreamConnectFailed => "the upstream could not be reached",
            Self::UpstreamReset => "the upstream closed the connection before it answered",
            Self::UpstreamProtocolError => "the upstream's answer is not valid HTTP",
            Self::ClientClosed => "the client went away",
            Self::Internal => "an internal error; the log has more under this request id",
        }
    }

    /// Whether the connection ends with it: what follows a malformed request cannot be trusted to be one.
    pub fn ends_connection(self) -> bool {
        match self {
            Self::BadRequest
            | Self::HeadersTooLarge
            | Self::UriTooLong
            | Self::ClientTimeout
            | Self::NotImplemented
            | Self::VersionNotSupported
            | Self::TooManyConnections => true,
            Self::MethodNotAllowed
            | Self::RequestTooLarge
            | Self::ExpectationFailed
            | Self::Misdirected
            | Self::ClientCertificateRequired
            | Self::NoRoute
            | Self::TlsRequired
            | Self::RedirectLoop
            | Self::NoEndpoint
            | Self::NotReady
            | Self::Exhausted
            | Self::Overloaded
            | Self::RequestTimeout
            | Self::UpstreamTimeout
            | Self::UpstreamConnectFailed
            | Self::UpstreamReset
            | Self::UpstreamProtocolError
            | Self::ClientClosed
            | Self::Internal => false,
        }
    }

    /// Its place in `ALL`, for tables of counters.
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_complete_and_in_order() {
        for (place, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure.index(), place, "{failure:?}");
        }
    }

    #[test]
    fn the_list_and_its_document_agree() {
        let document = include_str!("../../../docs/failures.md");
        let rows: Vec<(String, String, String)> = document
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| {
                let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
                (cells[0].trim_matches('`').into(), cells[1].into(), cells[2].into())
            })
            .collect();
        let expected: Vec<_> = Failure::ALL
            .into_iter()
            .map(|f| {
                let whose = format!("{:?}", f.whose()).to_lowercase();
                (f.category().to_owned(), f.status().to_string(), whose)
            })
            .collect();
        assert_eq!(rows, expected, "docs/failures.md lists exactly these, in this order");
    }
}
