//! A real Argo CD beside our own cluster: started, told of its users, and asked and told things as they would.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use sluice_e2e::repository;
use sluice_e2e::wait::wait_until;
use tokio::process::Command;

use crate::kubectl::Said;
use crate::sluice::{FLEET, PATIENCE};
use crate::world::World;

/// Where it lives.
const NAMESPACE: &str = "argocd";
/// Where its API is, as `e2e/cluster/src/argocd.sh` starts it.
const ADDRESS: &str = "127.0.0.1:8080";
/// Its parts, the one that writes into the cluster first.
const PARTS: [&str; 4] = ["argocd-controller", "argocd-server", "argocd-repo-server", "redis"];
/// The accounts by which it acts on the cluster.
const CONTROLLER_USER: &str = "system:serviceaccount:argocd:argocd-application-controller";
/// The one that gives commands.
pub(crate) const SERVER_USER: &str = "system:serviceaccount:argocd:argocd-server";
/// What deletes everything that an Application applied, together with it.
const CASCADE: &str = "resources-finalizer.argocd.argoproj.io";
/// Until an Application's objects are gone: gateways drain first.
const GONE: &str = "--timeout=180s";

/// One Argo CD, and a user of it who may look at everything and steer rollouts.
pub(crate) struct Argo<'a> {
    world: &'a World,
    user: PathBuf,
}

impl<'a> Argo<'a> {
    /// Starts it, with this user, whose rights are these lines.
    pub(crate) async fn start(world: &'a World, user: &str, rights: &str) -> anyhow::Result<Self> {
        world.script("argocd", &[]).await?;
        let account = json!({"data": {format!("accounts.{user}"): "apiKey"}});
        let rights = json!({"data": {"policy.csv": rights}});
        for (configmap, patch) in [("argocd-cm", account), ("argocd-rbac-cm", rights)] {
            let (configmap, patch) = (format!("configmap/{configmap}"), patch.to_string());
            let patch = ["-n", NAMESPACE, "patch", &configmap, "--type=merge", "-p", &patch];
            world.kubectl(&patch).await?;
        }
        let user = log_in(world, user).await?;
        Ok(Self { world, user })
    }

    /// Applies an Application, to be deleted with what it applied.
    pub(crate) async fn apply(&self, mut application: Value) -> anyhow::Result<()> {
        application["metadata"]["finalizers"] = json!([CASCADE]);
        self.world
            .kubectl_with(&application.to_string(), &["apply", "-f", "-"])
            .await?;
        Ok(())
    }

    /// An Application, as it is.
    pub(crate) async fn application(&self, name: &str) -> anyhow::Result<Value> {
        let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application");
        let kind = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.world.client(), NAMESPACE, &kind);
        let found = api.get(name).await;
        Ok(serde_json::to_value(
            found.with_context(|| format!("Application {name}"))?,
        )?)
    }

    /// Has it look at the repository, as a webhook does.
    pub(crate) async fn refresh(&self, name: &str) -> anyhow::Result<()> {
        let name = format!("application/{name}");
        let refresh = "argocd.argoproj.io/refresh=normal";
        let annotate = ["-n", NAMESPACE, "annotate", "--overwrite", &name, refresh];
        self.world.kubectl(&annotate).await?;
        Ok(())
    }

    /// Waits until an Application is Synced, at this commit if one is named, and of this health.
    pub(crate) async fn becomes(&self, name: &str, health: &str, commit: Option<&str>) -> Value {
        let what = format!("the Application {name} to be Synced and {health}, at {commit:?}");
        wait_until(&what, PATIENCE, || async {
            let application = self.application(name).await.map_err(|error| format!("{error:#}"))?;
            let sync = &application["status"]["sync"];
            let at_commit = commit.is_none_or(|commit| sync["revision"] == commit);
            if is(&application, health) && at_commit {
                Ok(application)
            } else {
                Err(format!("{:#}", application["status"]))
            }
        })
        .await
    }

    /// What the user sees of one object of an Application: its line of the tree, with health and message.
    pub(crate) async fn line(&self, application: &str, object: &str) -> anyhow::Result<String> {
        let tree = self.call(&["app", "get", application, "-o", "tree=detailed"]).await?;
        ensure!(tree.status.success(), "{}{}", tree.stdout, tree.stderr);
        let line = tree.stdout.lines().find(|line| line.starts_with(&format!("{object} ")));
        let line = line.with_context(|| format!("no {object} in {}", tree.stdout))?;
        // As wide as the widest name of all.
        Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The buttons of the fleet's Rollout that can be pressed.
    pub(crate) async fn buttons(&self, application: &str) -> anyhow::Result<Vec<String>> {
        let list = ["app", "actions", "list", application, "--kind", "Rollout", "-o", "json"];
        let said = self.call(&list).await?;
        ensure!(said.status.success(), "{}{}", said.stdout, said.stderr);
        let list: Value = serde_json::from_str(&said.stdout).with_context(|| said.stdout.clone())?;
        let enabled = |action: &&Value| action["Disabled"] == false;
        let actions = list.as_array().into_iter().flatten().filter(enabled);
        Ok(actions
            .filter_map(|action| action["Action"].as_str())
            .map(str::to_owned)
            .collect())
    }

    /// The user presses one of them.
    pub(crate) async fn press(&self, application: &str, verb: &str) -> anyhow::Result<()> {
        let rollout = ["--group", "sluice.dev", "--kind", "Rollout", "--resource-name", FLEET];
        let run = ["app", "actions", "run", application, verb];
        let said = self.call(&[&run[..], &rollout].concat()).await?;
        ensure!(said.status.success(), "{verb}: {}{}", said.stdout, said.stderr);
        Ok(())
    }

    /// `argocd …` by the user, however it ends.
    pub(crate) async fn call(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        let config = self.user.to_string_lossy();
        let all = [&["--config", &*config], arguments].concat();
        self.world.tool_raw("argocd", "", &all).await
    }

    /// Deletes an Application with what it applied, and waits for it.
    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        delete(self.world, name).await
    }
}

