//! The clients of the seven kinds. What each sees is what a client of its kind has to see: an answer to each request, whatever
//! instance gives it. A connection that says that it closes is left; one that is closed before a request was sent on it is
//! replaced, and so is one of HTTP/2 that said `GOAWAY` before it took a request (RFC 9113 §6.8). Nothing else is tried again.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::{Request, header};
use http_body_util::BodyExt;
use sluice_e2e::lasting::Progress;
use tokio::sync::Mutex;

use crate::back::Back;
use crate::edge::PATIENCE;
use crate::front::{Body, Client, Dialer, empty};
use crate::pattern;
use crate::scenario::bodies::sending;

/// Between two requests of one client.
pub(super) const PAUSE: Duration = Duration::from_millis(2);
/// What a slow answer takes.
const SLOW_MS: u64 = 700;
/// What is sent with a request that has a body.
const SENT_BYTES: usize = 150_000;

/// What a client of HTTP/1.1 or HTTP/2 asks for, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// Something small.
    Quick,
    /// The same, on a connection of its own each time.
    Anew,
    /// Something that takes long.
    Slow,
    /// With a body.
    Sends,
}

/// Where a client has its connection.
#[derive(Clone)]
enum Connections {
    /// It keeps one, if it keeps any.
    Own(Arc<Mutex<Option<Client>>>),
    /// It shares one with others.
    Shared(Arc<Mutex<Option<Client>>>),
}

impl Connections {
    async fn take(&self, dialer: &Dialer) -> anyhow::Result<Client> {
        match self {
            Self::Own(kept) => match kept.lock().await.take() {
                Some(open) => Ok(open),
                None => dialer.connect().await,
            },
            Self::Shared(shared) => {
                let mut shared = shared.lock().await;
                if let Some(open) = shared.as_ref().and_then(Client::share) {
                    return Ok(open);
                }
                let client = dialer.connect().await?;
                let open = client.share().context("a new connection has closed")?;
                *shared = Some(client);
                Ok(open)
            }
        }
    }

    async fn put(&self, client: Client) {
        if let Self::Own(kept) = self {
            *kept.lock().await = Some(client);
        }
    }
}

/// Asks until the end of it.
pub(super) async fn asks(world: Arc<Progress>, dialer: Dialer, asks: Asks) -> anyhow::Result<()> {
    on(world, dialer, asks, Connections::Own(Arc::default())).await
}

/// So many ask at the same time on one connection.
pub(super) async fn shares(world: Arc<Progress>, dialer: Dialer, streams: usize) -> anyhow::Result<()> {
    let shared = Connections::Shared(Arc::default());
    let all = (0..streams).map(|_| on(world.clone(), dialer.clone(), Asks::Quick, shared.clone()));
    futures_util::future::try_join_all(all).await.map(|_| ())
}

async fn on(world: Arc<Progress>, dialer: Dialer, asks: Asks, connections: Connections) -> anyhow::Result<()> {
    let mut number = 0;
    while world.goes_on() {
        number += 1;
        let asking = one(&world, &dialer, &connections, (asks, number));
        let answered = tokio::time::timeout(PATIENCE, asking).await;
        let what = || format!("{asks:?} {number} by {:?}", dialer.front);
        answered.with_context(what)?.with_context(what)?;
        world.answered.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn one(
    world: &Progress,
    dialer: &Dialer,
    connections: &Connections,
    (asks, seed): (Asks, usize),
) -> anyhow::Result<()> {
    let mut request = request(dialer, asks, seed)?;
    let response = loop {
        let mut open = connections.take(dialer).await?;
        match open.try_send(request).await {
            Ok(response) => {
                if asks != Asks::Anew {
                    connections.put(open).await;
                }
                break response;
            }
            // It closed while it rested: nothing was sent.
            Err((Some(unsent), _)) => {
                world.unsent.fetch_add(1, Ordering::Relaxed);
                request = unsent;
            }
            Err((None, error)) if not_taken(&error) => {
                world.unsent.fetch_add(1, Ordering::Relaxed);
                request = self::request(dialer, asks, seed)?;
            }
            Err((None, error)) => return Err(error).context("it was sent"),
        }
    };
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .context("reading the answer")?
        .to_bytes();
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&body));
    let right = match asks {
        Asks::Sends => body == pattern::digest(seed, SENT_BYTES),
        Asks::Quick | Asks::Anew | Asks::Slow => body.len() == 500,
    };
    ensure!(right, "another answer");
    Ok(())
}

fn request(dialer: &Dialer, asks: Asks, seed: usize) -> anyhow::Result<Request<Body>> {
    let (front, back) = (dialer.front, Back::Http1.name());
    let give = format!("/{back}/give?length=500");
    Ok(match asks {
        Asks::Quick => front.request("GET", &give).body(empty())?,
        Asks::Anew => front
            .request("GET", &give)
            .header(header::CONNECTION, "close")
            .body(empty())?,
        Asks::Slow => front.request("GET", &format!("{give}&pause={SLOW_MS}")).body(empty())?,
        Asks::Sends => front
            .request("POST", &format!("/{back}/take"))
            .body(sending(seed, SENT_BYTES))?,
    })
}

/// An error and what it was caused by.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Whether a connection of HTTP/2 said that it closes in order, and did not take this.
fn not_taken(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<h2::Error>())
        .any(|error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
}
