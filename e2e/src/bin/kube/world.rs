//! What a check has in its hands: a client, kubectl, namespaces of its own, a log, the figures it measured, and on our
//! own cluster the audit log and the parts of the node.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::Client;
use sluice_e2e::repository;
use sluice_e2e::wait::wait_until;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::audit::AuditLog;
use crate::install::Installed;
use crate::options::{Form, Images, Options, Own};

/// Until a namespace is gone: one may have ten thousand objects.
const GONE_WITHIN: Duration = Duration::from_secs(300);

/// The cluster under test, shared by all checks.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    options: Arc<Options>,
    crds: Arc<OnceCell<()>>,
    installed: Arc<Installed>,
    audit: Option<AuditLog>,
}

impl Cluster {
    /// Connects to the cluster of `KUBECONFIG`.
    pub(crate) async fn connect(options: Options) -> anyhow::Result<Self> {
        // kube leaves the choice to the program when several could be linked.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::try_default().await.context("the kubeconfig cannot be used")?;
        let version = client.apiserver_version().await.context(
            "the API server does not answer; is KUBECONFIG right, and is this run inside the cluster's network?",
        )?;
        println!("Kubernetes {}", version.git_version);
        let own = options.own.as_ref();
        let audit = own.map(|own| AuditLog::from_now(&own.folder.join("audit.log")));
        Ok(Self {
            client,
            crds: Arc::default(),
            installed: Arc::default(),
            audit: audit.transpose()?,
            options: Arc::new(options),
        })
    }

    /// The cluster as ours to break, if it is.
    pub(crate) fn own(&self) -> Option<&Own> {
        self.options.own.as_ref()
    }
}

/// One check's view of it.
#[derive(Clone)]
pub(crate) struct World {
    cluster: Cluster,
    check: &'static str,
    folder: PathBuf,
    log: Arc<Mutex<File>>,
    namespaces: Arc<Mutex<Vec<String>>>,
    figures: Arc<Mutex<Vec<String>>>,
    began: Instant,
    audit: Option<AuditLog>,
}

impl World {
    /// A folder of its own, and the audit log from here on.
    pub(crate) fn new(cluster: Cluster, check: &'static str) -> anyhow::Result<Self> {
        let folder = cluster.options.out.join(check);
        // What an earlier run left would be taken for this one's.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let log = File::create(folder.join("log"))?;
        let audit = cluster.audit.as_ref().map(AuditLog::again_from_now);
        Ok(Self {
            check,
            log: Arc::new(Mutex::new(log)),
            namespaces: Arc::default(),
            figures: Arc::default(),
            began: Instant::now(),
            audit: audit.transpose()?,
            folder,
            cluster,
        })
    }

    /// The API server, as the administrator.
    pub(crate) fn client(&self) -> Client {
        self.cluster.client.clone()
    }

    /// The images under test.
    pub(crate) fn images(&self) -> &Images {
        &self.cluster.options.images
    }

    /// How much of it.
    pub(crate) fn form(&self) -> Form {
        self.cluster.options.form
    }

    /// The first in the short form, the second in the full one.
    pub(crate) fn by_form<T>(&self, short: T, full: T) -> T {
        match self.form() {
            Form::Short => short,
            Form::Full => full,
        }
    }

    /// Whether all checks of the form run, and not some that were named.
    pub(crate) fn whole_run(&self) -> bool {
        self.cluster.options.names.is_empty()
    }

    /// What is installed of Sluice in this run.
    pub(crate) fn installed(&self) -> &Installed {
        &self.cluster.installed
    }

    /// The cluster as ours to break.
    pub(crate) fn own(&self) -> anyhow::Result<&Own> {
        self.cluster.own().context("this is not our cluster")
    }

    /// Where this check writes.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the API server did since the check began; only on our own cluster.
    pub(crate) fn audit(&self) -> Option<&AuditLog> {
        self.audit.as_ref()
    }

