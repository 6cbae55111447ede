//! What one watch has seen, object by object. Pure: a list or an event says something of an object, and whether that is
//! news is decided here.
//!
//! An object never goes back: a list that a cache answered may be older than what was seen already, and an object that was
//! deleted does not return under its old UID. The one exception is a server whose history was set back (its database was
//! restored from a copy): then the next whole list is the truth, whatever its versions say. What tells the two apart is
//! time: after an old list the watch brings what is newer, at once; a history that was set back knows nothing newer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use sluice_model::Name;
use sluice_model::limits::{SOURCE_DELETED_UIDS, SOURCE_REMOVAL_HOLD_MS};

use crate::rollout::Millis;

/// A namespace and a name.
pub(super) type Place = (Name, Name);

/// Which of its versions an object is, as far as it can be compared: API servers count upwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Version(Option<u64>);

impl Version {
    /// The version that a `resourceVersion` says. Of what is no number nothing is known, and it is always news.
    pub(super) fn of(resource_version: &str) -> Self {
        Self(resource_version.parse().ok())
    }

    /// The number, if it is one.
    pub(super) fn number(self) -> Option<u64> {
        self.0
    }

    fn is_before(self, other: Self) -> bool {
        matches!((self.0, other.0), (Some(this), Some(other)) if this < other)
    }
}

/// One state of one object.
#[derive(Clone, Debug)]
pub(super) struct Sighting<T> {
    /// Where.
    pub(super) place: Place,
    /// Which object: another one of the same name has another.
    pub(super) uid: Arc<str>,
    /// Which of its versions.
    pub(super) version: Version,
    /// What it says.
    pub(super) value: T,
}

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Store<T> {
    known: BTreeMap<Place, Known<T>>,
    /// What the list that is coming in has shown, while one is.
    listing: Option<BTreeSet<Place>>,
    deleted: Deleted,
    /// What a list showed older than it is known, since when, as long as nothing newer came.
    older: BTreeMap<Place, Millis>,
    /// Versions count for nothing up to the end of the next list.
    is_set_back: bool,
}

#[derive(Debug)]
struct Known<T> {
    uid: Arc<str>,
    version: Version,
    value: T,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            listing: None,
            deleted: Deleted::default(),
            older: BTreeMap::new(),
            is_set_back: false,
        }
    }
}

impl<T> Store<T> {
    /// Takes in a sighting; `false` if it is older than what is known.
    pub(super) fn see(&mut self, sighting: Sighting<T>, now: Millis) -> bool {
        let Sighting {
            place,
            uid,
            version,
            value,
        } = sighting;
        if let Some(listing) = &mut self.listing {
            listing.insert(place.clone());
        }
        let is_listed = self.listing.is_some();
        let is_old = self
            .known
            .get(&place)
            .is_some_and(|known| version.is_before(known.version));
        if !self.is_set_back && (is_old || self.deleted.holds(&uid)) {
            if is_listed {
                self.older.entry(place).or_insert(now);
            }
            return false;
        }
        self.older.remove(&place);
        self.known.insert(place, Known { uid, version, value });
        true
    }

    /// An object was deleted, whose last version this is. `true` if it is the one that is known: it is known up to
    /// [`Self::remove`], which may be later.
    pub(super) fn is_deletion(&self, place: &Place, uid: &str, version: Version) -> bool {
        let known = self.known.get(place);
        known.is_some_and(|known| *known.uid == *uid && !version.is_before(known.version))
    }

    /// Forgets the object at `place`; it does not return.
    pub(super) fn remove(&mut self, place: &Place) -> Option<T> {
        self.older.remove(place);
        let Known { uid, value, .. } = self.known.remove(place)?;
        self.deleted.note(uid);
        Some(value)
    }

