//! Frames of every kind, in the forms in which Autobahn's test suite sends them: each comes back as the library at the other end
//! has it.

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::{Socket, open, raw, within};
use crate::edge::Edge;
use crate::front::Front;
use crate::pattern;

/// Where the encodings of lengths change, and what is larger than any buffer.
const SIZES: [usize; 11] = [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 1 << 20, 9 << 20];
/// Codes that an end may have (RFC 6455 §7.4, and the two ranges that are free).
const CODES: [u16; 8] = [1000, 1001, 1003, 1007, 1011, 3000, 3999, 4999];

/// How many cases there were.
pub(super) async fn check(edge: &Edge, front: Front) -> anyhow::Result<usize> {
    let mut socket = open(edge, front, "/ws/echo").await?;
    let mut cases = 0;
    for size in SIZES {
        let bytes: Vec<u8> = pattern::pieces(size, size).flatten().collect();
        let text: String = bytes.iter().map(|byte| char::from(byte % 96 + 32)).collect();
        comes_back(&mut socket, Message::Binary(Bytes::from(bytes))).await?;
        comes_back(&mut socket, Message::text(text)).await?;
        cases += 2;
    }
    comes_back(&mut socket, Message::text("Grüße, κόσμε, 𝄞")).await?;
    cases += 1 + pings(&mut socket).await? + pieces(&mut socket).await?;
    drop(socket);
    for code in CODES {
        end(edge, front, code)
            .await
            .with_context(|| format!("an end with {code}"))?;
        cases += 1;
    }
    if front == Front::Http1 {
        chopped(edge).await.context("byte by byte")?;
        cases += 1;
    }
    Ok(cases)
}

async fn comes_back(socket: &mut Socket, message: Message) -> anyhow::Result<()> {
    within(socket.send(message.clone())).await??;
    next_is(socket, &message).await
}

async fn next_is(socket: &mut Socket, expected: &Message) -> anyhow::Result<()> {
    let came = within(socket.next()).await?.context("an end")??;
    ensure!(came == *expected, "{} bytes came, not {}", came.len(), expected.len());
    Ok(())
}

/// Pings of every length are answered with what they had; answers that nobody asked for are not.
async fn pings(socket: &mut Socket) -> anyhow::Result<usize> {
    for size in [0, 1, 64, 125] {
        let payload = Bytes::from(vec![0xa5; size]);
        within(socket.send(Message::Pong(payload.clone()))).await??;
        within(socket.send(Message::Ping(payload.clone()))).await??;
        next_is(socket, &Message::Pong(payload)).await?;
    }
    // Ten at once are answered in order.
    for number in 0..10_u8 {
        within(socket.feed(Message::Ping(Bytes::from(vec![number])))).await??;
    }
    within(socket.flush()).await??;
    for number in 0..10_u8 {
        next_is(socket, &Message::Pong(Bytes::from(vec![number]))).await?;
    }
    Ok(5)
}

fn piece(text: &[u8], code: Data, last: bool) -> Message {
    Message::Frame(Frame::message(Bytes::copy_from_slice(text), OpCode::Data(code), last))
}

/// Messages in pieces, with control frames in between, and with pieces that have nothing in them.
async fn pieces(socket: &mut Socket) -> anyhow::Result<usize> {
    within(socket.send(piece(b"in ", Data::Text, false))).await??;
    within(socket.send(Message::Ping(Bytes::from("between")))).await??;
    within(socket.send(piece(b"three ", Data::Continue, false))).await??;
    next_is(socket, &Message::Pong(Bytes::from("between"))).await?;
    within(socket.send(piece(b"pieces", Data::Continue, true))).await??;
    next_is(socket, &Message::text("in three pieces")).await?;
    // A character that is cut in two.
    let text = "ü".as_bytes();
    within(socket.send(piece(&text[..1], Data::Text, false))).await??;
    within(socket.send(piece(&text[1..], Data::Continue, true))).await??;
    next_is(socket, &Message::text("ü")).await?;
    // Nothing, in three pieces.
    within(socket.send(piece(b"", Data::Binary, false))).await??;
    within(socket.send(piece(b"", Data::Continue, false))).await??;
    within(socket.send(piece(b"", Data::Continue, true))).await??;
    next_is(socket, &Message::Binary(Bytes::new())).await?;
    // A byte in each.
    let all: Vec<u8> = pattern::pieces(3, 2_000).flatten().collect();
    for (at, byte) in all.iter().enumerate() {
        let code = if at == 0 { Data::Binary } else { Data::Continue };
        within(socket.feed(piece(&[*byte], code, at + 1 == all.len()))).await??;
    }
    within(socket.flush()).await??;
    next_is(socket, &Message::Binary(Bytes::from(all))).await?;
    Ok(4)
}

/// The code and the reason come back, and then the connection's end.
async fn end(edge: &Edge, front: Front, code: u16) -> anyhow::Result<()> {
    let mut socket = open(edge, front, "/ws/echo").await?;
    let bye = CloseFrame {
        code: code.into(),
        reason: "enough".into(),
    };
    within(socket.close(Some(bye.clone()))).await??;
    next_is(&mut socket, &Message::Close(Some(bye))).await?;
    ensure!(within(socket.next()).await?.is_none(), "something after the end");
    Ok(())
}

/// A frame whose bytes arrive one by one.
async fn chopped(edge: &Edge) -> anyhow::Result<()> {
    let mut stream: TcpStream = raw(edge, "/ws/echo").await?;
    // FIN, text; masked with nothing.
    let mut frame = vec![0x81, 0x80 | 5, 0, 0, 0, 0];
    frame.extend(b"words");
    for byte in frame {
        stream.write_all(&[byte]).await?;
        tokio::task::yield_now().await;
    }
    let mut came = [0; 7];
    within(stream.read_exact(&mut came)).await??;
    ensure!(came == *b"\x81\x05words", "{came:?}");
    Ok(())
}
