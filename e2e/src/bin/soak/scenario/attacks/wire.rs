//! HTTP/2 as bytes, for clients that do what no library lets them do.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::edge::HOST;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
pub(super) const WINDOW: u16 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The block of fields of a request, without compression.
pub(super) fn request(method: &str, path: &str) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", path),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Below 127, as all here are, a length is a byte.
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A whole request without a body.
pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", path))
}

/// A connection in the clear that has said the preface and these settings.
pub(super) async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let settings: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    let beginning = [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat();
    stream.write_all(&beginning).await?;
    Ok(stream)
}

/// Reads until the connection ends; the code of the `GOAWAY` that came before that, if one did.
pub(super) async fn until_ended(mut stream: impl AsyncRead + Unpin) -> Option<u32> {
    let mut code = None;
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return code;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return code;
        }
        if head[3] == GOAWAY {
            code = payload
                .get(4..8)
                .map(|code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
        }
    }
}
