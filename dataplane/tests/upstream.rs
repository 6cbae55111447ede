//! What endpoints are spoken to in: TLS, HTTP/2, and both, over real sockets and against a library's server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

// The world and the client serve other tests as well, which use more of them.
#[allow(dead_code)]
#[path = "http2/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "proxy/world.rs"]
mod world;

#[path = "upstream/gates.rs"]
mod gates;
#[path = "upstream/grpc.rs"]
mod grpc;
#[path = "upstream/http2.rs"]
mod http2;
#[path = "upstream/interim.rs"]
mod interim;
#[path = "upstream/lost.rs"]
mod lost;
#[path = "upstream/quota.rs"]
mod quota;
#[path = "upstream/server.rs"]
mod server;
#[path = "upstream/streams.rs"]
mod streams;
#[path = "upstream/tls.rs"]
mod tls;
