//! Events (`events.k8s.io/v1`): what users see happen to their objects. A task of its own beside the status writer; only
//! the leader runs it.
//!
//! ```text
//!  story, turned objects, commands ─► news ─► Note ─► series (how often, how many) ─► API server
//! ```

pub mod news;
pub mod note;
pub mod series;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sluice_crds::API_VERSION;
use sluice_model::limits::{EVENTS_WAITING, STATUS_LOOK_MS, STATUS_WRITE_WAIT_MS};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pipeline::{Board, Clock, Situation, StoryLine};
use crate::rollout::Millis;
use crate::status::FIELD_MANAGER;
use crate::status::turn::Turned;
use news::Told;
pub use note::{Note, Occasion};
use series::{Ended, EventWrite, Moment, Series};

/// Who reports.
pub const REPORTING_CONTROLLER: &str = "sluice.dev/controller";
/// How long a line waits for the Rollout that it is about: the first of a fleet is told before anything is shown of it.
const LINE_WAIT: Duration = Duration::from_secs(30);

/// What Events are made of, and where they go.
pub struct Recorder {
    /// Where they go.
    pub client: Client,
    /// Whose story is told.
    pub board: Arc<Board>,
    /// What became of objects.
    pub turned: mpsc::Receiver<Turned>,
    /// What else there is to tell.
    pub notes: mpsc::Receiver<Note>,
    /// The pod's name.
    pub instance: String,
    /// What time it is.
    pub clock: Clock,
}

