//! One instance of a fleet under test.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{Controller, PATIENCE};
use crate::access_log::{self, Line};
use crate::manifests::FLEET;
use crate::process::{self, Process};
use crate::wait::wait_until;
use crate::{binaries, client, ports};

/// An instance: a process, or between two of them.
#[derive(Debug)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// Its admin port.
    pub admin: SocketAddr,
    /// Its state folder.
    pub state: PathBuf,
    controller: SocketAddr,
    http: SocketAddr,
    logs: PathBuf,
    launch: Launch,
    drain: Drain,
    process: Option<Process>,
}

/// How an instance ends when it is told to.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long it goes on accepting.
    pub lame_duck: Duration,
    /// How long requests and tunnels have from then on.
    pub grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            lame_duck: Duration::from_millis(500),
            grace: Duration::from_secs(5),
        }
    }
}

/// How an instance runs.
#[derive(Clone, Copy, Debug, Default)]
pub enum Launch {
    /// With an access log, where the system puts it.
    #[default]
    Ordinary,
    /// Without an access log, on this core alone: to be measured.
    Pinned(u8),
    /// Without an access log, under valgrind, which counts its instructions, thread by thread, once it is told to.
    Counted,
}

impl Instance {
    /// Gives `id` an identity, as an operator does once for each machine.
    pub(super) fn enroll(scratch: &Path, controller: &Controller, id: &str, http: SocketAddr, launch: Launch) -> Self {
        let state = scratch.join(id);
        let mut command = Command::new(binaries::controller());
        command
            .arg("enroll")
            .arg("--state")
            .arg(&controller.state)
            .args(["--fleet", FLEET, "--instance", id]);
        let output = command
            .arg("--out")
            .arg(state.join("identity"))
            .output()
            .expect("the controller starts");
        assert!(
            output.status.success(),
            "enroll {id}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self {
            id: id.to_owned(),
            admin: ports::free(),
            state,
            controller: controller.stream,
            http,
            logs: scratch.to_owned(),
            launch,
            drain: Drain::default(),
            process: None,
        }
    }

    /// Listens on this address.
    pub(super) fn move_to(&mut self, ip: IpAddr) {
        self.http.set_ip(ip);
    }

    /// Drains in this way.
    pub(super) fn drains(&mut self, drain: Drain) {
        self.drain = drain;
    }

    /// Where it serves the listener `http`.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Starts it on its state folder.
    pub fn start(&mut self) {
        let mut command = match self.launch {
            Launch::Ordinary => Command::new(binaries::dataplane()),
            Launch::Pinned(core) => {
                let mut command = Command::new("taskset");
                command
                    .args(["--cpu-list", &core.to_string()])
                    .arg(binaries::dataplane());
                command
            }
            Launch::Counted => {
                let out = format!("--callgrind-out-file={}", self.counts().display());
                let mut command = Command::new("valgrind");
                command
                    .args(["--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", &out])
                    .arg(binaries::dataplane());
                command
            }
        };
        command.args([
            "--controller",
            &self.controller.to_string(),
            "--admin",
            &self.admin.to_string(),
        ]);
        command.arg("--state").arg(&self.state);
        match self.launch {
            Launch::Ordinary => _ = command.arg("--access-log").arg(self.access_log()),
            Launch::Pinned(_) | Launch::Counted => {}
        }
        command.args(["--bind", &format!("http={}", self.http), "--workers", "1"]);
        // Not on all addresses: there every connection that was ever bound to this port on one of them is in the way.
        command.args(["--bind-ip", &self.http.ip().to_string()]);
        for (flag, time) in [("--lame-duck", self.drain.lame_duck), ("--grace", self.drain.grace)] {
            command.args([flag, &time.as_secs_f64().to_string()]);
        }
        self.process = Some(Process::start(&self.id, &self.logs, &mut command));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(&mut self) -> Option<ExitStatus> {
        let mut process = self.process.take()?;
        Some(process.terminate(PATIENCE).await)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// The id of its process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Whether there is a process.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// If it ends instead, or takes too long.
    pub async fn ready(&self) {
        wait_until(&format!("{} to be ready", self.id), PATIENCE, || async {
            let lives = self
                .process
                .as_ref()
                .is_some_and(|process| process::alive(process.id()));
            assert!(lives, "{} has ended\n{}", self.id, self.tail());
            match client::get(self.admin, "localhost", "/ready").await {
                Ok(answer) if answer.status.is_success() => Ok(()),
                Ok(answer) => Err(format!("{}: {}\n{}", answer.status, answer.body, self.tail())),
                Err(error) => Err(format!("{error:#}\n{}", self.tail())),
            }
        })
        .await;
    }

    /// What it says is live: revisions, epoch, digests, roles.
    pub async fn live(&self) -> anyhow::Result<Value> {
        client::json(self.admin, "/api/v2/config/current").await
    }

    /// The sum of a metric's series that have all these labels; `None` if there is none, or it does not answer.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let answer = client::get(self.admin, "localhost", "/metrics").await;
        client::metric(&answer.ok()?.body, name, labels)
    }

    /// The requests it has logged, in all its lives.
    pub fn lines(&self) -> Vec<Line> {
        access_log::read(&self.id, &self.access_log())
    }

    /// All it printed about itself, in all its lives.
    pub fn output(&self) -> String {
        let read = |suffix: &str| std::fs::read_to_string(self.logs.join(format!("{}.{suffix}", self.id)));
        format!("{}{}", read("out").unwrap_or_default(), read("err").unwrap_or_default())
    }

    /// Its last good configuration on disk.
    pub fn last_good(&self) -> PathBuf {
        self.state.join("last-good")
    }

    pub(super) fn tail(&self) -> String {
        self.process
            .as_ref()
            .map_or_else(|| format!("--- {} does not run", self.id), Process::tail)
    }

    /// What the names of the files begin with that callgrind writes, of an instance that is [counted](Launch::Counted).
    pub fn counts(&self) -> PathBuf {
        self.logs.join(format!("{}.callgrind", self.id))
    }

    fn access_log(&self) -> PathBuf {
        self.logs.join(format!("{}.access.log", self.id))
    }
}
