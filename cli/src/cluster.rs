//! A Kubernetes cluster, seen with the user's own kubeconfig and rights: nothing here can do what `kubectl` could not.
//!
//! ```text
//!  ConnectionArgs ─► Cluster ─ call (bounded) ─► API server
//!                       │           └─ refusal: one sentence about what went wrong
//!                       ├─ objects: our kinds, read leniently
//!                       ├─ leader: who leads, and whether anybody does
//!                       └─ forward: a pod's admin port, through the API server
//! ```

pub mod forward;
pub mod leader;
pub mod objects;
pub mod refusal;

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use sluice_model::Name;
use sluice_model::limits::{COMMAND_CONNECT_WAIT_MS, KUBE_ANSWER_WAIT_MS};
use tokio::time::timeout;

use crate::failure::Failure;
use refusal::Wish;

/// The namespace that the chart's documents install into.
pub const SYSTEM_NAMESPACE: &str = "sluice-system";

/// The controller's namespace: as given, as `SLUICE_NAMESPACE` says, or where the chart's documents put it. Not that of
/// the kubeconfig's context, where people work: Rollouts anywhere else govern nothing.
///
/// # Errors
/// When the variable holds no name.
pub fn controller_namespace(given: Option<&Name>) -> Result<String, Failure> {
    if let Some(given) = given {
        return Ok(given.to_string());
    }
    match std::env::var("SLUICE_NAMESPACE") {
        Ok(name) if !name.is_empty() => match name.parse::<Name>() {
            Ok(name) => Ok(name.to_string()),
            Err(error) => Err(Failure::usage(format!("SLUICE_NAMESPACE: {error}"))),
        },
        Ok(_) | Err(_) => Ok(SYSTEM_NAMESPACE.to_owned()),
    }
}

/// Which cluster, and as whom: the flags of kubectl.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct ConnectionArgs {
    /// The kubeconfig's context [default: its current one].
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig file [default: $KUBECONFIG, else ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Act as this user, if you may.
    #[arg(long = "as", value_name = "USER")]
    pub as_user: Option<String>,
    /// And as a member of this group (repeatable).
    #[arg(long = "as-group", value_name = "GROUP", requires = "as_user")]
    pub as_groups: Vec<String>,
}

impl ConnectionArgs {
    /// Whether any of them was given: then a cluster is meant.
    pub fn are_given(&self) -> bool {
        let Self {
            context,
            kubeconfig,
            as_user,
            as_groups,
        } = self;
        context.is_some() || kubeconfig.is_some() || as_user.is_some() || !as_groups.is_empty()
    }
}

/// A cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    address: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster of the kubeconfig, or of the pod that this runs in. Nobody is asked anything yet.
    ///
    /// # Errors
    /// When there is no kubeconfig, or it cannot be used.
    pub async fn connect(args: &ConnectionArgs) -> Result<Self, Failure> {
        let mut config = config(args).await?;
        config.connect_timeout = Some(Duration::from_millis(COMMAND_CONNECT_WAIT_MS));
        if let Some(user) = &args.as_user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups = (!args.as_groups.is_empty()).then(|| args.as_groups.clone());
        }
        let address = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| {
            Failure::usage(format!(
                "the kubeconfig cannot be used: {error}; does `kubectl version` work?"
            ))
        })?;
        Ok(Self { client, address })
    }

    /// For calls.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace of the kubeconfig's context.
    pub fn namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// Makes a call, within bounds; `wish` says what it is for, if it is refused.
    ///
    /// # Errors
    /// When it is refused or not answered.
    pub async fn call<T>(&self, wish: &Wish<'_>, call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        match timeout(Duration::from_millis(KUBE_ANSWER_WAIT_MS), call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if refusal::is_of_rights(&error) => {
                Err(refusal::of_rights(wish, self.user().await.as_deref()))
            }
            Ok(Err(error)) => Err(refusal::of(&error, wish, &self.address)),
            Err(_) => Err(refusal::silent(&self.address)),
        }
    }

    /// Who the API server says that we are.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn whoami(&self) -> Result<String, Failure> {
        let wish = Wish::create("selfsubjectreviews.authentication.k8s.io");
        let api: Api<SelfSubjectReview> = Api::all(self.client());
        let review = async { api.create(&PostParams::default(), &SelfSubjectReview::default()).await };
        // Not `call`: that asks this question when it is refused.
        let answer = match timeout(Duration::from_millis(KUBE_ANSWER_WAIT_MS), review).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(refusal::of(&error, &wish, &self.address)),
            Err(_) => return Err(refusal::silent(&self.address)),
        };
        let user = answer
            .status
            .and_then(|status| status.user_info)
            .and_then(|info| info.username);
        user.ok_or_else(|| Failure::failed("the API server does not say who you are, and a command needs a name"))
    }

    async fn user(&self) -> Option<String> {
        self.whoami().await.ok()
    }
}

async fn config(args: &ConnectionArgs) -> Result<Config, Failure> {
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let read = match &args.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        // In a pod there is none, and there need not be.
        Err(error) => {
            let in_pod = args.kubeconfig.is_none() && args.context.is_none();
            return match Config::incluster_env() {
                Ok(config) if in_pod => Ok(config),
                Ok(_) | Err(_) => Err(refusal::of_kubeconfig(&error)),
            };
        }
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| refusal::of_kubeconfig(&error))
}
