//! What the other checks stand on: that the audit log can be believed, and that parts of the node stop when told.

use std::time::Duration;

use anyhow::{Context, ensure};
use sluice_e2e::wait::wait_until;

use crate::world::World;

/// An API server needs seconds to come back, on a busy machine more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A write to one of our kinds is there with its sender and body, a Secret's without; then the API server goes and
/// comes back.
pub(crate) async fn stands(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    let namespace = world.namespace("a").await?;
    let pool = "{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {name: seen}, \
                spec: {endpoints: [{address: 10.0.0.1, port: 80}]}}";
    world
        .kubectl_with(pool, &["-n", &namespace, "apply", "-f", "-"])
        .await?;
    let secret = [
        "-n",
        &namespace,
        "create",
        "secret",
        "generic",
        "seen",
        "--from-literal=key=hidden",
    ];
    world.kubectl(&secret).await?;
    audited(world, &namespace).await?;
    for part in ["apiserver", "kubelet"] {
        world.part("stop", part).await?;
        if part == "apiserver" {
            let said = world.kubectl_raw("", &["version", "--request-timeout=2s"]).await?;
            ensure!(!said.status.success(), "the API server answers although it was stopped");
        }
        world.part("start", part).await?;
    }
    wait_until("the API server and the node", PATIENCE, || async {
        let ready = ["wait", "--for=condition=Ready", "node", "--all", "--timeout=1s"];
        world.kubectl(&ready).await.map_err(|error| error.to_string())
    })
    .await;
    Ok(())
}

async fn audited(world: &World, namespace: &str) -> anyhow::Result<()> {
    let audit = world.audit().context("no audit log")?;
    // An entry is written when its answer has been sent, so it may come a moment after it.
    let entry = async |resource: &'static str| {
        wait_until("an audit entry", PATIENCE, || async {
            let entries = audit.entries().map_err(|error| format!("{error:#}"))?;
            let about = |entry: &crate::audit::Entry| {
                entry.verb == "create"
                    && entry.object_ref.as_ref().is_some_and(|object| {
                        (object.resource.as_str(), object.namespace.as_str()) == (resource, namespace)
                            && (object.name == "seen" || object.name.is_empty())
                    })
            };
            entries.into_iter().find(about).ok_or(format!("none about {resource}"))
        })
        .await
    };
    let pool = entry("pools").await;
    ensure!(!pool.user.username.is_empty(), "nobody wrote the Pool");
    let body = pool
        .request_object
        .context("the body of a write to our kinds is not in the audit log")?;
    ensure!(body["spec"]["endpoints"][0]["port"] == 80, "{body}");
    ensure!(
        entry("secrets").await.request_object.is_none(),
        "the audit log holds a Secret's body"
    );
    Ok(())
}
