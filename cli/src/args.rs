//! The command line: which subcommands there are. Each one's arguments are in its own file.

use clap::{Parser, Subcommand};

use crate::{bundle, demo_upstream, explain, inject, instance, instances, lint, pool, rollout, routes, up};

/// Version, and what was built: for bug reports.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("SLUICE_COMMIT"),
    "\nprofile: ",
    env!("SLUICE_PROFILE"),
    "\ntarget: ",
    env!("SLUICE_TARGET"),
);

/// An ingress whose configuration changes are rolled out the way code is.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    long_version = LONG_VERSION,
    after_help = "Exit codes: 0 done, 1 failed or errors found, 2 wrong arguments or unreadable input.",
    max_term_width = 120
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a folder of manifests with a fleet on this machine, and roll its changes out.
    Up(up::Args),
    /// Check a folder of manifests, as the controller would, and sign nothing.
    Lint(lint::Args),
    /// Say which route wins for a request, and why the others do not.
    Explain(explain::Args),
    /// See and steer rollouts: of a controller on this machine, or in a Kubernetes cluster.
    Rollout(rollout::Args),
    /// The ProxyRoutes of a Kubernetes cluster, and what became of them.
    Routes(routes::Args),
    /// The endpoints of a Pool as each instance in a Kubernetes cluster has them.
    Pool(pool::Args),
    /// The instances that are connected to the controller of a Kubernetes cluster.
    Instances(instances::Args),
    /// Put the data plane as a sidecar in front of an app, in its manifests.
    Inject(inject::Args),
    /// Look into signed manifests and orders.
    Bundle(bundle::Args),
    /// A small HTTP server that says its version, to try things on.
    DemoUpstream(demo_upstream::Args),
    /// One instance of the data plane, as `up` starts it.
    #[command(hide = true)]
    DataPlane(instance::Args),
}
