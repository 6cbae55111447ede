//! What the core does, as people are told about it: one line each, in the order in which it happens.

use std::fmt;

use sluice_model::{InstanceId, ObjectKey, RevisionId};

use super::event::{Command, Verb};
use super::failure::Failure;
use super::record::PastResult;
use super::time::Span;

/// Something for people to read. Also what the audit log is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Story {
    /// The first revision of a fleet.
    Adopted(RevisionId),
    /// A controller without a (current) record took stable from the instances.
    AdoptedFromInstances(RevisionId),
    /// Its content is lost, and no connected instance holds it: the fleet begins anew.
    StableLost(RevisionId),
    /// A rollout or its next stage was ordered.
    StageOrdered {
        /// What is tried.
        revision: RevisionId,
        /// Its name.
        stage: String,
        /// From 1.
        index: usize,
        /// How many the plan has.
        of: usize,
        /// Who carries it; `None` is everybody.
        members: Option<Vec<InstanceId>>,
        /// Stages passed over because they would choose the same members.
        collapsed: Vec<String>,
        /// Why not all changed routes are counted on their own.
        uncounted_routes: usize,
    },
    /// Every member acknowledged; the bake begins.
    StageReached {
        /// Its name.
        stage: String,
        /// How long it will be watched, in milliseconds.
        bake_ms: u64,
    },
    /// The bake goes on.
    Baking {
        /// Its name.
        stage: String,
        /// So far, in milliseconds.
        observed_ms: u64,
        /// In all, in milliseconds.
        bake_ms: u64,
    },
    /// The bake is over but the stage cannot pass.
    Holding {
        /// Its name.
        stage: String,
        /// Why.
        why: String,
    },
    /// Something convicted the candidate; everybody is ordered back.
    RollingBack {
        /// What did.
        revision: RevisionId,
        /// Why.
        failure: Failure,
        /// Whom the harm is attributed to; empty when there is nobody.
        culprits: Vec<ObjectKey>,
    },
    /// The author went back to what is stable; everybody is ordered back.
    Withdrawing(RevisionId),
    /// Every reachable instance has acknowledged the way back.
    Restored {
        /// What was taken back.
        revision: RevisionId,
        /// How it ended.
        result: PastResult,
        /// Instances that could not be reached.
        unreached: Vec<InstanceId>,
    },
    /// A newer revision took the place of an unfinished one.
    Superseded {
        /// The unfinished one.
        old: RevisionId,
        /// The newer one.
        new: RevisionId,
    },
    /// A new revision waits.
    Queued {
        /// Which.
        revision: RevisionId,
        /// For what.
        why: Waiting,
    },
    /// A revision is not tried because its digest failed before.
    Blocked(RevisionId),
    /// Nothing is rolled out any more until a person acts.
    Frozen(String),
    /// It is what everybody serves now.
    Promoted(RevisionId),
    /// An instance refuses an order that it should follow.
    Refusal {
        /// Who.
        instance: InstanceId,
        /// Which order.
        epoch: u64,
        /// In its words.
        reason: String,
    },
    /// An instance says that it holds an epoch no honest controller can have used.
    ImpossibleEpoch {
        /// Who.
        instance: InstanceId,
        /// Which.
        epoch: u64,
    },
    /// A command was carried out.
    Commanded(Command),
    /// An instance that was waited for, or listed as not reached, exists no more.
    Gone(InstanceId),
    /// A command asked for what already is.
    AlreadySo(Command),
}

