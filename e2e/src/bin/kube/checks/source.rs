//! The Kubernetes source on its own, in this process, against the API server: what no simulated watch can show. Without
//! CRDs, with a kind that is forbidden, with an object that no schema let through, when a CRD is deleted and comes back, when
//! etcd has forgotten what was watched, and when it is older than what was seen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::{Client, Config};
use serde_json::{Value, json};
use sluice_controller::live::{CertificateState, ServiceState, Values, Wanted};
use sluice_controller::objects::Spec;
use sluice_controller::source::kubernetes::{self, Scope, Started};
use sluice_controller::source::{Coverage, View};
use sluice_e2e::repository;
use sluice_model::ObjectKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::objects;
use crate::world::World;

/// For something to be seen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// For which nothing may happen.
const QUIET: Duration = Duration::from_secs(6);

/// A source that runs, and what it showed last.
struct Watching {
    started: Started,
    views: watch::Receiver<Option<Arc<View>>>,
    stop: CancellationToken,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Watching {
    fn begin(client: Client, scope: Scope) -> Self {
        let stop = CancellationToken::new();
        let started = kubernetes::watch(client, scope, stop.clone());
        let views = started.source.views();
        Self { started, views, stop }
    }

    /// The first view, from now on, that satisfies `wanted`.
    async fn until(&mut self, what: &str, wanted: impl Fn(&View) -> bool) -> anyhow::Result<Arc<View>> {
        let found = timeout(PATIENCE, async {
            let shown = self.views.wait_for(|view| view.as_deref().is_some_and(&wanted)).await?;
            anyhow::Ok(shown.clone())
        });
        match found.await {
            Ok(view) => view?.context("a view"),
            Err(_) => anyhow::bail!(
                "{what}: never; the last view is {}",
                told(self.views.borrow().as_deref())
            ),
        }
    }

    /// The first values that satisfy `wanted`, and how long they took.
    async fn value(&mut self, what: &str, wanted: impl Fn(&Values) -> bool) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let mut values = self.started.feed.values.clone();
        let found = timeout(PATIENCE, values.wait_for(|values| wanted(values)))
            .await
            .map(|found| found.map(drop));
        match found {
            Ok(found) => drop(found?),
            Err(_) => anyhow::bail!(
                "{what}: never; the last values are {:?}",
                self.started.feed.values.borrow()
            ),
        }
        Ok(began.elapsed())
    }

    fn want(&self, subjects: &[String]) -> anyhow::Result<()> {
        let wanted: Result<Wanted, _> = subjects.iter().map(|text| text.parse()).collect::<Result<_, _>>();
        self.started.feed.wanted.send_replace(Arc::new(wanted?));
        Ok(())
    }
}

fn told(view: Option<&View>) -> String {
    let Some(view) = view else {
        return "none".to_owned();
    };
    let keys: Vec<String> = view.objects.iter().map(|object| object.key.to_string()).collect();
    let problems: Vec<String> = view.problems.iter().map(ToString::to_string).collect();
    format!("{keys:?} {:?} {problems:?}", view.coverage)
}

fn key(text: &str) -> ObjectKey {
    text.parse().expect("a key")
}

fn holds(text: &str) -> impl Fn(&View) -> bool + use<> {
    let key = key(text);
    move |view| view.objects.contains(&key)
}

fn says(view: &View, parts: &[&str]) -> bool {
    let mut problems = view.problems.iter().map(ToString::to_string);
    problems.any(|problem| parts.iter().all(|part| problem.contains(part)))
}

fn pool(port: u16) -> Value {
    json!({"endpoints": [{"address": "10.0.0.1", "port": port}]})
}

fn port_of(view: &View, key: &ObjectKey) -> Option<u16> {
    match &view.objects.get(key)?.spec {
        Spec::Pool(pool) => pool.endpoints.first().map(|endpoint| endpoint.port),
        Spec::ProxyRoute(_) | Spec::Rollout(_) | Spec::Unreadable => None,
    }
}

/// What is watched in these checks: one namespace, which is the controller's too.
fn scope(namespaces: &[&str]) -> anyhow::Result<Scope> {
    let names: Result<BTreeSet<_>, _> = namespaces.iter().map(|name| name.parse()).collect();
    let controller = namespaces.first().context("a namespace")?.parse()?;
    Ok(Scope {
        namespaces: Some(names?),
        ..Scope::everywhere(controller)
    })
}

async fn client(like: impl FnOnce(&mut Config)) -> anyhow::Result<Client> {
    let mut config = kubernetes::patient(Config::infer().await?);
    like(&mut config);
    Ok(Client::try_from(config)?)
}

