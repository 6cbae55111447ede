//! WebSocket through the data plane, with somebody else's library at both ends: every frame as it was sent, a gigabyte byte for
//! byte, peers that do not read, and directions that end one after the other.

mod frames;
mod upstream;

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use sha2::{Digest, Sha256};
use sluice_e2e::{manifests, usage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use self::upstream::FLOOD_BYTES;
pub(crate) use self::upstream::Upstream;
use crate::edge::{Edge, HOST, PATIENCE};
use crate::front::{self, Front};
use crate::options::Form;
use crate::pattern;

/// A socket over either transport.
type Socket = WebSocketStream<Box<dyn Transport>>;

/// What frames travel over.
trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// In one direction and back.
const MESSAGE_BYTES: usize = 256 << 10;
/// Nothing was taken for so long: the tunnel is full.
const FULL_AFTER: Duration = Duration::from_millis(500);
/// More than fits into all buffers of the system on the way.
const DEAF_BYTES: usize = 256 << 20;
/// What the data plane may hold for a tunnel that stands still; the promise is 1 MiB.
const STALLED_MAX_BYTES: u64 = 128 << 10;
/// What a tunnel at full speed may make memory grow by.
const VOLUME_MAX_BYTES: u64 = 8 << 20;

pub(crate) async fn run(form: Form) -> anyhow::Result<String> {
    let volume = form.pick(64 << 20, 1_000_000_000);
    let stalled = form.pick(60, 200);
    let upstream = Upstream::start().await;
    let edge = Edge::start_with(&objects(&upstream)).await;
    // First, while memory shows what is taken: what was let go later is taken again unseen.
    let deaf = deaf_upstreams(&edge, &upstream, stalled)
        .await
        .context("deaf upstreams")?;
    let blind = deaf_clients(&edge, stalled).await.context("deaf clients")?;
    let mut cases = 0;
    for front in [Front::Http1, Front::Http1Tls] {
        cases += frames::check(&edge, front)
            .await
            .with_context(|| format!("frames over {front:?}"))?;
    }
    half_closed(&edge).await.context("half-closed")?;
    let growth = through(&edge, volume).await.context("volume")?;
    edge.metric_is("proxy_tunnels", &[], 0.0).await;
    Ok(format!(
        "{cases} cases of frames; {} MB there and back identical, memory +{:.1} MiB; {stalled} tunnels at a standstill: {} KiB each if upstreams do not read, {} KiB if clients do not; each direction ends by itself",
        volume / 1_000_000,
        growth as f64 / f64::from(1 << 20),
        deaf >> 10,
        blind >> 10,
    ))
}

/// The pool and the route of the upstream.
pub(crate) fn objects(upstream: &Upstream) -> [String; 2] {
    let pool = manifests::pool("chat", &[upstream.address]);
    let rules = manifests::rules("chat", HOST, &[("/ws", "chat")]);
    [
        pool,
        rules.replace("pool: chat\n", "pool: chat\n      upgrades: [websocket]\n"),
    ]
}

async fn within<F: Future>(future: F) -> anyhow::Result<F::Output> {
    timeout(PATIENCE, future).await.context("nothing comes")
}

/// A tunnel as a client library opens it.
async fn open(edge: &Edge, front: Front, path: &str) -> anyhow::Result<Socket> {
    let address = if front.secure() { edge.tls } else { edge.fleet.http };
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream: Box<dyn Transport> = if front.secure() {
        Box::new(front::handshake(&edge.authority.client("http/1.1"), HOST, stream).await?)
    } else {
        Box::new(stream)
    };
    let (socket, response) = client_async(format!("ws://{HOST}{path}"), stream).await?;
    ensure!(response.status() == 101, "{}", response.status());
    Ok(socket)
}

/// The bare connection of a tunnel in the clear. By hand, since the upstream's first bytes may come with its head, and a
/// library keeps what it has read of them.
async fn raw(edge: &Edge, path: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(edge.fleet.http).await?;
    stream.set_nodelay(true)?;
    let fields = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let head = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}{key}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await??);
    }
    ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}

