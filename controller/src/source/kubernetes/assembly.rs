//! What all watches have seen of our own kinds and of namespaces, put together to a view. Pure: what was heard and the
//! time come in, views come out. One object's change touches one object here.
//!
//! What is said to be deleted is still shown for a moment. Then it is asked whether its kind is still served: deleting a
//! CRD deletes all its objects, and is no word about a single route. Objects that went with their CRD are shown as they
//! were, until they are back or for some minutes after their kind is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_model::limits::{SOURCE_LOST_KEEP_MS, SOURCE_REMOVAL_HOLD_MS};
use sluice_model::{CertificateRef, Kind, Name, ObjectKey};

use super::kinds::{Watch, Watched};
use super::read::{Seen, Written};
use super::references;
use super::shown::Shown;
use super::sight::Heard;
use super::store::{Place, Sighting, Store};
use crate::objects::Objects;
use crate::problem::{Problem, Severity};
use crate::rollout::Millis;
use crate::source::Cluster;
use crate::source::cluster::Namespace;

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Assembly {
    objects: Objects,
    /// What is wrong with single objects.
    wrong: BTreeMap<ObjectKey, Arc<[Problem]>>,
    /// The Secrets of other namespaces that objects name.
    foreign: BTreeMap<ObjectKey, Vec<CertificateRef>>,
    seen: BTreeMap<Watch, Store<Written>>,
    leaving: BTreeMap<ObjectKey, Leaving>,
    served: BTreeMap<Kind, Standing>,
    namespaces: BTreeMap<Watch, Store<()>>,
    cluster: Arc<Cluster>,
    /// The greatest version that was seen of our kinds.
    newest: u64,
    /// Our objects with their status, for others.
    shown: Shown,
    /// Whether the next view is another one.
    changed: bool,
}

/// An object that is said to be deleted and still shown.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Leaving {
    watch: Watch,
    place: Place,
    since: Millis,
    why: Why,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// It is gone; its kind, too, may be.
    Deleted,
    /// Its kind went.
    WithItsKind,
}

/// What is known of a kind itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is served.
    Served,
    /// Its CRD is gone, or being deleted.
    Gone,
    /// It is served again, since then; objects that went with it may follow.
    Back(Millis),
}

/// Whether a kind is served, as the API server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Served {
    /// It is.
    Yes,
    /// It is not, or is about to be no more: nothing can be created.
    No,
}

impl Assembly {
    /// Of nothing yet, for a controller in this namespace.
    pub(super) fn new(controller: Name, shown: Shown) -> Self {
        Self {
            objects: Objects::default(),
            wrong: BTreeMap::new(),
            foreign: BTreeMap::new(),
            seen: BTreeMap::new(),
            leaving: BTreeMap::new(),
            served: Kind::ALL.into_iter().map(|kind| (kind, Standing::Served)).collect(),
            namespaces: BTreeMap::new(),
            cluster: Arc::new(Cluster {
                controller,
                namespaces: BTreeMap::new(),
            }),
            newest: 0,
            shown,
            changed: false,
        }
    }

    /// Takes in what `watch` tells.
    pub(super) fn take(&mut self, watch: &Watch, heard: Heard, now: Millis) {
        match watch.watched {
            Watched::Namespace => self.take_namespace(watch, heard, now),
            Watched::Object(kind) => self.take_object(watch, kind, heard, now),
            Watched::Service | Watched::EndpointSlice => {}
        }
    }

    fn take_object(&mut self, watch: &Watch, kind: Kind, heard: Heard, now: Millis) {
        let store = self.seen.entry(watch.clone()).or_default();
        match heard {
            Heard::ListBegins => store.list_begins(),
            Heard::Listed(sighting) | Heard::Changed(sighting) => self.see(watch, sighting, now),
            Heard::ListEnds => {
                let why = match self.standing(kind) {
                    Standing::Gone => Why::WithItsKind,
                    Standing::Served | Standing::Back(_) => Why::Deleted,
                };
                for place in self.seen.entry(watch.clone()).or_default().list_ends() {
                    self.doubt(watch, kind, place, why, now);
                }
            }
            Heard::Deleted(Sighting {
                place, uid, version, ..
            }) => {
                if store.is_deletion(&place, &uid, version) {
                    self.doubt(watch, kind, place, Why::Deleted, now);
                }
            }
            Heard::Failed(super::trouble::Trouble::NoSuchKind) => self.is_gone(kind),
            Heard::Failed(_) => {}
        }
    }

