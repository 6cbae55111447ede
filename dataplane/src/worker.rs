//! A worker: one OS thread with its own runtime, listeners, upstream connections and counters. Workers share what is
//! live and nothing else, so a request never waits for another core.
//!
//! The control side speaks to a worker by commands; each is carried out within one turn of its loop.

pub(crate) mod accept;
pub(crate) mod chance;
pub(crate) mod connection;
pub(crate) mod crowd;
mod handshake;
mod http1;
mod introduction;
pub(crate) mod lane;
mod serve;
mod socket;
mod throttle;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_model::client_limits::ClientLimits;
use sluice_model::limits::{ACCESS_LOG_FLUSH_MILLIS, REFUSED_CONNECTION_LINES, WORKER_COMMANDS};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::guard::rule::Rule;
use crate::live::LiveStore;
use crate::pool::connections::Idle;
use crate::proxy;
use crate::proxy::http1::Upstream;
use crate::telemetry::access_log::{Buffer, Sink};
use crate::telemetry::counters::WorkerCounters;
use crate::upstream::dial::Handshakes;
use crate::upstream::multiplexed::Multiplexed;
use crate::upstream::pending::Pending;
use crate::upstream::quota::Quotas;
use accept::{Acceptors, Manner};
use chance::Chance;
use connection::{Connection, Wish};
use crowd::Crowd;
use lane::Serving;
use throttle::Throttle;

/// What the control side asks of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Begin accepting on a socket that listens.
    Listen {
        /// Names the listener in `Unlisten`.
        id: u64,
        /// The socket, non-blocking.
        socket: std::net::TcpListener,
        /// How its connections are met.
        manner: Manner,
    },
    /// They are met otherwise from now on.
    Retune {
        /// As given in `Listen`.
        id: u64,
        /// How connections to come are met.
        manner: Manner,
    },
    /// Serve what its queue holds, then close it.
    Unlisten {
        /// As given in `Listen`.
        id: u64,
        /// Told when it is closed.
        done: oneshot::Sender<()>,
    },
    /// Answer with `Connection: close`, or `GOAWAY`, from now on.
    AskToLeave,
    /// Close every connection as soon as it has no request, and tunnels one after the other.
    Finish {
        /// All tunnels are ended by then.
        tunnels_within: Duration,
    },
    /// Close every connection now, and end.
    Abort,
}

/// The control side's end of one worker.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) thread: std::thread::JoinHandle<()>,
}

/// What a worker is given.
#[derive(Clone, Debug)]
pub(crate) struct Outfit {
    /// Which worker, from 0.
    pub(crate) index: usize,
    /// What serves.
    pub(crate) store: LiveStore,
    /// The connections of all workers.
    pub(crate) crowd: Arc<Crowd>,
    /// How many they may have to upstreams.
    pub(crate) quotas: Arc<Quotas>,
    /// Where access-log lines go.
    pub(crate) sink: Sink,
    /// What the access log calls this process.
    pub(crate) instance: Arc<str>,
}

/// The state of one worker, shared by its tasks and by nobody else.
pub(crate) struct Worker {
    pub(crate) store: LiveStore,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) idle: RefCell<Idle<Upstream>>,
    pub(crate) multiplexed: Multiplexed,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) pending: Pending<Upstream>,
    pub(crate) handshakes: Handshakes,
    pub(crate) log: Buffer,
    pub(crate) instance: Arc<str>,
    pub(crate) chance: Chance,
    pub(crate) leaving: Cell<Leaving>,
    crowd: Arc<Crowd>,
    /// By when the last tunnel is ended, if the instance ends.
    finishing: Cell<Option<Instant>>,
    /// Of lines about connections that are refused as they come.
    refusals: Throttle,
    /// Of lines about accepting that fails.
    accept_failures: Throttle,
    serving: RefCell<Option<Rc<Serving>>>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    next_connection: Cell<u64>,
    /// Before anything serves.
    usual_limits: Arc<ClientLimits>,
    /// How many endpoints had left their services when the sweep last looked.
    departures: Cell<u64>,
}

