//! Load from inside of the cluster's network, through a Service or straight to a pod, and what is demanded of it: every
//! request answered, by whom it should be.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::ensure;
use sluice_e2e::load::{Load, Outcome, Outcomes, Plan};
use sluice_e2e::wait::wait_until;

use crate::world::World;

/// Until so many requests are answered, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// Wrong answers that are written down one by one.
const SHOWN_MAX: usize = 1_000;

/// Load that is running.
#[derive(Debug)]
pub(crate) struct Traffic {
    name: &'static str,
    load: Load,
}

/// All that became of it.
#[derive(Debug)]
pub(crate) struct Seen {
    name: &'static str,
    /// Each request and its end.
    pub(crate) outcomes: Outcomes,
}

/// Waits until all of these together have had `count` requests answered.
pub(crate) async fn reach_together(all: &[Traffic], count: u64) {
    wait_until(&format!("{count} requests altogether"), PATIENCE, || async {
        let answered: u64 = all.iter().map(Traffic::answered).sum();
        if answered >= count { Ok(()) } else { Err(answered) }
    })
    .await;
}

impl Traffic {
    /// Starts sending; `name` tells it from other load of the same check.
    pub(crate) fn start(name: &'static str, plan: Plan) -> Self {
        let load = Load::start(name, plan);
        Self { name, load }
    }

    /// Waits until `count` requests have been answered altogether.
    pub(crate) async fn reach(&self, count: u64) {
        wait_until(&format!("{count} requests"), PATIENCE, || async {
            let answered = self.load.answered();
            if answered >= count { Ok(()) } else { Err(answered) }
        })
        .await;
    }

    /// Requests that have ended so far.
    pub(crate) fn answered(&self) -> u64 {
        self.load.answered()
    }

    /// Stops sending, and waits for what is in flight.
    pub(crate) async fn stop(self) -> Seen {
        let outcomes = self.load.stop().await;
        Seen {
            name: self.name,
            outcomes,
        }
    }
}

impl Seen {
    /// Which load it was.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How many requests there were.
    pub(crate) fn count(&self) -> usize {
        self.outcomes.all.len()
    }

    /// No request failed, and each was answered by one of these, as they call themselves.
    pub(crate) fn answered_by(&self, world: &World, stamps: &[&str]) -> anyhow::Result<()> {
        let right = |outcome: &Outcome| {
            let by = outcome.reply().map_or("", |reply| reply.stamp.as_str());
            !outcome.failed() && stamps.contains(&by)
        };
        self.all(world, right)
    }

    /// Each outcome is as demanded; those that are not are written down, with when they were sent.
    pub(crate) fn all(&self, world: &World, right: impl Fn(&Outcome) -> bool) -> anyhow::Result<()> {
        let name = self.name;
        world.say(&format!("load {name}: {}", self.outcomes.summary()));
        let wrong: Vec<_> = self.outcomes.all.iter().filter(|outcome| !right(outcome)).collect();
        let mut text = String::new();
        for outcome in wrong.iter().take(SHOWN_MAX) {
            let Outcome {
                id,
                path,
                sent_unix_ms,
                took,
                connection,
                result,
            } = outcome;
            let _ = writeln!(text, "{sent_unix_ms} {id} {path} {connection:?} {took:?} {result:?}");
        }
        if !text.is_empty() {
            fs::write(world.folder().join(format!("{name}.wrong")), text)?;
        }
        ensure!(
            wrong.is_empty() && self.outcomes.skipped == 0,
            "{} of {} requests of load {name} went wrong: {}",
            wrong.len(),
            self.count(),
            self.outcomes.summary()
        );
        Ok(())
    }
}
