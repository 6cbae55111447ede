//! The command line of `sluice-controller`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sluice_controller::pipeline::Settings;
use sluice_controller::standalone::Standalone;
use sluice_model::{FleetName, InstanceId};

/// Turns routes and pools into signed revisions, and rolls them out to a fleet of data-plane instances.
///
/// Every setting is a flag or a variable beginning with SLUICE_. RUST_LOG sets what is logged (default: info).
#[derive(Debug, Parser)]
#[command(name = "sluice-controller", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run on a folder of manifests, without Kubernetes.
    Standalone(StandaloneArgs),
    /// Make the identity with which an instance connects: certificate, key, and whom to trust.
    Enroll(EnrollArgs),
    /// Replace the signing keys and the certificate authority, one step of three at a time; docs/keys.md has the steps.
    RotateKeys(RotateKeysArgs),
}

/// Watches DIR, compiles what is in it, and rolls each change out stage by stage as its Rollout says.
///
/// The state folder holds the signing keys, the certificate authority, every fleet's record and its last revisions.
/// Keep it: without it every instance has to be enrolled again. One controller uses it at a time.
#[derive(Debug, Args)]
pub(crate) struct StandaloneArgs {
    /// The folder of manifests, as `kubectl apply -f DIR` takes it.
    #[arg(env = "SLUICE_DIR")]
    dir: PathBuf,
    /// The state folder; made at first start.
    #[arg(long, env = "SLUICE_STATE", default_value = "sluice-state")]
    state: PathBuf,
    /// Where instances connect to (gRPC over mutual TLS).
    #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:9900", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where people and Prometheus ask: status, problems, events, commands. A loopback address, since it has no login.
    #[arg(
        long,
        env = "SLUICE_ADMIN_LISTEN",
        default_value = "127.0.0.1:9901",
        value_name = "ADDR"
    )]
    admin: SocketAddr,
    /// Milliseconds for which files have to be at rest before they are compiled.
    #[arg(long, env = "SLUICE_DEBOUNCE", default_value_t = 100, value_name = "MS")]
    debounce: u64,
    /// Seconds for which newer changes may take the place of an unfinished rollout; then the newest waits for its end.
    #[arg(long, env = "SLUICE_MAX_PENDING_AGE", default_value_t = 600, value_name = "SECONDS")]
    max_pending_age: u64,
}

impl StandaloneArgs {
    pub(crate) fn into_standalone(self) -> Standalone {
        Standalone {
            dir: self.dir,
            state: self.state,
            stream_addr: self.listen,
            admin_addr: self.admin,
            settings: Settings {
                debounce_ms: self.debounce,
                max_pending_age_ms: self.max_pending_age.saturating_mul(1_000),
            },
            roster: None,
        }
    }
}

/// Writes ca.pem, cert.pem, key.pem, trusted.json and instance.json. An identity that is still good is kept.
#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// The controller's state folder.
    #[arg(long, env = "SLUICE_STATE", default_value = "sluice-state")]
    pub(crate) state: PathBuf,
    /// The fleet that the instance belongs to.
    #[arg(long, env = "SLUICE_FLEET", default_value = "default")]
    pub(crate) fleet: FleetName,
    /// The id of the instance. A replacement gets another one.
    #[arg(long, env = "SLUICE_INSTANCE")]
    pub(crate) instance: InstanceId,
    /// Where to write it [default: STATE/instances/INSTANCE/identity].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// Takes the next step: announces new keys, then signs with them, then forgets those before. For a controller that runs on
/// a folder, and that does not run while this does; in Kubernetes the controller does it by itself when asked to.
#[derive(Debug, Args)]
pub(crate) struct RotateKeysArgs {
    /// The controller's state folder.
    #[arg(long, env = "SLUICE_STATE", default_value = "sluice-state")]
    pub(crate) state: PathBuf,
}
