//! `kubectl sluice` as kubectl runs it, against a controller of ours: everything through the API server, by users who may
//! little, somewhat more, and enough; beside another project's kind of the same name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use sluice_e2e::binaries;
use sluice_e2e::wait::wait_until;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::columns::with_another_kind_of_this_name;
use super::served::Served;
use crate::kubectl::Said;
use crate::objects;
use crate::sluice::{FLEET, GATEWAY, NAMESPACE, PATIENCE, Sluice};
use crate::world::World;

/// Role bindings of the users, which are removed in the end.
const BINDINGS: &str = "app=e2e-plugin";

/// The users: who they are to the API server, and by which kubeconfig they come.
struct User {
    name: String,
    kubeconfig: PathBuf,
}

/// What the check works with.
struct Scene<'a> {
    world: &'a World,
    sluice: Sluice<'a>,
    served: Served,
    /// With `kubectl-sluice` in it.
    path: String,
    nobody: User,
    viewer: User,
    operator: User,
}

/// All of it.
pub(crate) async fn as_kubectl_runs_it(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let served = Served::start(world, &namespace, "shop").await?;
    sluice.calm().await?;
    let scene = Scene {
        world,
        sluice,
        path: path(world)?,
        nobody: user(world, &namespace, "nobody", None).await?,
        viewer: user(world, &namespace, "viewer", Some("sluice-view")).await?,
        operator: user(world, &namespace, "operator", Some("sluice-rollout-operator")).await?,
        served,
    };
    let story = scene.story().await;
    let unbind = ["-n", NAMESPACE, "delete", "rolebinding", "-l", BINDINGS];
    world.kubectl(&unbind).await?;
    story
}

/// A folder for kubectl to find the plugin in, before the others.
fn path(world: &World) -> anyhow::Result<String> {
    let folder = world.folder().canonicalize()?.join("plugins");
    fs::create_dir_all(&folder)?;
    symlink(binaries::sluice(), folder.join("kubectl-sluice"))?;
    Ok(format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").unwrap_or_default()
    ))
}

/// A service account with a token, which is a user like others, with this role in the controller's namespace.
async fn user(world: &World, namespace: &str, name: &str, role: Option<&str>) -> anyhow::Result<User> {
    world
        .kubectl(&["-n", namespace, "create", "serviceaccount", name])
        .await?;
    let kubeconfig = world.folder().canonicalize()?.join(format!("{name}.kubeconfig"));
    fs::copy(std::env::var("KUBECONFIG").context("KUBECONFIG")?, &kubeconfig)?;
    let at = kubeconfig.to_string_lossy().into_owned();
    let config = ["--kubeconfig", &at, "config"];
    // Not by `world`, which writes what is said and answered into the log.
    let token = Command::new("kubectl")
        .args(["-n", namespace, "create", "token", name])
        .output();
    let token = format!("--token={}", String::from_utf8(token.await?.stdout)?.trim());
    let set = Command::new("kubectl")
        .args(config)
        .args(["set-credentials", name, &token])
        .output();
    ensure!(set.await?.status.success(), "the token cannot be written to {at}");
    let user = format!("--user={name}");
    let context = [&config[..], &["set-context", "--current", &user, "--namespace=default"]].concat();
    world.kubectl(&context).await?;
    if let Some(role) = role {
        let account = format!("--serviceaccount={namespace}:{name}");
        let (role, binding) = (format!("--clusterrole={role}"), format!("e2e-plugin-{name}"));
        world
            .kubectl(&["-n", NAMESPACE, "create", "rolebinding", &binding, &role, &account])
            .await?;
        world
            .kubectl(&["-n", NAMESPACE, "label", "rolebinding", &binding, BINDINGS])
            .await?;
    }
    Ok(User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        kubeconfig,
    })
}

