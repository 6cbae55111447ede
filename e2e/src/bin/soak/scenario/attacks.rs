//! Clients that mean harm beside clients that do not: each is cut within its deadline, costs little CPU time and memory until
//! then, and no good request fails.

mod floods;
mod good;
mod slow;
mod wire;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sluice_e2e::usage::{cpu_seconds, forget_peak, peak};
use tokio::time::sleep;

use self::floods::Flood;
use self::good::{Good, Served};
use crate::edge::Edge;
use crate::options::Form;

/// What memory may grow by under all floods together.
const FLOODS_MAX_BYTES: u64 = 32 << 20;
/// What a process may have in all while thousands of slow clients are there.
const SLOW_MAX_BYTES: u64 = 512 << 20;
/// What the data plane may hold for a client of HTTP/1.1 that does not read: the buffers of both connections, of which the one
/// to the upstream grows with what comes fast (docs/endurance.md).
const DEAF_MAX_BYTES: u64 = 2 << 20;
/// From which on a body is slow: its grace.
const BODY_GRACE: Duration = Duration::from_secs(5);
/// As long as good load is watched by itself.
const ALONE: Duration = Duration::from_secs(2);

/// How large it is, and what is allowed.
struct Size {
    /// Connections of each flood.
    attackers: usize,
    /// Of each kind of slow clients.
    slow: usize,
    /// Of those who do not read, how many may be cut late.
    late: usize,
    /// Connections of a hundred streams each whose windows stay shut.
    shut: usize,
    /// A flood is cut within this.
    cut: Duration,
    /// What one connection of a flood may cost the data plane, in seconds.
    cpu: f64,
    /// Deadlines that an operator sets.
    head: Duration,
    response: Duration,
}

pub(crate) async fn run(form: Form) -> anyhow::Result<String> {
    let seconds = Duration::from_secs;
    // The short form asks for shorter deadlines; debug binaries take their time.
    let short = Size {
        attackers: 3,
        slow: 50,
        late: 0,
        shut: 2,
        cut: seconds(5),
        cpu: 0.5,
        head: seconds(2),
        response: seconds(3),
    };
    let full = Size {
        attackers: 10,
        slow: 1_500,
        late: 75,
        shut: 20,
        cut: seconds(1),
        cpu: 0.05,
        head: seconds(10),
        response: seconds(30),
    };
    let size = form.pick(short, full);
    let limits = format!(
        "limits: {{headerTimeout: {}s, responseTimeout: {}s}}",
        size.head.as_secs(),
        size.response.as_secs()
    );
    let edge = Edge::start_limited(&limits).await;
    let pid = edge.instance().process_id();
    let (alone, rate) = alone(&edge).await?;
    forget_peak(pid)?;
    let before = edge.resident();
    let mut figures = vec![format!("good p99 alone {:.1?}", alone.p99)];
    for flood in floods::all() {
        figures.push(one_flood(&edge, &flood, &size, rate).await?);
    }
    let growth = peak(pid)?.saturating_sub(before);
    ensure!(growth <= FLOODS_MAX_BYTES, "floods made memory grow by {growth} bytes");
    figures.push(format!("memory +{} MiB", growth >> 20));
    figures.push(slow_ones(&edge, &size).await?);
    edge.metric_is("proxy_connections", &[], 0.0).await;
    edge.metric_is("proxy_inflight_requests", &[], 0.0).await;
    let total = edge.resident();
    ensure!(total <= SLOW_MAX_BYTES, "{total} bytes in all");
    Ok(figures.join("; "))
}

/// Good load by itself; what it is served with, and seconds of CPU time in a second.
async fn alone(edge: &Edge) -> anyhow::Result<(Served, f64)> {
    let pid = edge.instance().process_id();
    let good = Good::start(edge);
    // Its connections are there.
    edge.metric_is("proxy_connections", &[], Good::CONNECTIONS as f64).await;
    let (began, before) = (Instant::now(), cpu_seconds(pid)?);
    sleep(ALONE).await;
    let rate = (cpu_seconds(pid)? - before) / began.elapsed().as_secs_f64();
    Ok((good.stop().await?, rate))
}