    /// What it did since the run began.
    pub(crate) fn audit_of_run(&self) -> Option<&AuditLog> {
        self.cluster.audit.as_ref()
    }

    /// The namespaces that it made.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A line in the check's log, with the time since it began.
    pub(crate) fn say(&self, text: &str) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk will show elsewhere.
        let _ = writeln!(log, "{:8.3} {}", self.began.elapsed().as_secs_f64(), text.trim_end());
    }

    /// A figure that was measured, for whoever wants to quote it: in the log, and in the check's line.
    pub(crate) fn figure(&self, text: impl Into<String>) {
        let text = text.into();
        self.say(&format!("figure: {text}"));
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.push(text);
    }

    /// All figures so far, in one line.
    pub(crate) fn figures(&self) -> String {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).join("; ")
    }

    /// A namespace for this check alone, with pods held to the `restricted` standard as in any careful cluster.
    pub(crate) async fn namespace(&self, suffix: &str) -> anyhow::Result<String> {
        let name = format!("e2e-{}-{suffix}", self.check);
        // One of the same name from an interrupted run.
        self.kubectl(&["delete", "namespace", &name, "--ignore-not-found", "--wait=true"])
            .await?;
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.clone());
        self.kubectl(&["create", "namespace", &name]).await?;
        let label = "pod-security.kubernetes.io/enforce=restricted";
        self.kubectl(&["label", "namespace", &name, label]).await?;
        Ok(name)
    }

    /// Removes what it made; nobody waits for it. Pods are not let finish what they do, which may take their whole grace:
    /// by then the next check runs.
    pub(crate) async fn clear(&self) {
        for name in self.namespaces() {
            let namespace = ["delete", "namespace", &name, "--ignore-not-found", "--wait=false"];
            let pods = [
                "-n",
                &name,
                "delete",
                "pods",
                "--all",
                "--force",
                "--grace-period=0",
                "--wait=false",
            ];
            for delete in [&namespace[..], &pods[..]] {
                if let Err(error) = self.kubectl(delete).await {
                    self.say(&format!("{error:#}"));
                }
            }
        }
    }

    /// Waits until what other checks have made is gone, with everything that was in it.
    pub(crate) async fn others_gone(&self) {
        wait_until("earlier namespaces to go", GONE_WITHIN, || async {
            let leaving = [
                "get",
                "namespaces",
                "-o",
                "jsonpath={.items[?(@.status.phase=='Terminating')].metadata.name}",
            ];
            match self.kubectl(&leaving).await {
                Ok(names) if names.is_empty() => Ok(()),
                Ok(names) => Err(names),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await;
    }

    /// Installs our CRDs as they are in the repository, once in a run.
    pub(crate) async fn crds(&self) -> anyhow::Result<()> {
        let install = || async {
            let folder = repository::root().join("crds/yaml");
            let folder = folder.to_str().context("a path that is text")?;
            self.kubectl(&["apply", "--server-side", "-f", folder]).await?;
            // Until a CRD has any condition at all, kubectl does not wait but fails.
            wait_until("the CRDs", Duration::from_secs(60), || async {
                let wait = ["wait", "--for=condition=Established", "--timeout=20s", "-f", folder];
                self.kubectl(&wait).await.map_err(|error| format!("{error:#}"))
            })
            .await;
            anyhow::Ok(())
        };
        self.cluster.crds.get_or_try_init(install).await.copied()
    }

    /// Stops, starts, freezes or thaws a part of the node.
    pub(crate) async fn part(&self, verb: &str, part: &str) -> anyhow::Result<()> {
        self.script(verb, &[part]).await
    }

    /// `e2e/cluster/cluster VERB` of our own cluster.
    pub(crate) async fn script(&self, verb: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let own = self.own()?;
        let call = format!("cluster {verb} {}", arguments.join(" "));
        self.say(&call);
        let script = repository::root().join("e2e/cluster/cluster");
        let output = Command::new(script)
            .args([verb, &own.name])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{call}: {said}");
        Ok(())
    }
}
