//! What goes with a sidecar: the Rollout that makes it a fleet, the route and the pool that lead to the app, and the
//! Service that leads to the sidecar.

use super::Args;
use super::documents::Document;
use super::sidecar::Sidecar;
use super::workload::Workload;
use crate::failure::Failure;

/// Adds those that `documents` do not have.
///
/// # Errors
/// When a Service would have nothing to find the pods by.
pub fn append(
    text: &mut String,
    documents: &[Document<'_>],
    workloads: &[(Workload<'_>, Sidecar<'_>)],
    args: &Args,
) -> Result<(), Failure> {
    for (workload, sidecar) in workloads {
        let fleet = args.fleet.as_ref().map_or(workload.name, |fleet| fleet.as_str());
        let namespace = workload.namespace.unwrap_or("default");
        let of_app = |kind, text| Resource {
            kind,
            name: workload.name,
            namespace,
            text,
        };
        let resources = [
            Resource {
                kind: "Rollout",
                name: fleet,
                namespace: args.controller_namespace.as_str(),
                text: rollout(workload, sidecar, fleet, args),
            },
            of_app("ProxyRoute", route(workload, fleet)),
            of_app("Pool", pool(workload, sidecar)),
            of_app("Service", service(workload, sidecar)?),
        ];
        for resource in resources.iter().filter(|resource| !resource.is_in(documents)) {
            let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
            if !text.ends_with('\n') {
                text.push_str(line_break);
            }
            text.push_str(&format!("---\n{}", resource.text).replace('\n', line_break));
        }
    }
    Ok(())
}

struct Resource<'a> {
    kind: &'static str,
    name: &'a str,
    namespace: &'a str,
    text: String,
}

impl Resource<'_> {
    fn is_in(&self, documents: &[Document<'_>]) -> bool {
        documents.iter().any(|document| {
            let namespace = document.metadata("namespace").unwrap_or("default");
            document.kind() == Some(self.kind)
                && document.metadata("name") == Some(self.name)
                && namespace == self.namespace
        })
    }
}

/// `metadata` of an object of the app; without a namespace where the app has none, so that both go to the same.
fn metadata(workload: &Workload<'_>) -> String {
    let namespace = workload
        .namespace
        .map(|namespace| format!("  namespace: {namespace}\n"));
    format!(
        "metadata:\n  name: {}\n{}",
        workload.name,
        namespace.unwrap_or_default()
    )
}

fn rollout(workload: &Workload<'_>, sidecar: &Sidecar<'_>, fleet: &str, args: &Args) -> String {
    let namespace = workload.namespace.unwrap_or("default");
    format!(
        "\
# A fleet of its own: its instances are the sidecars of the pods that run as this service account, and no other namespace's
# routes are theirs.
apiVersion: sluice.dev/v1alpha1
kind: Rollout
metadata:
  name: {fleet}
  namespace: {}
spec:
  fleet: {fleet}
  members:
    - namespace: {namespace}
      serviceAccountName: {}
  namespaces:
    matchLabels:
      kubernetes.io/metadata.name: {namespace}
  dataPlane:
    listeners:
      - name: http
        port: {}
",
        args.controller_namespace,
        workload.service_account(),
        sidecar.listener_port,
    )
}

fn route(workload: &Workload<'_>, fleet: &str) -> String {
    format!(
        "\
apiVersion: sluice.dev/v1alpha1
kind: ProxyRoute
{}spec:
  fleet: {fleet}
  rules:
    - name: all
      pool: {}
",
        metadata(workload),
        workload.name,
    )
}

fn pool(workload: &Workload<'_>, sidecar: &Sidecar<'_>) -> String {
    format!(
        "\
# The app, in the sidecar's own pod.
apiVersion: sluice.dev/v1alpha1
kind: Pool
{}spec:
  endpoints:
    - address: 127.0.0.1
      port: {}
",
        metadata(workload),
        sidecar.app_port,
    )
}

fn service(workload: &Workload<'_>, sidecar: &Sidecar<'_>) -> Result<String, Failure> {
    let labels = workload.labels();
    if labels.is_empty() {
        return Err(workload.refuse(
            "",
            "its pods have no labels that a Service could find them by; give them some",
        ));
    }
    let selector: String = labels
        .iter()
        .map(|(key, value)| format!("    {key}: {}\n", quoted(value)))
        .collect();
    Ok(format!(
        "\
# Leads to the sidecars, not past them.
apiVersion: v1
kind: Service
{}spec:
  selector:
{selector}  ports:
    - name: http
      port: 80
      targetPort: {}
",
        metadata(workload),
        sidecar.listener_port,
    ))
}

/// A label's value, in quotes where it could be taken for something other than text.
fn quoted(value: &str) -> String {
    let plain = value.chars().next().is_some_and(|first| first.is_ascii_alphabetic());
    let word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if plain && !word.contains(&value.to_lowercase().as_str()) {
        value.to_owned()
    } else {
        format!("{value:?}")
    }
}
