//! Statuses that wait to be written: the most urgent first, then the one that is due earliest. Finding the next one costs
//! the same among ten as among ten thousand. Pure.

use std::collections::{BTreeMap, BTreeSet};

use sluice_model::ObjectKey;

use crate::rollout::Millis;

/// Of what is due this is written first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Urgency {
    /// Where a fleet stands.
    Rollout,
    /// Something is wrong.
    Failing,
    /// Nothing was said of it yet.
    Fresh,
    /// Anything else.
    Other,
}

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Urgency, BTreeSet<(Millis, ObjectKey)>>,
    places: BTreeMap<ObjectKey, (Urgency, Millis)>,
}

impl Queue {
    /// Puts `key` where it belongs now; `None`: it waits for nothing.
    pub(super) fn put(&mut self, key: &ObjectKey, place: Option<(Urgency, Millis)>) {
        if self.places.get(key).copied() == place {
            return;
        }
        if let Some((urgency, at)) = self.places.remove(key) {
            self.waiting.entry(urgency).or_default().remove(&(at, key.clone()));
        }
        if let Some((urgency, at)) = place {
            self.places.insert(key.clone(), (urgency, at));
            self.waiting.entry(urgency).or_default().insert((at, key.clone()));
        }
    }

    /// What is due, in order.
    pub(super) fn due(&self, now: Millis) -> impl Iterator<Item = &ObjectKey> {
        let of_urgency = move |waiting| BTreeSet::iter(waiting).take_while(move |(at, _)| *at <= now);
        self.waiting.values().flat_map(of_urgency).map(|(_, key)| key)
    }

    /// When the first one is due, each not before `allowed` says; `None` if nothing waits.
    pub(super) fn next_at(&self, allowed: impl Fn(&ObjectKey) -> Millis) -> Option<Millis> {
        let mut first: Option<Millis> = None;
        for waiting in self.waiting.values() {
            // Later ones cannot be earlier than this.
            for (at, key) in waiting {
                if first.is_some_and(|first| first <= *at) {
                    break;
                }
                let at = (*at).max(allowed(key));
                first = Some(first.map_or(at, |first| first.min(at)));
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        format!("ProxyRoute shop/{name}").parse().unwrap()
    }

    fn due(queue: &Queue, now: u64) -> Vec<String> {
        queue.due(Millis(now)).map(|key| key.name.to_string()).collect()
    }

    #[test]
    fn the_most_urgent_of_what_is_due_comes_first() {
        let mut queue = Queue::default();
        queue.put(&key("late"), Some((Urgency::Rollout, Millis(50))));
        queue.put(&key("b"), Some((Urgency::Other, Millis(1))));
        queue.put(&key("a"), Some((Urgency::Fresh, Millis(20))));
        assert_eq!(due(&queue, 30), ["a", "b"]);
        queue.put(&key("b"), Some((Urgency::Failing, Millis(30))));
        queue.put(&key("b"), Some((Urgency::Failing, Millis(30))));
        assert_eq!(due(&queue, 60), ["late", "b", "a"], "it is in one place");
        queue.put(&key("late"), None);
        assert_eq!(due(&queue, 60), ["b", "a"]);
    }

    #[test]
    fn what_may_not_be_written_yet_is_not_looked_at_before() {
        let mut queue = Queue::default();
        assert_eq!(queue.next_at(|_| Millis(0)), None);
        queue.put(&key("a"), Some((Urgency::Failing, Millis(10))));
        queue.put(&key("b"), Some((Urgency::Other, Millis(5))));
        assert_eq!(queue.next_at(|_| Millis(0)), Some(Millis(5)));
        let b_is_forbidden = |of: &ObjectKey| Millis(if *of == key("b") { 99 } else { 0 });
        assert_eq!(queue.next_at(b_is_forbidden), Some(Millis(10)));
        queue.put(&key("a"), None);
        assert_eq!(queue.next_at(b_is_forbidden), Some(Millis(99)));
    }
}
