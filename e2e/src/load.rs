//! Load: requests at a constant rate, whatever the answers do (open loop), over kept and new connections.
//!
//! A closed loop would slow down with the system under test and so hide what went wrong in the meantime. The generator
//! has a thread and a runtime of its own, so that a test that waits does not hold it up.

mod exchange;
mod outcome;

pub use outcome::{Connection, Outcome, Outcomes, Reply};

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

/// Requests in flight at most: beyond it the system under test is not serving, and the test should say so.
const MAX_IN_FLIGHT: usize = 4_000;
/// Due requests are sent this often.
const TICK: Duration = Duration::from_millis(2);

/// One kind of request.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its `Host`.
    pub host: String,
    /// Its path.
    pub path: String,
    /// Its share, relative to the other targets'.
    pub weight: u32,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub address: SocketAddr,
    /// Which requests, mixed by weight.
    pub targets: Vec<Target>,
    /// How many a second.
    pub per_second: u32,
    /// How many of a hundred open a connection of their own and close it after.
    pub new_connections_percent: u32,
    /// An answer that takes longer is a failure.
    pub timeout: Duration,
}

impl Plan {
    /// GET `host``path` at this rate, one in ten on a new connection.
    pub fn new(address: SocketAddr, host: &str, path: &str, per_second: u32) -> Self {
        let target = Target {
            host: host.to_owned(),
            path: path.to_owned(),
            weight: 1,
        };
        let timeout = Duration::from_secs(10);
        Self {
            address,
            targets: vec![target],
            per_second,
            new_connections_percent: 10,
            timeout,
        }
    }

    /// Adds another kind of request.
    #[must_use]
    pub fn and(mut self, host: &str, path: &str, weight: u32) -> Self {
        self.targets.push(Target {
            host: host.to_owned(),
            path: path.to_owned(),
            weight,
        });
        self
    }

    /// Sets the share of the first kind of request.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.targets[0].weight = weight;
        self
    }
}

/// Load that is running.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<Outcomes>,
}

impl Load {
    /// Starts sending. Request ids are `<name>-<number>`.
    pub fn start(name: &str, plan: Plan) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (name, stopped, count) = (name.to_owned(), Arc::clone(&stop), Arc::clone(&answered));
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            LocalSet::new().block_on(&runtime, run(name, plan, stopped, count))
        };
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(body)
            .expect("a thread");
        Self { stop, answered, thread }
    }

    /// Requests that have ended so far, well or not.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops sending, waits for what is in flight, and returns all that happened.
    pub async fn stop(self) -> Outcomes {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread;
        tokio::task::spawn_blocking(move || thread.join().expect("the generator does not panic"))
            .await
            .expect("joining does not panic")
    }
}

/// What the tasks of one generator share.
struct Shared {
    plan: Plan,
    name: String,
    idle: RefCell<Vec<exchange::Sender>>,
    outcomes: RefCell<Vec<Outcome>>,
    in_flight: Cell<usize>,
    answered: Arc<AtomicU64>,
}

async fn run(name: String, plan: Plan, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) -> Outcomes {
    let shared = Rc::new(Shared {
        name,
        idle: RefCell::default(),
        outcomes: RefCell::default(),
        in_flight: Cell::new(0),
        answered,
        plan,
    });
    let (began, mut sent, mut skipped) = (Instant::now(), 0u64, 0u64);
    let mut tick = tokio::time::interval(TICK);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let due = (began.elapsed().as_secs_f64() * f64::from(shared.plan.per_second)) as u64;
        for number in sent..due {
            if shared.in_flight.get() < MAX_IN_FLIGHT {
                tokio::task::spawn_local(one(Rc::clone(&shared), number));
            } else {
                skipped += 1;
            }
        }
        sent = due;
    }
    while shared.in_flight.get() > 0 {
        tick.tick().await;
    }
    Outcomes {
        all: shared.outcomes.take(),
        skipped,
        took: began.elapsed(),
    }
}

async fn one(shared: Rc<Shared>, number: u64) {
    shared.in_flight.set(shared.in_flight.get() + 1);
    let outcome = exchange::perform(&shared, number).await;
    shared.outcomes.borrow_mut().push(outcome);
    shared.answered.fetch_add(1, Ordering::Relaxed);
    shared.in_flight.set(shared.in_flight.get() - 1);
}

/// Which target request `number` is for: spread evenly by weight, the same in every run.
fn target(plan: &Plan, number: u64) -> &Target {
    let total: u64 = plan.targets.iter().map(|target| u64::from(target.weight)).sum();
    // A step coprime to the total visits every residue, so that rare targets are not sent in bursts.
    let mut place = (number * 7_919) % total.max(1);
    for target in &plan.targets {
        let weight = u64::from(target.weight);
        if place < weight {
            return target;
        }
        place -= weight;
    }
    &plan.targets[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Upstream, stamp};

    #[test]
    fn targets_get_their_share() {
        let plan = Plan::new(crate::ports::free(), "a", "/", 1).weight(99).and("b", "/", 1);
        let rare = (0..1_000).filter(|number| target(&plan, *number).host == "b").count();
        assert_eq!(rare, 10);
    }

    #[tokio::test]
    async fn the_rate_is_kept_and_every_answer_is_recorded() {
        let upstream = Upstream::start();
        let load = Load::start("self", Plan::new(upstream.endpoint(3), "any", "/x", 200));
        crate::wait::wait_until("100 answers", Duration::from_secs(20), || async {
            (load.answered() >= 100).then_some(()).ok_or(load.answered())
        })
        .await;
        let outcomes = load.stop().await;
        assert_eq!(outcomes.failures().count(), 0, "{}", outcomes.summary());
        assert_eq!(outcomes.skipped, 0);
        assert!(
            outcomes
                .all
                .iter()
                .all(|outcome| outcome.reply().is_some_and(|reply| reply.stamp == stamp(3)))
        );
        let fresh = outcomes
            .all
            .iter()
            .filter(|outcome| outcome.connection == Connection::New)
            .count();
        assert!(fresh >= outcomes.all.len() / 20, "{fresh} of {}", outcomes.all.len());
        assert_eq!(upstream.served(3), outcomes.all.len() as u64);
    }
}
