//! A replica of the controller in this process, as far as joining and connecting go: everything real, but for the
//! Rollouts that name the members.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use sluice_controller::enrol::review::TokenReviews;
use sluice_controller::enrol::{Enrolment, Parts, Registrar};
use sluice_controller::installation::Installation;
use sluice_controller::keyring::Pace;
use sluice_controller::keyring::secret::{KeptKeys, WorkingCopy};
use sluice_controller::members::Memberships;
use sluice_controller::pipeline::wall_clock;
use sluice_controller::pods::{self, Census, PodLookup, Pods};
use sluice_controller::register::Register;
use sluice_controller::register::members::Members;
use sluice_controller::stream::{self, Desk, Port, Post, StreamEvent};
use sluice_controller::telemetry::Telemetry;
use sluice_controller::trust::Trust;
use sluice_model::InstanceId;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::memberships;
use crate::world::World;

/// One fleet, and the service account of its members.
pub(super) const EDGE: &str = "edge";
/// Another, and its.
pub(super) const OTHER: &str = "other";

/// See the file's comment.
pub(super) struct Replica {
    pub(super) address: SocketAddr,
    pub(super) heard: mpsc::Receiver<StreamEvent>,
    trust: watch::Receiver<Arc<Trust>>,
    memberships: watch::Sender<Option<Arc<Memberships>>>,
    census: Census,
    own: String,
    stop: CancellationToken,
    /// Kept as long as the replica: what it leads with.
    _post: watch::Sender<Post>,
    _state: tempfile::TempDir,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Replica {
    /// In the namespace `own`, with members in `namespace`.
    pub(super) async fn start(world: &World, own: &str, namespace: &str) -> anyhow::Result<Self> {
        let state = tempfile::tempdir()?;
        let copy = WorkingCopy {
            state: state.path().to_owned(),
            host: None,
            pace: Pace::default(),
        };
        let keys = KeptKeys::open(world.client(), own.to_owned(), Installation::none(), copy).await?;
        let stop = CancellationToken::new();
        let (memberships, told) = watch::channel(None);
        let pods = Pods::new(Arc::new(PodLookup::new(world.client())));
        let (census, reports) = pods::census();
        tokio::spawn(pods::watch(world.client(), pods.clone(), told.clone(), stop.clone()));
        tokio::spawn(pods.clone().report(reports, stop.clone()));
        let register: Arc<dyn Register> = Arc::new(Members {
            memberships: told,
            pods,
        });
        let telemetry = Arc::new(Telemetry::new()?);
        let registrar = Registrar::new(Parts {
            cluster: keys.cluster().clone(),
            trust: keys.trust(),
            review: Arc::new(TokenReviews::new(world.client())),
            register: Arc::clone(&register),
            clock: Arc::new(wall_clock),
            telemetry: Arc::clone(&telemetry),
        });
        let (said, heard) = mpsc::channel(64);
        let (post, posted) = watch::channel(Post::Leads(said));
        let desk = Desk {
            cluster: keys.cluster().clone(),
            state: state.path().to_owned(),
            post: posted,
            register: Some(register),
            stop: stop.clone(),
            next: Arc::new(AtomicU64::new(1)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let port = Port {
            listener,
            trust: keys.trust(),
            telemetry,
        };
        let enrolment = Enrolment::ByToken(Arc::new(registrar));
        tokio::spawn(stream::serve(port, desk, enrolment, stop.clone()));
        let replica = Self {
            address,
            heard,
            trust: keys.trust(),
            memberships,
            census,
            own: own.to_owned(),
            stop,
            _post: post,
            _state: state,
        };
        replica.members_as_at_first(namespace)?;
        Ok(replica)
    }

    /// The authorities that instances are told to believe.
    pub(super) fn ca(&self) -> String {
        self.trust.borrow().pki.authority().bundle()
    }

    /// Each fleet has the members of its name.
    pub(super) fn members_as_at_first(&self, namespace: &str) -> anyhow::Result<()> {
        self.members(&[(EDGE, &[(namespace, EDGE)]), (OTHER, &[(namespace, OTHER)])])
    }

    /// Rollouts name these members.
    pub(super) fn members(&self, fleets: &[(&str, &[(&str, &str)])]) -> anyhow::Result<()> {
        let now = memberships::of(&self.own, fleets)?;
        self.memberships.send_replace(Some(Arc::new(now)));
        Ok(())
    }

    /// The pipeline counts these.
    pub(super) fn counts(&self, instances: &[&str]) {
        let instances = instances
            .iter()
            .filter_map(|instance| instance.parse::<InstanceId>().ok());
        self.census.counted.send_replace(Arc::new(instances.collect()));
    }

    /// The next of them that is told to be gone.
    pub(super) async fn gone(&mut self) -> anyhow::Result<String> {
        let told = tokio::time::timeout(Duration::from_secs(30), self.census.gone.recv()).await;
        let told = told.context("nobody is told to be gone")?;
        Ok(told.context("the census ended")?.to_string())
    }
}
