//! The command line of `sluice-controller`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sluice_controller::kubernetes::Kubernetes;
use sluice_controller::pipeline::Settings;
use sluice_controller::pipeline::commands::Proof;
use sluice_controller::standalone::Standalone;
use sluice_model::{FleetName, InstanceId, Name};

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
    /// Run in a cluster, as one of several replicas: objects come from its API server, and all state is kept there.
    Kubernetes(KubernetesArgs),
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
    #[command(flatten)]
    pace: PaceArgs,
}

impl StandaloneArgs {
    pub(crate) fn into_standalone(self) -> Standalone {
        Standalone {
            dir: self.dir,
            state: self.state,
            stream_addr: self.listen,
            admin_addr: self.admin,
            settings: self.pace.into(),
            roster: None,
        }
    }
}

/// Watches the API server, compiles what is there, and rolls each change out stage by stage as its Rollout says.
///
/// Keys, records and revisions are kept in the namespace it runs in; the state folder is a working copy and may be lost.
/// The API server and who this is are found as kubectl finds them: in the cluster, or by KUBECONFIG.
#[derive(Debug, Args)]
pub(crate) struct KubernetesArgs {
    /// The namespace it runs in. Rollouts there govern fleets; everything it keeps is there.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: Name,
    /// The ConfigMap in that namespace that owns what is kept there, so that it goes when the ConfigMap goes. While it is
    /// gone nothing is written. The chart makes it and sets this; without it nobody owns anything.
    #[arg(long, env = "SLUICE_INSTALLATION", value_name = "CONFIGMAP")]
    installation: Option<Name>,
    /// The name of this pod, by which it is known as leader.
    #[arg(long, env = "POD_NAME")]
    pod: Name,
    /// Where other pods reach this one.
    #[arg(long, env = "POD_IP")]
    pod_ip: IpAddr,
    /// The working copy of what is kept in the cluster; best in memory, since private keys are in it.
    #[arg(long, env = "SLUICE_STATE", default_value = "/var/lib/sluice")]
    state: PathBuf,
    /// Where instances connect to and enrol (gRPC over TLS).
    #[arg(long, env = "SLUICE_LISTEN", default_value = "0.0.0.0:9900", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where views are served while this replica leads, for `kubectl sluice` through port-forward. A loopback address,
    /// since it has no login.
    #[arg(
        long,
        env = "SLUICE_ADMIN_LISTEN",
        default_value = "127.0.0.1:9901",
        value_name = "ADDR"
    )]
    admin: SocketAddr,
    /// Where /healthz, /ready and /metrics are served.
    #[arg(
        long,
        env = "SLUICE_HEALTH_LISTEN",
        default_value = "0.0.0.0:9902",
        value_name = "ADDR"
    )]
    health: SocketAddr,
    /// Namespaces whose objects are served, separated by commas; the controller's own is always among them. Without any: all of them, which
    /// needs a ClusterRole.
    #[arg(
        long,
        env = "SLUICE_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    watch_namespaces: Vec<Name>,
    /// Namespaces whose Secrets may be read, separated by commas. Without any: those that are watched.
    #[arg(long, env = "SLUICE_SECRETS_IN", value_delimiter = ',', value_name = "NAMESPACE")]
    secrets_in: Vec<Name>,
    #[command(flatten)]
    pace: PaceArgs,
    /// That the cluster checks `sluice.dev/command-by` against the user who asks, so that the audit log may believe it.
    /// The chart sets it together with its admission policy.
    #[arg(long, env = "SLUICE_ADMISSION_PROVES_ACTORS")]
    admission_proves_actors: bool,
}

impl KubernetesArgs {
    pub(crate) fn into_kubernetes(self) -> Kubernetes {
        Kubernetes {
            namespace: self.namespace,
            installation: self.installation,
            pod: self.pod,
            pod_ip: self.pod_ip,
            state: self.state,
            stream_addr: self.listen,
            admin_addr: self.admin,
            health_addr: self.health,
            watch_namespaces: self.watch_namespaces.into_iter().collect(),
            secrets_in: self.secrets_in.into_iter().collect(),
            settings: self.pace.into(),
            proof: if self.admission_proves_actors {
                Proof::Admission
            } else {
                Proof::Claimed
            },
        }
    }
}

/// When what is written becomes a change of its own.
#[derive(Debug, Args)]
struct PaceArgs {
    /// Milliseconds for which files or objects have to be at rest before they are compiled.
    #[arg(long, env = "SLUICE_DEBOUNCE", default_value_t = 100, value_name = "MS")]
    debounce: u64,
    /// Seconds for which newer changes may take the place of an unfinished rollout; then the newest waits for its end.
    #[arg(long, env = "SLUICE_MAX_PENDING_AGE", default_value_t = 600, value_name = "SECONDS")]
    max_pending_age: u64,
}

impl From<PaceArgs> for Settings {
    fn from(args: PaceArgs) -> Self {
        Self {
            debounce_ms: args.debounce,
            max_pending_age_ms: args.max_pending_age.saturating_mul(1_000),
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
