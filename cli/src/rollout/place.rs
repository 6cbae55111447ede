//! Which controller is meant: one on this machine, by its admin port, or one in a Kubernetes cluster, by the Rollouts
//! that it governs. `kubectl sluice` means a cluster and `sluice` this machine, unless a flag says otherwise.

use sluice_model::Name;

use crate::admin::{Admin, AdminArgs};
use crate::called::Called;
use crate::cluster::{Cluster, ConnectionArgs, controller_namespace};
use crate::failure::Failure;

/// Where a controller is.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaceArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub admin: AdminArgs,
    /// Ask a Kubernetes cluster, as `kubectl sluice` does and each of the options below implies.
    #[arg(long, conflicts_with = "admin", help_heading = "Kubernetes")]
    pub kube: bool,
    /// Namespace of the controller and the Rollouts that it governs [default: $SLUICE_NAMESPACE, else sluice-system].
    #[arg(short, long, conflicts_with = "admin", help_heading = "Kubernetes")]
    pub namespace: Option<Name>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: ConnectionArgs,
}

/// A controller.
#[derive(Debug)]
pub enum Place {
    /// On this machine.
    Local(Admin),
    /// In a cluster, and the namespace of its Rollouts.
    Cluster(Cluster, String),
}

impl PlaceArgs {
    /// The controller that is meant.
    ///
    /// # Errors
    /// When its address, or the kubeconfig, cannot be used.
    pub async fn find(&self, called: Called) -> Result<Place, Failure> {
        if !self.mean_a_cluster(called) {
            return Ok(Place::Local(self.admin.find()?));
        }
        if self.admin.admin.is_some() {
            return Err(Failure::usage(
                "--admin is for a controller on this machine; leave it out to ask a cluster",
            ));
        }
        let namespace = controller_namespace(self.namespace.as_ref())?;
        Ok(Place::Cluster(Cluster::connect(&self.connection).await?, namespace))
    }

    /// Whether a cluster is meant.
    fn mean_a_cluster(&self, called: Called) -> bool {
        let by_name = match called {
            Called::Plugin => self.admin.admin.is_none(),
            Called::Sluice => false,
        };
        by_name || self.kube || self.connection.are_given() || self.namespace.is_some()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        place: PlaceArgs,
    }

    #[test]
    fn the_name_decides_unless_a_flag_does() {
        let check = |called, flags: &[&str], cluster: bool| {
            let words = ["x"].iter().chain(flags);
            let place = Command::try_parse_from(words).ok().unwrap().place;
            assert_eq!(place.mean_a_cluster(called), cluster, "{called} {flags:?}");
        };
        check(Called::Sluice, &[], false);
        check(Called::Sluice, &["--admin", "127.0.0.1:1"], false);
        check(Called::Plugin, &["--admin", "127.0.0.1:1"], false);
        check(Called::Plugin, &[], true);
        for flags in [
            &["--kube"][..],
            &["--context", "a"],
            &["-n", "edge"],
            &["--kubeconfig", "f"],
            &["--as", "ann"],
        ] {
            check(Called::Sluice, flags, true);
        }
        assert!(Command::try_parse_from(["x", "--admin", "a:1", "-n", "b"]).is_err());
    }
}
