//! Kubernetes: an API server in front of the pipeline and behind its records, several replicas of which one leads.
//! Another composition of the same parts as `standalone`: nothing in it is skipped, and nothing is decided here.
//!
//! ```text
//!  every replica:  keys (Secret) ─► folder     source (watches)     election (Lease)     stream, enrolment     health
//!                  installation (whom all of it belongs to: while that is gone, nobody writes)
//!  the leader:     pull ─► pipeline ─► record, revisions (ConfigMaps)
//!                            ├─► status, Events          (what users see)
//!                            ├─◄ commands, pods          (what users ask, who is gone)
//!                            └─► trust (ConfigMap)       (whom instances believe)
//! ```
//!
//! A term of leadership is one run of the pipeline over a fresh copy of what Kubernetes holds (`term`). When it ends,
//! however, everything that may write ends first, then every stream; instances go on serving and find the next leader.

mod term;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use sluice_model::Name;
use sluice_model::limits::KUBERNETES_RETRY_MS;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::enrol::review::TokenReviews;
use crate::enrol::{self, Enrolment, Registrar};
use crate::health::Health;
use crate::installation::Installation;
use crate::keyring::Pace;
use crate::keyring::secret::{KeptKeys, WorkingCopy};
use crate::leader::{Election, Leadership};
use crate::listen::{ListenError, listen};
use crate::live::Feed;
use crate::members::{Memberships, members_seen};
use crate::pipeline::commands::Proof;
use crate::pipeline::{Clock, Settings, wall_clock};
use crate::pods::{self, PodLookup, Pods};
use crate::register::members::Members;
use crate::source::View;
use crate::source::kubernetes::{self as source, Scope};
use crate::stream::{self, Desk, Port, Post};
use crate::telemetry::Telemetry;
use crate::trust::config_maps;

/// What to run.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// The controller's namespace: where Rollouts govern, and where everything is kept.
    pub namespace: Name,
    /// The ConfigMap there that owns all that is kept; none: nobody owns it.
    pub installation: Option<Name>,
    /// This pod, which no two replicas share.
    pub pod: Name,
    /// Where other pods reach it.
    pub pod_ip: IpAddr,
    /// The working copy.
    pub state: PathBuf,
    /// Where instances connect to and enrol.
    pub stream_addr: SocketAddr,
    /// Where views are served while it leads; a loopback address.
    pub admin_addr: SocketAddr,
    /// Where `/healthz`, `/ready` and `/metrics` are.
    pub health_addr: SocketAddr,
    /// Whose objects are served; none: all namespaces'.
    pub watch_namespaces: BTreeSet<Name>,
    /// Whose Secrets may be read; none: those that are watched.
    pub secrets_in: BTreeSet<Name>,
    /// See [`Settings`].
    pub settings: Settings,
    /// How far the names of those who give commands can be trusted.
    pub proof: Proof,
}

