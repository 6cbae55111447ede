//! What an operator allows clients to take, over real sockets: who keeps to it is served, who does not is refused by name, and
//! a change closes nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

// The world and the client serve other tests as well, which use more of them.
#[allow(dead_code)]
#[path = "http2/client.rs"]
mod client;
#[path = "limits/connections.rs"]
mod connections;
#[path = "limits/descriptors.rs"]
mod descriptors;
#[path = "limits/requests.rs"]
mod requests;
#[allow(dead_code)]
#[path = "proxy/world.rs"]
mod world;

use sluice_model::client_limits::{Bounded, ClientLimits};
use world::*;

/// A value that is known to be in range.
fn set<const USUAL: u64, const LEAST: u64, const MOST: u64>(value: u64) -> Bounded<USUAL, LEAST, MOST> {
    Bounded::new(value).unwrap()
}

/// Everything to one upstream, under these limits.
async fn setup(limits: ClientLimits) -> Setup {
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    setup.pool("all", &[echo().await]).route("/", "all", None)
}
