//! The reasons of conditions: one CamelCase word each, for programs and for `docs/status.md`, which says what to do about
//! every one of them (a test compares the two).

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// See the file's comment.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// The content is in order.
    Accepted,
    /// The content is not in order.
    Invalid,
    /// This Rollout governs no fleet.
    NotGoverning,
    /// Everything referred to is there.
    Resolved,
    /// A pool is not.
    PoolNotFound,
    /// A pool is in error, or no form of it can be served.
    PoolNotUsable,
    /// A Service, or a port of one, is not.
    ServiceNotFound,
    /// A Service is of a kind that has no endpoints.
    ServiceNotUsable,
    /// A certificate is not, or cannot serve.
    CertificateNotUsable,
    /// Every instance serves the content.
    Programmed,
    /// Everybody is ordered to serve it; some have not acknowledged.
    NotAcknowledged,
    /// The instances of a stage try it.
    InStage,
    /// It is next, or waits for what is before it.
    Waiting,
    /// Somebody paused the rollout.
    Paused,
    /// The fleet is frozen.
    Frozen,
    /// A revision with it failed, with no object to blame.
    Blocked,
    /// The revision with it is not offered yet.
    Withheld,
    /// No instance is there to serve it.
    NoInstances,
    /// No Rollout in order governs its fleet.
    NoRollout,
    /// No route refers to it.
    NotUsed,
    /// Something is wrong with it.
    Quarantined,
    /// It did harm.
    RolledBack,
    /// A removal awaits consent.
    AwaitsConsent,
    /// Endpoints are in rotation.
    InRotation,
    /// None is.
    NoEndpoints,
    /// Nothing is known of them, or of what is referred to.
    NotKnown,
    /// Everything asked for is in service.
    Promoted,
    /// A stage is ordered and not every member has acknowledged.
    Progressing,
    /// A stage is watched.
    Baking,
    /// Everybody is ordered back.
    RollingBack,
    /// Nothing is wanted.
    Idle,
    /// Contents are held back, or revisions blocked.
    ContentsHeld,
    /// Instances refuse the order in force.
    OrderRefused,
    /// Instances may still carry what was taken back.
    InstancesUnreached,
    /// All is as it should be.
    Healthy,
    /// An instance cannot keep the order.
    InstanceTrouble,
    /// The gates have not seen enough.
    MissingEvidence,
    /// The rollout takes longer than it may.
    DeadlinePassed,
    /// The fleet's record is missing.
    RecordMissing,
    /// There is nothing to serve yet.
    NoConfiguration,
    /// Fewer instances are connected than there were.
    FleetIncomplete,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_that_kubernetes_takes() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(text.starts_with(|first: char| first.is_ascii_uppercase()), "{text}");
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric()), "{text}");
        }
    }

    #[test]
    fn every_reason_says_what_to_do() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status.md")).unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        for reason in Reason::ALL {
            let told = rows.iter().any(|row| {
                row.split('|')
                    .nth(1)
                    .is_some_and(|cell| cell.contains(&format!("`{}`", reason.as_str())))
            });
            assert!(told, "docs/status.md has no row for the reason {}", reason.as_str());
        }
    }
}
