//! Where most checks begin: a host that is served. Its route, its pool and its backend are called the same.

use serde_json::Value;
use sluice_e2e::load::Plan;

use crate::backend::Backend;
use crate::objects;
use crate::sluice::Sluice;
use crate::world::World;

/// A host of one check, and what answers for it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// Where its objects are.
    pub(crate) namespace: String,
    /// The name of its route and pool.
    pub(crate) name: String,
    /// The host.
    pub(crate) host: String,
    /// What answers.
    pub(crate) backend: Backend,
}

impl Served {
    /// A route to a backend of two pods, live in every instance.
    pub(crate) async fn start(world: &World, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let backend = Backend::new(namespace, name).replicas(2).deploy(world).await?;
        Self::with(world, namespace, name, backend).await
    }

    /// The same to this backend.
    pub(crate) async fn with(world: &World, namespace: &str, name: &str, backend: Backend) -> anyhow::Result<Self> {
        let served = Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            host: format!("{name}.{namespace}.example.com"),
            backend,
        };
        world.apply(namespace, &served.objects()).await?;
        world.programmed(namespace, &[name]).await?;
        Ok(served)
    }

    /// Its route and its pool.
    pub(crate) fn objects(&self) -> [Value; 2] {
        [
            objects::route(&self.name, &self.host, &self.name),
            objects::pool(&self.name, &self.name),
        ]
    }

    /// The pool, of another backend's endpoints.
    pub(crate) fn pool_of(&self, backend: &str) -> Value {
        objects::pool(&self.name, backend)
    }

    /// Requests for it through the gateway's Service, at this rate.
    pub(crate) async fn plan(&self, sluice: Sluice<'_>, per_second: u32) -> anyhow::Result<Plan> {
        Ok(Plan::new(sluice.address().await?, &self.host, "/", per_second))
    }
}
