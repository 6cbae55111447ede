//! A term: what this replica does from the moment it leads until it does not any more. It begins with a fresh copy of
//! what Kubernetes holds, and ends with everything that writes, before anybody is told that it is over.

use std::sync::Arc;
use std::time::Duration;

use sluice_model::limits::{COMMANDS_WAITING, KUBERNETES_RETRY_MS, STREAM_EVENTS};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Replica;
use crate::admin::{self, Admin, Commands};
use crate::api_server::{ApiError, ApiServer};
use crate::audit::Audit;
use crate::installation::Owner;
use crate::keyring::secret;
use crate::keys::{KeyError, Keys};
use crate::leader::Leadership;
use crate::listen::listen;
use crate::live::Feed;
use crate::pipeline::{Asked, Board, FleetError, Inputs, Pipeline, Shared};
use crate::pods;
use crate::revisions::kubernetes::ConfigMaps;
use crate::revisions::pull::PullError;
use crate::sign::SecretMarks;
use crate::stream::Post;
use crate::users::Users;

/// Why a term did not begin.
#[derive(Debug, thiserror::Error)]
enum TermError {
    #[error("what is kept could not be read: {0}")]
    Pull(#[from] PullError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("what the keys have signed for could not be read: {0}")]
    Marks(#[from] ApiError),
    #[error("stopped")]
    Stopped,
}

impl Replica {
    /// Leads whenever it is elected, until `stop`.
    pub(super) async fn serve_terms(&self, stop: &CancellationToken) {
        let mut leadership = self.leadership.clone();
        loop {
            let now = leadership.borrow_and_update().clone();
            match now {
                Leadership::Follows { leader } => {
                    self.post.send_replace(Post::Follows { leader });
                    tokio::select! {
                        () = stop.cancelled() => return,
                        changed = leadership.changed() => if changed.is_err() { return },
                    }
                }
                Leadership::Leads => match self.installation.owner() {
                    Ok(owner) => self.lead(&owner, stop).await,
                    // It has been said, and the lease is not renewed: soon nobody leads.
                    Err(_) => pause(stop).await,
                },
            }
            if stop.is_cancelled() {
                return;
            }
        }
    }

    /// One term. Ends with the leadership, with `stop`, when the installation is gone, and when the keys were replaced: then
    /// another begins at once.
    async fn lead(&self, owner: &Owner, stop: &CancellationToken) {
        let over = stop.child_token();
        let watched = over.clone();
        let (installation, of) = (self.installation.clone(), owner.clone());
        let (mut leadership, mut keys) = (self.leadership.clone(), self.keys.clone());
        keys.mark_unchanged();
        let watching = tokio::spawn(async move {
            tokio::select! {
                changed = leadership.wait_for(|now| *now != Leadership::Leads) => {
                    drop(changed);
                    tracing::info!("does not lead any more");
                }
                () = installation.is_other_than(&of) => tracing::info!("leads no more for this installation"),
                Ok(()) = keys.changed() => tracing::info!("the keys changed: beginning anew with them"),
                () = watched.cancelled() => return,
            }
            watched.cancel();
        });
        match self.term(owner, &over).await {
            Ok(()) | Err(TermError::Stopped) => {}
            Err(error) => {
                tracing::error!(%error, "cannot lead; trying again");
                pause(&over).await;
            }
        }
        over.cancel();
        let _ = watching.await;
        self.post.send_replace(Post::Follows { leader: None });
    }

    async fn term(&self, owner: &Owner, over: &CancellationToken) -> Result<(), TermError> {
        let server = ApiServer::new(self.client.clone());
        let records = ConfigMaps::new(server.clone(), self.config.namespace.as_str(), owner.clone());
        let pulled = tokio::select! {
            () = over.cancelled() => return Err(TermError::Stopped),
            pulled = records.pull(&self.config.state) => pulled?,
        };
        tracing::info!(?pulled, "leads from here on");
        let marks = SecretMarks::read(server, self.config.namespace.as_str(), secret::NAME).await?;
        let shared = self.shared(records, marks)?;
        let audit = Audit::to_output();
        let pipeline = Pipeline::open(shared.clone(), self.config.settings, Arc::clone(&self.clock), audit)?;

        let (said, heard) = mpsc::channel(STREAM_EVENTS);
        let (commands, asked) = mpsc::channel(COMMANDS_WAITING);
        let (census, reports) = pods::census();
        let inputs = Inputs {
            source: self.source.clone(),
            first: None,
            live: Feed {
                values: self.feed.values.clone(),
                wanted: self.feed.wanted.clone(),
            },
            instances: heard,
            census: Some(census),
            people: asked,
            untrusting: self.untrusting.clone(),
        };
        let mut beside = JoinSet::new();
        beside.spawn(self.pods.clone().report(reports, over.clone()));
        self.show(&mut beside, &shared, over).await;
        self.face_users(&mut beside, &shared.board, commands, over);
        self.post.send_replace(Post::Leads(said));
        pipeline.run(inputs, over.clone()).await;
        over.cancel();
        while beside.join_next().await.is_some() {}
        Ok(())
    }

    fn shared(&self, records: ConfigMaps, marks: SecretMarks) -> Result<Shared, KeyError> {
        let keys = Keys::open(&self.config.state)?;
        Ok(Shared {
            trusted: keys.trusted().clone(),
            signers: Arc::new(keys.into_signers().with_marks(Arc::new(marks))),
            board: Arc::new(Board::default()),
            telemetry: Arc::clone(&self.telemetry),
            state: self.config.state.clone(),
            remote: Some(Arc::new(records)),
            cluster: self.cluster.clone(),
        })
    }

    /// The views of whoever leads, for people who come through the API server.
    async fn show(&self, beside: &mut JoinSet<()>, shared: &Shared, over: &CancellationToken) {
        let admin = Admin {
            board: Arc::clone(&shared.board),
            telemetry: Arc::clone(&shared.telemetry),
            commands: Commands::ThroughApiServer,
        };
        match listen(self.config.admin_addr, "admin").await {
            Ok(listener) => drop(beside.spawn(admin::serve(listener, admin, over.clone()))),
            Err(error) => tracing::warn!(%error, "no views while this replica leads"),
        }
    }

    /// Status and Events for users, and their commands.
    fn face_users(
        &self,
        beside: &mut JoinSet<()>,
        board: &Arc<Board>,
        commands: mpsc::Sender<Asked>,
        over: &CancellationToken,
    ) {
        let users = Users {
            client: self.client.clone(),
            board: Arc::clone(board),
            watched: Arc::new(self.shown.clone()),
            commands,
            proof: self.config.proof,
            pod: self.config.pod.to_string(),
            clock: Arc::clone(&self.clock),
        };
        users.serve(beside, over);
    }
}

/// Before it is tried again.
async fn pause(unless: &CancellationToken) {
    tokio::select! {
        () = unless.cancelled() => {}
        () = tokio::time::sleep(Duration::from_millis(KUBERNETES_RETRY_MS)) => {}
    }
}
