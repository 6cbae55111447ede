//! What a request does whose endpoint has as many connections as its pool allows (`connections.maxPerEndpoint`).
//!
//! It goes to another endpoint of the pool that has room. If none has, it waits at all that it has asked, for as long as a
//! connection may take to open, and is served by whichever has room first; more wait at none than `maxPending` says. Nobody
//! has got anything of it meanwhile, no endpoint is to blame, and none is silent.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use sluice_model::limits::{MAX_CONNECT_ATTEMPTS, UPSTREAM_FULL_PASSED_MAX};
use sluice_model::unit::UpstreamProtocol;
use tokio::time::{Instant, timeout_at};

use super::deadline::{Queueing, time};
use super::drain::{Rest, drain};
use super::exchange::Exchange;
use super::failure::Failure;
use super::forward::{Miss, Outgoing, Way, choose, limited, name_host, one_try, per_try};
use super::{Answer, http1};
use crate::upstream::pending::{Turn, Wants};
use crate::upstream::quota::Waiting;
use crate::worker::Worker;
use crate::worker::lane::Chosen;

/// An endpoint without room, and its turn.
struct Full {
    way: Way,
    chosen: Option<Chosen>,
}

/// Sends the request to an endpoint that has room, which the one whose turn it is has not. `tried` are those that could not
/// be reached, and become more.
pub(super) async fn send(
    exchange: &mut Exchange,
    way: Way,
    mut request: Outgoing,
    tried: &mut Vec<SocketAddr>,
    queueing: &Queueing,
) -> Result<Answer, Miss> {
    let chosen = exchange.pass_by();
    let mut passed = tried.clone();
    passed.push(way.place.address);
    let mut full = vec![Full { way, chosen }];
    while full.len() <= UPSTREAM_FULL_PASSED_MAX && tried.len() < MAX_CONNECT_ATTEMPTS {
        let Some(other) = choose(exchange, &passed).map_err(Miss::Sent)? else {
            break;
        };
        name_host(exchange, &mut request).map_err(Miss::Sent)?;
        passed.push(other.place.address);
        match one_try(exchange, &other, request).await {
            Ok(answer) => return Ok(answer),
            Err(Miss::Full(back)) => {
                request = back;
                let chosen = exchange.pass_by();
                full.push(Full { way: other, chosen });
            }
            Err(miss) => {
                let (back, failure) = miss.goes_on().map_err(Miss::Sent)?;
                exchange.missed(failure);
                tried.push(other.place.address);
                request = back;
            }
        }
    }
    wait(exchange, full, request, queueing).await
}

/// Waits for a connection to one of these endpoints, and sends the request over it.
async fn wait(
    exchange: &mut Exchange,
    mut full: Vec<Full>,
    mut request: Outgoing,
    queueing: &Queueing,
) -> Result<Answer, Miss> {
    let millis = full
        .first()
        .map(|first| first.way.settings().connections.connect_millis);
    let until = Instant::now() + millis.map_or(Duration::ZERO, |millis| Duration::from_millis(millis.get()));
    loop {
        let turn = {
            let _queueing = queueing.begin();
            timeout_at(until, turn_at(exchange, &full)).await
        };
        let won = turn.ok().flatten();
        // Who is not served is said to have waited at the first.
        let index = won.as_ref().map_or(0, |(index, _)| *index);
        let Some(Full { way, chosen }) = full.get_mut(index) else {
            return Err(Miss::Sent(Failure::Internal));
        };
        if let Some(chosen) = chosen.take() {
            exchange.chose(chosen);
        }
        let Some((_, turn)) = won else {
            return Err(refuse(exchange, request).await);
        };
        name_host(exchange, &mut request).map_err(Miss::Sent)?;
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
            Turn::Stream(slot) => {
                way.keep_slot(slot);
                one_try(exchange, way, request).await
            }
        };
        match done {
            Err(Miss::Full(back)) => {
                request = back;
                *chosen = exchange.pass_by();
            }
            done => return done,
        }
    }
}

/// There is no room for the request. Its body, if that is small and on its way, is read, so that its connection serves the next.
async fn refuse(exchange: &Exchange, request: Outgoing) -> Miss {
    if !exchange.waits_to_go_on {
        // How far that came is what its watch says.
        let _: Rest = drain(*request).await;
    }
    Miss::Sent(Failure::Overloaded)
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
            limited(exchange, Instant::now() + time(limit), request, attempt).await
        }
    }
}

/// The request's turn at the first of these endpoints that has room; `None`: everywhere as many wait as may.
async fn turn_at(exchange: &Exchange, full: &[Full]) -> Option<(usize, Turn<http1::Upstream>)> {
    let worker = &exchange.worker;
    let mut turns: Vec<(usize, Pin<Box<_>>)> = (0..)
        .zip(full)
        .filter_map(|(index, Full { way, .. })| {
            let waiting = way.quota(&worker.quotas)?.enter()?;
            Some((index, Box::pin(turn(exchange, way, waiting))))
        })
        .collect();
    if turns.is_empty() {
        return None;
    }
    let _counted = Counted::new(worker);
    poll_fn(|cx| {
        let turn = turns.iter_mut().find_map(|(index, turn)| match turn.as_mut().poll(cx) {
            Poll::Ready(turn) => Some(turn.map(|turn| (*index, turn))),
            Poll::Pending => None,
        });
        turn.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// The same at one of them, who waits for it with `waiting`.
async fn turn(exchange: &Exchange, way: &Way, waiting: Waiting) -> Option<Turn<http1::Upstream>> {
    let worker = &exchange.worker;
    let wants = match way.settings().protocol {
        UpstreamProtocol::Http1 | UpstreamProtocol::Auto if exchange.upgrade.is_some() => Wants::Fresh,
        UpstreamProtocol::Auto if worker.multiplexed.chose_http1(way.place) => Wants::Own,
        UpstreamProtocol::Http1 => Wants::Own,
        UpstreamProtocol::Auto | UpstreamProtocol::Http2 => Wants::Stream,
    };
    worker.pending.turn(way.place, waiting.quota(), wants).await
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
