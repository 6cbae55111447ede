//! `sluice lint`: what the controller would say about a folder, without signing or serving anything.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use sluice_controller::lint::{LintReport, lint};
use sluice_controller::problem::Severity;

use crate::failure::{Exit, Failure};
use crate::output::{self, TextFormat};

/// Arguments of `sluice lint`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 clean (warnings allowed), 1 errors found, 2 the folder cannot be read or arguments are wrong."
)]
pub struct Args {
    /// The folder of manifests.
    pub folder: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub output: TextFormat,
    /// Count warnings as errors.
    #[arg(long)]
    pub deny_warnings: bool,
}

/// Runs `sluice lint`.
///
/// # Errors
/// When the folder cannot be read.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let report = report(&args.folder)?;
    output::print(&match args.output {
        TextFormat::Text => text(&report),
        TextFormat::Json => output::json(&document(&report))?,
        TextFormat::Yaml => output::yaml(&document(&report))?,
    });
    let bad = report.count(Severity::Error)
        + if args.deny_warnings {
            report.count(Severity::Warning)
        } else {
            0
        };
    Ok(if bad > 0 { Exit::Failed } else { Exit::Done })
}

/// What there is to say about `folder`.
///
/// # Errors
/// When it cannot be read, or is no folder.
pub fn report(folder: &Path) -> Result<LintReport, Failure> {
    let shown = folder.display();
    let data = std::fs::metadata(folder)
        .map_err(|error| Failure::usage(format!("{shown}: {error}; give a folder of manifests")))?;
    if !data.is_dir() {
        return Err(Failure::usage(format!(
            "{shown} is not a folder; give the folder that it is in"
        )));
    }
    let report = lint(folder);
    if report.unreadable {
        let why = report.problems.first().map(ToString::to_string).unwrap_or_default();
        return Err(Failure::usage(format!("{shown} cannot be read: {why}")));
    }
    Ok(openable(report, folder))
}

/// Files as they open from the working directory, also by a click on them.
fn openable(mut report: LintReport, folder: &Path) -> LintReport {
    for place in report.problems.iter_mut().filter_map(|problem| problem.place.as_mut()) {
        let path = folder.join(&*place.file);
        let shown = path.strip_prefix(".").unwrap_or(&path);
        place.file = shown.to_string_lossy().into();
    }
    report
}

fn text(report: &LintReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let _ = writeln!(text, "{problem}");
    }
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
    let _ = writeln!(text, "{} objects, {errors} errors, {warnings} warnings", report.objects);
    text
}

fn document(report: &LintReport) -> serde_json::Value {
    json!({
        "objects": report.objects,
        "errors": report.count(Severity::Error),
        "warnings": report.count(Severity::Warning),
        "problems": report.problems,
    })
}
