//! Gates: does the candidate do worse than it may, in one scope?
//!
//! Two tests, because evidence is looked at every second and most scopes are small:
//!
//! - **Clearly over** convicts at any moment: at least [`CLEAR_BAD_MIN`] bad requests, and more than three standard
//!   deviations above what the limit allows (bad requests taken as Poisson, stable's own share at its upper bound). So a
//!   route with 1 % of the traffic is convicted after its first dozen failures, and a candidate within its limit is
//!   not condemned because somebody looked 600 times.
//! - **Plainly over** is the author's limit as written. It is asked when the bake is over and the sample is at least
//!   `minRequests`.
//!
//! A *pass* needs `minRequests` on the fleet, and a tenth of it on a route (at least [`ROUTE_SAMPLE_MIN`]): demanding as
//! much of a route as of the fleet would keep every change of a small route from ever passing.
//!
//! When stable breaks an absolute limit too and the candidate is not clearly worse, the cause is shared (a backend is
//! down): nobody is condemned, nothing is promoted, and the stage bakes again. A limit relative to stable is not asked
//! where there is nothing to compare with.

use super::evidence::{Counts, Evidence, Pair, Quiet, ScopeId};
use super::failure::{Failure, Figure};
use super::plan::{Gate, LatencyLimit, Limit, Metric, PerMillion, RateLimit};
use super::record::Rollout;

/// Bad requests below which nothing is clear: a handful may have one cause outside.
pub const CLEAR_BAD_MIN: u64 = 10;
/// The smallest sample that lets a route pass.
pub const ROUTE_SAMPLE_MIN: u64 = 20;
/// How much slower, in microseconds, the candidate has to be at the 95th percentile before a ratio counts. Below it a
/// ratio compares what the machines happened to do: 1.0 ms against 2.5 ms is one busy neighbour, not a regression that
/// anybody would roll back.
pub const LATENCY_INCREASE_MIN_MICROS: u64 = 10_000;
/// The share of requests that may be slower than a limit on the 95th percentile.
const SLOWER_THAN_P95: u32 = 50_000;
const MILLION: u128 = 1_000_000;

/// What a gate says about one scope.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Within its limits, on enough requests.
    Pass,
    /// Over a limit.
    Fail,
    /// Stable has traffic, the candidate none.
    Starved,
    /// Not enough requests to judge.
    TooFew,
    /// No requests at all, on either side.
    Idle,
    /// Over an absolute limit, but so is stable.
    Shared,
    /// A limit relative to stable, and nothing to compare with.
    NotComparable,
}

impl Verdict {
    /// The word in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::Fail => "Fail",
            Self::Starved => "Starved",
            Self::TooFew => "TooFew",
            Self::Idle => "Idle",
            Self::Shared => "Shared",
            Self::NotComparable => "NotComparable",
        }
    }
}

/// One gate on one scope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assessment {
    /// The gate's metric.
    pub metric: Metric,
    /// Where.
    pub scope: ScopeId,
    /// What the candidate shows.
    pub candidate: Figure,
    /// What it is compared with.
    pub stable: Option<Figure>,
    /// Requests that a pass needs.
    pub needed: u64,
    /// What the gate says.
    pub verdict: Verdict,
    /// Whether the candidate is over the limit as written, on however few requests: too little to convict anybody of,
    /// but enough to tell who is meant where the fleet as a whole is convicted.
    pub(super) leans_over: bool,
}

impl Assessment {
    /// What it convicts the candidate of, if it does.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.verdict {
            Verdict::Fail => Some(Failure::Gate {
                metric: self.metric,
                scope: self.scope.clone(),
                candidate: self.candidate,
                stable: self.stable,
            }),
            Verdict::Starved => Some(Failure::Starved {
                scope: self.scope.clone(),
                stable_requests: self.stable.map_or(0, Figure::requests),
            }),
            Verdict::Pass | Verdict::TooFew | Verdict::Idle | Verdict::Shared | Verdict::NotComparable => None,
        }
    }

    /// Whether the candidate is over a limit as written, however small the sample.
    pub(super) fn is_suspicious(&self) -> bool {
        matches!(self.verdict, Verdict::Fail | Verdict::Starved)
    }
}

