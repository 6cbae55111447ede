//! Which status is written when: the pace of each kind of news, the order of what is due, and what follows from an answer
//! of the API server. Pure: time is handed in, and what is due comes out.
//!
//! For every object only the latest counts; what is the same as shown is not written.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde_json::Value;
use sluice_model::limits::{
    STATUS_BACKOFF_MAX_MS, STATUS_COUNTS_SETTLE_MS, STATUS_COUNTS_SPACING_MS, STATUS_FAILING_SETTLE_MS,
    STATUS_FIGURES_SPACING_MS, STATUS_FORBIDDEN_RETRY_MS, STATUS_MOVING_SETTLE_MS, STATUS_MOVING_SPACING_MS,
    STATUS_OBJECT_SPACING_MS, STATUS_PASSING_OBJECTS, STATUS_PASSING_SETTLE_MS, STATUS_REFUSED_RETRY_MS,
    STATUS_ROLLOUT_SPACING_MS, STATUS_WRITES_BURST, STATUS_WRITES_PER_SECOND,
};
use sluice_model::{Kind, Name, ObjectKey};

use super::bucket::Bucket;
use super::desired::{Desired, Truth, Weight};
use super::difference::{Difference, difference};
use super::queue::{Queue, Urgency};
use super::reason::Reason;
use super::watched::{Watched, condition, status, text};
use crate::rollout::Millis;

/// A status to write.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    /// Of which object.
    pub object: ObjectKey,
    /// What it is to say.
    pub desired: Desired,
    /// What it says.
    pub shown: Value,
    /// The version of the object that shows it: the write is refused if there is another by then.
    pub version: String,
}

/// What the API server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is written: the object's version, and its status.
    Written(String, Value),
    /// It was taken and nothing of the object changed: what differs is not kept, or was not ours to take away.
    Unmoved,
    /// There is no such object any more.
    Gone,
    /// The object has changed meanwhile.
    Outdated,
    /// It cannot be written as it is: somebody else owns a part of it, or it is called invalid.
    Refused,
    /// Nothing may be written there.
    Forbidden,
    /// It did not answer, or is busy; how long it asks to wait, if it does.
    Unavailable(Option<u64>),
}

/// See the file's comment.
#[derive(Debug)]
pub struct Schedule {
    entries: BTreeMap<ObjectKey, Entry>,
    /// Those that differ from what is shown.
    queue: Queue,
    bucket: Bucket,
    /// Where status may not be written, until when it is not tried.
    forbidden: BTreeMap<(Kind, Name), Millis>,
    /// When the API server is asked again after it did not answer, and how long it was waited for.
    pause: Option<(Millis, u64)>,
}

#[derive(Debug)]
struct Entry {
    desired: Desired,
    hearsay: Hearsay,
    difference: Difference,
    /// Since when it has differed at all.
    differs_since: Millis,
    /// Since when it is to say this, as far as people would notice.
    says_since: Millis,
    written_at: Option<Millis>,
    written: Option<Written>,
    /// The version that it was compared with.
    compared: Option<String>,
    progress: Progress,
    /// How urgent it is, and when it is due; `None` while it is not.
    due: Option<(Urgency, Millis)>,
}

/// Whether what a status is to say is still so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hearsay {
    /// It is.
    Known,
    /// It cannot be told at the moment: what is written stays.
    Lost,
}

/// How many versions a watch may be behind. One that is further behind shows what is old, and the write that follows from
/// that is refused.
const OLDER_VERSIONS: usize = 8;

/// What was written, until the watch shows it.
#[derive(Debug)]
struct Written {
    /// Versions of the object that are older, as far as the watch may still show them.
    older: Vec<String>,
    version: String,
    status: Value,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Progress {
    /// It may be written.
    Free,
    /// It is being written.
    Underway,
    /// Not before this.
    After(Millis),
    /// Not before the watch shows another version than this, or it is that late.
    Behind(String, Millis),
    /// Not before the watch shows another version than this: at this one the API server kept nothing of what differs.
    InVain(String),
}

impl Schedule {
    /// An empty one.
    pub fn new(now: Millis) -> Self {
        Self {
            entries: BTreeMap::new(),
            queue: Queue::default(),
            bucket: Bucket::new(STATUS_WRITES_BURST, 1_000 / STATUS_WRITES_PER_SECOND, now),
            forbidden: BTreeMap::new(),
            pause: None,
        }
    }

