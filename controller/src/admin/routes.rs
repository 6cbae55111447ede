//! The paths of the admin port.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use sluice_model::FleetName;
use sluice_model::limits::{ADMIN_EVENTS_WAIT_MS, REASON_CHARS_MAX};
use tokio::sync::{mpsc, oneshot};

use super::explain::{self, EXPLAIN};
use super::{Admin, Answer, Commands, error, json, with_type};
use crate::pipeline::Asked;
use crate::pipeline::commands::{self, Proof, Wish};
use crate::rollout::Verb;

const ROLLOUTS: &str = "/api/v2/rollouts/";

/// What a command says. Unknown fields are refused: a misspelt `revision` must not mean "whatever is current".
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    revision: Option<String>,
    instance: Option<String>,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    reason: String,
}

/// Answers a read.
pub async fn get(admin: &Admin, path: &str, query: &str) -> Answer {
    let board = &admin.board;
    match path {
        "/healthz" => with_type(StatusCode::OK, "text/plain", b"ok\n".to_vec()),
        "/ready" => ready(admin),
        "/metrics" => match admin.telemetry.text() {
            Ok(text) => with_type(StatusCode::OK, "text/plain; version=0.0.4", text),
            Err(wrong) => error(StatusCode::INTERNAL_SERVER_ERROR, &wrong.to_string()),
        },
        "/api/v2/rollouts" => json(StatusCode::OK, &board.rollouts()),
        "/api/v2/problems" => json(StatusCode::OK, &board.problems()),
        "/api/v2/config/current" => json(StatusCode::OK, &board.configs()),
        "/api/v2/instances" => json(StatusCode::OK, &board.instances()),
        "/api/v2/events" => events(admin, query).await,
        _ => match path.strip_prefix(ROLLOUTS).map(str::parse::<FleetName>) {
            Some(Ok(fleet)) => match board.rollout(&fleet) {
                Some(rollout) => json(StatusCode::OK, &rollout),
                None => no_fleet(admin, fleet.as_str()),
            },
            Some(Err(wrong)) => error(StatusCode::BAD_REQUEST, &wrong.to_string()),
            None => nothing(path),
        },
    }
}

fn ready(admin: &Admin) -> Answer {
    let stable = |rollout: &crate::rollout::RolloutStatus| rollout.stable_revision.is_some();
    if admin.board.rollouts().iter().any(stable) {
        return with_type(StatusCode::OK, "text/plain", b"ready\n".to_vec());
    }
    error(
        StatusCode::SERVICE_UNAVAILABLE,
        "no fleet has a revision yet; see /api/v2/problems",
    )
}

/// Lines of the story after `since`; with `wait=SECONDS`, waits for one if there is none.
async fn events(admin: &Admin, query: &str) -> Answer {
    let (mut since, mut wait_ms) = (0, 0);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match (name, value.parse::<u64>()) {
            ("since", Ok(value)) => since = value,
            ("wait", Ok(value)) => wait_ms = value.saturating_mul(1_000).min(ADMIN_EVENTS_WAIT_MS),
            ("since" | "wait", Err(_)) => return error(StatusCode::BAD_REQUEST, "since and wait are whole numbers"),
            (_, _) => {}
        }
    }
    let mut told = admin.board.told();
    let more = told.wait_for(|told| *told > since);
    let _ = tokio::time::timeout(Duration::from_millis(wait_ms), more).await; // nothing came: an empty list
    json(StatusCode::OK, &admin.board.lines_after(since))
}

