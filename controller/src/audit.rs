//! The audit log: who asked for what, about which revision, and what became of it; one JSON object a line, written before
//! the answer is given. In `audit.jsonl` of the state folder; where that does not outlive the process, on standard output,
//! which whoever runs it collects. Everything else that is logged goes to standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use sluice_model::{FleetName, InstanceId};

use crate::pipeline::commands::Proof;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Entry {
    /// When (RFC 3339).
    pub at: String,
    /// Who.
    pub actor: String,
    /// Whether that is proven, or only what somebody says.
    pub proof: Proof,
    /// What.
    pub action: &'static str,
    /// About which fleet.
    pub fleet: FleetName,
    /// About which revision; empty if it is not about one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// About which instance, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Why.
    pub reason: String,
    /// What became of it.
    pub result: String,
}

/// Where entries go.
#[derive(Debug)]
pub struct Audit {
    to: To,
}

#[derive(Debug)]
enum To {
    File(File),
    Output(io::Stdout),
}

impl Audit {
    /// Appends to the log in the folder `state`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(state: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(state.join("audit.jsonl"))?;
        Ok(Self { to: To::File(file) })
    }

    /// Writes to standard output.
    pub fn to_output() -> Self {
        Self {
            to: To::Output(io::stdout()),
        }
    }

    /// Writes `entry`. A log that cannot be written is said, and does not keep a person from stopping an outage.
    pub fn note(&mut self, entry: &Entry) {
        let written = serde_json::to_string(entry)
            .map_err(io::Error::from)
            .and_then(|line| self.to.write(&format!("{line}\n")));
        if let Err(error) = written {
            tracing::error!(%error, ?entry, "the audit log could not be written");
        }
    }
}

impl To {
    fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(line.as_bytes()).and_then(|()| file.sync_data()),
            Self::Output(output) => output.write_all(line.as_bytes()).and_then(|()| output.flush()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_lines_that_stay() {
        let state = tempfile::tempdir().unwrap();
        let entry = Entry {
            at: "2026-11-23T20:00:00Z".to_owned(),
            actor: "eve\n{}".to_owned(),
            proof: Proof::Claimed,
            action: "abort",
            fleet: "edge".parse().unwrap(),
            revision: "42-c01d9a3f".to_owned(),
            instance: None,
            reason: String::new(),
            result: "done".to_owned(),
        };
        Audit::open(state.path()).unwrap().note(&entry);
        Audit::open(state.path()).unwrap().note(&entry);
        let text = std::fs::read_to_string(state.path().join("audit.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "a line break in a name makes no line");
        assert_eq!(lines[1]["actor"], "eve\n{}");
    }
}
