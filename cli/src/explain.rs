//! `sluice explain`: which route of a folder wins for a request, and why the others do not.

use std::fmt::Write;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;
use sluice_controller::problem::Severity;
use sluice_model::explain::{Explanation, explain};
use sluice_model::{FleetName, RequestFacts, Snapshot, authority, path};

use crate::failure::{Exit, Failure};
use crate::lint;
use crate::output::{self, TextFormat};

/// Arguments of `sluice explain`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 a route takes the request, 1 none does, 2 wrong arguments or unreadable folder.")]
pub struct Args {
    /// The folder of manifests.
    pub folder: PathBuf,
    /// The request's Host header.
    #[arg(long)]
    pub host: Option<String>,
    /// The request's path, with its query if it has one.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// The request's method.
    #[arg(long, default_value = "GET")]
    pub method: Method,
    /// A header of the request (repeatable).
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The fleet; may be left out when there is one.
    #[arg(long)]
    pub fleet: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text)]
    pub output: TextFormat,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("{text:?} is not of the form NAME:VALUE"))?;
    let name = name.trim().parse().map_err(|error| format!("{name:?}: {error}"))?;
    let value = HeaderValue::from_str(value.trim()).map_err(|error| format!("{value:?}: {error}"))?;
    Ok((name, value))
}

/// Runs `sluice explain`.
///
/// # Errors
/// When the folder cannot be read, serves nothing, or the request is none that could be routed.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let report = lint::report(&args.folder)?;
    let errors = report.count(Severity::Error);
    let snapshot = choose(report.fleets, args.fleet.as_deref(), &args.folder)?;
    let explanation = answer(&snapshot, args)?;
    output::print(&match args.output {
        TextFormat::Text => text(&explanation, errors),
        TextFormat::Json => output::json(&json!({"explanation": explanation, "errorsInFolder": errors}))?,
        TextFormat::Yaml => output::yaml(&json!({"explanation": explanation, "errorsInFolder": errors}))?,
    });
    Ok(if explanation.winner.is_some() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn text(explanation: &Explanation, errors: usize) -> String {
    let mut text = format!("{explanation}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if errors > 0 {
        let _ = writeln!(
            text,
            "The folder has {errors} errors; objects with errors are left out here. See `sluice lint`."
        );
    }
    text
}

/// The snapshot of the fleet asked for, or of the only one.
fn choose(
    fleets: std::collections::BTreeMap<FleetName, Option<Snapshot>>,
    wanted: Option<&str>,
    folder: &std::path::Path,
) -> Result<Snapshot, Failure> {
    let names: Vec<String> = fleets.keys().map(ToString::to_string).collect();
    let mut of = fleets
        .into_iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.as_str() == wanted));
    match (of.next(), of.next()) {
        (Some((_, Some(snapshot))), None) => Ok(snapshot),
        (Some((name, None)), None) => Err(Failure::failed(format!(
            "fleet {name} has nothing complete to serve; `sluice lint {}` says why",
            folder.display()
        ))),
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "say which fleet with --fleet: {}",
            names.join(", ")
        ))),
        (None, _) => Err(Failure::usage(format!(
            "{} has no such fleet; it has: {}",
            folder.display(),
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        ))),
    }
}

/// Explains the request as the data plane would see it: host and path normalised.
fn answer(snapshot: &Snapshot, args: &Args) -> Result<Explanation, Failure> {
    let wrong = |error: String| Failure::usage(error);
    let host = args.host.as_deref().map(authority::parse).transpose();
    let host = host.map_err(|error| wrong(format!("--host: {error}")))?;
    let (raw, query) = match args.path.split_once('?') {
        Some((raw, query)) => (raw, Some(query)),
        None => (args.path.as_str(), None),
    };
    let path = path::normalize(raw).map_err(|error| wrong(format!("--path {raw:?}: {error}")))?;
    let headers: HeaderMap = args.headers.iter().cloned().collect();
    Ok(explain(
        snapshot,
        &RequestFacts {
            host: host.as_ref().map(|authority| &*authority.host),
            path: &path,
            method: &args.method,
            headers: &headers,
            query,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_name_and_value() {
        let (name, value) = header("X-Version: v2").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-version", "v2"));
        for wrong in ["x", ": v", "a b: c"] {
            assert!(header(wrong).is_err(), "{wrong:?}");
        }
    }
}
