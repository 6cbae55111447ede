//! What one request costs, beside nginx on the same work in the same run: CPU time of the proxy divided by requests.
//! How it is measured and why: `docs/benchmarks.md`. Prints a table; writes nothing else.

mod cpu;
mod nginx;
mod wrk;

use std::time::Duration;

use anyhow::Context;
use sluice_e2e::fleet::{Fleet, Launch};
use sluice_e2e::manifests;
use tempfile::TempDir;

/// The proxy under test has this core to itself; load and upstream share the other.
const PROXY_CORE: u8 = 0;
const LOAD_CORE: u8 = 1;
/// What is asked for, a line of the table each.
const WORK: [Work; 3] = [
    Work { routes: 1, bytes: 100 },
    Work {
        routes: 2_000,
        bytes: 100,
    },
    Work {
        routes: 1,
        bytes: 1 << 20,
    },
];

/// Requests for a body of so many bytes, by so many routes.
#[derive(Clone, Copy, Debug)]
struct Work {
    routes: usize,
    bytes: usize,
}

fn main() -> anyhow::Result<()> {
    let plan = plan(std::env::args().skip(1))?;
    for tool in ["nginx", "wrk", "taskset"] {
        cpu::require(tool)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("GET, 64 keep-alive connections, one worker on core {PROXY_CORE}, {plan:?}");
    println!(
        "{:>6}  {:>9}  {:>26}  {:>26}  {:>16}",
        "routes", "bytes", "nginx us/request", "sluice us/request", "sluice : nginx"
    );
    for work in WORK {
        let Work { routes, bytes } = work;
        let Row { nginx, sluice, ratio } = runtime.block_on(measure(work, &plan))?;
        println!("{routes:>6}  {bytes:>9}  {nginx:>26}  {sluice:>26}  {ratio:>16}");
    }
    Ok(())
}

/// How much of it.
#[derive(Debug)]
struct Plan {
    rounds: u64,
    seconds: u64,
}

fn plan(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Plan> {
    let mut plan = Plan { rounds: 7, seconds: 4 };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), value) {
            ("--rounds", Some(rounds)) => plan.rounds = rounds,
            ("--seconds", Some(seconds)) => plan.seconds = seconds,
            _ => anyhow::bail!("{argument:?}? bench [--rounds N] [--seconds N]"),
        }
    }
    Ok(plan)
}

/// A line of the table: median (lowest to highest).
struct Row {
    nginx: String,
    sluice: String,
    ratio: String,
}

async fn measure(Work { routes, bytes }: Work, plan: &Plan) -> anyhow::Result<Row> {
    let scratch = tempfile::Builder::new().prefix("sluice-bench-").tempdir()?;
    let upstream = nginx::upstream(&scratch, bytes)?;
    let peer = nginx::proxy(&scratch, routes, upstream.address)?;
    let fleet = sluice(routes, upstream.address).await;
    let instance = fleet.instances.first().context("an instance")?;
    let script = wrk::script(&scratch, routes)?;
    let (mut theirs, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=plan.rounds {
        let time = Duration::from_secs(if round == 0 { 1 } else { plan.seconds });
        let (peer_pid, peer_address) = (peer.worker()?, peer.address);
        let cost = |pid, address| cpu::per_request(pid, || wrk::run(&script, address, time));
        let (nginx, sluice) = (cost(peer_pid, peer_address)?, cost(instance.process_id(), fleet.http)?);
        // The first round warms both up: connections, allocators, caches.
        if round > 0 {
            theirs.push(nginx);
            ours.push(sluice);
            ratios.push(sluice / nginx);
        }
    }
    Ok(Row {
        nginx: spread(theirs),
        sluice: spread(ours),
        ratio: spread(ratios),
    })
}

/// A fleet of one instance, configured the ordinary way.
async fn sluice(routes: usize, upstream: std::net::SocketAddr) -> Fleet {
    let setup = Fleet::setup().await.launched(Launch::Pinned(PROXY_CORE));
    let rollout = manifests::rollout(setup.port(), &[(100, "0s")], &[]);
    let objects = (0..routes).map(|number| manifests::route(&format!("r{number}"), &host(number), "up"));
    let objects: Vec<String> = objects.chain([manifests::pool("up", &[upstream])]).collect();
    setup
        .with("rollout.yaml", &rollout)
        .with("routes.yaml", &manifests::documents(&objects))
        .start(1)
        .await
}

/// The host of a route.
fn host(number: usize) -> String {
    format!("r{number}.example.com")
}

/// Where the files of one measurement are.
type Scratch = TempDir;

fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or_default();
    let (low, high) = (
        values.first().copied().unwrap_or_default(),
        values.last().copied().unwrap_or_default(),
    );
    format!("{median:.2} ({low:.2}-{high:.2})")
}
