//! Objects that have no owner yet: those that were written by a version which knew none, or by a controller that was told
//! of no installation. Who begins to lead gives them the owner, so that they too go when the installation goes; most of
//! them never change, so nobody else would.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ObjectMeta;
use sluice_model::limits::API_QUESTIONS_AT_ONCE;

use super::kubernetes::{ConfigMaps, writing};
use crate::api_server::{ApiError, in_time};

impl ConfigMaps {
    /// Gives those of `objects` the owner that lack it, and says how many. What cannot be done is said, and tried again by
    /// the next who leads: nothing but its removal depends on it.
    pub(super) async fn own<'a>(&self, objects: impl IntoIterator<Item = &'a ObjectMeta>) -> usize {
        let api = self.api();
        let lacking = objects
            .into_iter()
            .filter(|object| self.owner.put_on(&mut (*object).clone()))
            .filter_map(|object| object.name.clone());
        let owned = lacking.map(|name| self.own_one(&api, name));
        let owned = futures::stream::iter(owned).buffer_unordered(API_QUESTIONS_AT_ONCE);
        owned.filter(|owned| std::future::ready(*owned)).count().await
    }

    async fn own_one(&self, api: &Api<ConfigMap>, name: String) -> bool {
        match self.put_owner_on(api, &name).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(name, %error, "has no owner, and stays when Sluice is uninstalled");
                false
            }
        }
    }

    /// Over the version that is read, like every other write.
    async fn put_owner_on(&self, api: &Api<ConfigMap>, name: &str) -> Result<(), ApiError> {
        let mut object = in_time(api.get(name)).await?;
        self.owner.put_on(&mut object.metadata);
        in_time(api.replace(name, &writing(), &object)).await?;
        Ok(())
    }
}
