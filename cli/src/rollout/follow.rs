//! Follows a controller's story and the state of its fleets through its admin port: for `rollout watch` and for `up`.
//!
//! `up` reads its own controller through the same port that everybody else reads, so what it shows is what is served.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::status::{self, Status};
use crate::admin::{Admin, EventLine};
use crate::failure::Failure;

/// Between two questions to a controller that does not answer.
const RETRY_EVERY: Duration = Duration::from_millis(500);

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

/// Sends updates until nobody listens; looks at the fleets' state every `period`.
pub async fn follow(admin: Admin, from: From, period: Duration, updates: Sender<Update>) {
    tokio::join!(tell(admin.clone(), from, updates.clone()), look(admin, period, updates));
}

/// Where in the story we are.
#[derive(Clone, Debug)]
struct Bookmark {
    /// The last line that was read.
    sequence: u64,
    /// Lines of this moment and before are known.
    at: Timestamp,
}

impl Bookmark {
    fn at(from: From) -> Self {
        let at = match from {
            From::Beginning => Timestamp::MIN,
            From::Now => Timestamp::now(),
        };
        Self { sequence: 0, at }
    }

    /// The lines among `lines` that are new; afterwards they are known.
    fn new_of(&mut self, lines: Vec<EventLine>) -> Vec<EventLine> {
        let known = self.at;
        let mut new = Vec::new();
        for line in lines {
            let at = line.at.parse::<Timestamp>().unwrap_or(known);
            // A controller that was started again counts from 1: then the time decides, else the number does.
            let is_new = if self.sequence == 0 {
                at > known
            } else {
                line.sequence > self.sequence
            };
            self.at = self.at.max(at);
            if is_new {
                new.push(line);
            }
        }
        new
    }
}

/// Tells the story line by line. The controller answers a question when there is something new.
async fn tell(admin: Admin, from: From, updates: Sender<Update>) {
    let mut bookmark = Bookmark::at(from);
    loop {
        let path = format!("/api/v2/events?since={}&wait=20", bookmark.sequence);
        let answer = tokio::select! {
            answer = admin.get(&path) => answer,
            () = updates.closed() => return,
        };
        let Ok(lines) = answer.and_then(|answer| lines(&answer)) else {
            // Whether it is lost is said by whoever looks at the state.
            bookmark.sequence = 0;
            sleep(RETRY_EVERY).await;
            continue;
        };
        let last = lines.iter().map(|line| line.sequence).max();
        for line in bookmark.new_of(lines) {
            if updates.send(Update::Line(line)).await.is_err() {
                return;
            }
        }
        bookmark.sequence = last.unwrap_or(bookmark.sequence);
    }
}

/// Shows where the fleets stand; says once when the controller is gone.
async fn look(admin: Admin, period: Duration, updates: Sender<Update>) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost = false;
    loop {
        ticks.tick().await;
        let state = admin
            .get("/api/v2/rollouts")
            .await
            .and_then(|raw| Ok(Update::Status(status::read(&raw)?, raw)));
        let update = match state {
            Ok(state) => {
                lost = false;
                state
            }
            Err(_) if lost => continue,
            Err(failure) => {
                lost = true;
                Update::Lost(failure.to_string())
            }
        };
        if updates.send(update).await.is_err() {
            return;
        }
    }
}

fn lines(answer: &Value) -> Result<Vec<EventLine>, Failure> {
    Vec::<EventLine>::deserialize(answer)
        .map_err(|error| Failure::failed(format!("the controller's events cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sequence: u64, second: u64) -> EventLine {
        let at = format!("2026-11-23T10:00:{second:02}Z");
        EventLine {
            sequence,
            at,
            fleet: None,
            text: format!("line {sequence}"),
        }
    }

    #[test]
    fn a_controller_that_starts_again_is_not_heard_twice() {
        let mut bookmark = Bookmark {
            sequence: 0,
            at: "2026-11-23T10:00:05Z".parse().unwrap(),
        };
        let new = bookmark.new_of(vec![line(1, 4), line(2, 6)]);
        assert_eq!(new, vec![line(2, 6)], "what was before is known");
        bookmark.sequence = 2;
        assert_eq!(
            bookmark.new_of(vec![line(2, 6), line(3, 6)]),
            vec![line(3, 6)],
            "the number decides"
        );
        bookmark.sequence = 0;
        assert_eq!(bookmark.new_of(vec![line(1, 9)]), vec![line(1, 9)], "a new count");
    }
}
