//! `rollout watch` in a cluster: a watch on the Rollouts, told as what changed from one status to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use kube::Api;
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use sluice_model::limits::KUBE_WATCH_SECONDS;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{sleep, timeout};

use super::Look;
use super::objects::{self, name_of, status_of};
use super::screen::{self, Screen};
use super::status::Status;
use crate::called::Called;
use crate::cluster::Cluster;
use crate::cluster::objects::{Kind, shown};
use crate::cluster::refusal::Wish;
use crate::failure::{Exit, Failure};
use crate::output::{self, TableFormat};

/// Between two attempts while the API server is away.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A watch that is still silent so long after it should have ended is half open.
const WATCH_WAIT: Duration = Duration::from_secs(KUBE_WATCH_SECONDS as u64 + 5);

/// Something that was seen.
enum Seen {
    /// A Rollout as it is now.
    Rollout(Box<DynamicObject>),
    /// One is gone.
    Deleted(String),
    /// The API server is away, and why. Said once; it is asked again.
    Lost(String),
}

/// Follows what happens until interrupted.
///
/// # Errors
/// When the Rollouts cannot be read to begin with.
pub async fn watch(cluster: &Cluster, namespace: &str, look: &Look, called: Called) -> Result<Exit, Failure> {
    let first = match &look.name {
        Some(name) => vec![objects::find(cluster, namespace, name).await?],
        None => cluster.list(Kind::Rollout, namespace.into()).await?.items,
    };
    let screen = match look.output {
        TableFormat::Table => {
            if let Some(nobody) = cluster.nobody_leads(namespace).await {
                output::remark(&nobody);
            }
            output::print(&objects::table(&first, namespace, called)?);
            Screen::fitting()
        }
        TableFormat::Json | TableFormat::Yaml => Screen::plain(),
    };
    let mut view = View {
        screen,
        format: look.output,
        known: BTreeMap::new(),
    };
    if look.output == TableFormat::Table {
        // The table has shown them.
        let known = first
            .iter()
            .map(|rollout| Ok((name_of(rollout).to_owned(), status_of(rollout)?)));
        view.known = known.collect::<Result<_, Failure>>()?;
    }
    let (sender, mut seen) = mpsc::channel(64);
    let follower = Follower {
        cluster: cluster.clone(),
        namespace: namespace.to_owned(),
        name: look.name.clone(),
    };
    tokio::spawn(follower.follow(sender));
    loop {
        let next = tokio::select! {
            next = seen.recv() => next,
            _ = tokio::signal::ctrl_c() => None,
        };
        match next {
            Some(next) => view.show(next)?,
            None => break,
        }
    }
    view.screen.clear();
    Ok(Exit::Done)
}

/// What is on the screen.
struct View {
    screen: Screen,
    format: TableFormat,
    known: BTreeMap<String, Status>,
}

impl View {
    fn show(&mut self, seen: Seen) -> Result<(), Failure> {
        match seen {
            Seen::Rollout(rollout) => {
                let now = status_of(&rollout)?;
                let before = self.known.insert(now.fleet.clone(), now.clone());
                match self.format {
                    TableFormat::Table => happened(before.as_ref(), &now)
                        .iter()
                        .for_each(|line| self.screen.say(line)),
                    TableFormat::Json | TableFormat::Yaml if before.as_ref() != Some(&now) => {
                        output::print(&output::document(&shown(&rollout), self.format)?);
                    }
                    TableFormat::Json | TableFormat::Yaml => {}
                }
                let all: Vec<Status> = self.known.values().cloned().collect();
                self.screen.show(&all);
            }
            Seen::Deleted(name) => {
                self.known.remove(&name);
                self.tell(&format!("{name}  deleted"));
            }
            Seen::Lost(why) => self.tell(&why),
        }
        Ok(())
    }

    fn tell(&self, line: &str) {
        match self.format {
            TableFormat::Table => self.screen.say(line),
            TableFormat::Json | TableFormat::Yaml => output::remark(line),
        }
    }
}

/// What happened between two statuses, a line each. Figures that move all the time are none of it.
fn happened(before: Option<&Status>, now: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    let place = |status: &Status| {
        let stage = status.stage.as_ref().map(|stage| stage.label.clone());
        let revision = status.target_revision.clone();
        (
            status.phase.clone(),
            stage,
            status.instances.label.clone(),
            revision,
            status.health.clone(),
        )
    };
    if before.map(place) != Some(place(now)) {
        lines.push(screen::line(now));
    }
    let fleet = &now.fleet;
    for held in &now.held {
        if before.is_none_or(|before| !before.held.contains(held)) {
            lines.push(format!(
                "{fleet}  held back: {} ({}): {}",
                held.object, held.content, held.reason
            ));
        }
    }
    for blocked in &now.blocked {
        if before.is_none_or(|before| !before.blocked.contains(blocked)) {
            lines.push(format!(
                "{fleet}  not tried again: {}: {}",
                blocked.revision, blocked.reason
            ));
        }
    }
    let command = |status: &Status| status.command.clone();
    if let Some(command) = command(now).filter(|_| before.and_then(command) != now.command) {
        let message = if command.message.is_empty() {
            String::new()
        } else {
            format!(": {}", command.message)
        };
        lines.push(format!(
            "{fleet}  {} by {}: {}{message}",
            command.verb, command.by, command.result
        ));
    }
    lines
}