async fn apply(world: &World, namespace: &str, kind: &str, name: &str, spec: Value) -> anyhow::Result<()> {
    let object = serde_json::to_string(&objects::object(kind, name, &spec)?)?;
    let arguments = [
        "-n",
        namespace,
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "-",
    ];
    world.kubectl_with(&object, &arguments).await.map(drop)
}

/// What it shows of objects as they come, change and go; and of the values that they refer to.
pub(crate) async fn follows(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    let namespace = world.namespace("a").await?;
    apply(world, &namespace, "Pool", "a", pool(80)).await?;
    let mut watching = Watching::begin(client(|_| {}).await?, scope(&[&namespace])?);
    let a = format!("Pool {namespace}/a");
    let first = watching.until("the first view", |_| true).await?;
    ensure!(
        first.coverage == Coverage::Whole && first.objects.len() == 1 && first.problems.is_empty(),
        "{}",
        told(Some(&first))
    );
    let stored = first.objects.get(&key(&a)).and_then(|object| object.stored.clone());
    ensure!(
        stored.is_some_and(|stored| stored.generation == 1 && !stored.uid.is_empty()),
        "not as it is stored"
    );
    let cluster = first.cluster.clone().context("a cluster")?;
    let known = cluster.namespaces.get(&namespace.parse()?).context("its namespace")?;
    ensure!(
        known.created_at_seconds.is_some() && known.labels.contains_key("kubernetes.io/metadata.name"),
        "{known:?}"
    );

    // A status is nobody's change.
    let status = json!({"status": {"endpoints": "1/1"}}).to_string();
    let patch = [
        "-n",
        &namespace,
        "patch",
        "pools.sluice.dev/a",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ];
    world.kubectl(&patch).await?;
    ensure!(
        timeout(Duration::from_secs(2), watching.views.changed()).await.is_err(),
        "a status made a view"
    );
    let shown = watching.started.shown.object(&key(&a)).context("as it is shown")?;
    ensure!(shown.data["status"]["endpoints"] == "1/1", "{}", shown.data);

    let began = Instant::now();
    apply(world, &namespace, "Pool", "a", pool(81)).await?;
    watching
        .until("a change", |view| port_of(view, &key(&a)) == Some(81))
        .await?;
    world.figure(format!(
        "a change is seen within {} ms of kubectl's start",
        began.elapsed().as_millis()
    ));
    world
        .kubectl(&["-n", &namespace, "delete", "pools.sluice.dev/a"])
        .await?;
    watching.until("a deletion", |view| view.objects.is_empty()).await?;
    values(world, &namespace, &mut watching).await
}

async fn values(world: &World, namespace: &str, watching: &mut Watching) -> anyhow::Result<()> {
    let (service, certificate) = (format!("{namespace}/api:http"), format!("{namespace}/tls"));
    watching.want(&[format!("Service {service}"), format!("Certificate {certificate}")])?;
    let (service, certificate) = (service.parse()?, certificate.parse()?);
    watching
        .value("that they are missing", |values| {
            matches!(values.service(&service), ServiceState::Missing(_))
                && matches!(values.certificate(&certificate), CertificateState::Missing(_))
        })
        .await?;
    let manifest = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}, "spec": {"ports": [{"name": "http", "port": 80}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
         "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}}, "addressType": "IPv4",
         "endpoints": [{"addresses": ["10.9.8.7"]}], "ports": [{"name": "http", "port": 8080}]},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
         "stringData": {"tls.crt": "x", "tls.key": "x"}},
    ]});
    world
        .kubectl_with(&manifest.to_string(), &["-n", namespace, "apply", "-f", "-"])
        .await?;
    let took = watching
        .value("endpoints, and a certificate that is none", |values| {
            matches!(values.service(&service), ServiceState::Endpoints(found) if found.len() == 1)
                && matches!(values.certificate(&certificate), CertificateState::Refused(_))
        })
        .await?;
    world.say(&format!("values came {} ms after kubectl's end", took.as_millis()));
    let external = r#"{"spec": {"type": "ExternalName", "externalName": "a.test"}}"#;
    let patch = [
        "-n",
        namespace,
        "patch",
        "service",
        "api",
        "--type=merge",
        "-p",
        external,
    ];
    world.kubectl(&patch).await?;
    watching
        .value("that it has no endpoints by its kind", |values| {
            matches!(values.service(&service), ServiceState::Unusable(_))
        })
        .await?;
    Ok(())
}

