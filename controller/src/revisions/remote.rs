//! What outlives the state folder where the folder does not: in Kubernetes, objects of the API server. The folder is then
//! a working copy, and the remote is what counts. It is written first, so that what is in the folder is there as well.
//!
//! The record is never in the folder at all: there is one, it has one version, and whoever writes says which it read.

use std::collections::BTreeSet;
use std::fmt;

use sluice_model::FleetName;
use sluice_model::limits::MAX_CONFIG_MAP_BYTES;

use super::piece::{Piece, PieceName};
use super::record::Version;
use crate::api_server::ApiError;

/// Where revisions and records are kept. Calls may block, for a bounded time; one that is bound to fail does so at once.
pub trait Remote: Send + Sync + fmt::Debug {
    /// Where the record of `fleet` is, for people.
    fn place(&self, fleet: &FleetName) -> String;

    /// What a person does to have everything forgotten that is kept of `fleet`: "delete …".
    fn forgetting(&self, fleet: &FleetName) -> String;

    /// The record of `fleet` as it was committed, and its version; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be told: never taken for "none".
    fn load_record(&self, fleet: &FleetName) -> Result<Option<(Vec<u8>, Version)>, RemoteError>;

    /// Replaces the record of `fleet` if it is still at `expected`, and gives its new version.
    ///
    /// # Errors
    /// [`WriteError::Stale`] if it is at another version. After [`WriteError::Remote`] it may have been written all the
    /// same; the next writer finds out by the version.
    fn commit_record(&self, fleet: &FleetName, expected: &Version, record: &[u8]) -> Result<Version, WriteError>;

    /// Keeps `pieces`, and says of each, in their order, what is kept under its name now.
    fn keep(&self, fleet: &FleetName, pieces: &[Piece]) -> Vec<Result<Kept, RemoteError>>;

    /// Removes pieces; those that are not there are removed already.
    ///
    /// # Errors
    /// When some could not be removed.
    fn remove(&self, fleet: &FleetName, names: &BTreeSet<PieceName>) -> Result<(), RemoteError>;

    /// Those of `names` that are not there.
    ///
    /// # Errors
    /// When it cannot be told of all.
    fn lacking(&self, fleet: &FleetName, names: &BTreeSet<PieceName>) -> Result<BTreeSet<PieceName>, RemoteError>;
}

/// What is kept under the name of a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// This one, as of now.
    ThisOne,
    /// Another, which was there before.
    Another(Piece),
}

/// Why something could not be read or written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RemoteError {
    /// Whoever keeps it does not answer, or does not want to.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It does not fit.
    #[error(
        "{what} would have {bytes} bytes, and one object holds {MAX_CONFIG_MAP_BYTES}: spread the routes over several fleets"
    )]
    TooLarge {
        /// What.
        what: String,
        /// How large it is.
        bytes: usize,
    },
    /// What is there is nothing of ours.
    #[error("{place} is damaged: {what}; delete it, and it is made again or asked back from the instances")]
    Damaged {
        /// Which object.
        place: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Why a record was not written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    /// It is at another version: what is there, as in [`super::CommitError::Stale`].
    #[error("it is {0}")]
    Stale(String),
    /// See [`RemoteError`].
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// A remote in memory, which can be made to fail; for tests.
#[cfg(test)]
pub(crate) mod memory {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, MutexGuard};

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::revisions::config_map;

    /// How it answers.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) enum Mood {
        #[default]
        Answers,
        /// Nothing arrives.
        Away,
        /// Everything arrives, and no answer comes back.
        AnswersAreLost,
    }

    #[derive(Debug, Default)]
    pub(crate) struct State {
        pub(crate) records: BTreeMap<FleetName, (Vec<u8>, u64)>,
        pub(crate) pieces: BTreeMap<PieceName, Piece>,
        pub(crate) mood: Mood,
        /// How large each write was, as an object of the API server.
        pub(crate) sizes: Vec<usize>,
        /// Writes so far: versions, as an API server counts them.
        pub(crate) writes: u64,
    }

    fn size(object: &ConfigMap) -> usize {
        let data = object.binary_data.iter().flatten();
        // A name, labels, managed fields: what etcd holds of an object besides its data.
        1_000 + data.map(|(_, data)| data.0.len()).sum::<usize>()
    }

    #[derive(Debug, Default)]
    pub(crate) struct Memory(Mutex<State>);

    impl Memory {
        pub(crate) fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap()
        }

        fn answer<T>(&self, mood: Mood, answer: T) -> Result<T, RemoteError> {
            match mood {
                Mood::Answers => Ok(answer),
                Mood::Away | Mood::AnswersAreLost => Err(ApiError::Unavailable("no answer in time".to_owned()).into()),
            }
        }
    }

    impl Remote for Memory {
        fn place(&self, fleet: &FleetName) -> String {
            format!("the record of {fleet}")
        }

        fn forgetting(&self, fleet: &FleetName) -> String {
            format!("delete what is kept of {fleet}")
        }

        fn load_record(&self, fleet: &FleetName) -> Result<Option<(Vec<u8>, Version)>, RemoteError> {
            let state = self.state();
            let found = state.records.get(fleet);
            let found = found.map(|(text, version)| (text.clone(), Version::Resource(version.to_string())));
            self.answer(state.mood, found)
        }

        fn commit_record(&self, fleet: &FleetName, expected: &Version, record: &[u8]) -> Result<Version, WriteError> {
            let mut state = self.state();
            if state.mood == Mood::Away {
                return Ok(self.answer(Mood::Away, Version::None)?);
            }
            let found = state.records.get(fleet).map(|(_, version)| version.to_string());
            let found = found.map_or(Version::None, Version::Resource);
            if found != *expected {
                return Err(WriteError::Stale(format!("at version {found}")));
            }
            let object = config_map::of_record(fleet, record, None)?;
            state.sizes.push(size(&object));
            state.writes += 1;
            let version = state.writes;
            state.records.insert(fleet.clone(), (record.to_vec(), version));
            Ok(self.answer(state.mood, Version::Resource(version.to_string()))?)
        }

        fn keep(&self, fleet: &FleetName, pieces: &[Piece]) -> Vec<Result<Kept, RemoteError>> {
            let mut state = self.state();
            let mood = state.mood;
            let keep = |piece: &Piece| {
                if mood == Mood::Away {
                    return self.answer(mood, Kept::ThisOne);
                }
                let object = config_map::of_piece(fleet, piece)?;
                state.sizes.push(size(&object));
                state.writes += 1;
                let kept = match state.pieces.get(&piece.name()) {
                    Some(there) if there != piece => Kept::Another(there.clone()),
                    Some(_) => Kept::ThisOne,
                    None => {
                        state.pieces.insert(piece.name(), piece.clone());
                        Kept::ThisOne
                    }
                };
                self.answer(mood, kept)
            };
            pieces.iter().map(keep).collect()
        }

        fn remove(&self, _: &FleetName, names: &BTreeSet<PieceName>) -> Result<(), RemoteError> {
            let mut state = self.state();
            if state.mood != Mood::Away {
                state.pieces.retain(|name, _| !names.contains(name));
            }
            self.answer(state.mood, ())
        }

        fn lacking(&self, _: &FleetName, names: &BTreeSet<PieceName>) -> Result<BTreeSet<PieceName>, RemoteError> {
            let state = self.state();
            let lacking = names.iter().filter(|name| !state.pieces.contains_key(name)).cloned();
            self.answer(state.mood, lacking.collect())
        }
    }
}
