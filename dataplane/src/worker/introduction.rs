//! The PROXY header of one connection from where a listener expects one: read within its bounds and its deadline, and not a
//! byte further, so that whatever comes next begins where it begins.

use std::net::IpAddr;
use std::time::Duration;

use sluice_model::limits::{PROXY_HEADER_MAX_BYTES, PROXY_HEADER_TIMEOUT_SECONDS};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::guard::rule::Rule;
use crate::proxy_protocol::{self, Introduces, Step};

const LIMIT: Duration = Duration::from_secs(PROXY_HEADER_TIMEOUT_SECONDS);

/// Why a connection is not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unserved {
    /// It ended before it said anything, as health checks of load balancers do.
    Silent,
    /// It broke this rule.
    Refused(Rule),
}

/// The address of the client that is introduced; `None`: it is the one that connected.
pub(super) async fn hear(stream: &mut TcpStream) -> Result<Option<IpAddr>, Unserved> {
    let introduces = tokio::time::timeout(LIMIT, header(stream)).await;
    Ok(match introduces.unwrap_or(Err(Unserved::Refused(Rule::ProxySlow)))? {
        Introduces::Client(address) => Some(address),
        Introduces::Itself => None,
    })
}

/// Looks at what has come before it takes it: what is not the header's stays in the socket.
async fn header(stream: &mut TcpStream) -> Result<Introduces, Unserved> {
    let mut sent = vec![0; PROXY_HEADER_MAX_BYTES];
    let mut taken = 0_usize;
    loop {
        let ended = match taken {
            0 => Unserved::Silent,
            _ => Unserved::Refused(Rule::ProxyCut),
        };
        let room = sent.get_mut(taken..).unwrap_or_default();
        let came = stream.peek(room).await.map_err(|_| ended)?;
        if came == 0 {
            return Err(ended);
        }
        let seen = taken.saturating_add(came);
        let step = proxy_protocol::read(sent.get(..seen).unwrap_or_default()).map_err(Unserved::Refused)?;
        let (until, introduces) = match step {
            Step::More => (seen, None),
            Step::Header { bytes, introduces } => (bytes, Some(introduces)),
        };
        let belongs = sent.get_mut(taken..until).unwrap_or_default();
        stream.read_exact(belongs).await.map_err(|_| ended)?;
        taken = until;
        if let Some(introduces) = introduces {
            return Ok(introduces);
        }
    }
}
