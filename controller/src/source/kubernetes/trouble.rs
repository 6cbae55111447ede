//! Why something cannot be seen: what an API server's answer, or its silence, means, and what mends it.

use kube::core::Status;
use kube::runtime::watcher;
use sluice_model::Kind;

use super::kinds::{Watch, Watched};
use crate::live::Lack;

/// What keeps a watch from being served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// 403: a permission is missing.
    Forbidden,
    /// 404: there is no such kind, or it is gone.
    NoSuchKind,
    /// 401: whoever we say we are is not believed.
    NotBelieved,
    /// 410, or a version that the server never had: only a new list helps.
    Expired,
    /// 429 and 503, as after CRDs were installed: it will be, soon.
    Busy,
    /// No answer, or none that could be understood.
    Silent(String),
    /// Another answer.
    Other(String),
}

impl Trouble {
    /// What a watch's error means.
    pub(super) fn of_watch(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::of(error),
            watcher::Error::WatchError(status) => Self::of_status(status),
            watcher::Error::NoResourceVersion => Self::Other(error.to_string()),
        }
    }

    /// What a request's error means.
    // An enum of kube's: all but answers means that there was none.
    #[allow(clippy::wildcard_enum_match_arm)]
    pub(super) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            other => Self::Silent(with_causes(other)),
        }
    }

    fn of_status(status: &Status) -> Self {
        // "Too large resource version": after a restart the server does not know versions that it gave out before.
        let too_large = status.message.contains("Too large resource version");
        match status.code {
            401 => Self::NotBelieved,
            403 => Self::Forbidden,
            404 => Self::NoSuchKind,
            410 => Self::Expired,
            _ if too_large => Self::Expired,
            429 | 503 => Self::Busy,
            code => Self::Other(format!("{code} {}", status.message)),
        }
    }

    /// Whether it stays until somebody does something. Others are waited for.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Forbidden | Self::NoSuchKind | Self::NotBelieved => true,
            Self::Expired | Self::Busy | Self::Silent(_) | Self::Other(_) => false,
        }
    }

    /// Whether nobody answered.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Self::Silent(_) => true,
            Self::Forbidden | Self::NoSuchKind | Self::NotBelieved | Self::Expired | Self::Busy | Self::Other(_) => {
                false
            }
        }
    }

    /// Whether the watch cannot go on where it was.
    pub(super) fn needs_list(&self) -> bool {
        match self {
            Self::Forbidden | Self::NoSuchKind | Self::Expired => true,
            Self::NotBelieved | Self::Busy | Self::Silent(_) | Self::Other(_) => false,
        }
    }

    /// What it is and how to mend it, for people, when it befalls `watch`.
    pub(super) fn lack(&self, watch: &Watch) -> Lack {
        match self {
            Self::Forbidden => Lack::new("the API server forbids it (403)", grant(watch)),
            Self::NoSuchKind => no_such_kind(watch),
            Self::NotBelieved | Self::Expired | Self::Busy | Self::Silent(_) | Self::Other(_) => self.common(),
        }
    }

    /// The same for the Secret `namespace/name`.
    pub(super) fn lack_of_secret(&self, namespace: &str, name: &str) -> Lack {
        match self {
            Self::Forbidden => Lack::new(
                format!("the API server forbids the controller to read Secret {namespace}/{name}"),
                format!(
                    "grant list and watch of secrets to its service account by a Role in namespace {namespace}; resourceNames: [{name}] suffices"
                ),
            ),
            Self::NoSuchKind => Lack::new("the API server serves no Secrets", "ask whoever runs it"),
            Self::NotBelieved | Self::Expired | Self::Busy | Self::Silent(_) | Self::Other(_) => self.common(),
        }
    }

    fn common(&self) -> Lack {
        match self {
            Self::NotBelieved => Lack::new(
                "the API server does not accept the controller's credentials",
                "see whether its service account and token are there",
            ),
            Self::Expired => Lack::new("the API server has no such old version", "wait: it is listed anew"),
            Self::Busy => Lack::new("the API server is busy", "wait: it is tried again"),
            Self::Silent(why) => Lack::new(
                format!("the API server does not answer: {why}"),
                "see whether it runs and can be reached; it is tried again",
            ),
            Self::Other(why) => Lack::new(
                format!("the API server answers {why}"),
                "ask whoever runs it; it is tried again",
            ),
            Self::Forbidden | Self::NoSuchKind => Lack::new("the API server refuses it", "see its audit log"),
        }
    }
}

