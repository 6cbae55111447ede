//! Which Secrets may be used from other namespaces than their own: an annotation on the Secret, so that its owner decides.

use std::collections::{BTreeMap, BTreeSet};

use sluice_model::{CertificateRef, Name};

use crate::live::Lack;

/// The annotation on a Secret that lets other namespaces use it: their names, or `*`.
pub const SHARE_ANNOTATION: &str = "sluice.dev/share-with";

/// With whom a Secret is shared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Share {
    /// With these namespaces; mostly none.
    With(BTreeSet<String>),
    /// With every namespace.
    Everybody,
}

impl Default for Share {
    fn default() -> Self {
        Self::With(BTreeSet::new())
    }
}

impl Share {
    /// With whom a Secret with these annotations is shared.
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let text = annotations.and_then(|annotations| annotations.get(SHARE_ANNOTATION));
        let names = text.map(String::as_str).unwrap_or_default().split(',');
        let names: BTreeSet<String> = names
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        if names.contains("*") {
            Self::Everybody
        } else {
            Self::With(names)
        }
    }

    /// Whether objects of `namespace` may use it.
    pub fn includes(&self, namespace: &Name) -> bool {
        match self {
            Self::With(names) => names.contains(namespace.as_str()),
            Self::Everybody => true,
        }
    }

    /// What the annotation has to say for it to include `namespace` too.
    pub fn and(&self, namespace: &Name) -> String {
        match self {
            Self::Everybody => "*".to_owned(),
            Self::With(names) => {
                let mut names = names.clone();
                names.insert(namespace.as_str().to_owned());
                names.into_iter().collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// What is known of one Secret.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Sharing {
    /// It was not seen yet.
    #[default]
    NotYet,
    /// It is there, and shared so.
    Known(Share),
    /// It is not there.
    Missing,
    /// It cannot be seen, for this reason.
    Unseen(Lack),
}

/// What is known of the Secrets that objects of other namespaces name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shares {
    /// Of these.
    pub known: BTreeMap<CertificateRef, Sharing>,
    /// Of any other.
    pub others: Sharing,
}

impl Shares {
    /// What is known of `secret`.
    pub fn of(&self, secret: &CertificateRef) -> &Sharing {
        self.known.get(secret).unwrap_or(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_lists_namespaces_or_says_all() {
        let shop: Name = "shop".parse().unwrap();
        let check = |text: &str, included: bool, with_shop: &str| {
            let share = Share::of(Some(&[(SHARE_ANNOTATION.to_owned(), text.to_owned())].into()));
            assert_eq!(share.includes(&shop), included, "{text:?}");
            assert_eq!(share.and(&shop), with_shop, "{text:?}");
        };
        check("shop", true, "shop");
        check("blog, shop ,x", true, "blog, shop, x");
        check("*", true, "*");
        check("blog", false, "blog, shop");
        check(" , ", false, "shop");
        check("shop2", false, "shop, shop2");
        assert!(!Share::of(None).includes(&shop));
    }
}
