//! What the admin ports of our pods show. They listen on loopback addresses only, so the way there is the one that
//! `kubectl port-forward` takes: through the API server, with the rights of whoever asks.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod as KubePod;
use kube::api::Api;
use serde_json::Value;
use tokio::time::timeout;

use crate::pods::Pod;
use crate::world::World;

/// The admin port of the controller and of the data plane alike.
const ADMIN_PORT: u16 = 9901;
/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// What `pod` answers on this path of its admin port.
    pub(crate) async fn view(&self, pod: &Pod, path: &str) -> anyhow::Result<Value> {
        let exchange = self.exchange(pod, path);
        let text = timeout(PATIENCE, exchange).await.context("no answer in time");
        let text = text.flatten().with_context(|| format!("{path} of {}", pod.name))?;
        serde_json::from_str(&text).with_context(|| format!("{path} of {}: {text}", pod.name))
    }

    async fn exchange(&self, pod: &Pod, path: &str) -> anyhow::Result<String> {
        let api: Api<KubePod> = Api::namespaced(self.client(), &pod.namespace);
        let mut forwarded = api.portforward(&pod.name, &[ADMIN_PORT]).await?;
        let stream = forwarded.take_stream(ADMIN_PORT).context("no stream")?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let text = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
        ensure!(parts.status.is_success(), "{}: {text}", parts.status);
        Ok(text)
    }
}
