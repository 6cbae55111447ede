//! The long forms of the scenarios, with the figures that are promised: `just proof storm|change|chaos|all`.
//!
//! It demands what `cargo test` demands, for longer and harder, and prints what it saw.

use std::time::Duration;

use anyhow::bail;
use sluice_e2e::scenario::change::{self, Change};
use sluice_e2e::scenario::chaos::{self, Chaos};
use sluice_e2e::scenario::storm::{self, Storm};
use sluice_e2e::wait::unix_ms;

/// What may be asked for.
struct Wish {
    what: String,
    seconds: u16,
    rate: u32,
    kills: u32,
    seed: u64,
}

const USAGE: &str = "proof [storm|change|chaos|all] [--seconds N] [--rate N] [--kills N] [--seed N]";

fn main() -> anyhow::Result<()> {
    let wish = wish(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(prove(&wish))
}

fn wish(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Wish> {
    let mut wish = Wish {
        what: "all".to_owned(),
        seconds: 120,
        rate: 2_000,
        kills: 50,
        seed: unix_ms(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--seconds" => wish.seconds = value().parse()?,
            "--rate" => wish.rate = value().parse()?,
            "--kills" => wish.kills = value().parse()?,
            "--seed" => wish.seed = value().parse()?,
            "storm" | "change" | "chaos" | "all" => wish.what = argument,
            _ => bail!("{argument:?}? {USAGE}"),
        }
    }
    Ok(wish)
}

async fn prove(wish: &Wish) -> anyhow::Result<()> {
    let asked = |what: &str| wish.what == what || wish.what == "all";
    if asked("storm") {
        blow(wish).await;
    }
    if asked("change") {
        changes(wish).await;
    }
    if asked("chaos") {
        let report = chaos::run(&Chaos {
            kills: wish.kills,
            per_second: wish.rate.min(500),
            seed: wish.seed,
        })
        .await;
        println!("chaos: {report:#?}");
        let promised = Duration::from_secs(1);
        assert!(
            report.slowest_ready <= promised,
            "an instance took {:?} to be ready",
            report.slowest_ready
        );
    }
    println!("all that was asked for holds");
    Ok(())
}

async fn blow(wish: &Wish) {
    let at_once = vec![(100, "0s")];
    let in_stages = vec![(34, "200ms"), (67, "200ms"), (100, "200ms")];
    for stages in [at_once, in_stages] {
        let storm = Storm {
            changes: wish.seconds,
            per_second: wish.rate,
            instances: 3,
            stages,
        };
        println!("{storm:?}\n{:#?}", storm::run(&storm).await);
    }
}

async fn changes(wish: &Wish) {
    let even = Change {
        per_second: wish.rate.min(500),
        shop_percent: 50,
        bake: "8s",
        min_requests: 50,
    };
    println!("good change: {}", change::good(&even).await);
    println!("bad change: {:#?}", change::bad(&even).await);
    let rare = Change {
        shop_percent: 1,
        bake: "20s",
        min_requests: 5,
        ..even
    };
    println!(
        "bad change of a route with 1 % of the traffic: {:#?}",
        change::bad(&rare).await
    );
}
