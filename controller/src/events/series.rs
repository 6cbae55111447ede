//! Which Events are written when. Pure: time is handed in, and what is due comes out.
//!
//! The same happening to the same object within some minutes is one Event with a count, written at most once a minute. Its
//! text cannot be changed once it is written, so what means something else is another Event ([`Note::identity`]). What
//! happens to one object, and to all of them, is bounded by buckets: an object that flaps fills no store.

use std::collections::BTreeMap;

use sluice_model::ObjectKey;
use sluice_model::limits::{
    EVENT_OBJECT_BURST, EVENT_OBJECT_REFILL_MS, EVENT_REPEAT_MS, EVENT_SERIES_MS, EVENT_WRITES_BURST,
    EVENT_WRITES_PER_SECOND, EVENTS_WAITING,
};

use super::note::{Identity, Note};
use crate::rollout::Millis;
use crate::status::Bucket;

/// See the file's comment.
#[derive(Debug)]
pub struct Series {
    known: BTreeMap<Identity, Entry>,
    objects: BTreeMap<String, Bucket>,
    all: Bucket,
    dropped: u64,
}

#[derive(Debug)]
struct Entry {
    note: Note,
    /// What it is called on the API server, once it was made.
    name: Option<String>,
    /// How often it happened.
    count: u64,
    /// As far as was written.
    written: u64,
    first: Moment,
    last: Moment,
    written_at: Millis,
    failures: u32,
}

/// A time of ours, for pace, and the wall clock's, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// On a clock that never jumps.
    pub steady: Millis,
    /// On the wall.
    pub wall: Millis,
}

/// An Event to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventWrite {
    /// What it says.
    pub note: Note,
    /// The Event that is there; `None`: it is made.
    pub name: Option<String>,
    /// How often it happened.
    pub count: u64,
    /// When it happened first, by the wall clock.
    pub first: Millis,
    /// And last.
    pub last: Millis,
}

/// How a write ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The Event called so is there.
    Written(String),
    /// The Event that was to be added to is there no more.
    Gone,
    /// It never will be: its object's namespace is going, or nobody may write there.
    Never,
    /// Perhaps later.
    Later,
}

/// After so many failures in a row nobody wants to know any more.
const TRIES: u32 = 5;

impl Series {
    /// Of nothing.
    pub fn new(now: Millis) -> Self {
        Self {
            known: BTreeMap::new(),
            objects: BTreeMap::new(),
            all: Bucket::new(EVENT_WRITES_BURST, 1_000 / EVENT_WRITES_PER_SECOND, now),
            dropped: 0,
        }
    }

    /// Something happened.
    pub fn note(&mut self, note: Note, at: Moment) {
        let now = at.steady;
        self.known.retain(|_, entry| !entry.is_over(now));
        let key = note.identity();
        if let Some(entry) = self.known.get_mut(&key).filter(|entry| entry.goes_on(now)) {
            return entry.again(at);
        }
        let bucket = self
            .objects
            .entry(note.uid.clone())
            .or_insert_with(|| Bucket::new(EVENT_OBJECT_BURST, EVENT_OBJECT_REFILL_MS, now));
        if self.known.len() < EVENTS_WAITING && bucket.take(now) {
            self.known.insert(key, Entry::new(note, at));
            return;
        }
        // Too many of them: it is counted with another of its kind, if there is one.
        let of_its_kind = |entry: &&mut Entry| entry.note.uid == note.uid && entry.note.occasion == note.occasion;
        match self.known.values_mut().rfind(of_its_kind) {
            Some(entry) => entry.again(at),
            None => self.dropped = self.dropped.saturating_add(1),
        }
    }

    /// How many happenings were told nowhere.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The next Event to write, if one is due. It counts as written from now on.
    pub fn due(&mut self, now: Millis) -> Option<EventWrite> {
        self.objects.retain(|_, bucket| !bucket.is_full(now));
        let due = self
            .known
            .values_mut()
            .filter(|entry| entry.due_at().is_some_and(|at| at <= now));
        // New ones first, in the order in which they happened.
        let entry = due.min_by_key(|entry| (entry.name.is_some(), entry.first.steady))?;
        if !self.all.take(now) {
            return None;
        }
        (entry.written, entry.written_at) = (entry.count, now);
        Some(EventWrite {
            note: entry.note.clone(),
            name: entry.name.clone(),
            count: entry.count,
            first: entry.first.wall,
            last: entry.last.wall,
        })
    }

    /// When to ask again; `None` if nothing waits.
    pub fn next_at(&self, now: Millis) -> Option<Millis> {
        let next = self.known.values().filter_map(Entry::due_at).min()?;
        Some(next.max(self.all.next_at(now)))
    }

    /// How a write ended.
    pub fn ended(&mut self, write: &EventWrite, ended: Ended) {
        let key = write.note.identity();
        let Some(entry) = self.known.get_mut(&key) else { return };
        match ended {
            Ended::Written(name) => (entry.name, entry.failures) = (Some(name), 0),
            Ended::Gone => (entry.name, entry.written) = (None, 0),
            Ended::Later if entry.failures < TRIES => {
                entry.failures += 1;
                entry.written = entry.written.saturating_sub(1);
            }
            Ended::Never | Ended::Later => drop(self.known.remove(&key)),
        }
    }
}

impl Entry {
    fn new(note: Note, at: Moment) -> Self {
        Self {
            note,
            name: None,
            count: 1,
            written: 0,
            first: at,
            last: at,
            written_at: Millis(0),
            failures: 0,
        }
    }

    fn again(&mut self, at: Moment) {
        self.count = self.count.saturating_add(1);
        self.last = at;
    }

    fn goes_on(&self, now: Millis) -> bool {
        now.since(self.last.steady) < EVENT_SERIES_MS
    }

    fn is_over(&self, now: Millis) -> bool {
        !self.goes_on(now) && self.written == self.count
    }

    fn due_at(&self) -> Option<Millis> {
        let wait = match (self.written < self.count, &self.name, self.failures) {
            (false, _, _) => return None,
            (true, None, 0) => 0,
            (true, None, failures) => u64::from(failures).saturating_mul(5_000),
            (true, Some(_), _) => EVENT_REPEAT_MS,
        };
        Some(Millis(self.written_at.0.saturating_add(wait)))
    }
}

/// An Event's name: that of its object, as far as it fits, and something that no other has.
pub fn name(object: &ObjectKey, unique: &str) -> String {
    let stem: String = object.name.as_str().chars().take(200).collect();
    format!("{}.{unique}", stem.trim_end_matches(['-', '.']))
}
