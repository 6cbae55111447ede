//! The installation: a small ConfigMap that the chart makes, and that owns all that the controller writes into its own
//! namespace. `helm uninstall` deletes it, and Kubernetes' garbage collector what it owned; nothing has to run for that
//! (`docs/decisions/uninstall.md`).
//!
//! Who writes asks for the [`Owner`] first. When the ConfigMap is gone there is none, and nothing is written. What is
//! written in the moments before that is known has an owner that is gone, and goes the same way.
//!
//! Here it is looked at, again and again; it is never written. A controller that was told of none, as one that runs outside
//! of a chart, writes what nobody owns.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Api, Client};
use sluice_model::Name;
use sluice_model::limits::INSTALLATION_LOOK_MS;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::api_server::{ApiError, in_time};

/// The installation, for those who write.
#[derive(Clone, Debug)]
pub struct Installation(watch::Receiver<Result<Owner, NoOwner>>);

/// Why nothing may be written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoOwner {
    /// Nobody has looked yet.
    #[error("the installation's ConfigMap is not read yet, so nothing is written")]
    Unread,
    /// It was deleted, or never was there.
    #[error(
        "ConfigMap {0} is not there, to which all belongs that this controller keeps: nothing is written. While Sluice is \
         being uninstalled this is as it should be; otherwise `helm upgrade` makes it again"
    )]
    Gone(String),
}

/// Whom objects are given as owner.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Owner(Option<OwnerReference>);

impl Owner {
    /// Nobody: what is written is nobody's.
    pub const NOBODY: Self = Self(None);

    fn of(about: &ObjectMeta) -> Option<Self> {
        // On its way out, when somebody deletes it in the foreground.
        if about.deletion_timestamp.is_some() {
            return None;
        }
        Some(Self(Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: about.name.clone()?,
            uid: about.uid.clone()?,
            ..OwnerReference::default()
        })))
    }

    /// Gives an object to this owner, and says whether it was not this one's before. Owners of other kinds and names stay.
    pub fn put_on(&self, about: &mut ObjectMeta) -> bool {
        let Some(ours) = &self.0 else {
            return false;
        };
        let mut owners = about.owner_references.take().unwrap_or_default();
        let had = owners.clone();
        owners.retain(|owner| owner == ours || !same_name(owner, ours));
        if !owners.contains(ours) {
            owners.push(ours.clone());
        }
        let differs = owners != had;
        about.owner_references = Some(owners);
        differs
    }

    /// Whether an object is another installation's, one that is gone: Kubernetes is about to delete it.
    pub fn is_past(&self, about: &ObjectMeta) -> bool {
        let owners = about.owner_references.as_deref().unwrap_or_default();
        self.0.as_ref().is_some_and(|ours| {
            let same_place = owners.iter().any(|owner| same_name(owner, ours));
            same_place && !owners.contains(ours)
        })
    }
}

fn same_name(one: &OwnerReference, other: &OwnerReference) -> bool {
    (&one.api_version, &one.kind, &one.name) == (&other.api_version, &other.kind, &other.name)
}

impl Installation {
    /// None was named.
    pub fn none() -> Self {
        Self(watch::channel(Ok(Owner::NOBODY)).1)
    }

