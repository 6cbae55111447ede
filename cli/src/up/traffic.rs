//! Demo traffic: a gentle, even stream of requests through the fleet's address, so that rollouts have evidence.
//!
//! It says that it is its own, keeps a tally of what it saw, and opens new connections often, because an instance is
//! chosen for each connection.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_model::limits::{DEMO_REQUEST_TIMEOUT_MS, DEMO_REQUESTS_PER_CONNECTION};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::demo::{Ask, Traffic};
use crate::demo_upstream::VERSION_HEADER;
use crate::http::{Call, Connection, HttpError};

/// Streams of requests; each has at most one request under way, so this also bounds what is in flight.
const STREAMS: u32 = 10;

/// What the traffic saw since the tally was last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests sent.
    pub requests: u64,
    /// Of these, those without an answer or with a 5xx.
    pub failures: u64,
    /// Answers by the version that gave them.
    pub versions: BTreeMap<String, u64>,
}

impl Tally {
    fn count(&mut self, answer: &Result<(http::StatusCode, Option<String>), HttpError>) {
        self.requests += 1;
        match answer {
            Ok((status, version)) => {
                self.failures += u64::from(status.is_server_error());
                let version = version.clone().unwrap_or_else(|| format!("status {}", status.as_u16()));
                *self.versions.entry(version).or_default() += 1;
            }
            Err(_) => self.failures += 1,
        }
    }

    /// One line: `1000 requests, 0 failed (v1 900, v2 100)`.
    pub fn line(&self) -> String {
        let mut line = format!("{} requests, {} failed", self.requests, self.failures);
        let versions: Vec<_> = self
            .versions
            .iter()
            .map(|(version, count)| format!("{version} {count}"))
            .collect();
        if !versions.is_empty() {
            let _ = write!(line, " ({})", versions.join(", "));
        }
        line
    }
}

/// Demo traffic under way. Ends with the runtime.
#[derive(Clone, Debug, Default)]
pub struct Running {
    tally: Arc<Mutex<Tally>>,
}

impl Running {
    /// What was seen since this was last asked.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, answer: &Result<(http::StatusCode, Option<String>), HttpError>) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).count(answer);
    }
}

/// Begins to send `traffic` to `address`.
pub fn start(traffic: &Traffic, address: SocketAddr) -> Running {
    let running = Running::default();
    let streams = STREAMS.min(traffic.requests_per_second);
    let period = Duration::from_secs(1) * streams / traffic.requests_per_second.max(1);
    let asks: Arc<[Ask]> = rota(&traffic.requests).into();
    for stream in 0..streams {
        // Staggered, so that requests come evenly and the streams ask for different things.
        let offset = period * stream / streams;
        let skip = asks.len() * stream as usize / streams as usize;
        tokio::spawn(send_forever(
            running.clone(),
            asks.clone(),
            skip,
            address,
            offset,
            period,
        ));
    }
    running
}

/// The requests in the order in which a stream repeats them: each as often as its share of a hundred says, interleaved.
fn rota(requests: &[Ask]) -> Vec<Ask> {
    let whole: u64 = requests.iter().map(|ask| u64::from(ask.share)).sum();
    let mut credit: Vec<u64> = vec![0; requests.len()];
    let mut rota = Vec::new();
    for _ in 0..100 {
        for (credit, ask) in credit.iter_mut().zip(requests) {
            *credit += u64::from(ask.share);
        }
        let most = credit.iter_mut().zip(requests).max_by_key(|(credit, _)| **credit);
        if let Some((credit, ask)) = most {
            *credit = credit.saturating_sub(whole);
            rota.push(ask.clone());
        }
    }
    rota
}

async fn send_forever(
    running: Running,
    asks: Arc<[Ask]>,
    skip: usize,
    address: SocketAddr,
    offset: Duration,
    period: Duration,
) {
    let address = address.to_string();
    let mut ticks = interval_at(Instant::now() + offset, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection: Option<(Connection, u32)> = None;
    for ask in asks.iter().cycle().skip(skip) {
        ticks.tick().await;
        let answer = send(&mut connection, ask, &address).await;
        if answer.is_err() {
            connection = None;
        }
        running.count(&answer);
    }
}

/// Sends one request, on a new connection when the old one has carried its share.
async fn send(
    connection: &mut Option<(Connection, u32)>,
    ask: &Ask,
    address: &str,
) -> Result<(http::StatusCode, Option<String>), HttpError> {
    let (mut open, used) = match connection.take() {
        Some((open, used)) if used < DEMO_REQUESTS_PER_CONNECTION => (open, used),
        Some(_) | None => (Connection::open(address).await?, 0),
    };
    let limit = Duration::from_millis(DEMO_REQUEST_TIMEOUT_MS);
    let answer = open.send(&Call::get(&ask.path), &ask.host, limit).await?;
    let closes = answer
        .headers
        .get(http::header::CONNECTION)
        .is_some_and(|value| value == "close");
    if !closes {
        *connection = Some((open, used + 1));
    }
    let version = answer
        .headers
        .get(VERSION_HEADER)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    Ok((answer.status, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str, share: u32) -> Ask {
        Ask {
            host: "a".to_owned(),
            path: path.to_owned(),
            share,
        }
    }

    #[test]
    fn shares_are_kept() {
        let rota = rota(&[ask("/", 80), ask("/docs", 20), ask("/never", 0)]);
        let count = |path| rota.iter().filter(|ask| ask.path == path).count();
        assert_eq!((count("/"), count("/docs"), count("/never")), (80, 20, 0));
        assert!(rota.iter().take(10).any(|ask| ask.path == "/docs"), "interleaved");
    }

    #[test]
    fn the_tally_says_what_happened() {
        let mut tally = Tally::default();
        tally.count(&Ok((http::StatusCode::OK, Some("v1".to_owned()))));
        tally.count(&Ok((http::StatusCode::INTERNAL_SERVER_ERROR, Some("v2".to_owned()))));
        tally.count(&Ok((http::StatusCode::NOT_FOUND, None)));
        assert_eq!(tally.line(), "3 requests, 1 failed (status 404 1, v1 1, v2 1)");
    }
}
