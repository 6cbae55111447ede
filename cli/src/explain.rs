//! `sluice explain`: which route wins for a request, and why the others do not: of a folder, or of a cluster.
//!
//! Of a cluster it is the controller that answers, by what the fleet serves: what is in error or held back serves in an
//! earlier form, which no object shows. The objects are read as files in a folder would be, to say where that differs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};
use sluice_controller::lint::{LintReport, lint_cluster};
use sluice_controller::problem::Severity;
use sluice_controller::source::{self, Cluster as Namespaces};
use sluice_model::explain::Explanation;
use sluice_model::question::Question;
use sluice_model::{FleetName, Name, Snapshot};

use crate::called::Called;
use crate::cluster::forward::PodAdmin;
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
    let answer = match &place {
        Place::Folder(folder) => {
            let report = lint::report(folder)?;
            as_written(report, args, &place, called)?
        }
        Place::Cluster => waiting_runtime()?.block_on(in_cluster(args, &place, called))?,
    };
    output::print(&match args.output {
        TextFormat::Text => answer.text,
        TextFormat::Json => output::json(&answer.json)?,
        TextFormat::Yaml => output::yaml(&answer.json)?,
    });
    Ok(
        if answer.json.pointer("/explanation/winner").is_none_or(Value::is_null) {
            Exit::Failed
        } else {
            Exit::Done
        },
    )
}

/// What is printed.
struct Answer {
    text: String,
    json: Value,
}

/// By the objects as they are written.
fn as_written(report: LintReport, args: &Args, place: &Place<'_>, called: Called) -> Result<Answer, Failure> {
    let errors = report.count(Severity::Error);
    let (_, snapshot) = choose(report.fleets, args.fleet.as_deref(), place, called)?;
    let snapshot = snapshot?;
    let explanation = explained(&snapshot, args)?;
    Ok(Answer {
        text: text(&explanation, errors, &place.advice(called)),
        json: json!({"explanation": explanation, "errorsInFolder": errors}),
    })
}

/// As the fleet serves it, by whoever leads; by the objects for whoever may not ask, or while nobody can be asked.
async fn in_cluster(args: &Args, place: &Place<'_>, called: Called) -> Result<Answer, Failure> {
    let cluster = Cluster::connect(&args.connection).await?;
    let controller = controller_namespace(args.controller_namespace.as_ref())?;
    let report = read(&cluster, &controller).await?;
    let errors = report.count(Severity::Error);
    let (fleet, written) = choose(report.fleets.clone(), args.fleet.as_deref(), place, called)?;
    match served(&cluster, &controller, &fleet, args).await {
        Ok(served) => {
            let written = written.ok().map(|written| explained(&written, args)).transpose()?;
            Ok(as_served(
                &served,
                &fleet,
                written.as_ref(),
                errors,
                &place.advice(called),
            ))
        }
        Err(failure) => {
            output::remark(&format!(
                "{failure}; what follows goes by the objects as they are written, and what is in error or held back serves \
                 in an earlier form"
            ));
            as_written(report, args, place, called)
        }
    }
}

async fn served(cluster: &Cluster, controller: &str, fleet: &FleetName, args: &Args) -> Result<Value, Failure> {
    let path = format!("/api/v2/rollouts/{fleet}/explain");
    let question = serde_json::to_value(question(args)).map_err(|error| Failure::usage(error.to_string()))?;
    let leader = cluster.leader(controller).await?;
    PodAdmin::open(cluster, controller, &leader)
        .await?
        .post(&path, &question)
        .await
}

/// What the leader answered, and where the objects as they are written say something else.
fn as_served(served: &Value, fleet: &FleetName, written: Option<&Explanation>, errors: usize, advice: &str) -> Answer {
    let string = |field: &str| served.get(field).and_then(Value::as_str).unwrap_or_default().trim_end();
    let (revision, explanation) = (string("revision"), served.get("explanation"));
    let mut text = format!(
        "{}\n\nSo it is served by fleet {fleet}, in revision {revision}.\n",
        string("text")
    );
    let winner = written.map(|written| json!(written.winner));
    if winner.as_ref() != explanation.and_then(|explanation| explanation.get("winner")) {
        let by = winner.as_ref().and_then(|winner| winner.get("route")?.as_str());
        let by = by.map_or("nothing would take it".to_owned(), |route| {
            format!("{route} would, otherwise")
        });
        let _ = writeln!(
            text,
            "As the objects are written, {by}: a change is on its way, or held back. See `{advice}`."
        );
    }
    if errors > 0 {
        let _ = writeln!(
            text,
            "There are {errors} errors; objects with errors serve in their last good form, if they have one. See `{advice}`."
        );
    }
    let json = json!({"explanation": explanation, "fleet": fleet, "revision": revision, "errorsInFolder": errors});
    Answer { text, json }
}

