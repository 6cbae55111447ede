//! Where objects come from. One trait; a folder of manifests today.
//!
//! A source hands out complete, immutable [`View`]s, and says how complete they are: nothing may be taken for deleted
//! because it could not be read.

pub mod core;
pub mod directory;
pub mod folder;
pub mod limits;
pub mod manifest;
pub mod schema;
pub mod yaml;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use crate::objects::Objects;
use crate::problem::Problem;

/// What a source holds at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The objects.
    pub objects: Objects,
    /// What is wrong with what was read.
    pub problems: Vec<Problem>,
    /// What could not be seen.
    pub coverage: Coverage,
}

/// How much of what there is a view shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// All of it.
    #[default]
    Whole,
    /// All but what is in these files. They may hold anything: what was last seen in them, and what was moved into them.
    Except(BTreeSet<Arc<str>>),
    /// Nothing could be seen: everything is as it last was.
    Nothing,
}

impl Coverage {
    /// Whether an object that the view does not show may still be there. Where it was last seen does not matter: a file
    /// that cannot be read may be the one it was moved into.
    pub fn may_hide_objects(&self) -> bool {
        match self {
            Self::Whole => false,
            Self::Except(_) | Self::Nothing => true,
        }
    }

    /// Whether `file` is one of those that could not be seen.
    pub fn lacks(&self, file: &str) -> bool {
        match self {
            Self::Whole => false,
            Self::Except(files) => files.contains(file),
            Self::Nothing => true,
        }
    }
}

/// Something that holds objects and notices when they change.
pub trait Source: Send {
    /// The next view: the first call gives the present one, later calls wait for a change. `None` when there will be
    /// no more. Nothing is lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Option<Arc<View>>> + Send;
}
