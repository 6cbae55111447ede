//! The checks on a real Kubernetes: `e2e/run` prepares a cluster and images and starts this inside the cluster's
//! network. It prints a line for each check and one that counts them; what a check saw is in a folder of its own.
//!
//! ```text
//!  checks/*.rs ─► registry ─► report (one by one, a line each) ─► evidence when one fails
//!                    └─ world: client, kubectl, audit log, parts of the node
//!                         ├─ sluice ─ install: what is under test, by Helm
//!                         ├─ backend, traffic: what is routed to, and the load that finds out
//!                         ├─ argo, commits: an Argo CD and the repository that it follows
//!                         └─ pods, node, etcd, views: to look inside, and to break things
//! ```
// A harness speaks by panicking; what it indexes is JSON, where a missing field is null.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod argo;
mod audit;
mod backend;
mod checks;
mod commits;
mod etcd;
mod evidence;
mod install;
mod kubectl;
mod memberships;
mod node;
mod objects;
mod options;
mod pods;
mod registry;
mod report;
mod sluice;
mod tls;
mod tool;
mod traffic;
mod views;
mod world;

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let options = options::read(std::env::args().skip(1))?;
    let wanted = registry::chosen(&options)?;
    if options.list {
        registry::print(&wanted);
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(report::run(options, wanted))
}
