//! Questions that a watch does not answer: whether a kind is still served, and whether the server still knows what it knew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use sluice_crds::API_VERSION;
use sluice_model::limits::SOURCE_HISTORY_LOOK_MS;
use sluice_model::{Kind, Name};

use super::assembly::Served;
use super::follow::{Line, Told};
use super::kinds::Watched;
use super::trouble::Trouble;
use crate::rollout::Millis;

/// Of each kind, whether it is served.
pub(super) type ServedKinds = BTreeMap<Kind, Served>;

/// Asks which kinds the API server serves, and tells.
pub(super) async fn served(line: Line, asked_at: Millis) {
    let answer = match line.client.list_api_group_resources(API_VERSION).await {
        Ok(resources) => Some(of_resources(&resources)),
        // With the last CRD of a group the group is gone.
        Err(error) if Trouble::of(&error) == Trouble::NoSuchKind => Some(of_resources(&APIResourceList::default())),
        Err(error) => {
            tracing::debug!(%error, "which kinds are served could not be asked");
            None
        }
    };
    // Nobody may listen any more.
    let _ = line.told.send(Told::Served(asked_at, answer)).await;
}

/// While a CRD is being deleted its objects can be read and deleted, but none can be created: so its kind says, in the one
/// answer that needs no permission.
fn of_resources(resources: &APIResourceList) -> ServedKinds {
    let of_kind = |kind: Kind| {
        let plural = Watched::Object(kind).plural();
        let found = resources.resources.iter().find(|resource| resource.name == plural);
        let can = |verb: &str| found.is_some_and(|resource| resource.verbs.iter().any(|known| known == verb));
        let served = if can("create") && can("list") {
            Served::Yes
        } else {
            Served::No
        };
        (kind, served)
    };
    Kind::ALL.into_iter().map(of_kind).collect()
}

/// Asks again and again which version the server is at, and tells when it is below one that was seen: its database was
/// restored from a copy. Its watches would say nothing of it, for as long as it has not caught up.
pub(super) async fn history(line: Line, controller: Name, newest: Arc<AtomicU64>) {
    let mut look = tokio::time::interval(Duration::from_millis(SOURCE_HISTORY_LOOK_MS));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        // Before it is asked: what is seen meanwhile may be newer than the answer.
        let seen = newest.load(Ordering::Acquire);
        let at = version(&line.client, &controller).await;
        if at.is_some_and(|at| at < seen) && line.told.send(Told::SetBack).await.is_err() {
            return;
        }
    }
}

/// The version that the server is at, as a quorum read of our Rollouts has it.
async fn version(client: &Client, controller: &Name) -> Option<u64> {
    let resource = Watched::Object(Kind::Rollout).resource();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), controller.as_str(), &resource);
    let list = api.list(&ListParams::default().limit(1)).await.ok()?;
    list.metadata.resource_version?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_nothing_can_be_created_of_is_going() {
        let resources = serde_json::json!({"groupVersion": API_VERSION, "resources": [
            {"name": "pools", "kind": "Pool", "namespaced": true, "singularName": "", "verbs": ["list", "create", "watch"]},
            {"name": "pools/status", "kind": "Pool", "namespaced": true, "singularName": "", "verbs": ["get"]},
            {"name": "proxyroutes", "kind": "ProxyRoute", "namespaced": true, "singularName": "",
             "verbs": ["delete", "deletecollection", "get", "list", "watch"]},
        ]});
        let served = of_resources(&serde_json::from_value(resources).unwrap());
        assert_eq!(
            served,
            [
                (Kind::ProxyRoute, Served::No),
                (Kind::Pool, Served::Yes),
                (Kind::Rollout, Served::No)
            ]
            .into()
        );
        assert!(
            of_resources(&APIResourceList::default())
                .values()
                .all(|served| *served == Served::No)
        );
    }
}
