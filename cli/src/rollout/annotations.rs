//! Commands to a Rollout in a cluster: annotations on the object, which the controller answers in its status.
//!
//! The user writes them with their own rights, and in their own name as the API server knows it, which the chart's
//! admission policy demands. Nothing is taken away again: a command whose id is answered is not carried out twice.

use std::time::Duration;

use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use sluice_controller::pipeline::commands::{FORGET, NOTHING_TO_DO};
use sluice_controller::users::annotations::{BY, COMMAND, ID, INSTANCE, REASON, REVISION};
use sluice_model::InstanceId;
use sluice_model::limits::COMMAND_ANSWER_LOOK_MS;
use tokio::time::{Instant, sleep};

use super::command::Verb;
use super::objects::{self, name_of};
use crate::cluster::Cluster;
use crate::cluster::objects::{Kind, text};
use crate::cluster::refusal::Wish;
use crate::failure::{Exit, Failure};
use crate::output;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    verb: &'static str,
    revision: Option<&'a str>,
    instance: Option<&'a InstanceId>,
    reason: &'a str,
}

impl<'a> Asked<'a> {
    /// To steer the rollout of a revision; without one, of what its giver is shown.
    pub fn about_revision(verb: Verb, revision: Option<&'a str>, reason: &'a str) -> Self {
        Self {
            verb: verb.as_str(),
            revision,
            instance: None,
            reason,
        }
    }

    /// To wait no longer for an instance.
    pub fn to_forget(instance: &'a InstanceId, reason: &'a str) -> Self {
        Self {
            verb: FORGET,
            revision: None,
            instance: Some(instance),
            reason,
        }
    }

    /// The change to the object.
    fn patch(&self, revision: &str, by: &str, id: &str) -> Value {
        // What is null is taken away: a reason of an earlier command is none of this one.
        let reason = Some(self.reason).filter(|reason| !reason.is_empty());
        json!({"metadata": {"annotations": {
            COMMAND: self.verb,
            REVISION: revision,
            INSTANCE: self.instance,
            BY: by,
            REASON: reason,
            ID: id,
        }}})
    }

    /// `pause 42-c01d9a3f`, `forget edge-7.0a1b2c3d`.
    fn told(&self, revision: &str) -> String {
        let about = self.instance.map(ToString::to_string);
        format!("{} {}", self.verb, about.as_deref().unwrap_or(revision))
    }
}

/// Where a command stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Not answered yet.
    Waiting,
    /// Carried out.
    Done(String),
    /// Not carried out, and why.
    Refused(String),
    /// Overwritten by another's before there was an answer.
    Replaced(String),
}

/// What `object` says about the command with this id.
pub fn answer(object: &DynamicObject, id: &str) -> Answer {
    if text(object, "/status/command/id") == id {
        let message = text(object, "/status/command/message").to_owned();
        return match text(object, "/status/command/result") {
            "Done" => Answer::Done(message),
            _ => Answer::Refused(message),
        };
    }
    let annotation = |name: &str| -> String {
        let annotations = object.metadata.annotations.as_ref();
        let found = annotations.and_then(|annotations| annotations.get(name));
        found.cloned().unwrap_or_default()
    };
    if annotation(ID) == id {
        Answer::Waiting
    } else {
        Answer::Replaced(annotation(BY))
    }
}

