//! Which controller leads, as its Lease says; and whether any does, for whoever reads what a leader has written.
//!
//! A leader renews the Lease every two seconds. Whether that is long ago is judged by this machine's clock first, and if
//! that says so, by looking once more: a clock that is wrong raises no alarm.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use sluice_controller::leader::LEASE;
use sluice_model::limits::{LEASE_MS, LEASE_RENEW_MS, TAKEOVER_LOOK_MS, TAKEOVER_MS};
use tokio::time::{Instant, sleep, timeout};

use super::Cluster;
use super::forward::PodAdmin;
use super::refusal::Wish;
use crate::failure::Failure;
use crate::output;

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

impl Cluster {
    /// The admin port of the controller that leads in `namespace`, and its answer to a GET of `path`. While nobody leads,
    /// as after the leader was killed, it is asked again for `patience`; that this is so is said at once.
    ///
    /// # Errors
    /// When nobody leads in time, or whoever does cannot be asked.
    pub async fn ask_leader(
        &self,
        namespace: &str,
        path: &str,
        patience: Duration,
    ) -> Result<(PodAdmin, Value), Failure> {
        let until = Instant::now() + patience;
        let mut said = false;
        loop {
            let failure = match self.ask_leader_once(namespace, path).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !self.is_between_leaders(namespace).await {
                return Err(failure);
            }
            if Instant::now() >= until {
                return Err(Failure::failed(format!(
                    "{BETWEEN_LEADERS}; none came in time: {failure}"
                )));
            }
            if !std::mem::replace(&mut said, true) {
                output::remark(BETWEEN_LEADERS);
            }
            sleep(Duration::from_millis(TAKEOVER_LOOK_MS)).await;
        }
    }

    async fn ask_leader_once(&self, namespace: &str, path: &str) -> Result<(PodAdmin, Value), Failure> {
        let leader = self.leader(namespace).await?;
        let mut admin = PodAdmin::open(self, namespace, &leader).await?;
        let answer = admin.get(path).await?;
        Ok((admin, answer))
    }

    /// Whether somebody led until now and does not: the Lease has no holder, or names a pod that does not run. Whoever may
    /// not see that is told what the attempt met.
    async fn is_between_leaders(&self, namespace: &str) -> bool {
        let Some(Some(lease)) = self.lease(namespace).await else {
            return false;
        };
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        let Some(pod) = pod_of(&holder) else {
            return true;
        };
        let api: Api<Pod> = Api::namespaced(self.client(), namespace);
        match timeout(WAIT, api.get_opt(pod)).await {
            Ok(Ok(pod)) => pod.is_none_or(|pod| !runs(&pod)),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

/// Whether a pod is neither at its end nor about to be, with all its containers running.
fn runs(pod: &Pod) -> bool {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = containers.map(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && phase == Some("Running") && states.all(|running| running)
}

/// While a leader that died is still waited for.
const BETWEEN_LEADERS: &str = "no controller leads at the moment; a takeover takes up to 15 s";
const _: () = assert!(TAKEOVER_MS == 15_000, "BETWEEN_LEADERS says it");

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
    fn a_leader_that_was_killed_runs_no_more() {
        let pod = |value: serde_json::Value| -> Pod { serde_json::from_value(value).unwrap() };
        let status = |phase: &str, state: &str| {
            let containers = serde_json::json!([{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {state: {}}}]);
            serde_json::json!({"phase": phase, "containerStatuses": containers})
        };
        let running = serde_json::json!({"status": status("Running", "running")});
        assert!(runs(&pod(running.clone())));
        let mut going = running;
        going["metadata"] = serde_json::json!({"deletionTimestamp": "2026-11-26T10:00:00Z"});
        assert!(!runs(&pod(going)));
        assert!(!runs(&pod(serde_json::json!({"status": status("Running", "waiting")}))));
        assert!(!runs(&pod(serde_json::json!({"status": status("Failed", "running")}))));
        assert!(!runs(&Pod::default()));
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