/// What a new revision waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Waiting {
    /// The rollout before it has been superseded for long enough.
    EndOfRollout,
    /// The fleet's first routes reach everybody.
    FirstRoutes,
    /// Everybody to be back on stable.
    EndOfRollback,
    /// Somebody to resume.
    Resume,
    /// Somebody to retry.
    Thaw,
    /// An instance to connect.
    Instances,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndOfRollout => "until the rollout before it ends (maxPendingAge)",
            Self::FirstRoutes => "until every instance has the first routes",
            Self::EndOfRollback => "until every reachable instance is back on stable",
            Self::Resume => "until the rollout is resumed",
            Self::Thaw => "until somebody runs `rollout retry`: the fleet is frozen",
            Self::Instances => "until the fleet's instances are connected",
        })
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let shown = 5;
    let mut text: Vec<String> = items.iter().take(shown).map(ToString::to_string).collect();
    if items.len() > shown {
        text.push(format!("{} more", items.len() - shown));
    }
    text.join(", ")
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopted(revision) => write!(
                f,
                "{revision} is the fleet's first revision: it is ordered onto every instance, without stages"
            ),
            Self::AdoptedFromInstances(revision) => {
                write!(
                    f,
                    "no current record: took {revision} over as stable from what instances serve"
                )
            }
            Self::StableLost(revision) => write!(
                f,
                "the content of {revision} is lost, and no connected instance holds it: the fleet begins anew"
            ),
            Self::StageOrdered { .. } => self.fmt_stage(f),
            Self::StageReached { stage, bake_ms: 0 } => write!(f, "{stage}: every member acknowledged"),
            Self::StageReached { stage, bake_ms } => {
                write!(f, "{stage}: every member acknowledged, baking {}", Span(*bake_ms))
            }
            Self::Baking {
                stage,
                observed_ms,
                bake_ms,
            } => write!(f, "{stage}: baking {} of {}", Span(*observed_ms), Span(*bake_ms)),
            Self::Holding { stage, why } => write!(f, "{stage}: holding, {why}"),
            Self::RollingBack {
                revision,
                failure,
                culprits,
            } if culprits.is_empty() => write!(f, "rolling back {revision}: {failure}"),
            Self::RollingBack {
                revision,
                failure,
                culprits,
            } => write!(f, "rolling back {revision}: {failure}; suspects: {}", list(culprits)),
            Self::Withdrawing(revision) => write!(f, "{revision} was withdrawn by its author: ordering everybody back"),
            Self::Restored { .. } => self.fmt_restored(f),
            Self::Superseded { old, new } => write!(f, "{new} supersedes {old} and starts at the first stage"),
            Self::Queued { revision, why } => write!(f, "{revision} waits {why}"),
            Self::Blocked(revision) => write!(
                f,
                "{revision} is not tried: the same content failed before and no object could be blamed; \
                 change something, or run `rollout retry`"
            ),
            Self::Frozen(why) => write!(f, "frozen until somebody runs `rollout retry`: {why}"),
            Self::Promoted(revision) => write!(f, "{revision} promoted: it is stable now"),
            Self::Refusal {
                instance,
                epoch,
                reason,
            } => write!(f, "{instance} refuses order {epoch}: {reason}"),
            Self::ImpossibleEpoch { instance, epoch } => write!(
                f,
                "{instance} says that it holds order {epoch}, which is too far ahead of the clock; it is not followed: \
                 check the clocks, then empty the instance's state folder"
            ),
            Self::Commanded(command) => fmt_command(f, command, ""),
            Self::Gone(instance) => write!(f, "{instance} exists no more: it is waited for no longer"),
            Self::AlreadySo(command) => fmt_command(f, command, " (nothing to do)"),
        }
    }
}

fn fmt_command(f: &mut fmt::Formatter<'_>, command: &Command, note: &str) -> fmt::Result {
    let done = match command.verb {
        Verb::Pause => "paused",
        Verb::Resume => "resumed",
        Verb::Abort => "aborted",
        Verb::Promote => "promoted past this stage",
        Verb::Retry => "retried",
    };
    write!(f, "{} {done} by {}{note}", command.revision, command.actor)?;
    match command.reason.as_str() {
        "" => Ok(()),
        reason => write!(f, ": {reason}"),
    }
}

impl Story {
    fn fmt_stage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::StageOrdered {
            revision,
            stage,
            index,
            of,
            members,
            collapsed,
            uncounted_routes,
        } = self
        else {
            return Ok(());
        };
        write!(f, "{revision} stage {index}/{of} {stage}: ordered onto ")?;
        match members {
            Some(members) => f.write_str(&list(members))?,
            None => f.write_str("everybody")?,
        }
        if !collapsed.is_empty() {
            write!(f, " ({} would choose the same)", list(collapsed))?;
        }
        match uncounted_routes {
            0 => Ok(()),
            more => write!(
                f,
                "; {more} further changed routes are seen through the fleet's figures alone"
            ),
        }
    }

    fn fmt_restored(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Restored {
            revision,
            result,
            unreached,
        } = self
        else {
            return Ok(());
        };
        match result {
            PastResult::AdoptedFromInstances => write!(f, "every reachable instance follows: {revision} is stable")?,
            PastResult::RolledBack { culprits, .. } if !culprits.is_empty() => write!(
                f,
                "took {revision} back: every reachable instance serves stable again; held {}",
                list(culprits)
            )?,
            PastResult::Adopted
            | PastResult::Promoted
            | PastResult::RolledBack { .. }
            | PastResult::Superseded
            | PastResult::Withdrawn => {
                write!(f, "took {revision} back: every reachable instance serves stable again")?;
            }
        }
        if !unreached.is_empty() {
            write!(f, "; not reached: {}", list(unreached))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::Digest;

    #[test]
    fn reads_as_a_story() {
        let revision = RevisionId {
            number: 42,
            digest: Digest([0xc0; 32]),
        };
        let stage = Story::StageOrdered {
            revision,
            stage: "canary".to_owned(),
            index: 1,
            of: 3,
            members: Some(vec!["i-2".parse().unwrap()]),
            collapsed: vec![],
            uncounted_routes: 0,
        };
        assert_eq!(stage.to_string(), "42-c0c0c0c0 stage 1/3 canary: ordered onto i-2");
        let baking = Story::Baking {
            stage: "canary".to_owned(),
            observed_ms: 12_000,
            bake_ms: 20_000,
        };
        assert_eq!(baking.to_string(), "canary: baking 12s of 20s");
        let restored = Story::Restored {
            revision,
            result: PastResult::RolledBack {
                failure: Failure::Aborted {
                    by: "ada".to_owned(),
                    reason: String::new(),
                },
                culprits: vec!["ProxyRoute demo/shop".parse().unwrap()],
            },
            unreached: vec![],
        };
        assert!(restored.to_string().ends_with("; held ProxyRoute demo/shop"));
        assert_eq!(list(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5, 2 more");
    }
}
