//! An upstream that records every byte, and how a corpus writes what arrived there.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::*;

pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, char == '\\') {
            (_, true) => match chars.next().unwrap() {
                'r' => bytes.push(b'\r'),
                'n' => bytes.push(b'\n'),
                't' => bytes.push(b'\t'),
                'x' => {
                    let hex: String = chars.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(&hex, 16).unwrap());
                }
                other => bytes.push(other as u8),
            },
            (char, false) => bytes.push(u8::try_from(char).unwrap()),
        }
    }
    bytes
}

pub(crate) type Record = Arc<Mutex<Vec<Vec<u8>>>>;

/// Reads request by request, by a parser of its own that takes only what is canonical, and records each.
pub(crate) async fn recorder(record: Record) -> std::net::SocketAddr {
    upstream(move |mut stream, _| {
        let record = record.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                record.lock().unwrap().push(request);
                if stream.write_all(reply("ok").as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

async fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let field = |name: &str| {
        text.split("\r\n")
            .find_map(|line| line.strip_prefix(name))
            .map(str::to_owned)
    };
    let body = match (field("transfer-encoding: "), field("content-length: ")) {
        (Some(coding), None) => {
            assert_eq!(coding, "chunked");
            read_chunks(stream).await?
        }
        (None, Some(length)) => {
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).await.ok()?;
            body
        }
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => panic!("two framings: {text}"),
    };
    head.extend_from_slice(&body);
    Some(head)
}

async fn read_chunks(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = read_until(stream, "\r\n").await;
        let size = usize::from_str_radix(size.strip_suffix("\r\n")?, 16).unwrap();
        let mut data = vec![0; size + 2];
        stream.read_exact(&mut data).await.ok()?;
        assert!(data.ends_with(b"\r\n"));
        body.extend_from_slice(&data[..size]);
        if size == 0 {
            return Some(body);
        }
    }
}

/// As the corpus writes it: without what this hop adds to every request.
pub(crate) fn plain(request: &[u8]) -> String {
    let text: String = request.iter().map(|byte| char::from(*byte)).collect();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let lines = head
        .split("\r\n")
        .filter(|line| !line.starts_with("x-forwarded-") && !line.starts_with("x-request-id"));
    in_order(&format!("{}||{body}", lines.collect::<Vec<_>>().join("|")))
}

pub(crate) fn in_order(text: &str) -> String {
    let (head, body) = text.split_once("||").unwrap();
    let mut lines: Vec<&str> = head.split('|').collect();
    lines[1..].sort_unstable();
    format!("{}||{body}", lines.join("|"))
}

pub(crate) fn escaped(text: &str) -> String {
    unescape(text).into_iter().map(char::from).collect()
}
