//! What became of each request, and sums over them.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Whether a request opened its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Sent over a connection that had served before.
    Kept,
    /// The first on its connection.
    New,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// `x-request-id` of the answer.
    pub request_id: String,
    /// Who made it, as the upstream says; empty for what the proxy answered itself.
    pub stamp: String,
    /// The body as far as a failing test wants to see it; kept for answers that are not 2xx only.
    pub body: String,
}

/// One request and its end.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The id it was sent with.
    pub id: String,
    /// Its path.
    pub path: String,
    /// When it was sent, in milliseconds since 1970: comparable with the logs of other processes.
    pub sent_unix_ms: u64,
    /// From sending to the last byte of the answer.
    pub took: Duration,
    /// How it travelled.
    pub connection: Connection,
    /// The answer, or what went wrong on the way.
    pub result: Result<Reply, String>,
}

impl Outcome {
    /// Whether a client got what it asked for.
    pub fn failed(&self) -> bool {
        self.result
            .as_ref()
            .map_or(true, |reply| reply.status >= 500 || reply.status == 404)
    }

    /// The answer, if there is one.
    pub fn reply(&self) -> Option<&Reply> {
        self.result.as_ref().ok()
    }
}

/// All requests of one load.
#[derive(Debug)]
pub struct Outcomes {
    /// In the order in which they ended.
    pub all: Vec<Outcome>,
    /// Not sent because too many were in flight.
    pub skipped: u64,
    /// From the first to the last.
    pub took: Duration,
}

impl Outcomes {
    /// The requests that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.all.iter().filter(|outcome| outcome.failed())
    }

    /// One line: how many, how fast, what went wrong.
    pub fn summary(&self) -> String {
        let mut times = Histogram::<u64>::new(3).expect("three digits are allowed");
        let mut wrong: BTreeMap<String, usize> = BTreeMap::new();
        for outcome in &self.all {
            // Not `saturating_record`, which clamps to where a histogram happens to end, at first two milliseconds.
            let _ = times.record(u64::try_from(outcome.took.as_micros()).unwrap_or(u64::MAX));
            if outcome.failed() {
                let what = match &outcome.result {
                    Ok(reply) => format!("{} {}", reply.status, reply.body.chars().take(160).collect::<String>()),
                    Err(error) => error.clone(),
                };
                *wrong.entry(what).or_default() += 1;
            }
        }
        let rate = self.all.len() as f64 / self.took.as_secs_f64().max(0.001);
        let (p50, p99) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
        let (count, failed) = (self.all.len(), wrong.values().sum::<usize>());
        let new = self
            .all
            .iter()
            .filter(|outcome| outcome.connection == Connection::New)
            .count();
        let skipped = self.skipped;
        let head = format!("{count} requests at {rate:.0}/s, {new} on new connections, p50 {p50} us, p99 {p99} us");
        format!("{head}, {failed} failed, {skipped} not sent {wrong:?}")
    }
}
