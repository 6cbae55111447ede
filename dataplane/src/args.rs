//! The command line of an instance: `sluice-dataplane`, and the same thing inside of `sluice`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sluice_model::Name;
use sluice_model::limits::{DEFAULT_METRIC_NAMES, MAX_METRIC_NAMES};

/// Serve traffic as the controller's signed orders say.
///
/// The state folder holds the instance's identity and its last good configuration, from which it serves at once, also while
/// the controller is away. The identity is made by `sluice-controller enroll`; with --token, in a pod, the instance gets it
/// from the controller itself.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the controller's stream is
    #[arg(long, env = "SLUICE_CONTROLLER", value_name = "HOST:PORT")]
    pub controller: String,

    /// The instance's state folder, with `identity/` in it unless --token is given; nobody else may use it
    #[arg(long, env = "SLUICE_STATE", value_name = "DIR")]
    pub state: PathBuf,

    /// Where the controller's authorities and the trusted keys are, as others keep them: the folder that the ConfigMap
    /// sluice-trust is mounted at; changes count at once [default: ca.pem and trusted.json in the identity]
    #[arg(long, env = "SLUICE_TRUST", value_name = "DIR")]
    pub trust: Option<PathBuf>,

    /// Get a certificate from the controller with this projected service-account token (audience sluice-controller), and
    /// renew it
    #[arg(long, env = "SLUICE_TOKEN", value_name = "FILE", requires = "trust")]
    pub token: Option<PathBuf>,

    /// Where private keys of certificates are kept, each readable by this user alone; may be a folder in memory, then a new
    /// start waits for the controller to send them again [default: keys/ in the state folder]
    #[arg(long, env = "SLUICE_KEYS", value_name = "DIR")]
    pub keys: Option<PathBuf>,

    /// Where health, metrics and views of what is live are served; keep it on loopback
    #[arg(long, env = "SLUICE_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,

    /// Where /healthz, /ready and /metrics are served for kubelets and Prometheus, from the first moment on [default: on
    /// the admin address only]
    #[arg(long, env = "SLUICE_HEALTH", value_name = "ADDR")]
    pub health: Option<SocketAddr>,

    /// Bind the listener of this name here, instead of to its port on --bind-ip (repeatable)
    #[arg(long, env = "SLUICE_BIND", value_name = "NAME=ADDR", value_delimiter = ',')]
    pub bind: Vec<Bind>,

    /// Bind listeners without a `--bind` of their own to this address of the machine, at their ports
    #[arg(long, env = "SLUICE_BIND_IP", value_name = "IP", default_value = "0.0.0.0")]
    pub bind_ip: IpAddr,

    /// Worker threads, each with its own listeners and upstream connections [default: one per usable core]
    #[arg(long, env = "SLUICE_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Write one JSON line per request to this file; `-` is standard output [default: no access log]
    #[arg(long, env = "SLUICE_ACCESS_LOG", value_name = "FILE")]
    pub access_log: Option<PathBuf>,

    /// Routes, and as many endpoints, that keep their names in metrics; the first seen do, all others share `other`
    #[arg(long, env = "SLUICE_METRIC_NAMES", value_name = "N", default_value_t = DEFAULT_METRIC_NAMES, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_METRIC_NAMES)))]
    pub metric_names: u16,

    /// How long requests may take to end after SIGTERM, in seconds; a second signal ends them at once
    #[arg(long, env = "SLUICE_GRACE", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub grace: Duration,

    /// How long to go on accepting after SIGTERM, not ready any more, until load balancers have noticed, in seconds
    #[arg(long, env = "SLUICE_LAME_DUCK", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub lame_duck: Duration,

    /// The name in the controller's certificate
    #[arg(long, env = "SLUICE_CONTROLLER_NAME", value_name = "NAME", hide = true)]
    pub controller_name: Option<String>,

    /// End, without waiting for load balancers, when this process, which started this one, is gone
    #[arg(long, env = "SLUICE_DIE_WITH_PARENT", value_name = "PID", hide = true)]
    pub die_with_parent: Option<u32>,
}

/// A listener's name, and where it is to bind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bind {
    /// The listener's name in the Rollout.
    pub listener: Name,
    /// Where.
    pub address: SocketAddr,
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not of the form NAME=ADDR, as in http=127.0.0.1:8080");
        let (listener, address) = text.split_once('=').ok_or_else(form)?;
        Ok(Self {
            listener: listener.parse().map_err(|error| format!("{error}"))?,
            address: address.parse().map_err(|_| form())?,
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a number of seconds from 0 to 3600");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if (0.0..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_flags_are_read() {
        let command = Command::try_parse_from([
            "x",
            "--controller",
            "localhost:9440",
            "--state",
            "/s",
            "--bind",
            "http=127.0.0.1:80",
            "--bind",
            "web=[::1]:81",
            "--grace",
            "0.5",
        ]);
        let args = command.unwrap().args;
        assert_eq!(args.bind.len(), 2);
        assert!(args.bind_ip.is_unspecified());
        assert_eq!(args.bind[1].address, "[::1]:81".parse().unwrap());
        assert_eq!(args.grace, Duration::from_millis(500));
    }

    #[test]
    fn a_token_is_shown_to_a_controller_that_is_known() {
        let pod = ["x", "--controller", "c:1", "--state", "/s", "--token", "/t"];
        let error = Command::try_parse_from(pod).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("--trust")));
        let pod = pod.into_iter().chain(["--trust", "/trust", "--health", "0.0.0.0:9902"]);
        let args = Command::try_parse_from(pod).unwrap().args;
        assert!(args.trust.is_some() && args.health.is_some());
    }

    #[test]
    fn wrong_values_are_named() {
        for (flag, value, says) in [
            ("--bind", "http", "NAME=ADDR"),
            ("--bind", "HTTP=127.0.0.1:80", "listener"),
            ("--grace", "-1", "0 to 3600"),
            ("--grace", "NaN", "0 to 3600"),
            ("--workers", "0", "1..=1024"),
            ("--metric-names", "201", "1..=200"),
            ("--bind-ip", "localhost", "--bind-ip"),
        ] {
            let all = ["x", "--controller", "c:1", "--state", "/s", &format!("{flag}={value}")];
            let error = Command::try_parse_from(all)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert!(
                error.contains(says) || says == "listener" && error.contains("valid name"),
                "{flag} {value}: {error}"
            );
        }
    }
}
