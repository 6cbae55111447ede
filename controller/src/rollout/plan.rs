//! The plan: what an author's Rollout asks for, checked. Stages, gates and what to do when evidence is missing.
//!
//! A [`Plan`] is valid by construction ([`Plan::new`]). Parsing durations and percentages out of a manifest is done by
//! translate; what happens to a fleet without a Rollout is [`Plan::built_in`], and status says so.

use std::fmt;

use serde::{Deserialize, Serialize};
use sluice_model::limits;

/// A share in parts per million, so that `0.5%` is exact and nothing is a float.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerMillion(pub u32);

impl PerMillion {
    /// Everything: 100 %.
    pub const ALL: Self = Self(1_000_000);

    /// A whole number of percent.
    pub const fn percent(percent: u32) -> Self {
        Self(percent.saturating_mul(10_000))
    }

    /// `part` of `whole`, rounded down; zero of nothing.
    pub fn of(part: u64, whole: u64) -> Self {
        let share = (u128::from(part) * 1_000_000)
            .checked_div(u128::from(whole))
            .unwrap_or(0);
        Self(u32::try_from(share).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for PerMillion {
    /// At most two decimals, as people write it: `38%`, `0.5%`, `<0.01%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.0 / 100;
        match (hundredths / 100, hundredths % 100) {
            (0, 0) if self.0 > 0 => f.write_str("<0.01%"),
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

/// One step of a rollout: how much of the fleet, and for how long it is watched there.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, unique in the plan.
    pub name: String,
    /// The share of the fleet's instances that carry the candidate; at 100 % all do, also those that join.
    pub fleet: PerMillion,
    /// Observed time, in milliseconds, before the next stage. Zero: pass as soon as every member has acknowledged,
    /// without looking at a gate.
    pub bake_ms: u64,
}

impl Stage {
    /// The one stage of what needs no proof: passed as soon as everybody has acknowledged.
    pub(super) fn everybody_at_once() -> Self {
        Self {
            name: "all".to_owned(),
            fleet: PerMillion::ALL,
            bake_ms: 0,
        }
    }
}

/// What a gate measures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Metric {
    /// Requests that failed on the server's side (5xx, timeouts, failed connections) out of all requests.
    ErrorRate,
    /// The 95th percentile of latency.
    LatencyP95,
    /// Requests that no route took, out of all requests. Looks at the fleet only: such a request belongs to no route.
    NoRouteRate,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ErrorRate => "ErrorRate",
            Self::LatencyP95 => "LatencyP95",
            Self::NoRouteRate => "NoRouteRate",
        })
    }
}

/// A limit on a share of requests. At least one of the two is set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RateLimit {
    /// Absolute: never more than this.
    pub max: Option<PerMillion>,
    /// Relative: never more than stable's share plus this, over the same minutes.
    pub max_increase: Option<PerMillion>,
}

/// A limit on latency. At least one of the two is set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LatencyLimit {
    /// Absolute: at most this many microseconds.
    pub max_micros: Option<u64>,
    /// Relative: at most stable's latency times this, in thousandths (1500 = 1.5 times).
    pub max_ratio_thousandths: Option<u32>,
}

/// A condition on the candidate's traffic.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Gate {
    /// What must not be exceeded.
    pub limit: Limit,
    /// The sample below which a pass is not believed and a plain comparison not made. A harm that cannot be chance
    /// convicts sooner; see `gates.rs`.
    pub min_requests: u64,
}

/// A metric with its limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Limit {
    /// See [`Metric::ErrorRate`].
    ErrorRate(RateLimit),
    /// See [`Metric::LatencyP95`].
    LatencyP95(LatencyLimit),
    /// See [`Metric::NoRouteRate`].
    NoRouteRate(RateLimit),
}

impl Gate {
    /// What this gate measures.
    pub fn metric(&self) -> Metric {
        match self.limit {
            Limit::ErrorRate(_) => Metric::ErrorRate,
            Limit::LatencyP95(_) => Metric::LatencyP95,
            Limit::NoRouteRate(_) => Metric::NoRouteRate,
        }
    }

    fn has_limit(&self) -> bool {
        match self.limit {
            Limit::ErrorRate(rate) | Limit::NoRouteRate(rate) => rate.max.is_some() || rate.max_increase.is_some(),
            Limit::LatencyP95(latency) => latency.max_micros.is_some() || latency.max_ratio_thousandths.is_some(),
        }
    }
}

/// What happens when a bake is over and there were too few requests to judge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum OnNoData {
    /// Stay in the stage and go on counting.
    #[default]
    Hold,
    /// Roll back.
    Fail,
    /// Proceed.
    Pass,
}

