//! The controller inside of `up`: started on the folder, with its stream on a loopback port of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use sluice_controller::pipeline::Settings;
use sluice_controller::standalone::{Handle, Roster, Standalone};
use sluice_model::{FleetName, InstanceId};

use super::plan::Plan;
use crate::failure::Failure;

/// As `sluice-controller standalone` has them by default: files at rest for a tenth of a second, and newer changes take
/// the place of an unfinished one for ten minutes.
const SETTINGS: Settings = Settings {
    debounce_ms: 100,
    max_pending_age_ms: 600_000,
};

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    handle: Handle,
    state: PathBuf,
}

/// Starts it.
///
/// # Errors
/// When the state is in use by another, or something in it is not as it should be.
pub async fn start(plan: &Plan) -> Result<Controller, Failure> {
    let standalone = Standalone {
        dir: plan.folder.clone(),
        state: plan.state.clone(),
        stream_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        admin_addr: plan.admin,
        settings: SETTINGS,
        roster: Some(Roster {
            fleet: plan.fleet.clone(),
            instances: plan.ids()?.into_iter().collect(),
        }),
    };
    let handle = standalone
        .start()
        .await
        .map_err(|error| Failure::failed(error.to_string()))?;
    Ok(Controller {
        handle,
        state: plan.state.clone(),
    })
}

impl Controller {
    /// Where instances connect to.
    pub fn stream(&self) -> SocketAddr {
        self.handle.stream_addr()
    }

    /// Where people ask.
    pub fn admin(&self) -> SocketAddr {
        self.handle.admin_addr()
    }

    /// Makes the identity of instance `id` in its state folder.
    ///
    /// # Errors
    /// Names the file and how to mend it.
    pub fn enroll(&self, fleet: &FleetName, id: &InstanceId) -> Result<(), Failure> {
        sluice_controller::pki::enroll(&self.state, fleet, id, None)
            .map(drop)
            .map_err(|error| Failure::failed(error.to_string()))
    }

    /// Ends it: the record is written and the lock is given back.
    pub async fn stop(self) {
        self.handle.shutdown().await;
    }
}
