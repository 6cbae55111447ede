//! `sluice explain`: which route wins for a request, and why the others do not: of a folder, or of a cluster, whose
//! objects are then read as files in a folder would be.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use serde_json::json;
use sluice_controller::lint::{LintReport, lint_cluster};
use sluice_controller::problem::Severity;
use sluice_controller::source::{self, Cluster as Namespaces};
use sluice_model::explain::{Explanation, explain};
use sluice_model::{FleetName, Name, RequestFacts, Snapshot, authority, path};

use crate::called::Called;
use crate::cluster::objects::{self, Kind};
use crate::cluster::refusal::Wish;
use crate::cluster::{Cluster, ConnectionArgs, controller_namespace};
use crate::failure::{Exit, Failure};
use crate::output::{self, TextFormat};
use crate::{lint, waiting_runtime};

/// Arguments of `sluice explain`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 a route takes the request, 1 none does, 2 wrong arguments or unreadable folder.")]
pub struct Args {
    /// The folder of manifests. `kubectl sluice` looks at the cluster without it.
    pub folder: Option<PathBuf>,
    /// Look at the objects of a Kubernetes cluster, in all namespaces.
    #[arg(long, conflicts_with = "folder", help_heading = "Kubernetes")]
    pub kube: bool,
    /// The controller's namespace, whose Rollouts govern [default: $SLUICE_NAMESPACE, else sluice-system].
    #[arg(
        long,
        value_name = "NAMESPACE",
        conflicts_with = "folder",
        help_heading = "Kubernetes"
    )]
    pub controller_namespace: Option<Name>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: ConnectionArgs,
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
pub fn run(args: &Args, called: Called) -> Result<Exit, Failure> {
    let place = Place::find(args, called)?;
    let report = place.report()?;
    let errors = report.count(Severity::Error);
    let snapshot = choose(report.fleets, args.fleet.as_deref(), &place, called)?;
    let explanation = answer(&snapshot, args)?;
    output::print(&match args.output {
        TextFormat::Text => text(&explanation, errors, &place.advice(called)),
        TextFormat::Json => output::json(&json!({"explanation": explanation, "errorsInFolder": errors}))?,
        TextFormat::Yaml => output::yaml(&json!({"explanation": explanation, "errorsInFolder": errors}))?,
    });
    Ok(if explanation.winner.is_some() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Where the objects are.
enum Place<'a> {
    Folder(&'a PathBuf),
    Cluster(&'a Args),
}

impl<'a> Place<'a> {
    fn find(args: &'a Args, called: Called) -> Result<Self, Failure> {
        let cluster = args.kube || args.controller_namespace.is_some() || args.connection.are_given();
        match (&args.folder, called) {
            (Some(_), _) if cluster => Err(Failure::usage("give a folder, or options for a cluster, and not both")),
            (Some(folder), _) => Ok(Self::Folder(folder)),
            (None, Called::Plugin) => Ok(Self::Cluster(args)),
            (None, Called::Sluice) if cluster => Ok(Self::Cluster(args)),
            (None, Called::Sluice) => Err(Failure::usage(
                "give the folder of manifests, or --kube to look at a cluster",
            )),
        }
    }

    fn report(&self) -> Result<LintReport, Failure> {
        match self {
            Self::Folder(folder) => lint::report(folder),
            Self::Cluster(args) => waiting_runtime()?.block_on(in_cluster(args)),
        }
    }

    /// For messages.
    fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Cluster(_) => "the cluster".to_owned(),
        }
    }

    /// Where what is wrong with the objects is told.
    fn advice(&self, called: Called) -> String {
        match self {
            Self::Folder(folder) => format!("{called} lint {}", folder.display()),
            Self::Cluster(_) => format!("{called} routes -A"),
        }
    }
}

/// Reads the Rollouts that govern, and the routes and pools of all namespaces.
async fn in_cluster(args: &Args) -> Result<LintReport, Failure> {
    let controller = controller_namespace(args.controller_namespace.as_ref())?;
    let cluster = Cluster::connect(&args.connection).await?;
    let mut manifests = Vec::new();
    for (kind, namespace) in [
        (Kind::Rollout, Some(controller.as_str())),
        (Kind::ProxyRoute, None),
        (Kind::Pool, None),
    ] {
        let objects = cluster.list(kind, namespace).await?.items;
        manifests.extend(objects.iter().map(manifest));
    }
    let namespaces = match namespaces(&cluster, controller).await {
        Ok(namespaces) => Some(namespaces),
        Err(failure) => {
            output::remark(&format!(
                "{failure}; without it, every fleet counts as serving every namespace, and every namespace as equally old"
            ));
            None
        }
    };
    Ok(lint_cluster(manifests, namespaces))
}

/// How old and how labelled the namespaces are: it decides who owns a host, and whose routes a fleet serves.
async fn namespaces(cluster: &Cluster, controller: String) -> Result<Namespaces, Failure> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let list = cluster
        .call(&Wish::list("namespaces", None), api.list(&ListParams::default()))
        .await?;
    let known = |namespace: Namespace| {
        let created = namespace.metadata.creation_timestamp.map(|time| time.0.as_second());
        let known = source::cluster::Namespace {
            created_at_seconds: created.and_then(|seconds| u64::try_from(seconds).ok()),
            labels: namespace.metadata.labels.unwrap_or_default(),
        };
        Some((namespace.metadata.name?.parse().ok()?, known))
    };
    Ok(Namespaces {
        controller: controller.parse().map_err(|error| Failure::usage(format!("{error}")))?,
        namespaces: list.items.into_iter().filter_map(known).collect(),
    })
}

fn manifest(object: &DynamicObject) -> (Arc<str>, String) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    (format!("{namespace}/{name}").into(), objects::shown(object).to_string())
}

fn text(explanation: &Explanation, errors: usize, advice: &str) -> String {
    let mut text = format!("{explanation}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if errors > 0 {
        let _ = writeln!(
            text,
            "There are {errors} errors; objects with errors are left out here. See `{advice}`."
        );
    }
    text
}

/// The snapshot of the fleet asked for, or of the only one.
fn choose(
    fleets: std::collections::BTreeMap<FleetName, Option<Snapshot>>,
    wanted: Option<&str>,
    place: &Place<'_>,
    called: Called,
) -> Result<Snapshot, Failure> {
    let names: Vec<String> = fleets.keys().map(ToString::to_string).collect();
    let mut of = fleets
        .into_iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.as_str() == wanted));
    match (of.next(), of.next()) {
        (Some((_, Some(snapshot))), None) => Ok(snapshot),
        (Some((name, None)), None) => Err(Failure::failed(format!(
            "fleet {name} has nothing complete to serve; `{}` says why",
            place.advice(called)
        ))),
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "say which fleet with --fleet: {}",
            names.join(", ")
        ))),
        (None, _) => Err(Failure::usage(format!(
            "{} has no such fleet; it has: {}",
            place.name(),
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
