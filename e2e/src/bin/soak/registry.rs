//! Which scenarios there are.

use std::pin::Pin;
use std::time::Duration;

use anyhow::ensure;

use crate::options::Form;
use crate::scenario::{attacks, bodies, certificates, cut_short, grpc_faults, idle, restart, tunnels};

/// What a scenario found: its figures, in a line, or what broke.
pub(crate) type Found = Pin<Box<dyn Future<Output = anyhow::Result<String>> + Send>>;

/// One scenario.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// What it is called by.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) shows: &'static str,
    /// Runs it.
    pub(crate) run: fn(Form) -> Found,
}

/// A scenario that takes longer has hung.
pub(crate) fn limit(form: Form) -> Duration {
    form.pick(Duration::from_secs(90), Duration::from_secs(1_800))
}

const ALL: &[Scenario] = &[
    Scenario {
        name: "bodies",
        shows: "bodies arrive as they were sent, from every kind of client to every kind of upstream, and memory stays flat",
        run: |form| Box::pin(bodies::run(form)),
    },
    Scenario {
        name: "cut-short",
        shows: "an upstream that dies within a body: the client can tell, log and metrics say so",
        run: |form| Box::pin(cut_short::run(form)),
    },
    Scenario {
        name: "idle",
        shows: "what an idle connection costs in memory, by the way it is spoken",
        run: |form| Box::pin(idle::run(form)),
    },
    Scenario {
        name: "grpc-faults",
        shows: "calls of every kind while their upstreams are broken end as they were answered, or as the fault explains",
        run: |form| Box::pin(grpc_faults::run(form)),
    },
    Scenario {
        name: "tunnels",
        shows: "WebSocket is byte for byte what was sent, also at a standstill, and takes no memory for it",
        run: |form| Box::pin(tunnels::run(form)),
    },
    Scenario {
        name: "restart",
        shows: "a rolling restart behind an address that lags fails no request of clients of seven kinds",
        run: |form| Box::pin(restart::run(form)),
    },
    Scenario {
        name: "certificates",
        shows: "each host shows its own certificate while one after the other is replaced, and no connection is closed",
        run: |form| Box::pin(certificates::run(form)),
    },
    Scenario {
        name: "attacks",
        shows: "floods and slow clients are cut in time, cost little, and no good request fails beside them",
        run: |form| Box::pin(attacks::run(form)),
    },
];

/// Those whose names begin with one of these; all if there are none.
pub(crate) fn chosen(names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    for name in names {
        let known = ALL.iter().any(|scenario| scenario.name.starts_with(name.as_str()));
        ensure!(known, "there is no scenario {name}; see e2e/soak --list");
    }
    let wanted = |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| scenario.name.starts_with(name));
    Ok(ALL.iter().filter(wanted).copied().collect())
}

/// A line for each.
pub(crate) fn print(scenarios: &[Scenario]) {
    for scenario in scenarios {
        println!("{:<14} {}", scenario.name, scenario.shows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_the_beginning_of_their_names() {
        let names = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
            chosen(&given).map(|chosen| chosen.iter().map(|scenario| scenario.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), ALL.len());
        assert_eq!(names(&["bod"]).unwrap(), ["bodies"]);
        assert!(names(&["nothing"]).is_err());
    }
}
