//! Marks where the keys are in a Secret: an annotation of it for each fleet, `signed-for.sluice.dev/FLEET`. With the Secret
//! they go, and new keys begin without; where these found fleets that had others, `new-to.sluice.dev/FLEET` says so until
//! an instance trusts them. Only the metadata is read and written: no private key passes through here.

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
/// What one begins with that marks a fleet which had other keys.
const NEW_TO: &str = "new-to.sluice.dev/";

/// The annotations of keys that are new to these fleets.
pub fn new_to(fleets: &BTreeSet<FleetName>) -> BTreeMap<String, String> {
    let since = Timestamp::now().to_string();
    let marks = fleets.iter().map(|fleet| (format!("{NEW_TO}{fleet}"), since.clone()));
    marks.collect()
}

/// The marks at one Secret.
#[derive(Debug)]
pub struct SecretMarks {
    server: ApiServer,
    namespace: String,
    secret: String,
    marked: Mutex<Marked>,
}

/// The fleets that are marked.
#[derive(Debug)]
struct Marked {
    signed_for: BTreeSet<String>,
    new_to: BTreeSet<String>,
}

impl Marked {
    fn of(annotations: &BTreeMap<String, String>) -> Self {
        let marked = |prefix: &'static str| {
            let marks = annotations.keys().filter_map(move |key| key.strip_prefix(prefix));
            marks.map(str::to_owned).collect()
        };
        Self {
            signed_for: marked(SIGNED_FOR),
            new_to: marked(NEW_TO),
        }
    }
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
            marked: Mutex::new(Marked::of(&read.metadata.annotations.unwrap_or_default())),
        })
    }

    fn marked(&self) -> MutexGuard<'_, Marked> {
        // Whole after every line that touches it.
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets an annotation of the Secret, or takes it away.
    fn annotate(&self, name: &str, value: Option<String>) -> Result<(), ApiError> {
        let secrets: Api<Secret> = Api::namespaced(self.server.client().clone(), &self.namespace);
        let mark = json!({"metadata": {"annotations": {name: value}}});
        let (how, mark) = (PatchParams::default(), Patch::Merge(mark));
        self.server.ask(secrets.patch_metadata(&self.secret, &how, &mark))?;
        Ok(())
    }
}

impl Marks for SecretMarks {
    fn are_unused(&self) -> bool {
        self.marked().signed_for.is_empty()
    }

    fn never_signed_for(&self, fleet: &FleetName) -> bool {
        !self.marked().signed_for.contains(fleet.as_str())
    }

    fn are_new_to(&self, fleet: &FleetName) -> bool {
        self.marked().new_to.contains(fleet.as_str())
    }

    fn are_trusted_in(&self, fleet: &FleetName) -> Result<(), MarkError> {
        if self.are_new_to(fleet) {
            self.annotate(&format!("{NEW_TO}{fleet}"), None)?;
            self.marked().new_to.remove(fleet.as_str());
        }
        Ok(())
    }

    fn note(&self, fleet: &FleetName) -> Result<(), MarkError> {
        if !self.never_signed_for(fleet) {
            return Ok(());
        }
        self.annotate(&format!("{SIGNED_FOR}{fleet}"), Some(Timestamp::now().to_string()))?;
        self.marked().signed_for.insert(fleet.to_string());
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
            ("new-to.sluice.dev/shop", "2026-11-26T06:00:00Z"),
            ("sluice.dev/edge", ""),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ];
        let annotations = annotations
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let marked = Marked::of(&annotations);
        assert_eq!(marked.signed_for, ["edge".to_owned()].into());
        assert_eq!(marked.new_to, ["shop".to_owned()].into());
        let shop: FleetName = "shop".parse().unwrap();
        assert_eq!(Marked::of(&new_to(&[shop].into())).new_to, ["shop".to_owned()].into());
    }
}
