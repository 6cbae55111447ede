//! How instances learn whom to trust: the ConfigMap `sluice-trust`, in the controller's namespace and in every namespace
//! that has members of a fleet. Pods mount it; nothing in it is secret. The controller that leads keeps it: written only
//! when it differs, put back when somebody deletes or edits it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use sluice_model::ClusterId;
use sluice_model::limits::TRUST_LOOK_MS;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Trust;
use crate::installation::{Installation, Owner};
use crate::labels::{self, Part};
use crate::members::Memberships;
use crate::stream::Post;

/// The ConfigMap's name.
pub const NAME: &str = "sluice-trust";

/// Says how far a replacement of keys is.
const ROTATION: &str = "sluice.dev/rotation";

/// Keeps the ConfigMaps.
pub struct ConfigMaps {
    /// The API server. Needs get, create and update on configmaps in each of the namespaces.
    pub client: Client,
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// The controller's namespace, which always has one.
    pub own: String,
    /// What the one there belongs to. Those in other namespaces cannot: an owner is in the same namespace.
    pub installation: Installation,
    /// Who names the other namespaces that need one; `None`: not read yet.
    pub memberships: watch::Receiver<Option<Arc<Memberships>>>,
    /// What it says.
    pub trust: watch::Receiver<Arc<Trust>>,
    /// How far a replacement of keys is, for people.
    pub story: watch::Receiver<String>,
    /// Whether this controller is the one to write.
    pub post: watch::Receiver<Post>,
}

impl std::fmt::Debug for ConfigMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConfigMaps(of {} from {})", self.cluster, self.own)
    }
}

/// The namespaces that could not be given one, and why, for people.
pub type Troubles = BTreeMap<String, String>;

impl ConfigMaps {
    /// Keeps them until `stop`. What goes wrong is logged once and shown in `troubles` for as long as it lasts.
    pub async fn keep(mut self, troubles: watch::Sender<Troubles>, stop: CancellationToken) {
        loop {
            let is_leader = matches!(*self.post.borrow_and_update(), Post::Leads(_));
            match self.installation.owner() {
                Ok(owner) if is_leader => {
                    let met = self.look(&owner).await;
                    tell(&troubles, met);
                }
                // The leader's business, or nobody's any more.
                Ok(_) | Err(_) => drop(troubles.send_replace(Troubles::new())),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(TRUST_LOOK_MS)) => {}
                Ok(()) = self.memberships.changed() => {}
                Ok(()) = self.trust.changed() => {}
                Ok(()) = self.post.changed() => {}
            }
        }
    }

    async fn look(&mut self, owner: &Owner) -> Troubles {
        let wanted = self.wanted();
        let memberships = self.memberships.borrow_and_update().clone();
        let mut namespaces = memberships.map_or_else(BTreeSet::new, |memberships| memberships.namespaces());
        namespaces.insert(self.own.clone());
        let mut troubles = Troubles::new();
        for namespace in namespaces {
            let owner = if namespace == self.own { owner } else { &Owner::NOBODY };
            if let Err(error) = self.keep_one(&namespace, &wanted, owner).await {
                troubles.insert(namespace.clone(), trouble(&namespace, &error));
            }
        }
        troubles
    }

    fn wanted(&mut self) -> Wanted {
        let trust = Arc::clone(&self.trust.borrow_and_update());
        let part = |name: &str, text: String| (name.to_owned(), text);
        Wanted {
            data: BTreeMap::from([
                part("ca.pem", trust.pki.authority().bundle()),
                part("trusted.json", trust.trusted.to_json()),
                part("cluster", self.cluster.to_string()),
            ]),
            rotation: self.story.borrow_and_update().clone(),
        }
    }

    async fn keep_one(&self, namespace: &str, wanted: &Wanted, owner: &Owner) -> kube::Result<()> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let written = match api.get_opt(NAME).await? {
            None => {
                api.create(&PostParams::default(), &wanted.object(namespace, owner))
                    .await
            }
            Some(found) => match wanted.mended(found, owner) {
                None => return Ok(()),
                Some(mended) => api.replace(NAME, &PostParams::default(), &mended).await,
            },
        };
        match written {
            Ok(_) => {
                tracing::info!(namespace, "ConfigMap {NAME} written");
                Ok(())
            }
            // Somebody was quicker; the next look sees what they wrote.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What the ConfigMaps are to say.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    data: BTreeMap<String, String>,
    rotation: String,
}

