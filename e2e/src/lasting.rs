//! Clients that keep what they have while instances come and go: calls of gRPC in streams, and WebSockets. Nothing of theirs may
//! fail; a tunnel may end while an instance does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::calls::{Caller, Kind, Seen, was_not_taken};

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What goes on while clients ask.
#[derive(Debug, Default)]
pub struct Progress {
    /// They are to end.
    pub done: AtomicBool,
    /// Whether an instance is ending: tunnels may be cut.
    pub ending: AtomicBool,
    /// Requests of HTTP that were answered.
    pub answered: AtomicU64,
    /// Calls that ended as they have to.
    pub calls: AtomicU64,
    /// Messages that came back over tunnels.
    pub messages: AtomicU64,
    /// Tunnels that were cut, and opened again.
    pub cut: AtomicU64,
    /// Requests that a connection which was closing did not take.
    pub unsent: AtomicU64,
}

impl Progress {
    /// Whether they are to go on.
    pub fn goes_on(&self) -> bool {
        !self.done.load(Ordering::Relaxed)
    }

    /// All that was answered, in whatever way.
    pub fn all(&self) -> u64 {
        let all = [&self.answered, &self.calls, &self.messages];
        all.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Streams in both directions over a channel of the gRPC library, which opens its connections itself; `pause` between two.
///
/// That library hands a call to a connection that has just closed, and does not hand it to the next one then, as those of gRPC
/// themselves do ("transparent retry"). So it is made again here, if no upstream has seen it.
///
/// # Errors
/// A call that ended otherwise than it has to.
pub async fn calls(
    world: Arc<Progress>,
    caller: Caller,
    seen: Arc<Seen>,
    first: u64,
    pause: Duration,
) -> anyhow::Result<()> {
    let mut call = first;
    while world.goes_on() {
        call += 1;
        match caller.call(call, Kind::Both).await {
            Ok(()) => _ = world.calls.fetch_add(1, Ordering::Relaxed),
            Err(status) if was_not_taken(&status) && seen.of(call).0 == 0 => {
                world.unsent.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => return Err(status).with_context(|| format!("call {call}, seen: {:?}", seen.of(call))),
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Talks over a WebSocket to somebody who says the same again, and opens another when an instance that ends has closed it;
/// `pause` between two messages.
///
/// # Errors
/// A tunnel that ended while no instance did, or said something else.
pub async fn talks(world: Arc<Progress>, address: SocketAddr, uri: String, pause: Duration) -> anyhow::Result<()> {
    while world.goes_on() {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let opening = tokio::time::timeout(PATIENCE, client_async(&uri, stream)).await;
        let (mut socket, _) = opening
            .context("no WebSocket in time")?
            .context("opening a WebSocket")?;
        let mut number = 0_u32;
        while world.goes_on() {
            number += 1;
            let message = Message::Binary(Bytes::copy_from_slice(&number.to_be_bytes()));
            // A tunnel that has ended says so when it is read.
            let _ = socket.send(message.clone()).await;
            match tokio::time::timeout(PATIENCE, socket.next()).await.context("no echo")? {
                Some(Ok(came)) => {
                    ensure!(came == message, "another message");
                    world.messages.fetch_add(1, Ordering::Relaxed);
                }
                None | Some(Err(_)) if world.ending.load(Ordering::Relaxed) => {
                    world.cut.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                other => bail!("a tunnel ended while no instance did: {other:?}"),
            }
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}
