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
    /// All but what is in these files: their objects are as they last were.
    Except(BTreeSet<Arc<str>>),
    /// Nothing could be seen: everything is as it last was.
    Nothing,
}

impl Coverage {
    /// Whether an object last seen in `file` may still be there although the view does not show it.
    pub fn may_hide(&self, file: &str) -> bool {
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
