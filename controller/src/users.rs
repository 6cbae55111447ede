//! What a controller is to users of an API server: their statuses, Events, and the commands that they give by annotation.
//! Everything in here writes, so only the leader runs it, for as long as it leads.
//!
//! Rights that it needs, in every namespace that is watched and in the controller's own: `patch` on `proxyroutes/status`,
//! `pools/status` and `rollouts/status` of `sluice.dev`; `create` and `patch` on `events` of `events.k8s.io`. It reads
//! nothing that the source does not.

pub mod annotations;
pub mod desk;

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use sluice_model::limits::EVENTS_WAITING;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::events::Recorder;
use crate::pipeline::commands::Proof;
use crate::pipeline::{Asked, Board, Clock};
use crate::status::{Watched, Writer};
use desk::Desk;

/// What it works with.
pub struct Users {
    /// Where it writes.
    pub client: Client,
    /// What the pipeline shows.
    pub board: Arc<Board>,
    /// What the API server shows.
    pub watched: Arc<dyn Watched>,
    /// Where commands go.
    pub commands: mpsc::Sender<Asked>,
    /// How far the names of those who give them can be trusted.
    pub proof: Proof,
    /// This pod, for Events.
    pub pod: String,
    /// What time it is.
    pub clock: Clock,
}

impl Users {
    /// Begins, as tasks of `tasks` that end with `stop`. Best before the pipeline runs: what it tells earlier is no Event.
    pub fn serve(self, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        let (turned, became) = mpsc::channel(EVENTS_WAITING);
        let (notes, noted) = mpsc::channel(EVENTS_WAITING);
        let (answers, answered) = watch::channel(BTreeMap::new());
        let writer = Writer {
            client: self.client.clone(),
            situation: self.board.situation(),
            watched: Arc::clone(&self.watched),
            commands: answered,
            turned,
            clock: Arc::clone(&self.clock),
        };
        let recorder = Recorder {
            client: self.client,
            board: Arc::clone(&self.board),
            turned: became,
            notes: noted,
            instance: self.pod,
            clock: Arc::clone(&self.clock),
        };
        let desk = Desk {
            situation: self.board.situation(),
            watched: self.watched,
            pipeline: self.commands,
            answers,
            notes,
            proof: self.proof,
            clock: self.clock,
        };
        tasks.spawn(writer.run(stop.clone()));
        tasks.spawn(recorder.run(stop.clone()));
        tasks.spawn(desk.run(stop.clone()));
    }
}