    fn see(&mut self, watch: &Watch, sighting: Sighting<Seen>, now: Millis) {
        let Sighting {
            place,
            uid,
            version,
            value: Seen::Object(written),
        } = sighting
        else {
            return;
        };
        let store = self.seen.entry(watch.clone()).or_default();
        let same = store
            .get(&place)
            .filter(|known| known.says_the_same_as(&written))
            .cloned();
        let key = written.object.key.clone();
        let is_news = same.is_none();
        let as_shown = written.shown.clone();
        let value = same.unwrap_or(written);
        let news = value.clone();
        let sighting = Sighting {
            place,
            uid,
            version,
            value,
        };
        if !store.see(sighting, now) {
            return;
        }
        self.newest = self.newest.max(version.number().unwrap_or_default());
        self.changed |= self
            .leaving
            .remove(&key)
            .is_some_and(|leaving| leaving.why == Why::WithItsKind);
        self.shown.note(key.clone(), as_shown);
        if is_news {
            self.show(key, news);
        }
    }

    fn show(&mut self, key: ObjectKey, written: Written) {
        let Written { object, problems, .. } = written;
        let foreign = references::to_other_namespaces(&object);
        if problems.is_empty() {
            self.wrong.remove(&key);
        } else {
            self.wrong.insert(key.clone(), problems);
        }
        if foreign.is_empty() {
            self.foreign.remove(&key);
        } else {
            self.foreign.insert(key, foreign);
        }
        self.objects.insert(object);
        self.changed = true;
    }

    fn doubt(&mut self, watch: &Watch, kind: Kind, place: Place, why: Why, now: Millis) {
        let (namespace, name) = place.clone();
        let key = ObjectKey::new(kind, namespace, name);
        self.shown.forget(&key);
        let leaving = Leaving {
            watch: watch.clone(),
            place,
            since: now,
            why,
        };
        self.leaving.entry(key).or_insert(leaving);
    }

    fn remove(&mut self, key: &ObjectKey) {
        if let Some(Leaving { watch, place, .. }) = self.leaving.remove(key) {
            self.seen.entry(watch).or_default().remove(&place);
            self.objects.remove(key);
            self.wrong.remove(key);
            self.foreign.remove(key);
            self.changed = true;
        }
    }

    fn take_namespace(&mut self, watch: &Watch, heard: Heard, now: Millis) {
        let store = self.namespaces.entry(watch.clone()).or_default();
        match heard {
            Heard::ListBegins => store.list_begins(),
            Heard::Listed(sighting) | Heard::Changed(sighting) => {
                let Sighting {
                    place,
                    uid,
                    version,
                    value: Seen::Namespace(namespace),
                } = sighting
                else {
                    return;
                };
                let name = place.1.clone();
                let sighting = Sighting {
                    place,
                    uid,
                    version,
                    value: (),
                };
                if store.see(sighting, now) {
                    self.know(name, Some(namespace));
                }
            }
            Heard::ListEnds => {
                for place in store.list_ends() {
                    store.remove(&place);
                    Self::know_in(&mut self.cluster, &mut self.changed, place.1, None);
                }
            }
            Heard::Deleted(Sighting {
                place, uid, version, ..
            }) => {
                if store.is_deletion(&place, &uid, version) {
                    store.remove(&place);
                    self.know(place.1, None);
                }
            }
            Heard::Failed(_) => {}
        }
    }

    fn know(&mut self, name: Name, namespace: Option<Namespace>) {
        Self::know_in(&mut self.cluster, &mut self.changed, name, namespace);
    }

    fn know_in(cluster: &mut Arc<Cluster>, changed: &mut bool, name: Name, namespace: Option<Namespace>) {
        if cluster.namespaces.get(&name) == namespace.as_ref() {
            return;
        }
        let namespaces = &mut Arc::make_mut(cluster).namespaces;
        match namespace {
            Some(namespace) => drop(namespaces.insert(name, namespace)),
            None => drop(namespaces.remove(&name)),
        }
        *changed = true;
    }

    /// What is known of a kind itself.
    pub(super) fn standing(&self, kind: Kind) -> Standing {
        self.served.get(&kind).copied().unwrap_or(Standing::Served)
    }

    /// The kinds of which it is to be asked whether they are served: what is said to be deleted waits for the answer, and
    /// of one that was gone a list came in.
    pub(super) fn doubted_kinds(&self, is_seen: impl Fn(Kind) -> bool, now: Millis) -> BTreeSet<Kind> {
        let waits =
            |leaving: &Leaving| leaving.why == Why::Deleted && now.since(leaving.since) >= SOURCE_REMOVAL_HOLD_MS;
        let waiting = self.leaving.iter().filter(|(_, leaving)| waits(leaving));
        let returned = self.served.iter().filter(|(_, standing)| **standing == Standing::Gone);
        let returned = returned.map(|(kind, _)| *kind).filter(|kind| is_seen(*kind));
        waiting.map(|(key, _)| key.kind).chain(returned).collect()
    }

