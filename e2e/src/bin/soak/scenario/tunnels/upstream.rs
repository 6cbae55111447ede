//! The other end of tunnels: somebody else's WebSocket library, or the bare connection behind its handshake. What it does
//! stands in the path.

use std::io;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use crate::pattern;

/// What a flood has.
pub(super) const FLOOD_BYTES: usize = 32 << 20;

/// A server that runs until the runtime ends.
pub(crate) struct Upstream {
    pub(super) address: SocketAddr,
    hear: watch::Sender<bool>,
}

impl Upstream {
    /// Listens on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (hear, hears) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let hear = hears.clone();
                // How a tunnel ends is seen at its other end.
                tokio::spawn(async move { serve(socket, hear).await });
            }
        });
        Self { address, hear }
    }

    /// Lets those hear that have been deaf until then.
    pub(super) fn hear(&self) {
        self.hear.send_replace(true);
    }
}

async fn serve(socket: TcpStream, mut hear: watch::Receiver<bool>) -> io::Result<()> {
    let mut path = String::new();
    // The library says what its callback returns.
    #[allow(clippy::result_large_err)]
    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(socket, note).await else {
        return Ok(());
    };
    match path.as_str() {
        "/ws/echo" => echo(socket).await,
        "/ws/digest" => digest(socket.get_mut()).await,
        "/ws/deaf" => {
            // It hears, or the scenario is over.
            let _ = hear.wait_for(|hears| *hears).await;
            digest(socket.get_mut()).await
        }
        _ => {
            // Speaks first, ends its direction, and says nothing of what it hears.
            let stream = socket.get_mut();
            for piece in pattern::pieces(0, FLOOD_BYTES) {
                stream.write_all(&piece).await?;
            }
            stream.shutdown().await?;
            let mut scrap = Vec::new();
            stream.read_to_end(&mut scrap).await.map(|_| ())
        }
    }
}

/// Sends every message back; pings and ends are the library's.
async fn echo(mut socket: WebSocketStream<TcpStream>) -> io::Result<()> {
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_binary() || message.is_text()) && socket.send(message).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Hears until the other side has ended its direction, and says what that was.
async fn digest(stream: &mut TcpStream) -> io::Result<()> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut some = vec![0; 64 << 10];
    loop {
        match stream.read(&mut some).await? {
            0 => break,
            read => {
                hash.update(&some[..read]);
                length += read;
            }
        }
    }
    let said = format!("{length} {}", pattern::hex(hash));
    stream.write_all(said.as_bytes()).await?;
    stream.shutdown().await
}