/// So many bytes there and back at the same time; what memory grew by.
async fn through(edge: &Edge, volume: usize) -> anyhow::Result<u64> {
    let pid = edge.instance().process_id();
    let socket = open(edge, Front::Http1, "/ws/echo").await?;
    usage::forget_peak(pid)?;
    let before = edge.resident();
    let (mut sending, mut receiving) = socket.split();
    let sent = tokio::spawn(async move {
        let mut message = Vec::with_capacity(MESSAGE_BYTES);
        for piece in pattern::pieces(0, volume) {
            message.extend_from_slice(&piece);
            if message.len() >= MESSAGE_BYTES {
                sending
                    .send(Message::Binary(Bytes::from(std::mem::take(&mut message))))
                    .await?;
            }
        }
        sending.send(Message::Binary(Bytes::from(message))).await?;
        anyhow::Ok(sending)
    });
    let (mut hash, mut came) = (Sha256::new(), 0);
    while came < volume {
        let message = within(receiving.next()).await?.context("an end")??;
        let data = message.into_data();
        hash.update(&data);
        came += data.len();
    }
    let sending = sent.await??;
    ensure!(
        pattern::hex(hash) == pattern::digest(0, volume),
        "other bytes came back"
    );
    let growth = usage::peak(pid)?.saturating_sub(before);
    drop(sending);
    ensure!(growth <= VOLUME_MAX_BYTES, "memory grew by {growth} bytes");
    Ok(growth)
}

/// Each direction ends by itself, and the other goes on until it does.
async fn half_closed(edge: &Edge) -> anyhow::Result<()> {
    let mut stream = raw(edge, "/ws/digest").await?;
    let length = 3_000_000;
    for piece in pattern::pieces(1, length) {
        stream.write_all(&piece).await?;
    }
    stream.shutdown().await?;
    let mut said = String::new();
    within(stream.read_to_string(&mut said)).await??;
    ensure!(
        said == format!("{length} {}", pattern::digest(1, length)),
        "client first: {said}"
    );
    let mut stream = raw(edge, "/ws/flood").await?;
    ensure!(
        heard(&mut stream).await? == pattern::digest(0, FLOOD_BYTES),
        "upstream first: other bytes"
    );
    edge.metric_is("proxy_tunnels", &[], 1.0).await;
    stream.write_all(b"still here").await?;
    stream.shutdown().await?;
    edge.metric_is("proxy_tunnels", &[], 0.0).await;
    Ok(())
}

/// The digest of everything that comes.
async fn heard(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut some = vec![0; 64 << 10];
    loop {
        match within(stream.read(&mut some)).await?? {
            0 => return Ok(pattern::hex(hash)),
            read => hash.update(&some[..read]),
        }
    }
}

/// Clients write until nothing goes any more; then everything arrives. Bytes of memory for each meanwhile.
async fn deaf_upstreams(edge: &Edge, upstream: &Upstream, count: usize) -> anyhow::Result<u64> {
    // What only the first tunnel takes, such as code that nobody needed before, is no tunnel's.
    heard(&mut raw(edge, "/ws/flood").await?).await?;
    let before = edge.resident();
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(raw(edge, "/ws/deaf").await?);
    }
    let filling = streams.into_iter().map(|mut stream| async move {
        let mut sent = 0;
        for piece in pattern::pieces(0, DEAF_BYTES) {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                match timeout(FULL_AFTER, stream.write(rest)).await {
                    Ok(written) => {
                        let written = written?;
                        sent += written;
                        rest = &rest[written..];
                    }
                    Err(_) => return anyhow::Ok((stream, sent)),
                }
            }
        }
        anyhow::bail!("{DEAF_BYTES} bytes were taken of a client whose upstream takes none")
    });
    let full = futures_util::future::try_join_all(filling).await?;
    let each = edge.resident().saturating_sub(before) / count as u64;
    ensure!(each <= STALLED_MAX_BYTES, "{each} bytes for each");
    upstream.hear();
    for (mut stream, sent) in full {
        stream.shutdown().await?;
        let mut said = String::new();
        within(stream.read_to_string(&mut said)).await??;
        ensure!(
            said == format!("{sent} {}", pattern::digest(0, sent)),
            "{sent} bytes were sent: {said}"
        );
    }
    Ok(each)
}

/// Upstreams write to clients that do not read; then they do, and all of it is there. Bytes of memory for each meanwhile.
async fn deaf_clients(edge: &Edge, count: usize) -> anyhow::Result<u64> {
    let before = edge.resident();
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(raw(edge, "/ws/flood").await?);
    }
    // Nothing moves any more.
    let mut moved = -1.0;
    loop {
        let now = edge
            .instance()
            .metric("proxy_tunnel_bytes_total", &[])
            .await
            .unwrap_or_default();
        if now == moved {
            break;
        }
        moved = now;
        tokio::time::sleep(FULL_AFTER).await;
    }
    let each = edge.resident().saturating_sub(before) / count as u64;
    ensure!(each <= STALLED_MAX_BYTES, "{each} bytes for each");
    let expected = pattern::digest(0, FLOOD_BYTES);
    for mut stream in streams {
        ensure!(heard(&mut stream).await? == expected, "other bytes after a standstill");
    }
    Ok(each)
}
