//! Backends to route to: `sluice demo-upstream` as a Deployment with a Service, held to the `restricted` standard. They
//! end as well-behaved ones do: they serve for as long as others need to notice that they leave, and finish what they began.

use anyhow::Context;
use serde_json::{Value, json};

use crate::pods::Pod;
use crate::world::World;

/// The name of the port, at the Service and at the pods.
const PORT_NAME: &str = "http";
/// Where the pods listen.
pub(crate) const PORT: u16 = 8080;
/// How long a pod that leaves serves on. Endpoints take a second or two to get everywhere.
const LEAVING_SECONDS: u64 = 3;

/// A backend, as it is to be.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    namespace: String,
    name: String,
    replicas: usize,
    arguments: Vec<String>,
}

impl Backend {
    /// One that answers well, with its own name as its version.
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            replicas: 1,
            arguments: vec![format!("--listen=0.0.0.0:{PORT}"), format!("--version={name}")],
        }
    }

    /// How many pods.
    pub(crate) fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// How many of a hundred requests it fails.
    pub(crate) fn failing(mut self, percent: u8) -> Self {
        self.arguments.push(format!("--fail-percent={percent}"));
        self
    }

    /// How long each answer takes: `500ms`.
    pub(crate) fn taking(mut self, time: &str) -> Self {
        self.arguments.push(format!("--delay={time}"));
        self
    }

    /// By which label its pods are known.
    pub(crate) fn labels(&self) -> String {
        format!("app={}", self.name)
    }

    /// Applies it, and waits until all of its pods are ready.
    pub(crate) async fn deploy(self, world: &World) -> anyhow::Result<Self> {
        self.apply(world).await?;
        self.ready(world).await;
        Ok(self)
    }

    /// Applies it, and waits for nothing.
    pub(crate) async fn apply(&self, world: &World) -> anyhow::Result<()> {
        let objects = [self.deployment(world), self.service()];
        world.apply(&self.namespace, &objects).await
    }

    /// Its pods, when there are as many as there should be.
    pub(crate) async fn ready(&self, world: &World) -> Vec<Pod> {
        world.ready_pods(&self.namespace, &self.labels(), self.replicas).await
    }

    /// `kubectl scale`; waits for nothing.
    pub(crate) async fn scale(&mut self, world: &World, replicas: usize) -> anyhow::Result<()> {
        self.replicas = replicas;
        let (deployment, replicas) = (self.reference(), format!("--replicas={replicas}"));
        world
            .kubectl(&["-n", &self.namespace, "scale", &deployment, &replicas])
            .await?;
        Ok(())
    }

    /// `kubectl rollout restart`, and waits for its end.
    pub(crate) async fn restart(&self, world: &World) -> anyhow::Result<()> {
        world.restart(&self.namespace, &self.reference()).await?;
        self.ready(world).await;
        Ok(())
    }

    fn reference(&self) -> String {
        format!("deployment/{}", self.name)
    }

    fn deployment(&self, world: &World) -> Value {
        let labels = json!({"app": self.name});
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": self.pod(world)},
            },
        })
    }

    fn pod(&self, world: &World) -> Value {
        json!({
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": LEAVING_SECONDS + 10,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "upstream",
                "image": world.images().controller,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/usr/local/bin/sluice", "demo-upstream"],
                "args": self.arguments,
                "ports": [{"name": PORT_NAME, "containerPort": PORT}],
                // Not by a request: a backend that fails them all is still to be an endpoint.
                "readinessProbe": {"tcpSocket": {"port": PORT_NAME}, "periodSeconds": 1},
                "lifecycle": {"preStop": {"sleep": {"seconds": LEAVING_SECONDS}}},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        })
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {
                "selector": {"app": self.name},
                "ports": [{"name": PORT_NAME, "port": 80, "targetPort": PORT_NAME}],
            },
        })
    }
}

impl World {
    /// `kubectl rollout restart`, and waits for its end.
    pub(crate) async fn restart(&self, namespace: &str, what: &str) -> anyhow::Result<()> {
        self.kubectl(&["-n", namespace, "rollout", "restart", what]).await?;
        let status = ["-n", namespace, "rollout", "status", what, "--timeout=180s"];
        self.kubectl(&status)
            .await
            .with_context(|| format!("{what} does not come back"))?;
        Ok(())
    }
}
