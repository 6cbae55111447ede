//! `sluice rollout`: see where fleets stand, follow what happens, and steer.

pub mod command;
pub mod follow;
pub mod screen;
pub mod status;

use std::time::Duration;

use serde_json::Value;

use crate::admin::{Admin, AdminArgs};
use crate::failure::{Exit, Failure};
use crate::output::{self, TableFormat};
use crate::waiting_runtime;
use command::{Forget, Steer, Verb};
use follow::Update;
use screen::Screen;

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
    /// The fleet; without it all.
    pub fleet: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub admin: AdminArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TableFormat::Table)]
    pub output: TableFormat,
}

/// Runs `sluice rollout …`.
///
/// # Errors
/// When no controller answers, or it refuses.
pub fn run(args: Args) -> Result<Exit, Failure> {
    waiting_runtime()?.block_on(async {
        match args.action {
            Action::Get(look) => get(&look).await,
            Action::Watch(look) => watch(&look).await,
            Action::Pause(steer) => command::send(Verb::Pause, &steer).await,
            Action::Resume(steer) => command::send(Verb::Resume, &steer).await,
            Action::Abort(steer) => command::send(Verb::Abort, &steer).await,
            Action::Promote(steer) => command::send(Verb::Promote, &steer).await,
            Action::Retry(steer) => command::send(Verb::Retry, &steer).await,
            Action::Forget(forget) => command::forget(&forget).await,
        }
    })
}

async fn get(look: &Look) -> Result<Exit, Failure> {
    let admin = Admin::at(&look.admin.admin)?;
    let answer = fetch(&admin, look.fleet.as_deref()).await?;
    output::print(&show(&answer, look.output)?);
    Ok(Exit::Done)
}

/// The statuses of all fleets, or the status of one.
async fn fetch(admin: &Admin, fleet: Option<&str>) -> Result<Value, Failure> {
    match fleet {
        Some(fleet) => admin.get(&format!("/api/v2/rollouts/{}", path_segment(fleet)?)).await,
        None => admin.get("/api/v2/rollouts").await,
    }
}

/// A fleet's name is safe in a path; anything else is not sent.
fn path_segment(fleet: &str) -> Result<&str, Failure> {
    fleet
        .parse::<sluice_model::FleetName>()
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(fleet)
}

/// `answer` in the format asked for.
///
/// # Errors
/// When it is not of the expected shape.
pub fn show(answer: &Value, format: TableFormat) -> Result<String, Failure> {
    match format {
        TableFormat::Json => output::json(answer),
        TableFormat::Yaml => output::yaml(answer),
        TableFormat::Table => Ok(status::table(&status::read(answer)?, jiff::Timestamp::now())),
    }
}

async fn watch(look: &Look) -> Result<Exit, Failure> {
    let admin = Admin::at(&look.admin.admin)?;
    // The first look fails at once where nobody is; later ones wait for the controller to come back.
    let first = fetch(&admin, look.fleet.as_deref()).await?;
    let (sender, mut updates) = tokio::sync::mpsc::channel(64);
    let screen = match look.output {
        TableFormat::Table => {
            output::print(&show(&first, look.output)?);
            Screen::fitting()
        }
        TableFormat::Json | TableFormat::Yaml => Screen::plain(),
    };
    tokio::spawn(follow::follow(
        admin,
        follow::From::Now,
        Duration::from_millis(500),
        sender,
    ));
    let of_fleet = |name: &str| look.fleet.as_deref().is_none_or(|fleet| fleet == name);
    let mut shown = None;
    loop {
        let update = tokio::select! {
            update = updates.recv() => update,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(update) = update else { break };
        match (look.output, update) {
            (TableFormat::Table, Update::Line(line)) if line.fleet.as_deref().is_none_or(of_fleet) => {
                screen.say(&line.text);
            }
            (TableFormat::Table, Update::Status(mut all, _)) => {
                all.retain(|status| of_fleet(&status.fleet));
                screen.show(&all);
            }
            (TableFormat::Table, Update::Lost(why)) => screen.say(&why),
            (TableFormat::Json | TableFormat::Yaml, Update::Status(_, raw)) if shown.as_ref() != Some(&raw) => {
                output::print(&document(&raw, look)?);
                shown = Some(raw);
            }
            (_, Update::Line(_) | Update::Status(..) | Update::Lost(_)) => {}
        }
    }
    screen.clear();
    Ok(Exit::Done)
}

/// One state of the fleets as one document of a stream: a line of JSON, or YAML after `---`.
fn document(raw: &Value, look: &Look) -> Result<String, Failure> {
    let one = look
        .fleet
        .as_deref()
        .and_then(|fleet| status::raw_of(raw, fleet))
        .unwrap_or(raw);
    match look.output {
        TableFormat::Yaml => Ok(format!("---\n{}", output::yaml(one)?)),
        TableFormat::Json | TableFormat::Table => Ok(format!("{one}\n")),
    }
}
