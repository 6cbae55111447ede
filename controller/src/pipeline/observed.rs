//! Reports as they travel → what the rollout core counts.

use std::collections::BTreeMap;

use sluice_model::histogram::BUCKETS;
use sluice_model::{Histogram, InstanceId};
use sluice_proto::{self as proto, ScopeReport, ServedRole};

use crate::rollout::{Counts, Report, Role, ScopeId};

/// The same report for the core; `None` if its histograms were made with other buckets.
pub(super) fn report(instance: InstanceId, report: proto::Report) -> Option<Report> {
    let mut counts = BTreeMap::new();
    for role in report.roles {
        let served = match role.role {
            ServedRole::Stable => Role::Stable,
            ServedRole::Candidate => Role::Candidate,
        };
        for scope in role.scopes {
            let id = scope.route.clone().map_or(ScopeId::Fleet, ScopeId::Route);
            counts.insert((served, id), of_scope(&scope)?);
        }
    }
    Some(Report {
        instance,
        epoch: report.epoch,
        interval_ms: report.interval_ms,
        counts,
    })
}

fn of_scope(scope: &ScopeReport) -> Option<Counts> {
    let mut buckets = [0_u64; BUCKETS];
    for (index, count) in &scope.latency_buckets {
        *buckets.get_mut(usize::try_from(*index).ok()?)? = *count;
    }
    Some(Counts {
        requests: scope.requests,
        failures: scope.failures,
        no_route: scope.no_route,
        latency: Histogram::from_counts(&buckets)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_that_are_not_ours_are_refused() {
        let scope = |index| ScopeReport {
            requests: 2,
            latency_buckets: vec![(0, 1), (index, 1)],
            ..ScopeReport::default()
        };
        assert_eq!(of_scope(&scope(61)).unwrap().latency.total(), 2);
        assert!(of_scope(&scope(62)).is_none());
    }
}
