//! The story of a controller: one line for each thing that people want to know, in the order in which it happened.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use sluice_model::{FleetName, InstanceId};

use crate::rollout::{Millis, Story};

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happening {
    /// The rollout core says.
    Rollout(Story),
    /// An instance's stream began.
    Joined(InstanceId),
    /// An instance's stream ended.
    Left(InstanceId),
    /// What is wrong with the objects changed.
    Problems {
        /// Objects or files that are not applied as they are.
        errors: usize,
        /// The rest.
        warnings: usize,
        /// One of them, an error if there is any, with its place and how to mend it.
        first: Option<String>,
    },
    /// A command was not carried out.
    Refused(String),
    /// Something that the controller needs does not work, such as its disk. Nothing is ordered meanwhile.
    Trouble(String),
    /// It works again.
    Mended(String),
}

impl Happening {
    /// One word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Rollout(story) => of_story(story),
            Self::Joined(_) => "joined",
            Self::Left(_) => "left",
            Self::Problems { .. } => "problems",
            Self::Refused(_) => "refused",
            Self::Trouble(_) => "trouble",
            Self::Mended(_) => "mended",
        }
    }
}

fn of_story(story: &Story) -> &'static str {
    match story {
        Story::Adopted(_) => "adopted",
        Story::AdoptedFromInstances(_) => "adoptedFromInstances",
        Story::StableLost(_) => "stableLost",
        Story::StageOrdered { .. } => "stageOrdered",
        Story::StageReached { .. } => "stageReached",
        Story::Baking { .. } => "baking",
        Story::Holding { .. } => "holding",
        Story::RollingBack { .. } => "rollingBack",
        Story::Withdrawing(_) => "withdrawing",
        Story::Restored { .. } => "restored",
        Story::Superseded { .. } => "superseded",
        Story::Queued { .. } => "queued",
        Story::Blocked(_) => "blocked",
        Story::Frozen(_) => "frozen",
        Story::Promoted(_) => "promoted",
        Story::Refusal { .. } => "refusal",
        Story::ImpossibleEpoch { .. } => "impossibleEpoch",
        Story::Commanded(_) => "commanded",
        Story::Gone(_) => "gone",
        Story::AlreadySo(_) => "alreadySo",
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rollout(story) => story.fmt(f),
            Self::Joined(instance) => write!(f, "{instance} connected"),
            Self::Left(instance) => write!(f, "{instance} disconnected"),
            Self::Problems { first: None, .. } => f.write_str("all objects are in order"),
            Self::Problems {
                errors,
                warnings,
                first: Some(first),
            } => {
                write!(f, "errors in the objects: {errors}, warnings: {warnings}. ")?;
                match errors.saturating_add(*warnings) {
                    ..=1 => f.write_str(first),
                    2.. => write!(f, "One of them: {first}"),
                }
            }
            Self::Refused(why) => write!(f, "command refused: {why}"),
            Self::Trouble(what) => write!(f, "trouble: {what}"),
            Self::Mended(what) => write!(f, "mended: {what}"),
        }
    }
}

/// One line of the story.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StoryLine {
    /// Counts lines since the controller started, from 1.
    pub sequence: u64,
    /// When (RFC 3339).
    pub at: String,
    /// In which fleet; `None`: in all.
    pub fleet: Option<FleetName>,
    /// One word for programs.
    pub kind: &'static str,
    /// One line for people.
    pub text: String,
    /// The same for programs of this build.
    #[serde(skip)]
    pub happening: Happening,
}

/// `now` as people write it (RFC 3339).
pub fn written(now: Millis) -> String {
    let millis = i64::try_from(now.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_said_with_place_and_fix() {
        let problems = |errors, warnings, first: Option<&str>| {
            let first = first.map(str::to_owned);
            Happening::Problems {
                errors,
                warnings,
                first,
            }
            .to_string()
        };
        assert_eq!(problems(0, 0, None), "all objects are in order");
        assert_eq!(
            problems(1, 0, Some("a.yaml:1:1: error: x; do y")),
            "errors in the objects: 1, warnings: 0. a.yaml:1:1: error: x; do y"
        );
        assert_eq!(
            problems(1, 1, Some("a.yaml: error: x")),
            "errors in the objects: 1, warnings: 1. One of them: a.yaml: error: x"
        );
    }

    #[test]
    fn lines_are_for_people_and_programs() {
        assert_eq!(written(Millis(1_700_000_000_500)), "2023-11-14T22:13:20.5Z");
        let joined = Happening::Joined("i-1".parse().unwrap());
        assert_eq!(
            (joined.kind(), joined.to_string().as_str()),
            ("joined", "i-1 connected")
        );
    }
}
