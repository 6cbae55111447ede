//! Which controller leads, as its Lease says; and whether any does, for whoever reads what a leader has written.
//!
//! A leader renews the Lease every two seconds. Whether that is long ago is judged by this machine's clock first, and if
//! that says so, by looking once more: a clock that is wrong raises no alarm.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use sluice_controller::leader::LEASE;
use sluice_model::limits::{LEASE_MS, LEASE_RENEW_MS};
use tokio::time::{sleep, timeout};

use super::Cluster;
use super::refusal::Wish;
use crate::failure::Failure;

/// How long a Lease is looked at that seems not to be renewed: whoever leads renews it meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(2 * LEASE_RENEW_MS);
/// For want of an answer nobody waits: what is said of the leader is beside the question.
const WAIT: Duration = Duration::from_secs(3);

/// What a Lease says of the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Leader {
    /// Somebody leads.
    There,
    /// Nobody does: it was given back.
    None {
        /// When it was written last.
        since: Option<Timestamp>,
    },
    /// Somebody led, and has not renewed it for longer than it lasts.
    Late {
        /// Until when it lasted.
        since: Timestamp,
    },
}

fn leader(lease: &LeaseSpec, now: Timestamp) -> Leader {
    let renewed = lease.renew_time.as_ref().map(|time| time.0);
    let renewed = renewed.map(|time| to_seconds(time.as_second()));
    if lease.holder_identity.as_deref().unwrap_or_default().is_empty() {
        return Leader::None { since: renewed };
    }
    let lasts = lease.lease_duration_seconds.map_or(LEASE_MS / 1_000, |seconds| {
        u64::try_from(seconds).unwrap_or(LEASE_MS / 1_000)
    });
    let until = renewed.and_then(|renewed| renewed.checked_add(Duration::from_secs(lasts)).ok());
    match until {
        Some(until) if until < now => Leader::Late { since: until },
        Some(_) | None => Leader::There,
    }
}

fn to_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Cluster {
    /// The sentence that nobody leads in `namespace`, if nobody does. Whoever may not see the Lease, or has no answer soon,
    /// is told nothing.
    pub async fn nobody_leads(&self, namespace: &str) -> Option<String> {
        let Some(lease) = self.lease(namespace).await? else {
            return Some(format!(
                "no controller leads: there is no Lease {LEASE} in namespace {namespace}; what follows is as the last one left \
                 it. If controllers run there, {GONE}"
            ));
        };
        let spec = lease.spec.unwrap_or_default();
        match leader(&spec, Timestamp::now()) {
            Leader::There => None,
            Leader::None { since } => Some(sentence(since)),
            Leader::Late { since } => {
                sleep(LOOK_AGAIN).await;
                let again = self.lease(namespace).await??.spec.unwrap_or_default();
                // Renewed meanwhile: it is a clock that is wrong.
                (again.renew_time == spec.renew_time).then(|| sentence(Some(since)))
            }
        }
    }

    /// The Lease, `Some(None)` if there is none; `None` without an answer.
    async fn lease(&self, namespace: &str) -> Option<Option<Lease>> {
        let api: Api<Lease> = Api::namespaced(self.client(), namespace);
        timeout(WAIT, api.get_opt(LEASE)).await.ok()?.ok()
    }

    /// The pod of the controller that leads in `namespace`.
    ///
    /// # Errors
    /// When nobody does, or that cannot be asked.
    pub async fn leader(&self, namespace: &str) -> Result<String, Failure> {
        let api: Api<Lease> = Api::namespaced(self.client(), namespace);
        let wish = Wish::get("leases.coordination.k8s.io", namespace, LEASE);
        let lease = self.call(&wish, api.get_opt(LEASE)).await?;
        let lease = lease.ok_or_else(|| {
            Failure::failed(format!(
                "there is no Lease {LEASE} in namespace {namespace}: no controller leads there; if it is in another, say which \
                 with -n; if controllers run there, {GONE}"
            ))
        })?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        pod_of(&holder).map(str::to_owned).ok_or_else(|| {
            Failure::failed(format!(
                "nobody leads: the Lease {LEASE} in namespace {namespace} has no holder; `kubectl -n {namespace} get pods` \
                 shows whether a controller runs"
            ))
        })
    }
}

/// What takes the Lease away from controllers that run: it goes with what it belongs to.
const GONE: &str =
    "ConfigMap sluice-installation is gone: put it back with `helm upgrade`, and restart no controller before";

fn sentence(since: Option<Timestamp>) -> String {
    match since {
        Some(since) => format!("no controller leads since {since}; what follows is as of then"),
        None => "no controller leads; what follows is as the last one left it".to_owned(),
    }
}

/// The pod in the name of a holder or an instance, which is that of its pod and what tells it from a namesake.
pub fn pod_of(identity: &str) -> Option<&str> {
    let pod = identity.split(['.', '_', '/']).next()?;
    (!pod.is_empty()).then_some(pod)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    fn lease(holder: Option<&str>, renewed: Option<i64>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(10),
            renew_time: renewed.map(|at| MicroTime(to_seconds(at))),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_that_nobody_renews_or_holds_has_no_leader() {
        let check = |holder, renewed, now, expected| {
            assert_eq!(
                leader(&lease(holder, renewed), to_seconds(now)),
                expected,
                "{holder:?} {renewed:?}"
            );
        };
        check(Some("a.1"), Some(100), 105, Leader::There);
        check(Some("a.1"), Some(100), 110, Leader::There);
        let since = to_seconds(110);
        check(Some("a.1"), Some(100), 111, Leader::Late { since });
        // A clock that is behind says nothing.
        check(Some("a.1"), Some(100), 50, Leader::There);
        let since = Some(to_seconds(100));
        check(None, Some(100), 101, Leader::None { since });
        check(Some(""), Some(100), 101, Leader::None { since });
        check(None, None, 101, Leader::None { since: None });
    }

    #[test]
    fn since_when_is_said() {
        assert_eq!(
            sentence(Some(to_seconds(1_795_602_645))),
            "no controller leads since 2026-11-25T10:30:45Z; what follows is as of then"
        );
        assert!(sentence(None).starts_with("no controller leads; "));
    }

    #[test]
    fn the_pod_is_in_the_name() {
        assert_eq!(pod_of("sluice-7d9f-abcde.0a1b2c3d"), Some("sluice-7d9f-abcde"));
        assert_eq!(pod_of("sluice-controller-0_1f2e"), Some("sluice-controller-0"));
        assert_eq!(pod_of("edge-3"), Some("edge-3"));
        assert_eq!(pod_of(""), None);
    }
}