/// Whether clients are asked to go elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaving {
    /// No.
    No,
    /// Every response says `Connection: close`, and connections of HTTP/2 say `GOAWAY`.
    Yes,
}

/// Starts a worker.
pub(crate) fn spawn(outfit: Outfit) -> std::io::Result<WorkerHandle> {
    let counters = Arc::new(WorkerCounters::new(outfit.store.names().slots()));
    let (commands, inbox) = mpsc::channel(WORKER_COMMANDS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mine = counters.clone();
    let name = format!("worker-{}", outfit.index);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let local = LocalSet::new();
        let worker = Rc::new(Worker::new(outfit, mine));
        local.block_on(&runtime, run(worker.clone(), inbox));
        // Tasks hold the worker and are dropped with the set; what they record on the way still reaches the log.
        drop(local);
        worker.log.flush(&worker.counters);
    })?;
    Ok(WorkerHandle {
        commands,
        counters,
        thread,
    })
}

async fn run(worker: Rc<Worker>, mut inbox: mpsc::Receiver<Command>) {
    tokio::task::spawn_local(heed_calls(worker.clone()));
    let mut acceptors = Acceptors::default();
    let mut flush = tokio::time::interval(Duration::from_millis(ACCESS_LOG_FLUSH_MILLIS));
    flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_sweep = Instant::now();
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Listen { id, socket, manner }) => acceptors.listen(&worker, id, socket, manner),
                Some(Command::Retune { id, manner }) => acceptors.retune(id, manner),
                Some(Command::Unlisten { id, done }) => acceptors.unlisten(id, done),
                Some(Command::AskToLeave) => worker.ask_to_leave(),
                Some(Command::Finish { tunnels_within }) => worker.finish(Instant::now(), tunnels_within),
                Some(Command::Abort) | None => return,
            },
            _ = flush.tick() => {
                worker.log.flush(&worker.counters);
                let now = Instant::now();
                worker.end_tunnels(now);
                if now.duration_since(last_sweep) >= Duration::from_secs(1) {
                    last_sweep = now;
                    worker.sweep(now);
                }
            }
        }
    }
}

/// Closes connections at rest when requests wait for one somewhere. A task of its own: what `run` waits for is looked at in
/// every turn of the worker, and this is behind a lock that all workers share.
async fn heed_calls(worker: Rc<Worker>) {
    let mut called = worker.quotas.subscribe();
    while called.changed().await.is_ok() {
        worker.give_up_resting();
    }
}

impl Worker {
    fn new(outfit: Outfit, counters: Arc<WorkerCounters>) -> Self {
        Self {
            store: outfit.store,
            counters,
            idle: RefCell::default(),
            multiplexed: Multiplexed::default(),
            quotas: outfit.quotas,
            pending: Pending::default(),
            handshakes: Handshakes::default(),
            log: Buffer::new(outfit.sink),
            instance: outfit.instance,
            chance: Chance::seeded(),
            leaving: Cell::new(Leaving::No),
            crowd: outfit.crowd,
            finishing: Cell::new(None),
            refusals: Throttle::new(REFUSED_CONNECTION_LINES),
            accept_failures: Throttle::new(1),
            serving: RefCell::default(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            usual_limits: Arc::default(),
            departures: Cell::new(0),
        }
    }

    /// What serves now. Looks once; whoever holds the result sees nothing change.
    pub(crate) fn serving(&self) -> Option<Rc<Serving>> {
        let live = self.store.cell().load();
        let live = live.as_ref()?;
        if let Some(serving) = self.serving.borrow().as_ref()
            && Arc::ptr_eq(&serving.live, live)
        {
            return Some(serving.clone());
        }
        let before = self.serving.borrow_mut().take();
        let serving = Rc::new(Serving::new(live.clone(), before.as_deref(), self));
        *self.serving.borrow_mut() = Some(serving.clone());
        Some(serving)
    }

    /// What a client of this cohort may take.
    fn limits(&self, cohort: u32) -> Arc<ClientLimits> {
        match self.serving() {
            Some(serving) => serving.lane(cohort).generation.limits.clone(),
            None => self.usual_limits.clone(),
        }
    }

    /// Once a second: what costs too much to do on time, or is not worth a timer of its own.
    fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().prune(now, Upstream::may_rest);
        self.multiplexed.prune(now);
        self.give_up_resting();
        self.handshakes.prune();
        self.leave_departed();
        // Asked also by a worker without connections, which must not keep an old generation alive.
        let serving = self.serving();
        for connection in self.connections.borrow().values() {
            if let Some(serving) = &serving {
                connection.follow(&serving.lane(connection.cohort).generation.limits);
            }
            connection.check_pace(now);
        }
    }