/// A flood beside good load: how it went.
async fn one_flood(edge: &Edge, flood: &Flood, size: &Size, rate: f64) -> anyhow::Result<String> {
    let pid = edge.instance().process_id();
    let good = Good::start(edge);
    edge.metric_is("proxy_connections", &[], Good::CONNECTIONS as f64).await;
    let (began, before) = (Instant::now(), cpu_seconds(pid)?);
    let took = flood.run(edge.fleet.http, size.attackers).await?;
    let spent = cpu_seconds(pid)? - before - rate * began.elapsed().as_secs_f64();
    let served = good.stop().await.context(flood.name)?;
    edge.metric_is("proxy_connections", &[], 0.0).await;
    ensure!(took <= size.cut, "{}: cut after {took:?}", flood.name);
    let each = spent.max(0.0) / size.attackers as f64;
    ensure!(
        each <= size.cpu,
        "{}: {each:.3} s of CPU time for a connection",
        flood.name
    );
    Ok(format!(
        "{} cut after {took:.0?}, {:.0} ms CPU each, good p99 {:.1?}",
        flood.name,
        each * 1e3,
        served.p99
    ))
}

/// Resident memory when it does not move any more.
async fn settled(edge: &Edge) -> u64 {
    let mut before = 0;
    loop {
        let now = edge.resident();
        if now.abs_diff(before) < 1 << 20 {
            return now;
        }
        before = now;
        sleep(Duration::from_millis(300)).await;
    }
}

/// All kinds of slow clients at the same time, beside good load.
async fn slow_ones(edge: &Edge, size: &Size) -> anyhow::Result<String> {
    let pid = edge.instance().process_id();
    let (address, count) = (edge.fleet.http, size.slow);
    let good = Good::start(edge);
    edge.metric_is("proxy_connections", &[], Good::CONNECTIONS as f64).await;
    forget_peak(pid)?;
    let before = edge.resident();
    let deaf = slow::deaf(address, count).await?;
    let each = settled(edge).await.saturating_sub(before) / count as u64;
    ensure!(each <= DEAF_MAX_BYTES, "{each} bytes for each who does not read");
    let began = Instant::now();
    let (heads, bodies, shut) = tokio::try_join!(
        slow::heads(address, count, size.head),
        slow::bodies(address, count, BODY_GRACE),
        slow::shut(address, size.shut, size.response)
    )?;
    // Who does not read does not see that it was cut. A few may last longer: a receiving kernel that is short of memory throws
    // away what it had room for, and takes some more when it is sent again, which is progress.
    let most = size.response.max(size.head).max(BODY_GRACE) + slow::COMING + 2 * slow::SLACK;
    let good_and = |late: usize| (Good::CONNECTIONS + late) as f64;
    edge.metric_is_at_most("proxy_connections", &[], good_and(size.late), most)
        .await;
    let most_of_them = began.elapsed();
    edge.metric_is_at_most("proxy_connections", &[], good_and(0), most + size.response)
        .await;
    let all = began.elapsed();
    drop(deaf);
    ensure!(
        most_of_them <= most,
        "more than {} are left after {most_of_them:?}",
        size.late
    );
    ensure!(all <= most + size.response, "the last was cut after {all:?}");
    let grew = peak(pid)?.saturating_sub(before);
    let served = good.stop().await?;
    Ok(format!(
        "{count} of each slow kind: heads cut after {heads:.1?}, bodies {bodies:.1?}, {} with 100 shut windows {shut:.1?}, those who do not read and take {} KiB each {most_of_them:.1?} but for {} at most, the last of all {all:.1?}; memory +{} MiB meanwhile, good p99 {:.1?} of {}",
        size.shut,
        each >> 10,
        size.late,
        grew >> 20,
        served.p99,
        served.requests
    ))
}
