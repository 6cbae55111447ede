//! The etcd of our own node, over its JSON gateway: how large it is, to make it forget, to bring back an older state.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sluice_e2e::client;
use sluice_e2e::wait::wait_until;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::world::World;

/// Where it listens, inside of the cluster's network.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2379);
/// Where pods find the API server: the first address of e2e/cluster's Services.
const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1)), 443);
/// Until the API server is back, and kube-proxy has noticed, which waits longer each time it was away.
const PATIENCE: Duration = Duration::from_secs(180);

/// How large etcd is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Bytes that hold something.
    pub(crate) in_use: u64,
    /// Writes since the beginning.
    pub(crate) revision: u64,
}

/// etcd's files as they were.
#[derive(Debug)]
pub(crate) struct Copy(PathBuf);

impl World {
    /// How large etcd is now.
    pub(crate) async fn etcd_size(&self) -> anyhow::Result<Size> {
        let status = ask("/v3/maintenance/status", &json!({})).await?;
        // The gateway writes 64-bit numbers as text.
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        Ok(Size {
            in_use: number(&status["dbSizeInUse"]).context("no size")?,
            revision: number(&status["header"]["revision"]).context("no revision")?,
        })
    }

    /// Makes etcd forget all history: whoever watches from before has to list anew.
    pub(crate) async fn compact(&self) -> anyhow::Result<()> {
        let revision = self.etcd_size().await?.revision;
        let body = json!({"revision": revision.to_string(), "physical": true});
        ask("/v3/kv/compaction", &body).await?;
        self.say(&format!("etcd is compacted at {revision}"));
        Ok(())
    }

    /// A copy of etcd's files. The API server is away meanwhile.
    pub(crate) async fn copy_of_etcd(&self) -> anyhow::Result<Copy> {
        let folder = &self.own()?.folder;
        let copy = folder.join(format!("etcd-before-{}", std::process::id()));
        self.without_store(async || files("cp", &["-a"], &[&folder.join("etcd"), &copy]).await)
            .await?;
        self.api_server_is_back().await;
        Ok(Copy(copy))
    }

    /// Puts the copy in place of what etcd holds, as after a disaster. The node's own parts are started anew, as those
    /// who wrote them say one has to: what they saw is in the future now. Ours are not.
    pub(crate) async fn restore_etcd(&self, copy: Copy) -> anyhow::Result<()> {
        let etcd = self.own()?.folder.join("etcd");
        self.without_store(async || {
            files("rm", &["-rf"], &[&etcd]).await?;
            files("mv", &[], &[&copy.0, &etcd]).await
        })
        .await?;
        for part in ["controller-manager", "scheduler", "kubelet", "kube-proxy", "coredns"] {
            self.part("stop", part).await?;
            self.part("start", part).await?;
        }
        self.api_server_is_back().await;
        Ok(())
    }

    async fn without_store(&self, change: impl AsyncFnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        for (verb, part) in [("stop", "apiserver"), ("stop", "etcd")] {
            self.part(verb, part).await?;
        }
        change().await?;
        for (verb, part) in [("start", "etcd"), ("start", "apiserver")] {
            self.part(verb, part).await?;
        }
        self.api_server_answers().await;
        Ok(())
    }

    async fn api_server_answers(&self) {
        wait_until("the API server", PATIENCE, || async {
            let ready = ["get", "--raw", "/readyz", "--request-timeout=2s"];
            self.kubectl(&ready).await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Waits until the API server says that it is ready, and pods can reach it: kube-proxy refuses connections to its
    /// Service until it has itself come back, which takes it up to half a minute.
    pub(crate) async fn api_server_is_back(&self) {
        self.api_server_answers().await;
        wait_until("the API server's Service", PATIENCE, || TcpStream::connect(SERVICE)).await;
    }
}

async fn ask(path: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = client::post(ADDRESS, path, body).await?;
    ensure!(
        answer.status.is_success(),
        "etcd says {}: {}",
        answer.status,
        answer.body
    );
    Ok(serde_json::from_str(&answer.body)?)
}

async fn files(command: &str, options: &[&str], paths: &[&Path]) -> anyhow::Result<()> {
    let output = Command::new(command)
        .args(options)
        .args(paths)
        .stdin(Stdio::null())
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command} {paths:?}: {said}");
    Ok(())
}
