//! A fleet under test: one controller and some instances as separate processes, on one shared HTTP address, in a
//! scratch folder of their own.
//!
//! They are started the way an operator would without Kubernetes (`sluice-controller standalone`, `sluice-dataplane`),
//! not through `sluice up`, so that each can be killed, started and looked at by itself.

mod controller;
mod instance;

pub use controller::Controller;
pub use instance::{Drain, Instance, Launch};

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::access_log::Line;
use crate::client::{self, Answer};
use crate::load::{Load, Plan};
use crate::manifests::{FLEET, Folder};
use crate::ports;
use crate::wait::wait_until;

/// What takes longer than this on a busy two-core machine is broken.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// One fleet at a time in a process: two on two cores would measure each other.
static TURN: Mutex<()> = Mutex::const_new(());

/// A running fleet. Dropping it kills its processes.
pub struct Fleet {
    /// What its controller reads.
    pub folder: Folder,
    /// Its controller.
    pub controller: Controller,
    /// Its instances.
    pub instances: Vec<Instance>,
    /// The address that all instances serve.
    pub http: SocketAddr,
    scratch: TempDir,
    launch: Launch,
    _turn: MutexGuard<'static, ()>,
}

/// A fleet that has not been started.
pub struct Setup {
    folder: Folder,
    scratch: TempDir,
    http: SocketAddr,
    launch: Launch,
    apart: bool,
    drain: Drain,
    turn: MutexGuard<'static, ()>,
}

impl Fleet {
    /// A scratch folder and an address, when it is this fleet's turn.
    pub async fn setup() -> Setup {
        let turn = TURN.lock().await;
        let scratch = tempfile::Builder::new()
            .prefix("sluice-e2e-")
            .tempdir()
            .expect("a scratch folder");
        Setup {
            folder: Folder::new(scratch.path()),
            scratch,
            http: ports::free(),
            launch: Launch::Ordinary,
            apart: false,
            drain: Drain::default(),
            turn,
        }
    }

    /// Enrols one more instance and starts it. The controller need not run.
    pub fn join(&mut self) {
        let id = format!("{FLEET}-{}", self.instances.len() + 1);
        let scratch = self.scratch.path();
        let mut instance = Instance::enroll(scratch, &self.controller, &id, self.http, self.launch);
        instance.start();
        self.instances.push(instance);
    }

    /// Where the fleet's rollout stands.
    pub async fn status(&self) -> anyhow::Result<Value> {
        client::json(self.controller.admin, &format!("/api/v2/rollouts/{FLEET}")).await
    }

    /// Waits until the status is as wanted, and returns it.
    pub async fn when(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, PATIENCE, || async {
            match self.status().await {
                Ok(status) if wanted(&status) => Ok(status),
                Ok(status) => Err(format!("{status:#}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    /// Waits until nothing is in progress and all instances have acknowledged.
    pub async fn settled(&self) -> Value {
        let all = self.instances.iter().filter(|instance| instance.runs()).count();
        self.when("a settled fleet", |status| {
            let instances = &status["instances"];
            let quiet = matches!(status["phase"].as_str(), Some("Idle" | "RolledBack"));
            let count = |field: &str| instances[field].as_u64().map_or(0, |count| count as usize);
            quiet && status["stage"].is_null() && count("total") == all && count("acknowledged") == all
        })
        .await
    }

    /// Waits until every instance's answers to `host``path` carry this stamp.
    pub async fn answers(&self, host: &str, path: &str, stamp: &str) {
        let plan = Plan {
            new_connections_percent: 100,
            ..Plan::new(self.http, host, path, 100)
        };
        wait_until(
            &format!("{host}{path} to be answered by {stamp} everywhere"),
            PATIENCE,
            || async {
                let load = Load::start("ask", plan.clone());
                tokio::time::sleep(Duration::from_millis(300)).await;
                let outcomes = load.stop().await;
                let wrong = outcomes
                    .all
                    .iter()
                    .find(|outcome| outcome.reply().is_none_or(|reply| reply.stamp != stamp));
                wrong.map_or(Ok(()), |wrong| Err(format!("{wrong:?}")))
            },
        )
        .await;
    }

    /// One request over a new connection.
    pub async fn get(&self, host: &str, path: &str) -> anyhow::Result<Answer> {
        client::get(self.http, host, path).await
    }

    /// All requests that all instances have logged, in all their lives.
    pub fn lines(&self) -> Vec<Line> {
        self.instances.iter().flat_map(Instance::lines).collect()
    }

    /// The sum of a metric over the instances that run.
    ///
    /// # Panics
    /// If one of them does not have it.
    pub async fn metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for instance in self.instances.iter().filter(|instance| instance.runs()) {
            let value = instance.metric(name, &[]).await;
            sum += value.unwrap_or_else(|| panic!("{} has no metric {name}", instance.id));
        }
        sum
    }

    /// What everybody printed last, for a failing test.
    pub fn tails(&self) -> String {
        let instances = self.instances.iter().map(Instance::tail);
        let all: Vec<String> = std::iter::once(self.controller.tail()).chain(instances).collect();
        all.join("\n")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\nscratch folder was {}", self.tails(), self.scratch.path().display());
        }
    }
}

impl Setup {
    /// Writes a manifest.
    #[must_use]
    pub fn with(self, name: &str, text: &str) -> Self {
        self.folder.write(name, text);
        self
    }

    /// Runs the instances in this way.
    #[must_use]
    pub fn launched(self, launch: Launch) -> Self {
        Self { launch, ..self }
    }

    /// Each instance listens on an address of its own, 127.0.1.1 and on, and drains in this way: for whoever balances between
    /// them, as Services do between pods.
    #[must_use]
    pub fn apart(self, drain: Drain) -> Self {
        Self {
            apart: true,
            drain,
            ..self
        }
    }

    /// The port of the shared address, for the Rollout's listener.
    pub fn port(&self) -> u16 {
        self.http.port()
    }

    /// Starts the controller and instances `edge-1` to `edge-<count>`, and waits until all are ready.
    pub async fn start(self, count: usize) -> Fleet {
        let controller = Controller::start(self.scratch.path(), &self.folder).await;
        let mut instances = Vec::new();
        for number in 1..=count {
            let id = format!("{FLEET}-{number}");
            let mut instance = Instance::enroll(self.scratch.path(), &controller, &id, self.http, self.launch);
            instance.drains(self.drain);
            if self.apart {
                let own = u8::try_from(number).expect("few instances");
                instance.move_to(Ipv4Addr::new(127, 0, 1, own).into());
            }
            instances.push(instance);
        }
        let Self {
            folder,
            scratch,
            http,
            turn,
            launch,
            apart: _,
            drain: _,
        } = self;
        let mut fleet = Fleet {
            folder,
            controller,
            instances,
            http,
            scratch,
            launch,
            _turn: turn,
        };
        for instance in &mut fleet.instances {
            instance.start();
        }
        for instance in &fleet.instances {
            instance.ready().await;
        }
        fleet.settled().await;
        fleet
    }
}
