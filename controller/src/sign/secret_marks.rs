//! Marks where the keys are in a Secret: an annotation of it for each fleet, `signed-for.sluice.dev/FLEET`. With the Secret
//! they go, and new keys begin without. Only the metadata is read and written: no private key passes through here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_model::FleetName;

use super::marks::{MarkError, Marks};
use crate::api_server::{ApiError, ApiServer, in_time};

/// What an annotation begins with that marks a fleet.
const SIGNED_FOR: &str = "signed-for.sluice.dev/";

/// The marks at one Secret.
#[derive(Debug)]
pub struct SecretMarks {
    server: ApiServer,
    namespace: String,
    secret: String,
    fleets: Mutex<BTreeSet<String>>,
}

impl SecretMarks {
    /// Reads those at `secret`, which has to be there. To be done by who begins to lead: from then on nobody else writes
    /// any.
    ///
    /// # Errors
    /// When the Secret cannot be read.
    pub async fn read(server: ApiServer, namespace: &str, secret: &str) -> Result<Self, ApiError> {
        let secrets: Api<Secret> = Api::namespaced(server.client().clone(), namespace);
        let read = in_time(secrets.get_metadata(secret)).await?;
        Ok(Self {
            server,
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            fleets: Mutex::new(fleets(&read.metadata.annotations.unwrap_or_default())),
        })
    }

    fn fleets(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set is whole after every line that touches it.
        self.fleets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fleets(annotations: &BTreeMap<String, String>) -> BTreeSet<String> {
    let marks = annotations.keys().filter_map(|key| key.strip_prefix(SIGNED_FOR));
    marks.map(str::to_owned).collect()
}

impl Marks for SecretMarks {
    fn are_unused(&self) -> bool {
        self.fleets().is_empty()
    }

    fn never_signed_for(&self, fleet: &FleetName) -> bool {
        !self.fleets().contains(fleet.as_str())
    }

    fn note(&self, fleet: &FleetName) -> Result<(), MarkError> {
        if !self.never_signed_for(fleet) {
            return Ok(());
        }
        let secrets: Api<Secret> = Api::namespaced(self.server.client().clone(), &self.namespace);
        let since = Timestamp::now().to_string();
        let mark = json!({"metadata": {"annotations": {format!("{SIGNED_FOR}{fleet}"): since}}});
        let (how, mark) = (PatchParams::default(), Patch::Merge(mark));
        self.server.ask(secrets.patch_metadata(&self.secret, &how, &mark))?;
        self.fleets().insert(fleet.to_string());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_from_other_annotations() {
        let annotations = [
            ("signed-for.sluice.dev/edge", "2026-11-26T06:00:00Z"),
            ("sluice.dev/edge", ""),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ];
        let annotations = annotations
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        assert_eq!(fleets(&annotations), ["edge".to_owned()].into());
    }
}
