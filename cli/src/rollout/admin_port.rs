//! `rollout get` and `watch` of a controller on this machine, by its admin port.

use std::time::Duration;

use serde_json::Value;

use super::follow::{self, Update};
use super::screen::Screen;
use super::{Look, show, status};
use crate::admin::Admin;
use crate::called::Called;
use crate::failure::{Exit, Failure};
use crate::output::{self, TableFormat};

/// Shows where its fleets stand.
///
/// # Errors
/// When no controller answers, or there is no such fleet.
pub async fn get(admin: &Admin, look: &Look, called: Called) -> Result<Exit, Failure> {
    let answer = fetch(admin, look.name.as_deref()).await?;
    output::print(&show(&answer, look.output, called)?);
    Ok(Exit::Done)
}

/// The statuses of all fleets, or the status of one.
///
/// # Errors
/// When no controller answers, or there is no such fleet.
pub async fn fetch(admin: &Admin, fleet: Option<&str>) -> Result<Value, Failure> {
    match fleet {
        Some(fleet) => admin.get(&format!("/api/v2/rollouts/{}", path_segment(fleet)?)).await,
        None => admin.get("/api/v2/rollouts").await,
    }
}

/// A fleet's name is safe in a path; anything else is not sent.
///
/// # Errors
/// When it is no fleet's name.
pub fn path_segment(fleet: &str) -> Result<&str, Failure> {
    fleet
        .parse::<sluice_model::FleetName>()
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(fleet)
}

/// Follows what happens until interrupted.
///
/// # Errors
/// When nobody answers the first question; later ones wait for the controller to come back.
pub async fn watch(admin: Admin, look: &Look, called: Called) -> Result<Exit, Failure> {
    let first = fetch(&admin, look.name.as_deref()).await?;
    let (sender, mut updates) = tokio::sync::mpsc::channel(64);
    let screen = match look.output {
        TableFormat::Table => {
            output::print(&show(&first, look.output, called)?);
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
    let of_fleet = |name: &str| look.name.as_deref().is_none_or(|fleet| fleet == name);
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
                let name = look.name.as_deref();
                let one = name.and_then(|fleet| status::raw_of(&raw, fleet)).unwrap_or(&raw);
                output::print(&output::document(one, look.output)?);
                shown = Some(raw);
            }
            (_, Update::Line(_) | Update::Status(..) | Update::Lost(_)) => {}
        }
    }
    screen.clear();
    Ok(Exit::Done)
}
