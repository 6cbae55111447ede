//! Free ports for processes under test.
//!
//! A socket that is bound and does not listen stays on each, so that the kernel gives it to no one else, whether to
//! listen or to connect from. Who is told the address may bind it beside that socket with `SO_REUSEADDR`, as servers do, or with
//! `SO_REUSEPORT`, as instances of one fleet do, which share a port on purpose.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// What keeps the ports that were given out, for as long as this process runs.
static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// A loopback address that nobody listens on, never the same one twice.
pub fn free() -> SocketAddr {
    let (socket, address) = hold().expect("a free loopback port");
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    address
}

fn hold() -> std::io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?;
    let address = address.as_socket().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn no_port_is_given_out_twice() {
        let ports: std::collections::HashSet<u16> = (0..50).map(|_| super::free().port()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn nobody_is_there_until_who_was_told_listens() {
        let address = super::free();
        for _ in 0..2 {
            let refused = TcpStream::connect(address).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(address).unwrap();
            TcpStream::connect(address).unwrap();
            drop(listener);
        }
    }
}