/// How far the bake is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moment {
    /// Only what is clear convicts.
    During,
    /// The sample is what it will be.
    BakeOver,
}

/// Whether there is a stable cohort to compare with, over the same minutes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cohort {
    /// Yes.
    Beside,
    /// Not any more: everybody carries the candidate, which stood beside stable in an earlier stage and passed.
    Earlier,
    /// There never was one in this rollout: there is only what stable showed before it.
    Never,
}

/// Every gate on every scope of `rollout`.
pub(super) fn assess(rollout: &Rollout, cohort: Cohort, moment: Moment) -> Vec<Assessment> {
    let look = |gate| {
        let scopes = rollout.evidence.scopes.iter();
        scopes.filter_map(move |(scope, pair)| Look::at(rollout, gate, scope, pair, cohort)?.assess(moment))
    };
    rollout.gates.iter().flat_map(look).collect()
}

/// One gate looking at one scope.
struct Look<'a> {
    gate: &'a Gate,
    scope: &'a ScopeId,
    quiet: Quiet,
    candidate: &'a Counts,
    /// Stable over the same minutes; before, if there is no cohort.
    stable: Option<&'a Counts>,
    /// What stable's share of bad requests is taken from: the scope's, or the fleet's where stable never served it.
    reference: Option<&'a Counts>,
    needed: u64,
    /// Requests that the candidate was to get, as far as anything tells.
    expected: u64,
}

impl<'a> Look<'a> {
    fn at(rollout: &'a Rollout, gate: &'a Gate, scope: &'a ScopeId, pair: &'a Pair, cohort: Cohort) -> Option<Self> {
        if gate.metric() == Metric::NoRouteRate && *scope != ScopeId::Fleet {
            return None;
        }
        let stable = stable_of(rollout, scope, cohort);
        let fleet = || stable_of(rollout, &ScopeId::Fleet, cohort).filter(|_| gate.metric() == Metric::ErrorRate);
        let served = |counts: &&Counts| counts.requests > 0;
        Some(Self {
            gate,
            scope,
            quiet: pair.quiet,
            candidate: &pair.candidate,
            stable,
            reference: stable.filter(served).or_else(|| fleet().filter(served)),
            needed: sample(gate, scope),
            expected: expected(rollout, scope, pair, cohort),
        })
    }

    fn assess(&self, moment: Moment) -> Option<Assessment> {
        let (candidate, stable, verdict, leans_over) = match self.gate.limit {
            Limit::ErrorRate(limit) => self.rate(limit, |counts| counts.failures, moment),
            Limit::NoRouteRate(limit) => self.rate(limit, |counts| counts.no_route, moment),
            Limit::LatencyP95(limit) => self.latency(limit, moment),
        };
        Some(Assessment {
            metric: self.gate.metric(),
            scope: self.scope.clone(),
            candidate,
            stable,
            needed: self.needed,
            verdict,
            leans_over,
        })
    }

    fn rate(
        &self,
        limit: RateLimit,
        bad: fn(&Counts) -> u64,
        moment: Moment,
    ) -> (Figure, Option<Figure>, Verdict, bool) {
        let share = |counts: &Counts| Sample {
            bad: bad(counts),
            requests: counts.requests,
        };
        let (candidate, reference) = (share(self.candidate), self.reference.map(share));
        let judge = |plain| {
            let over = |allowed: PerMillion| candidate.is_over(allowed, plain);
            let worse = reference.is_some_and(|stable| {
                let increase = limit.max_increase.unwrap_or(PerMillion(0));
                candidate.is_worse_than(stable, increase, plain && limit.max_increase.is_some())
            });
            let shared = reference
                .zip(limit.max)
                .is_some_and(|(stable, max)| stable.is_over(max, true));
            let absolute = limit.max.is_some_and(over);
            match (limit.max_increase.is_some() && worse, absolute, shared) {
                (true, _, _) | (_, true, false) => Some(Verdict::Fail),
                (_, true, true) if worse => Some(Verdict::Fail),
                (_, true, true) => Some(Verdict::Shared),
                (false, false, _) => None,
            }
        };
        let verdict = self.verdict(moment, candidate.requests, judge);
        let comparable = limit.max.is_some() || reference.is_some();
        (
            candidate.figure(),
            self.stable.map(|counts| share(counts).figure()),
            if_comparable(verdict, comparable),
            judge(true) == Some(Verdict::Fail),
        )
    }

