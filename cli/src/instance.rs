//! `sluice data-plane`: one instance in a process of its own, as `sluice-dataplane` runs it; how `up` starts them.

use crate::failure::{Exit, Failure};

/// Arguments: those of `sluice-dataplane`.
pub type Args = sluice_dataplane::args::Args;

/// Runs the instance until it is told to end.
///
/// # Errors
/// When it cannot start.
pub fn run(args: Args) -> Result<Exit, Failure> {
    sluice_dataplane::instance::log_to_stderr();
    sluice_dataplane::run(args).map_err(|error| Failure::failed(format!("{error:#}")))?;
    Ok(Exit::Done)
}
