//! Standalone: the directory source in front of the pipeline, with the stream and the admin port. Another composition
//! of the same parts, nothing in it is skipped. Used by `sluice up` and by `sluice-controller standalone`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sluice_model::limits::{COMMANDS_WAITING, FIRST_VIEW_WAIT_MS, STREAM_EVENTS};
use sluice_model::{FleetName, InstanceId, Kind};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, Commands};
use crate::audit::Audit;
use crate::enrol::Enrolment;
use crate::keyring::{FolderError, Keyring, Phase};
use crate::keys::{self, KeyError, Keys};
use crate::listen::{ListenError, listen};
use crate::pipeline::{Board, Clock, FleetError, Inputs, Pipeline, Settings, Shared, StoryLine, wall_clock};
use crate::pki::{Pki, PkiError};
use crate::problem::Problem;
use crate::rollout::RolloutStatus;
use crate::source::directory::Directory;
use crate::source::{self, Coverage, Source, View};
use crate::stream::{self, Desk, Port, Post};
use crate::telemetry::Telemetry;
use crate::trust::Trust;
use crate::trust::config_maps::Troubles;

/// What to run.
#[derive(Clone, Debug)]
pub struct Standalone {
    /// The folder of manifests.
    pub dir: PathBuf,
    /// Where everything is kept that has to outlive the process.
    pub state: PathBuf,
    /// Where instances connect to. Port 0: any free one.
    pub stream_addr: SocketAddr,
    /// Where people ask; a loopback address. Port 0: any free one.
    pub admin_addr: SocketAddr,
    /// See [`Settings`].
    pub settings: Settings,
    /// The only instances of one fleet that can ever connect, if whoever starts this knows.
    pub roster: Option<Roster>,
}

/// All the instances that a fleet has. Others that its record mentions exist no more, and nothing waits for them.
#[derive(Clone, Debug)]
pub struct Roster {
    /// Which fleet.
    pub fleet: FleetName,
    /// Its instances.
    pub instances: BTreeSet<InstanceId>,
}

