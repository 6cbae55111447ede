//! Asks about one pod: the only thing that counts as word of its end.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

/// What was seen under a pod's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// A pod that runs, or will.
    Alive {
        /// Its UID.
        uid: String,
    },
    /// A pod that has come to its end: nothing of it runs any more, or ever will.
    Ended,
}

impl Seen {
    /// Whether the pod whose UID begins like this is not there any more.
    pub fn is_gone(&self, uid_beginning: &str) -> bool {
        match self {
            Self::Nothing | Self::Ended => true,
            Self::Alive { uid } => !uid.starts_with(uid_beginning),
        }
    }
}

/// Nobody could be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// Asks about one pod.
#[tonic::async_trait]
pub trait Lookup: Send + Sync + fmt::Debug {
    /// What there is of this name.
    async fn look(&self, namespace: &str, name: &str) -> Result<Seen, LookupError>;
}

/// Asks the API server. Needs `get` on pods in members' namespaces.
#[derive(Clone)]
pub struct PodLookup {
    client: Client,
}

impl fmt::Debug for PodLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PodLookup")
    }
}

impl PodLookup {
    /// Asks this API server.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[tonic::async_trait]
impl Lookup for PodLookup {
    async fn look(&self, namespace: &str, name: &str) -> Result<Seen, LookupError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        // Without a resourceVersion: the newest there is, not what some cache remembers.
        let pod = api
            .get_opt(name)
            .await
            .map_err(|error| LookupError(error.to_string()))?;
        Ok(pod.map_or(Seen::Nothing, |pod| seen(&pod)))
    }
}

fn seen(pod: &Pod) -> Seen {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        Some("Succeeded" | "Failed") => Seen::Ended,
        Some(_) | None => Seen::Alive {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodStatus;

    #[test]
    fn a_pod_is_gone_when_it_ended_or_another_has_its_name() {
        let pod = |phase: &str| {
            let mut pod = Pod::default();
            pod.metadata.uid = Some("0a1b2c3d-4e5f".to_owned());
            pod.status = Some(PodStatus {
                phase: Some(phase.to_owned()),
                ..PodStatus::default()
            });
            seen(&pod)
        };
        for phase in ["Pending", "Running", "Unknown"] {
            assert!(!pod(phase).is_gone("0a1b2c3d"), "{phase}");
            assert!(pod(phase).is_gone("11111111"), "{phase}");
        }
        for phase in ["Succeeded", "Failed"] {
            assert!(pod(phase).is_gone("0a1b2c3d"), "{phase}");
        }
        assert!(Seen::Nothing.is_gone("0a1b2c3d"));
    }
}
