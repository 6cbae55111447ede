//! Lint: everything that can be said about a folder of manifests without knowing what serves.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use sluice_model::{Digest, FleetName, Snapshot};

use crate::compile::Compiler;
use crate::problem::{Problem, Severity};
use crate::source::folder::Folder;
use crate::source::{Coverage, View};

/// What is wrong with a folder, and what it would serve.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LintReport {
    /// Everything that is wrong, in the order of the files.
    pub problems: Vec<Problem>,
    /// How many objects of Sluice's kinds were read.
    pub objects: usize,
    /// What each fleet would serve, if it has anything complete.
    #[serde(skip)]
    pub fleets: BTreeMap<FleetName, Option<Snapshot>>,
    /// Whether nothing could be read at all.
    #[serde(skip)]
    pub unreadable: bool,
}

impl LintReport {
    /// How many Problems are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }
}

/// Reads and compiles the folder once. Changes nothing and asks nobody.
pub fn lint(folder: &Path) -> LintReport {
    let mut folder = Folder::new(folder);
    let listing = folder.list();
    lint_view(&folder.view(&listing))
}

fn lint_view(view: &View) -> LintReport {
    // Contents are compared with nothing here, so they need no names.
    let output = Compiler::new(|_, _| Digest::default()).compile(view, &BTreeMap::new());
    let snapshots = output
        .fleets
        .into_iter()
        .map(|(name, compiled)| (name, compiled.snapshot));
    // "It is not served until then" is about what serves, which lint does not know.
    let problems = output.problems.into_iter().map(|problem| Problem {
        effect: None,
        ..problem
    });
    LintReport {
        problems: problems.collect(),
        objects: view.objects.len(),
        fleets: snapshots.collect(),
        unreadable: view.coverage == Coverage::Nothing,
    }
}
