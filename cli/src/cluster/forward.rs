//! A pod's admin port, reached as `kubectl port-forward` reaches it: through the API server, with the user's own rights.
//! Nothing listens on this machine.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use sluice_model::limits::CLIENT_EXCHANGE_TIMEOUT_MS;
use tokio::time::timeout;

use super::Cluster;
use super::refusal::Wish;
use crate::failure::Failure;
use crate::http::{Call, Connection};

/// Where controllers and instances have their admin port, on the pod's loopback address.
const ADMIN_PORT: u16 = 9901;
/// What the node says of a port comes at once, when the exchange has broken off, or not at all.
const NODE_WAIT: Duration = Duration::from_millis(500);

/// A connection to the admin port of one pod.
pub struct PodAdmin {
    pod: String,
    connection: Connection,
    refused: Option<Refused>,
}

/// Resolves to what the node has against the port, if it has something.
type Refused = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

impl PodAdmin {
    /// Opens one.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn open(cluster: &Cluster, namespace: &str, pod: &str) -> Result<Self, Failure> {
        let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
        let wish = Wish::get("pods/portforward", namespace, pod).to("create");
        let mut forwarder = cluster.call(&wish, api.portforward(pod, &[ADMIN_PORT])).await?;
        let stream = forwarder.take_stream(ADMIN_PORT);
        let stream = stream.ok_or_else(|| lost(pod, "the API server forwards no stream"))?;
        let refused = forwarder.take_error(ADMIN_PORT);
        let connection = Connection::over(stream, &format!("port {ADMIN_PORT}")).await;
        Ok(Self {
            pod: pod.to_owned(),
            connection: connection.map_err(|error| lost(pod, &error.to_string()))?,
            refused: refused.map(|refused| Box::pin(refused) as Refused),
        })
    }

    /// GETs `path` as JSON.
    ///
    /// # Errors
    /// When there is no such answer.
    pub async fn get(&mut self, path: &str) -> Result<Value, Failure> {
        self.json(&Call::get(path)).await
    }

    /// POSTs `body` to `path`: a question that is too long for an address.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        let body = Bytes::from(body.to_string());
        let method = Method::POST;
        self.json(&Call { method, path, body }).await
    }

    async fn json(&mut self, call: &Call<'_>) -> Result<Value, Failure> {
        let path = call.path;
        let limit = Duration::from_millis(CLIENT_EXCHANGE_TIMEOUT_MS);
        let answer = match self.connection.send(call, "localhost", limit).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.broken(&error.to_string()).await),
        };
        if !answer.status.is_success() {
            let said = serde_json::from_slice::<Value>(&answer.body).ok();
            let said = said.and_then(|body| Some(body.get("error")?.as_str()?.to_owned()));
            let why =
                said.unwrap_or_else(|| format!("it answers {} to {path}; is it of another version?", answer.status));
            return Err(lost(&self.pod, &why));
        }
        serde_json::from_slice(&answer.body).map_err(|error| lost(&self.pod, &format!("{path} is not JSON: {error}")))
    }

    /// Why an exchange broke off: what the node says, if it says something.
    async fn broken(&mut self, error: &str) -> Failure {
        let said = match self.refused.take() {
            Some(refused) => timeout(NODE_WAIT, refused).await.ok().flatten(),
            None => None,
        };
        let why = said.unwrap_or_else(|| error.to_owned());
        lost(&self.pod, &format!("{}; is Sluice running in it?", why.trim()))
    }
}

fn lost(pod: &str, why: &str) -> Failure {
    Failure::failed(format!("pod {pod}, admin port {ADMIN_PORT}: {why}"))
}