    /// The API server was asked at `asked_at`, and says this.
    pub(super) fn answered(&mut self, kind: Kind, served: Served, asked_at: Millis) {
        match served {
            Served::No => self.is_gone(kind),
            Served::Yes => {
                if self.standing(kind) == Standing::Gone {
                    self.served.insert(kind, Standing::Back(asked_at));
                    self.changed = true;
                }
                let is_due = |leaving: &Leaving| {
                    leaving.why == Why::Deleted && asked_at.since(leaving.since) >= SOURCE_REMOVAL_HOLD_MS
                };
                self.remove_all(|key, leaving| key.kind == kind && is_due(leaving));
            }
        }
    }

    fn is_gone(&mut self, kind: Kind) {
        if self.standing(kind) != Standing::Gone {
            self.served.insert(kind, Standing::Gone);
            self.changed = true;
        }
        let of_kind = self.leaving.iter_mut().filter(|(key, _)| key.kind == kind);
        of_kind.for_each(|(_, leaving)| leaving.why = Why::WithItsKind);
    }

    fn remove_all(&mut self, which: impl Fn(&ObjectKey, &Leaving) -> bool) {
        let chosen = self.leaving.iter().filter(|(key, leaving)| which(key, leaving));
        let keys: Vec<ObjectKey> = chosen.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.remove(key));
    }

    /// Lets go of what went with its kind and did not come back in time.
    pub(super) fn pass(&mut self, now: Millis) {
        for kind in Kind::ALL {
            let Standing::Back(at) = self.standing(kind) else {
                continue;
            };
            let lost = |key: &ObjectKey, leaving: &Leaving| key.kind == kind && leaving.why == Why::WithItsKind;
            if now.since(at) >= SOURCE_LOST_KEEP_MS {
                self.remove_all(lost);
            }
            if !self.leaving.iter().any(|(key, leaving)| lost(key, leaving)) {
                self.served.insert(kind, Standing::Served);
            }
        }
    }

    /// The API server's history was set back: what the next lists say counts, whatever was seen before.
    pub(super) fn set_back(&mut self) {
        self.newest = 0;
        self.seen.values_mut().for_each(Store::set_back);
        self.namespaces.values_mut().for_each(Store::set_back);
    }

    /// Whether it looks as if that had happened.
    pub(super) fn looks_set_back(&self, now: Millis) -> bool {
        let objects = self.seen.values().any(|store| store.looks_set_back(now));
        objects || self.namespaces.values().any(|store| store.looks_set_back(now))
    }

    /// The greatest version that was seen of our kinds.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// The Secrets of other namespaces that objects name.
    pub(super) fn foreign_secrets(&self) -> BTreeSet<CertificateRef> {
        self.foreign.values().flatten().cloned().collect()
    }

    /// The objects as they are shown.
    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What is known of namespaces.
    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// How many objects of a watch are known.
    pub(super) fn count(&self, watch: &Watch) -> usize {
        match watch.watched {
            Watched::Object(_) => self.seen.get(watch).map_or(0, Store::len),
            Watched::Namespace => self.namespaces.get(watch).map_or(0, Store::len),
            Watched::Service | Watched::EndpointSlice => 0,
        }
    }

    /// Whether the view is another one than when this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What is wrong with objects, and with kinds.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let wrong = self.wrong.values().flat_map(|problems| problems.iter().cloned());
        wrong
            .chain(Kind::ALL.into_iter().filter_map(|kind| self.lost(kind)))
            .collect()
    }

    /// Objects that went with their kind, which is back.
    fn lost(&self, kind: Kind) -> Option<Problem> {
        let Standing::Back(at) = self.standing(kind) else {
            return None;
        };
        let of_kind = self.leaving.iter();
        let lost: Vec<_> = of_kind
            .filter(|(key, leaving)| key.kind == kind && leaving.why == Why::WithItsKind)
            .map(|(key, _)| key)
            .collect();
        let first = lost.first()?;
        let until = Millis(at.0.saturating_add(SOURCE_LOST_KEEP_MS));
        let until = i64::try_from(until.seconds())
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let until = until.map_or_else(|| "then".to_owned(), |at| at.to_string());
        Some(Problem::of_source(
            Severity::Warning,
            format!(
                "{} {kind}s went when their CRD was deleted, such as {first}; they count until {until}",
                lost.len()
            ),
            "apply them again; to remove one at once, apply it and delete it",
        ))
    }
}
