//! The rules by which a request is refused before, or beside, being routed: a closed list that metrics
//! (`proxy_refused_requests_total{rule}`) and the access log (`refused_by`) name, and `docs/guards.md` explains.
//!
//! A rule says exactly what was wrong; its `Failure` is what the client is told and how it is counted.

use crate::proxy::failure::Failure;

/// Declares the enum once, with the name, the failure, the place and, where a client is answered, the words of every rule:
/// lists that cannot differ.
macro_rules! rules {
    ($($(#[doc = $doc:expr])+ $variant:ident = $name:literal => $failure:ident $($words:literal)?,)+) => {
        /// A rule that a request broke.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Rule {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Rule {
            /// All, in the order in which they are documented.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in logs and metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What a request that breaks it fails with.
            pub fn failure(self) -> Failure {
                match self {
                    $(Self::$variant => Failure::$failure,)+
                }
            }

            /// What is said to the client behind the message of its failure: what is wrong, or what would be right. `None` if
            /// a connection that breaks it is not answered.
            pub fn words(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => None$(.or(Some($words)))?,)+
                }
            }
        }
    };
}

rules! {
    /// More connections than an instance has room for (`limits.maxConnections`).
    Connections = "connections" => TooManyConnections,
    /// More connections of one client than it may have (`limits.maxConnectionsPerClient`).
    ConnectionsOfClient = "connections_of_client" => TooManyConnections,
    /// Not `method SP target SP version` (RFC 9112 §3).
    RequestLine = "request_line" => BadRequest "its first line has to be a method, a target and a version with one space between",
    /// A version that is not spoken here.
    Version = "version" => VersionNotSupported "1.1 and 2 are",
    /// A line that ends in LF alone (§2.2 allows to accept it; a proxy in front may not see a line end there).
    BareLf = "bare_lf" => BadRequest "a line ends in LF alone; each has to end in CR LF",
    /// A CR that does not end a line (§2.2).
    BareCr = "bare_cr" => BadRequest "there is a CR that ends no line",
    /// The connection ended within a head.
    HeadCut = "head_cut" => BadRequest "the connection ended within the header",
    /// A head took too long.
    HeadSlow = "head_slow" => ClientTimeout "its header is not complete",
    /// A head that is too large.
    HeadSize = "head_size" => HeadersTooLarge "all of them together",
    /// A field without colon, with whitespace before it, or whose name is no token (§5.1).
    FieldName = "field_name" => BadRequest "the name of a header field is not a token, or has space before its colon",
    /// A field value with a control character (RFC 9110 §5.5).
    FieldValue = "field_value" => BadRequest "the value of a header field has a control character",
    /// A field that goes on in the next line (§5.2).
    FieldFolded = "field_folded" => BadRequest "a header field goes on in the next line",
    /// A field that is too large.
    FieldSize = "field_size" => HeadersTooLarge "one of them alone",
    /// Too many fields.
    FieldCount = "field_count" => HeadersTooLarge "there are too many",
    /// A target with a byte that no URI has (§3.2).
    TargetByte = "target_byte" => BadRequest "its target has a byte that has to be percent-encoded",
    /// A target with a fragment, which no client sends and servers read differently.
    TargetFragment = "target_fragment" => BadRequest "its target has a fragment",
    /// A target in a form that its method does not have (§3.2).
    TargetForm = "target_form" => BadRequest "its target has a form that its method does not have",
    /// A target that is too long.
    TargetSize = "target_size" => UriTooLong,
    /// An absolute target for another scheme than the connection's (§3.2.2).
    Scheme = "scheme" => BadRequest "its target names another scheme than it came by",
    /// A path that servers read differently (`%00`, `\`, a broken `%`, `/..;/`, `..%2F`).
    Path = "path" => BadRequest "servers would read its path differently: it has a backslash, an escape that is broken or of NUL, or dots in disguise as in /..;/",
    /// No `Host` (§3.2).
    HostMissing = "host_missing" => BadRequest "there is no Host",
    /// More than one `Host`.
    HostRepeated = "host_repeated" => BadRequest "there are several Host fields",
    /// A host that is none, or has user information.
    HostInvalid = "host_invalid" => BadRequest "its host is not a name or an address with an optional port",
    /// `Host` and `:authority` name two hosts (RFC 9113 §8.3.1).
    HostDiffers = "host_differs" => BadRequest "Host and :authority differ",
    /// `Content-Length` is not a number (§6.2).
    Length = "length" => BadRequest "Content-Length is not a number",
    /// More than one `Content-Length`, equal or not.
    LengthRepeated = "length_repeated" => BadRequest "there are several Content-Length fields",
    /// `Content-Length` and `Transfer-Encoding` (§6.1).
    LengthAndCoding = "length_and_coding" => BadRequest "there are both Content-Length and Transfer-Encoding",
    /// Another `Transfer-Encoding` than one `chunked` (§6.1).
    Coding = "coding" => NotImplemented "the only Transfer-Encoding is one chunked",
    /// `Transfer-Encoding` in HTTP/1.0 (§6.1).
    CodingOld = "coding_old" => BadRequest "version 1.0 has no Transfer-Encoding",
    /// The size of a chunk is not a plain hexadecimal number (§7.1).
    ChunkSize = "chunk_size" => BadRequest "the size of a chunk is not a hexadecimal number",
    /// The extension of a chunk is malformed or long (§7.1.1).
    ChunkExtension = "chunk_extension" => BadRequest "the extension of a chunk is malformed or too long",
    /// A chunk's data is not followed by a line end (§7.1).
    ChunkEnd = "chunk_end" => BadRequest "the data of a chunk does not end in CR LF",
    /// Trailers that are too large.
    TrailerSize = "trailer_size" => HeadersTooLarge "those behind its body",
    /// A body that is larger than its rule (`maxRequestBody`) or its fleet (`limits.maxRequestBody`) allows.
    BodySize = "body_size" => RequestTooLarge,
    /// A body came too slowly.
    BodySlow = "body_slow" => ClientTimeout "its body is not complete",
    /// The client took too little of its response.
    ResponseSlow = "response_slow" => ClientClosed,
    /// `CONNECT` without `:protocol`, or `TRACE`.
    Method = "method" => MethodNotAllowed,
    /// HTTP/2: an extended `CONNECT` for a protocol that its rule does not allow, or with a length (RFC 8441 §4).
    ConnectProtocol = "connect_protocol" => NotImplemented,
    /// Another expectation than `100-continue` (RFC 9110 §10.1.1).
    Expectation = "expectation" => ExpectationFailed,
    /// `Max-Forwards` of an `OPTIONS` is not a number, or there are several (§7.6.2).
    MaxForwards = "max_forwards" => BadRequest "Max-Forwards is not one number",
    /// A connection from where the PROXY protocol is spoken that does not begin with its header.
    ProxyMissing = "proxy_missing" => BadRequest,
    /// A PROXY header of version 1 that is not as it should be.
    ProxyText = "proxy_text" => BadRequest,
    /// A PROXY header of version 2 that is not as it should be, or not of TCP.
    ProxyBinary = "proxy_binary" => BadRequest,
    /// A PROXY header that is too long.
    ProxySize = "proxy_size" => BadRequest,
    /// The connection ended within a PROXY header.
    ProxyCut = "proxy_cut" => BadRequest,
    /// A PROXY header took too long.
    ProxySlow = "proxy_slow" => ClientTimeout,
    /// HTTP/2: too many heads at once for one connection.
    HeadMemory = "head_memory" => HeadersTooLarge "those of all requests of this connection together",
    /// HTTP/2: not its connection preface (RFC 9113 §3.4).
    H2Preface = "h2_preface" => BadRequest,
    /// HTTP/2: a stream or a connection against the protocol (RFC 9113 §5.4).
    H2Protocol = "h2_protocol" => BadRequest,
    /// HTTP/2: more resets or fragments than the codec bears.
    H2Calm = "h2_calm" => BadRequest,
    /// HTTP/2: more `PING` than a connection needs.
    H2Pings = "h2_pings" => BadRequest,
    /// HTTP/2: more `SETTINGS` than a connection needs.
    H2Settings = "h2_settings" => BadRequest,
    /// HTTP/2: more `DATA` without data than a connection needs.
    H2EmptyData = "h2_empty_data" => BadRequest,
    /// HTTP/2: more `RST_STREAM` than a connection needs.
    H2Resets = "h2_resets" => BadRequest,
    /// HTTP/2: more `PRIORITY` than a connection needs.
    H2Priorities = "h2_priorities" => BadRequest,
    /// HTTP/2: more `WINDOW_UPDATE` than a connection needs.
    H2WindowUpdates = "h2_window_updates" => BadRequest,
    /// HTTP/2: more `CONTINUATION` than a connection needs.
    H2Continuations = "h2_continuations" => BadRequest,
    /// HTTP/2: more frames of unknown types than a connection needs.
    H2OtherFrames = "h2_other_frames" => BadRequest,
    /// HTTP/2: too many responses of one connection that nothing was taken of.
    H2Stalled = "h2_stalled" => ClientClosed,
}

impl Rule {
    /// Its place in `ALL`, for tables of counters.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Rule {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_the_order_of_the_table_of_counters() {
        for (place, rule) in Rule::ALL.iter().enumerate() {
            assert_eq!(rule.index(), place, "{rule:?}");
        }
    }

    #[test]
    fn the_list_and_its_document_agree() {
        let document = include_str!("../../../docs/guards.md");
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
        let rows: Vec<(String, String)> = rows
            .map(|row| {
                let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
                (cells.next().unwrap(), cells.next().unwrap())
            })
            .collect();
        let expected = Rule::ALL
            .iter()
            .map(|rule| (rule.as_str().to_owned(), rule.failure().category().to_owned()));
        assert_eq!(
            rows,
            expected.collect::<Vec<_>>(),
            "docs/guards.md lists exactly these, in this order"
        );
    }
}
