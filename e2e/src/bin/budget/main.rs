//! What one request costs in instructions, as callgrind counts them, held against `e2e/budget.json`: a later feature shows
//! what it costs, and what costs more than was meant does not pass. Prints a line for each way in which clients ask.
//!
//! CPU time is a matter of the machine and its mood; instructions are nearly the same everywhere. Nearly: another compiler
//! makes other code, and cryptography takes the instructions that the processor has. Therefore the tolerance.

mod callgrind;
mod ways;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, bail, ensure};
use sluice_e2e::fleet::{Fleet, Launch};
use sluice_e2e::upstream::Upstream;
use sluice_e2e::{manifests, ports, repository};

use crate::ways::{Target, Way};

/// Requests before it is counted: connections are there, allocators and caches are warm.
const WARM_UP: u64 = 100;
/// Requests that are counted. What the clock causes in the worker beside them is below one in a thousand.
const REQUESTS: u64 = 1_000;
/// How many percent above the budget still pass; as many below are told, so that the budget can be lowered.
const TOLERANCE_PERCENT: u64 = 5;
const HOST: &str = "budget.example.com";

/// Instructions for a request, by the name of the way.
type Budget = BTreeMap<String, u64>;

fn main() -> anyhow::Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "instructions of a debug build say nothing: --release"
    );
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let bless = match &arguments[..] {
        [] => false,
        [only] if only == "--bless" => true,
        _ => bail!("{arguments:?}? budget [--bless]"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let counted = runtime.block_on(count())?;
    let file = repository::root().join("e2e/budget.json");
    if bless {
        return Ok(fs::write(&file, serde_json::to_string_pretty(&counted)? + "\n")?);
    }
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    compare(&serde_json::from_str(&text)?, &counted)
}

/// Says how it stands with each way, and fails if one costs more than it may.
fn compare(budget: &Budget, counted: &Budget) -> anyhow::Result<()> {
    let mut beyond = Vec::new();
    for (way, instructions) in counted {
        let meant = *budget
            .get(way)
            .with_context(|| format!("the budget has no {way}: --bless"))?;
        let (slack, remark) = (meant * TOLERANCE_PERCENT / 100, |text| {
            format!("{instructions} for {meant}: {text}")
        });
        let remark = if *instructions > meant + slack {
            beyond.push(way.as_str());
            remark("too many")
        } else if *instructions + slack < meant {
            remark("fewer: lower the budget with --bless")
        } else {
            remark("as meant")
        };
        println!("{way:<10} {remark}");
    }
    ensure!(
        beyond.is_empty(),
        "{beyond:?} cost over {TOLERANCE_PERCENT} % more than e2e/budget.json says; if that is what the change is worth, \
         say why and write it with --bless"
    );
    Ok(())
}

async fn count() -> anyhow::Result<Budget> {
    let upstream = Upstream::start();
    let secure = ports::free();
    let key = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    let fleet = fleet(&upstream, secure.port(), &key).await;
    let instance = fleet.instances.first().context("an instance")?;
    let target = Target {
        plain: fleet.http,
        tls: secure,
        host: HOST,
        certificate: key.cert.der().clone(),
    };
    let mut counted = Budget::new();
    for way in Way::ALL {
        let mut client = target.connect(way).await?;
        client.ask(HOST, WARM_UP).await?;
        callgrind::begin(instance)?;
        client.ask(HOST, REQUESTS).await?;
        counted.insert(way.name().to_owned(), callgrind::end(instance)? / REQUESTS);
    }
    Ok(counted)
}

/// One instance with a host that is served in the clear and over TLS, configured the ordinary way.
async fn fleet(upstream: &Upstream, secure: u16, key: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Fleet {
    let setup = Fleet::setup().await.launched(Launch::Counted);
    let rollout = manifests::rollout(setup.port(), &[(100, "0s")], &[]).replace(
        "}]\n  stages",
        &format!("}}, {{name: https, port: {secure}, tls: {{}}}}]\n  stages"),
    );
    let mut route = manifests::route("budget", HOST, "up");
    route.push_str("  tls: {certificates: [{secretName: budget}]}\n");
    let secret = manifests::certificate("budget", &key.cert.pem(), &key.signing_key.serialize_pem());
    let objects = [route, manifests::pool("up", &[upstream.endpoint(1)]), secret];
    setup
        .with("rollout.yaml", &rollout)
        .with("objects.yaml", &manifests::documents(&objects))
        .start(1)
        .await
}
