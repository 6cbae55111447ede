//! The kinds that are watched: one table, and where each is looked for. Secrets are not in it: they are read one by one,
//! by name.

use std::collections::BTreeSet;
use std::fmt;

use kube::core::{ApiResource, GroupVersionKind};
use sluice_crds::{GROUP, VERSION};
use sluice_model::{Kind, Name};

use super::Scope;
use crate::source::Area;

/// A kind that is watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Watched {
    /// Whose age says who owns a host, and whose labels say which fleet serves.
    Namespace,
    /// One of ours.
    Object(Kind),
    /// What pools refer to.
    Service,
    /// Where its pods are.
    EndpointSlice,
}

/// How a kind is called in an API server.
struct Called {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
}

impl Watched {
    /// All of them.
    pub(super) const ALL: [Self; 6] = [
        Self::Namespace,
        Self::Object(Kind::Rollout),
        Self::Object(Kind::Pool),
        Self::Object(Kind::ProxyRoute),
        Self::Service,
        Self::EndpointSlice,
    ];

    fn called(self) -> Called {
        let called = |group, version, kind, plural| Called {
            group,
            version,
            kind,
            plural,
        };
        match self {
            Self::Namespace => called("", "v1", "Namespace", "namespaces"),
            Self::Service => called("", "v1", "Service", "services"),
            Self::EndpointSlice => called("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Self::Object(Kind::ProxyRoute) => called(GROUP, VERSION, "ProxyRoute", "proxyroutes"),
            Self::Object(Kind::Pool) => called(GROUP, VERSION, "Pool", "pools"),
            Self::Object(Kind::Rollout) => called(GROUP, VERSION, "Rollout", "rollouts"),
        }
    }

    /// The kind as the API server serves it.
    pub(super) fn resource(self) -> ApiResource {
        let Called {
            group,
            version,
            kind,
            plural,
        } = self.called();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    /// The API group; empty for Kubernetes' first kinds.
    pub(super) fn group(self) -> &'static str {
        self.called().group
    }

    /// The kind in the plural, as permissions name it.
    pub(super) fn plural(self) -> &'static str {
        self.called().plural
    }
}

impl fmt::Display for Watched {
    /// In the plural, as people speak of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.called().kind)
    }
}

/// One watch: a kind, everywhere or in one namespace. Of a Namespace, the one namespace itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Watch {
    /// The kind.
    pub(super) watched: Watched,
    /// Where; `None`: everywhere.
    pub(super) namespace: Option<Name>,
}

impl Watch {
    /// The watches that `scope` needs.
    pub(super) fn of(scope: &Scope) -> BTreeSet<Self> {
        let Some(namespaces) = &scope.namespaces else {
            let everywhere = |watched| Self {
                watched,
                namespace: None,
            };
            return Watched::ALL.into_iter().map(everywhere).collect();
        };
        // The controller's namespace is not watched for routes unless it is said, but its Rollouts govern.
        let own = [Watched::Namespace, Watched::Object(Kind::Rollout)].map(|watched| (watched, &scope.controller));
        let all = namespaces
            .iter()
            .flat_map(|namespace| Watched::ALL.map(|watched| (watched, namespace)));
        let all = all.chain(own);
        all.map(|(watched, namespace)| Self {
            watched,
            namespace: Some(namespace.clone()),
        })
        .collect()
    }

    /// The objects that cannot be seen without it, if they are ours.
    pub(super) fn area(&self) -> Option<Area> {
        match self.watched {
            Watched::Object(kind) => Some(Area {
                kind,
                namespace: self.namespace.clone(),
            }),
            Watched::Namespace | Watched::Service | Watched::EndpointSlice => None,
        }
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.watched, &self.namespace) {
            (watched, None) => watched.fmt(f),
            (Watched::Namespace, Some(namespace)) => write!(f, "namespace {namespace}"),
            (watched, Some(namespace)) => write!(f, "{watched} of namespace {namespace}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watches(scope: &Scope) -> Vec<String> {
        Watch::of(scope).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_everywhere_or_each_kind_in_each_namespace() {
        let mut scope = Scope::everywhere("sluice-system".parse().unwrap());
        assert_eq!(
            watches(&scope),
            [
                "Namespaces",
                "ProxyRoutes",
                "Pools",
                "Rollouts",
                "Services",
                "EndpointSlices"
            ]
        );
        scope.namespaces = Some(["shop".parse().unwrap()].into());
        assert_eq!(
            watches(&scope),
            [
                "namespace shop",
                "namespace sluice-system",
                "ProxyRoutes of namespace shop",
                "Pools of namespace shop",
                "Rollouts of namespace shop",
                "Rollouts of namespace sluice-system",
                "Services of namespace shop",
                "EndpointSlices of namespace shop",
            ]
        );
    }
}
