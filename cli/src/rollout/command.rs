//! `rollout pause|resume|abort|promote|retry`: each speaks about the revision that its sender saw, and says who asks.

use serde_json::json;

use super::{fetch, path_segment, status};
use crate::admin::{Admin, AdminArgs};
use crate::failure::{Exit, Failure};
use crate::output;

/// What is asked of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Stop at the present stage.
    Pause,
    /// Go on.
    Resume,
    /// Take the change back.
    Abort,
    /// Skip the rest of the bake.
    Promote,
    /// Try again.
    Retry,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Promote => "promote",
            Self::Retry => "retry",
        }
    }
}

/// Arguments of the commands that change something.
#[derive(Clone, Debug, clap::Args)]
pub struct Steer {
    /// The fleet; may be left out when there is one.
    pub fleet: Option<String>,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// The revision it is about; refused if that is no longer the present one. Without it the present one.
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Who asks, for the audit log.
    #[arg(long, env = "USER", default_value = "unknown")]
    pub actor: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub admin: AdminArgs,
}

/// Sends the command, and says what it was about.
///
/// # Errors
/// When no controller answers, there is no such fleet, or the controller refuses.
pub async fn send(verb: Verb, steer: &Steer) -> Result<Exit, Failure> {
    let admin = Admin::at(&steer.admin.admin)?;
    let all = status::read(&fetch(&admin, None).await?)?;
    let fleet = status::choose(&all, steer.fleet.as_deref())?;
    let revision = steer.revision.clone().or_else(|| fleet.target_revision.clone());
    let body = json!({"revision": revision, "actor": steer.actor, "reason": steer.reason});
    let path = format!("/api/v2/rollouts/{}/{}", path_segment(&fleet.fleet)?, verb.as_str());
    admin.post(&path, &body).await?;
    let about = revision.unwrap_or_default();
    output::print(&format!("fleet {}: {} {about}\n", fleet.fleet, verb.as_str()));
    Ok(Exit::Done)
}
