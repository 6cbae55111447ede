//! A command as it stands on a Rollout: annotations that its giver wrote, with their own rights, and that nobody here takes
//! away. Pure. A command is one by its id: the answer in the status carries it, and one that is answered is done with.

use std::collections::BTreeMap;

use sluice_model::limits::{COMMAND_WORD_CHARS, REASON_CHARS_MAX};

use crate::pipeline::commands::{FORGET, Wish};
use crate::rollout::Verb;

/// What is asked for: one of [`VERBS`].
pub const COMMAND: &str = "sluice.dev/command";
/// The revision that it speaks about: `status.targetRevision` as its giver saw it.
pub const REVISION: &str = "sluice.dev/command-revision";
/// The instance that it speaks about, for `forget`.
pub const INSTANCE: &str = "sluice.dev/command-instance";
/// Who gives it.
pub const BY: &str = "sluice.dev/command-by";
/// Why.
pub const REASON: &str = "sluice.dev/command-reason";
/// Any text that no earlier command had.
pub const ID: &str = "sluice.dev/command-id";
/// All of them.
pub const KEYS: [&str; 6] = [COMMAND, REVISION, INSTANCE, BY, REASON, ID];
/// What can be asked for.
pub const VERBS: [&str; 6] = ["pause", "resume", "promote", "abort", "retry", FORGET];

/// A command, well formed or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// Its id; empty if it has none.
    pub id: String,
    /// The word.
    pub verb: String,
    /// The revision, as it is written.
    pub revision: String,
    /// Who, as it is written.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What it asks for, or why that cannot be told and what to do.
    pub wish: Result<Wish, String>,
}

/// The command that stands in `annotations`, if there is one.
pub fn given(annotations: &BTreeMap<String, String>) -> Option<Given> {
    let text = |key: &str| annotations.get(key).map(|text| text.trim()).unwrap_or_default();
    let bounded = |key: &str, most: usize| text(key).chars().take(most).collect::<String>();
    if text(COMMAND).is_empty() && text(ID).is_empty() {
        return None;
    }
    let too_long = KEYS
        .into_iter()
        .filter(|key| *key != REASON)
        .find(|key| text(key).chars().count() > COMMAND_WORD_CHARS);
    let wish = match too_long {
        Some(key) => Err(format!(
            "{key} is too long; use at most {COMMAND_WORD_CHARS} characters"
        )),
        None => wish(text(COMMAND), text(REVISION), text(INSTANCE)),
    };
    let wish = match (text(ID), text(BY)) {
        ("", _) => Err(format!("it has no {ID}; give it one that no earlier command had")),
        (_, "") => Err(format!("it does not say who gives it; set {BY}")),
        _ => wish,
    };
    Some(Given {
        id: bounded(ID, COMMAND_WORD_CHARS),
        verb: bounded(COMMAND, COMMAND_WORD_CHARS),
        revision: bounded(REVISION, 128),
        by: bounded(BY, COMMAND_WORD_CHARS),
        reason: bounded(REASON, REASON_CHARS_MAX),
        wish,
    })
}

fn wish(verb: &str, revision: &str, instance: &str) -> Result<Wish, String> {
    if verb == FORGET {
        let parsed = instance.parse();
        return parsed.map(Wish::Forget).map_err(|wrong| format!("{INSTANCE}: {wrong}"));
    }
    let all = [Verb::Pause, Verb::Resume, Verb::Promote, Verb::Abort, Verb::Retry];
    let Some(verb) = all.into_iter().find(|known| known.as_str() == verb) else {
        return Err(format!("there is no command {verb:?}; there are {}", VERBS.join(", ")));
    };
    if revision.is_empty() {
        return Err(format!(
            "it does not say which revision it is about; set {REVISION} to status.targetRevision"
        ));
    }
    Ok(Wish::Steer {
        verb,
        revision: Some(revision.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    const ABORT: [(&str, &str); 4] = [(COMMAND, "abort"), (REVISION, "42-c01d9a3f"), (BY, "ada"), (ID, "x")];

    #[test]
    fn a_whole_command_is_understood() {
        let found = given(&annotations(&ABORT)).unwrap();
        let wish = Wish::Steer {
            verb: Verb::Abort,
            revision: Some("42-c01d9a3f".to_owned()),
        };
        assert_eq!(
            (found.id.as_str(), found.by.as_str(), found.wish),
            ("x", "ada", Ok(wish))
        );
        assert_eq!(given(&annotations(&[("other", "x")])), None);
        let forget = [
            (COMMAND, "forget"),
            (INSTANCE, "edge-1.0a1b2c3d"),
            (BY, "ada"),
            (ID, "y"),
        ];
        let found = given(&annotations(&forget)).unwrap();
        assert_eq!(found.wish, Ok(Wish::Forget("edge-1.0a1b2c3d".parse().unwrap())));
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let check = |change: &[(&str, &str)], expected: &str| {
            let mut all = annotations(&ABORT);
            all.extend(annotations(change));
            all.retain(|_, value| !value.is_empty());
            let why = given(&all).unwrap().wish.unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check(
            &[(COMMAND, "explode")],
            "there is no command \"explode\"; there are pause, resume",
        );
        check(&[(COMMAND, "")], "there is no command \"\"");
        check(&[(REVISION, "")], "which revision");
        check(&[(BY, "")], "who gives it");
        check(&[(ID, "")], "command-id");
        check(&[(COMMAND, "forget")], "command-instance");
        check(&[(BY, &"x".repeat(300))], "too long");
    }
}
