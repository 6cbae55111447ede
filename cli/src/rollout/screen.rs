//! Tells people what happens: lines with the time, and on a terminal a moving line for each fleet under them.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::status::Status;
use crate::output;

/// Where the story is told.
#[derive(Debug)]
pub enum Screen {
    /// Lines, for logs and pipes.
    Plain,
    /// Lines, and below them one moving line for each fleet.
    Live {
        /// All moving lines.
        below: MultiProgress,
        /// By fleet.
        fleets: Mutex<BTreeMap<String, ProgressBar>>,
    },
}

impl Screen {
    /// Lines only.
    pub fn plain() -> Self {
        Self::Plain
    }

    /// What fits: moving on a terminal, lines elsewhere.
    pub fn fitting() -> Self {
        if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
            Self::Live {
                below: MultiProgress::new(),
                fleets: Mutex::default(),
            }
        } else {
            Self::Plain
        }
    }

    /// Says one thing, with the time of day: in UTC, as everything else that tells a time.
    pub fn say(&self, line: &str) {
        self.print(&format!("{}  {line}\n", time_of_day(Timestamp::now())));
    }

    /// Prints `text` as it is.
    pub fn print(&self, text: &str) {
        match self {
            Self::Plain => output::print(text),
            // The moving lines step aside while others are printed.
            Self::Live { below, .. } => below.suspend(|| output::print(text)),
        }
    }

    /// Shows where the fleets stand. Plain screens leave that to the story.
    pub fn show(&self, all: &[Status]) {
        let Self::Live { below, fleets } = self else { return };
        let mut fleets = fleets.lock().unwrap_or_else(PoisonError::into_inner);
        for status in all {
            let bar = fleets.entry(status.fleet.clone()).or_insert_with(|| {
                let bar = below.add(ProgressBar::new(0));
                bar.set_style(moving(0));
                bar
            });
            let stage = status.stage.clone().unwrap_or_default();
            if bar.length() != Some(stage.bake_ms) {
                bar.set_style(moving(stage.bake_ms));
                bar.set_length(stage.bake_ms);
            }
            bar.set_position(stage.observed_ms.min(stage.bake_ms));
            bar.set_message(line(status));
            bar.tick();
        }
    }

    /// Removes the moving lines, before the end.
    pub fn clear(&self) {
        if let Self::Live { below, .. } = self {
            let _ = below.clear();
        }
    }
}

/// `10:20:00Z`
fn time_of_day(now: Timestamp) -> String {
    now.strftime("%H:%M:%SZ").to_string()
}

/// A bar while there is something to bake. One line of the terminal whatever its width: what is too much is cut off at
/// the end, since a line that wraps could not be moved.
fn moving(bake_ms: u64) -> ProgressStyle {
    let template = if bake_ms > 0 {
        "{spinner} {bar:12} {wide_msg}"
    } else {
        "{spinner} {wide_msg}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// `default  Baking  1/2 canary  3/3  5-0a1b2c3d  Healthy  baking 2s of 8s`
pub(super) fn line(status: &Status) -> String {
    let stage = status
        .stage
        .as_ref()
        .map(|stage| stage.label.clone())
        .unwrap_or_default();
    let revision = status.target_revision.clone().unwrap_or_default();
    let parts = [
        status.fleet.as_str(),
        &status.phase,
        &stage,
        &status.instances.label,
        &revision,
        &status.health,
        &status.message,
    ];
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_say_so() {
        for at in ["2026-11-23T10:20:00.9Z", "2026-11-23T12:20:00+02:00"] {
            assert_eq!(time_of_day(at.parse().unwrap()), "10:20:00Z");
        }
    }

    #[test]
    fn a_line_leaves_out_what_is_not_there() {
        let mut status = Status {
            fleet: "edge".to_owned(),
            phase: "Idle".to_owned(),
            ..Status::default()
        };
        assert_eq!(line(&status), "edge  Idle");
        status.message = "no instance is connected".to_owned();
        assert_eq!(line(&status), "edge  Idle  no instance is connected");
    }
}
