//! Follows a controller's story and the state of its fleets through its admin port: for `rollout watch` and for `up`.
//!
//! `up` reads its own controller through the same port that everybody else reads, so what it shows is what is served.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval};

use super::status::{self, Status};
use crate::admin::{Admin, EventLine};
use crate::failure::Failure;

/// From where on the story is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// All that the controller remembers.
    Beginning,
    /// What happens from now on.
    Now,
}

/// Something to tell.
#[derive(Clone, Debug)]
pub enum Update {
    /// Something happened.
    Line(EventLine),
    /// Where the fleets stand, for people, and as it was sent.
    Status(Vec<Status>, Value),
    /// The controller cannot be reached any more, and why. Said once; it goes on trying.
    Lost(String),
}

/// Sends updates until nobody listens.
pub async fn follow(admin: Admin, from: From, period: Duration, updates: Sender<Update>) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = match from {
        From::Beginning => Some(0),
        From::Now => None,
    };
    let mut lost = false;
    loop {
        ticks.tick().await;
        let told = match look(&admin, &mut next).await {
            Ok(told) => {
                lost = false;
                told
            }
            Err(_) if lost => continue,
            Err(failure) => {
                lost = true;
                vec![Update::Lost(failure.to_string())]
            }
        };
        for update in told {
            if updates.send(update).await.is_err() {
                return;
            }
        }
    }
}

/// What is new: lines since `next`, then the present state.
async fn look(admin: &Admin, next: &mut Option<u64>) -> Result<Vec<Update>, Failure> {
    let since = next.unwrap_or(0);
    let lines = lines(&admin.get(&format!("/api/v2/events?since={since}")).await?)?;
    // A controller that was started again counts from the beginning again.
    let tell = next.is_some();
    let last = lines.last().map(|line| line.sequence);
    *next = Some(last.map_or(since, |last| last.max(since)));
    let raw = admin.get("/api/v2/rollouts").await?;
    let state = Update::Status(status::read(&raw)?, raw);
    let lines = lines.into_iter().filter(|_| tell).map(Update::Line);
    Ok(lines.chain([state]).collect())
}

fn lines(answer: &Value) -> Result<Vec<EventLine>, Failure> {
    Vec::<EventLine>::deserialize(answer)
        .map_err(|error| Failure::failed(format!("the controller's events cannot be read: {error}")))
}
