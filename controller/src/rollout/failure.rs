//! Why a revision was taken back, with the figures that convicted it.

use std::fmt;

use serde::{Deserialize, Serialize};
use sluice_model::InstanceId;

use super::evidence::ScopeId;
use super::plan::{Metric, PerMillion};
use super::stored;
use super::time::Span;

/// What convicted a revision.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Failure {
    /// A gate failed.
    Gate {
        /// Which.
        metric: Metric,
        /// Where.
        scope: ScopeId,
        /// What the candidate showed.
        candidate: Figure,
        /// What stable showed over the same time, or before when there is no stable cohort.
        stable: Option<Figure>,
    },
    /// Stable had traffic and the candidate none.
    Starved {
        /// Where.
        scope: ScopeId,
        /// Requests on stable.
        stable_requests: u64,
    },
    /// Too few requests to judge, and the plan says that this is a failure.
    NoData {
        /// Where.
        scope: ScopeId,
        /// Requests on the candidate.
        requests: u64,
        /// Requests that a verdict needs.
        needed: u64,
    },
    /// A member refused it.
    Refused {
        /// Which member.
        #[serde(with = "stored::text")]
        instance: InstanceId,
        /// In its words.
        reason: String,
    },
    /// A member crashed or restarted after it had begun to serve it.
    Restarted {
        /// Which member.
        #[serde(with = "stored::text")]
        instance: InstanceId,
    },
    /// A member did not acknowledge it, or fell silent after it had.
    Silent {
        /// Which member.
        #[serde(with = "stored::text")]
        instance: InstanceId,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// A person took it back.
    Aborted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What one side showed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Figure {
    /// `bad` out of `requests`.
    Share {
        /// Requests that count against it.
        bad: u64,
        /// All of them.
        requests: u64,
    },
    /// A 95th percentile in microseconds over so many requests; `u64::MAX` is beyond measure.
    Latency {
        /// The percentile.
        micros: u64,
        /// Out of how many.
        requests: u64,
    },
}

impl Figure {
    /// Requests it was taken from.
    pub fn requests(self) -> u64 {
        match self {
            Self::Share { requests, .. } | Self::Latency { requests, .. } => requests,
        }
    }

    /// The value alone: `38%`, `412ms`; `-` of nothing.
    pub fn value(self) -> String {
        match self {
            Self::Share { requests: 0, .. } | Self::Latency { requests: 0, .. } => "-".to_owned(),
            Self::Share { bad, requests } => PerMillion::of(bad, requests).to_string(),
            Self::Latency { micros: u64::MAX, .. } => "over 67s".to_owned(),
            Self::Latency { micros, .. } if micros < 1_000_000 => {
                format!("{}.{}ms", micros / 1_000, micros / 100 % 10)
            }
            Self::Latency { micros, .. } => format!("{}.{}s", micros / 1_000_000, micros / 100_000 % 10),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} requests", self.value(), self.requests())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate {
                metric,
                scope,
                candidate,
                stable,
            } => {
                write!(f, "{metric} on {scope}: candidate {candidate}")?;
                stable.map_or(Ok(()), |stable| write!(f, " against {stable} on stable"))
            }
            Self::Starved { scope, stable_requests } => {
                write!(
                    f,
                    "no request reached the candidate on {scope}, {stable_requests} reached stable"
                )
            }
            Self::NoData {
                scope,
                requests,
                needed,
            } => {
                write!(
                    f,
                    "{requests} requests on {scope}, {needed} are needed for a verdict, and onNoData is Fail"
                )
            }
            Self::Refused { instance, reason } => write!(f, "{instance} refused it: {reason}"),
            Self::Restarted { instance } => write!(f, "{instance} restarted after it had begun to serve it"),
            Self::Silent { instance, for_ms } => {
                write!(
                    f,
                    "{instance} was ordered onto it and has been silent for {}",
                    Span(*for_ms)
                )
            }
            Self::Aborted { by, reason } if reason.is_empty() => write!(f, "aborted by {by}"),
            Self::Aborted { by, reason } => write!(f, "aborted by {by}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_evidence() {
        let failure = Failure::Gate {
            metric: Metric::ErrorRate,
            scope: "ProxyRoute demo/shop".parse().unwrap(),
            candidate: Figure::Share {
                bad: 812,
                requests: 812,
            },
            stable: Some(Figure::Share { bad: 0, requests: 1630 }),
        };
        assert_eq!(
            failure.to_string(),
            "ErrorRate on ProxyRoute demo/shop: candidate 100% of 812 requests against 0% of 1630 requests on stable"
        );
    }

    #[test]
    fn latencies_have_units() {
        let value = |micros| Figure::Latency { micros, requests: 1 }.value();
        assert_eq!(value(412_345), "412.3ms");
        assert_eq!(value(1_500_000), "1.5s");
        assert_eq!(value(u64::MAX), "over 67s");
        let nothing = Figure::Latency { micros: 5, requests: 0 };
        assert_eq!(nothing.value(), "-");
    }
}