/// What happens when a bake is over and authenticated reports say that nobody sent a request to either side.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum OnIdle {
    /// Proceed: there was nobody to harm.
    #[default]
    Proceed,
    /// Stay in the stage until somebody sends requests.
    Hold,
}

/// Whether the author lets rollouts go on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Progress {
    /// They go on.
    #[default]
    Running,
    /// `paused: true`: nothing new is ordered. Gates still watch, and a failing one still rolls back.
    Paused,
}

/// What a rollout follows. A running rollout keeps the stages and gates it began with; `progress` applies at once.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Plan {
    stages: Vec<Stage>,
    gates: Vec<Gate>,
    /// Too few requests to judge.
    pub on_no_data: OnNoData,
    /// No requests at all.
    pub on_idle: OnIdle,
    /// Paused by the author or not.
    pub progress: Progress,
    /// Milliseconds after which a rollout that is still running is reported as stalled.
    pub progress_deadline_ms: Option<u64>,
    /// Milliseconds for which newer revisions may supersede an unfinished change; then the newest waits for its end,
    /// so that a busy repository does not starve the bake.
    pub max_pending_age_ms: u64,
}

/// Why stages and gates are not a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No stage.
    #[error("stages: must have at least one stage; leave the field out for the built-in stages")]
    NoStage,
    /// Too many.
    #[error("{field}: has {count} entries, at most {max} are allowed; merge some")]
    TooMany {
        /// `stages` or `gates`.
        field: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A share out of range.
    #[error("stages[{index}].fleetPercent: is {share}; use more than 0 and at most 100 percent")]
    Share {
        /// Which stage.
        index: usize,
        /// What it asks for.
        share: PerMillion,
    },
    /// A stage smaller than the one before.
    #[error("stages[{index}].fleetPercent: is {share}, less than the {before} before it; stages must not shrink")]
    Shrinks {
        /// Which stage.
        index: usize,
        /// What it asks for.
        share: PerMillion,
        /// What the stage before asks for.
        before: PerMillion,
    },
    /// Two stages of one name.
    #[error("stages[{index}].name: {name:?} is the name of an earlier stage; give each stage a name of its own")]
    SameName {
        /// The second of them.
        index: usize,
        /// The name.
        name: String,
    },
    /// A gate that cannot fail.
    #[error("gates[{index}]: {metric} has no limit; set an absolute or a relative one")]
    NoLimit {
        /// Which gate.
        index: usize,
        /// Its metric.
        metric: Metric,
    },
}

/// How long changes may supersede each other before the newest has to wait, unless the author says otherwise.
pub const MAX_PENDING_AGE_DEFAULT_MS: u64 = 3_600_000;

impl Plan {
    /// The plan with these stages and gates, and the defaults for the rest. A last stage below 100 % is followed by
    /// an implied stage `all` with the same bake: nothing is promoted that has not baked everywhere.
    ///
    /// # Errors
    /// Names the field (below `spec`), what is wrong with it and how to mend it.
    pub fn new(stages: Vec<Stage>, gates: Vec<Gate>) -> Result<Self, PlanError> {
        check_stages(&stages)?;
        check_gates(&gates)?;
        Ok(Self {
            stages: complete(stages),
            gates,
            on_no_data: OnNoData::default(),
            on_idle: OnIdle::default(),
            progress: Progress::default(),
            progress_deadline_ms: None,
            max_pending_age_ms: MAX_PENDING_AGE_DEFAULT_MS,
        })
    }

    /// What a fleet without a Rollout follows: a tenth of the instances for five minutes, half for five, all for
    /// five; at most 1 % failed requests and half a percent more than stable, latency at most twice stable's, one
    /// percent more requests without a route.
    pub fn built_in() -> Self {
        let stage = |name: &str, percent| Stage {
            name: name.to_owned(),
            fleet: PerMillion::percent(percent),
            bake_ms: 300_000,
        };
        Self {
            stages: vec![stage("canary", 10), stage("half", 50), stage("all", 100)],
            gates: Self::built_in_gates(),
            on_no_data: OnNoData::default(),
            on_idle: OnIdle::default(),
            progress: Progress::default(),
            progress_deadline_ms: None,
            max_pending_age_ms: MAX_PENDING_AGE_DEFAULT_MS,
        }
    }

    /// The gates of a Rollout that names none; see [`Plan::built_in`].
    pub fn built_in_gates() -> Vec<Gate> {
        let rate = |max, max_increase| RateLimit { max, max_increase };
        let latency = LatencyLimit {
            max_micros: None,
            max_ratio_thousandths: Some(2_000),
        };
        let gate = |limit| Gate {
            limit,
            min_requests: 200,
        };
        vec![
            gate(Limit::ErrorRate(rate(
                Some(PerMillion::percent(1)),
                Some(PerMillion(5_000)),
            ))),
            gate(Limit::LatencyP95(latency)),
            gate(Limit::NoRouteRate(rate(None, Some(PerMillion::percent(1))))),
        ]
    }