    /// Closes connections at rest, as many as requests wait for that found no room for another one.
    fn give_up_resting(&self) {
        self.idle.borrow_mut().give_up(Upstream::is_given_up);
        self.multiplexed.give_up();
    }

    /// Closes idle connections to endpoints that left their service.
    fn leave_departed(&self) {
        let (gone, departures) = self.store.values().services.departed_since(self.departures.get());
        self.departures.set(departures);
        let mut idle = self.idle.borrow_mut();
        for address in &gone {
            idle.forget(address);
            self.multiplexed.forget(address);
        }
    }

    fn ask_to_leave(&self) {
        self.leaving.set(Leaving::Yes);
        for connection in self.connections.borrow().values() {
            connection.ask_to_leave();
        }
    }

    /// Every connection ends when it has no request. Those that are tunnels now are ended one after the other: each in the second
    /// half of its share of the time, so that even a single one has some, and somewhere in it, so that workers do not end
    /// theirs at the same moments. What becomes a tunnel later ends with the last.
    fn finish(&self, now: Instant, tunnels_within: Duration) {
        self.finishing.set(Some(now + tunnels_within));
        let connections = self.connections.borrow();
        let tunnels: usize = connections.values().map(|connection| connection.tunnels()).sum();
        let step = tunnels_within / u32::try_from(tunnels).unwrap_or(u32::MAX).max(1);
        let early = step.mul_f64((self.chance.next() >> 11) as f64 / (1_u64 << 54) as f64);
        let mut share_ends = now;
        let mut next = || {
            share_ends += step;
            share_ends - early
        };
        for connection in connections.values() {
            connection.end_tunnels_at(&mut next);
        }
        for connection in connections.values() {
            connection.wish(Wish::Finish);
        }
    }

    /// Ends the tunnels whose time has come, if the instance ends.
    fn end_tunnels(&self, now: Instant) {
        let Some(last) = self.finishing.get() else { return };
        for connection in self.connections.borrow().values() {
            let ended = connection.end_tunnels(now, last);
            self.counters.tunnels_drained.add(ended as u64);
        }
    }

    /// A connection is refused as it comes: it is counted, and said if that is not said too often. Nothing of it stays in the
    /// kernel, and it is no request, so that no gate sees it.
    fn turn_away(&self, stream: TcpStream, client: IpAddr, rule: Rule) {
        // Fails only on a connection that is dead already.
        let _ = stream.set_zero_linger();
        if let Some(refused) = self.counters.refused(rule) {
            refused.add(1);
        }
        if self.refusals.allows(Instant::now()) {
            proxy::respond::turned_away(self, client, rule);
        }
    }

    fn admit(&self, connection: &Rc<Connection>) -> u64 {
        let id = self.next_connection.get();
        self.next_connection.set(id.wrapping_add(1));
        self.connections.borrow_mut().insert(id, connection.clone());
        self.counters.connections.add(1);
        id
    }

    /// The same connection, now that it is known whose it is.
    fn readmit(&self, id: u64, connection: &Rc<Connection>) {
        self.connections.borrow_mut().insert(id, connection.clone());
    }

    fn dismiss(&self, id: u64) {
        self.connections.borrow_mut().remove(&id);
        self.counters.connections.sub(1);
    }
}
