//! `sluice rollout`: see where fleets stand, follow what happens, and steer.
//!
//! ```text
//!  place ─┬─ a controller on this machine ─► admin_port, command
//!         └─ Rollouts in a cluster ────────► objects, watch, annotations
//!                                 both ─► status (one table), screen
//! ```

pub mod admin_port;
pub mod annotations;
pub mod command;
pub mod follow;
pub mod objects;
pub mod place;
pub mod screen;
pub mod status;
pub mod watch;

use serde_json::Value;

use crate::called::Called;
use crate::failure::{Exit, Failure};
use crate::output::{self, TableFormat};
use crate::waiting_runtime;
use command::{Forget, Steer, Verb};
use place::{Place, PlaceArgs};

/// Arguments of `sluice rollout`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done about rollouts.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// Where each fleet stands: stage, instances, gates, and what is held back and why.
    Get(Look),
    /// Follow what happens until interrupted.
    Watch(Look),
    /// Stop at the present stage. A failing gate still takes the change back.
    Pause(Steer),
    /// Go on after a pause.
    Resume(Steer),
    /// Take the present change back, and hold what it changed.
    Abort(Steer),
    /// Skip the rest of this stage's bake, and waiting for more data. A failing gate still takes the change back.
    Promote(Steer),
    /// Try again what was held back, blocked or frozen.
    Retry(Steer),
    /// Wait no longer for an instance that never comes back. Refused while it is connected.
    Forget(Forget),
}

/// Arguments of `get` and `watch`.
#[derive(Clone, Debug, clap::Args)]
pub struct Look {
    /// The fleet; in a cluster, its Rollout. Without it all.
    pub name: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub place: PlaceArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TableFormat::Table)]
    pub output: TableFormat,
}

/// Runs `sluice rollout …`.
///
/// # Errors
/// When no controller answers, or it refuses.
pub fn run(args: Args, called: Called) -> Result<Exit, Failure> {
    waiting_runtime()?.block_on(async {
        match args.action {
            Action::Get(look) => get(&look, called).await,
            Action::Watch(look) => watch(&look, called).await,
            Action::Pause(steer) => command(Verb::Pause, &steer, called).await,
            Action::Resume(steer) => command(Verb::Resume, &steer, called).await,
            Action::Abort(steer) => command(Verb::Abort, &steer, called).await,
            Action::Promote(steer) => command(Verb::Promote, &steer, called).await,
            Action::Retry(steer) => command(Verb::Retry, &steer, called).await,
            Action::Forget(forget) => self::forget(&forget, called).await,
        }
    })
}

async fn get(look: &Look, called: Called) -> Result<Exit, Failure> {
    match look.place.find(called).await? {
        Place::Local(admin) => admin_port::get(&admin, look, called).await,
        Place::Cluster(cluster, namespace) => objects::get(&cluster, &namespace, look, called).await,
    }
}

async fn watch(look: &Look, called: Called) -> Result<Exit, Failure> {
    match look.place.find(called).await? {
        Place::Local(admin) => admin_port::watch(admin, look, called).await,
        Place::Cluster(cluster, namespace) => watch::watch(&cluster, &namespace, look, called).await,
    }
}

async fn command(verb: Verb, steer: &Steer, called: Called) -> Result<Exit, Failure> {
    match steer.place.find(called).await? {
        Place::Local(admin) => command::send(&admin, verb, steer).await,
        Place::Cluster(cluster, namespace) => {
            nobody_else(steer.actor.as_deref())?;
            let (name, revision) = (steer.name.as_deref(), steer.revision.as_deref());
            let asked = annotations::Asked::about_revision(verb, revision, &steer.reason);
            annotations::give(&cluster, &namespace, name, &asked, steer.patience.get()).await
        }
    }
}

async fn forget(forget: &Forget, called: Called) -> Result<Exit, Failure> {
    match forget.place.find(called).await? {
        Place::Local(admin) => command::forget(&admin, forget).await,
        Place::Cluster(cluster, namespace) => {
            nobody_else(forget.actor.as_deref())?;
            let asked = annotations::Asked::to_forget(&forget.instance, &forget.reason);
            let (name, patience) = (forget.fleet.as_deref(), forget.patience.get());
            annotations::give(&cluster, &namespace, name, &asked, patience).await
        }
    }
}

/// In a cluster nobody can be claimed to be the actor.
fn nobody_else(actor: Option<&str>) -> Result<(), Failure> {
    match actor {
        None => Ok(()),
        Some(_) => Err(Failure::usage(
            "--actor is for a controller on this machine; a cluster's API server knows who you are",
        )),
    }
}

/// `answer` in the format asked for.
///
/// # Errors
/// When it is not of the expected shape.
pub fn show(answer: &Value, format: TableFormat, called: Called) -> Result<String, Failure> {
    match format {
        TableFormat::Json => output::json(answer),
        TableFormat::Yaml => output::yaml(answer),
        TableFormat::Table => Ok(status::table(&status::read(answer)?, jiff::Timestamp::now(), called)),
    }
}