    fn latency(&self, limit: LatencyLimit, moment: Moment) -> (Figure, Option<Figure>, Verdict, bool) {
        let slower = |counts: &Counts, than: u64| Sample {
            bad: counts.latency.count_over(than),
            requests: counts.latency.total(),
        };
        let p95 = |counts: &Counts| Figure::Latency {
            micros: counts.latency.percentile_micros(95).unwrap_or(0),
            requests: counts.latency.total(),
        };
        let judged = self.stable.filter(|stable| stable.latency.total() >= self.needed);
        let ratio_limit = limit.max_ratio_thousandths.zip(judged).and_then(|(ratio, stable)| {
            let base = u128::from(stable.latency.percentile_micros(95)?);
            let least = base + u128::from(LATENCY_INCREASE_MIN_MICROS);
            u64::try_from((base * u128::from(ratio) / 1_000).max(least)).ok()
        });
        let allowed = PerMillion(SLOWER_THAN_P95);
        let judge = |plain| {
            let over = |micros| slower(self.candidate, micros).is_over(allowed, plain);
            let relative = ratio_limit.is_some_and(over);
            let absolute = limit.max_micros.is_some_and(over);
            let shared = judged.zip(limit.max_micros).is_some_and(|(stable, max)| {
                let worse = slower(self.candidate, max).is_worse_than(slower(stable, max), PerMillion(0), false);
                slower(stable, max).is_over(allowed, true) && !worse
            });
            match (relative, absolute, shared) {
                (true, _, _) | (_, true, false) => Some(Verdict::Fail),
                (false, true, true) => Some(Verdict::Shared),
                (false, false, _) => None,
            }
        };
        let verdict = self.verdict(moment, self.candidate.latency.total(), judge);
        let comparable = limit.max_micros.is_some() || self.stable.is_some_and(|stable| stable.requests > 0);
        let verdict = if_comparable(verdict, comparable);
        // A ratio alone, and stable has requests but too few to know its percentile.
        let unknown = limit.max_micros.is_none() && judged.is_none();
        let verdict = if verdict == Verdict::Pass && unknown {
            Verdict::TooFew
        } else {
            verdict
        };
        (
            p95(self.candidate),
            self.stable.map(p95),
            verdict,
            judge(true) == Some(Verdict::Fail),
        )
    }

    /// The order in which things are asked, the same for every metric. `over` says what is wrong, clearly or (given
    /// `true`) plainly.
    fn verdict(&self, moment: Moment, requests: u64, over: impl Fn(bool) -> Option<Verdict>) -> Verdict {
        if let Some(Verdict::Fail) = over(false) {
            return Verdict::Fail;
        }
        let stable_requests = self.stable.map_or(0, |stable| stable.requests);
        match (requests, stable_requests) {
            (0, 0) => return Verdict::Idle,
            (0, stable) if self.is_starved(stable, moment) => return Verdict::Starved,
            (some, _) if some < self.needed => {
                return if self.quiet == Quiet::Yes {
                    Verdict::Idle
                } else {
                    Verdict::TooFew
                };
            }
            (_, _) => {}
        }
        let plain = requests >= self.gate.min_requests.max(1) && moment == Moment::BakeOver;
        over(plain).unwrap_or(Verdict::Pass)
    }

    /// Whether a candidate without a single request is convicted of that: stable had a full sample, and the candidate was
    /// to get one too.
    fn is_starved(&self, stable: u64, moment: Moment) -> bool {
        let enough = self.gate.min_requests.max(ROUTE_SAMPLE_MIN);
        moment == Moment::BakeOver && stable >= enough && self.expected >= ROUTE_SAMPLE_MIN
    }
}