/// With an account that may see a part: the rest works, what is missing is named with its grant, and is seen as soon as it
/// is granted, without a restart.
pub(crate) async fn with_what_is_granted(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    let namespace = world.namespace("a").await?;
    let user = format!("system:serviceaccount:{namespace}:looker");
    world
        .kubectl(&["-n", &namespace, "create", "serviceaccount", "looker"])
        .await?;
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let follow = ["list", "watch"];
    let rules = [
        rule("sluice.dev", &["proxyroutes", "rollouts"], &follow),
        rule("", &["services"], &follow),
        rule("discovery.k8s.io", &["endpointslices"], &follow),
        rule("", &["namespaces"], &["get"]),
    ];
    grant(world, &namespace, &rules).await?;
    apply(world, &namespace, "Pool", "a", pool(80)).await?;
    let groups = ["system:serviceaccounts", "system:authenticated"].map(str::to_owned);
    let as_looker = client(|config| {
        config.auth_info.impersonate = Some(user);
        config.auth_info.impersonate_groups = Some(groups.into());
    });
    let mut watching = Watching::begin(as_looker.await?, scope(&[&namespace])?);
    let in_role = format!("a Role in namespace {namespace}");
    let view = watching.until("a view without pools", |_| true).await?;
    ensure!(
        says(
            &view,
            &[
                "Pools of namespace",
                "403",
                "list and watch of pools in API group sluice.dev",
                &in_role
            ]
        ),
        "{}",
        told(Some(&view))
    );
    ensure!(
        matches!(&view.coverage, Coverage::Without(areas) if areas.len() == 1),
        "{}",
        told(Some(&view))
    );
    let known = view
        .cluster
        .as_ref()
        .is_some_and(|cluster| cluster.namespaces.len() == 1);
    ensure!(known, "a Role suffices to read its own namespace");
    let certificate = format!("{namespace}/tls");
    watching.want(&[format!("Certificate {certificate}")])?;
    let certificate = certificate.parse()?;
    let lacks_grant = |values: &Values| match values.certificate(&certificate) {
        CertificateState::Unseen(lack) => lack.fix.contains("resourceNames: [tls]") && lack.fix.contains(&namespace),
        CertificateState::Unknown
        | CertificateState::Missing(_)
        | CertificateState::Refused(_)
        | CertificateState::Material(_) => false,
    };
    watching.value("the missing grant of the Secret", lacks_grant).await?;

    let mut more = rules.to_vec();
    more.push(rule("sluice.dev", &["pools"], &follow));
    more.push(json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["tls"], "verbs": follow}));
    grant(world, &namespace, &more).await?;
    let a = holds(&format!("Pool {namespace}/a"));
    watching
        .until("what was granted", |view| {
            a(view) && view.coverage == Coverage::Whole && view.problems.is_empty()
        })
        .await?;
    watching
        .value("the Secret to be looked at", |values| {
            matches!(values.certificate(&certificate), CertificateState::Missing(_))
        })
        .await?;
    Ok(())
}

async fn grant(world: &World, namespace: &str, rules: &[Value]) -> anyhow::Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "looker"}, "rules": rules},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "looker"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looker"},
         "subjects": [{"kind": "ServiceAccount", "name": "looker", "namespace": namespace}]},
    ]});
    world
        .kubectl_with(&list.to_string(), &["-n", namespace, "apply", "-f", "-"])
        .await
        .map(drop)
}

/// CRDs that are not there, come, hold what their schema refuses, go, and come again.
pub(crate) async fn crds_come_and_go(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    let namespace = world.namespace("a").await?;
    let crds = repository::root().join("crds/yaml").to_string_lossy().into_owned();
    let file = format!("{crds}/pools.sluice.dev.yaml");
    let result = come_and_go(world, &namespace, &file).await;
    // Whatever happened, the next check finds them.
    world
        .kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &crds])
        .await?;
    world
        .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds])
        .await?;
    result
}

