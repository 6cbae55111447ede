//! Who may be an instance of which fleet, in Kubernetes: pods of the service accounts that a Rollout names as members,
//! for as long as they exist. Standalone has no register: whoever was given a certificate may be what it says.
//!
//! Asked when a pod enrols, when its certificate is renewed, when its stream begins, and with every message of it. What
//! an instance says of itself is never asked.

pub mod members;

use std::fmt;

use sluice_model::{FleetName, InstanceId, Name};
use tonic::Status;

use crate::pki::{Peer, Workload};

/// Which fleet a service account's pods belong to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Belonging {
    /// This one.
    To(FleetName),
    /// None: no Rollout names it.
    Nowhere,
    /// The Rollouts have not been read yet.
    Unknown,
}

/// Whether a pod is still there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existence {
    /// It is, or nobody can be asked: whoever serves is not cut off because the API server is away.
    Presumed,
    /// It is not, for good: the API server said so.
    Gone,
}

/// See the file's comment.
#[tonic::async_trait]
pub trait Register: Send + Sync + fmt::Debug {
    /// The fleet of this service account.
    fn fleet_of(&self, namespace: &Name, service_account: &Name) -> Belonging;

    /// Whether the pod of this instance is there.
    async fn existence(&self, instance: &InstanceId, workload: &Workload) -> Existence;
}

/// May `peer` be what its certificate says, as far as memberships tell?
///
/// # Errors
/// Says why not, and what to do.
pub fn belongs<'a>(register: &dyn Register, peer: &'a Peer) -> Result<&'a Workload, Status> {
    let Some(workload) = &peer.workload else {
        return Err(Status::permission_denied(
            "the certificate names no pod, and in Kubernetes only pods are instances; enrol this one with its pod's token",
        ));
    };
    let fleet = fleet_of(register, workload)?;
    if fleet == peer.identity.fleet {
        return Ok(workload);
    }
    Err(Status::permission_denied(format!(
        "the certificate is of fleet {}, and {workload} belongs to fleet {fleet} now; replace the pod",
        peer.identity.fleet
    )))
}

/// The fleet of `workload`.
///
/// # Errors
/// Says why there is none, and what to do.
pub fn fleet_of(register: &dyn Register, workload: &Workload) -> Result<FleetName, Status> {
    match register.fleet_of(&workload.namespace, &workload.service_account) {
        Belonging::To(fleet) => Ok(fleet),
        Belonging::Nowhere => Err(Status::permission_denied(format!(
            "no Rollout has the service account {workload} among its spec.members; add it there, or run this pod as one that is"
        ))),
        Belonging::Unknown => Err(Status::unavailable(
            "the Rollouts, which say who belongs to which fleet, are not read yet; try again",
        )),
    }
}

/// The same, and is its pod still there?
///
/// # Errors
/// Says why not, and what to do.
pub async fn admit(register: &dyn Register, peer: &Peer) -> Result<(), Status> {
    let workload = belongs(register, peer)?;
    match register.existence(&peer.identity.instance, workload).await {
        Existence::Presumed => Ok(()),
        Existence::Gone => Err(Status::permission_denied(format!(
            "the pod of {} is deleted; a new pod enrols with its own token",
            peer.identity.instance
        ))),
    }
}