impl Wanted {
    fn object(&self, namespace: &str, owner: &Owner) -> ConfigMap {
        let bare = ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        };
        self.mended(bare.clone(), owner).unwrap_or(bare)
    }

    /// `found` as it should be; `None` if it is. What others have put on it stays, but for its content.
    fn mended(&self, found: ConfigMap, owner: &Owner) -> Option<ConfigMap> {
        let mut mended = found.clone();
        mended.data = Some(self.data.clone());
        mended.binary_data = None;
        let about = &mut mended.metadata;
        about
            .labels
            .get_or_insert_default()
            .extend(labels::of_part(Part::Trust));
        let annotations = about.annotations.get_or_insert_default();
        annotations.insert(ROTATION.to_owned(), self.rotation.clone());
        owner.put_on(about);
        (mended != found).then_some(mended)
    }
}

// An enum of kube's: what it holds beside answers makes no difference here.
#[allow(clippy::wildcard_enum_match_arm)]
fn trouble(namespace: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => format!(
            "pods in namespace {namespace} cannot learn whom to trust: the controller may not write ConfigMap {NAME} there; \
             grant it get, create and update on configmaps ({})",
            status.message
        ),
        kube::Error::Api(status) if status.is_not_found() => format!(
            "namespace {namespace}, which a Rollout's spec.members names, does not exist; create it, or correct the name"
        ),
        error => format!("ConfigMap {namespace}/{NAME} could not be written: {error}"),
    }
}

/// Says what is new, and shows what there is.
fn tell(troubles: &watch::Sender<Troubles>, met: Troubles) {
    let known = troubles.borrow().clone();
    for (namespace, trouble) in &met {
        if known.get(namespace) != Some(trouble) {
            tracing::warn!(namespace, "{trouble}");
        }
    }
    troubles.send_if_modified(|shown| {
        let differs = *shown != met;
        *shown = met;
        differs
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            data: BTreeMap::from([("cluster".to_owned(), "c-1".to_owned())]),
            rotation: "never".to_owned(),
        }
    }

    #[test]
    fn what_is_as_it_should_be_is_not_written() {
        let made = wanted().object("shop", &Owner::NOBODY);
        assert_eq!(wanted().mended(made.clone(), &Owner::NOBODY), None);
        let mut labelled = made;
        let labels = labelled.metadata.labels.as_mut().unwrap();
        labels.insert("team".to_owned(), "a".to_owned());
        assert_eq!(
            wanted().mended(labelled, &Owner::NOBODY),
            None,
            "what others add is theirs"
        );
    }

    #[test]
    fn what_somebody_edited_is_mended_and_the_rest_stays() {
        let mut edited = wanted().object("shop", &Owner::NOBODY);
        edited.metadata.resource_version = Some("7".to_owned());
        edited.metadata.labels = None;
        edited
            .data
            .as_mut()
            .unwrap()
            .insert("ca.pem".to_owned(), "of a stranger".to_owned());
        let mended = wanted().mended(edited, &Owner::NOBODY).unwrap();
        assert_eq!(mended.data, Some(wanted().data));
        assert_eq!(
            mended.metadata.resource_version.as_deref(),
            Some("7"),
            "written in its place only"
        );
        assert_eq!(
            mended.metadata.labels.unwrap().get(labels::PART).map(String::as_str),
            Some("trust")
        );
    }

    #[test]
    fn a_namespace_is_named_once_for_as_long_as_it_lasts() {
        let (troubles, mut seen) = watch::channel(Troubles::new());
        let met = |text: &str| Troubles::from([("shop".to_owned(), text.to_owned())]);
        tell(&troubles, met("is not there"));
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();
        tell(&troubles, met("is not there"));
        assert!(!seen.has_changed().unwrap());
        tell(&troubles, Troubles::new());
        assert!(seen.borrow_and_update().is_empty());
    }
}
