//! Where objects come from. One trait; a folder of manifests or an API server behind it.
//!
//! A source hands out complete, immutable [`View`]s, and says how complete they are: nothing may be taken for deleted
//! because it could not be read.

pub mod cluster;
pub mod content;
pub mod core;
pub mod directory;
pub mod folder;
pub mod kubernetes;
pub mod limits;
pub mod manifest;
pub mod schema;
pub mod shares;
pub mod yaml;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use sluice_model::{Kind, Name, ObjectKey};

use crate::objects::Objects;
use crate::problem::Problem;
pub use cluster::Cluster;
pub use shares::Shares;

/// What a source holds at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The objects.
    pub objects: Objects,
    /// What is wrong with what was read.
    pub problems: Vec<Problem>,
    /// What could not be seen.
    pub coverage: Coverage,
    /// What the cluster says of namespaces; `None` for a folder.
    pub cluster: Option<Arc<Cluster>>,
    /// Which Secrets are shared between namespaces.
    pub shares: Arc<Shares>,
}

/// How much of what there is a view shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// All of it.
    #[default]
    Whole,
    /// All but what is in these files. They may hold anything: what was last seen in them, and what was moved into them.
    Except(BTreeSet<Arc<str>>),
    /// All of a cluster but these kinds, or these kinds in some namespace. What was seen of them before is shown as it was
    /// then. An object stays where it is, so nothing else can hide there.
    Without(BTreeSet<Area>),
    /// Nothing could be seen: everything is as it last was.
    Nothing,
}

/// The objects of one kind, everywhere or in one namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Area {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None`: everywhere.
    pub namespace: Option<Name>,
}

impl Area {
    /// Whether objects of `kind` in `namespace` are in it.
    pub fn contains(&self, kind: Kind, namespace: &Name) -> bool {
        self.kind == kind && self.namespace.as_ref().is_none_or(|own| own == namespace)
    }
}

/// How far a view may be taken for what people want now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// What it shows may be signed.
    Full,
    /// Parts are out of sight. What serves can be changed in the other parts; a fleet that serves nothing yet has nothing to
    /// put in place of what is missing, so nothing is signed for it.
    InPart,
    /// A whole kind is out of sight: a controller that sees no pools, say, has no business with routes. Nothing is signed.
    Nothing,
}

impl Coverage {
    /// Whether `key`, which the view does not show, may still be there. In a folder it does not matter where it was last
    /// seen: a file that cannot be read may be the one it was moved into.
    pub fn hides(&self, key: &ObjectKey) -> bool {
        self.hides_some(key.kind, &key.namespace)
    }

    /// Whether there may be objects of `kind` in `namespace` that the view does not show.
    pub fn hides_some(&self, kind: Kind, namespace: &Name) -> bool {
        match self {
            Self::Whole => false,
            Self::Except(_) | Self::Nothing => true,
            Self::Without(areas) => areas.iter().any(|area| area.contains(kind, namespace)),
        }
    }

    /// How far what is shown may be signed. Files are read one by one and keep what they held, so that they have no say.
    pub fn trust(&self) -> Trust {
        match self {
            Self::Whole | Self::Except(_) | Self::Nothing => Trust::Full,
            Self::Without(areas) if areas.is_empty() => Trust::Full,
            Self::Without(areas) if areas.iter().all(|area| area.namespace.is_some()) => Trust::InPart,
            Self::Without(_) => Trust::Nothing,
        }
    }

    /// Whether `file` is one of those that could not be seen.
    pub fn lacks(&self, file: &str) -> bool {
        match self {
            Self::Whole | Self::Without(_) => false,
            Self::Except(files) => files.contains(file),
            Self::Nothing => true,
        }
    }
}

/// Something that holds objects and notices when they change.
pub trait Source: Send {
    /// The next view: the first call gives the present one, later calls wait for a change. `None` when there will be
    /// no more. Nothing is lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Option<Arc<View>>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_hides_only_its_own() {
        let area = |kind, namespace: Option<&str>| Area {
            kind,
            namespace: namespace.map(|name| name.parse().unwrap()),
        };
        let check = |areas: Vec<Area>, hidden: &[&str], trust: Trust| {
            let coverage = Coverage::Without(areas.into_iter().collect());
            for key in ["ProxyRoute shop/a", "ProxyRoute blog/a", "Pool shop/a"] {
                assert_eq!(
                    coverage.hides(&key.parse().unwrap()),
                    hidden.contains(&key),
                    "{coverage:?}"
                );
            }
            assert_eq!(coverage.trust(), trust, "{coverage:?}");
        };
        check(vec![], &[], Trust::Full);
        check(
            vec![area(Kind::ProxyRoute, Some("shop"))],
            &["ProxyRoute shop/a"],
            Trust::InPart,
        );
        check(
            vec![area(Kind::ProxyRoute, None), area(Kind::Pool, Some("blog"))],
            &["ProxyRoute shop/a", "ProxyRoute blog/a"],
            Trust::Nothing,
        );
    }
}
