//! A pod's container: a data-plane process with the folders that Kubernetes would mount.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use sluice_e2e::process::Process;
use sluice_e2e::wait::wait_until;
use sluice_e2e::{binaries, client, ports};

use crate::PATIENCE;
use crate::cluster::{Cluster, signed_by};

pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) http: SocketAddr,
    name: String,
    health: SocketAddr,
    admin: SocketAddr,
    folder: tempfile::TempDir,
    process: Option<Process>,
}

impl Pod {
    pub(crate) fn new(name: &str, uid: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for mounted in ["trust", "token"] {
            fs::create_dir(folder.path().join(mounted)).unwrap();
        }
        Self {
            id: format!("{name}.{uid}"),
            http: ports::free(),
            name: name.to_owned(),
            health: ports::free(),
            admin: ports::free(),
            folder,
            process: None,
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn start(&mut self, controller: SocketAddr) {
        let mut command = Command::new(binaries::dataplane());
        command
            .args(["--controller", &controller.to_string()])
            .args(["--admin", &self.admin.to_string(), "--health", &self.health.to_string()])
            .args(["--bind", &format!("http={}", self.http), "--workers", "1"])
            .args(["--lame-duck", "1", "--grace", "5"]);
        for (flag, path) in [
            ("--state", "state"),
            ("--keys", "memory"),
            ("--trust", "trust"),
            ("--token", "token/token"),
        ] {
            command.arg(flag).arg(self.at(path));
        }
        self.process = Some(Process::start(&self.name, self.folder.path(), &mut command));
    }

    /// What the kubelet mounts of the ConfigMap.
    pub(crate) fn trust(&self, cluster: &Cluster) {
        fs::write(self.at("trust/ca.pem"), cluster.ca()).unwrap();
        fs::write(self.at("trust/trusted.json"), cluster.trusted().to_json()).unwrap();
    }

    pub(crate) fn forget_trust(&self) {
        fs::remove_dir_all(self.at("trust")).unwrap();
    }

    pub(crate) fn give_token(&self, token: &str) {
        fs::write(self.at("token/token"), token).unwrap();
    }

    pub(crate) fn put_pair(&self, pair: &str) {
        fs::write(self.at("memory/identity/pair.pem"), pair).unwrap();
    }

    /// The time to renew has come.
    pub(crate) fn renew_now(&self) {
        let path = self.at("state/identity/instance.json");
        let mut about: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        about["renewAtUnixSeconds"] = 1.into();
        fs::write(path, about.to_string()).unwrap();
    }

    /// The certificate that it has on disk.
    pub(crate) fn certificate(&self) -> String {
        fs::read_to_string(self.at("memory/identity/pair.pem")).unwrap()
    }

    pub(crate) fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.at(path)).unwrap().permissions().mode() & 0o777
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn terminate(&self) {
        self.process.as_ref().unwrap().signal(Signal::TERM);
    }

    pub(crate) async fn ended(&mut self) {
        let mut process = self.process.take().unwrap();
        let status = process.ended(PATIENCE).await;
        assert!(status.success(), "{status}\n{}", process.tail());
    }

    pub(crate) async fn stop(&mut self) {
        self.terminate();
        self.ended().await;
    }

    /// Waits until the health address says so.
    pub(crate) async fn says(&self, path: &str, status: u16, text: &str) {
        wait_until(&format!("{path} to say {text:?}"), PATIENCE, || async {
            match client::get(self.health, "localhost", path).await {
                Ok(answer) if answer.status == status && answer.body.contains(text) => Ok(()),
                Ok(answer) => Err(format!("{}: {}\n{}", answer.status, answer.body, self.tail())),
                Err(error) => Err(format!("{error:#}\n{}", self.tail())),
            }
        })
        .await;
    }

    pub(crate) async fn ready(&self) {
        self.says("/ready", 200, "ready").await;
    }

    pub(crate) async fn connected(&self) {
        wait_until("a stream to the controller", PATIENCE, || async {
            let connected = self.metric("proxy_controller_connected").await;
            (connected > 0.0).then_some(()).ok_or_else(|| self.tail())
        })
        .await;
    }

    /// Whom it trusts is what the cluster says, on disk too.
    pub(crate) async fn has_heard_of(&self, cluster: &Cluster) {
        wait_until("the new trust", PATIENCE, || async {
            let trusted = fs::read_to_string(self.at("state/identity/trusted.json")).unwrap();
            let ca = fs::read_to_string(self.at("state/identity/ca.pem")).unwrap();
            let is_so = trusted == cluster.trusted().to_json() && ca == cluster.ca();
            is_so.then_some(()).ok_or_else(|| self.tail())
        })
        .await;
    }

    pub(crate) async fn holds_what_new_keys_have_signed(&self, cluster: &Cluster) {
        let key = cluster.order_key();
        wait_until("an order that the new keys have signed", PATIENCE, || async {
            let order = fs::read(self.at("state/last-good/order.dsse")).unwrap();
            let by = signed_by(&order);
            by.contains(&key)
                .then_some(())
                .ok_or_else(|| format!("{by:?} without {key}\n{}", self.tail()))
        })
        .await;
    }

    pub(crate) async fn live(&self) -> Value {
        client::json(self.admin, "/api/v2/config/current").await.unwrap()
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let answer = client::get(self.health, "localhost", "/metrics").await.unwrap();
        client::metric(&answer.body, name, &[]).unwrap_or_default()
    }

    /// Who answers a request.
    pub(crate) async fn answer(&self, host: &str) -> String {
        let answer = client::get(self.http, host, "/").await.unwrap();
        answer.header("x-stamp").to_owned()
    }

    fn tail(&self) -> String {
        self.process.as_ref().map_or_else(String::new, Process::tail)
    }
}
