//! The fleet's record: written before anything that depends on it is sent; read again when somebody else wrote it.

use super::{Fleet, Kept, Next};
use crate::pipeline::story::Happening;
use crate::revisions::{CommitError, Version};
use crate::rollout::{Beginning, Core, Millis};

impl Fleet {
    /// Writes what was observed, if that is due. No order depends on it: what cannot be written now is written later,
    /// unless somebody else wrote.
    pub(super) fn save_old_progress(&mut self, now: Millis) -> Result<(), CommitError> {
        match self.progress_since {
            Some(since) if now.since(since) >= self.revisions.progress_ms() => match self.save(now) {
                Err(error @ CommitError::Stale { .. }) => Err(error),
                Err(error) => {
                    self.progress_since = Some(now);
                    self.is_unwritten(format!("what is observed cannot be written: {error}"), now);
                    Ok(())
                }
                Ok(()) => Ok(()),
            },
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn save(&mut self, now: Millis) -> Result<(), CommitError> {
        self.version = self.revisions.commit_record(&self.version, self.core.record())?;
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

    fn is_unwritten(&mut self, trouble: String, now: Millis) {
        if self.unwritten.as_ref() != Some(&trouble) {
            self.tell(Happening::Trouble(trouble.clone()), now);
            self.unwritten = Some(trouble);
        }
    }

    /// The record could not be written: nothing is sent, and what the store holds counts.
    pub(super) fn step_back(&mut self, error: &CommitError, now: Millis) -> Next {
        let trouble = format!("the record was not written, so nothing is ordered: {error}");
        self.is_unwritten(trouble.clone(), now);
        // Whoever asked for it is told.
        self.last_refusal = Some(trouble);
        self.progress_since = None;
        if matches!(error, CommitError::Stale { .. }) {
            self.kept = Kept::Perhaps;
        }
        match self.revisions.load_record() {
            Ok(Some((record, version))) => {
                self.committed = Some(record.clone());
                self.core.reload(record);
                self.version = version;
                if self.core.is_behind() {
                    self.ask_everybody_again();
                }
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
        let lost_before_first_write = self.version == Version::None;
        let beginning = match self.core.record().beginning {
            Beginning::NewFleet if lost_before_first_write => Beginning::NewFleet,
            Beginning::NewFleet | Beginning::RecordMissing => Beginning::RecordMissing,
        };
        let plan = self.core.record().plan.clone();
        self.core = Core::begin(self.name.clone(), plan, beginning);
        self.version = Version::None;
        self.committed = None;
        self.ask_everybody_again();
    }

    /// Cuts all streams: instances come back and show the order that they follow, which says what is stable.
    fn ask_everybody_again(&mut self) {
        self.signed = None;
        for connected in self.instances.values_mut() {
            if let Some(link) = connected.link.take() {
                link.cut();
            }
        }
    }

    /// Puts back what has vanished from where it should outlive the state folder, if somebody was there.
    pub(super) fn mend_what_is_kept(&mut self, now: Millis) {
        if self.kept == Kept::AsWritten || self.misses_something() {
            return;
        }
        match self.revisions.mend(&self.needed()) {
            Ok(mended) => {
                self.kept = Kept::AsWritten;
                if mended > 0 {
                    let what = format!("{mended} pieces of the revisions in force had vanished and are kept again");
                    self.tell(Happening::Mended(what), now);
                }
            }
            Err(error) => self.trouble(error.to_string(), now),
        }
    }
}
