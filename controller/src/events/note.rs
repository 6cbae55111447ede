//! What an Event is to say: about which object, why, and how two happenings of one reason are told apart.

use sluice_model::ObjectKey;

use crate::status::desired::sentence;

macro_rules! occasions {
    ($($(#[$doc:meta])* $name:ident: $type_:ident,)*) => {
        /// Why there is an Event: its reason, in one CamelCase word.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Occasion {
            $($(#[$doc])* $name,)*
        }

        impl Occasion {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// `Normal` or `Warning`.
            pub fn type_(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($type_),)*
                }
            }
        }
    };
}

occasions! {
    /// Something is wrong with an object.
    Quarantined: Warning,
    /// Nothing is any more.
    Mended: Normal,
    /// A content did harm, or a revision was taken back.
    RolledBack: Warning,
    /// A Rollout governs nothing, or is not in order.
    NotAccepted: Warning,
    /// The first revision of a fleet is in service.
    Adopted: Normal,
    /// Stable was taken over from what the instances serve.
    AdoptedFromInstances: Warning,
    /// The content of stable is lost.
    StableLost: Warning,
    /// Every member of a stage has acknowledged.
    StageReached: Normal,
    /// The bake is over and the stage cannot pass.
    Holding: Warning,
    /// Everybody is ordered back.
    RollingBack: Warning,
    /// A change was taken back by its author.
    Withdrawn: Normal,
    /// A revision that failed is not tried again.
    Blocked: Warning,
    /// Nothing is rolled out until somebody acts.
    Frozen: Warning,
    /// A revision is stable.
    Promoted: Normal,
    /// An instance refuses an order.
    InstanceRefuses: Warning,
    /// Somebody paused the rollout.
    Paused: Normal,
    /// Somebody resumed it.
    Resumed: Normal,
    /// Somebody took the change back.
    Aborted: Normal,
    /// Somebody skipped the rest of a bake.
    StageSkipped: Normal,
    /// Somebody has it tried again.
    Retried: Normal,
    /// Somebody has an instance waited for no longer.
    Forgotten: Normal,
    /// A command was not carried out.
    CommandRefused: Warning,
    /// A certificate is not taken.
    CertificateRefused: Warning,
    /// Endpoints that left at once stay for now.
    RemovalBrakeHolds: Warning,
    /// That is over.
    RemovalBrakeReleased: Normal,
    /// Removing most routes or hosts awaits consent.
    RemovalAwaitsConsent: Warning,
    /// A Service or a Secret that a route, a pool or a listener needs is missing, or of no use.
    ReferenceMissing: Warning,
    /// It is there.
    ReferenceFound: Normal,
    /// Something that the controller needs does not work.
    ControllerTrouble: Warning,
    /// It works again.
    ControllerMended: Normal,
}

/// One happening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// About which object.
    pub object: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// Why.
    pub occasion: Occasion,
    /// What tells happenings of one occasion apart, such as a revision. Empty where they are the same once more.
    pub subject: String,
    /// What happened.
    pub text: String,
}

impl Note {
    /// A note about an object.
    pub fn new(object: &ObjectKey, uid: &str, occasion: Occasion, text: &str) -> Self {
        Self {
            object: object.clone(),
            uid: uid.to_owned(),
            occasion,
            subject: String::new(),
            text: sentence(text),
        }
    }

    /// The same, apart from those about other subjects.
    #[must_use]
    pub fn about(mut self, subject: impl ToString) -> Self {
        self.subject = subject.to_string();
        self
    }

    /// What makes two notes the same happening once more.
    pub fn identity(&self) -> Identity {
        Identity {
            uid: self.uid.clone(),
            occasion: self.occasion,
            subject: self.subject.clone(),
            meaning: meaning(&self.text),
        }
    }
}

/// See [`Note::identity`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Identity {
    uid: String,
    occasion: Occasion,
    subject: String,
    meaning: String,
}

/// A text without its figures: what is said again with others (durations, shares, addresses) is the same once more. A name
/// that only ends in a figure is another name.
fn meaning(text: &str) -> String {
    let is_in_word = |char: char| char.is_alphanumeric() || "-_./:%".contains(char);
    let mut meaning = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_word = is_in_word(first);
        let end = rest.find(|char| is_in_word(char) != in_word).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        meaning.push_str(if first.is_ascii_digit() { "#" } else { run });
        rest = after;
    }
    meaning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_with_other_figures_is_the_same() {
        let same = |one: &str, other: &str| meaning(one) == meaning(other);
        assert!(same("12 of 40 fail, 1.5% (for 1m3s)", "13 of 41 fail, 22% (for 58s)"));
        assert!(same("10.0.0.1:80 is refused", "10.0.0.2:80 is refused"));
        assert!(!same("edge-1 is silent for 5s", "edge-2 is silent for 5s"));
        assert!(!same("its record cannot be read", "the keys are new"));
        assert_eq!(meaning("Schlüssel für é: 3µs…"), "Schlüssel für é: #…");
    }

    #[test]
    fn every_occasion_says_what_to_do() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status.md")).unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        for occasion in Occasion::ALL {
            let word = format!("`{}`", occasion.as_str());
            let told = rows
                .iter()
                .any(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&word)));
            assert!(told, "docs/status.md has no row for the Event {word}");
        }
    }
}
