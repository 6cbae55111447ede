//! What an idle connection costs in memory, by the way it is spoken: each has served a request, and rests. All are alive at
//! the end, and none is left when its client has gone.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http_body_util::BodyExt;

use crate::back::Back;
use crate::edge::Edge;
use crate::front::{Client, Dialer, Front, empty};
use crate::options::Form;

/// Connections that are being opened at a time.
const OPENING: usize = 50;
/// Connections from one address.
const OF_CLIENT: usize = 100;

/// What one connection of HTTP/1.1 in the clear is to cost at most, in KiB.
const PROMISED: u64 = 15;
/// How often memory is looked at, and how often in a row it has not become less when it has come to rest: what a connection
/// gives up when it rests, it gives up after a second, and the allocator gives it back later.
const LOOK: Duration = Duration::from_millis(500);
const STILL: u32 = 8;

/// What one connection may cost, in KiB: in the full form, which is run with release binaries, what they were when this was
/// written, with room. Debug binaries take more, since nothing makes their tasks small: the short form sees what is far off.
fn most(form: Form, front: Front) -> u64 {
    let seen = match front {
        Front::Http1 => PROMISED,
        Front::Http1Tls => 26,
        Front::Http2Tls => 75,
        Front::H2c => 55,
    };
    form.pick(2 * seen, seen)
}

pub(crate) async fn run(form: Form) -> anyhow::Result<String> {
    let count = form.pick(1_000, 10_000);
    let (mut figures, mut beyond) = (Vec::new(), Vec::new());
    for front in Front::ALL {
        // Each in a process of its own: what one has let go is not given back to the system, and the next would live on it.
        let edge = Edge::start().await;
        let each = of(&edge, front, count).await.with_context(|| format!("{front:?}"))?;
        let most = most(form, front);
        if each > most << 10 {
            beyond.push(format!("{} may have {most}", front.name()));
        }
        figures.push(format!("{} {:.1}", front.name(), each as f64 / 1024.0));
    }
    let figures = format!(
        "{count} connections each at rest, KiB for one: {} (HTTP/1.1 may have {PROMISED})",
        figures.join(", ")
    );
    ensure!(beyond.is_empty(), "{figures}; {}", beyond.join(", "));
    Ok(figures)
}

/// Bytes for each of so many.
async fn of(edge: &Edge, front: Front, count: usize) -> anyhow::Result<u64> {
    let dialer = front.dialer(edge);
    // The first pays for what all use.
    let mut first = dialer.connect().await?;
    ask(&mut first, front).await?;
    let before = edge.resident();
    let opening = stream::iter(0..count).map(|number| open(&dialer, number));
    let mut clients: Vec<Client> = opening.buffer_unordered(OPENING).try_collect().await?;
    edge.metric_is("proxy_connections", &[], (count + 1) as f64).await;
    let each = at_rest(edge).await.saturating_sub(before) / count as u64;
    for client in &mut clients {
        ask(client, front).await.context("after its rest")?;
    }
    drop((first, clients));
    edge.metric_is("proxy_connections", &[], 0.0).await;
    Ok(each)
}

/// Resident memory once it becomes no less.
async fn at_rest(edge: &Edge) -> u64 {
    let (mut least, mut still) = (edge.resident(), 0);
    while still < STILL {
        tokio::time::sleep(LOOK).await;
        let now = edge.resident();
        still = if now < least { 0 } else { still + 1 };
        least = least.min(now);
    }
    least
}

/// A connection that has served a request, from the address of its number.
async fn open(dialer: &Dialer, number: usize) -> anyhow::Result<Client> {
    let [high, low] = u16::try_from(number / OF_CLIENT + 1)?.to_be_bytes();
    let source = SocketAddr::new(Ipv4Addr::new(127, 2, high, low).into(), 0);
    let mut client = dialer.connect_from(Some(source)).await?;
    ask(&mut client, dialer.front).await?;
    Ok(client)
}

async fn ask(client: &mut Client, front: Front) -> anyhow::Result<()> {
    let path = format!("/{}/give?length=100", Back::Http1.name());
    let response = client.send(front.request("GET", &path).body(empty())?).await?;
    ensure!(response.status() == 200, "{}", response.status());
    response.into_body().collect().await?;
    Ok(())
}
