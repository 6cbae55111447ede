//! What went wrong with a call to the API server, as one sentence that says what to do about it.

use kube::config::KubeconfigError;
use kube::core::Status;

use crate::failure::Failure;

/// What a call is for, in the words of RBAC.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    verb: &'static str,
    /// With its group: `rollouts.sluice.dev`.
    resource: &'static str,
    /// `None`: in all of them, or it has none.
    namespace: Option<&'a str>,
    /// `None`: a list, or something new.
    name: Option<&'a str>,
}

impl<'a> Wish<'a> {
    /// To create something of this resource, which has no namespace.
    pub fn create(resource: &'static str) -> Self {
        Self {
            verb: "create",
            resource,
            namespace: None,
            name: None,
        }
    }

    /// To list this resource; without a namespace in all.
    pub fn list(resource: &'static str, namespace: Option<&'a str>) -> Self {
        Self {
            verb: "list",
            resource,
            namespace,
            name: None,
        }
    }

    /// To get one.
    pub fn get(resource: &'static str, namespace: &'a str, name: &'a str) -> Self {
        Self {
            verb: "get",
            resource,
            namespace: Some(namespace),
            name: Some(name),
        }
    }

    /// To do something else to one.
    pub fn to(self, verb: &'static str) -> Self {
        Self { verb, ..self }
    }

    /// Which role grants it, and whose that is.
    fn grant(&self) -> Option<&'static str> {
        let reads = matches!(self.verb, "get" | "list" | "watch");
        match self.resource {
            "rollouts.sluice.dev" if self.verb == "patch" => Some("sluice-rollout-operator, of Sluice's chart,"),
            "rollouts.sluice.dev" | "proxyroutes.sluice.dev" | "pools.sluice.dev" if reads => {
                Some("sluice-view, of Sluice's chart,")
            }
            "pods" | "namespaces" if reads => Some("view, which every cluster has,"),
            // Whoever asks for the Lease to find the leader forwards a port to it next.
            "pods/portforward" | "leases.coordination.k8s.io" => Some("edit, which every cluster has,"),
            _ => None,
        }
    }
}

/// Whether RBAC says no; what admission has against a change is something else, and says it itself.
pub fn is_of_rights(error: &kube::Error) -> bool {
    match api(error) {
        Some(status) => status.is_forbidden() && !is_of_admission(status),
        None => false,
    }
}

fn api(error: &kube::Error) -> Option<&Status> {
    if let kube::Error::Api(status) = error {
        Some(status)
    } else {
        None
    }
}

/// RBAC says `User "ann" cannot patch resource …`; policies and webhooks name themselves.
fn is_of_admission(status: &Status) -> bool {
    !status.message.contains(" cannot ")
        || status.message.contains("ValidatingAdmissionPolicy")
        || status.message.contains("admission webhook")
}

/// You may not.
pub fn of_rights(wish: &Wish<'_>, user: Option<&str>) -> Failure {
    let Wish {
        verb,
        resource,
        namespace,
        ..
    } = wish;
    let who = user.map_or("you".to_owned(), |user| format!("you are {user}, who"));
    let (place, bound) = match namespace {
        Some(namespace) => (format!(" in namespace {namespace}"), "in that namespace"),
        None if *resource == "namespaces" => (String::new(), "in the whole cluster"),
        None => (" in all namespaces".to_owned(), "in the whole cluster"),
    };
    let mend = match wish.grant() {
        Some(role) => format!("the ClusterRole {role} grants it: have it bound to you {bound}"),
        None => "have a role with that rule bound to you".to_owned(),
    };
    Failure::failed(format!("{who} may not {verb} {resource}{place}; {mend}"))
}

/// Anything else.
pub fn of(error: &kube::Error, wish: &Wish<'_>, address: &str) -> Failure {
    let Some(status) = api(error) else {
        return unreachable(error, address);
    };
    let said = sentence(&status.message);
    Failure::failed(match status.code {
        401 => format!(
            "{address} does not know you: {said}; renew your credentials, and see whether `kubectl auth whoami` works"
        ),
        404 if names_no_object(status) => format!(
            "{address} has no {}: Sluice's CRDs are not installed there (`kubectl apply --server-side -f crds/yaml`), or \
             it is another cluster than you meant (--context)",
            wish.resource
        ),
        404 => missing(wish),
        _ => said.to_owned(),
    })
}

/// A resource that is not served is a 404 too, without the name of an object.
fn names_no_object(status: &Status) -> bool {
    status.details.as_ref().is_none_or(|details| details.name.is_empty())
}