/// Why it did not start, or could not go on. One line each that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The admin port would be open to others.
    #[error("the admin address {0} is not a loopback address; it has no login, so use 127.0.0.1 or [::1]")]
    AdminNotLocal(SocketAddr),
    /// Nothing says where the API server is.
    #[error("no API server is known: {0}; run in a pod with a service account, or set KUBECONFIG")]
    NoApiServer(#[source] Box<kube::config::InferConfigError>),
    /// What says so is not usable.
    #[error(
        "the API server cannot be reached as configured: {0}; correct the kubeconfig, or the pod's service account"
    )]
    Client(#[source] Box<kube::Error>),
    /// The state folder.
    #[error("the state folder {state} cannot be written: {source}; choose another one, or make it writable", state = .state.display())]
    State {
        /// Which.
        state: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Metrics.
    #[error("the metrics could not be set up: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Why this replica is not ready, as far as it knows; shown on the health port.
#[derive(Clone, Default)]
struct Unready(Arc<Mutex<Option<String>>>);

impl Unready {
    fn because(&self, why: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.into());
    }

    fn no_more(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn why(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What every replica has for as long as it runs.
struct Replica {
    config: Kubernetes,
    client: Client,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    cluster: sluice_model::ClusterId,
    source: source::Kubernetes,
    shown: source::Shown,
    feed: Feed,
    pods: Pods,
    post: watch::Sender<Post>,
    leadership: watch::Receiver<Leadership>,
    installation: Installation,
    /// Namespaces whose pods cannot learn whom to trust.
    untrusting: watch::Receiver<config_maps::Troubles>,
    /// The keys in the working copy changed.
    keys: watch::Receiver<u64>,
}

impl Kubernetes {
    /// Runs until `stop`; then hands leadership over, and ends.
    ///
    /// # Errors
    /// See [`RunError`]. An API server that does not answer is no error: it is waited for.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        if !self.admin_addr.ip().is_loopback() {
            return Err(RunError::AdminNotLocal(self.admin_addr));
        }
        std::fs::create_dir_all(&self.state).map_err(|source| RunError::State {
            state: self.state.clone(),
            source,
        })?;
        let telemetry = Arc::new(Telemetry::new()?);
        let unready = Unready::default();
        unready.because("the keys are not read yet");
        let health = listen(self.health_addr, "health").await?;
        let instances = listen(self.stream_addr, "instances").await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(admin::serve(health, self.health(&telemetry, &unready), stop.clone()));
        let client = client().await?;
        let installation = self.installation(&client);
        let Some(keys) = self.keys(&client, &installation, &unready, &stop).await else {
            return Ok(()); // stopped before it began
        };

        let clock: Clock = Arc::new(wall_clock);
        let started = source::watch(client.clone(), self.scope(), stop.clone());
        let (memberships, counting) = memberships(started.source.views(), self.namespace.clone());
        let pods = Pods::new(Arc::new(PodLookup::new(client.clone())));
        let post = watch::Sender::new(Post::Follows { leader: None });
        let election = Election::new(
            client.clone(),
            self.namespace.as_str(),
            installation.clone(),
            self.pod.as_str(),
            &self.address(),
        );
        // Outlives `stop`: the lease is given back when the last term has ended.
        let done = CancellationToken::new();
        let (leadership, electing) = election.run(done.clone());
        let troubles = watch::Sender::new(config_maps::Troubles::new());
        let replica = Replica {
            clock: Arc::clone(&clock),
            telemetry: Arc::clone(&telemetry),
            cluster: keys.cluster().clone(),
            source: started.source,
            shown: started.shown,
            feed: started.feed,
            pods: pods.clone(),
            leadership,
            installation: installation.clone(),
            untrusting: troubles.subscribe(),
            keys: keys.changes(),
            client: client.clone(),
            config: self.clone(),
            post,
        };

        tasks.spawn(counting);
        tasks.spawn(measure_installation(installation, Arc::clone(&telemetry), stop.clone()));
        tasks.spawn(pods::watch(
            client.clone(),
            pods.clone(),
            memberships.clone(),
            stop.clone(),
        ));
        tasks.spawn(
            replica
                .trust_maps(&keys, memberships.clone())
                .keep(troubles, stop.clone()),
        );
        let enrolment = replica.enrolment(&keys, memberships.clone());
        let desk = replica.desk(&memberships, &stop);
        let port = Port {
            listener: instances,
            trust: keys.trust(),
            telemetry: Arc::clone(&replica.telemetry),
        };
        tasks.spawn(keys.keep(replica.leadership.clone(), clock, stop.clone()));
        let ended = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = stream::serve(port, desk, enrolment, ended).await {
                tracing::error!(%error, "the delivery stream ended");
            }
        });
        let mut health = started.health;
        let source_stop = stop.clone();
        tasks.spawn(async move {
            tell_source(&mut health, &unready, &source_stop).await;
        });

        replica.serve_terms(&stop).await;
        stop.cancel();
        done.cancel();
        end(electing, tasks).await;
        Ok(())
    }

    fn scope(&self) -> Scope {
        let given = |names: &BTreeSet<Name>| (!names.is_empty()).then(|| names.clone());
        let namespaces = given(&self.watch_namespaces).map(|mut namespaces| {
            namespaces.insert(self.namespace.clone());
            namespaces
        });
        Scope {
            controller: self.namespace.clone(),
            namespaces,
            secrets_in: given(&self.secrets_in),
        }
    }

    /// Where instances reach this replica.
    fn address(&self) -> String {
        SocketAddr::new(self.pod_ip, self.stream_addr.port()).to_string()
    }

    fn health(&self, telemetry: &Arc<Telemetry>, unready: &Unready) -> Health {
        let unready = unready.clone();
        Health {
            readiness: Arc::new(move || unready.why()),
            telemetry: Arc::clone(telemetry),
        }
    }

    /// What everything here belongs to. It is looked at until nobody asks for it any more.
    fn installation(&self, client: &Client) -> Installation {
        let Some(name) = &self.installation else {
            return Installation::none();
        };
        let (installation, looking) = Installation::watch(client.clone(), &self.namespace, name);
        tokio::spawn(looking);
        installation
    }

    /// The keys, read or made, as soon as the API server lets them; `None` if stopped before.
    async fn keys(
        &self,
        client: &Client,
        installation: &Installation,
        unready: &Unready,
        stop: &CancellationToken,
    ) -> Option<KeptKeys> {
        loop {
            let copy = WorkingCopy {
                state: self.state.clone(),
                host: Some(self.pod_ip),
                pace: Pace::default(),
            };
            let opened = tokio::select! {
                () = stop.cancelled() => return None,
                opened = KeptKeys::open(client.clone(), self.namespace.to_string(), installation.clone(), copy) => opened,
            };
            match opened {
                Ok(keys) => return Some(keys),
                Err(error) => {
                    tracing::error!(%error, "the keys cannot be used; trying again");
                    unready.because(format!("the keys cannot be used: {error}"));
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(Duration::from_millis(KUBERNETES_RETRY_MS)) => {}
            }
        }
    }
}

impl Replica {
    fn desk(&self, memberships: &watch::Receiver<Option<Arc<Memberships>>>, stop: &CancellationToken) -> Desk {
        Desk {
            cluster: self.cluster.clone(),
            state: self.config.state.clone(),
            post: self.post.subscribe(),
            register: Some(Arc::new(self.members(memberships.clone()))),
            stop: stop.clone(),
            next: Arc::new(AtomicU64::new(1)),
        }
    }

    fn members(&self, memberships: watch::Receiver<Option<Arc<Memberships>>>) -> Members {
        Members {
            memberships,
            pods: self.pods.clone(),
        }
    }

    fn enrolment(&self, keys: &KeptKeys, memberships: watch::Receiver<Option<Arc<Memberships>>>) -> Enrolment {
        Enrolment::ByToken(Arc::new(Registrar::new(enrol::Parts {
            cluster: self.cluster.clone(),
            trust: keys.trust(),
            review: Arc::new(TokenReviews::new(self.client.clone())),
            register: Arc::new(self.members(memberships)),
            clock: Arc::clone(&self.clock),
            telemetry: Arc::clone(&self.telemetry),
        })))
    }

    fn trust_maps(
        &self,
        keys: &KeptKeys,
        memberships: watch::Receiver<Option<Arc<Memberships>>>,
    ) -> config_maps::ConfigMaps {
        config_maps::ConfigMaps {
            client: self.client.clone(),
            cluster: self.cluster.clone(),
            own: self.config.namespace.to_string(),
            installation: self.installation.clone(),
            memberships,
            trust: keys.trust(),
            story: keys.story(),
            post: self.post.subscribe(),
        }
    }
}

/// While what all belongs to is gone nothing is written, not even a status or an Event: a metric says so.
async fn measure_installation(installation: Installation, telemetry: Arc<Telemetry>, stop: CancellationToken) {
    loop {
        let known = installation.owner();
        telemetry.installation(&known);
        tokio::select! {
            () = stop.cancelled() => return,
            () = installation.is_not(&known) => {}
        }
    }
}

/// In the cluster, or as KUBECONFIG says. Nothing is asked yet.
async fn client() -> Result<Client, RunError> {
    let config = kube::Config::infer()
        .await
        .map_err(|error| RunError::NoApiServer(Box::new(error)))?;
    Client::try_from(source::patient(config)).map_err(|error| RunError::Client(Box::new(error)))
}

/// Who may join which fleet, as each view says.
fn memberships(
    mut views: watch::Receiver<Option<Arc<View>>>,
    namespace: Name,
) -> (watch::Receiver<Option<Arc<Memberships>>>, impl Future<Output = ()>) {
    let (tell, told) = watch::channel(None);
    let counting = async move {
        loop {
            let view = views.borrow_and_update().clone();
            if let Some(view) = view {
                tell.send_if_modified(|told: &mut Option<Arc<Memberships>>| {
                    let now = members_seen(&view, &namespace, told.as_deref());
                    let differs = told.as_deref() != now.as_ref();
                    if differs {
                        *told = now.map(Arc::new);
                    }
                    differs
                });
            }
            if views.changed().await.is_err() {
                return;
            }
        }
    };
    (told, counting)
}

/// A replica is ready when it has seen what there is, or knows why it cannot.
async fn tell_source(
    health: &mut watch::Receiver<Arc<source::health::Health>>,
    unready: &Unready,
    stop: &CancellationToken,
) {
    loop {
        if health.borrow_and_update().is_ready {
            unready.no_more();
        } else {
            unready.because("the objects are not read yet");
        }
        tokio::select! {
            () = stop.cancelled() => return unready.because("shutting down"),
            changed = health.changed() => if changed.is_err() { return },
        }
    }
}

/// Everything ends by itself now; what does not is ended.
async fn end(electing: JoinHandle<()>, mut tasks: JoinSet<()>) {
    let all = async {
        let _ = electing.await;
        while tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(Duration::from_secs(5), all).await.is_err() {
        tracing::warn!("something did not end in time, and is ended");
    }
}
