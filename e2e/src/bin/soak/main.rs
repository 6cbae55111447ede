//! The endurance runs: the promises that need size or time to be seen, each against the real data plane as a process of its
//! own. `e2e/soak` builds what it needs and starts this. A line for each scenario, with its figures, and one that counts.
//!
//! ```text
//!  options ─► registry ─► report (one by one) ─► scenario/*.rs
//!                                                  │
//!      front: clients of four kinds ─► edge: controller and instance ─► back: upstreams of three kinds
//!                                        usage: what it costs
//! ```
// A harness speaks by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod authority;
mod back;
mod edge;
mod front;
mod options;
mod pattern;
mod registry;
mod report;
mod scenario;

use std::process::ExitCode;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};

fn main() -> anyhow::Result<ExitCode> {
    let options = options::read(std::env::args().skip(1))?;
    let wanted = registry::chosen(&options.names)?;
    if options.list {
        registry::print(&wanted);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &options.binaries {
        let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
        sluice_e2e::binaries::look_in(folder);
    }
    // Clients and upstreams of ten thousand connections are all in this process.
    let mut descriptors = getrlimit(Resource::Nofile);
    descriptors.current = descriptors.maximum;
    setrlimit(Resource::Nofile, descriptors)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(report::run(options.form, wanted))
}
