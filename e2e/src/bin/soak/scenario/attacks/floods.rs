//! Frames that cost their sender little: the classes of attacks on HTTP/2, each over some connections at a time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::wire::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, connect, frame, get, request,
    until_ended,
};
use crate::back::Back;
use crate::edge::PATIENCE;

/// `ENHANCE_YOUR_CALM`.
const CALM: u32 = 11;

/// One class.
pub(super) struct Flood {
    pub(super) name: &'static str,
    /// What is sent once.
    before: Vec<u8>,
    /// What is sent over and over, with the number of the round.
    round: fn(u32) -> Vec<u8>,
    rounds: u32,
}

fn path() -> String {
    format!("/{}/give?length=10", Back::Http1.name())
}

/// A stream of its own for each round.
fn stream(round: u32) -> u32 {
    2 * round + 1
}

fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", &path()))
}

/// All of them.
pub(super) fn all() -> Vec<Flood> {
    let flood = |name, before: Vec<u8>, round: fn(u32) -> Vec<u8>, rounds| Flood {
        name,
        before,
        round,
        rounds,
    };
    vec![
        // CVE-2023-44487.
        flood(
            "rapid reset",
            Vec::new(),
            |round| {
                [
                    get(stream(round), &path()),
                    frame(RST_STREAM, 0, stream(round), &8_u32.to_be_bytes()),
                ]
                .concat()
            },
            10_000,
        ),
        // CVE-2025-8671: a window that grows beyond what it can be makes the server reset the stream.
        flood(
            "made you reset",
            Vec::new(),
            |round| {
                [
                    open(stream(round)),
                    frame(WINDOW_UPDATE, 0, stream(round), &0x7fff_ffff_u32.to_be_bytes()),
                ]
                .concat()
            },
            10_000,
        ),
        flood(
            "continuations",
            frame(HEADERS, 0, 1, &request("GET", &path())),
            |_| frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y"),
            100_000,
        ),
        flood("pings", Vec::new(), |_| frame(PING, 0, 0, &[7; 8]), 200_000),
        flood("settings", Vec::new(), |_| frame(SETTINGS, 0, 0, &[]), 200_000),
        flood("empty data", open(1), |_| frame(DATA, 0, 1, &[]), 200_000),
        flood(
            "window updates",
            Vec::new(),
            |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
            200_000,
        ),
        flood("priorities", Vec::new(), |_| frame(2, 0, 1, &[0, 0, 0, 0, 9]), 200_000),
        // A cookie that the table remembers (index 62), and then two thousand of them, by a byte each.
        flood(
            "compressed bomb",
            remembered(),
            |round| frame(HEADERS, END_HEADERS | 1, stream(round + 1), &bomb()),
            1_000,
        ),
    ]
}

fn remembered() -> Vec<u8> {
    let cookie = [&b"\x40\x06cookie\x3c"[..], &[b'a'; 60]].concat();
    frame(HEADERS, END_HEADERS | 1, 1, &[request("GET", &path()), cookie].concat())
}

fn bomb() -> Vec<u8> {
    [request("GET", &path()), vec![0xbe; 2_000]].concat()
}

impl Flood {
    /// Attacks over so many connections at a time; how long the last of them lasted.
    ///
    /// # Errors
    /// If one of them is not cut for what it does.
    pub(super) async fn run(&self, address: SocketAddr, connections: usize) -> anyhow::Result<Duration> {
        let attacks = (0..connections).map(|_| self.one(address));
        let times = futures_util::future::try_join_all(attacks).await?;
        Ok(times.into_iter().max().unwrap_or_default())
    }

    async fn one(&self, address: SocketAddr) -> anyhow::Result<Duration> {
        let stream = connect(address, &[]).await?;
        let (reading, mut writing) = stream.into_split();
        let began = Instant::now();
        let sending = async {
            writing.write_all(&self.before).await?;
            // Some at a time, or the attacker is what takes the time.
            for first in (0..self.rounds).step_by(20) {
                let some: Vec<u8> = (first..first + 20).flat_map(self.round).collect();
                writing.write_all(&some).await?;
            }
            // It says no more, and waits for its end.
            std::future::pending::<std::io::Result<()>>().await
        };
        let cut = async {
            let code = until_ended(reading).await;
            (code, began.elapsed())
        };
        tokio::pin!(cut);
        let ending = async {
            tokio::select! {
                ended = &mut cut => ended,
                // What cannot be sent any more was cut; what was said about it is still to be read.
                _ = sending => cut.await,
            }
        };
        let (code, took) = timeout(PATIENCE, ending)
            .await
            .with_context(|| format!("{}: never cut", self.name))?;
        // The word may be lost with the reset of a connection that goes on sending.
        ensure!(matches!(code, Some(CALM) | None), "{}: cut with {code:?}", self.name);
        Ok(took)
    }
}
