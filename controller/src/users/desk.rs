//! Commands that are given by annotation: taken from Rollouts, handed to the pipeline one by one, and answered in the status
//! and by an Event. Each is carried out once: what the status has answered is not asked again, and of what the pipeline did
//! without the answer getting out, the fleet's record knows the id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_crds::{CommandResult, CommandStatus};
use sluice_model::limits::STATUS_LOOK_MS;
use sluice_model::{FleetName, Kind, ObjectKey};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::annotations::{self, Given};
use crate::events::{Note, Occasion};
use crate::pipeline::commands::{Answer, Asked, Proof, Wish};
use crate::pipeline::story::written;
use crate::pipeline::{Clock, Situation};
use crate::status::Watched;
use crate::status::desired::sentence;
use crate::status::projection::answered;

/// Where commands are taken.
pub struct Desk {
    /// Where the Rollouts are.
    pub situation: watch::Receiver<Arc<Situation>>,
    /// What their statuses say.
    pub watched: Arc<dyn Watched>,
    /// Who carries commands out.
    pub pipeline: mpsc::Sender<Asked>,
    /// Where answers go, for statuses.
    pub answers: watch::Sender<BTreeMap<ObjectKey, CommandStatus>>,
    /// Where they go, for Events.
    pub notes: mpsc::Sender<Note>,
    /// How far names can be trusted.
    pub proof: Proof,
    /// What time it is.
    pub clock: Clock,
}

/// A command that is not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Open {
    rollout: ObjectKey,
    uid: String,
    /// The fleet that it is about; why it is about none, otherwise.
    fleet: Result<FleetName, String>,
    given: Given,
}

impl Desk {
    /// Takes commands until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let situation = self.situation.borrow_and_update().clone();
            let known = self.answers.borrow().clone();
            for open in open(&situation, &*self.watched, &known) {
                let answer = tokio::select! {
                    () = stop.cancelled() => return,
                    answer = self.ask(&open) => answer,
                };
                // Without an answer the pipeline has ended; whoever leads next is asked.
                let Some(answer) = answer else { return };
                self.tell(&open, answer);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.situation.changed() => if changed.is_err() { return },
            }
            tokio::time::sleep(Duration::from_millis(STATUS_LOOK_MS)).await;
        }
    }

    async fn ask(&self, open: &Open) -> Option<Result<String, String>> {
        let (fleet, wish) = match (&open.fleet, &open.given.wish) {
            (Err(why), _) | (_, Err(why)) => return Some(Err(why.clone())),
            (Ok(fleet), Ok(wish)) => (fleet.clone(), wish.clone()),
        };
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            fleet,
            wish,
            actor: self.actor(&open.given),
            proof: self.proof,
            reason: open.given.reason.clone(),
            // A Rollout that is made anew is another, whatever its commands are called.
            id: Some(format!("{} {}", open.uid, open.given.id)),
            answer,
        };
        self.pipeline.send(asked).await.ok()?;
        Some(match answered.await.ok()? {
            Answer::Done(status) if status.message.is_empty() => Ok(format!("it is {:?} now", status.phase)),
            Answer::Done(status) => Ok(format!("it is {:?} now: {}", status.phase, status.message)),
            Answer::AlreadySo(_, why) => Ok(why),
            Answer::Refused(why) => Err(why),
            Answer::NoFleet => Err("its fleet has not begun; wait for its first revision".to_owned()),
        })
    }

    /// Who, with what that is worth.
    fn actor(&self, given: &Given) -> String {
        match self.proof {
            Proof::Admission => given.by.clone(),
            Proof::Claimed => format!("{} (not proven)", given.by),
        }
    }

    fn tell(&self, open: &Open, answer: Result<String, String>) {
        let Open {
            rollout, uid, given, ..
        } = open;
        let by = self.actor(given);
        let note = match (&answer, &given.wish) {
            (Err(why), _) => {
                let text = format!("{} {} by {by} refused: {why}", given.verb, given.revision);
                Some(Note::new(rollout, uid, Occasion::CommandRefused, &text).about(&given.id))
            }
            (Ok(_), Ok(Wish::Forget(instance))) => {
                let text = format!("{instance} is not waited for any more, by {by}");
                Some(Note::new(rollout, uid, Occasion::Forgotten, &text).about(instance))
            }
            // The pipeline's own story tells the others.
            (Ok(_), Ok(Wish::Steer { .. }) | Err(_)) => None,
        };
        if let Some(note) = note {
            let _ = self.notes.try_send(note); // too much to tell: the status says it
        }
        let (result, message) = match answer {
            Ok(message) => (CommandResult::Done, message),
            Err(why) => (CommandResult::Refused, why),
        };
        tracing::info!(%rollout, verb = given.verb, by, ?result, message, "answered a command");
        let status = CommandStatus {
            id: given.id.clone(),
            verb: given.verb.clone(),
            revision: given.revision.clone(),
            by: given.by.clone(),
            result,
            message: sentence(&message),
            at: written((self.clock)()),
        };
        self.answers
            .send_modify(|answers| drop(answers.insert(rollout.clone(), status)));
    }
}

/// The commands that nobody has answered, of Rollouts of which it is known whether they govern.
fn open(situation: &Situation, watched: &dyn Watched, known: &BTreeMap<ObjectKey, CommandStatus>) -> Vec<Open> {
    let items = situation.written.iter().flat_map(|written| &written.translation.items);
    let rollouts = items.filter(|(key, _)| key.kind == Kind::Rollout);
    let open = rollouts.filter_map(|(key, item)| {
        let given = annotations::given(&item.object.annotations)?;
        let stored = item.object.stored.as_ref()?;
        let object = watched
            .object(key)
            .filter(|object| object.metadata.uid.as_deref() == Some(&*stored.uid))?;
        let is_answered = |status: &CommandStatus| status.id == given.id;
        if known.get(key).is_some_and(is_answered) || answered(&object).as_ref().is_some_and(is_answered) {
            return None;
        }
        Some(Open {
            rollout: key.clone(),
            uid: stored.uid.to_string(),
            fleet: governed(situation, key)?,
            given,
        })
    });
    open.collect()
}

/// The fleet that a Rollout governs, or why it governs none; `None` while that is not known.
fn governed(situation: &Situation, key: &ObjectKey) -> Option<Result<FleetName, String>> {
    let by = |fleet: &FleetName| situation.fleets.get(fleet)?.served.chosen.rollout();
    if let Some(fleet) = situation.fleets.keys().find(|fleet| by(fleet) == Some(key)) {
        return Some(Ok(fleet.clone()));
    }
    let written = situation.written.as_ref()?;
    let item = written.translation.items.get(key)?;
    let other = item.meaning.as_ref().and_then(|meaning| by(meaning.fleet()?));
    let is_wrong = written
        .problems
        .iter()
        .any(|problem| problem.is_error() && problem.object.as_ref() == Some(key));
    match other {
        Some(other) => Some(Err(format!(
            "this Rollout governs no fleet; {other} does: command that one"
        ))),
        None => {
            is_wrong.then(|| Err("this Rollout governs no fleet; its status says what is wrong with it".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
