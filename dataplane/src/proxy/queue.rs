//! What a request does whose endpoint has as many connections as its pool allows (`connections.maxPerEndpoint`).
//!
//! It goes to another endpoint of the pool that has room. If none has, it waits at the one whose turn it was, for as long as a
//! connection may take to open; more wait nowhere than `maxPending` says. Nobody has got anything of it meanwhile, and no
//! endpoint is to blame.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use sluice_model::limits::UPSTREAM_FULL_PASSED_MAX;
use sluice_model::unit::UpstreamProtocol;
use tokio::time::{Instant, timeout_at};

use super::exchange::Exchange;
use super::failure::Failure;
use super::forward::{Miss, Outgoing, Way, choose, limited, name_host, one_try, per_try};
use super::{Answer, http1};
use crate::upstream::pending::{Turn, Wants};
use crate::worker::Worker;

/// Sends the request to an endpoint that has room, which the one whose turn it is has not. `tried` are those that could not
/// be reached.
pub(super) async fn send(
    exchange: &mut Exchange,
    way: &Way,
    mut request: Outgoing,
    tried: &[SocketAddr],
) -> Result<Answer, Miss> {
    let turn = exchange.pass_by();
    let mut passed = tried.to_vec();
    passed.push(way.place.address);
    for _ in 0..UPSTREAM_FULL_PASSED_MAX {
        let Some(other) = choose(exchange, &passed).map_err(Miss::Sent)? else {
            break;
        };
        name_host(exchange, &mut request).map_err(Miss::Sent)?;
        match one_try(exchange, &other, request).await {
            Err(Miss::Full(back)) => request = back,
            done => return done,
        }
        drop(exchange.pass_by());
        passed.push(other.place.address);
    }
    if let Some(turn) = turn {
        exchange.chose(turn);
    }
    name_host(exchange, &mut request).map_err(Miss::Sent)?;
    wait(exchange, way, request).await
}

/// Waits for a connection to this endpoint, and sends the request over it.
async fn wait(exchange: &mut Exchange, way: &Way, mut request: Outgoing) -> Result<Answer, Miss> {
    let patience = Duration::from_millis(way.settings().connections.connect_millis.get());
    let until = Instant::now() + patience;
    loop {
        let turn = timeout_at(until, turn(exchange, way)).await;
        let turn = turn.ok().flatten().ok_or(Miss::Sent(Failure::Overloaded))?;
        let done = match turn {
            Turn::Connection(upstream) => match over(exchange, way, upstream, request).await {
                // It was closed in the very moment.
                Err(Miss::Unsent(back)) => Err(Miss::Full(back)),
                done => done,
            },
            Turn::Permit(permit) => {
                way.keep(permit);
                one_try(exchange, way, request).await
            }
            Turn::Look => one_try(exchange, way, request).await,
        };
        match done {
            Err(Miss::Full(back)) => request = back,
            done => return done,
        }
    }
}

/// Sends the request over a connection that was given back.
async fn over(
    exchange: &mut Exchange,
    way: &Way,
    upstream: http1::Upstream,
    request: Outgoing,
) -> Result<Answer, Miss> {
    let place = way.place;
    match per_try(exchange) {
        None => http1::over_used(exchange, place, upstream, request).await,
        Some(limit) => {
            let attempt =
                async |exchange: &mut Exchange, request| http1::over_used(exchange, place, upstream, request).await;
            limited(exchange, limit, request, attempt).await
        }
    }
}

/// The request's turn; `None`: there are too many who wait.
async fn turn(exchange: &Exchange, way: &Way) -> Option<Turn<http1::Upstream>> {
    let worker = exchange.worker.clone();
    let quota = way.quota(&worker.quotas)?;
    let _waiting = quota.enter()?;
    let _counted = Counted::new(&worker);
    let wants = match way.settings().protocol {
        UpstreamProtocol::Http1 | UpstreamProtocol::Auto if exchange.upgrade.is_some() => Wants::Fresh,
        UpstreamProtocol::Http1 | UpstreamProtocol::Auto | UpstreamProtocol::Http2 => Wants::Any,
    };
    worker.pending.turn(way.place, &quota, wants).await
}

/// A request that waits, in metrics.
struct Counted(Rc<Worker>);

impl Counted {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.counters.pending.add(1);
        Self(worker.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counters.pending.sub(1);
    }
}
