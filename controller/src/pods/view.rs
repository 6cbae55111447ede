//! Who is there, namespace by namespace, as far as has been told. Pure. A namespace counts once it was listed in full;
//! until then nothing is known of it.

use std::collections::{BTreeMap, BTreeSet};

use sluice_model::InstanceId;

/// See the file's comment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// By namespace; `None`: not listed in full yet.
    namespaces: BTreeMap<String, Option<BTreeSet<InstanceId>>>,
}

impl View {
    /// Looks at these namespaces from now on, and at no others.
    pub fn look_at(&mut self, namespaces: &BTreeSet<String>) {
        self.namespaces.retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            self.namespaces.entry(namespace.clone()).or_default();
        }
    }

    /// These are all that there are in `namespace`.
    pub fn listed(&mut self, namespace: &str, there: BTreeSet<InstanceId>) {
        if let Some(known) = self.namespaces.get_mut(namespace) {
            *known = Some(there);
        }
    }

    /// One more is there.
    pub fn came(&mut self, namespace: &str, instance: InstanceId) {
        if let Some(Some(known)) = self.namespaces.get_mut(namespace) {
            known.insert(instance);
        }
    }

    /// One is not there any more.
    pub fn went(&mut self, namespace: &str, instance: &InstanceId) {
        if let Some(Some(known)) = self.namespaces.get_mut(namespace) {
            known.remove(instance);
        }
    }

    /// Whether `instance` was told to be in `namespace`.
    pub fn has(&self, namespace: &str, instance: &InstanceId) -> bool {
        let known = self.namespaces.get(namespace).and_then(Option::as_ref);
        known.is_some_and(|known| known.contains(instance))
    }

    /// Those of `counted` that are nowhere, and all the namespaces where they could have been. Nobody is missing while
    /// some namespace is not listed in full, or there is none.
    pub fn missing(&self, counted: &BTreeSet<InstanceId>) -> (Vec<InstanceId>, BTreeSet<String>) {
        let listed: Option<Vec<&BTreeSet<InstanceId>>> = self.namespaces.values().map(Option::as_ref).collect();
        let namespaces: BTreeSet<String> = self.namespaces.keys().cloned().collect();
        let missing = match listed {
            Some(listed) if !listed.is_empty() => {
                let is_there = |instance: &&InstanceId| listed.iter().any(|known| known.contains(*instance));
                counted.iter().filter(|instance| !is_there(instance)).cloned().collect()
            }
            Some(_) | None => Vec::new(),
        };
        (missing, namespaces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    fn ids(texts: &[&str]) -> BTreeSet<InstanceId> {
        texts.iter().map(|text| id(text)).collect()
    }

    #[test]
    fn nobody_is_missing_from_a_part_of_the_view() {
        let counted = ids(&["a.00000001", "b.00000002"]);
        let missing = |view: &View| view.missing(&counted).0;
        let mut view = View::default();
        assert_eq!(missing(&view), []);
        view.look_at(&["x".to_owned(), "y".to_owned()].into());
        view.listed("x", ids(&["a.00000001"]));
        view.came("y", id("c.00000003"));
        assert_eq!(missing(&view), [], "y is not listed yet");
        view.listed("y", ids(&["b.00000002"]));
        assert_eq!(missing(&view), []);
        view.went("y", &id("b.00000002"));
        assert_eq!(missing(&view), [id("b.00000002")]);
        view.came("x", id("b.00000002"));
        assert_eq!(missing(&view), []);
    }

    #[test]
    fn a_namespace_that_is_looked_at_again_begins_anew() {
        let mut view = View::default();
        view.look_at(&["x".to_owned()].into());
        view.listed("x", ids(&["a.00000001"]));
        assert!(view.has("x", &id("a.00000001")));
        view.look_at(&["y".to_owned()].into());
        view.listed("x", ids(&["a.00000001"]));
        assert!(!view.has("x", &id("a.00000001")), "word of one that is not looked at");
        view.look_at(&["x".to_owned()].into());
        assert_eq!(view.missing(&ids(&["a.00000001"])).0, []);
    }
}
