//! Listening: each composition opens its ports here, and what cannot be listened on is said in one way.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// A port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({what}): {source}; choose another address, or stop what listens there")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// For what.
    pub what: &'static str,
    /// Why.
    pub source: io::Error,
}

/// Listens on `address`, for `what`. Port 0: any free one.
///
/// # Errors
/// Names the address.
pub async fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ListenError { address, what, source })
}