/// Answers a command, or a question that is too long for an address.
pub async fn post(admin: &Admin, path: &str, body: &[u8]) -> Answer {
    let Some((fleet, verb)) = path.strip_prefix(ROLLOUTS).and_then(|rest| rest.split_once('/')) else {
        return nothing(path);
    };
    let fleet: FleetName = match fleet.parse() {
        Ok(fleet) => fleet,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, &format!("{wrong}")),
    };
    if verb == EXPLAIN {
        return explain::answer(&admin.board, &fleet, body).unwrap_or_else(|| no_fleet(admin, fleet.as_str()));
    }
    let order: Order = match serde_json::from_slice(body) {
        Ok(order) => order,
        Err(wrong) => return bad_body(verb, &wrong.to_string()),
    };
    if order.actor.trim().is_empty() {
        return error(StatusCode::BAD_REQUEST, "actor: say who asks");
    }
    let wish = match wish(verb, order.revision, order.instance) {
        Ok(Some(wish)) => wish,
        Ok(None) => return nothing(path),
        Err(wrong) => return bad_body(verb, &wrong),
    };
    let bounded = |text: String| text.chars().take(REASON_CHARS_MAX).collect();
    let (answer, answered) = oneshot::channel();
    let asked = Asked {
        fleet,
        wish,
        actor: bounded(order.actor),
        proof: Proof::Claimed,
        reason: bounded(order.reason),
        id: None,
        answer,
    };
    ask(admin, asked, answered).await
}

/// What `verb` asks for; `None` if there is no such command.
fn wish(verb: &str, revision: Option<String>, instance: Option<String>) -> Result<Option<Wish>, String> {
    if verb == commands::FORGET {
        let instance = instance.filter(|_| revision.is_none()).ok_or("say which instance")?;
        let instance = instance.parse().map_err(|wrong| format!("instance: {wrong}"))?;
        return Ok(Some(Wish::Forget(instance)));
    }
    let all = [Verb::Pause, Verb::Resume, Verb::Abort, Verb::Promote, Verb::Retry];
    let Some(verb) = all.into_iter().find(|known| known.as_str() == verb) else {
        return Ok(None);
    };
    match instance {
        Some(_) => Err("it is about a revision, not an instance".to_owned()),
        None => Ok(Some(Wish::Steer { verb, revision })),
    }
}

fn bad_body(verb: &str, wrong: &str) -> Answer {
    let shape = if verb == commands::FORGET {
        "{instance, actor, reason}"
    } else {
        "{revision?, actor, reason}"
    };
    error(StatusCode::BAD_REQUEST, &format!("the body is {shape}: {wrong}"))
}

async fn ask(admin: &Admin, asked: Asked, answered: oneshot::Receiver<commands::Answer>) -> Answer {
    let fleet = asked.fleet.clone();
    let Commands::To(commands) = &admin.commands else {
        return error(
            StatusCode::FORBIDDEN,
            "commands are given through the API server, which knows who asks: kubectl sluice rollout",
        );
    };
    match commands.try_send(asked) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => {
            return error(
                StatusCode::TOO_MANY_REQUESTS,
                "other commands are being carried out; try again",
            );
        }
        Err(mpsc::error::TrySendError::Closed(_)) => return going_down(),
    }
    match answered.await {
        Ok(commands::Answer::Done(status)) => json(StatusCode::OK, &status),
        Ok(commands::Answer::AlreadySo(mut status, why)) => {
            status.message = why;
            json(StatusCode::OK, &status)
        }
        Ok(commands::Answer::Refused(why)) => error(StatusCode::CONFLICT, &why),
        Ok(commands::Answer::NoFleet) => no_fleet(admin, fleet.as_str()),
        Err(_) => going_down(),
    }
}

fn going_down() -> Answer {
    error(StatusCode::SERVICE_UNAVAILABLE, "the controller is going down")
}

fn no_fleet(admin: &Admin, fleet: &str) -> Answer {
    let known: Vec<String> = admin
        .board
        .rollouts()
        .iter()
        .map(|rollout| rollout.fleet.to_string())
        .collect();
    error(
        StatusCode::NOT_FOUND,
        &format!("no fleet {fleet:?} here; there is: {}", known.join(", ")),
    )
}

fn nothing(path: &str) -> Answer {
    error(
        StatusCode::NOT_FOUND,
        &format!("nothing is at {path}; see /api/v2/rollouts"),
    )
}
