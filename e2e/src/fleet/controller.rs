//! The controller of a fleet under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::PATIENCE;
use crate::manifests::Folder;
use crate::process::Process;
use crate::wait::wait_until;
use crate::{binaries, client, ports};

/// A controller: a process, or between two of them.
#[derive(Debug)]
pub struct Controller {
    /// Its admin port.
    pub admin: SocketAddr,
    /// Where instances reach it.
    pub stream: SocketAddr,
    /// Its state folder.
    pub state: PathBuf,
    folder: PathBuf,
    logs: PathBuf,
    process: Option<Process>,
}

impl Controller {
    /// Starts one with a new state folder below `scratch`, and waits until it answers.
    pub(super) async fn start(scratch: &Path, folder: &Folder) -> Self {
        let mut controller = Self {
            admin: ports::free(),
            stream: ports::free(),
            state: scratch.join("state"),
            folder: folder.path().to_owned(),
            logs: scratch.to_owned(),
            process: None,
        };
        controller.restart().await;
        controller
    }

    /// Starts it again on its state, and waits until it answers.
    pub async fn restart(&mut self) {
        let mut command = Command::new(binaries::controller());
        command
            .arg("standalone")
            .arg(&self.folder)
            .arg("--state")
            .arg(&self.state);
        command.args(["--listen", &self.stream.to_string(), "--admin", &self.admin.to_string()]);
        self.process = Some(Process::start("controller", &self.logs, &mut command));
        wait_until("the controller's admin port", PATIENCE, || async {
            let process = self.process.as_ref().expect("it was just started");
            let answer = client::get(self.admin, "localhost", "/healthz").await;
            answer.map_err(|error| format!("{error:#}\n{}", process.tail()))
        })
        .await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let status = process.terminate(PATIENCE).await;
            assert!(status.success(), "{status}\n{}", process.tail());
        }
    }

    /// The fleet's record on disk.
    pub fn record(&self, fleet: &str) -> PathBuf {
        self.state.join("fleets").join(fleet).join("record.json")
    }

    /// All it printed, in all its lives.
    pub fn output(&self) -> String {
        let read = |suffix: &str| std::fs::read_to_string(self.logs.join(format!("controller.{suffix}")));
        format!("{}{}", read("out").unwrap_or_default(), read("err").unwrap_or_default())
    }

    pub(super) fn tail(&self) -> String {
        self.process
            .as_ref()
            .map_or_else(|| "--- the controller does not run".to_owned(), Process::tail)
    }
}