async fn come_and_go(world: &World, namespace: &str, file: &str) -> anyhow::Result<()> {
    let delete = ["delete", "-f", file, "--wait=true", "--timeout=60s"];
    let install = ["apply", "--server-side", "--force-conflicts", "-f", file];
    world.kubectl(&delete).await?;
    let mut watching = Watching::begin(client(|_| {}).await?, scope(&[namespace])?);
    let view = watching.until("a view without the kind", |_| true).await?;
    ensure!(
        says(&view, &["Pools cannot be seen", "install the CRDs"]),
        "{}",
        told(Some(&view))
    );
    ensure!(matches!(view.coverage, Coverage::Without(_)), "{}", told(Some(&view)));

    world.kubectl(&install).await?;
    let is_whole = |view: &View| view.coverage == Coverage::Whole && view.problems.is_empty();
    watching.until("the kind, once it is there", is_whole).await?;
    let (a, odd) = (format!("Pool {namespace}/a"), key(&format!("Pool {namespace}/odd")));
    apply(world, namespace, "Pool", "a", pool(80)).await?;
    watching.until("an object of it", holds(&a)).await?;

    // Written before the schema was as strict as it is.
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let loose = json!([{"op": "replace", "path": schema, "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    world
        .kubectl(&[
            "patch",
            "crd",
            "pools.sluice.dev",
            "--type=json",
            "-p",
            &loose.to_string(),
        ])
        .await?;
    let began = Instant::now();
    while let Err(error) = apply(world, namespace, "Pool", "odd", json!({"endpoints": "none"})).await {
        ensure!(began.elapsed() < PATIENCE, "the loose schema: {error:#}");
        sleep(Duration::from_millis(200)).await;
    }
    world.kubectl(&install).await?;
    apply(world, namespace, "Pool", "a", pool(81)).await?;
    let view = watching
        .until("the odd one, and a change beside it", |view| {
            view.objects.get(&odd).is_some_and(|odd| odd.spec == Spec::Unreadable)
                && port_of(view, &key(&a)) == Some(81)
        })
        .await?;
    ensure!(
        says(&view, &["odd spec.endpoints", "a list is needed here"]),
        "{}",
        told(Some(&view))
    );
    ensure!(view.coverage == Coverage::Whole, "{}", told(Some(&view)));

    // Deleted, it takes its objects with it; nothing is taken for deleted.
    world.kubectl(&delete).await?;
    let gone = |view: &View| matches!(view.coverage, Coverage::Without(_)) && says(view, &["Pools cannot be seen"]);
    watching.until("that the kind is gone", gone).await?;
    let began = Instant::now();
    while began.elapsed() < QUIET {
        let view = watching.views.borrow().clone().context("a view")?;
        ensure!(view.objects.len() == 2 && gone(&view), "{}", told(Some(&view)));
        sleep(Duration::from_millis(100)).await;
    }
    world.kubectl(&install).await?;
    let lost = |view: &View| view.coverage == Coverage::Whole && says(view, &["went when their CRD was deleted"]);
    let view = watching.until("that it is back, and what is not", lost).await?;
    ensure!(view.objects.len() == 2, "{}", told(Some(&view)));
    for (name, port) in [("a", 82), ("odd", 83)] {
        apply(world, namespace, "Pool", name, pool(port)).await?;
    }
    let view = watching.until("what was applied again", is_whole).await?;
    ensure!(
        port_of(&view, &key(&a)) == Some(82) && port_of(&view, &odd) == Some(83),
        "{}",
        told(Some(&view))
    );
    world
        .kubectl(&["-n", namespace, "delete", "pools.sluice.dev/odd"])
        .await?;
    watching
        .until("that one is deleted", |view| view.objects.len() == 1)
        .await?;
    Ok(())
}

/// What etcd forgot (410), and what it has again as it once was.
pub(crate) async fn history(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    let namespace = world.namespace("a").await?;
    apply(world, &namespace, "Pool", "a", pool(80)).await?;
    apply(world, &namespace, "Pool", "b", pool(80)).await?;
    let (a, b) = (key(&format!("Pool {namespace}/a")), key(&format!("Pool {namespace}/b")));
    // The checks' own client watches nothing; this one does.
    let mut watching = Watching::begin(client(|_| {}).await?, scope(&[&namespace])?);
    watching.until("both", |view| view.objects.len() == 2).await?;

    // While nobody could look, one was deleted and one changed, and the history of it is gone.
    world.part("freeze", "apiserver").await?;
    sleep(Duration::from_secs(2)).await;
    world.part("thaw", "apiserver").await?;
    world.part("stop", "apiserver").await?;
    world.part("start", "apiserver").await?;
    world.api_server_is_back().await;
    world
        .kubectl(&["-n", &namespace, "delete", "pools.sluice.dev/b"])
        .await?;
    apply(world, &namespace, "Pool", "a", pool(81)).await?;
    world.compact().await?;
    let began = Instant::now();
    watching
        .until("what happened meanwhile", |view| {
            port_of(view, &a) == Some(81) && !view.objects.contains(&b) && view.coverage == Coverage::Whole
        })
        .await?;
    world.say(&format!("seen {} ms after the compaction", began.elapsed().as_millis()));

    // Older than what was seen: what is there then is the truth, and what happens from then on is seen.
    let copy = world.copy_of_etcd().await?;
    apply(world, &namespace, "Pool", "a", pool(90)).await?;
    apply(world, &namespace, "Pool", "late", pool(90)).await?;
    watching
        .until("what is lost in a moment", holds(&format!("Pool {namespace}/late")))
        .await?;
    world.restore_etcd(copy).await?;
    let late = key(&format!("Pool {namespace}/late"));
    let began = Instant::now();
    watching
        .until("what was restored", |view| {
            port_of(view, &a) == Some(81) && !view.objects.contains(&late)
        })
        .await?;
    world.figure(format!(
        "a restored etcd is believed after {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    apply(world, &namespace, "Pool", "a", pool(91)).await?;
    watching
        .until("a change afterwards", |view| port_of(view, &a) == Some(91))
        .await?;
    Ok(())
}
