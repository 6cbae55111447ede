//! Leader election: which of the controller's replicas runs the pipeline and writes. By the Lease `sluice-controller`, a
//! request every second or two; whoever leads gives it back when it ends in good order, so that another takes over at once.
//!
//! What is decided is in [`candidacy`], without a clock and without I/O; here it is carried out. A leader whose requests are
//! not answered, or that was frozen, leads no more from the deadline on, and whoever watches is told so first.

mod candidacy;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use sluice_model::limits::{LEASE_MS, LEASE_REQUEST_WAIT_MS};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api_server::{ApiError, NO_ANSWER, explain};
use crate::installation::{Installation, Owner};
use candidacy::{Action, Candidacy, Outcome, Seen};

/// The name of the Lease, and who writes it.
pub const LEASE: &str = "sluice-controller";
/// The annotation that says where the leader's instances connect to.
pub const ADDRESS_ANNOTATION: &str = "sluice.dev/address";

/// Whether this replica leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Leadership {
    /// It does.
    Leads,
    /// Another does, or nobody.
    Follows {
        /// Where the leader's instances connect to, if there is one.
        leader: Option<String>,
    },
}

/// One replica that would lead.
pub struct Election {
    leases: Api<Lease>,
    installation: Installation,
    me: String,
    address: String,
}

impl Election {
    /// The replica called `me` (its pod, which no two share), whose instances connect to `address`. The Lease is in
    /// `namespace`, and belongs to `installation`: while that is gone, nobody writes it.
    pub fn new(client: Client, namespace: &str, installation: Installation, me: &str, address: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            installation,
            me: me.to_owned(),
            address: address.to_owned(),
        }
    }

    /// Takes part until `stop`, then gives the lease back if it is ours, and ends. Whoever leads has to end its work before
    /// it cancels `stop`: another begins within a second.
    pub fn run(self, stop: CancellationToken) -> (watch::Receiver<Leadership>, JoinHandle<()>) {
        let (told, telling) = watch::channel(Leadership::Follows { leader: None });
        let core = Candidacy::new(&self.me, now());
        let running = Running {
            election: self,
            core,
            lease: None,
            told,
            trouble: None,
        };
        (telling, tokio::spawn(running.run(stop)))
    }
}

/// An election that runs.
struct Running {
    election: Election,
    core: Candidacy,
    /// The lease as it was last read or written: what others put into it stays.
    lease: Option<Lease>,
    told: watch::Sender<Leadership>,
    /// Why there was no answer, said once.
    trouble: Option<ApiError>,
}