    /// The one called `name` in `namespace`, and what looks at it until nobody uses it any more.
    pub fn watch(client: Client, namespace: &Name, name: &Name) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (tell, told) = watch::channel(Err(NoOwner::Unread));
        let looking = Looking {
            api: Api::namespaced(client, namespace.as_str()),
            name: name.to_string(),
            place: format!("{namespace}/{name}"),
            trouble: None,
        };
        (Self(told), looking.run(tell))
    }

    /// Waits until it was looked at.
    pub async fn is_read(&self) {
        let read = |known: &Result<Owner, NoOwner>| *known != Err(NoOwner::Unread);
        // Nobody looks any more when everything ends: then it stays as it is.
        let _ = self.0.clone().wait_for(read).await;
    }

    /// Who owns what is written now.
    ///
    /// # Errors
    /// When nothing may be written.
    pub fn owner(&self) -> Result<Owner, NoOwner> {
        self.0.borrow().clone()
    }

    /// Waits until something else is known than `known`.
    pub async fn is_not(&self, known: &Result<Owner, NoOwner>) {
        if self.0.clone().wait_for(|now| now != known).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until there is another owner than `owner`, or none.
    pub async fn is_other_than(&self, owner: &Owner) {
        let other = |known: &Result<Owner, NoOwner>| known.as_ref() != Ok(owner);
        if self.0.clone().wait_for(other).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Looks at the ConfigMap.
struct Looking {
    api: Api<ConfigMap>,
    name: String,
    /// For people.
    place: String,
    /// Why there was no answer, said once.
    trouble: Option<ApiError>,
}

impl Looking {
    async fn run(mut self, tell: watch::Sender<Result<Owner, NoOwner>>) {
        let mut look = tokio::time::interval(Duration::from_millis(INSTALLATION_LOOK_MS));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tell.closed() => return,
                _ = look.tick() => {}
            }
            if let Some(known) = self.look().await {
                tell.send_if_modified(|told| say(told, known));
            }
        }
    }

    /// What there is; `None`: no answer, so all stays as it was.
    async fn look(&mut self) -> Option<Result<Owner, NoOwner>> {
        let answer = in_time(self.api.get_metadata_opt(&self.name)).await;
        match answer {
            Ok(found) => {
                self.trouble = None;
                let owner = found.and_then(|found| Owner::of(&found.metadata));
                Some(owner.ok_or_else(|| NoOwner::Gone(self.place.clone())))
            }
            Err(error) => {
                if self.trouble.as_ref() != Some(&error) {
                    tracing::warn!(%error, "ConfigMap {} cannot be read", self.place);
                }
                self.trouble = Some(error);
                None
            }
        }
    }
}

/// Puts what was learnt in place of what was known, and says what is new; whether something is.
fn say(told: &mut Result<Owner, NoOwner>, known: Result<Owner, NoOwner>) -> bool {
    if *told == known {
        return false;
    }
    match (&*told, &known) {
        (_, Err(why)) => tracing::warn!("{why}"),
        (Err(NoOwner::Gone(place)), Ok(_)) => tracing::info!("ConfigMap {place} is there: things are written again"),
        (Ok(_), Ok(_)) => {
            tracing::warn!("the installation's ConfigMap is another one: all that is kept is written anew")
        }
        (Err(NoOwner::Unread), Ok(_)) => {}
    }
    *told = known;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> Owner {
        let about = ObjectMeta {
            name: Some("sluice-installation".to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        };
        Owner::of(&about).unwrap()
    }

    fn owned(owners: &[&Owner]) -> ObjectMeta {
        ObjectMeta {
            owner_references: Some(owners.iter().filter_map(|owner| owner.0.clone()).collect()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn an_object_gets_one_owner_and_keeps_those_of_others() {
        let mut other = owner("3");
        other.0.as_mut().unwrap().name = "backup".to_owned();
        let check = |before: &ObjectMeta, after: &ObjectMeta| {
            let mut about = before.clone();
            let changed = owner("1").put_on(&mut about);
            assert_eq!(about, *after);
            assert_eq!(changed, before != after);
        };
        let ours = owned(&[&owner("1")]);
        check(&ObjectMeta::default(), &ours);
        check(&ours, &ours);
        check(&owned(&[&owner("2")]), &ours);
        check(&owned(&[&other]), &owned(&[&other, &owner("1")]));
        check(
            &owned(&[&owner("2"), &other, &owner("1")]),
            &owned(&[&other, &owner("1")]),
        );
    }

    #[test]
    fn nobody_changes_nothing() {
        let mut about = owned(&[&owner("2")]);
        assert!(!Owner::NOBODY.put_on(&mut about));
        assert_eq!(about, owned(&[&owner("2")]));
        assert!(!Owner::NOBODY.is_past(&about));
    }

    #[test]
    fn what_belongs_to_an_installation_that_is_gone_is_told_apart() {
        assert!(owner("1").is_past(&owned(&[&owner("2")])));
        assert!(!owner("1").is_past(&owned(&[&owner("1")])));
        assert!(
            !owner("1").is_past(&ObjectMeta::default()),
            "of a version that knew no owner"
        );
    }

    #[test]
    fn an_owner_that_is_being_deleted_is_none() {
        let about = ObjectMeta {
            name: Some("sluice-installation".to_owned()),
            uid: Some("1".to_owned()),
            deletion_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::UNIX_EPOCH,
            )),
            ..ObjectMeta::default()
        };
        assert_eq!(Owner::of(&about), None);
    }
}