/// Whether an Application is Synced and of this health.
pub(crate) fn is(application: &Value, health: &str) -> bool {
    let status = &application["status"];
    status["sync"]["status"] == "Synced" && status["health"]["status"] == health
}

/// What tells one operation of Argo CD on an Application from the next: how many there were, and when the last began.
pub(crate) fn operations(application: &Value) -> (usize, Value) {
    let status = &application["status"];
    let count = status["history"].as_array().map_or(0, Vec::len);
    (count, status["operationState"]["startedAt"].clone())
}

/// Whether this account is one of Argo CD's.
pub(crate) fn is_account(username: &str) -> bool {
    [CONTROLLER_USER, SERVER_USER].contains(&username)
}

/// Ends it, and what Applications of these names applied, whatever state it is in: otherwise it would fight with the
/// checks that follow over what they take away.
pub(crate) async fn end(world: &World, applications: &[&str]) -> anyhow::Result<()> {
    let mut ended = Ok(());
    for name in applications {
        let deleted = delete(world, name).await;
        ended = ended.and(deleted);
    }
    for part in PARTS {
        world.part("stop", part).await?;
    }
    ended
}

async fn delete(world: &World, name: &str) -> anyhow::Result<()> {
    let name = format!("application/{name}");
    let delete = ["-n", NAMESPACE, "delete", &name, "--ignore-not-found", GONE];
    world.kubectl(&delete).await?;
    Ok(())
}

/// The file by which the command knows this user. The administrator makes the user's token; neither that nor the
/// password belongs into a log.
async fn log_in(world: &World, user: &str) -> anyhow::Result<PathBuf> {
    let folder = tempfile::tempdir()?;
    let administrator = folder.path().join("administrator").to_string_lossy().into_owned();
    let secret = "go-template={{.data.password|base64decode}}";
    let get = [
        "-n",
        NAMESPACE,
        "get",
        "secret",
        "argocd-initial-admin-secret",
        "-o",
        secret,
    ];
    let password = quietly("kubectl", &get).await?;
    let as_administrator = ["--config", &administrator];
    let login = [
        "login",
        ADDRESS,
        "--plaintext",
        "--username",
        "admin",
        "--password",
        &password,
    ];
    quietly("argocd", &[&login[..], &as_administrator].concat()).await?;
    let generate = ["account", "generate-token", "--account", user];
    // Its server hears of a new account a moment after the ConfigMap has it.
    let token = wait_until("a token of Argo CD's user", Duration::from_secs(20), || async {
        let token = quietly("argocd", &[&generate[..], &as_administrator].concat()).await;
        token.map_err(|error| format!("{error:#}"))
    })
    .await;
    let config = json!({
        "current-context": user,
        "contexts": [{"name": user, "server": ADDRESS, "user": user}],
        "servers": [{"server": ADDRESS, "plain-text": true, "grpc-web-root-path": ""}],
        "users": [{"name": user, "auth-token": token.trim()}],
    });
    let path = world.folder().join("argocd-user");
    fs::write(&path, config.to_string())?;
    // The command reads no other.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

/// A call that nothing is logged of.
async fn quietly(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{program} does not start"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{program}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Applications as people copy them.
pub(crate) fn examples() -> anyhow::Result<Vec<Value>> {
    let text = repository::read("deploy/argocd/application.yaml");
    serde_saphyr::from_multiple(&text).context("deploy/argocd/application.yaml")
}