fn missing(wish: &Wish<'_>) -> String {
    let place = wish.namespace.map(|namespace| format!(" in namespace {namespace}"));
    format!(
        "{} {:?} not found{}",
        wish.resource,
        wish.name.unwrap_or_default(),
        place.unwrap_or_default()
    )
}

/// Nobody answers, or not as an API server would.
fn unreachable(error: &kube::Error, address: &str) -> Failure {
    if let kube::Error::SerdeError(error) = error {
        return Failure::failed(format!(
            "{address} does not answer as an API server would: {error}; is it the one you mean (--context)?"
        ));
    }
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    // The innermost cause is what the system says.
    while let Some(inner) = source {
        why = inner.to_string();
        source = inner.source();
    }
    Failure::failed(format!(
        "the API server {address} cannot be reached: {why}; is the cluster up, and is it the one you mean (--context)?"
    ))
}

/// It took too long.
pub fn silent(address: &str) -> Failure {
    Failure::failed(format!(
        "the API server {address} did not answer in time; is the cluster up, and is it the one you mean (--context)?"
    ))
}

/// There is none, or it is broken.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kube's enum, of which a few need better words than its own"
)]
pub fn of_kubeconfig(error: &KubeconfigError) -> Failure {
    Failure::usage(match error {
        KubeconfigError::ReadConfig(error, path) if error.kind() == std::io::ErrorKind::NotFound => format!(
            "there is no kubeconfig {}: say which with --kubeconfig or KUBECONFIG",
            path.display()
        ),
        KubeconfigError::ReadConfig(error, path) => format!("kubeconfig {}: {error}", path.display()),
        KubeconfigError::FindPath => "there is no kubeconfig: say which with --kubeconfig or KUBECONFIG".to_owned(),
        KubeconfigError::CurrentContextNotSet => {
            "the kubeconfig has no current context: say which with --context, or `kubectl config use-context`"
                .to_owned()
        }
        KubeconfigError::LoadContext(name) => {
            format!("the kubeconfig has no context {name:?}; `kubectl config get-contexts` lists them")
        }
        other => format!("the kubeconfig cannot be used: {other}"),
    })
}

/// Without what only programs read.
fn sentence(message: &str) -> &str {
    message.trim_end_matches(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str, message: &str, name: &str) -> kube::Error {
        let details = kube::core::response::StatusDetails {
            name: name.to_owned(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        let status = Status::failure(message, reason).with_code(code).with_details(details);
        kube::Error::Api(status.boxed())
    }

    const FORBIDDEN: &str = r#"rollouts.sluice.dev "edge" is forbidden: User "ann" cannot patch resource "rollouts" in API group "sluice.dev" in the namespace "sluice-system""#;
    const POLICY: &str = r#"rollouts.sluice.dev "edge" is forbidden: ValidatingAdmissionPolicy 'commands.sluice' with binding 'commands.sluice' denied request: sluice.dev/command-by: must be bob"#;

    #[test]
    fn a_missing_right_is_told_with_who_what_where_and_the_role() {
        let edge = Wish::get("rollouts.sluice.dev", "sluice-system", "edge");
        assert!(is_of_rights(&refused(403, "Forbidden", FORBIDDEN, "edge")));
        assert_eq!(
            of_rights(&edge.to("patch"), Some("ann")).to_string(),
            "you are ann, who may not patch rollouts.sluice.dev in namespace sluice-system; the ClusterRole \
             sluice-rollout-operator, of Sluice's chart, grants it: have it bound to you in that namespace"
        );
        let routes = Wish::list("proxyroutes.sluice.dev", None);
        assert_eq!(
            of_rights(&routes, None).to_string(),
            "you may not list proxyroutes.sluice.dev in all namespaces; the ClusterRole sluice-view, of Sluice's chart, \
             grants it: have it bound to you in the whole cluster"
        );
    }

    #[test]
    fn a_policy_speaks_for_itself() {
        let error = refused(403, "Forbidden", POLICY, "edge");
        assert!(!is_of_rights(&error));
        let edge = Wish::get("rollouts.sluice.dev", "sluice-system", "edge");
        assert!(
            of(&error, &edge, "https://a")
                .to_string()
                .contains("command-by: must be bob")
        );
    }

    #[test]
    fn no_object_and_no_kind_are_told_apart() {
        let edge = Wish::get("rollouts.sluice.dev", "sluice-system", "edge");
        let told = |name| of(&refused(404, "NotFound", "not found", name), &edge, "https://a").to_string();
        assert_eq!(
            told("edge"),
            r#"rollouts.sluice.dev "edge" not found in namespace sluice-system"#
        );
        assert!(told("").contains("CRDs are not installed"), "{}", told(""));
    }
}