/// Gives a command to the Rollout of this name, or to the only one, and waits for its answer.
///
/// # Errors
/// When it cannot be given, is refused, or is not answered.
pub async fn give(
    cluster: &Cluster,
    namespace: &str,
    name: Option<&str>,
    asked: &Asked<'_>,
    patience: Duration,
) -> Result<Exit, Failure> {
    let rollout = objects::choose(cluster, namespace, name).await?;
    let name = name_of(&rollout);
    let shown = Some(text(&rollout, "/status/targetRevision")).filter(|revision| !revision.is_empty());
    let revision = asked.revision.or(shown).ok_or_else(|| {
        Failure::failed(format!(
            "Rollout {namespace}/{name} has no revision yet that a command could be about; `rollout get` says what it waits for"
        ))
    })?;
    let (by, id) = (cluster.whoami().await?, fresh_id()?);
    let api = Kind::Rollout.api(cluster.client(), Some(namespace));
    let params = PatchParams {
        field_manager: Some("kubectl-sluice".to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(asked.patch(revision, &by, &id));
    let wish = Wish::get(Kind::Rollout.resource(), namespace, name).to("patch");
    cluster.call(&wish, api.patch(name, &params, &patch)).await?;
    let told = asked.told(revision);
    match wait(cluster, namespace, name, (&id, patience)).await? {
        Answer::Done(message) => {
            output::print(&format!("Rollout {namespace}/{name}: {told}: {}\n", done(&message)));
            Ok(Exit::Done)
        }
        Answer::Refused(why) => Err(Failure::failed(format!(
            "Rollout {namespace}/{name}: {told}: refused: {why}"
        ))),
        Answer::Replaced(by) => Err(Failure::failed(format!(
            "Rollout {namespace}/{name}: {told}: {} gave another command before this one was answered; `rollout get` says \
             where it stands",
            if by.is_empty() { "somebody" } else { &by }
        ))),
        Answer::Waiting => Err(Failure::failed(format!(
            "Rollout {namespace}/{name}: {told}: no answer within {}: is a controller running? `kubectl -n {namespace} get \
             lease sluice-controller` names the leader, and its log says more; the command stands in the Rollout's \
             annotations and is carried out when one comes back, if {revision} is still current then",
            jiff::SignedDuration::try_from(patience).map_or_else(|_| String::new(), |time| format!("{time:#}"))
        ))),
    }
}

/// That it was carried out, or that nothing had to be.
fn done(message: &str) -> String {
    match message {
        "" => "done".to_owned(),
        message if message.starts_with(NOTHING_TO_DO) => message.to_owned(),
        message => format!("done: {message}"),
    }
}

/// The answer, or that there is none in time. An API server that is away for a moment is asked again.
async fn wait(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    (id, patience): (&str, Duration),
) -> Result<Answer, Failure> {
    let until = Instant::now() + patience;
    loop {
        let seen = cluster.get(Kind::Rollout, namespace, name).await;
        match seen.as_ref().map(|rollout| answer(rollout, id)) {
            Ok(Answer::Waiting) | Err(_) if Instant::now() < until => {}
            Ok(answer) => return Ok(answer),
            Err(failure) => return Err(failure.clone()),
        }
        sleep(Duration::from_millis(COMMAND_ANSWER_LOOK_MS)).await;
    }
}

/// A text that no other command has.
fn fresh_id() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the system gives no random number: {error}")))?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(annotations: &Value, status: &Value) -> DynamicObject {
        let object = json!({"metadata": {"name": "edge", "annotations": annotations}, "status": status});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_command_says_what_about_what_who_and_why() {
        let asked = Asked::about_revision(Verb::Pause, None, "lunch");
        let expected = json!({"metadata": {"annotations": {
            "sluice.dev/command": "pause",
            "sluice.dev/command-revision": "42-c01d",
            "sluice.dev/command-instance": null,
            "sluice.dev/command-by": "ann",
            "sluice.dev/command-reason": "lunch",
            "sluice.dev/command-id": "1f",
        }}});
        assert_eq!(asked.patch("42-c01d", "ann", "1f"), expected);
        let instance = "edge-7.0a1b2c3d".parse().unwrap();
        let asked = Asked::to_forget(&instance, "");
        let patch = asked.patch("42-c01d", "ann", "1f");
        let annotations = &patch["metadata"]["annotations"];
        assert_eq!(annotations["sluice.dev/command-instance"], "edge-7.0a1b2c3d");
        assert!(
            annotations["sluice.dev/command-reason"].is_null(),
            "an earlier one is taken away"
        );
        assert_eq!(asked.told("42-c01d"), "forget edge-7.0a1b2c3d");
    }

    #[test]
    fn an_answer_is_the_answer_to_this_command() {
        let ours = json!({"sluice.dev/command-id": "1f", "sluice.dev/command-by": "ann"});
        let theirs = json!({"sluice.dev/command-id": "20", "sluice.dev/command-by": "bob"});
        let answered = |id: &str, result: &str| json!({"command": {"id": id, "result": result, "message": "m"}});
        let check = |annotations, status, expected| assert_eq!(answer(&rollout(annotations, &status), "1f"), expected);
        check(&ours, json!({}), Answer::Waiting);
        check(&ours, answered("1e", "Done"), Answer::Waiting);
        check(&ours, answered("1f", "Done"), Answer::Done("m".to_owned()));
        check(&ours, answered("1f", "Refused"), Answer::Refused("m".to_owned()));
        // Answered, and another given since.
        check(&theirs, answered("1f", "Done"), Answer::Done("m".to_owned()));
        check(&theirs, answered("1e", "Done"), Answer::Replaced("bob".to_owned()));
        check(&json!({}), json!({}), Answer::Replaced(String::new()));
    }

    #[test]
    fn what_changed_nothing_is_not_called_done() {
        assert_eq!(done(""), "done");
        assert_eq!(done("it is Paused now"), "done: it is Paused now");
        assert_eq!(
            done("nothing to do: it is not paused"),
            "nothing to do: it is not paused"
        );
    }

    #[test]
    fn ids_differ() {
        assert_ne!(fresh_id().unwrap(), fresh_id().unwrap());
    }
}