impl Scene<'_> {
    async fn story(&self) -> anyhow::Result<()> {
        self.rights().await?;
        self.commands().await?;
        self.views().await?;
        with_another_kind_of_this_name(self.world, || async {
            let said = self
                .plugin(&self.viewer, &["rollout", "get", FLEET, "-o", "json"])
                .await?;
            let rollout: Value = serde_json::from_str(&said.stdout).with_context(|| said.stderr)?;
            ensure!(rollout["apiVersion"] == "sluice.dev/v1alpha1", "{rollout:#}");
            Ok(())
        })
        .await
    }

    /// `kubectl sluice` by this user.
    async fn plugin(&self, user: &User, arguments: &[&str]) -> anyhow::Result<Said> {
        let output = Command::new("kubectl")
            .arg("sluice")
            .args(arguments)
            .env("PATH", &self.path)
            .env("KUBECONFIG", &user.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let said = Said {
            status: output.status,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        };
        let (who, call) = (&user.name, arguments.join(" "));
        self.world
            .say(&format!("{who}: kubectl sluice {call}\n{}{}", said.stdout, said.stderr));
        Ok(said)
    }

    async fn done(&self, user: &User, arguments: &[&str]) -> anyhow::Result<String> {
        let said = self.plugin(user, arguments).await?;
        ensure!(said.status.success(), "{arguments:?}: {}{}", said.stdout, said.stderr);
        Ok(said.stdout)
    }

    async fn refused(&self, user: &User, arguments: &[&str], parts: &[&str]) -> anyhow::Result<()> {
        let said = self.plugin(user, arguments).await?;
        ensure!(
            said.status.code() == Some(1),
            "{arguments:?}: {}{}",
            said.stdout,
            said.stderr
        );
        ensure!(
            said.stderr.trim_end().lines().count() == 1,
            "one sentence: {}",
            said.stderr
        );
        for part in parts {
            ensure!(
                said.stderr.contains(part),
                "{arguments:?}: {part:?} is not in {}",
                said.stderr
            );
        }
        Ok(())
    }

    /// Who lacks a right is told which, where, and who grants it.
    async fn rights(&self) -> anyhow::Result<()> {
        let who = format!("you are {}, who may not", self.nobody.name);
        let list = "list rollouts.sluice.dev in namespace sluice-system";
        self.refused(&self.nobody, &["rollout", "get"], &[&who, list, "sluice-view"])
            .await?;
        self.refused(
            &self.nobody,
            &["routes", "-A"],
            &[&who, "in all namespaces", "sluice-view"],
        )
        .await?;
        self.refused(
            &self.nobody,
            &["instances"],
            &[&who, "get leases.coordination.k8s.io", "edit"],
        )
        .await?;
        let table = self.done(&self.viewer, &["rollout", "get"]).await?;
        ensure!(table.contains(FLEET) && table.contains("Idle"), "{table}");
        let patch = "patch rollouts.sluice.dev in namespace sluice-system";
        self.refused(&self.viewer, &["rollout", "pause"], &[patch, "sluice-rollout-operator"])
            .await?;
        let missing = "there is no Rollout \"nope\" in namespace sluice-system; there are: ";
        self.refused(&self.viewer, &["rollout", "get", "nope"], &[missing])
            .await
    }

    /// Commands are given in the name that the API server knows, carried out, and told to whoever watches.
    async fn commands(&self) -> anyhow::Result<()> {
        let mut watching = self.watching().await?;
        let revision = self.sluice.rollout().await?["status"]["targetRevision"].clone();
        let revision = revision.as_str().context("no revision")?.to_owned();
        let said = self
            .done(&self.operator, &["rollout", "pause", "--reason", "a check"])
            .await?;
        let told = format!("Rollout {NAMESPACE}/{FLEET}: pause {revision}: done");
        ensure!(said.starts_with(&told), "{said}");
        watching.hears("pause by").await?;
        // The answer and what came of it need not be written at once.
        wait_until("the pause in the status", PATIENCE, || async {
            let rollout = self.sluice.rollout().await.map_err(|error| format!("{error:#}"))?;
            let by = ["pausedBy", "command"].map(|field| &rollout["status"][field]["by"]);
            let all = by.iter().all(|by| **by == *self.operator.name);
            if all { Ok(()) } else { Err(format!("{by:?}")) }
        })
        .await;
        let older = ["rollout", "abort", "--revision", "1-0badc0de"];
        self.refused(&self.operator, &older, &["abort 1-0badc0de: refused: ", "1-0badc0de"])
            .await?;
        ensure!(
            self.sluice.rollout().await?["status"]["command"]["result"] == "Refused",
            "the status does not say so"
        );
        self.done(&self.operator, &["rollout", "resume"]).await?;
        let said = self.done(&self.operator, &["rollout", "promote"]).await?;
        let nothing = format!("promote {revision}: nothing to do: no rollout is in progress");
        ensure!(said.contains(&nothing), "{said}");
        self.refused(
            &self.operator,
            &["rollout", "forget", "nobody.0a1b2c3d"],
            &["forget nobody.0a1b2c3d: refused"],
        )
        .await?;
        watching.end().await?;
        self.in_the_audit_log(&self.operator.name).await
    }

    /// The audit log has whoever gave the command, with the command in it.
    async fn in_the_audit_log(&self, user: &str) -> anyhow::Result<()> {
        let audit = self.world.audit().context("no audit log")?;
        // An entry is written when its answer has been sent.
        wait_until("the commands in the audit log", PATIENCE, || async {
            let entries = audit.of(user).map_err(|error| format!("{error:#}"))?;
            let given = entries
                .iter()
                .filter(|entry| entry.verb == "patch" && entry.succeeded());
            let verbs: Vec<Value> = given
                .filter_map(|entry| entry.request_object.as_ref())
                .map(|body| body["metadata"]["annotations"]["sluice.dev/command"].clone())
                .collect();
            if verbs == ["pause", "abort", "resume", "promote", "forget"] {
                Ok(())
            } else {
                Err(format!("{verbs:?}"))
            }
        })
        .await;
        Ok(())
    }

    /// What an administrator sees.
    async fn views(&self) -> anyhow::Result<()> {
        let admin = User {
            name: "the administrator".to_owned(),
            kubeconfig: std::env::var("KUBECONFIG").context("KUBECONFIG")?.into(),
        };
        let Served {
            namespace, name, host, ..
        } = &self.served;
        let routes = self.done(&admin, &["routes", "-n", namespace]).await?;
        ensure!(routes.contains(host) && routes.contains("True"), "{routes}");
        let request = ["explain", "--fleet", FLEET, "--host", host, "--path", "/x"];
        let explained = self.done(&admin, &request).await?;
        ensure!(
            explained.starts_with(&format!("goes to Pool {namespace}/{name}\n")),
            "{explained}"
        );
        let pods = self.world.pods(NAMESPACE, GATEWAY).await?;
        let instances = self.done(&admin, &["instances"]).await?;
        let pool = self.done(&admin, &["pool", name, "-n", namespace]).await?;
        for pod in &pods {
            ensure!(instances.contains(&pod.name), "{} is not in {instances}", pod.name);
            // Two endpoints each.
            let rows = pool
                .lines()
                .filter(|line| line.starts_with(&pod.name) && line.contains("in rotation"));
            ensure!(rows.count() == 2, "{} has other than two endpoints: {pool}", pod.name);
        }
        let fleets = format!("there is no fleet \"nope\"; there are: {FLEET}");
        self.refused(&admin, &["instances", "nope"], &[&fleets]).await?;
        self.refused(
            &admin,
            &["pool", "nope", "-n", namespace],
            &["pools.sluice.dev \"nope\" not found"],
        )
        .await?;
        let unused = objects::pool("unused", name);
        self.world.apply(namespace, &[unused]).await?;
        self.refused(
            &admin,
            &["pool", "unused", "-n", namespace],
            &["no route that they serve refers to it"],
        )
        .await
    }

    /// `rollout watch`, until it has shown where the fleet stands.
    async fn watching(&self) -> anyhow::Result<Watching> {
        let mut child = Command::new("kubectl")
            .args(["sluice", "rollout", "watch", FLEET])
            .env("PATH", &self.path)
            .env("KUBECONFIG", &self.viewer.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut watching = Watching { child, lines };
        watching.hears(FLEET).await?;
        Ok(watching)
    }
}

/// Somebody who watches.
struct Watching {
    child: tokio::process::Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Watching {
    /// Waits for a line with this in it.
    async fn hears(&mut self, part: &str) -> anyhow::Result<()> {
        let heard = async {
            while let Some(line) = self.lines.next_line().await? {
                if line.contains(part) {
                    return Ok(());
                }
            }
            anyhow::bail!("it ended without {part:?}")
        };
        timeout(PATIENCE, heard)
            .await
            .with_context(|| format!("{part:?} was not heard"))?
    }

    /// Ctrl-C.
    async fn end(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().context("it ended by itself")?.to_string();
        Command::new("kill").args(["-INT", &pid]).status().await?;
        let status = timeout(Duration::from_secs(10), self.child.wait())
            .await
            .context("it does not end")??;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}
