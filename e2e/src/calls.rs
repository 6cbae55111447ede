//! Calls of gRPC of every kind: a service that notes which came and over which connection, endpoints of it that can be broken
//! on purpose, and callers who know how each call has to end.

mod client;
mod service;
mod upstream;

pub use client::{Caller, Kind, was_not_taken};
pub use service::Seen;
pub use upstream::{Fault, Upstream};
