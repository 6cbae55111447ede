//! Two clients: `Good` is the h2 crate's, `Raw` writes frames as a test says and reads what comes.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response, StatusCode};
use sluice_model::unit::{Http2, Listener};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::*;

/// A listener that takes HTTP/2 in the clear.
pub(crate) fn cleartext() -> Listener {
    Listener {
        http2: Http2::PriorKnowledge,
        ..listener("http", 80)
    }
}

/// A world that takes HTTP/2 in the clear, and everything to one upstream.
pub(crate) async fn world(upstream: SocketAddr) -> World {
    let setup = Setup::default().pool("all", &[upstream]).route("/", "all", None);
    let mut world = World::start(setup).await;
    world.address = world.listen(cleartext()).await;
    world
}

/// A well-behaved client.
pub(crate) struct Good(pub(crate) SendRequest<Bytes>);

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Good {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            // What goes wrong is told to the requests.
            let _ = connection.await;
        });
        Self(sender)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, h2::Error> {
        let request = Request::get(format!("http://a.test{path}")).body(()).unwrap();
        self.ask(request, None).await
    }

    pub(crate) async fn ask(&self, request: Request<()>, body: Option<Bytes>) -> Result<Answer, h2::Error> {
        let mut sender = self.0.clone().ready().await?;
        let (response, mut stream) = sender.send_request(request, body.is_none())?;
        if let Some(mut body) = body {
            // As the window allows.
            while !body.is_empty() {
                stream.reserve_capacity(body.len());
                let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                let room = room.expect("a stream that sends")?.min(body.len());
                stream.send_data(body.split_to(room), false)?;
            }
            stream.send_data(Bytes::new(), true)?;
        }
        let (head, mut incoming) = response.await?.into_parts();
        let mut body = Vec::new();
        while let Some(data) = incoming.data().await {
            let data = data?;
            incoming.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        let trailers = incoming.trailers().await?.unwrap_or_default();
        Ok(Answer {
            head: Response::from_parts(head, ()),
            body,
            trailers,
        })
    }
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Came {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Came {
    /// The error code of `RST_STREAM` or `GOAWAY`.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The last stream of `GOAWAY`.
    pub(crate) fn last(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    /// The status of a response, by its index in the static table or written out.
    pub(crate) fn status(&self) -> Option<u16> {
        let known = [200, 204, 206, 304, 400, 404, 500];
        match *self.payload.first()? {
            byte @ 0x88..=0x8e => Some(known[usize::from(byte - 0x88)]),
            _ => hpack::status(&self.payload),
        }
    }
}

/// A client that does as it is told.
pub(crate) struct Raw<S = TcpStream>(pub(crate) S);

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields without compression.
pub(crate) fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(name, &mut block);
        string(value, &mut block);
    }
    block
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(len) if len < 0x7f => out.push(len),
        _ => {
            out.push(0x7f);
            let mut rest = text.len() - 0x7f;
            while rest >= 0x80 {
                out.push((rest as u8 & 0x7f) | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
    }
    out.extend(text);
}

/// A GET of `a.test`.
pub(crate) fn get(path: &str) -> Vec<u8> {
    request("GET", path, &[])
}

pub(crate) fn request(method: &str, path: &str, more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut fields: Vec<(&[u8], &[u8])> = vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", b"a.test"),
        (b":path", path.as_bytes()),
    ];
    fields.extend(more);
    block(&fields)
}

impl Raw {
    /// Connects, and says the preface with these settings.
    pub(crate) async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self(TcpStream::connect(address).await.unwrap());
        raw.begin(settings).await;
        raw
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) async fn begin(&mut self, settings: &[(u16, u32)]) {
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat();
        assert!(self.send(&bytes).await);
    }

    /// Whether it could be sent.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// The next frame; `None`: the end.
    pub(crate) async fn next(&mut self) -> Option<Came> {
        let mut head = [0; 9];
        within(self.0.read_exact(&mut head)).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        within(self.0.read_exact(&mut payload)).await.ok()?;
        Some(Came {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The next frame of a kind.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Came> {
        loop {
            let came = self.next().await?;
            if came.kind == kind {
                return Some(came);
            }
        }
    }

    /// The next frame that says how a stream goes: a response, data, or a reset.
    pub(crate) async fn next_on(&mut self, stream: u32) -> Option<Came> {
        loop {
            let came = self.next().await?;
            if came.stream == stream && matches!(came.kind, DATA | HEADERS | RST_STREAM) {
                return Some(came);
            }
        }
    }
}

/// As much of HPACK as it takes to read `:status` of a response: it is the first field, and its name is in the static table.
mod hpack {
    pub(super) fn status(block: &[u8]) -> Option<u16> {
        // A change of the table's size may come before.
        let rest = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
        let [first, length, rest @ ..] = &block[rest..] else {
            return None;
        };
        // Literal with an index of :status (8 to 14), with or without indexing.
        if !matches!(first, 0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e) {
            return None;
        }
        let text = rest.get(..usize::from(length & 0x7f))?;
        match length & 0x80 {
            0 => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => digits(text),
        }
    }

    /// Digits in the code of RFC 7541, Appendix B: 0 to 2 have five bits, the rest six.
    fn digits(text: &[u8]) -> Option<u16> {
        let bits: Vec<u8> = text
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
            .collect();
        let mut at = 0;
        let mut number = 0;
        for _ in 0..3 {
            let take = |count: usize| {
                bits.get(at..at + count)
                    .map(|bits| bits.iter().fold(0, |sum, bit| sum << 1 | bit))
            };
            let digit = match take(5)? {
                digit @ 0..=2 => {
                    at += 5;
                    digit
                }
                _ => {
                    let digit = take(6)?.checked_sub(0x19)? + 3;
                    at += 6;
                    digit
                }
            };
            number = number * 10 + u16::from(digit);
        }
        Some(number)
    }
}
