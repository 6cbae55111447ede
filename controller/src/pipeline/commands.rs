//! What people ask for: found the revision they mean, audited, and handed to the rollout core.

use sluice_model::{FleetName, RevisionId};
use tokio::sync::oneshot;

use super::fleet::{Fleet, Next};
use crate::audit::{Audit, Entry};
use crate::rollout::{Command, Event, Millis, Record, RolloutStatus, Verb};

/// A command of a person, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// About which fleet.
    pub fleet: FleetName,
    /// What.
    pub verb: Verb,
    /// The revision that the person looked at, as shown; `None`: whatever is current.
    pub revision: Option<String>,
    /// Who asks, as claimed: the admin port is the machine's own.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// What became of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is so now.
    Done(Box<RolloutStatus>),
    /// Nothing changed; this says why and what to do.
    Refused(String),
    /// There is no such fleet.
    NoFleet,
}

/// Carries out a command, notes it in the audit log, and answers.
pub fn answer(asked: Asked, fleet: Option<&mut Fleet>, audit: &mut Audit, now: Millis) -> Next {
    let Some(fleet) = fleet else {
        let _ = asked.answer.send(Answer::NoFleet); // whoever asked is gone
        return Next::Nothing;
    };
    let (meant, answer, next) = match meant(fleet.core.record(), asked.revision.as_deref()) {
        Ok(revision) => {
            let command = Command {
                verb: asked.verb,
                revision,
                actor: asked.actor.clone(),
                reason: asked.reason.clone(),
            };
            let (answer, next) = command_fleet(fleet, command, now);
            (revision.to_string(), answer, next)
        }
        Err(why) => (asked.revision.unwrap_or_default(), Answer::Refused(why), Next::Nothing),
    };
    audit.note(&Entry {
        at: super::story::written(now),
        actor: asked.actor,
        action: asked.verb.as_str(),
        fleet: asked.fleet,
        revision: meant,
        reason: asked.reason,
        result: match &answer {
            Answer::Done(_) => "done".to_owned(),
            Answer::Refused(why) => format!("refused: {why}"),
            Answer::NoFleet => "no such fleet".to_owned(),
        },
    });
    let _ = asked.answer.send(answer); // whoever asked is gone
    next
}

fn command_fleet(fleet: &mut Fleet, command: Command, now: Millis) -> (Answer, Next) {
    let next = fleet.happen(Event::Command(command), now);
    let answer = match fleet.last_refusal.take() {
        Some(why) => Answer::Refused(why),
        None => Answer::Done(Box::new(fleet.status(now))),
    };
    (answer, next)
}

/// The revision that `text` names among those that a command can be about: `42-c01d9a3f`, or its number.
fn meant(record: &Record, text: Option<&str>) -> Result<RevisionId, String> {
    let current = record
        .current()
        .ok_or("the fleet has no revision yet; wait for its first")?;
    let Some(text) = text else { return Ok(current) };
    let tried = record.rollout.iter().map(|rollout| rollout.target.revision);
    let restoring = record.restoring.iter().map(|restoring| restoring.revision);
    let queued = record.queued.iter().map(|target| target.revision);
    let held = record.held.iter().map(|held| held.revision);
    let blocked = record.blocked.iter().map(|blocked| blocked.revision);
    let past = record.history.iter().map(|past| past.revision);
    let stable = record.stable.into_iter();
    let mut all = tried
        .chain(restoring)
        .chain(queued)
        .chain(stable)
        .chain(held)
        .chain(blocked)
        .chain(past);
    let is_meant = |revision: &RevisionId| revision.to_string() == text || revision.number.to_string() == text;
    all.find(is_meant)
        .ok_or_else(|| format!("no revision {text} is known; the current one is {current}"))
}