impl Recorder {
    /// Tells what happens from now on, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let began = Instant::now();
        let steady = || Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let (mut told, mut situation) = (self.board.told(), self.board.situation());
        let mut last = *told.borrow_and_update();
        let mut waiting: VecDeque<(StoryLine, Instant)> = VecDeque::new();
        let (mut asked, mut warned) = (Vec::new(), Vec::new());
        let mut series = Series::new(steady());
        let mut complained = false;
        loop {
            for line in self.board.lines_after(last) {
                last = line.sequence;
                waiting.push_back((line, Instant::now()));
            }
            let mut notes = self.heard(&mut waiting, &mut situation);
            self.consent(&mut asked, &mut notes, &situation);
            warn(&mut warned, &mut notes, &situation.borrow());
            let now = Moment {
                steady: steady(),
                wall: (self.clock)(),
            };
            notes.into_iter().for_each(|note| series.note(note, now));
            while let Some(write) = series.due(steady()) {
                let ended = tokio::select! {
                    () = stop.cancelled() => return,
                    ended = self.send(&write, &mut complained) => ended,
                };
                series.ended(&write, ended);
            }
            let next = series.next_at(steady());
            let pause = next.map_or(1_000, |next| next.since(steady()).clamp(STATUS_LOOK_MS, 1_000));
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = told.changed() => {}
                Some(turned) = self.turned.recv() => series.note(news::of_turn(&turned), self.moment(steady())),
                Some(note) = self.notes.recv() => series.note(note, self.moment(steady())),
                () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            }
        }
    }

    fn moment(&self, steady: Millis) -> Moment {
        Moment {
            steady,
            wall: (self.clock)(),
        }
    }

    /// What the lines of the story come to. Those about a fleet whose Rollout is not known yet wait for it, in order.
    fn heard(
        &self,
        waiting: &mut VecDeque<(StoryLine, Instant)>,
        situation: &mut watch::Receiver<Arc<Situation>>,
    ) -> Vec<Note> {
        let situation = situation.borrow_and_update().clone();
        let mut notes = Vec::new();
        waiting.retain(|(line, since)| match news::of_line(line, &situation) {
            Told::Notes(more) => {
                notes.extend(more);
                false
            }
            Told::NotYet => since.elapsed() < LINE_WAIT,
        });
        while waiting.len() > EVENTS_WAITING {
            waiting.pop_front();
        }
        notes
    }

    /// Adds what awaits consent, if it did not before.
    fn consent(&self, asked: &mut Vec<Note>, notes: &mut Vec<Note>, situation: &watch::Receiver<Arc<Situation>>) {
        let now = news::of_consent(&situation.borrow());
        notes.extend(now.iter().filter(|note| !asked.contains(note)).cloned());
        *asked = now;
    }

    async fn send(&self, write: &EventWrite, complained: &mut bool) -> Ended {
        let wait = Duration::from_millis(STATUS_WRITE_WAIT_MS);
        let sent = tokio::time::timeout(wait, self.write(write)).await;
        let error = match sent {
            Ok(Ok(name)) => {
                *complained = false;
                return Ended::Written(name);
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let code = match &error {
            Some(kube::Error::Api(refused)) => refused.code,
            Some(_) | None => 0,
        };
        let ended = match code {
            404 if write.name.is_some() => Ended::Gone,
            400..=403 | 404 | 409 | 422 => Ended::Never,
            _ => Ended::Later,
        };
        let why = error.map_or_else(|| "no answer in time".to_owned(), |error| error.to_string());
        if !std::mem::replace(complained, true) {
            tracing::warn!(object = %write.note.object, %why, "an Event could not be written");
        } else {
            tracing::debug!(object = %write.note.object, %why, "an Event could not be written");
        }
        ended
    }

    /// Makes an Event, or adds to one that is there. Gives its name.
    async fn write(&self, write: &EventWrite) -> Result<String, kube::Error> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), write.note.object.namespace.as_str());
        match &write.name {
            None => {
                let event = self.event(write);
                let params = PostParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PostParams::default()
                };
                let made = events.create(&params, &event).await?;
                Ok(made.metadata.name.unwrap_or_default())
            }
            Some(name) => {
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                let series = json!({"series": series(write)});
                events.patch(name, &params, &Patch::Merge(series)).await?;
                Ok(name.clone())
            }
        }
    }

    fn event(&self, write: &EventWrite) -> Event {
        let Note {
            object,
            uid,
            occasion,
            subject,
            text,
        } = &write.note;
        let unique = Sha256::digest(format!(
            "{uid} {occasion:?} {subject} {text} {} {}",
            write.first.0, self.instance
        ));
        let unique: String = unique.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Event {
            metadata: ObjectMeta {
                name: Some(series::name(object, &unique)),
                namespace: Some(object.namespace.to_string()),
                ..ObjectMeta::default()
            },
            action: Some(occasion.as_str().to_owned()),
            event_time: micro(write.first),
            note: Some(text.clone()),
            reason: Some(occasion.as_str().to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(API_VERSION.to_owned()),
                kind: Some(object.kind.to_string()),
                namespace: Some(object.namespace.to_string()),
                name: Some(object.name.to_string()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.chars().take(128).collect()),
            series: (write.count > 1).then(|| series(write)),
            type_: Some(occasion.type_().to_owned()),
            ..Event::default()
        }
    }
}

/// Adds what Rollouts are warned of, if they were not before, and what is over.
fn warn(warned: &mut Vec<Note>, notes: &mut Vec<Note>, situation: &Situation) {
    let Some(written) = &situation.written else {
        return; // a pipeline begins: nothing is known, and nothing is over
    };
    let now = news::of_warnings(situation);
    notes.extend(now.iter().filter(|note| !warned.contains(note)).cloned());
    let about = |one: &Note, other: &Note| {
        (&one.uid, one.occasion, &one.subject) == (&other.uid, other.occasion, &other.subject)
    };
    let is_over = |before: &&Note| {
        written.translation.items.contains_key(&before.object) && !now.iter().any(|note| about(before, note))
    };
    let over = warned.iter().filter(is_over);
    notes.extend(over.map(news::over));
    *warned = now;
}

fn series(write: &EventWrite) -> EventSeries {
    EventSeries {
        count: i32::try_from(write.count).unwrap_or(i32::MAX),
        last_observed_time: micro(write.last).unwrap_or(MicroTime(Timestamp::UNIX_EPOCH)),
    }
}

fn micro(at: Millis) -> Option<MicroTime> {
    let millis = i64::try_from(at.0).ok()?;
    Timestamp::from_millisecond(millis).ok().map(MicroTime)
}

#[cfg(test)]
mod tests;
