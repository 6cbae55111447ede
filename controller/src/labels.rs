//! What the controller's own objects in Kubernetes are labelled with, so that people and it find them.

use std::collections::BTreeMap;

/// Who writes an object.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "sluice-controller");

/// What an object is part of.
pub const PART: &str = "sluice.dev/part";

/// What an object holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Private keys.
    Keys,
    /// Whom instances are to trust.
    Trust,
}

impl Part {
    /// As in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Trust => "trust",
        }
    }
}

/// The labels of an object that holds `part`.
pub fn of_part(part: Part) -> BTreeMap<String, String> {
    let (managed_by, controller) = MANAGED_BY;
    [(managed_by, controller), (PART, part.as_str())]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .into()
}
