//! Very many routes of one namespace: made at once, and waited for.

use std::time::Duration;

use anyhow::ensure;
use kube::api::{ListParams, PostParams};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::objects::{self, says};
use crate::world::World;

/// Creations at a time.
const AT_ONCE: usize = 16;
/// Routes in one page of a list.
const PAGE: u32 = 1_000;
/// Between two looks at all of them.
const LOOK: Duration = Duration::from_secs(3);

/// Routes of one pool, each with a host of its own.
pub(crate) struct Crowd<'a> {
    /// Where they are.
    pub(crate) namespace: &'a str,
    /// What their names begin with.
    pub(crate) name: &'static str,
    /// How many.
    pub(crate) count: usize,
    /// The pool that all of them send to.
    pub(crate) pool: &'static str,
}

impl Crowd<'_> {
    /// The name of one.
    pub(crate) fn route(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    /// Its host.
    pub(crate) fn host(&self, number: usize) -> String {
        format!("{number}.{}.example.com", self.name)
    }

    /// Makes all of them, as fast as the API server lets.
    pub(crate) async fn create(&self, world: &World) -> anyhow::Result<()> {
        let api = objects::api(world.client(), "ProxyRoute", self.namespace);
        let mut creating = JoinSet::new();
        for worker in 0..AT_ONCE {
            let numbers = (worker..self.count).step_by(AT_ONCE);
            let route = |number| objects::route(&self.route(number), &self.host(number), self.pool);
            let routes: Result<Vec<_>, _> = numbers.map(route).map(serde_json::from_value).collect();
            let (api, routes) = (api.clone(), routes?);
            creating.spawn(async move {
                for route in &routes {
                    api.create(&PostParams::default(), route).await?;
                }
                anyhow::Ok(())
            });
        }
        creating.join_all().await.into_iter().collect()
    }

    /// Waits until every route of the namespace says of itself that it is programmed.
    pub(crate) async fn all_programmed(&self, world: &World, patience: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let missing = self.not_programmed(world).await?;
            if missing == 0 {
                return Ok(());
            }
            ensure!(
                began.elapsed() < patience,
                "{missing} routes are not programmed after {patience:?}"
            );
            sleep(LOOK).await;
        }
    }

    async fn not_programmed(&self, world: &World) -> anyhow::Result<usize> {
        let api = objects::api(world.client(), "ProxyRoute", self.namespace);
        let (mut page, mut missing) = (ListParams::default().limit(PAGE), 0);
        loop {
            let list = api.list(&page).await?;
            for route in &list.items {
                missing += usize::from(!says(&serde_json::to_value(route)?, "Programmed", "True"));
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(missing),
            }
        }
    }
}
