//! `sluice inject`: the data plane as a sidecar in front of an app, in its own pod. Pure text in, text out, for GitOps.
//!
//! ```text
//!  text ─► documents ─► workload (what is in it, may it be done) ─► edit (lines in, lines out) ─► checked ─► text
//!                                          sidecar (what is put in) ──┘
//! ```
//!
//! Text is inserted, not written anew: comments, order and layout of everything else stay. What comes out is read again
//! and has to mean what went in, plus the sidecar; injecting twice gives the same text.

pub mod documents;
pub mod edit;
pub mod resources;
pub mod sidecar;
pub mod workload;

use std::io::Read;
use std::path::{Path, PathBuf};

use sluice_model::limits::INJECT_INPUT_MAX_BYTES;
use sluice_model::{FleetName, Name};

use crate::failure::{Exit, Failure};
use crate::output;
use documents::Document;
use sidecar::Sidecar;
use workload::{Found, Workload};

/// The image of this build.
const IMAGE: &str = concat!("ghcr.io/sluice-proxy/sluice-dataplane:", env!("CARGO_PKG_VERSION"));

/// Arguments of `sluice inject`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Takes Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs and CronJobs; other documents come out as they went
in. The sidecar is an instance of a fleet of its own: the one whose Rollout names the pod's service account as a member.

    sluice inject -f deployment.yaml --with-resources | kubectl apply -f -

Exit codes: 0 done, 1 the workload cannot have a sidecar as it is, 2 wrong arguments or unreadable input.")]
pub struct Args {
    /// The manifests: a file, or `-` for standard input.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub filename: PathBuf,
    /// The port that the app listens on [default: the only containerPort].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub app_port: Option<u16>,
    /// The port of the sidecar's listener, which the Service's targetPort has to be and the Rollout's listener too.
    #[arg(long, value_name = "PORT", default_value_t = 9903, value_parser = clap::value_parser!(u16).range(1024..))]
    pub listener_port: u16,
    /// The data plane's image.
    #[arg(long, default_value = IMAGE, value_parser = image)]
    pub image: String,
    /// The namespace that the controller is in.
    #[arg(long, value_name = "NAMESPACE", default_value = "sluice-system")]
    pub controller_namespace: Name,
    /// Add the Rollout, ProxyRoute, Pool and Service that go with it, unless the input has them.
    #[arg(long)]
    pub with_resources: bool,
    /// The fleet that these speak of [default: the workload's name].
    #[arg(long, requires = "with_resources")]
    pub fleet: Option<FleetName>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The manifests with sidecars in them.
    pub text: String,
    /// What the author should know, a line each.
    pub remarks: Vec<String>,
}

/// A reference to an image, as far as it has to be one: it stands in YAML without quotes.
fn image(text: &str) -> Result<String, String> {
    let usual = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && text.chars().all(usual) && !text.ends_with(':') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no image: write REGISTRY/NAME:TAG"))
    }
}

/// Runs `sluice inject`.
///
/// # Errors
/// When the input cannot be read, or a workload in it cannot have a sidecar.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let injected = inject(&read(&args.filename)?, args)?;
    for remark in &injected.remarks {
        output::remark(remark);
    }
    output::print(&injected.text);
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let wrong = |error: std::io::Error| Failure::usage(format!("{shown}: {error}"));
    let mut bytes = Vec::new();
    let bound = INJECT_INPUT_MAX_BYTES + 1;
    if file == Path::new("-") {
        std::io::stdin().take(bound).read_to_end(&mut bytes).map_err(wrong)?;
    } else {
        let opened = std::fs::File::open(file).map_err(wrong)?;
        opened.take(bound).read_to_end(&mut bytes).map_err(wrong)?;
    }
    if bytes.len() as u64 > INJECT_INPUT_MAX_BYTES {
        let what = format!("{shown}: more than {INJECT_INPUT_MAX_BYTES} bytes; inject fewer files at a time");
        return Err(Failure::usage(what));
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{shown}: this is no text in UTF-8")))
}

/// The manifests in `text` with a sidecar in every workload.
///
/// # Errors
/// When `text` is no YAML, holds no workload, or one that cannot have a sidecar.
pub fn inject(text: &str, args: &Args) -> Result<Injected, Failure> {
    let documents = documents::split(text)?;
    let (mut injected, mut workloads) = (String::new(), Vec::new());
    let mut remarks = Vec::new();
    for document in &documents {
        match Workload::find(document)? {
            Found::Workload(workload) => {
                let sidecar = Sidecar::new(&workload, args)?;
                injected.push_str(&edit::with(document, &workload, &sidecar)?);
                remarks.extend(workload.remarks(&sidecar));
                workloads.push((workload, sidecar));
            }
            Found::Other(remark) => {
                injected.push_str(document.text);
                remarks.extend(remark);
            }
        }
    }
    if workloads.is_empty() {
        return Err(nothing_to_inject(&documents));
    }
    if args.with_resources {
        if args.fleet.is_some() && workloads.len() > 1 {
            let what = "--fleet is for one workload, and there are several: leave it out, and each fleet is called as its workload";
            return Err(Failure::usage(what));
        }
        resources::append(&mut injected, &documents, &workloads, args)?;
    }
    Ok(Injected {
        text: injected,
        remarks,
    })
}

fn nothing_to_inject(documents: &[Document<'_>]) -> Failure {
    let kinds: Vec<&str> = documents.iter().filter_map(Document::kind).collect();
    let seen = if kinds.is_empty() {
        "no manifest is in it".to_owned()
    } else {
        format!("there is only {}", kinds.join(", "))
    };
    Failure::failed(format!(
        "nothing to put a sidecar into: {seen}; inject takes {}",
        workload::KINDS.map(|kind| kind.name).join(", ")
    ))
}
