//! Calls of every kind of gRPC while their upstreams are killed and started again, lose their connections and say `GOAWAY`.
//! Each call ends as its upstream said, or in a way that the fault explains: never with a wrong OK, never with another status than
//! the one that was given over a whole connection, never carried out twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sluice_e2e::calls::{Caller, Fault, Kind, Seen, Upstream};
use sluice_e2e::manifests;
use tokio::task::JoinSet;
use tonic::Code;

use crate::edge::{Edge, HOST};
use crate::options::Form;

/// Callers at a time.
const CALLERS: u64 = 24;
/// Between two faults.
const BETWEEN_FAULTS: Duration = Duration::from_millis(60);
/// How long a killed endpoint is away.
const AWAY: Duration = Duration::from_millis(150);
/// Given up calls end upstream within this; with debug binaries on a machine that has other things to do, within that.
const GIVEN_UP: Duration = Duration::from_millis(100);
const GIVEN_UP_SHORT: Duration = Duration::from_millis(500);
/// Calls of this number and above are not part of the load.
const QUIET: u64 = 1 << 32;

pub(crate) async fn run(form: Form) -> anyhow::Result<String> {
    let calls = form.pick(1_500, 10_000);
    let seen = Arc::new(Seen::default());
    let mut upstreams: Vec<_> = (0..3).map(|_| Upstream::start(seen.clone())).collect();
    let edge = Edge::start_with(&objects(&upstreams)).await;
    let (times, most) = form.pick((20, GIVEN_UP_SHORT), (100, GIVEN_UP));
    let given_up = given_up(&edge, &seen, times, most).await?;
    let done = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let caller = connect(&edge, number % 2 == 1).await?;
        let (next, seen) = (next.clone(), seen.clone());
        callers.spawn(async move {
            let mut ended = BTreeMap::new();
            loop {
                let call = next.fetch_add(1, Ordering::Relaxed);
                if call >= calls {
                    return anyhow::Ok(ended);
                }
                let kind = Kind::of(call);
                let how = one(&caller, &seen, call, kind).await;
                *ended
                    .entry(how.with_context(|| format!("call {call}, {kind:?}"))?)
                    .or_insert(0) += 1;
            }
        });
    }
    let breaking = tokio::spawn({
        let done = done.clone();
        async move {
            let faults = break_them(&mut upstreams, &done).await;
            (faults, upstreams)
        }
    });
    let mut ended: BTreeMap<&str, u64> = BTreeMap::new();
    while let Some(caller) = callers.join_next().await {
        for (how, count) in caller?? {
            *ended.entry(how).or_default() += count;
        }
    }
    done.store(true, Ordering::Relaxed);
    let (faults, _upstreams) = breaking.await?;
    let well = ended.get("as said").copied().unwrap_or_default();
    ensure!(
        well * 2 > calls,
        "of {calls} calls only {well} ended as their upstream said: {ended:?}"
    );
    edge.metric_is("proxy_inflight_requests", &[], 0.0).await;
    Ok(format!(
        "{calls} calls, {faults} faults: {ended:?}, none wrong, none twice; given up calls end upstream after {given_up:?} at most"
    ))
}

/// A caller in the clear or over TLS.
async fn connect(edge: &Edge, tls: bool) -> anyhow::Result<Caller> {
    let address = if tls { edge.tls } else { edge.fleet.http };
    Caller::connect(address, HOST, tls.then(|| edge.authority.pem()).as_deref()).await
}

/// The pool and the route of the service.
pub(crate) fn objects(upstreams: &[Upstream]) -> Vec<String> {
    let endpoints: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    let route = manifests::rules("calls", HOST, &[("/calls.Calls", "calls")]);
    vec![manifests::pool("calls", &endpoints) + "  protocol: HTTP2\n", route]
}

/// Breaks one endpoint after the other until it is told to stop; how often it did.
async fn break_them(upstreams: &mut [Upstream], done: &AtomicBool) -> u64 {
    let mut faults = 0;
    while !done.load(Ordering::Relaxed) {
        let victim = &mut upstreams[faults as usize % 3];
        match (faults / 3) % 3 {
            0 => victim.suffer(Fault::GoAway),
            1 => victim.suffer(Fault::Reset),
            _ => {
                victim.kill().await;
                tokio::time::sleep(AWAY).await;
                victim.restart();
            }
        }
        faults += 1;
        tokio::time::sleep(BETWEEN_FAULTS).await;
    }
    faults
}

/// How a call ended, if it may.
async fn one(caller: &Caller, seen: &Seen, call: u64, kind: Kind) -> anyhow::Result<&'static str> {
    let ended = caller.call(call, kind).await;
    let (times, broken) = seen.of(call);
    ensure!(times <= 1, "it was carried out {times} times");
    let Err(status) = ended else {
        // A caller whose own clock was first needs no upstream.
        ensure!(times == 1 || kind == Kind::Late, "it was answered, and nobody had it");
        return Ok("as said");
    };
    // What the way it went explains: nobody was reached, or the connection broke.
    let explained = match (times, broken) {
        (0, _) => status.code() == Code::Unavailable,
        (_, true) => matches!(
            status.code(),
            Code::Unavailable | Code::Internal | Code::Unknown | Code::Cancelled
        ),
        (_, false) => false,
    };
    ensure!(
        explained,
        "{times} connections, broken: {broken}, and it ended with {status:?}"
    );
    Ok(match (times, status.code()) {
        (0, _) => "nobody reached",
        (_, Code::Unavailable) => "broken, UNAVAILABLE",
        (_, Code::Internal) => "broken, INTERNAL",
        (_, Code::Cancelled) => "broken, CANCELLED",
        _ => "broken, UNKNOWN",
    })
}

/// How long it takes at most until an upstream hears that its caller has gone.
async fn given_up(edge: &Edge, seen: &Seen, times: u64, most: Duration) -> anyhow::Result<Duration> {
    let caller = connect(edge, false).await?;
    let mut longest = Duration::ZERO;
    for call in QUIET..QUIET + times {
        let (begun, gone) = seen.bells(call);
        let task = tokio::spawn(caller.hang(call));
        begun.notified().await;
        let left = Instant::now();
        task.abort();
        gone.notified().await;
        longest = longest.max(left.elapsed());
    }
    ensure!(
        longest <= most,
        "an upstream heard {longest:?} later that its caller had gone"
    );
    Ok(longest)
}
