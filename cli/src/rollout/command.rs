//! `rollout pause|resume|abort|promote|retry`: each speaks about the revision that its sender saw, and says who asks.
//! `rollout forget` speaks about an instance. Here is how they are sent to a controller on this machine.

use serde_json::{Value, json};
use sluice_controller::pipeline::commands::NOTHING_TO_DO;
use sluice_model::InstanceId;
use sluice_model::limits::REASON_CHARS_MAX;

use super::admin_port::{fetch, path_segment};
use super::place::PlaceArgs;
use super::status;
use crate::admin::Admin;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::patience::Patience;

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
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Promote => "promote",
            Self::Retry => "retry",
        }
    }
}

/// A reason no longer than the audit log keeps.
fn reason(text: &str) -> Result<String, String> {
    if text.chars().count() > REASON_CHARS_MAX {
        return Err(format!(
            "at most {REASON_CHARS_MAX} characters are kept; say it in fewer"
        ));
    }
    Ok(text.to_owned())
}

/// Who asks, as far as this machine knows.
fn actor(given: Option<&str>) -> String {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    given
        .map(str::to_owned)
        .or_else(user)
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Arguments of the commands that change something.
#[derive(Clone, Debug, clap::Args)]
pub struct Steer {
    /// The fleet; in a cluster, its Rollout. May be left out when there is one.
    pub name: Option<String>,
    /// Why, for the audit log.
    #[arg(long, default_value = "", value_parser = reason)]
    pub reason: String,
    /// The revision it is about; refused if that is no longer the present one. Without it the present one.
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Who asks, for the audit log [default: $USER; in a cluster, whom its API server knows you as].
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub patience: Patience,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub place: PlaceArgs,
}

/// Arguments of `forget`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
An instance that was away when a change was taken back may still carry it, so it stays listed until it has been heard of
again. Forget it when its machine or its state folder is gone for good. Should it come back after all, it counts as a new
one: it is sent the present order, and leaves what it carried.")]
pub struct Forget {
    /// The instance, as `rollout get` lists it.
    pub instance: InstanceId,
    /// Its fleet; in a cluster, its Rollout. May be left out when there is one.
    #[arg(long, value_name = "NAME")]
    pub fleet: Option<String>,
    /// Why, for the audit log.
    #[arg(long, default_value = "", value_parser = reason)]
    pub reason: String,
    /// Who asks, for the audit log [default: $USER; in a cluster, whom its API server knows you as].
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub patience: Patience,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub place: PlaceArgs,
}

/// Has an instance forgotten.
///
/// # Errors
/// When no controller answers, there is no such fleet or instance, or the instance is connected.
pub async fn forget(admin: &Admin, forget: &Forget) -> Result<Exit, Failure> {
    let all = status::read(&fetch(admin, None).await?)?;
    let fleet = status::choose(&all, forget.fleet.as_deref())?;
    let body = json!({"instance": forget.instance, "actor": actor(forget.actor.as_deref()), "reason": forget.reason});
    let path = format!("/api/v2/rollouts/{}/forget", path_segment(&fleet.fleet)?);
    admin.post(&path, &body).await?;
    output::print(&format!("fleet {}: forgot {}\n", fleet.fleet, forget.instance));
    Ok(Exit::Done)
}

/// Sends the command, and says what it was about.
///
/// # Errors
/// When no controller answers, there is no such fleet, or the controller refuses.
pub async fn send(admin: &Admin, verb: Verb, steer: &Steer) -> Result<Exit, Failure> {
    let all = status::read(&fetch(admin, None).await?)?;
    let fleet = status::choose(&all, steer.name.as_deref())?;
    let revision = steer.revision.clone().or_else(|| fleet.target_revision.clone());
    let body = json!({"revision": revision, "actor": actor(steer.actor.as_deref()), "reason": steer.reason});
    let path = format!("/api/v2/rollouts/{}/{}", path_segment(&fleet.fleet)?, verb.as_str());
    let answer = admin.post(&path, &body).await?;
    let about = revision.unwrap_or_default();
    let message = answer.get("message").and_then(Value::as_str).unwrap_or_default();
    let nothing = match message.starts_with(NOTHING_TO_DO) {
        true => format!(": {message}"),
        false => String::new(),
    };
    output::print(&format!("fleet {}: {} {about}{nothing}\n", fleet.fleet, verb.as_str()));
    Ok(Exit::Done)
}