    /// This is what every status of these kinds is to say now. Objects that are not in it and that exist still keep what they
    /// say.
    pub fn want(&mut self, kinds: &[Kind], all: BTreeMap<ObjectKey, Desired>, watched: &dyn Watched, now: Millis) {
        let of_kinds = self.entries.keys().filter(|key| kinds.contains(&key.kind));
        let missing = of_kinds.filter(|key| !all.contains_key(key));
        for key in missing.cloned().collect::<Vec<_>>() {
            self.queue.put(&key, None);
            if watched.object(&key).is_none() {
                self.entries.remove(&key);
            } else if let Some(entry) = self.entries.get_mut(&key) {
                (entry.hearsay, entry.difference) = (Hearsay::Lost, Difference::Same);
            }
        }
        for (key, desired) in all {
            self.want_one(key, desired, watched, now);
        }
    }

    fn want_one(&mut self, key: ObjectKey, desired: Desired, watched: &dyn Watched, now: Millis) {
        match self.entries.get_mut(&key) {
            Some(entry) if entry.desired == desired && entry.hearsay == Hearsay::Known => return,
            Some(entry) => {
                let another = entry.desired.uid != desired.uid;
                if another {
                    entry.written = None;
                }
                if another || !says_the_same(&entry.desired, &desired) {
                    entry.says_since = now;
                    entry.progress.is_told_anew();
                }
                if matches!(entry.progress, Progress::InVain(_)) {
                    entry.progress = Progress::Free;
                }
                (entry.desired, entry.hearsay) = (desired, Hearsay::Known);
            }
            None => {
                let entry = Entry {
                    desired,
                    hearsay: Hearsay::Known,
                    difference: Difference::Same,
                    differs_since: now,
                    says_since: now,
                    written_at: None,
                    written: None,
                    compared: None,
                    progress: Progress::Free,
                    due: None,
                };
                self.entries.insert(key.clone(), entry);
            }
        }
        self.compare(&key, watched, now);
    }

    /// Looks whether anybody changed a status since it was compared.
    pub fn sweep(&mut self, watched: &dyn Watched, now: Millis) {
        let moved = |(key, entry): (&ObjectKey, &Entry)| {
            let object = watched.object(key)?;
            (object.metadata.resource_version != entry.compared).then(|| key.clone())
        };
        let known = |(_, entry): &(&ObjectKey, &Entry)| entry.hearsay == Hearsay::Known;
        let moved: Vec<ObjectKey> = self.entries.iter().filter(known).filter_map(moved).collect();
        moved.iter().for_each(|key| self.compare(key, watched, now));
    }

    fn compare(&mut self, key: &ObjectKey, watched: &dyn Watched, now: Millis) {
        let (Some(entry), Some(object)) = (self.entries.get_mut(key), watched.object(key)) else {
            return;
        };
        entry.compare(key.kind, &object, now);
        self.queue.put(key, entry.due);
    }

    /// At most `room` statuses that are due, the most urgent first. They count as being written from now on.
    pub fn due(&mut self, room: usize, watched: &dyn Watched, now: Millis) -> Vec<Write> {
        if room == 0 || self.pause.is_some_and(|(until, _)| now < until) {
            return vec![];
        }
        self.forbidden.retain(|_, until| now < *until);
        let mut writes = Vec::new();
        while writes.len() < room {
            let Some(key) = self.next_due(now) else { break };
            let Some(entry) = self.entries.get_mut(&key) else {
                self.queue.put(&key, None);
                continue;
            };
            let object = watched.object(&key);
            let Some(write) = object.and_then(|object| entry.write(&key, &object, now)) else {
                // The watch shows another object, or none: looked at again once a second.
                entry.due = entry.due.map(|(urgency, at)| (urgency, at.max(later(now, 1_000))));
                self.queue.put(&key, entry.due);
                continue;
            };
            if !self.bucket.take(now) {
                break;
            }
            (entry.progress, entry.due) = (Progress::Underway, None);
            self.queue.put(&key, None);
            writes.push(write);
        }
        writes
    }

    /// The most urgent one that is due and may be written.
    fn next_due(&self, now: Millis) -> Option<ObjectKey> {
        let allowed = |key: &&ObjectKey| self.forbidden.is_empty() || !self.forbidden.contains_key(&place(key));
        self.queue.due(now).find(allowed).cloned()
    }

    /// When to look again; `None` if nothing waits.
    pub fn next_at(&self, now: Millis) -> Option<Millis> {
        let allowed = |key: &ObjectKey| match self.forbidden.is_empty() {
            true => Millis(0),
            false => self.forbidden.get(&place(key)).copied().unwrap_or_default(),
        };
        let due = self.queue.next_at(allowed)?;
        let pause = self.pause.map_or(Millis(0), |(until, _)| until);
        Some(due.max(pause).max(self.bucket.next_at(now)))
    }

