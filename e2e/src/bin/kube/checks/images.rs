//! The images as a cluster wants them, and that they work so: the pod of `images.yaml` serves a route.

use std::time::Duration;

use anyhow::ensure;
use sluice_e2e::wait::wait_until;

use crate::world::World;

const POD: &str = include_str!("images.yaml");
/// Until a revision is verified and live, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pod that the `restricted` standard admits becomes ready and answers out of its upstream.
pub(crate) async fn serve(world: &World) -> anyhow::Result<()> {
    let namespace = world.namespace("a").await?;
    let images = world.images();
    let pod = POD
        .replace("@CONTROLLER@", &images.controller)
        .replace("@DATAPLANE@", &images.dataplane);
    world
        .kubectl_with(&pod, &["-n", &namespace, "apply", "-f", "-"])
        .await?;
    world
        .kubectl(&[
            "-n",
            &namespace,
            "wait",
            "pod/fleet",
            "--for=condition=Ready",
            "--timeout=120s",
        ])
        .await?;
    // Through the API server, which is the way that leads into every cluster.
    let path = format!("/api/v1/namespaces/{namespace}/pods/fleet:8080/proxy/");
    let answer = wait_until("an answer through the data plane", PATIENCE, || async {
        world
            .kubectl(&["get", "--raw", &path])
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    ensure!(answer.contains("v1"), "the answer is not the upstream's: {answer:?}");
    let user = [
        "-n",
        &namespace,
        "get",
        "pod",
        "fleet",
        "-o",
        "jsonpath={.status.containerStatuses[*].user.linux.uid}",
    ];
    let users = world.kubectl(&user).await?;
    ensure!(
        users.split(' ').all(|uid| uid == "65532"),
        "the containers run as {users:?}"
    );
    Ok(())
}
