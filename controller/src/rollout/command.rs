//! Commands of people: each names the revision it speaks about, and is refused if that is no longer the one. Each may be
//! given twice.

use sluice_model::{RevisionId, limits};

use super::event::{Command, Verb};
use super::failure::Failure;
use super::instances::bounded;
use super::record::{PastResult, Pause, Record};
use super::story::Story;
use super::view::Recompile;
use super::{Action, Turn};

/// What became of a command.
enum Answer {
    Done,
    AlreadySo,
    No(String),
}

impl Turn<'_> {
    /// Carries out a command, or says why not.
    pub(super) fn commanded(&mut self, command: Command) {
        if self.was_carried_out(&command) {
            return self.tell(Story::AlreadySo(command));
        }
        let answer = match command.verb {
            Verb::Pause => self.pause(&command),
            Verb::Resume => self.resume(&command),
            Verb::Abort => self.abort(&command),
            Verb::Promote => self.wave_through(&command),
            Verb::Retry => self.retry(&command),
        };
        match answer {
            Answer::Done => {
                self.remember_command(&command);
                self.require_commit();
                self.outcome.actions.insert(0, Action::Tell(Story::Commanded(command)));
            }
            Answer::AlreadySo => self.tell(Story::AlreadySo(command)),
            Answer::No(why) => self.outcome.actions.push(Action::Refuse { command, why }),
        }
    }

    fn was_carried_out(&self, command: &Command) -> bool {
        let id = command.id.as_ref();
        id.is_some_and(|id| self.record.carried_out.contains(&bounded(id)))
    }

    fn remember_command(&mut self, command: &Command) {
        let Some(id) = &command.id else { return };
        self.record.carried_out.push_back(bounded(id));
        while self.record.carried_out.len() > limits::COMMAND_IDS_MAX {
            self.record.carried_out.pop_front();
        }
    }

    fn asked(&self, command: &Command) -> Pause {
        Pause {
            actor: bounded(&command.actor),
            reason: bounded(&command.reason),
            at: self.now,
        }
    }

    fn pause(&mut self, command: &Command) -> Answer {
        if let Some(why) = not_current(self.record, command) {
            return Answer::No(why);
        }
        if self.record.paused.is_some() {
            return Answer::AlreadySo;
        }
        self.record.paused = Some(self.asked(command));
        Answer::Done
    }

    fn resume(&mut self, command: &Command) -> Answer {
        if let Some(why) = not_current(self.record, command) {
            return Answer::No(why);
        }
        match self.record.paused.take() {
            Some(_) => Answer::Done,
            None if self.is_paused() => {
                Answer::No("it is paused by its author: set spec.paused to false in the Rollout".to_owned())
            }
            None => Answer::AlreadySo,
        }
    }

    fn abort(&mut self, command: &Command) -> Answer {
        let tried = self.record.rollout.as_ref().map(|rollout| rollout.target.revision);
        if tried != Some(command.revision) {
            return if was_rolled_back(self.record, command.revision) {
                Answer::AlreadySo
            } else {
                Answer::No(no_such_rollout(self.record, command, tried))
            };
        }
        self.roll_back(Failure::Aborted {
            by: bounded(&command.actor),
            reason: bounded(&command.reason),
        });
        Answer::Done
    }

    fn wave_through(&mut self, command: &Command) -> Answer {
        let asked = self.asked(command);
        let tried = self.record.rollout.as_ref().map(|rollout| rollout.target.revision);
        match self.record.rollout.as_mut() {
            Some(rollout) if rollout.target.revision == command.revision => {
                if rollout.waved.is_some() {
                    return Answer::AlreadySo;
                }
                rollout.waved = Some(asked);
                Answer::Done
            }
            Some(_) | None if self.record.stable == Some(command.revision) && tried.is_none() => Answer::AlreadySo,
            Some(_) | None => Answer::No(no_such_rollout(self.record, command, tried)),
        }
    }

    /// About a revision that was taken back: what it left behind. About the current one, which is what people see first:
    /// whatever is held or blocked at the moment.
    fn retry(&mut self, command: &Command) -> Answer {
        let revision = command.revision;
        let is_last = self.record.history.back().is_some_and(|past| past.revision == revision);
        let is_current = self.record.current() == Some(revision);
        let record = &mut *self.record;
        let left = record.held.iter().any(|held| held.revision == revision)
            || record.blocked.iter().any(|blocked| blocked.revision == revision);
        let anything = !record.held.is_empty() || !record.blocked.is_empty();
        match (left, is_current && anything) {
            (true, _) => {
                record.held.retain(|held| held.revision != revision);
                record.blocked.retain(|blocked| blocked.revision != revision);
            }
            (false, true) => {
                record.held.clear();
                record.blocked.clear();
            }
            (false, false) if is_last || is_current => return Answer::AlreadySo,
            (false, false) => {
                return Answer::No(format!(
                    "{revision} left nothing held or blocked; `rollout get` lists what is"
                ));
            }
        }
        self.record.held_generation = self.record.held_generation.saturating_add(1);
        self.record.frozen = None;
        self.record.blamed_on_nobody = 0;
        self.view.recompile = Recompile::Due;
        Answer::Done
    }
}

fn not_current(record: &Record, command: &Command) -> Option<String> {
    let current = record.current();
    (current != Some(command.revision)).then(|| match current {
        Some(current) => format!(
            "{} is no longer the current revision, {current} is: look again",
            command.revision
        ),
        None => "this fleet has no revision yet".to_owned(),
    })
}

fn was_rolled_back(record: &Record, revision: RevisionId) -> bool {
    let restoring = record
        .restoring
        .as_ref()
        .is_some_and(|restoring| restoring.revision == revision);
    let last = record.history.back().filter(|past| past.revision == revision);
    restoring || last.is_some_and(|past| matches!(past.result, PastResult::RolledBack { .. } | PastResult::Withdrawn))
}

fn no_such_rollout(record: &Record, command: &Command, tried: Option<RevisionId>) -> String {
    let asked = command.revision;
    match tried {
        Some(tried) => format!("{asked} is not being rolled out, {tried} is: look again"),
        None if record.stable == Some(asked) => format!("{asked} is already stable; nothing is being rolled out"),
        None => format!("{asked} is not being rolled out, and nothing else is"),
    }
}