    /// What became of a write.
    pub fn wrote(&mut self, write: &Write, answer: Answer, watched: &dyn Watched, now: Millis) {
        let key = &write.object;
        match answer {
            Answer::Unavailable(asked) => self.back_off(asked, now),
            Answer::Written(..)
            | Answer::Unmoved
            | Answer::Gone
            | Answer::Outdated
            | Answer::Refused
            | Answer::Forbidden => {
                self.pause = None;
            }
        }
        if answer == Answer::Forbidden {
            self.forbidden.insert(place(key), later(now, STATUS_FORBIDDEN_RETRY_MS));
        }
        let Some(entry) = self
            .entries
            .get_mut(key)
            .filter(|entry| entry.desired.uid == write.desired.uid)
        else {
            return;
        };
        entry.progress = match answer {
            Answer::Written(version, status) => {
                entry.note_written(write, version, status);
                entry.written_at = Some(now);
                Progress::Free
            }
            Answer::Unmoved => Progress::InVain(write.version.clone()),
            Answer::Gone => Progress::After(later(now, STATUS_FORBIDDEN_RETRY_MS)),
            Answer::Outdated => Progress::Behind(write.version.clone(), later(now, STATUS_BACKOFF_MAX_MS)),
            Answer::Refused => Progress::After(later(now, STATUS_REFUSED_RETRY_MS)),
            Answer::Forbidden | Answer::Unavailable(_) => Progress::Free,
        };
        self.compare(key, watched, now);
    }

    fn back_off(&mut self, asked: Option<u64>, now: Millis) {
        let before = self.pause.map_or(500, |(_, wait)| wait);
        let wait = asked.unwrap_or(before.saturating_mul(2)).min(STATUS_BACKOFF_MAX_MS);
        self.pause = Some((later(now, wait), wait));
    }
}

impl Progress {
    /// What was refused is tried again when it is to say something else.
    fn is_told_anew(&mut self) {
        match self {
            Self::After(_) | Self::Behind(..) => *self = Self::Free,
            Self::Free | Self::Underway | Self::InVain(_) => {}
        }
    }

    /// From when on it may be written; `None` while it is.
    fn free_at(&self) -> Option<Millis> {
        match self {
            Self::Free => Some(Millis(0)),
            Self::Underway | Self::InVain(_) => None,
            Self::After(at) => Some(*at),
            // Looked at once a second until then.
            Self::Behind(_, at) => Some(Millis(at.0.saturating_sub(STATUS_BACKOFF_MAX_MS).saturating_add(1_000))),
        }
    }
}

impl Entry {
    fn note_written(&mut self, write: &Write, version: String, status: Value) {
        // What the watch does not show yet was written on top of what was written before.
        let before = self.written.take().filter(|written| written.version == write.version);
        let mut older = before.map_or_else(Vec::new, |written| written.older);
        older.push(write.version.clone());
        let most = older.len().saturating_sub(OLDER_VERSIONS);
        older.drain(..most);
        self.written = Some(Written { older, version, status });
    }

    fn compare(&mut self, kind: Kind, object: &DynamicObject, now: Millis) {
        self.compared.clone_from(&object.metadata.resource_version);
        if matches!(&self.progress, Progress::InVain(at) if self.compared.as_ref() != Some(at)) {
            self.progress = Progress::Free;
        }
        let version = object.metadata.resource_version.as_ref();
        // What the watch shows is not kept twice.
        self.written
            .take_if(|written| version.is_none_or(|version| !written.older.contains(version)));
        let shown = shown(self, object).map(|(status, _)| status);
        // `None`: the watch shows another object of that name, or none yet.
        let difference = shown.map_or(Difference::Same, |shown| difference(kind, &self.desired, shown));
        let left_out = shown.is_some_and(|shown| is_left_out(&self.desired, shown));
        let urgency = shown.map_or(Urgency::Other, |shown| urgency(kind, self.desired.weight, shown));
        if self.difference == Difference::Same {
            self.differs_since = now;
        }
        self.difference = difference;
        let due = self.due_at().filter(|_| !left_out && difference != Difference::Same);
        self.due = due.map(|at| (urgency, at));
    }

    fn due_at(&self) -> Option<Millis> {
        let free = self.progress.free_at()?;
        let pace = pace(self.difference, self.desired.weight);
        let since = match self.difference {
            // Flapping starts the wait anew.
            Difference::Content => self.says_since.max(self.differs_since),
            Difference::Same
            | Difference::Figures
            | Difference::Counts
            | Difference::Moving
            | Difference::Turned
            | Difference::Answer => self.differs_since,
        };
        let spaced = self.written_at.map_or(Millis(0), |at| later(at, pace.spacing_ms));
        Some(later(since, pace.settle_ms).max(spaced).max(free))
    }

