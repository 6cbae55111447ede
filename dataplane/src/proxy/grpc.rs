//! gRPC: which requests are calls of it, which status a call gets that fails here, and which statuses are failures of the
//! upstream. Its clients look at `grpc-status` and take any HTTP status but 200 for a broken server.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, and `statuscodes.md` beside it.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::failure::Failure;

/// How a call ended.
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The same in words; ours need no percent-encoding.
pub(super) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The `content-type` of a call; `None`: a request with these fields is none.
pub(super) fn call(headers: &HeaderMap) -> Option<&HeaderValue> {
    let kind = headers.get(CONTENT_TYPE)?;
    // Of `application/grpc-web` the clients are browsers, which see no trailers.
    let rest = kind.as_bytes().strip_prefix(b"application/grpc")?;
    matches!(rest.first(), None | Some(b'+' | b';')).then_some(kind)
}

/// A status of gRPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status(pub(super) u16);

const CANCELLED: Status = Status(1);
const DEADLINE_EXCEEDED: Status = Status(4);
const PERMISSION_DENIED: Status = Status(7);
const RESOURCE_EXHAUSTED: Status = Status(8);
const FAILED_PRECONDITION: Status = Status(9);
const UNIMPLEMENTED: Status = Status(12);
const INTERNAL: Status = Status(13);
const UNAVAILABLE: Status = Status(14);

impl Status {
    /// Of a call that failed here.
    pub(super) fn of(failure: Failure) -> Self {
        match failure {
            Failure::BadRequest | Failure::UpstreamProtocolError | Failure::Internal => INTERNAL,
            Failure::UriTooLong | Failure::HeadersTooLarge | Failure::RequestTooLarge => RESOURCE_EXHAUSTED,
            Failure::MethodNotAllowed | Failure::NotImplemented | Failure::VersionNotSupported | Failure::NoRoute => {
                UNIMPLEMENTED
            }
            Failure::ClientTimeout | Failure::RequestTimeout | Failure::UpstreamTimeout => DEADLINE_EXCEEDED,
            Failure::ClientCertificateRequired => PERMISSION_DENIED,
            Failure::ExpectationFailed | Failure::TlsRequired => FAILED_PRECONDITION,
            Failure::TooManyConnections
            | Failure::Misdirected
            | Failure::RedirectLoop
            | Failure::NoEndpoint
            | Failure::NotReady
            | Failure::Exhausted
            | Failure::Overloaded
            | Failure::UpstreamConnectFailed
            | Failure::UpstreamReset => UNAVAILABLE,
            Failure::ClientClosed => CANCELLED,
        }
    }

    /// As a head without a body, or trailers, say it.
    pub(super) fn in_fields(fields: &HeaderMap) -> Option<Self> {
        let text = fields.get(GRPC_STATUS)?.to_str().ok()?;
        text.parse().ok().map(Self)
    }

    /// Whether it is the upstream's failure: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS. The others
    /// may be answers to what was asked.
    pub(super) fn is_failure(self) -> bool {
        matches!(self.0, 2 | 4 | 13 | 14 | 15)
    }
}

/// The trailers of a call whose upstream broke off after its head.
pub(super) fn broken_off(status: Status) -> HeaderMap {
    let message = HeaderValue::from_static("the upstream broke off in the middle of its answer");
    HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from(status.0)), (GRPC_MESSAGE, message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_their_document_agree() {
        let document = include_str!("../../../docs/failures.md");
        let rows = document.lines().filter(|line| line.starts_with("| `"));
        let told: Vec<u16> = rows
            .map(|row| {
                row.split('|')
                    .nth(4)
                    .unwrap()
                    .trim()
                    .split(' ')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        let ours: Vec<u16> = Failure::ALL.into_iter().map(|failure| Status::of(failure).0).collect();
        assert_eq!(told, ours, "docs/failures.md says which, in its fourth column");
    }

    #[test]
    fn calls_are_told_from_other_requests() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web+proto", false),
            ("application/grpcfoo", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            let call = call(&headers).map(HeaderValue::as_bytes);
            assert_eq!(call, expected.then_some(kind.as_bytes()), "{kind}");
        }
        assert_eq!(call(&HeaderMap::new()), None);
    }
}
