//! An address where nobody listens.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// Connections to it are refused, and the kernel gives its port to nobody else, until the socket is dropped.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}
