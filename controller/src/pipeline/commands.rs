//! What people ask for: found the revision they mean, audited, and handed to the rollout core.

use serde::Serialize;
use sluice_model::{FleetName, InstanceId, RevisionId};
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
    pub wish: Wish,
    /// Who asks, as they say.
    pub actor: String,
    /// How far that can be trusted.
    pub proof: Proof,
    /// Why; may be empty.
    pub reason: String,
    /// What the giver calls this command, if a lost answer may make it arrive again: then it is carried out once.
    pub id: Option<String>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// How far the name of whoever asks can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Proof {
    /// It says so itself. The admin port has no login; nor has an annotation that no policy looks at.
    Claimed,
    /// The API server let nobody else write that name: an admission policy holds it to the user.
    Admission,
}

/// What a person wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// To steer the rollout of a revision.
    Steer {
        /// How.
        verb: Verb,
        /// The revision that the person looked at, as shown; `None`: whatever is current.
        revision: Option<String>,
    },
    /// That an instance which never comes back is waited for no longer.
    Forget(InstanceId),
}

impl Wish {
    /// The word that people type.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Steer { verb, .. } => verb.as_str(),
            Self::Forget(_) => FORGET,
        }
    }
}

/// The word for [`Wish::Forget`].
pub const FORGET: &str = "forget";

/// What an answer begins with that changed nothing.
pub const NOTHING_TO_DO: &str = "nothing to do";

/// What became of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is so now.
    Done(Box<RolloutStatus>),
    /// It was so already, which this says in words.
    AlreadySo(Box<RolloutStatus>, String),
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
    let done = carry_out(fleet, &asked, now);
    audit.note(&Entry {
        at: super::story::written(now),
        actor: asked.actor,
        proof: asked.proof,
        action: asked.wish.as_str(),
        fleet: asked.fleet,
        revision: done.revision,
        instance: match asked.wish {
            Wish::Forget(instance) => Some(instance),
            Wish::Steer { .. } => None,
        },
        reason: asked.reason,
        result: match &done.answer {
            Answer::Done(_) => "done".to_owned(),
            Answer::AlreadySo(_, why) => why.clone(),
            Answer::Refused(why) => format!("refused: {why}"),
            Answer::NoFleet => "no such fleet".to_owned(),
        },
    });
    let _ = asked.answer.send(done.answer); // whoever asked is gone
    done.next
}

/// A command that was carried out, or refused.
struct Carried {
    /// About which revision, in words.
    revision: String,
    answer: Answer,
    next: Next,
}

fn carry_out(fleet: &mut Fleet, asked: &Asked, now: Millis) -> Carried {
    match &asked.wish {
        Wish::Steer { verb, revision } => steer(fleet, asked, *verb, revision.as_deref(), now),
        Wish::Forget(instance) => {
            let (answer, next) = match fleet.forget(instance, now) {
                Ok(next) => (Answer::Done(Box::new(fleet.status(now))), next),
                Err(why) => (Answer::Refused(why), Next::Nothing),
            };
            Carried {
                revision: String::new(),
                answer,
                next,
            }
        }
    }
}

fn steer(fleet: &mut Fleet, asked: &Asked, verb: Verb, text: Option<&str>, now: Millis) -> Carried {
    let revision = match meant(fleet.core.record(), text) {
        Ok(revision) => revision,
        Err(why) => {
            return Carried {
                revision: text.unwrap_or_default().to_owned(),
                answer: Answer::Refused(why),
                next: Next::Nothing,
            };
        }
    };
    let command = Command {
        verb,
        revision,
        actor: asked.actor.clone(),
        reason: asked.reason.clone(),
        id: asked.id.clone(),
    };
    let (answer, next) = command_fleet(fleet, command, now);
    Carried {
        revision: revision.to_string(),
        answer,
        next,
    }
}

/// Hands `command` to the rollout core. What could not be written was not done.
pub(super) fn command_fleet(fleet: &mut Fleet, command: Command, now: Millis) -> (Answer, Next) {
    fleet.last_refusal = None; // of something that nobody asked for
    fleet.was_already_so = false;
    let (verb, revision) = (command.verb, command.revision);
    let next = fleet.happen(Event::Command(command), now);
    let answer = match fleet.last_refusal.take() {
        Some(why) => Answer::Refused(why),
        None if fleet.was_already_so => {
            let why = already_so(fleet.core.record(), verb, revision);
            Answer::AlreadySo(Box::new(fleet.status(now)), format!("{NOTHING_TO_DO}: {why}"))
        }
        None => Answer::Done(Box::new(fleet.status(now))),
    };
    (answer, next)
}

/// Why a command changed nothing.
fn already_so(record: &Record, verb: Verb, revision: RevisionId) -> String {
    match verb {
        Verb::Pause => "it is paused already".to_owned(),
        Verb::Resume => "it is not paused".to_owned(),
        Verb::Abort => format!("{revision} was taken back already"),
        Verb::Promote if record.rollout.is_some() => format!("the bake of {revision} is skipped already"),
        Verb::Promote => format!("no rollout is in progress, and {revision} is stable"),
        Verb::Retry => "nothing is held or blocked".to_owned(),
    }
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
