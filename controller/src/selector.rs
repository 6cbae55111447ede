//! Label selectors: which namespaces a Rollout means. What is written is read in `translate`; here is what it means.

use std::collections::{BTreeMap, BTreeSet};

/// Demands on labels, all of which must hold. Without any, everything is selected.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selector {
    /// The demands.
    pub demands: Vec<Demand>,
}

/// One demand on labels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Demand {
    /// The label's key.
    pub key: String,
    /// What is demanded of it.
    pub of_it: Of,
}

/// What is demanded of a label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Of {
    /// It has one of these values.
    In(BTreeSet<String>),
    /// It has none of these values, or is not there.
    NotIn(BTreeSet<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selector {
    /// Whether something with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.demands.iter().all(|demand| demand.holds(labels.get(&demand.key)))
    }
}

impl Demand {
    fn holds(&self, value: Option<&String>) -> bool {
        match &self.of_it {
            Of::In(values) => value.is_some_and(|value| values.contains(value)),
            Of::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Of::Exists => value.is_some(),
            Of::DoesNotExist => value.is_none(),
        }
    }
}

impl std::fmt::Display for Selector {
    /// As `kubectl get --selector` takes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts: Vec<String> = self.demands.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl std::fmt::Display for Demand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = &self.key;
        let listed = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        match &self.of_it {
            Of::In(values) if values.len() == 1 => write!(f, "{key}={}", listed(values)),
            Of::In(values) => write!(f, "{key} in ({})", listed(values)),
            Of::NotIn(values) => write!(f, "{key} notin ({})", listed(values)),
            Of::Exists => f.write_str(key),
            Of::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_means_what_kubernetes_means_by_it() {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let check = |of_it: Of, labels: &[(&str, &str)], expected: bool| {
            let selector = Selector {
                demands: vec![Demand {
                    key: "team".into(),
                    of_it,
                }],
            };
            let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into()));
            assert_eq!(selector.matches(&labels.collect()), expected, "{selector}");
        };
        let (a, b, none): (&[_], &[_], &[_]) = (&[("team", "a")], &[("team", "b")], &[("other", "a")]);
        for (of_it, expected) in [
            (Of::In(values(&["a", "c"])), [true, false, false]),
            (Of::NotIn(values(&["a", "c"])), [false, true, true]),
            (Of::Exists, [true, true, false]),
            (Of::DoesNotExist, [false, false, true]),
        ] {
            for (labels, expected) in [a, b, none].into_iter().zip(expected) {
                check(of_it.clone(), labels, expected);
            }
        }
        assert!(Selector::default().matches(&BTreeMap::new()));
    }

    #[test]
    fn all_demands_must_hold() {
        let demand = |key: &str, of_it| Demand { key: key.into(), of_it };
        let selector = Selector {
            demands: vec![
                demand("edge", Of::In(["yes".to_owned()].into())),
                demand("old", Of::DoesNotExist),
            ],
        };
        assert_eq!(selector.to_string(), "edge=yes,!old");
        let labels = |text: &[&str]| text.iter().map(|key| ((*key).to_owned(), "yes".to_owned())).collect();
        assert!(selector.matches(&labels(&["edge"])));
        assert!(!selector.matches(&labels(&["edge", "old"])));
    }
}
