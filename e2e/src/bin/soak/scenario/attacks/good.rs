//! Clients that mean well, beside those that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use http_body_util::BodyExt;
use tokio::task::JoinHandle;

use crate::back::Back;
use crate::edge::{Edge, PATIENCE};
use crate::front::{Dialer, Front, empty};

/// Of each protocol.
const CLIENTS: usize = 2;
/// Between two requests of one.
const PAUSE: Duration = Duration::from_millis(4);

/// Load that goes on until it is stopped.
pub(super) struct Good {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<anyhow::Result<Histogram<u64>>>>,
}

/// What became of it: requests, and how long the slowest hundredth took at least.
pub(super) struct Served {
    pub(super) requests: u64,
    pub(super) p99: Duration,
}

impl Good {
    /// Connections that it keeps.
    pub(super) const CONNECTIONS: usize = 2 * CLIENTS;

    pub(super) fn start(edge: &Edge) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = [Front::Http1, Front::Http2Tls].map(|front| front.dialer(edge));
        let clients = clients.iter().flat_map(|dialer| std::iter::repeat_n(dialer, CLIENTS));
        let tasks = clients
            .map(|dialer| tokio::spawn(ask(dialer.clone(), stop.clone())))
            .collect();
        Self { stop, tasks }
    }

    /// Ends it.
    ///
    /// # Errors
    /// If one request failed, or a connection was closed.
    pub(super) async fn stop(self) -> anyhow::Result<Served> {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = Histogram::<u64>::new(3)?;
        for task in self.tasks {
            times.add(task.await?.context("a good request failed")?)?;
        }
        Ok(Served {
            requests: times.len(),
            p99: Duration::from_micros(times.value_at_quantile(0.99)),
        })
    }
}

async fn ask(dialer: Dialer, stop: Arc<AtomicBool>) -> anyhow::Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    let mut client = dialer.connect().await?;
    while !stop.load(Ordering::Relaxed) {
        let request = dialer
            .front
            .request("GET", &format!("/{}/give?length=1000", Back::Http1.name()));
        let request = request.body(empty())?;
        let began = Instant::now();
        let response = tokio::time::timeout(PATIENCE, client.send(request)).await??;
        ensure!(response.status() == 200, "{}", response.status());
        response.into_body().collect().await?;
        // Not `saturating_record`, which clamps to where a histogram happens to end.
        times.record(began.elapsed().as_micros() as u64)?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}