/// Why it did not start. One line each that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another controller uses the state.
    #[error("{state} is in use by another controller; stop it, or give this one a state folder of its own", state = .0.display())]
    InUse(PathBuf),
    /// The state folder cannot be used.
    #[error("the state folder {state} cannot be written: {source}; choose another one, or make it writable", state = .state.display())]
    State {
        /// Which.
        state: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The admin port would be open to others.
    #[error("the admin address {0} is not a loopback address; it has no login, so use 127.0.0.1 or [::1]")]
    AdminNotLocal(SocketAddr),
    /// The folder holds nothing to begin with.
    #[error("{dir} holds nothing that could be served: {why}", dir = .dir.display())]
    Empty {
        /// Which.
        dir: PathBuf,
        /// What is missing.
        why: String,
    },
    /// No Rollout to begin with.
    #[error("{dir} holds no Rollout that can be read, so nothing says which port to serve{why}; add one with spec.dataPlane.listeners", dir = .dir.display())]
    NoRollout {
        /// Which.
        dir: PathBuf,
        /// What is wrong with the one that is there.
        why: String,
    },
    /// Keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A record.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The folder cannot be watched.
    #[error(transparent)]
    Watch(#[from] crate::source::directory::WatchError),
    /// A step of replacing them.
    #[error(transparent)]
    Rotation(#[from] FolderError),
    /// Metrics.
    #[error("the metrics could not be set up: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A running controller. Dropping it ends it at once, as a crash would.
#[derive(Debug)]
pub struct Handle {
    board: Arc<Board>,
    stream_addr: SocketAddr,
    admin_addr: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    _lock: File,
}

impl Standalone {
    /// Starts it, and returns when it listens.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(self) -> Result<Handle, StartError> {
        self.start_with(Arc::new(wall_clock)).await
    }

    /// The same with another clock; for tests.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_with(self, clock: Clock) -> Result<Handle, StartError> {
        if !self.admin_addr.ip().is_loopback() {
            return Err(StartError::AdminNotLocal(self.admin_addr));
        }
        let lock = lock(&self.state)?;
        let stream_listener = listen(self.stream_addr, "instances").await?;
        let admin_listener = listen(self.admin_addr, "admin").await?;
        let (stream_addr, admin_addr) = (local(&stream_listener, "instances")?, local(&admin_listener, "admin")?);
        let shared = self.shared()?;
        let trust = Trust {
            pki: Pki::open(&self.state, Some(stream_addr.ip()))?,
            trusted: shared.trusted.clone(),
        };
        let audit = Audit::open(&self.state).map_err(|source| self.unwritable(source))?;
        let mut pipeline = Pipeline::open(shared.clone(), self.settings, clock, audit)?;
        if let Some(Roster { fleet, instances }) = self.roster.clone() {
            pipeline.has_only(&fleet, instances);
        }
        let mut source = Directory::watch(&self.dir)?;
        let (live, feeding) = source::core::feed(source.core());
        let first = first_view(&mut source).await;
        if !pipeline.has_history() {
            self.check_first(first.as_deref())?;
        }
        let stop = CancellationToken::new();
        let (said, heard) = mpsc::channel(STREAM_EVENTS);
        let (commands, asked) = mpsc::channel(COMMANDS_WAITING);
        let desk = Desk {
            cluster: shared.cluster.clone(),
            state: self.state.clone(),
            post: Post::alone(said),
            register: None,
            stop: stop.clone(),
            next: Arc::new(AtomicU64::new(1)),
        };
        let port = Port {
            listener: stream_listener,
            trust: trust.fixed(),
            telemetry: Arc::clone(&shared.telemetry),
        };
        let admin = Admin {
            board: Arc::clone(&shared.board),
            telemetry: Arc::clone(&shared.telemetry),
            commands: Commands::To(commands),
        };
        let inputs = Inputs {
            source,
            first,
            live,
            instances: heard,
            census: None,
            people: asked,
            untrusting: watch::channel(Troubles::new()).1,
        };
        let ended = stop.clone();
        let tasks = vec![
            tokio::spawn(pipeline.run(inputs, stop.clone())),
            tokio::spawn(feeding),
            tokio::spawn(admin::serve(admin_listener, admin, stop.clone())),
            tokio::spawn(async move {
                if let Err(error) = stream::serve(port, desk, Enrolment::ByCommand, ended).await {
                    tracing::error!(%error, "the delivery stream ended");
                }
            }),
        ];
        Ok(Handle {
            board: shared.board,
            stream_addr,
            admin_addr,
            stop,
            tasks,
            _lock: lock,
        })
    }

    fn shared(&self) -> Result<Shared, StartError> {
        let cluster = keys::cluster(&self.state)?;
        let keys = Keys::open(&self.state)?;
        Ok(Shared {
            trusted: keys.trusted().clone(),
            signers: Arc::new(keys.into_signers()),
            board: Arc::new(Board::default()),
            telemetry: Arc::new(Telemetry::new()?),
            state: self.state.clone(),
            remote: None,
            cluster,
        })
    }

    fn unwritable(&self, source: io::Error) -> StartError {
        StartError::State {
            state: self.state.clone(),
            source,
        }
    }

    /// A first start without a Rollout would wait for ever; better to say so.
    fn check_first(&self, view: Option<&View>) -> Result<(), StartError> {
        let dir = self.dir.clone();
        let Some(view) = view else {
            let why = "the folder could not be read in time; is its file system there?".to_owned();
            return Err(StartError::Empty { dir, why });
        };
        let said = view.problems.first();
        if view.objects.is_empty() && view.coverage == Coverage::Nothing {
            let found = said.map_or_else(|| "the folder is empty".to_owned(), |problem| problem.message.clone());
            let why = format!("{found}; put a Rollout, a ProxyRoute and a Pool there");
            return Err(StartError::Empty { dir, why });
        }
        if view.objects.of_kind(Kind::Rollout).next().is_none() {
            let why = said.map_or_else(String::new, |problem| format!(" ({problem})"));
            return Err(StartError::NoRollout { dir, why });
        }
        Ok(())
    }
}

/// Takes the next step of replacing the keys in `state`, whose controller does not run. Says which step that was.
///
/// # Errors
/// Says what is wrong, and how to mend it.
pub fn rotate_keys(state: &Path) -> Result<Phase, StartError> {
    let _lock = lock(state)?;
    // What an older build left out is there afterwards.
    Keys::open(state)?;
    keys::cluster(state)?;
    Pki::open(state, None)?;
    let now = wall_clock().seconds();
    let keyring = Keyring::read(state)?;
    let next = match keyring.phase() {
        Phase::Resting => keyring
            .begin(&keys::moment(now), now)
            .map_err(|error| FolderError::Damaged {
                folder: state.to_owned(),
                error,
            })?,
        Phase::Announced | Phase::Signing => keyring.next_phase(now),
    };
    next.write(state)?;
    Ok(next.phase())
}

async fn first_view(source: &mut Directory) -> Option<Arc<View>> {
    let wait = Duration::from_millis(FIRST_VIEW_WAIT_MS);
    tokio::time::timeout(wait, source.next()).await.ok().flatten()
}

/// Makes the state folder and takes its lock; the operating system gives it back when the process ends, however.
fn lock(state: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::State {
        state: state.to_owned(),
        source,
    };
    fs::create_dir_all(state).map_err(failed)?;
    let path = state.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::InUse(state.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

fn local(listener: &TcpListener, what: &'static str) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| {
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        ListenError { address, what, source }.into()
    })
}

impl Handle {
    /// The story as it is told from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<StoryLine> {
        self.board.subscribe()
    }

    /// The story so far, after line `sequence`.
    pub fn lines_after(&self, sequence: u64) -> Vec<StoryLine> {
        self.board.lines_after(sequence)
    }

    /// What is wrong with the objects.
    pub fn problems(&self) -> Vec<Problem> {
        self.board.problems()
    }

    /// One fleet's rollout.
    pub fn status(&self, fleet: &FleetName) -> Option<RolloutStatus> {
        self.board.rollout(fleet)
    }

    /// What is shown of everything.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Where instances connect to.
    pub fn stream_addr(&self) -> SocketAddr {
        self.stream_addr
    }

    /// Where people ask.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Ends it: what was observed is written, streams end, the lock is given back.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            let aborter = task.abort_handle();
            if tokio::time::timeout(Duration::from_secs(5), task).await.is_err() {
                aborter.abort(); // somebody holds a connection open
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki;

    #[test]
    fn keys_are_replaced_in_three_steps_and_instances_enrolled_anew() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let enrolled = || {
            let (fleet, instance) = ("edge".parse().unwrap(), "i-1".parse().unwrap());
            let identity = pki::enroll(state, &fleet, &instance, None).unwrap();
            ["cert.pem", "ca.pem", "trusted.json"].map(|name| fs::read_to_string(identity.join(name)).unwrap())
        };
        let [certificate, ca, trusted] = enrolled();
        let steps = [(); 3].map(|()| (rotate_keys(state).unwrap(), enrolled()));
        assert_eq!(
            steps.each_ref().map(|(phase, _)| *phase),
            [Phase::Announced, Phase::Signing, Phase::Resting]
        );
        let [(_, announced), (_, signing), (_, done)] = steps;
        let keys = |trusted: &str| trusted.matches("keyId").count();
        assert_eq!(
            [&trusted, &announced[2], &signing[2], &done[2]].map(|t| keys(t)),
            [3, 6, 6, 3]
        );
        assert_eq!(announced[0], certificate, "of the same authority");
        assert!(announced[1].starts_with(&ca) && announced[1] != ca);
        assert_ne!(signing[0], certificate, "of the next one");
        assert_eq!(done[0], signing[0]);
        assert!(signing[1].ends_with(&ca) && !done[1].contains(&ca));

        let running = lock(state).unwrap();
        let busy = rotate_keys(state).unwrap_err().to_string();
        assert!(busy.contains("in use"), "{busy}");
        drop(running);
    }
}
