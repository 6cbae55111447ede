//! Lint: everything that can be said about a folder of manifests without knowing what serves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use sluice_model::{Digest, FleetName, Snapshot};

use crate::compile::Compiler;
use crate::live::{self, Wanted};
use crate::problem::{Place, Problem, Severity};
use crate::source::core::Core;
use crate::source::folder::Folder;
use crate::source::yaml::{self, YamlError};
use crate::source::{Cluster, Coverage, View, manifest};

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
    let view = folder.view(&listing);
    let core = folder.core(view.coverage.clone());
    lint_view(&view, &core, jiff::Timestamp::now().as_second())
}

/// The same for the manifests of a cluster, each with a name for messages. Services and Secrets are not looked at: what
/// objects refer to counts as there. Without what the cluster says of its namespaces, it is a folder to this.
pub fn lint_cluster(manifests: impl IntoIterator<Item = (Arc<str>, String)>, cluster: Option<Cluster>) -> LintReport {
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    for (name, text) in manifests {
        match yaml::documents(&text) {
            Ok(documents) => {
                let read = manifest::read(&name, documents);
                objects.extend(read.objects);
                problems.extend(read.problems);
            }
            Err(YamlError { at, message }) => {
                let place = Place {
                    file: name,
                    line: at.line,
                    column: at.column,
                };
                problems.push(Problem::of_file(Severity::Error, place, message, "correct it"));
            }
        }
    }
    let view = View {
        objects: objects.into_iter().collect(),
        problems,
        coverage: Coverage::Whole,
        cluster: cluster.map(Arc::new),
        shares: Arc::default(),
    };
    let unseen = Core::new([], Coverage::Nothing);
    lint_view(&view, &unseen, jiff::Timestamp::now().as_second())
}

fn lint_view(view: &View, core: &Core, now_seconds: i64) -> LintReport {
    // Contents are compared with nothing here, so they need no names.
    let mut compiler = Compiler::new(|_, _| Digest::default());
    let mut output = compiler.compile(view, &BTreeMap::new());
    let wanted: Wanted = output
        .fleets
        .values()
        .filter_map(|compiled| compiled.snapshot.as_ref())
        .flat_map(Snapshot::live_subjects)
        .collect();
    output.problems.extend(live::problems::problems(
        compiler.translation(),
        &core.values(&wanted),
        now_seconds,
    ));
    output.problems.sort();
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