/// The errors beneath an error, in one line: the outermost alone says "service error".
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    // Some print their cause themselves.
    texts.dedup_by(|next, before| before.contains(next.as_str()));
    let text = texts.join(": ");
    text.chars().take(300).collect()
}

/// The kind as permissions name it.
fn called(watched: Watched) -> String {
    match (watched.plural(), watched.group()) {
        (plural, "") => plural.to_owned(),
        (plural, group) => format!("{plural} in API group {group}"),
    }
}

fn grant(watch: &Watch) -> String {
    let called = called(watch.watched);
    match (watch.watched, &watch.namespace) {
        (Watched::Namespace, Some(namespace)) => {
            format!("grant get of namespaces to the controller's service account by a Role in namespace {namespace}")
        }
        (_, Some(namespace)) => format!(
            "grant list and watch of {called} to the controller's service account by a Role in namespace {namespace}"
        ),
        (_, None) => format!(
            "grant list and watch of {called} to the controller's service account by a ClusterRole, or name the namespaces to watch"
        ),
    }
}

fn no_such_kind(watch: &Watch) -> Lack {
    let fix = match watch.watched {
        Watched::Object(Kind::ProxyRoute | Kind::Pool | Kind::Rollout) => {
            "install the CRDs: kubectl apply --server-side -f crds/; they are noticed within seconds"
        }
        Watched::Namespace | Watched::Service | Watched::EndpointSlice => "ask whoever runs it",
    };
    Lack::new(format!("the API server has no {}", called(watch.watched)), fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Trouble {
        Trouble::of(&kube::Error::Api(Box::new(Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        })))
    }

    fn watch(watched: Watched, namespace: Option<&str>) -> Watch {
        Watch {
            watched,
            namespace: namespace.map(|name| name.parse().unwrap()),
        }
    }

    #[test]
    fn answers_mean_what_they_mean() {
        for (code, message, expected) in [
            (401, "", Trouble::NotBelieved),
            (403, "", Trouble::Forbidden),
            (404, "", Trouble::NoSuchKind),
            (410, "too old", Trouble::Expired),
            (504, "Too large resource version: 9, current: 4", Trouble::Expired),
            (429, "storage is (re)initializing", Trouble::Busy),
            (503, "", Trouble::Busy),
            (500, "etcd", Trouble::Other("500 etcd".into())),
        ] {
            assert_eq!(status(code, message), expected);
        }
    }

    #[test]
    fn the_missing_grant_is_named() {
        let check = |watched, namespace, expected: &str| {
            let lack = Trouble::Forbidden.lack(&watch(watched, namespace));
            assert!(lack.fix.contains(expected), "{lack:?}");
        };
        let route = Watched::Object(Kind::ProxyRoute);
        check(
            route,
            None,
            "list and watch of proxyroutes in API group sluice.dev to the controller's service account by a ClusterRole",
        );
        check(route, Some("shop"), "by a Role in namespace shop");
        check(Watched::Service, Some("shop"), "list and watch of services to");
        check(
            Watched::EndpointSlice,
            None,
            "endpointslices in API group discovery.k8s.io",
        );
        check(Watched::Namespace, Some("shop"), "get of namespaces to");
        let secret = Trouble::Forbidden.lack_of_secret("shop", "tls");
        assert!(secret.fix.contains("list and watch of secrets") && secret.fix.contains("resourceNames: [tls]"));
    }

    #[test]
    fn every_cause_is_told_once() {
        let io = std::io::Error::other("connection refused");
        let told = with_causes(&kube::Error::ReadEvents(io));
        assert_eq!(told, "Error reading events stream: connection refused");
    }
}