/// Requests that the candidate was to get in `scope`. That stable gets some is not enough: a client with one connection
/// sends all of them to one instance, and it is nobody's fault which.
fn expected(rollout: &Rollout, scope: &ScopeId, pair: &Pair, cohort: Cohort) -> u64 {
    match (cohort, scope) {
        // As many as came to the same instances before, in as much time.
        (Cohort::Beside, ScopeId::Fleet) => in_this_bake(rollout, rollout.served_before),
        // The share of its traffic that the route has of stable's.
        (Cohort::Beside, ScopeId::Route(_)) => rollout.evidence.scopes.get(&ScopeId::Fleet).map_or(0, |fleet| {
            let share = u128::from(fleet.candidate.requests) * u128::from(pair.stable.requests);
            let share = share / u128::from(fleet.stable.requests.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        }),
        // It passed beside stable. That nobody comes any more says that the load has ended.
        (Cohort::Earlier, _) => 0,
        (Cohort::Never, _) => {
            let before = stable_of(rollout, scope, cohort).map_or(0, |stable| stable.requests);
            in_this_bake(rollout, before)
        }
    }
}

/// What `requests` of before the stage come to in the time that was observed of it.
fn in_this_bake(rollout: &Rollout, requests: u64) -> u64 {
    let due = u128::from(requests) * u128::from(rollout.observed_ms);
    let due = due.checked_div(u128::from(rollout.served_before_ms)).unwrap_or(0);
    u64::try_from(due).unwrap_or(u64::MAX)
}

fn stable_of<'a>(rollout: &'a Rollout, scope: &ScopeId, cohort: Cohort) -> Option<&'a Counts> {
    match cohort {
        Cohort::Beside => rollout.evidence.scopes.get(scope).map(|pair| &pair.stable),
        Cohort::Earlier | Cohort::Never => rollout.baseline.get(scope),
    }
}

fn if_comparable(verdict: Verdict, comparable: bool) -> Verdict {
    match verdict {
        Verdict::Pass if !comparable => Verdict::NotComparable,
        Verdict::Pass
        | Verdict::Fail
        | Verdict::Starved
        | Verdict::TooFew
        | Verdict::Idle
        | Verdict::Shared
        | Verdict::NotComparable => verdict,
    }
}

/// Requests that a pass needs in `scope`.
fn sample(gate: &Gate, scope: &ScopeId) -> u64 {
    match scope {
        ScopeId::Fleet => gate.min_requests.max(1),
        ScopeId::Route(_) => (gate.min_requests / 10)
            .max(ROUTE_SAMPLE_MIN)
            .min(gate.min_requests)
            .max(1),
    }
}

/// Some bad ones out of some requests.
#[derive(Clone, Copy)]
struct Sample {
    bad: u64,
    requests: u64,
}

impl Sample {
    fn figure(self) -> Figure {
        Figure::Share {
            bad: self.bad,
            requests: self.requests,
        }
    }

    fn is_over(self, allowed: PerMillion, plain: bool) -> bool {
        let allowed = u128::from(allowed.0) * u128::from(self.requests);
        let bad = u128::from(self.bad) * MILLION;
        let clear = || self.bad >= CLEAR_BAD_MIN && bad > allowed + 3 * (allowed * MILLION).isqrt();
        if plain { bad > allowed } else { clear() }
    }

    /// Whether this is more than `increase` above `stable`'s share: as measured, or clearly.
    fn is_worse_than(self, stable: Self, increase: PerMillion, plain: bool) -> bool {
        let share = if plain { stable.share() } else { stable.upper_share() };
        self.is_over(PerMillion(share.0.saturating_add(increase.0)), plain)
    }

    fn share(self) -> PerMillion {
        PerMillion::of(self.bad, self.requests)
    }

    /// What stable's share may be at most, given chance: three standard deviations up, and the rule of three for none.
    fn upper_share(self) -> PerMillion {
        let upper = self.bad.saturating_add(3 * self.bad.isqrt()).saturating_add(3);
        PerMillion::of(upper.min(self.requests.max(1)), self.requests)
    }
}

/// The scopes in which anything is wrong, and what: the worst first (routes before the fleet, since they say more).
pub(super) fn convictions(assessments: &[Assessment]) -> Vec<&Assessment> {
    let mut failing: Vec<&Assessment> = assessments
        .iter()
        .filter(|assessment| assessment.is_suspicious())
        .collect();
    failing.sort_by_key(|assessment| assessment.scope == ScopeId::Fleet);
    failing
}

/// Whether members and, if there is a cohort beside them, others have reported at all.
pub(super) fn has_reports(evidence: &Evidence, cohort: Cohort) -> bool {
    evidence.candidate_reports > 0 && (cohort != Cohort::Beside || evidence.stable_reports > 0)
}