    /// What is to be written; `None` while the watch is behind.
    fn write(&mut self, key: &ObjectKey, object: &DynamicObject, now: Millis) -> Option<Write> {
        let (status, version) = shown(self, object)?;
        let is_behind = matches!(&self.progress, Progress::Behind(behind, until) if *behind == version && now < *until);
        if is_behind {
            self.due = self.due.map(|(urgency, _)| (urgency, later(now, 1_000)));
            return None;
        }
        let (shown, version) = (status.clone(), version.to_owned());
        if difference(key.kind, &self.desired, &shown) == Difference::Same {
            self.due = None; // the watch has caught up since
            return None;
        }
        Some(Write {
            object: key.clone(),
            desired: self.desired.clone(),
            shown,
            version,
        })
    }
}

fn place(key: &ObjectKey) -> (Kind, Name) {
    (key.kind, key.namespace.clone())
}

fn later(at: Millis, by_ms: u64) -> Millis {
    Millis(at.0.saturating_add(by_ms))
}

/// What an object's status says as far as is known, and the version that says it: what was written last, until the watch
/// shows something else than it did before. `None` if the watch shows another object.
fn shown<'a>(entry: &'a Entry, object: &'a DynamicObject) -> Option<(&'a Value, &'a str)> {
    if object.metadata.uid.as_deref() != Some(&*entry.desired.uid) {
        return None;
    }
    let version = object.metadata.resource_version.as_deref()?;
    match &entry.written {
        Some(written) if written.older.iter().any(|older| older == version) => {
            Some((&written.status, &written.version))
        }
        Some(_) | None => Some((status(object), version)),
    }
}

/// Whether people would notice a difference.
fn says_the_same(one: &Desired, other: &Desired) -> bool {
    let kind = |weight: &Weight| std::mem::discriminant(weight);
    let word = |desired: &Desired| desired.fields.get("programmed").cloned();
    let reasons = |desired: &Desired| -> Vec<Reason> { desired.facts.iter().map(|fact| fact.reason).collect() };
    kind(&one.weight) == kind(&other.weight) && word(one) == word(other) && reasons(one) == reasons(other)
}

/// What passes with many others is not written, unless what is there would be wrong then: of new objects nothing is said
/// yet, of others what they were before.
fn is_left_out(desired: &Desired, shown: &Value) -> bool {
    let Weight::Passing { crowd } = desired.weight else {
        return false;
    };
    let programmed = condition(shown, "Programmed");
    let says = |field, expected: &str| programmed.and_then(|it| text(it, field)) == Some(expected);
    let is_fair = programmed.is_none() || says("reason", "Pending") || says("status", Truth::True.as_str());
    crowd > STATUS_PASSING_OBJECTS && is_fair
}

/// How long news waits for more, and how far apart two writes of one object are, in milliseconds.
struct Pace {
    settle_ms: u64,
    spacing_ms: u64,
}

fn pace(difference: Difference, weight: Weight) -> Pace {
    let (settle_ms, spacing_ms) = match (difference, weight) {
        (Difference::Same | Difference::Answer, _) => (0, 0),
        (Difference::Figures, _) => (0, STATUS_FIGURES_SPACING_MS),
        (Difference::Counts, _) => (STATUS_COUNTS_SETTLE_MS, STATUS_COUNTS_SPACING_MS),
        (Difference::Moving, _) => (STATUS_MOVING_SETTLE_MS, STATUS_MOVING_SPACING_MS),
        (Difference::Turned, _) => (0, STATUS_ROLLOUT_SPACING_MS),
        (Difference::Content, Weight::Settled | Weight::Fleet) => (0, STATUS_OBJECT_SPACING_MS),
        (Difference::Content, Weight::Failing) => (STATUS_FAILING_SETTLE_MS, STATUS_OBJECT_SPACING_MS),
        (Difference::Content, Weight::Passing { .. }) => (STATUS_PASSING_SETTLE_MS, STATUS_OBJECT_SPACING_MS),
    };
    Pace { settle_ms, spacing_ms }
}

fn urgency(kind: Kind, weight: Weight, shown: &Value) -> Urgency {
    let programmed = condition(shown, "Programmed");
    let is_fresh = programmed.is_none_or(|programmed| programmed.get("observedGeneration").is_none());
    match (kind, weight) {
        (Kind::Rollout, _) => Urgency::Rollout,
        (Kind::ProxyRoute | Kind::Pool, Weight::Failing) => Urgency::Failing,
        (Kind::ProxyRoute | Kind::Pool, Weight::Settled | Weight::Passing { .. } | Weight::Fleet) if is_fresh => {
            Urgency::Fresh
        }
        (Kind::ProxyRoute | Kind::Pool, Weight::Settled | Weight::Passing { .. } | Weight::Fleet) => Urgency::Other,
    }
}

#[cfg(test)]
mod tests;