    /// The stages in order; the last one is always the whole fleet.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The gates, each of which looks at every scope.
    pub fn gates(&self) -> &[Gate] {
        &self.gates
    }
}

fn check_stages(stages: &[Stage]) -> Result<(), PlanError> {
    at_most("stages", stages.len(), limits::ROLLOUT_STAGES_MAX)?;
    if stages.is_empty() {
        return Err(PlanError::NoStage);
    }
    let mut before = PerMillion(0);
    for (index, stage) in stages.iter().enumerate() {
        let share = stage.fleet;
        if share.0 == 0 || share > PerMillion::ALL {
            return Err(PlanError::Share { index, share });
        }
        if share < before {
            return Err(PlanError::Shrinks { index, share, before });
        }
        if stages.iter().take(index).any(|earlier| earlier.name == stage.name) {
            let name = stage.name.clone();
            return Err(PlanError::SameName { index, name });
        }
        before = share;
    }
    Ok(())
}

fn check_gates(gates: &[Gate]) -> Result<(), PlanError> {
    at_most("gates", gates.len(), limits::ROLLOUT_GATES_MAX)?;
    match gates.iter().enumerate().find(|(_, gate)| !gate.has_limit()) {
        Some((index, gate)) => Err(PlanError::NoLimit {
            index,
            metric: gate.metric(),
        }),
        None => Ok(()),
    }
}

fn at_most(field: &'static str, count: usize, max: usize) -> Result<(), PlanError> {
    if count > max {
        return Err(PlanError::TooMany { field, count, max });
    }
    Ok(())
}

fn complete(mut stages: Vec<Stage>) -> Vec<Stage> {
    if let Some(last) = stages.last().filter(|last| last.fleet < PerMillion::ALL) {
        let bake_ms = last.bake_ms;
        let taken = stages.iter().any(|stage| stage.name == "all");
        stages.push(Stage {
            name: if taken { "everything" } else { "all" }.to_owned(),
            fleet: PerMillion::ALL,
            bake_ms,
        });
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, fleet: u32) -> Stage {
        Stage {
            name: name.to_owned(),
            fleet: PerMillion(fleet),
            bake_ms: 7,
        }
    }

    #[test]
    fn shares_print_as_people_write_them() {
        for (share, text) in [
            (0, "0%"),
            (1, "<0.01%"),
            (700, "0.07%"),
            (5_000, "0.5%"),
            (380_000, "38%"),
            (1_000_000, "100%"),
        ] {
            assert_eq!(PerMillion(share).to_string(), text);
        }
        assert_eq!(PerMillion::of(812, 812), PerMillion::ALL);
        assert_eq!(PerMillion::of(1, 0), PerMillion(0));
    }

    #[test]
    fn the_last_stage_is_everybody() {
        let plan = Plan::new(vec![stage("canary", 100_000)], vec![]).unwrap();
        assert_eq!(plan.stages().len(), 2);
        assert_eq!(plan.stages()[1].fleet, PerMillion::ALL);
        assert_eq!(plan.stages()[1].bake_ms, 7);
    }

    #[test]
    fn built_in_is_a_plan() {
        let built_in = Plan::built_in();
        let checked = Plan::new(built_in.stages().to_vec(), built_in.gates().to_vec()).unwrap();
        assert_eq!(checked, built_in);
    }

    #[test]
    fn what_is_not_a_plan_says_where() {
        let problem = |stages, gates| Plan::new(stages, gates).unwrap_err().to_string();
        assert!(problem(vec![], vec![]).starts_with("stages:"));
        assert!(problem(vec![stage("a", 0)], vec![]).starts_with("stages[0].fleetPercent:"));
        assert!(problem(vec![stage("a", 1_000_001)], vec![]).contains("at most 100"));
        assert!(problem(vec![stage("a", 20), stage("b", 10)], vec![]).starts_with("stages[1].fleetPercent:"));
        assert!(problem(vec![stage("a", 10), stage("a", 20)], vec![]).starts_with("stages[1].name:"));
        let many = (0..20).map(|at| stage(&at.to_string(), 10)).collect();
        assert!(problem(many, vec![]).contains("at most 16"));
        let limit = RateLimit {
            max: None,
            max_increase: None,
        };
        let gate = Gate {
            limit: Limit::ErrorRate(limit),
            min_requests: 1,
        };
        assert!(problem(vec![stage("a", 10)], vec![gate]).starts_with("gates[0]: ErrorRate"));
    }
}
