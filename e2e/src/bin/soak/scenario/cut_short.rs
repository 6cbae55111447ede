//! An upstream that dies within a body: whatever the framing, by every way, the client can tell that something is missing, and
//! the log and the metrics say so. Never is what came before the end of it.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http_body_util::BodyExt;
use sluice_e2e::access_log::Line;
use sluice_e2e::wait::wait_until;
use tokio::time::timeout;

use crate::back::{Back, Death};
use crate::edge::{Edge, PATIENCE};
use crate::front::{Client, Front, empty};
use crate::options::Form;
use crate::scenario::bodies::sending;

/// How long a response is to be.
const LENGTH: usize = 300_000;
/// Where it dies.
const CUT: usize = 100_000;
/// What a client may wait for the bad news.
const TELLING: Duration = Duration::from_secs(5);

pub(crate) async fn run(form: Form) -> anyhow::Result<String> {
    let rounds = form.pick(2, 50);
    let edge = Edge::start().await;
    let (mut responses, mut requests) = (Vec::new(), 0);
    for front in Front::ALL {
        let dialer = front.dialer(&edge);
        for back in Back::ALL {
            for round in 0..rounds {
                for death in Death::ALL {
                    for framing in ["length", "open"] {
                        let mut client = dialer.connect().await?;
                        let asked = (back, death, framing);
                        let id = format!("{front:?}-{back:?}-{death:?}-{framing}-{round}");
                        let told = response(&edge, &mut client, front, asked, &id).await;
                        told.with_context(|| id.clone())?;
                        responses.push(id);
                    }
                }
                let mut client = dialer.connect().await?;
                let told = request(&mut client, front, back).await;
                told.with_context(|| format!("a request from {front:?} to {back:?}"))?;
                requests += 1;
            }
        }
    }
    logged(&edge, &responses).await?;
    let all = responses.len() + requests;
    edge.metric_is("proxy_errors_total", &["category=\"upstream_reset\""], all as f64)
        .await;
    edge.metric_is("proxy_inflight_requests", &[], 0.0).await;
    Ok(format!(
        "{} responses and {requests} requests cut, told to each client, in the log and in the metrics",
        responses.len()
    ))
}

/// A response that dies when the client has a third of it.
async fn response(
    edge: &Edge,
    client: &mut Client,
    front: Front,
    asked: (Back, Death, &str),
    id: &str,
) -> anyhow::Result<()> {
    let (back, death, framing) = asked;
    let path = format!(
        "/{}/give?length={LENGTH}&cut={CUT}&framing={framing}&death={}",
        back.name(),
        death.name()
    );
    let request = front.request("GET", &path).header("x-request-id", id).body(empty())?;
    let response = timeout(TELLING, client.send(request)).await??;
    ensure!(response.status() == 200, "{}", response.status());
    let mut body = response.into_body();
    let mut came = 0;
    loop {
        let frame = timeout(TELLING, body.frame()).await;
        match frame.with_context(|| format!("nobody told the client, who has {came} bytes"))? {
            None => bail!("after {came} bytes of {LENGTH} it was told that this is all"),
            Some(Err(_)) => break,
            Some(Ok(frame)) => {
                came += frame.data_ref().map_or(0, |data| data.len());
                // All that was sent until then has arrived: nothing waits for more.
                if came == CUT {
                    edge.server(back).die();
                }
            }
        }
    }
    ensure!(came == CUT, "{came} bytes came, {CUT} were sent");
    Ok(())
}

/// A request whose upstream dies while it is sent.
async fn request(client: &mut Client, front: Front, back: Back) -> anyhow::Result<()> {
    let request = front.request("POST", &format!("/{}/take?cut={CUT}", back.name()));
    let request = request.body(sending(0, 50 * LENGTH))?;
    let told = timeout(TELLING, client.send(request)).await;
    // A connection that is reset while it is sent on is told as well.
    if let Ok(response) = told.context("nobody told the client")? {
        ensure!(response.status() == 502, "{}", response.status());
    }
    Ok(())
}

/// Each response has a line that says what became of it.
async fn logged(edge: &Edge, ids: &[String]) -> anyhow::Result<()> {
    let lines = wait_until("a line for each", PATIENCE, || async {
        let lines: Vec<Line> = edge.fleet.lines();
        let missing = ids
            .iter()
            .find(|id| !lines.iter().any(|line| line.request_id() == **id));
        missing.map_or(Ok(lines.clone()), |id| Err(id.clone()))
    })
    .await;
    for line in lines.iter().filter(|line| ids.contains(&line.request_id())) {
        let said = line.text("error_category");
        ensure!(said == "upstream_reset", "{}: {said:?}", line.request_id());
    }
    Ok(())
}
