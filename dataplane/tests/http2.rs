//! HTTP/2 from clients, over real sockets: a library's client for what works, frames written by hand for what must not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

// The world serves other tests as well, which use more of it.
#[allow(dead_code)]
#[path = "proxy/world.rs"]
mod world;

#[path = "http2/attacks.rs"]
mod attacks;
#[path = "http2/client.rs"]
mod client;
#[path = "http2/desync.rs"]
mod desync;
// Chance, and two readers of HTTP/1.1, which the guard's properties use as well.
#[allow(dead_code)]
#[path = "../src/dice.rs"]
mod dice;
#[path = "../src/guard/readers.rs"]
mod readers;

#[path = "http2/drain.rs"]
mod drain;
#[path = "http2/exchange.rs"]
mod exchange;
#[path = "http2/fuzz.rs"]
mod fuzz;
#[path = "http2/h2spec.rs"]
mod h2spec;
#[path = "desync/recorder.rs"]
mod recorder;
#[path = "http2/sslyze.rs"]
mod sslyze;
#[path = "http2/tls.rs"]
mod tls;
