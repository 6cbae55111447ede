//! What endpoints are spoken to in: TLS, HTTP/2, and both, over real sockets and against a library's server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

// The world serves other tests as well, which use more of it.
#[allow(dead_code)]
#[path = "proxy/world.rs"]
mod world;

#[path = "upstream/grpc.rs"]
mod grpc;
#[path = "upstream/http2.rs"]
mod http2;
#[path = "upstream/server.rs"]
mod server;
#[path = "upstream/tls.rs"]
mod tls;
