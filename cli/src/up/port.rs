//! Whether an address is free, before anything is started on it.
//!
//! Instances share the HTTP address (SO_REUSEPORT), so their own binding would succeed beside somebody else's that also
//! shares. A plain bind does not.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::failure::Failure;

/// How another address is chosen.
#[derive(Clone, Copy, Debug)]
pub enum Mend<'a> {
    /// With this flag.
    Flag(&'a str),
    /// By another port of the listener with this name.
    Listener(&'a str),
}

impl fmt::Display for Mend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "choose another with {flag} ADDR"),
            Self::Listener(name) => write!(
                f,
                "give the listener {name} of the Rollout another port (spec.dataPlane.listeners)"
            ),
        }
    }
}

/// Proves that nobody listens on `address`.
///
/// # Errors
/// When somebody does, or it is not ours to listen on; says how to `mend` it.
pub fn must_be_free(address: SocketAddr, mend: &Mend<'_>) -> Result<(), Failure> {
    TcpListener::bind(address).map(drop).map_err(|error| {
        let port = address.port();
        let kind = error.kind();
        let what = if kind == std::io::ErrorKind::AddrInUse {
            format!("{address} is in use; stop what listens there (`ss -ltnp 'sport = :{port}'`), or {mend}")
        } else if kind == std::io::ErrorKind::PermissionDenied {
            format!("{address}: {error}; ports below 1024 need a privilege: {mend}")
        } else {
            format!("{address}: {error}; {mend}")
        };
        Failure::failed(what)
    })
}

/// A free loopback port: the one after the last given out, if it is free, else any.
///
/// # Errors
/// When the system has none.
pub fn near(wanted: SocketAddr) -> Result<SocketAddr, Failure> {
    if wanted.port() != 0 && TcpListener::bind(wanted).is_ok() {
        return Ok(wanted);
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| Failure::failed(format!("no free port on 127.0.0.1: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_said_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        for (mend, says) in [
            (Mend::Flag("--http"), "--http ADDR"),
            (Mend::Listener("extra"), "listener extra"),
        ] {
            let message = must_be_free(address, &mend).unwrap_err().to_string();
            assert!(message.contains("is in use") && message.contains(says), "{message}");
        }
        assert_ne!(near(address).unwrap(), address);
    }
}
