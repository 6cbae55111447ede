//! How far a process is in its end: for whoever looks (`/ready`, the admin view, metrics), and for nobody to decide by.

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// Where a process stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It serves, or waits for its first revision.
    Running,
    /// It is not ready any more and goes on accepting, while load balancers notice; clients are asked to leave.
    Leaving,
    /// It accepts no more, and lets what is under way end.
    Finishing,
}

impl Stage {
    /// As views write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Leaving => "leaving",
            Self::Finishing => "finishing",
        }
    }
}

/// The end of a process, once it has begun.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How far it is.
    pub stage: Stage,
    /// When it began.
    pub began_at: SystemTime,
    /// The same, to measure by.
    pub began: Instant,
}

/// See the file's comment.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Option<Drain>>);

impl Progress {
    /// It is that far now. The first time, it begins.
    pub(crate) fn reaches(&self, stage: Stage) {
        let mut drain = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (began_at, began) = match *drain {
            Some(drain) => (drain.began_at, drain.began),
            None => (SystemTime::now(), Instant::now()),
        };
        *drain = Some(Drain { stage, began_at, began });
    }

    /// The end, if it has begun.
    pub fn drain(&self) -> Option<Drain> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_once() {
        let progress = Progress::default();
        assert!(progress.drain().is_none());
        progress.reaches(Stage::Leaving);
        let first = progress.drain().unwrap();
        progress.reaches(Stage::Finishing);
        let second = progress.drain().unwrap();
        assert_eq!((first.stage, second.stage), (Stage::Leaving, Stage::Finishing));
        assert_eq!((first.began_at, first.began), (second.began_at, second.began));
    }
}
