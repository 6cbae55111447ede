//! `sluice-controller`: arguments in, the parts composed and run, a signal ends it.

mod args;

use std::process::ExitCode;

use clap::Parser;
use sluice_controller::keyring::Phase;
use sluice_controller::{pki, standalone};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command, EnrollArgs, KubernetesArgs, RotateKeysArgs, StandaloneArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is logged unless `RUST_LOG` says otherwise. The Kubernetes client logs every failed connection as an error of its
/// own, without saying what for; whoever asked says so too, and once.
const LOGGED: &str = "info,kube_client::client::builder=off";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    let ended = match Cli::parse().command {
        Command::Standalone(args) => run_standalone(args),
        Command::Kubernetes(args) => kubernetes(args),
        Command::Enroll(args) => enroll(&args),
        Command::RotateKeys(args) => rotate_keys(&args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run_standalone(args: StandaloneArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let handle = args.into_standalone().start().await?;
    tracing::info!(instances = %handle.stream_addr(), admin = %handle.admin_addr(), "listening");
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    handle.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn kubernetes(args: KubernetesArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let running = args.into_kubernetes().run(stop.clone());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    stop.cancel();
    Ok(running.await?)
}

fn enroll(args: &EnrollArgs) -> anyhow::Result<()> {
    let dir = pki::enroll(&args.state, &args.fleet, &args.instance, args.out.as_deref())?;
    println!("{}", dir.display());
    Ok(())
}

fn rotate_keys(args: &RotateKeysArgs) -> anyhow::Result<()> {
    let next = match standalone::rotate_keys(&args.state)? {
        Phase::Announced => {
            "1/3: new keys are made, and sign nothing yet. Start the controller, and enrol every instance again"
        }
        Phase::Signing => {
            "2/3: the new keys sign, those before them along with them. Start the controller, wait until every instance has \
             connected, and enrol every instance again"
        }
        Phase::Resting => {
            "3/3: the keys before them are forgotten. Start the controller, and enrol every instance again"
        }
    };
    println!("{next}");
    Ok(())
}