impl Running {
    async fn run(mut self, stop: CancellationToken) {
        // A request is not given up half way: whether it was carried out would not be known.
        while !stop.is_cancelled() {
            let action = self.core.next(now());
            self.tell();
            match action {
                Action::Wait(until) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => {}
                        () = stop.cancelled() => {}
                    }
                }
                Action::Look => self.look().await,
                Action::Write { over } => self.write(over).await,
            }
        }
        self.give_back().await;
    }

    fn tell(&self) {
        let now = now();
        let leadership = match self.core.leads_until(now) {
            Some(_) => Leadership::Leads,
            None => Leadership::Follows {
                leader: self.core.leader(now).map(str::to_owned),
            },
        };
        self.told.send_if_modified(|told| {
            let differs = *told != leadership;
            if differs {
                tracing::info!(?leadership, "the leadership changed");
                *told = leadership;
            }
            differs
        });
    }

    async fn look(&mut self) {
        let read = self.bounded(self.election.leases.get_opt(LEASE)).await;
        match self.answer(read) {
            Some(lease) => {
                self.core.looked(lease.as_ref().map(seen), now());
                self.lease = lease;
            }
            None => self.core.looked_in_vain(now()),
        }
    }

    async fn write(&mut self, over: Option<String>) {
        let (renewed, sent) = (Timestamp::now(), now());
        let renewed = to_micros(renewed);
        let Ok(owner) = self.election.installation.owner() else {
            // Whoever looks at the installation has said so.
            return self.core.wrote(Outcome::Unknown, renewed, sent, now());
        };
        let lease = self.held(over, renewed, &owner);
        let outcome = match self.send(&lease).await {
            Some(Sent::Written(lease)) => {
                let seen = seen(&lease);
                self.lease = Some(*lease);
                Outcome::Written(seen)
            }
            Some(Sent::Conflict) => Outcome::Conflict,
            None => Outcome::Unknown,
        };
        self.core.wrote(outcome, renewed, sent, now());
    }

    /// So that nobody has to wait until it is clear that we are gone.
    async fn give_back(mut self) {
        let held = self.core.leads_until(now()).is_some();
        self.told.send_replace(Leadership::Follows { leader: None });
        let Some(version) = self.core.held_version().filter(|_| held).map(str::to_owned) else {
            return;
        };
        let Ok(owner) = self.election.installation.owner() else {
            return; // it goes with the installation
        };
        let mut lease = self.held(Some(version), to_micros(Timestamp::now()), &owner);
        if let Some(annotations) = &mut lease.metadata.annotations {
            annotations.remove(ADDRESS_ANNOTATION);
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        match self.send(&lease).await {
            Some(Sent::Written(_)) => tracing::info!("the lease is given back"),
            Some(Sent::Conflict) | None => tracing::warn!("the lease could not be given back; it ends by itself"),
        }
    }

    /// The lease as we hold it, to be put in place of `over`.
    fn held(&self, over: Option<String>, renewed: Timestamp, owner: &Owner) -> Lease {
        let mut lease = self.lease.clone().unwrap_or_default();
        let before = lease.spec.take().unwrap_or_default();
        let changes_hands = before.holder_identity.as_deref() != Some(&self.election.me);
        let renewed = Some(MicroTime(renewed));
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.election.me.clone()),
            lease_duration_seconds: i32::try_from(LEASE_MS / 1_000).ok(),
            acquire_time: if changes_hands {
                renewed.clone()
            } else {
                before.acquire_time
            },
            lease_transitions: Some(
                before
                    .lease_transitions
                    .unwrap_or(0)
                    .saturating_add(i32::from(changes_hands)),
            ),
            renew_time: renewed,
            ..LeaseSpec::default()
        });
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut annotations: BTreeMap<_, _> = lease.metadata.annotations.take().unwrap_or_default();
        annotations.extend([entry(ADDRESS_ANNOTATION, &self.election.address)]);
        let mut labels: BTreeMap<_, _> = lease.metadata.labels.take().unwrap_or_default();
        labels.extend([entry("app.kubernetes.io/managed-by", LEASE)]);
        lease.metadata = ObjectMeta {
            name: Some(LEASE.to_owned()),
            resource_version: over,
            annotations: Some(annotations),
            labels: Some(labels),
            owner_references: lease.metadata.owner_references.take(),
            ..ObjectMeta::default()
        };
        owner.put_on(&mut lease.metadata);
        lease
    }

    /// Puts `lease` in place of the version that it names. `None`: no answer.
    async fn send(&mut self, lease: &Lease) -> Option<Sent> {
        let writing = PostParams {
            field_manager: Some(LEASE.to_owned()),
            ..PostParams::default()
        };
        let leases = self.election.leases.clone();
        let is_new = lease.metadata.resource_version.is_none();
        let written = self.bounded(async {
            let written = match is_new {
                true => leases.create(&writing, lease).await,
                false => leases.replace(LEASE, &writing, lease).await,
            };
            match written {
                Ok(lease) => Ok(Sent::Written(Box::new(lease))),
                Err(kube::Error::Api(status))
                    if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
                {
                    Ok(Sent::Conflict)
                }
                Err(error) => Err(error),
            }
        });
        let written = written.await;
        self.answer(written)
    }

    /// Not longer than a request may take, and not past the end of a term: then whoever watches is told first.
    async fn bounded<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
        let now = now();
        let latest = now + Duration::from_millis(LEASE_REQUEST_WAIT_MS);
        let until = self.core.leads_until(now).map_or(latest, |until| until.min(latest));
        match tokio::time::timeout_at(until.into(), request).await {
            Ok(answer) => answer.map_err(|error| explain(&error)),
            Err(_) => Err(ApiError::Unavailable(NO_ANSWER.to_owned())),
        }
    }

    fn answer<T>(&mut self, answer: Result<T, ApiError>) -> Option<T> {
        match answer {
            Ok(answer) => {
                if self.trouble.take().is_some() {
                    tracing::info!("the lease can be read and written again");
                }
                Some(answer)
            }
            Err(error) => {
                if self.trouble.as_ref() != Some(&error) {
                    tracing::warn!(%error, "the lease cannot be read or written");
                }
                self.trouble = Some(error);
                None
            }
        }
    }
}

/// What became of a lease that was sent.
enum Sent {
    Written(Box<Lease>),
    /// Another one is there, or none any more.
    Conflict,
}

/// By the clock that tests may pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// As precise as it is written.
fn to_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let annotations = lease.metadata.annotations.as_ref();
    let written = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        renewed: spec.renew_time.map(|MicroTime(time)| to_micros(time)),
        duration: written.map_or(Duration::from_millis(LEASE_MS), Duration::from_secs),
        address: annotations.and_then(|annotations| annotations.get(ADDRESS_ANNOTATION).cloned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_what_was_written() {
        let renewed = to_micros(Timestamp::now());
        let lease = Lease {
            metadata: ObjectMeta {
                resource_version: Some("7".to_owned()),
                annotations: Some([(ADDRESS_ANNOTATION.to_owned(), "10.0.0.1:9900".to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some("a".to_owned()),
                renew_time: Some(MicroTime(renewed)),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
        };
        let text = serde_json::to_string(&lease).unwrap();
        let read = seen(&serde_json::from_str(&text).unwrap());
        assert_eq!(read.renewed, Some(renewed), "{text}");
        assert_eq!(read.holder.as_deref(), Some("a"));
        assert_eq!(read.address.as_deref(), Some("10.0.0.1:9900"));
        assert_eq!(
            read.duration,
            Duration::from_secs(15),
            "its holder may be of another build"
        );
        let released = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(String::new()),
                ..LeaseSpec::default()
            }),
            ..lease
        };
        assert_eq!(seen(&released).holder, None);
    }
}
