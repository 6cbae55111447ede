//! Chaos: `kill -9` of random processes at random moments, with changes going on and under load. Afterwards, and at
//! every moment in between, the promises hold.
//!
//! Checked all along: no instance's accepted epoch ever decreases, a request fails only if an instance was killed while
//! it was in flight, and never one that shows two generations. At the end: the fleet converges to the last change.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::fleet::Fleet;
use crate::load::{Load, Outcomes, Plan};
use crate::manifests;
use crate::upstream::{Upstream, stamp};
use crate::wait::wait_until;

/// How much of it.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// How many processes are killed.
    pub kills: u32,
    /// Requests a second.
    pub per_second: u32,
    /// What the choices are drawn from; printed, so that a run can be played again.
    pub seed: u64,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Report {
    /// The load's own summary.
    pub load: String,
    /// How often the controller was killed.
    pub controller_kills: u32,
    /// How often an instance was.
    pub instance_kills: u32,
    /// The longest that an instance took from its start to ready.
    pub slowest_ready: Duration,
}

const HOST: &str = "chaos.example.com";
/// The generation that must be live at the end.
const LAST: u16 = 45_000;

/// Kills.
///
/// # Panics
/// If an invariant breaks.
pub async fn run(chaos: &Chaos) -> Report {
    println!("chaos: seed {}", chaos.seed);
    let upstream = Upstream::start();
    let setup = Fleet::setup().await;
    // Not by latency, as by default: a machine that has other work to do slows one instance more than another. And not by as many
    // requests as usual: most of the load is on a kept connection or two, and an instance may have none of those.
    let gate = "{metric: ErrorRate, max: \"5%\", minRequests: 20}";
    let rollout = manifests::rollout(setup.port(), &[(34, "300ms"), (100, "300ms")], &[gate]);
    let setup = setup
        .with("rollout.yaml", &rollout)
        .with("gen.yaml", &generation(&upstream, 0));
    let mut fleet = setup.start(3).await;
    let load = Load::start("chaos", Plan::new(fleet.http, HOST, "/", chaos.per_second));
    let mut random = Random(chaos.seed);
    let (mut report, mut epochs, mut killed_at) = (Report::default(), Epochs::default(), Vec::new());
    for round in 1..=chaos.kills {
        fleet.folder.write(
            "gen.yaml",
            &generation(&upstream, u16::try_from(round).unwrap_or(u16::MAX)),
        );
        sleep(Duration::from_millis(random.below(700))).await;
        epochs.check(&fleet).await;
        let took = kill_one(&mut fleet, &mut random, &mut report, &mut killed_at).await;
        report.slowest_ready = report.slowest_ready.max(took);
        epochs.check(&fleet).await;
    }
    // A member that dies takes its candidate back, so the last change may be held: a new content clears that.
    fleet.settled().await;
    fleet.folder.write("gen.yaml", &generation(&upstream, LAST));
    fleet.answers(HOST, "/", &stamp(LAST)).await;
    fleet.settled().await;
    epochs.check(&fleet).await;
    let outcomes = load.stop().await;
    report.load = outcomes.summary();
    only_in_flight(&outcomes, &killed_at);
    report
}

fn generation(upstream: &Upstream, number: u16) -> String {
    let pool = manifests::pool("chaos", &[upstream.endpoint(number)]);
    manifests::documents(&[manifests::route("chaos", HOST, "chaos"), pool])
}

/// Kills the controller or an instance, and starts it again; how long it took to be ready.
async fn kill_one(fleet: &mut Fleet, random: &mut Random, report: &mut Report, killed_at: &mut Vec<u64>) -> Duration {
    let victim = usize::try_from(random.below(4)).unwrap_or_default();
    let pause = Duration::from_millis(random.below(400));
    match victim.checked_sub(1) {
        None => {
            report.controller_kills += 1;
            fleet.controller.kill();
            sleep(pause).await;
            fleet.controller.restart().await;
            Duration::ZERO
        }
        Some(index) => {
            report.instance_kills += 1;
            killed_at.push(crate::wait::unix_ms());
            fleet.instances[index].kill();
            sleep(pause).await;
            let began = Instant::now();
            fleet.instances[index].start();
            fleet.instances[index].ready().await;
            began.elapsed()
        }
    }
}

/// The highest epoch that each instance has shown.
#[derive(Debug, Default)]
struct Epochs(BTreeMap<String, u64>);

impl Epochs {
    async fn check(&mut self, fleet: &Fleet) {
        for instance in fleet.instances.iter().filter(|instance| instance.runs()) {
            let Ok(live) = instance.live().await else { continue };
            let epoch = live["epoch"].as_u64().unwrap_or_else(|| panic!("no epoch in {live:#}"));
            let before = self.0.insert(instance.id.clone(), epoch).unwrap_or_default();
            assert!(
                epoch >= before,
                "{} went back from epoch {before} to {epoch}",
                instance.id
            );
        }
    }
}

/// Failed requests were in flight when an instance was killed: sent before (or into a socket that died in that
/// moment), not answered.
fn only_in_flight(outcomes: &Outcomes, killed_at: &[u64]) {
    // The kernel takes connections for a dead process until its sockets are gone; clocks are read before the kill.
    const SLACK_MS: u64 = 250;
    for outcome in outcomes.failures() {
        let ended = outcome.sent_unix_ms + u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX);
        let hit = |at: &&u64| outcome.sent_unix_ms <= **at + SLACK_MS && ended + SLACK_MS >= **at;
        assert!(
            killed_at.iter().find(hit).is_some(),
            "failed without a kill: {outcome:?}; kills at {killed_at:?}"
        );
        assert!(
            outcome.result.is_err(),
            "an answer that is a failure, by somebody alive: {outcome:?}"
        );
    }
}

/// Waits until the stage of the rollout in progress has been observed for at least this long.
///
/// # Panics
/// If it does not happen.
pub async fn observed(fleet: &Fleet, at_least: Duration) -> serde_json::Value {
    let wanted = u64::try_from(at_least.as_millis()).unwrap_or(u64::MAX);
    fleet
        .when("a bake in progress", |status| {
            status["stage"]["observedMs"].as_u64().is_some_and(|ms| ms >= wanted)
        })
        .await
}

/// Waits until an instance's log has a line of a request that came after `lines` others: it serves.
///
/// # Panics
/// If it does not happen.
pub async fn serves_again(fleet: &Fleet, index: usize, lines: usize) {
    wait_until("the instance to serve", Duration::from_secs(10), || async {
        let now = fleet.instances[index].lines().len();
        (now > lines).then_some(()).ok_or(now)
    })
    .await;
}

/// `SplitMix64` (Steele, Lea, Flood 2014): chance that can be played again.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}
