//! What is under test: a controller, one instance with a listener in the clear and one over TLS, and upstreams of every kind.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_e2e::fleet::{Fleet, Instance, Setup};
use sluice_e2e::wait::wait_until;
use sluice_e2e::{manifests, ports, usage};

use crate::authority::Authority;
use crate::back::{Back, Server};

/// The host of everything.
pub(crate) const HOST: &str = "soak.example.com";
/// Longer than anything takes that is not broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A data plane with everything around it.
pub(crate) struct Edge {
    pub(crate) fleet: Fleet,
    /// Where TLS is spoken; in the clear it is `fleet.http`.
    pub(crate) tls: SocketAddr,
    pub(crate) authority: Authority,
    servers: Vec<(Back, Server)>,
}

impl Edge {
    /// Starts one instance with an upstream of each kind, by the names of [`Back`].
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With this said of the data plane beside its listeners.
    pub(crate) async fn start_limited(limits: &str) -> Self {
        Self::begin(&[], 1, limits, |setup| setup).await
    }

    /// With these objects as well.
    pub(crate) async fn start_with(more: &[String]) -> Self {
        Self::start_as(more, 1, |setup| setup).await
    }

    /// So many instances, set up in a way of their own.
    pub(crate) async fn start_as(more: &[String], count: usize, shape: impl FnOnce(Setup) -> Setup) -> Self {
        Self::begin(more, count, "", shape).await
    }

    async fn begin(more: &[String], count: usize, limits: &str, shape: impl FnOnce(Setup) -> Setup) -> Self {
        let authority = Authority::new();
        let mut servers = Vec::new();
        for back in Back::ALL {
            servers.push((back, Server::start(back, &authority).await));
        }
        let tls = ports::free();
        let setup = shape(Fleet::setup().await);
        let rollout = rollout(setup.port(), tls.port(), limits);
        let mut objects = vec![route(), authority.issue(HOST).secret("edge"), authorities(&authority)];
        for (back, server) in &servers {
            objects.push(manifests::pool(back.name(), &[server.address]) + back.transport());
        }
        objects.extend_from_slice(more);
        let fleet = setup
            .with("rollout.yaml", &rollout)
            .with("objects.yaml", &manifests::documents(&objects))
            .start(count)
            .await;
        Self {
            fleet,
            tls,
            authority,
            servers,
        }
    }

    /// The upstream of this kind.
    pub(crate) fn server(&self, back: Back) -> &Server {
        let found = self.servers.iter().find(|(kind, _)| *kind == back);
        &found.expect("there is one of each").1
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.fleet.instances[0]
    }

    /// Resident memory of the data plane now, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        usage::resident(self.instance().process_id()).expect("the instance runs")
    }

    /// Waits until a metric, of all series with these labels, is as wanted.
    pub(crate) async fn metric_is(&self, name: &str, labels: &[&str], wanted: f64) {
        let what = format!("{name}{labels:?} to be {wanted}");
        self.metric(&what, PATIENCE, name, labels, |value| value == wanted)
            .await;
    }

    /// Waits for so long until it is no more than that.
    pub(crate) async fn metric_is_at_most(&self, name: &str, labels: &[&str], most: f64, patience: Duration) {
        let what = format!("{name}{labels:?} to be {most} at most");
        self.metric(&what, patience, name, labels, |value| value <= most).await;
    }

    async fn metric(&self, what: &str, patience: Duration, name: &str, labels: &[&str], right: impl Fn(f64) -> bool) {
        wait_until(what, patience, || async {
            let value = self.instance().metric(name, labels).await.unwrap_or(0.0);
            if right(value) { Ok(()) } else { Err(value) }
        })
        .await;
    }
}

/// The Rollout: one stage, one listener in the clear for both protocols and one over TLS.
fn rollout(http: u16, https: u16, limits: &str) -> String {
    let clear = format!("{{name: http, port: {http}, http2: PriorKnowledge}}");
    let both = format!("listeners: [{clear}, {{name: https, port: {https}, tls: {{}}}}]\n    {limits}");
    manifests::rollout(http, &[(100, "0s")], &[]).replace(&format!("listeners: [{{name: http, port: {http}}}]"), &both)
}

fn route() -> String {
    let paths: Vec<(String, &str)> = Back::ALL.map(|back| (format!("/{}", back.name()), back.name())).into();
    let rules: Vec<(&str, &str)> = paths.iter().map(|(path, pool)| (path.as_str(), *pool)).collect();
    manifests::rules("soak", HOST, &rules) + "  tls: {certificates: [{secretName: edge}]}\n"
}

fn authorities(authority: &Authority) -> String {
    let head = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: upstream-ca, namespace: {}}}\n",
        manifests::NAMESPACE
    );
    let lines: String = authority.pem().lines().map(|line| format!("    {line}\n")).collect();
    format!("{head}type: Opaque\nstringData:\n  ca.crt: |\n{lines}")
}