/// Looks at the Rollouts until nobody listens.
struct Follower {
    cluster: Cluster,
    namespace: String,
    name: Option<String>,
}

impl Follower {
    async fn follow(self, seen: Sender<Seen>) {
        let mut lost = false;
        loop {
            // A whole look, and changes from there on: after an error nothing is left out, only told late.
            let looked = self.look(&seen).await;
            if seen.is_closed() {
                return;
            }
            match looked {
                Ok(()) => lost = false,
                Err(failure) => {
                    if !lost {
                        let _ = seen.send(Seen::Lost(failure.to_string())).await; // closed: seen above
                    }
                    lost = true;
                    sleep(RETRY_EVERY).await;
                }
            }
        }
    }

    async fn look(&self, seen: &Sender<Seen>) -> Result<(), Failure> {
        let list = self.cluster.list(Kind::Rollout, Some(&self.namespace)).await?;
        for rollout in list.items.into_iter().filter(|rollout| self.is_meant(rollout)) {
            let _ = seen.send(Seen::Rollout(Box::new(rollout))).await; // closed: whoever called sees it
        }
        let mut params = WatchParams::default().timeout(KUBE_WATCH_SECONDS);
        if let Some(name) = &self.name {
            params = params.fields(&format!("metadata.name={name}"));
        }
        let api: Api<DynamicObject> = Kind::Rollout.api(self.cluster.client(), Some(&self.namespace));
        let version = list.metadata.resource_version.unwrap_or_default();
        let wish = Wish::list(Kind::Rollout.resource(), Some(&self.namespace)).to("watch");
        let events = self.cluster.call(&wish, api.watch(&params, &version)).await?;
        let mut events = std::pin::pin!(events);
        loop {
            let next = match timeout(WATCH_WAIT, events.try_next()).await {
                Ok(Ok(Some(next))) => next,
                // Ended, broken off or silent: a new look says what was missed.
                Ok(Ok(None) | Err(_)) | Err(_) => return Ok(()),
            };
            let told = match next {
                WatchEvent::Added(rollout) | WatchEvent::Modified(rollout) => Seen::Rollout(Box::new(rollout)),
                WatchEvent::Deleted(rollout) => Seen::Deleted(name_of(&rollout).to_owned()),
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(_) => return Ok(()), // too old, most likely
            };
            if seen.send(told).await.is_err() {
                return Ok(());
            }
        }
    }

    fn is_meant(&self, rollout: &DynamicObject) -> bool {
        self.name.as_deref().is_none_or(|name| name_of(rollout) == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::status::{Command, Held, Stage};

    #[test]
    fn what_happened_is_told_and_figures_are_not() {
        let idle = Status {
            fleet: "edge".to_owned(),
            phase: "Idle".to_owned(),
            ..Status::default()
        };
        assert_eq!(happened(None, &idle), ["edge  Idle"]);
        let mut baking = Status {
            phase: "Baking".to_owned(),
            message: "baking 1s of 8s".to_owned(),
            stage: Some(Stage {
                label: "1/2 canary".to_owned(),
                ..Stage::default()
            }),
            ..idle.clone()
        };
        assert_eq!(
            happened(Some(&idle), &baking),
            ["edge  Baking  1/2 canary  baking 1s of 8s"]
        );
        let before = baking.clone();
        "baking 2s of 8s".clone_into(&mut baking.message);
        assert!(happened(Some(&before), &baking).is_empty());
        baking.held.push(Held {
            object: "Pool a/b".to_owned(),
            content: "0bad".to_owned(),
            reason: "ErrorRate 98%".to_owned(),
            ..Held::default()
        });
        baking.command = Some(Command {
            verb: "abort".to_owned(),
            by: "ann".to_owned(),
            result: "Done".to_owned(),
            message: String::new(),
        });
        assert_eq!(
            happened(Some(&before), &baking),
            [
                "edge  held back: Pool a/b (0bad): ErrorRate 98%",
                "edge  abort by ann: Done"
            ]
        );
        assert!(happened(Some(&baking), &baking).is_empty());
    }
}
