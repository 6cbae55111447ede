//! The register of a cluster: members as the Rollouts name them, pods as the API server knows them.

use std::sync::Arc;

use sluice_model::{InstanceId, Name};
use tokio::sync::watch;

use super::{Belonging, Existence, Register};
use crate::members::Memberships;
use crate::pki::Workload;
use crate::pods::Pods;

/// See the file's comment.
#[derive(Clone, Debug)]
pub struct Members {
    /// What the Rollouts say; `None`: they have not been read yet.
    pub memberships: watch::Receiver<Option<Arc<Memberships>>>,
    /// Who is there.
    pub pods: Pods,
}

#[tonic::async_trait]
impl Register for Members {
    fn fleet_of(&self, namespace: &Name, service_account: &Name) -> Belonging {
        let memberships = self.memberships.borrow();
        let Some(memberships) = memberships.as_ref() else {
            return Belonging::Unknown;
        };
        match memberships.fleet_of(namespace.as_str(), service_account.as_str()) {
            Some(fleet) => Belonging::To(fleet),
            None => Belonging::Nowhere,
        }
    }

    async fn existence(&self, instance: &InstanceId, workload: &Workload) -> Existence {
        self.pods.existence(workload.namespace.as_str(), instance).await
    }
}
