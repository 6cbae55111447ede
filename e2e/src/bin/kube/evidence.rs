//! What is kept of a check that failed: everything that somebody would ask the cluster for, from when it still knows.

use std::fs;

use crate::world::World;

/// Where the controller lives when the chart has installed it.
const SYSTEM_NAMESPACE: &str = "sluice-system";
/// Lines of each container's log.
const LOG_LINES: &str = "2000";

/// Writes it into the check's folder. What cannot be had is said there, and is no failure of its own.
pub(crate) async fn collect(world: &World) {
    let mut namespaces = world.namespaces();
    namespaces.push(SYSTEM_NAMESPACE.to_owned());
    for namespace in namespaces {
        let keep = async |name: &str, arguments: &[&str]| {
            let arguments = [&["-n", &namespace], arguments].concat();
            keep(world, &format!("{namespace}.{name}"), &arguments).await;
        };
        keep("objects", &["get", "all,configmaps,leases", "-o", "wide"]).await;
        keep("sluice.yaml", &["get", "sluice", "-o", "yaml"]).await;
        keep("events", &["get", "events", "--sort-by=.lastTimestamp"]).await;
        keep("pods", &["describe", "pods"]).await;
        for pod in pods(world, &namespace).await {
            let log = [
                "logs",
                &pod,
                "--all-containers",
                "--ignore-errors",
                "--prefix",
                "--tail",
                LOG_LINES,
            ];
            keep(&format!("{pod}.log"), &log).await;
            let before = [&log[..], &["--previous"]].concat();
            keep(&format!("{pod}.previous.log"), &before).await;
        }
    }
    if let Some(audit) = world.audit() {
        match audit.text() {
            Ok(text) => write(world, "audit.log", &text),
            Err(error) => world.say(&format!("{error:#}")),
        }
    }
}

async fn pods(world: &World, namespace: &str) -> Vec<String> {
    let names = ["-n", namespace, "get", "pods", "-o", "name"];
    let names = world.kubectl(&names).await.unwrap_or_default();
    names
        .lines()
        .filter_map(|name| name.strip_prefix("pod/"))
        .map(str::to_owned)
        .collect()
}

async fn keep(world: &World, file: &str, arguments: &[&str]) {
    match world.kubectl_raw("", arguments).await {
        Ok(said) => write(world, file, &format!("{}{}", said.stdout, said.stderr)),
        Err(error) => world.say(&format!("{error:#}")),
    }
}

fn write(world: &World, file: &str, text: &str) {
    if let Err(error) = fs::write(world.folder().join(file), text) {
        world.say(&format!("{file}: {error}"));
    }
}
