//! The `sluice` command: Sluice on a laptop (`up`), and what people ask of it (`lint`, `explain`, `rollout`, `bundle`),
//! here or, as `kubectl sluice`, of a cluster.
//!
//! ```text
//!  args ─► one file per subcommand ─► failure (one line, exit code)
//!            up ─► up/{folder,state,port,children,…}       the controller here, instances as child processes
//!            rollout, lint, explain, bundle ─► output      table, JSON or YAML
//!            rollout, explain, routes, pool, instances ─► cluster      an API server, with the user's own rights
//!            inject ─► inject/{documents,workload,sidecar,edit}        text in, text out
//!            admin ─► http                                  what a controller's admin port says
//! ```
//!
//! It composes the controller and the data plane and decides nothing about configuration itself.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod admin;
pub mod args;
pub mod bundle;
pub mod called;
pub mod cluster;
pub mod demo_upstream;
pub mod explain;
pub mod failure;
pub mod http;
pub mod inject;
pub mod instance;
pub mod instances;
pub mod lint;
pub mod output;
pub mod patience;
pub mod pool;
pub mod rollout;
pub mod routes;
pub mod table;
pub mod up;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command};
use called::Called;
use failure::{Exit, Failure};

/// Parses `arguments` (the first is the name under which the command was called), runs, and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let called = Called::by(arguments.first().map(OsString::as_os_str));
    let command = Cli::command().bin_name(called.as_str());
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` are errors to clap, and good news to people.
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return code.into();
        }
    };
    match dispatch(cli.command, called) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{called}: {failure}");
            failure.exit.into()
        }
    }
}

fn dispatch(command: Command, called: Called) -> Result<Exit, Failure> {
    match command {
        Command::Up(args) => up::run(args),
        Command::Lint(args) => lint::run(&args),
        Command::Explain(args) => explain::run(&args, called),
        Command::Rollout(args) => rollout::run(args, called),
        Command::Routes(args) => routes::run(&args),
        Command::Pool(args) => pool::run(&args),
        Command::Instances(args) => instances::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Inject(args) => inject::run(&args),
        Command::DemoUpstream(args) => demo_upstream::run(&args),
        Command::DataPlane(args) => instance::run(args),
    }
}

/// A runtime for commands that mostly wait.
fn waiting_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