/// Where the objects are.
enum Place<'a> {
    Folder(&'a PathBuf),
    Cluster,
}

impl<'a> Place<'a> {
    fn find(args: &'a Args, called: Called) -> Result<Self, Failure> {
        let cluster = args.kube || args.controller_namespace.is_some() || args.connection.are_given();
        match (&args.folder, called) {
            (Some(_), _) if cluster => Err(Failure::usage("give a folder, or options for a cluster, and not both")),
            (Some(folder), _) => Ok(Self::Folder(folder)),
            (None, Called::Plugin) => Ok(Self::Cluster),
            (None, Called::Sluice) if cluster => Ok(Self::Cluster),
            (None, Called::Sluice) => Err(Failure::usage(
                "give the folder of manifests, or --kube to look at a cluster",
            )),
        }
    }

    /// For messages.
    fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Cluster => "the cluster".to_owned(),
        }
    }

    /// Where what is wrong with the objects is told.
    fn advice(&self, called: Called) -> String {
        match self {
            Self::Folder(folder) => format!("{called} lint {}", folder.display()),
            Self::Cluster => format!("{called} routes -A"),
        }
    }
}

/// Reads the Rollouts that govern, and the routes and pools of all namespaces.
async fn read(cluster: &Cluster, controller: &str) -> Result<LintReport, Failure> {
    let mut manifests = Vec::new();
    for (kind, namespace) in [
        (Kind::Rollout, Some(controller)),
        (Kind::ProxyRoute, None),
        (Kind::Pool, None),
    ] {
        let objects = cluster.list(kind, namespace).await?.items;
        manifests.extend(objects.iter().map(manifest));
    }
    let namespaces = match namespaces(cluster, controller).await {
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
async fn namespaces(cluster: &Cluster, controller: &str) -> Result<Namespaces, Failure> {
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

/// The fleet asked for, or the only one, with what it would serve of the objects as they are written.
fn choose(
    fleets: BTreeMap<FleetName, Option<Snapshot>>,
    wanted: Option<&str>,
    place: &Place<'_>,
    called: Called,
) -> Result<(FleetName, Result<Snapshot, Failure>), Failure> {
    let names: Vec<String> = fleets.keys().map(ToString::to_string).collect();
    let mut of = fleets
        .into_iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.as_str() == wanted));
    match (of.next(), of.next()) {
        (Some((name, snapshot)), None) => {
            let nothing = Failure::failed(format!(
                "fleet {name} has nothing complete to serve; `{}` says why",
                place.advice(called)
            ));
            Ok((name, snapshot.ok_or(nothing)))
        }
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

fn question(args: &Args) -> Question {
    // Every header was read from text, and is visible ASCII.
    let header = |(name, value): &(HeaderName, HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Question {
        host: args.host.clone(),
        path: args.path.clone(),
        method: args.method.to_string(),
        headers: args.headers.iter().map(header).collect(),
    }
}

fn explained(snapshot: &Snapshot, args: &Args) -> Result<Explanation, Failure> {
    question(args)
        .explained(snapshot)
        .map_err(|error| Failure::usage(format!("--{error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serves_is_told_and_where_the_objects_say_something_else() {
        let fleet = "edge".parse().unwrap();
        let served = json!({"revision": "7-ab", "text": "goes to Pool shop/api\n", "explanation": {"winner": {"route": "ProxyRoute shop/a"}}});
        let nobody = Explanation {
            winner: None,
            others: vec![],
            routes_for_other_hosts: 1,
        };
        let answer = as_served(&served, &fleet, Some(&nobody), 1, "kubectl sluice routes -A");
        let expected = "goes to Pool shop/api\n\nSo it is served by fleet edge, in revision 7-ab.\nAs the objects are written, \
                        nothing would take it: a change is on its way, or held back. See `kubectl sluice routes -A`.\nThere \
                        are 1 errors; objects with errors serve in their last good form, if they have one. See `kubectl \
                        sluice routes -A`.\n";
        assert_eq!(answer.text, expected);
        assert_eq!(answer.json["revision"], "7-ab");
    }

    #[test]
    fn headers_are_name_and_value() {
        let (name, value) = header("X-Version: v2").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-version", "v2"));
        for wrong in ["x", ": v", "a b: c"] {
            assert!(header(wrong).is_err(), "{wrong:?}");
        }
    }
}