    /// A list begins to come in.
    pub(super) fn list_begins(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    /// It is complete: what it did not show.
    pub(super) fn list_ends(&mut self) -> Vec<Place> {
        self.is_set_back = false;
        let Some(listed) = self.listing.take() else {
            return vec![];
        };
        self.older.retain(|place, _| listed.contains(place));
        let missing = self.known.keys().filter(|place| !listed.contains(*place));
        missing.cloned().collect()
    }

    /// The server's history was set back: the next list is the truth.
    pub(super) fn set_back(&mut self) {
        self.is_set_back = true;
        self.deleted = Deleted::default();
        self.older.clear();
    }

    /// Whether a list showed something older than it is known and nothing newer has come since, so that it is no old list:
    /// there is nothing newer.
    pub(super) fn looks_set_back(&self, now: Millis) -> bool {
        let since = self.older.values().min();
        self.listing.is_none() && since.is_some_and(|since| now.since(*since) >= SOURCE_REMOVAL_HOLD_MS)
    }

    /// What is known of the object at `place`.
    pub(super) fn get(&self, place: &Place) -> Option<&T> {
        self.known.get(place).map(|known| &known.value)
    }

    /// How many objects are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

/// The UIDs of objects that were deleted, the last ones.
#[derive(Debug, Default)]
struct Deleted {
    uids: BTreeSet<Arc<str>>,
    in_order: VecDeque<Arc<str>>,
}

impl Deleted {
    fn note(&mut self, uid: Arc<str>) {
        if self.uids.insert(uid.clone()) {
            self.in_order.push_back(uid);
        }
        if self.in_order.len() > SOURCE_DELETED_UIDS
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }

    fn holds(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        ("shop".parse().unwrap(), name.parse().unwrap())
    }

    fn see(store: &mut Store<u64>, name: &str, uid: &str, version: u64) -> bool {
        let sighting = Sighting {
            place: place(name),
            uid: uid.into(),
            version: Version(Some(version)),
            value: version,
        };
        store.see(sighting, Millis(0))
    }

    #[test]
    fn an_object_never_goes_back() {
        let mut store = Store::default();
        assert!(see(&mut store, "a", "1", 5));
        assert!(!see(&mut store, "a", "1", 4), "an older event");
        assert!(see(&mut store, "a", "1", 5) && see(&mut store, "a", "1", 6));
        store.list_begins();
        assert!(!see(&mut store, "a", "1", 3), "a list out of a cache");
        assert_eq!(store.list_ends(), []);
        assert_eq!(store.get(&place("a")), Some(&6));
        assert!(!store.is_deletion(&place("a"), "1", Version(Some(5))));
        assert!(
            !store.is_deletion(&place("a"), "0", Version(Some(9))),
            "of its predecessor"
        );
        assert!(store.is_deletion(&place("a"), "1", Version(Some(7))));
    }

    #[test]
    fn a_deleted_object_does_not_return_and_its_successor_does() {
        let mut store = Store::default();
        see(&mut store, "a", "1", 5);
        assert_eq!(store.remove(&place("a")), Some(5));
        store.list_begins();
        assert!(!see(&mut store, "a", "1", 5));
        assert_eq!(store.list_ends(), []);
        assert_eq!(store.len(), 0);
        assert!(see(&mut store, "a", "2", 9));
        assert!(!see(&mut store, "a", "1", 5));
    }

    #[test]
    fn a_list_tells_what_is_gone() {
        let mut store = Store::default();
        for name in ["a", "b", "c"] {
            see(&mut store, name, name, 1);
        }
        store.list_begins();
        see(&mut store, "b", "b", 1);
        see(&mut store, "d", "d", 2);
        assert_eq!(store.list_ends(), [place("a"), place("c")]);
        assert_eq!(store.len(), 4, "they are known up to their removal");
        // One that breaks off and begins again counts from its beginning.
        store.list_begins();
        see(&mut store, "a", "a", 1);
        store.list_begins();
        see(&mut store, "d", "d", 2);
        assert_eq!(store.list_ends(), [place("a"), place("b"), place("c")]);
        assert_eq!(store.list_ends(), [], "no list came in");
    }

    #[test]
    fn a_history_that_was_set_back_is_followed() {
        let mut store = Store::default();
        see(&mut store, "a", "1", 900);
        see(&mut store, "b", "2", 901);
        store.remove(&place("b"));
        store.set_back();
        store.list_begins();
        assert!(see(&mut store, "a", "1", 400) && see(&mut store, "b", "2", 300));
        assert_eq!(store.list_ends(), []);
        assert_eq!(store.get(&place("a")), Some(&400));
        assert!(!see(&mut store, "a", "1", 399), "from there on it counts again");
    }

    #[test]
    fn an_old_list_and_a_history_that_was_set_back_are_told_apart_by_time() {
        let later = Millis(SOURCE_REMOVAL_HOLD_MS);
        let listed = |version: u64| {
            let mut store = Store::default();
            see(&mut store, "a", "1", 9);
            store.list_begins();
            see(&mut store, "a", "1", version);
            store
        };
        let mut old = listed(5);
        assert!(!old.looks_set_back(later), "the list is not complete");
        old.list_ends();
        assert!(!old.looks_set_back(Millis(1)));
        assert!(old.looks_set_back(later));
        see(&mut old, "a", "1", 9);
        assert!(!old.looks_set_back(later), "what is newer has come");
        let mut same = listed(9);
        same.list_ends();
        assert!(!same.looks_set_back(later));
        // An old event, out of order, says nothing of the server.
        see(&mut same, "a", "1", 3);
        assert!(!same.looks_set_back(later));
        // What was deleted is there again, as it was.
        let mut returned = Store::default();
        see(&mut returned, "a", "1", 9);
        returned.remove(&place("a"));
        returned.list_begins();
        see(&mut returned, "a", "1", 9);
        returned.list_ends();
        assert!(returned.looks_set_back(later));
    }

    #[test]
    fn what_is_remembered_of_the_deleted_is_bounded() {
        let mut deleted = Deleted::default();
        for uid in 0..SOURCE_DELETED_UIDS + 5 {
            deleted.note(uid.to_string().into());
        }
        assert_eq!(
            (deleted.uids.len(), deleted.in_order.len()),
            (SOURCE_DELETED_UIDS, SOURCE_DELETED_UIDS)
        );
        assert!(!deleted.holds("0") && deleted.holds("7"));
    }

    #[test]
    fn versions_that_are_no_numbers_are_always_news() {
        let mut store = Store::default();
        let odd = |value| Sighting {
            place: place("a"),
            uid: "1".into(),
            version: Version::of("abc"),
            value,
        };
        assert!(store.see(odd(1), Millis(0)) && store.see(odd(2), Millis(0)));
    }
}
