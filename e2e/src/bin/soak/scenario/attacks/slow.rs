//! Clients that take their time: heads and bodies by a byte a second, and responses that nobody takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::{interval, timeout};

use super::wire::{WINDOW, connect, get, until_ended};
use crate::back::Back;
use crate::edge::HOST;

/// Between two bytes.
const DRIP: Duration = Duration::from_secs(1);
/// Beyond a deadline: it is looked at once a second, and a machine with thousands of clients on it is busy.
pub(super) const SLACK: Duration = Duration::from_secs(4);

/// What a hundred responses on each connection may take to come: who takes nothing of one is measured from then on.
pub(super) const COMING: Duration = Duration::from_secs(6);

/// A head that does not end.
pub(super) async fn heads(address: SocketAddr, count: usize, deadline: Duration) -> anyhow::Result<Duration> {
    let begins = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: ");
    drip(address, count, &begins, deadline).await.context("slow heads")
}

/// A body that does not end.
pub(super) async fn bodies(address: SocketAddr, count: usize, deadline: Duration) -> anyhow::Result<Duration> {
    let path = format!("/{}/take", Back::Http1.name());
    let begins = format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10000\r\n\r\n");
    drip(address, count, &begins, deadline).await.context("slow bodies")
}

/// So many clients that send a byte a second after this; when the last was cut.
async fn drip(address: SocketAddr, count: usize, begins: &str, deadline: Duration) -> anyhow::Result<Duration> {
    let clients = (0..count).map(|_| async {
        let began = Instant::now();
        let mut stream = TcpSocket::new_v4()?.connect(address).await?;
        stream.write_all(begins.as_bytes()).await?;
        let (mut reading, mut writing) = stream.split();
        let dripping = async {
            let mut every = interval(DRIP);
            loop {
                every.tick().await;
                if writing.write_all(b"x").await.is_err() {
                    return std::future::pending::<()>().await;
                }
            }
        };
        let mut scrap = Vec::new();
        let cut = async {
            tokio::select! {
                () = dripping => {}
                // An answer that says so, or just the end.
                _ = reading.read_to_end(&mut scrap) => {}
            }
        };
        timeout(deadline + SLACK, cut).await.context("not cut in time")?;
        anyhow::Ok(began.elapsed())
    });
    let times = futures_util::future::try_join_all(clients).await?;
    Ok(times.into_iter().max().unwrap_or_default())
}

/// Clients of HTTP/1.1 that ask for much and read nothing. They live until these are dropped.
pub(super) async fn deaf(address: SocketAddr, count: usize) -> anyhow::Result<Vec<tokio::net::TcpStream>> {
    let path = format!("/{}/give?length=50000000", Back::Http1.name());
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut streams = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4()?;
        // Little room in the system, so that it is the data plane that has to hold back.
        socket.set_recv_buffer_size(4 << 10)?;
        let mut stream = socket.connect(address).await?;
        stream.write_all(ask.as_bytes()).await?;
        // One after the other, as fast as the upstream here accepts them: who gets a 502 has nothing not to read.
        let mut begins = [0; 12];
        loop {
            let there = stream.peek(&mut begins).await.context("no response")?;
            ensure!(there > 0, "the connection ended without a response");
            if there == begins.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ensure!(&begins == b"HTTP/1.1 200", "{}", begins.escape_ascii());
        streams.push(stream);
    }
    Ok(streams)
}

/// Clients of HTTP/2 that ask for much on a hundred streams and open no window; how long the last of them lasted.
pub(super) async fn shut(address: SocketAddr, count: usize, deadline: Duration) -> anyhow::Result<Duration> {
    let path = format!("/{}/give?length=1000000", Back::Http1.name());
    let all: Vec<u8> = (0..100).flat_map(|number| get(2 * number + 1, &path)).collect();
    let clients = (0..count).map(|_| async {
        let began = Instant::now();
        let mut stream = connect(address, &[(WINDOW, 0)]).await?;
        stream.write_all(&all).await?;
        let code = timeout(deadline + COMING + SLACK, until_ended(stream))
            .await
            .context("not cut in time")?;
        ensure!(code.is_some(), "it ended without a word");
        anyhow::Ok(began.elapsed())
    });
    let times = futures_util::future::try_join_all(clients)
        .await
        .context("windows that stay shut")?;
    Ok(times.into_iter().max().unwrap_or_default())
}
