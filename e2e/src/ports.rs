//! Free ports for processes under test.
//!
//! A port that the kernel handed out is given back before the process under test binds it, so that in theory another
//! process could take it in between; the kernel hands out ephemeral ports in no short cycle, which makes that rare
//! enough. Instances of one fleet share a port on purpose.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{LazyLock, Mutex};

/// Ports that this process has already given out: the kernel may offer one again as long as nobody binds it.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A loopback address that nobody listens on, never the same one twice within a process.
pub fn free() -> SocketAddr {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let address = listener.local_addr().expect("the address of a bound socket");
        if GIVEN
            .lock()
            .expect("nobody panics while holding it")
            .insert(address.port())
        {
            return address;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_port_is_given_out_twice() {
        let ports: std::collections::HashSet<u16> = (0..50).map(|_| super::free().port()).collect();
        assert_eq!(ports.len(), 50);
    }
}
