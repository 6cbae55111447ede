//! Bodies arrive as they were sent: in both directions, from every kind of client to every kind of upstream. What the data
//! plane needs for that does not depend on how large they are.

use anyhow::{Context, ensure};
use futures_util::stream::{self, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use sha2::{Digest, Sha256};
use sluice_e2e::usage;
use tokio::task::JoinSet;

use crate::back::Back;
use crate::edge::Edge;
use crate::front::{Body, Client, Dialer, Front, empty};
use crate::options::Form;
use crate::pattern;

const MEGABYTE: usize = 1_000_000;
/// Bodies under way at a time.
const AT_ONCE: usize = 4;
/// What memory may grow by at most, from a warm process to its peak: the windows and buffers of what is under way, and what
/// the allocator holds back.
const GROWTH_MAX_BYTES: u64 = 16 << 20;

pub(crate) async fn run(form: Form) -> anyhow::Result<String> {
    let (small, large, large_bytes) = form.pick((10, 1, 20 * MEGABYTE), (1_000, 10, 100 * MEGABYTE));
    let edge = Edge::start().await;
    let pid = edge.instance().process_id();
    // Each way once, as large as they come: connections, buffers and caches are there.
    let mut sent = every_way(&edge, 2, 4 * MEGABYTE).await?;
    usage::forget_peak(pid)?;
    let warm = edge.resident();
    sent += every_way(&edge, small, MEGABYTE).await?;
    sent += every_way(&edge, large, large_bytes).await?;
    let growth = usage::peak(pid)?.saturating_sub(warm);
    ensure!(
        growth <= GROWTH_MAX_BYTES,
        "memory grew from {warm} by {growth} bytes, more than {GROWTH_MAX_BYTES}"
    );
    let ways = Front::ALL.len() * Back::ALL.len();
    Ok(format!(
        "{ways} ways, {small} of 1 MB and {large} of {} MB each way and direction, {:.1} GB identical; memory {} MiB, {:+.1} MiB at most",
        large_bytes / MEGABYTE,
        sent as f64 / 1e9,
        warm >> 20,
        growth as f64 / f64::from(1 << 20),
    ))
}

/// `count` bodies of this size in each direction by each way; how many bytes that were.
async fn every_way(edge: &Edge, count: usize, length: usize) -> anyhow::Result<usize> {
    let mut sent = 0;
    for front in Front::ALL {
        let dialer = front.dialer(edge);
        for back in Back::ALL {
            one_way(&dialer, back, count, length)
                .await
                .with_context(|| format!("{front:?} to {back:?}"))?;
            sent += 2 * count * length;
        }
    }
    Ok(sent)
}

async fn one_way(dialer: &Dialer, back: Back, count: usize, length: usize) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for number in 0..AT_ONCE.min(count) {
        let dialer = dialer.clone();
        tasks.spawn(async move {
            let mut client = dialer.connect().await?;
            for seed in (number..count).step_by(AT_ONCE) {
                let expected = pattern::digest(seed, length);
                let given = given(&mut client, dialer.front, back, (seed, length)).await?;
                ensure!(given == expected, "what was given is not what arrived: body {seed}");
                let taken = taken(&mut client, dialer.front, back, (seed, length)).await?;
                ensure!(taken == expected, "what was sent is not what was taken: body {seed}");
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// The digest of what a client got.
async fn given(client: &mut Client, front: Front, back: Back, body: (usize, usize)) -> anyhow::Result<String> {
    let (seed, length) = body;
    // Every other one without a length: in HTTP/1.1 chunked.
    let framing = if seed % 2 == 0 { "length" } else { "open" };
    let path = format!("/{}/give?seed={seed}&length={length}&framing={framing}", back.name());
    let response = client.send(front.request("GET", &path).body(empty())?).await?;
    ensure!(response.status() == 200, "{path}: {}", response.status());
    let mut body = response.into_body();
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.context("reading a body")?.data_ref() {
            hash.update(data);
        }
    }
    Ok(pattern::hex(hash))
}

/// The digest of what an upstream got.
async fn taken(client: &mut Client, front: Front, back: Back, body: (usize, usize)) -> anyhow::Result<String> {
    let (seed, length) = body;
    let request = front.request("POST", &format!("/{}/take", back.name()));
    let request = if seed % 2 == 0 {
        request.header(http::header::CONTENT_LENGTH, length)
    } else {
        request
    };
    let response = client.send(request.body(sending(seed, length))?).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&answer));
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A body to send.
pub(crate) fn sending(seed: usize, length: usize) -> Body {
    let pieces = stream::iter(pattern::pieces(seed, length)).map(|piece| Ok(Frame::data(piece)));
    StreamBody::new(pieces).boxed_unsync()
}
