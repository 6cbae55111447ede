//! The fleet's record: written before anything that depends on it is sent; read again when somebody else wrote it.

use sluice_model::limits::RECORD_PROGRESS_MS;

use super::{Fleet, Next};
use crate::pipeline::story::Happening;
use crate::revisions::{CommitError, Version};
use crate::rollout::{Beginning, Core, Millis};

impl Fleet {
    pub(super) fn save_old_progress(&mut self, now: Millis) -> Result<(), CommitError> {
        match self.progress_since {
            Some(since) if now.since(since) >= RECORD_PROGRESS_MS => self.save(now),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn save(&mut self, now: Millis) -> Result<(), CommitError> {
        self.version = self.revisions.commit_record(self.version, self.core.record())?;
        self.committed = Some(self.core.record().clone());
        self.progress_since = None;
        if self.unwritten.take().is_some() {
            self.tell(Happening::Mended("the record is written again".to_owned()), now);
        }
        Ok(())
    }

    /// Writes what was observed and not yet written; for a clean end.
    ///
    /// # Errors
    /// When it cannot be written; that much of the bake is observed again then.
    pub fn save_progress(&mut self, now: Millis) -> Result<(), CommitError> {
        match self.progress_since {
            Some(_) => self.save(now),
            None => Ok(()),
        }
    }

    /// The record could not be written: nothing is sent, and what the store holds counts.
    pub(super) fn step_back(&mut self, error: &CommitError, now: Millis) -> Next {
        let trouble = format!("the record was not written, so nothing is ordered: {error}");
        if self.unwritten.as_ref() != Some(&trouble) {
            self.tell(Happening::Trouble(trouble.clone()), now);
            self.unwritten = Some(trouble.clone());
        }
        // Whoever asked for it is told.
        self.last_refusal = Some(trouble);
        self.progress_since = None;
        match self.revisions.load_record() {
            Ok(Some((record, version))) => {
                self.committed = Some(record.clone());
                self.core.reload(record);
                self.version = version;
            }
            Ok(None) => self.begin_again(),
            // It cannot be read either: back to what it last said.
            Err(_) => match self.committed.clone() {
                Some(record) => self.core.reload(record),
                None => self.begin_again(),
            },
        }
        Next::Nothing
    }

    /// The record is gone: instances say hello again, so that stable can be taken from what they hold.
    fn begin_again(&mut self) {
        let lost_before_first_write = self.version == Version::default();
        let beginning = match self.core.record().beginning {
            Beginning::NewFleet if lost_before_first_write => Beginning::NewFleet,
            Beginning::NewFleet | Beginning::RecordMissing => Beginning::RecordMissing,
        };
        let plan = self.core.record().plan.clone();
        self.core = Core::begin(self.name.clone(), plan, beginning);
        self.version = Version::default();
        self.committed = None;
        self.signed = None;
        for connected in self.instances.values_mut() {
            if let Some(link) = connected.link.take() {
                link.cut();
            }
        }
    }
}
